"""The explorer of report.html: its data, packed into the page, and the script that shows it.

The index of all entries is one block of JSON, and their details are further blocks, each deflated and in base64, which
the script unpacks when an entry is opened: thousands stay quick, and a page of a large run stays under `PAGE` bytes.
Details for which there is no room are left out, and the page says which and where they stand. Only the one script may
run: the page names its hash. What models and users wrote is only ever made text.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from data.prompts import NATIVE_PROMPT, generation_messages, invocation_messages, pieces_text, tools_text
from data.schema import Tool, read_json
from eval.report.bench_items import bench_entries
from eval.report.records import ROUND_FILES, Entry, query_entries, test_entries

PAGE = 17_000_000               # bytes of packed data at most; where it is more, the last details are left out
BLOCK = 200_000                 # characters of JSON in a block: unpacked in milliseconds
QUERY, TOOLS = "\ue000", "\ue001"                   # where the page's script puts an entry's own text into a prompt
HERE = Path(__file__).parent
ASKED_OTHERWISE = ("Where a model was asked by its own tool prompt, the texts here are still the paper's: the request "
                   "is the same, and the tools stood in the block of the chat template.")
SECTION = """<section id="explorer" aria-label="Explorer">
<p>Each entry opens: its prompts, tools, answers and votes, and why it was rejected or what was trained on. Arrow keys
move between entries, Enter opens one, Escape closes it.{notes}</p>
<noscript><p>The explorer needs JavaScript; every other part of this page does without.</p></noscript>
<script type="application/json" id="explorer-data">{data}</script>
<script>{script}</script>
</section>"""


def explorer_data(run: Path, rounds: Sequence[int], steps: Sequence[tuple[str, str]],
                  benchmarks: Mapping[str, Sequence[Path]]) -> dict[str, Any] | None:
    """What the page holds; None where there is nothing to explore.

    Args:
        rounds: numbers of the complete rounds.
        steps: measured steps in order, each with its title.
        benchmarks: folders of `eval` by the step's title.
    """
    gone = [f"round-{n}/{name}" for n in rounds for name in ROUND_FILES if not (run / f"round-{n}" / name).is_file()]
    rounds = [n for n in rounds if not any(name.startswith(f"round-{n}/") for name in gone)]
    steps = [step for step in steps if (run / step[0] / "eval" / "answers.jsonl").is_file()]
    blocks, notes = Blocks(), [f"Not here, for want of the run's files: {', '.join(gone)}."] if gone else []
    tests = blocks.add(test_entries(run, [name for name, _ in steps]))
    asked = blocks.add(bench_entries(benchmarks, notes))
    queries = blocks.add(entry for n in rounds for entry in query_entries(run / f"round-{n}", n))
    if not (tests or asked or queries):
        return None
    index = blocks.closed({"queries": queries, "tests": tests, "benchmarks": asked})
    if any(read_json(path).get("prompt") == NATIVE_PROMPT for path in run.glob("*/bench/*/summary.json")) or \
            any(run.glob("*/adapter/tooldev.json")):
        notes.append(ASKED_OTHERWISE)
    tool = Tool("n", "d", {})
    texts = {"generation": generation_messages(QUERY), "invocation": invocation_messages(QUERY, [tool])}
    prompts = {name: [[one["role"], pieces_text(one["content"]).replace(tools_text([tool]), TOOLS)] for one in messages]
               for name, messages in texts.items()}
    return {"index": index, "blocks": blocks.packed, "prompts": prompts, "steps": [title for _, title in steps],
            "asked": list(benchmarks), "notes": notes}


def section(data: dict[str, Any]) -> str:
    """The explorer's html. JSON in a page: "<" is spelled out, so that no text of it can end the element."""
    notes = "".join(f" {escape(note)}" for note in data["notes"])
    text = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    return SECTION.format(notes=notes, data=text, script=script())


def script() -> str:
    return (HERE / "explorer.js").read_text(encoding="utf-8")


def style() -> str:
    return (HERE / "explorer.css").read_text(encoding="utf-8")


def script_hash() -> str:
    """The script as a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script().encode("utf-8")).digest()).decode("ascii")


def packed(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8"), 9)).decode("ascii")


class Blocks:
    """Details in blocks of about `BLOCK` characters."""

    def __init__(self) -> None:
        self.packed: list[str] = []
        self.open: list[dict] = []
        self.size = self.bytes = 0              # characters in the open block; bytes of the packed ones

    def add(self, entries: Iterable[Entry]) -> list[list]:
        """The rows, each ended by where its detail is: block and place in it, or -1 where there was no room."""
        rows = []
        for row, detail in entries:
            if self.bytes > PAGE:
                rows.append([*row, -1, -1])
                continue
            self.open.append(detail)
            rows.append([*row, len(self.packed), len(self.open) - 1])
            self.size += len(json.dumps(detail, ensure_ascii=False))
            if self.size > BLOCK:
                self._close()
        return rows

    def closed(self, index: dict[str, list[list]]) -> str:
        """The index, packed, once blocks are dropped from the end until both fit into `PAGE` bytes."""
        self._close()
        room = PAGE - len(packed(index))
        while self.packed and self.bytes > room:
            self.bytes -= len(self.packed.pop())
        for row in (row for rows in index.values() for row in rows if row[-2] >= len(self.packed)):
            row[-2:] = -1, -1
        return packed(index)

    def _close(self) -> None:
        if self.open:
            self.packed.append(packed(self.open))
            self.bytes += len(self.packed[-1])
        self.open, self.size = [], 0
