"""How many tools and examples of real corpora pass the rule checker, and why the others do not: two Markdown tables.

    TOOLDEV_DATA=/path/to/data python benchmarks/check_corpora.py        # every folder under corpora/

Each folder is converted (`tooldev.py convert --from auto`) into a temporary folder and checked (`tooldev.py check`).
"""

import contextlib
import io
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.check import Funnel, check_file
from data.formats.convert import Options, convert


def corpus_funnels(folder: Path) -> dict[str, Funnel]:
    """Convert one corpus and check what came out."""
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stderr(io.StringIO()):
        convert([folder], Path(out), Options())
        files = {kind: Path(out) / f"{kind}.jsonl" for kind in ("tools", "examples")}
        return {kind: check_file(path, tools=kind == "tools")[0] for kind, path in files.items() if path.is_file()}


def cell(funnel: Funnel | None) -> str:
    """Passed of all, and the three commonest reasons."""
    if funnel is None or not funnel.rows:
        return "none"
    reasons = ", ".join(f"{code} {count}" for code, count in funnel.reasons.most_common(3))
    return f"{funnel.passed} of {funnel.rows}" + (f"; {reasons}" if reasons else "")


def main() -> int:
    """Print the tables."""
    if "TOOLDEV_DATA" not in os.environ:
        print("error: TOOLDEV_DATA is not set; it names the folder that holds corpora/", file=sys.stderr)
        return 2
    total, first = {"tools": Counter(), "examples": Counter()}, {}
    print("| corpus | tools passed | examples passed |\n|---|---|---|")
    for folder in sorted(path for path in (Path(os.environ["TOOLDEV_DATA"]) / "corpora").iterdir() if path.is_dir()):
        funnels = corpus_funnels(folder)
        print(f"| {folder.name} | {cell(funnels.get('tools'))} | {cell(funnels.get('examples'))} |", flush=True)
        for kind, funnel in funnels.items():
            total[kind].update(funnel.reasons, rows=funnel.rows, passed=funnel.passed)
            for code, example in funnel.first.items():
                first.setdefault(code, f"{folder.name}: {example.split(': ', 1)[1]}")
    print(f"| together | {total['tools']['passed']} of {total['tools']['rows']} | "
          f"{total['examples']['passed']} of {total['examples']['rows']} |\n")
    print("| reason | tools | examples | one example |\n|---|---|---|---|")
    for code in sorted(first, key=lambda code: -total["tools"][code] - total["examples"][code]):
        text = first[code].replace("|", "\\|").replace("\n", " ")
        print(f"| {code} | {total['tools'][code]} | {total['examples'][code]} | {text[:130]} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
