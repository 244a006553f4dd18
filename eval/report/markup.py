"""Blocks of a document, printed as Markdown or as one self-contained html file.

A block is ("h", text), ("p", text), ("lead", text), ("table", caption, header, rows), ("figure", caption, panels),
("fold", summary, blocks) or ("explorer", heading, data). The first column of a table names its rows; a cell is a string
or (value, remark). Every string is plain text and is escaped here; panels are SVG (charts.py), and they and the
explorer (explorer.py) stand only in the html. The html fetches nothing and runs no script but the explorer's, and tells
the browser to hold it to that.
"""

import re
from collections.abc import Sequence
from html import escape

from eval.report import charts, explorer

Block = tuple
Cell = str | tuple[str, str]
NUMBER = re.compile(r"[+\N{MINUS SIGN}]?\d|–$|< \d")         # how a cell that is set flush right begins

# ------------------------------------------------------------------------------------------------------------- Markdown


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """A page whose tables can be read as they stand, too; figures are left out (a table beside each says the same)."""
    return f"# {_md(title)}\n\n" + "".join(map(_markdown, blocks)).rstrip() + "\n"


def _markdown(block: Block) -> str:
    kind, text, *rest = block
    if kind == "h":
        return f"## {_md(text)}\n\n"
    if kind in ("p", "lead"):
        return f"{_md(text)}\n\n"
    if kind == "fold":
        return f"### {_md(text)}\n\n" + "".join(map(_markdown, rest[0]))
    return _markdown_table(text, *rest) if kind == "table" else ""


def _markdown_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    right = numeric_columns(rows, len(header))
    cells = [[_md(_plain(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(3, min(48, max(map(len, column)))) for column in zip(*cells, strict=True)]
    pads = [str.rjust if flush else str.ljust for flush in right]
    lines = [" | ".join(pad(cell, width) for pad, cell, width in zip(pads, row, widths, strict=True)) for row in cells]
    rule = " | ".join("-" * (width - flush) + ":" * flush for width, flush in zip(widths, right, strict=True))
    table = "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))
    return f"{_md(caption)}:\n\n{table}\n\n"


def _md(text: str) -> str:
    """One line of text, with what Markdown or html in it would mean taken away."""
    return re.sub(r"([\\`*<|]|\](?=\()|!(?=\[)|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))


def _plain(cell: Cell) -> str:
    return cell if isinstance(cell, str) else f"{cell[0]} ({cell[1]})"


def numeric_columns(rows: Sequence[Sequence[Cell]], width: int) -> list[bool]:
    """Which columns hold numbers (and gaps) only; never the first, which names the rows."""
    def is_number(text: str) -> bool:
        return len(text) < 48 and NUMBER.match(text) is not None

    return [False, *(all(is_number(_plain(row[i])) for row in rows) for i in range(1, width))]


# ----------------------------------------------------------------------------------------------------------------- html

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the report</a>
<header>
<p class="over">ToolDev report</p>
<h1>{title}</h1>
{head}
</header>
<nav aria-label="Sections">{nav}</nav>
<main id="main">
{body}
</main>
</body>
</html>
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
:root {
  --paper: #fcfcfa; --ink: #1c2127; --muted: #59616b; --rule: #dcdfe2; --accent: #1d5c87; --pale: #b9d0e0;
  --tint: #eff2f4;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  --serif: Charter, "Iowan Old Style", "Source Serif 4", Georgia, "DejaVu Serif", serif;
  --mono: ui-monospace, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181b; --ink: #e4e6e8; --muted: #a0a8b0; --rule: #343a40; --accent: #86bde3; --pale: #365062;
    --tint: #1e2328; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 var(--sans); }
h1 { font: 600 1.3rem/1.3 var(--serif); margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font: 600 1.35rem/1.3 var(--serif); margin: 3rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
p { max-width: 44rem; margin: .5rem 0 1rem; }
.over, h1 + p { color: var(--muted); font-size: .9rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.lead { font: 1.2rem/1.5 var(--serif); margin: 1.2rem 0 1.5rem; }
a { color: var(--accent); text-underline-offset: .2em; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 0 0 1.5rem; font-size: .9rem; }
.skip { position: absolute; left: -99rem; }
.skip:focus { position: static; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
.wide { overflow-x: auto; margin: 1.25rem 0 1.75rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .4rem; white-space: nowrap; }
th, td { padding: .32rem .9rem .32rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
thead th { color: var(--muted); font-weight: 500; vertical-align: bottom; border-bottom-color: var(--muted); }
tbody th { font-weight: 500; }
tbody th, td.n { white-space: nowrap; }
td.n, th.n { text-align: right; }
small { color: var(--muted); }
.wordy td { min-width: 7rem; max-width: 26rem; overflow-wrap: anywhere; }
.wordy td:last-child { font-family: var(--mono); font-size: .8rem; min-width: 16rem; }
figure { margin: 1.25rem 0 1.75rem; }
figcaption { color: var(--muted); font-size: .88rem; margin-top: .6rem; max-width: 44rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1.5rem 2rem; }
.pairs { grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); max-width: 56rem; }
.panels > svg { max-width: 26rem; }
details { border-top: 1px solid var(--rule); }
summary { padding: .6rem 0; cursor: pointer; }
@media print { nav, .skip { display: none; } body { padding: 0; } .wide { overflow: visible; } }
"""


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """One file that needs nothing else; blocks before the first heading stand above the list of sections."""
    sections = [block[0] in ("h", "explorer") for block in blocks]
    nav = "".join(f'<a href="#{_anchor(block[1])}">{escape(block[1])}</a>'
                  for block, named in zip(blocks, sections, strict=True) if named)
    first = sections.index(True) if any(sections) else len(blocks)
    head, body = ("\n".join(map(_html, part)) for part in (blocks[:first], blocks[first:]))
    explored = any(block[0] == "explorer" for block in blocks)
    policy = POLICY + (f"; script-src '{explorer.script_hash()}'" if explored else "")
    style = STYLE + charts.STYLE + (explorer.style() if explored else "")
    return PAGE.format(title=escape(title), style=style, policy=policy, nav=nav, head=head, body=body)


def _html(block: Block) -> str:
    kind, text, *rest = block
    said = escape(text)
    if kind in ("h", "explorer"):
        return f'<h2 id="{_anchor(text)}">{said}</h2>' + (explorer.section(rest[0]) if kind == "explorer" else "")
    if kind == "figure":
        name = "panels pairs" if len(rest[0]) in (2, 4) else "panels"
        return f'<figure><div class="{name}">{"".join(rest[0])}</div><figcaption>{said}</figcaption></figure>'
    if kind == "fold":
        return f"<details><summary>{said}</summary>{''.join(map(_html, rest[0]))}</details>"
    if kind == "table":
        return _html_table(text, *rest)
    return f'<p class="lead">{said}</p>' if kind == "lead" else f"<p>{said}</p>"


def _html_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table in a region that scrolls sideways, also with the keyboard, where the screen is narrow."""
    flush = [' class="n"' if right else "" for right in numeric_columns(rows, len(header))]
    top = "".join(f'<th scope="col"{name}>{escape(cell)}</th>' for cell, name in zip(header, flush, strict=True))
    lines = ["".join(f"<td{name}>{_html_cell(cell)}</td>" for cell, name in zip(row[1:], flush[1:], strict=True))
             for row in rows]
    body = "".join(f'<tr><th scope="row">{_html_cell(row[0])}</th>{line}</tr>'
                   for row, line in zip(rows, lines, strict=True))
    kind = "wide wordy" if any(len(_plain(cell)) > 60 for row in rows for cell in row) else "wide"
    said = escape(caption)
    return (f'<div class="{kind}" role="region" aria-label="{said}" tabindex="0"><table><caption>{said}</caption>'
            f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>")


def _html_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    return f"{escape(cell[0])}<br><small>{escape(cell[1])}</small>"


def _anchor(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")
