"""The HTML that a report is made of: one page that loads nothing, needs no script, and follows the reader's colours."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Sequence
from string import Template

CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --muted: #59636e; --paper: #ffffff; --panel: #f4f6f8;
  --line: #d9dee4; --accent: #0b67a3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --muted: #9aa5b1; --paper: #14171a; --panel: #1e2329;
  --line: #353c45; --accent: #64b5ec; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.6 system-ui, -apple-system, "Segoe UI",
  Roboto, "Noto Sans", "Liberation Sans", sans-serif; font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
main { max-width: 76rem; margin: 0 auto; padding: clamp(1.25rem, 5vw, 4rem) clamp(1rem, 5vw, 3rem); }
h1 { font-size: clamp(1.6rem, 1.2rem + 2vw, 2.3rem); line-height: 1.2; margin: 0 0 1rem; text-wrap: balance; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: 1.5rem 0 0; padding: .75rem 0; list-style: none;
  border-block: 1px solid var(--line); }
a { color: var(--accent); text-underline-offset: .2em; }
a:not(:hover) { text-decoration-color: color-mix(in srgb, currentColor 35%, transparent); }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3.5rem 0 .75rem; }
p { max-width: 46rem; margin: 0 0 1rem; }
.lead { font-size: clamp(1.1rem, 1rem + .5vw, 1.3rem); line-height: 1.5; border-left: 4px solid var(--accent);
  padding-left: 1rem; }
.note, figcaption, small { color: var(--muted); font-size: .875rem; line-height: 1.5; }
.scroll { overflow-x: auto; margin: 1.25rem 0 .75rem; max-width: 100%; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .95rem; }
th, td { padding: .4rem .85rem .4rem .35rem; text-align: right; vertical-align: baseline;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; line-height: 1.3; vertical-align: bottom; }
thead small { display: block; font-weight: 400; }
th:first-child { position: sticky; left: 0; background: var(--paper); text-align: left; padding-left: 0; }
tbody th { font-weight: 400; white-space: normal; min-width: 10rem; max-width: 20rem; }
tr.start > * { border-top: 2px solid var(--line); }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.facts tbody th { min-width: 8rem; color: var(--muted); }
td small { display: block; max-width: 8rem; margin-left: auto; white-space: normal; text-wrap: balance; }
.mark { display: inline-block; width: 0; text-indent: .15em; color: var(--muted); font-weight: 400; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 2.25rem 2.5rem;
  margin: 1.75rem 0; }
.wide { grid-template-columns: minmax(0, 1fr); }
.wide figure { max-width: 48rem; }
.filters { grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
figure { margin: 0; max-width: 36rem; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; }
@media (prefers-color-scheme: dark) { figure svg { filter: brightness(1.25); } }
figure svg text { font-family: inherit !important; }
svg.heat { font-size: 11px; fill: currentColor; }
.filters img { display: block; width: 100%; max-width: 24rem; height: auto; background: #8a929b;
  border: 6px solid #8a929b; image-rendering: pixelated; }
img.heat { display: block; width: 100%; border: 1px solid var(--line); image-rendering: pixelated; }
@media (prefers-color-scheme: dark) { img.heat { filter: brightness(1.25); } }
.strip { display: flex; gap: .75rem; align-items: flex-start; padding: .5rem 0; border-top: 1px solid var(--line); }
.strip > :first-child { flex: 0 0 4.75rem; }
.strip img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; image-rendering: pixelated; }
.strip small { display: block; font-size: .8rem; margin-top: .2rem; line-height: 1.25; }
.near { flex: 1; display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 4rem));
  gap: .3rem; }
.near .right { border: 3px solid #1B84C9; }
.near .wrong { border: 3px dashed #D55E00; }
figcaption { margin-bottom: .6rem; }
figcaption b { color: var(--ink); font-weight: 600; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); }
pre { background: var(--panel); border-radius: .5rem; padding: 1rem; overflow-x: auto; font-size: .875rem;
  line-height: 1.6; }
@media (max-width: 40rem) { table { font-size: .875rem; } th, td { padding-left: .3rem; padding-right: .9rem; }
  tbody th { min-width: 8rem; max-width: 9rem; }
  .near { grid-template-columns: repeat(var(--few), minmax(0, 4rem)); } }
@media print { details > * { display: block; } h2, figure, tr { break-inside: avoid; } }
"""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>$title</title>
<style>$css</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")


def document(title: str, body: Sequence[str]) -> str:
    """A whole page; `title` is text, `body` finished HTML blocks."""
    return PAGE.substitute(title=escape(title), css=CSS, body="\n".join(block for block in body if block))


def escape(value: object) -> str:
    """Any value as text that HTML shows as it stands, in attributes too."""
    return html.escape(str(value))


def prose(words: str) -> str:
    """Text as HTML that breaks no line around ±, before % and after (depth."""
    return escape(words).replace(" ± ", "&nbsp;±&nbsp;").replace(" %", "&nbsp;%").replace("(depth ", "(depth&nbsp;")


def blocks(*parts: str) -> str:
    """HTML blocks one below the other, without the empty ones."""
    return "\n".join(part for part in parts if part)


def section(heading: str, body: str) -> str:
    """A heading (text) over HTML, where links of `contents` lead."""
    return f'<section id="{_anchor(heading)}">\n<h2>{escape(heading)}</h2>\n{body}\n</section>'


def contents(headings: Sequence[str]) -> str:
    """Links to the sections of these headings (text)."""
    links = "".join(f'<li><a href="#{_anchor(heading)}">{escape(heading)}</a></li>' for heading in headings)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if headings else ""


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower())


def note(words: str) -> str:
    """A small paragraph of text."""
    return f'<p class="note">{prose(words)}</p>'


def table(
    label: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    kind: str = "",
    starts: Collection[int] = (),
) -> str:
    """A table in a box that scrolls sideways by itself; `head` and `rows` are HTML, a row's first cell names it.

    `label` (text) says what it is to a screen reader; a line is drawn above the rows that `starts` counts. Nothing at
    all without rows.
    """
    if not rows:
        return ""
    names = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = [
        f'<tr{" class=start" if place in starts else ""}><th scope="row">{first}</th>'
        + "".join(f"<td>{cell}</td>" for cell in rest)
        + "</tr>"
        for place, (first, *rest) in enumerate(rows)
    ]
    top = f"<thead><tr>{names}</tr></thead>\n" if head else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">\n<table class="{kind}">\n{top}'
        + "<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody>\n</table>\n</div>"
    )


def folded(summary: str, body: str) -> str:
    """HTML behind a line of text that opens it; nothing at all without any."""
    return f"<details>\n<summary>{escape(summary)}</summary>\n{body}\n</details>" if body else ""


def figure(picture: str, name: str, caption: str = "") -> str:
    """A picture (HTML) under its name and caption (text)."""
    words = f"<b>{escape(name)}</b> {escape(caption)}".strip()
    return f"<figure>\n<figcaption>{words}</figcaption>\n{picture}\n</figure>"


def gallery(pictures: Sequence[str], *, kind: str = "") -> str:
    """Figures side by side as far as the width allows; nothing at all without figures."""
    return f'<div class="figures {kind}">\n' + "\n".join(pictures) + "\n</div>" if pictures else ""
