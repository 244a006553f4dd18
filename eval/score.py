"""`tooldev.py score`: score saved answers of one benchmark. No torch, no network; seconds for ten thousand answers.

Also `python -m eval.score`. Writes verdicts.jsonl (one line per answer, in input order) and summary.json; with --against
also comparison.json, the paired comparison with another run's verdicts.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from data.files import add_overwrite, claim, made, refuse_replacing, sha256_file, write_json, write_jsonl, write_text
from eval.answers import compare_verdicts, read_answers
from eval.apibank import benchmark as apibank
from eval.bfcl import benchmark as bfcl
from eval.bfcl.decode import DECODERS, RULES
from eval.stats import describe
from eval.teval import benchmark as teval

BENCHES = ("bfcl", "apibank", "teval")
SCORES = ("verdicts.jsonl", "summary.json")
SCORING = ("decoder", "rules", "underscore_names", "similarity", "teval_version")       # flags that change a verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `score`."""
    parser.add_argument("--bench", required=True, choices=BENCHES)
    parser.add_argument("--data", required=True, help="folder of the benchmark's data")
    parser.add_argument("--answers", required=True, help="saved answers, JSON Lines")
    parser.add_argument("--out", required=True, help="folder for verdicts.jsonl and summary.json")
    parser.add_argument("--against", help="another run's folder or verdicts.jsonl: adds a paired comparison, ours minus it")
    add_scoring_arguments(parser)
    add_overwrite(parser)


def add_scoring_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that change a verdict; `eval` takes them too."""
    parser.add_argument("--decoder", choices=DECODERS, default="auto",
                        help="bfcl: how text answers are read (auto: <tool_call> blocks, else the leaderboard's syntax)")
    parser.add_argument("--rules", choices=RULES, help="bfcl: which evaluator's rules (default: those of the data's edition)")
    parser.add_argument("--underscore-names", action="store_true",
                        help="bfcl: the model was shown names with every . replaced by _")
    parser.add_argument("--similarity", choices=("exact", "bow", "names"), default="exact",
                        help="teval: what stands in for the sentence encoder in plans")
    parser.add_argument("--teval-version", choices=("v1", "v2"), default="v2", help="teval: which version's rules")


def load(bench: str, data: str) -> Any:
    """The benchmark's data."""
    return {"bfcl": bfcl, "apibank": apibank, "teval": teval}[bench].load_benchmark(data)


def score_file(bench: str, benchmark: Any, answers: str | Path, options: argparse.Namespace) -> tuple[list[dict], dict]:
    """(verdicts, summary) of an answers file."""
    rows = read_answers(answers)
    if bench == "bfcl":
        return bfcl.score_answers(benchmark, rows, decoder=options.decoder, rules=options.rules,
                                  underscore_names=options.underscore_names)
    if bench == "apibank":
        return apibank.score_answers(benchmark, rows)
    return teval.score_answers(benchmark, rows, similarity=options.similarity, version=options.teval_version)


def write_scores(out: Path, answers: str | Path, verdicts: list[dict], summary: dict) -> None:
    """verdicts.jsonl and summary.json, the latter last and with the hash of what was scored."""
    write_jsonl(out / "verdicts.jsonl", verdicts)
    write_json(out / "summary.json", {**summary, "answers": {**summary["answers"], "sha256": sha256_file(answers)}})


def summary_lines(summary: dict) -> list[str]:
    """The scores, one per line, as they are printed."""
    lines = [f"{name:28s} {s['value']:6.2f}  [{s['low']:.2f}, {s['high']:.2f}]" for name, s in summary["scores"].items()]
    counts = summary.get("counts")
    if counts:
        lines.append(", ".join(f"{count} {name}" for name, count in counts.items()))
    if summary.get("irrelevance"):
        called = summary["irrelevance"]
        lines.append(f"calls made where no function fits: {called['called']} of {called['n']}")
    lines.append(f"wrote tools instead of calls: {summary['wrote_tools_instead']}")
    if summary["answers"]["unknown"]:
        lines.append(f"{summary['answers']['unknown']} answers name no entry of this data and are left out")
    if summary["answers"]["repeated"]:
        lines.append(f"{summary['answers']['repeated']} answers repeat an entry; the first answer to each counts")
    if not summary["complete"]:
        lines.append("the data is incomplete: aggregates that need missing parts are left out")
    return lines


def main(args: argparse.Namespace) -> int | None:
    """Score, write and print."""
    out = Path(args.out)
    settings = {name: getattr(args, name) for name in ("bench", *SCORING)}
    claimed = claim(out, "tooldev.py score", inputs=[(Path(args.answers).name, args.answers), ("data", args.data)],
                    writes=SCORES, settings=settings, reads=[args.against] * bool(args.against), overwrite=args.overwrite)
    verdicts, summary = score_file(args.bench, load(args.bench, args.data), args.answers, args)
    compared = comparison_with(verdicts, args.against, out, str(args.answers), overwrite=args.overwrite)
    with claimed:
        write_scores(out, args.answers, verdicts, summary)
        print("\n".join(summary_lines(summary)))
        write_comparison(out, compared)
        claimed.finish(made(out, SCORES))
    return 0


def comparison_with(verdicts: list[dict], against: str | None, out: Path, own: str, *, overwrite: bool) -> str:
    """The text of comparison.json, "" without another run. Made before anything is written: that run may be replaced."""
    if not against:
        return ""
    comparison, overlap = compare_verdicts(verdicts, against)
    record = {**comparison.to_dict(), "entries": overlap, "text": describe(comparison, a=against, b=own)}
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    refuse_replacing(out / "comparison.json", text, overwrite=overwrite)
    return text


def write_comparison(out: Path, text: str) -> None:
    """Write and print a comparison, where there is one."""
    if text:
        write_text(out / "comparison.json", text)
        print(json.loads(text)["text"])


def run_module(module: Any, arguments: list[str] | None = None) -> int:
    """Run a subcommand module by itself; errors a user can cause print on one line, exit code 2."""
    parser = argparse.ArgumentParser(prog=f"python -m {module.__name__}" if module.__name__ != "__main__" else None,
                                     description=(module.__doc__ or "").split("\n")[0])
    module.add_arguments(parser)
    try:
        return module.main(parser.parse_args(arguments)) or 0
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(run_module(sys.modules["__main__"]))
