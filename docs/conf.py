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
html_copy_source = False
html_show_copyright = False
highlight_language = "text"
default_role = "code"  # docstrings are written as Markdown: one backtick is code
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
toc_object_entries_show_parents = "hide"


def docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:  # noqa: ARG001
    """Markdown as reStructuredText: tables and what is indented stay as they are, other marks are characters."""
    told = []
    for paragraph in "\n".join(lines).split("\n\n"):
        if paragraph.startswith(("|", "    ")):
            told += ["::", "    " + paragraph.replace("\n", "\n    ")]
        else:
            words = paragraph.split("`")
            words[::2] = [re.sub(r"([*|\\]|_(?!\w))", r"\\\1", text) for text in words[::2]]
            told.append("`".join(words))
    lines[:] = "\n\n".join(told).splitlines()


def links(app: Sphinx, page: str, source: list[str]) -> None:  # noqa: ARG001
    """The files beside docs/ have a page of their own in the site."""
    source[0] = re.sub(r"\]\((?:\.\./)+(CHANGELOG|CONTRIBUTING)\.md", lambda m: f"](/{m[1].lower()}.md", source[0])


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("autodoc-process-docstring", docstring, priority=400)  # before napoleon reads "Args:"
    app.connect("source-read", links)
