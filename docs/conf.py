"""The documentation as a site: `make check` builds it into build/docs, and a warning is an error."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

import fasthebb

project = "fasthebb"
author = "The fasthebb developers"
version = release = fasthebb.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "fasthebb"
html_copy_source = html_show_copyright = False
highlight_language = "text"
default_role = "code"  # docstrings are written as Markdown: one backtick is code
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
toc_object_entries_show_parents = "hide"


def docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:  # noqa: ARG001
    """Markdown as reStructuredText: tables are tables, what is indented stays as it is, other marks are characters."""
    told = []
    for paragraph in "\n".join(lines).split("\n\n"):
        if paragraph.startswith("|"):
            rows = [plain(row.strip("| ")).replace(r"\|", "|") for row in paragraph.splitlines() if row.strip("|-")]
            told += [".. csv-table::\n   :delim: |\n   :header-rows: 1", "   " + "\n   ".join(rows)]
        elif paragraph.startswith("    "):
            told += ["::", "    " + paragraph.replace("\n", "\n    ")]
        else:
            told.append(plain(paragraph))
    lines[:] = "\n\n".join(told).splitlines()


def plain(text: str) -> str:
    """Text whose marks outside of `code` are characters."""
    words = text.split("`")
    words[::2] = [re.sub(r"([*|\\]|_(?!\w))", r"\\\1", word) for word in words[::2]]
    return "`".join(words)


def links(app: Sphinx, page: str, source: list[str]) -> None:  # noqa: ARG001
    """The files beside docs/ have a page of their own in the site."""
    source[0] = re.sub(r"\]\((?:\.\./)+(CHANGELOG|CONTRIBUTING)\.md", lambda m: f"](/{m[1].lower()}.md", source[0])


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("autodoc-process-docstring", docstring, priority=400)  # before napoleon reads "Args:"
    app.connect("source-read", links)
