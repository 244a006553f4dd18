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
from pathlib import Path

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

PAGE, STYLE = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("report.html", "report.css"))
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """One file that needs nothing else; blocks before the first heading stand above the list of sections."""
    sections = [block[0] in ("h", "explorer") for block in blocks]
    nav = "".join(f'<a href="#{_anchor(block[1])}">{escape(block[1])}</a>'
                  for block, named in zip(blocks, sections, strict=True) if named)
    first = sections.index(True) if any(sections) else len(blocks)
    head, body = ("\n".join(map(_html, part)) for part in (blocks[:first], blocks[first:]))
    explored = any(block[0] == "explorer" for block in blocks)
    policy = POLICY + (f"; script-src '{explorer.script_hash()}'" if explored else "")
    style = f"\n{STYLE}\n{charts.STYLE}" + (explorer.style() if explored else "")
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
