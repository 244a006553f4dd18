"""The tables of a real model on the benchmarks, as a Markdown page, from a run or from folders of `eval`.

    python benchmarks/real_table.py --run runs/smollm2 --title SmolLM2-135M-Instruct --out benchmarks/real_smollm2.md
    python benchmarks/real_table.py --step raw=eval/raw-bfcl --step raw-native=eval/native --step joint=eval/bfcl \
        --step joint=eval/apibank --title SmolLM2-135M-Instruct --out benchmarks/real_smollm2.md

A step is raw, adaption, invocation, invocation-adapted, joint, round-1 ...; "-native" behind it says that it was asked
by the model's own tool template. Other names are allowed, such as "joint, then calls". Steps that were not measured
leave no row. Beside the page, the scores on BFCL go into a file of its name that ends in .json: what `python
benchmarks/results_chart.py` then draws, and puts into the README's table.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from data.files import write_json, write_text
from eval.lenient import LENIENT, STRICT
from eval.report.benchmarks import AGGREGATES, contents, name_of, of_bench
from eval.report.gather import is_round
from eval.report.markup import Block, to_markdown
from eval.report.measured import BENCHMARKS, folders_of, read_benchmarks
from eval.report.page import number, percent


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, help="folder of a run that was started with --bench")
    parser.add_argument("--step", action="append", default=[], metavar="LABEL=DIR",
                        help="a folder that `tooldev.py eval` wrote (repeatable; one benchmark a folder)")
    parser.add_argument("--title", required=True, help="the model's name")
    parser.add_argument("--note", action="append", default=[], help="a sentence above the tables, such as the hours")
    parser.add_argument("--out", type=Path, required=True, help="the page to write")
    args = parser.parse_args()
    try:
        found = read_benchmarks(folders(args))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write_text(args.out, page(args, found))
    print(args.out)
    scores = args.out.with_suffix(".json")
    asked = {json.dumps(cell["subset"]) for cell in of_bench(found, "bfcl").values()}
    if len(asked) > 1:
        print(f"error: {scores}: not written, since the steps were asked different entries of BFCL; ask all with one "
              "--bench-limit", file=sys.stderr)
        return 2
    if asked:
        write_json(scores, bfcl_record(args.title, found))
        print(scores)
    return 0


def folders(args: argparse.Namespace) -> dict[str, list[Path]]:
    """The folders by label, as given."""
    by_label = folders_of(args.run) if args.run else {}
    for pair in args.step:
        label, equals, folder = pair.partition("=")
        if not equals:
            raise ValueError(f"--step {pair}: expected LABEL=DIR, such as joint=eval/joint-bfcl")
        by_label.setdefault(label, []).append(Path(folder))
    if not by_label:
        raise ValueError("nothing to show; give --run with benchmarks in it, or --step LABEL=DIR")
    return by_label


def page(args: argparse.Namespace, found: dict[str, Any]) -> str:
    """The whole page."""
    blocks: list[Block] = [*(("p", note) for note in args.note), *contents(found), *provenance(found)]
    title, _, rest = to_markdown(f"{args.title} on the benchmarks", blocks).partition("\n\n")
    return f"{title}\n\nThis page: {machine.describe()}\n{rest}"


def bfcl_record(title: str, found: dict[str, Any]) -> dict[str, Any]:
    """The scores on BFCL by step; the form is that of benchmarks/results_chart.py."""
    cells = of_bench(found, "bfcl")
    first = next(iter(cells.values()))
    steps = [{"step": label, "scores": {name: cell["scores"][STRICT][name] for name in AGGREGATES},
              "lenient": cell["scores"][LENIENT]["overall"], "no_tool_fits": cell["no_tool_fits"]}
             for label, cell in cells.items()]
    gains = {pair["after"]: {key: round(percent(pair[STRICT], "difference")[key], 2)
                             for key in ("value", "low", "high")}
             for pair in found["comparisons"]
             if pair["benchmark"] == "bfcl" and pair["before"] == "joint" and is_round(pair["after"])}
    part = {"of": first["subset"]["of"]} if first["subset"] else {}
    return {"backbone": title, "benchmark": "BFCL, single-turn", "entries": sum(first["written"].values()), **part,
            "want_a_call": sum(first["outcomes"][STRICT].values()), "steps": steps,
            "gains": gains}


def provenance(found: dict[str, Any]) -> list[Block]:
    """What was asked how."""
    rows = []
    for label, cells in found["steps"].items():
        for bench, cell in cells.items():
            given, subset = cell["settings"], cell["subset"]
            entries = f"{sum(cell['written'].values()):,}" + (f" of {subset['of']:,}, by hash" if subset else "")
            rows.append([name_of(label), BENCHMARKS[bench], entries, given["model"] or "–", given["adapter"] or "–",
                         number(given["max_new_tokens"]), given["precision"] or "–", cell["answers_sha256"][:16]])
    heads = ["step", "benchmark", "answers", "model", "adapter", "new tokens", "precision", "sha256 of the answers"]
    return [("h", "What was asked"), ("table", "Answers", heads, rows)]


if __name__ == "__main__":
    sys.exit(main())
