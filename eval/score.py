"""`tooldev.py score`: score saved answers of one benchmark. No torch, no network; seconds for ten thousand answers.

Also `python -m eval.score`. Writes verdicts.jsonl (one line per answer, in input order) by the strict reading of the
answers, verdicts_lenient.jsonl by the lenient one (eval/lenient.py), and summary.json with both; with --against also
comparison.json, the paired comparison with another run's verdicts.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import add_overwrite, claim, made, refuse_replacing, sha256_file, write_json, write_jsonl, write_text
from data.schema import dump_json, read_jsonl
from eval import benches
from eval.answers import Answer, form_of, printable, read_answers
from eval.benches import Benchmark
from eval.lenient import LENIENT, READINGS, STRICT
from eval.uncertainty import Comparison, describe, paired_bootstrap
from tooldev import Help

VERDICTS = {STRICT: "verdicts.jsonl", LENIENT: "verdicts_lenient.jsonl"}
SCORES = (*VERDICTS.values(), "summary.json")
PATHS = ("command", "data", "answers", "out", "against", "overwrite", "json")     # arguments that no verdict depends on
Scores = dict[tuple[str, str], float]   # (task, id) of an entry -> its main score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `score`; the help ends with the formats of answers."""
    parser.formatter_class = Help
    parser.epilog = answers_help()
    parser.add_argument("--bench", required=True, choices=benches.names())
    parser.add_argument("--data", required=True, help="folder of the benchmark's data")
    parser.add_argument("--answers", required=True, help="saved answers: JSON Lines or one JSON array, gzipped or not")
    parser.add_argument("--out", required=True, help="folder for verdicts.jsonl and summary.json")
    parser.add_argument("--against", help="another run's folder or verdicts.jsonl: adds a paired comparison, ours "
                                          "minus it")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    benches.add_arguments(parser, prompts=False)
    add_overwrite(parser)


def answers_help() -> str:
    """How the answers to each benchmark are written, with examples."""
    return "\n\n".join(["One answer is an object:",
                        *(f"{name}: {benches.module_of(name).ANSWERS}" for name in benches.names())])


def main(args: argparse.Namespace) -> int | None:
    settings = {name: value for name, value in vars(args).items() if name not in PATHS}
    claimed = claim(args.out, "tooldev.py score", settings=settings, writes=SCORES, overwrite=args.overwrite,
                    inputs=[(Path(args.answers).name, args.answers), ("data", args.data)],
                    reads=[args.against] * bool(args.against))
    benchmark = benches.load(args.bench, args.data, args)
    answers = list(read_answers(args.answers))
    refuse_strangers(args.bench, benchmark, answers, args.answers)
    verdicts, summary = score_readings(benchmark, answers)
    compared = comparison(verdicts, args.against, claimed.out, args.answers, overwrite=args.overwrite)
    with claimed:
        write_scores(claimed.out, args.answers, verdicts, summary, compared, as_json=args.json)
        claimed.finish(made(claimed.out, SCORES))
    return 0


def refuse_strangers(bench: str, benchmark: Benchmark, answers: Sequence[Answer], path: str | Path) -> None:
    """ValueError where not one line is an answer: a score of 0 would say that the model failed.

    A few lines that are none are told instead: they are undecodable, or name no entry.
    """
    fields = benches.module_of(bench).FIELDS
    known = [answer for answer in answers if benchmark.find(answer)]
    bare = [answer for answer in known if not answer.fault and not any(field in answer.record for field in fields)]
    broken = [answer for answer in known if answer.fault]
    if len(bare) + len(broken) < len(known):
        if bare:
            print(f"{len(bare)} lines have no {' or '.join(fields)} and count as undecodable")
        return
    if not answers:
        found = "the file is empty"
    elif broken:
        found = (f"none of the {len(answers)} lines can be read as an answer; the first of {len(broken)} that are no "
                 f"strict JSON: {broken[0].fault}")
    elif known:
        found = f"none of the {len(answers)} lines has {' or '.join(fields)}; the first holds {_shown(known[0])}"
    else:
        found = (f"none of the {len(answers)} lines names an entry of {benchmark.folder} (answers to another benchmark "
                 f"or edition?); the first holds {_shown(answers[0])}")
    raise ValueError(f"{path}: {found}; expected saved answers, `tooldev.py score --help` shows how they are written")


def _shown(answer: Answer) -> str:
    """The beginning of a line, for an error message."""
    pairs = ", ".join(f"{printable(key, 40)}: {printable(repr(value), 40)}"
                      for key, value in list(answer.record.items())[:6])
    return pairs or f"no fields ({answer.fault})"


def score_answers(benchmark: Benchmark, answers: Iterable[Answer]) -> tuple[list[dict], dict]:
    """(verdict lines in the order of the answers, summary). The summary takes the first answer to each entry."""
    lines: list[dict] = []
    first: dict[str, tuple[Answer, dict]] = {}
    unknown = 0
    for answer in answers:
        entry = benchmark.find(answer)
        lines.append(benchmark.judge(entry, answer) if entry else benchmark.unknown(answer))
        if entry:
            first.setdefault(entry.key, (answer, lines[-1]))
        else:
            unknown += 1
    counts = {"lines": len(lines), "unknown": unknown, "repeated": len(lines) - unknown - len(first)}
    return lines, benchmark.summarise(first) | {"answers": counts}


def score_readings(benchmark: Benchmark, answers: Sequence[Answer]) -> tuple[dict[str, list[dict]], dict]:
    """(verdict lines by reading, summary of the strict one with that of the other under "lenient").

    A benchmark whose settings know no `reading` has the strict one alone.
    """
    verdicts, summaries = {}, {}
    for reading in READINGS if hasattr(benchmark.settings, "reading") else (STRICT,):
        verdicts[reading], summaries[reading] = score_answers(benches.read_as(benchmark, reading), answers)
    summary = summaries.pop(STRICT) | {"written": dict(sorted(Counter(map(form_of, answers)).items()))}
    return verdicts, summary | summaries


def write_scores(out: Path, answers: str | Path, verdicts: Mapping[str, list[dict]], summary: dict,
                 compared: str = "", *, as_json: bool = False) -> None:
    """The verdicts, summary.json with the hash of what was scored, comparison.json where there is one; and print."""
    for reading, lines in verdicts.items():
        write_jsonl(out / VERDICTS[reading], lines)
    write_json(out / "summary.json", {**summary, "answers": {**summary["answers"], "sha256": sha256_file(answers)}})
    if compared:
        write_text(out / "comparison.json", compared)
    if as_json:
        print(json.dumps({**summary, **({"comparison": json.loads(compared)} if compared else {})}, indent=2))
        return
    print("\n".join(summary_lines(summary)))
    if compared:
        record = json.loads(compared)
        print("\n".join(part["text"] for part in (record, record.get(LENIENT)) if part))


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """The scores, one per line, as they are printed."""
    readings = [summary["scores"], *([summary[LENIENT]["scores"]] if LENIENT in summary else [])]
    heads = " " * 28 + "".join(f" {name:27s}" for name in READINGS)
    lines = [heads.rstrip()] if len(readings) > 1 and summary["scores"] else []
    lines += [f"{name:28s}" + "".join(f" {_interval(scores[name]):27s}" for scores in readings).rstrip()
              for name in summary["scores"]]
    counts = summary.get("counts")
    if counts:
        lines.append(", ".join(f"{count} {name}" for name, count in counts.items()))
    for reading, part in ((STRICT, summary), (LENIENT, summary.get(LENIENT, {}))):
        if called := part.get("irrelevance"):
            lines.append(f"calls made where no function fits, {reading}: {called['called']} of {called['n']}")
    lines.append(f"wrote tools instead of calls: {summary['wrote_tools_instead']}")
    if summary["answers"]["unknown"]:
        lines.append(f"{summary['answers']['unknown']} answers name no entry of this data and are left out")
    if summary["answers"]["repeated"]:
        lines.append(f"{summary['answers']['repeated']} answers repeat an entry; the first answer to each counts")
    if subset := summary.get("subset"):
        lines.append(subset_text(subset))
    elif not summary["complete"]:
        lines.append("the data is incomplete: aggregates that need missing parts are left out")
    return lines


def subset_text(subset: Mapping[str, Any]) -> str:
    """What a score of a part of the benchmark must say of itself."""
    return (f"a fixed subset by hash: {subset['entries']:,} of {subset['of']:,} entries, the categories in proportion; "
            "not the benchmark's full score")


def _interval(score: Mapping[str, float]) -> str:
    return f"{score['value']:6.2f}  [{score['low']:.2f}, {score['high']:.2f}]"


# ------------------------------------------------------------------------------------------------- against another run

def main_score(verdict: Mapping[str, Any]) -> float:
    """The one number per entry that runs are compared on, 0..1, from a line of verdicts.jsonl."""
    if "valid" in verdict:
        return float(bool(verdict["valid"]))
    score = verdict.get("score", 0.0)
    if isinstance(score, Mapping):
        score = next((score[key] for key in ("f1_score", "name", "args") if key in score), 0.0)
    return float(score)


def scores_of(verdicts: Iterable[Mapping[str, Any]]) -> Scores:
    """The main score of each entry, by its first verdict."""
    scores: Scores = {}
    for verdict in verdicts:
        scores.setdefault((str(verdict.get("task", "")), str(verdict.get("id"))), main_score(verdict))
    return scores


def read_scores(path: str | Path) -> Scores:
    """The scores of another run, from its folder or its verdicts.jsonl.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it does not hold verdicts.
    """
    file = Path(path) / "verdicts.jsonl" if Path(path).is_dir() else Path(path)
    verdicts = []
    for number, record in read_jsonl(file):
        score = record.get("valid", record.get("score"))
        if not isinstance(score, (bool, int, float, Mapping)) or "id" not in record:
            raise ValueError(f"{file}, line {number}: is no verdict ({printable(dump_json(record), 80)}); --against "
                             "wants a folder that score or eval wrote, or its verdicts.jsonl")
        verdicts.append(record)
    return scores_of(verdicts)


def compare(theirs: Scores, ours: Scores, name: str) -> tuple[Comparison, dict[str, int]]:
    """Paired comparison (ours minus theirs) over the entries that both runs answered, and how many those are.

    Raises:
        ValueError: no entry is in both; `name` says where theirs come from.
    """
    shared = [key for key in ours if key in theirs]
    if not shared:
        raise ValueError(f"{name}: no entry is in both runs; compare runs of the same benchmark and data")
    overlap = {"shared": len(shared), "only_here": len(ours) - len(shared), "only_there": len(theirs) - len(shared)}
    return paired_bootstrap([theirs[key] for key in shared], [ours[key] for key in shared]), overlap


def comparison(verdicts: Mapping[str, Sequence[Mapping]], against: str | None, out: Path, own: str | Path, *,
               overwrite: bool) -> str:
    """The text of comparison.json, "" without another run. Made before any writing: that run may be replaced.

    Where the other run is a folder with lenient verdicts, those are compared too, under "lenient".
    """
    if not against:
        return ""
    record = _compared(read_scores(against), verdicts[STRICT], against, own)
    other = Path(against) / VERDICTS[LENIENT]
    if LENIENT in verdicts and other.is_file():
        record[LENIENT] = _compared(read_scores(other), verdicts[LENIENT], f"{against} ({LENIENT})", own)
    text = dump_json(record, indent=2) + "\n"
    refuse_replacing(out / "comparison.json", text, overwrite=overwrite)
    return text


def _compared(theirs: Scores, verdicts: Sequence[Mapping], against: str, own: str | Path) -> dict[str, Any]:
    compared, overlap = compare(theirs, scores_of(verdicts), against)
    return {**compared.to_dict(), "entries": overlap, "text": describe(compared, a=against, b=str(own))}


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
