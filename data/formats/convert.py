"""`tooldev.py convert`: any known corpus -> tools.jsonl, examples.jsonl, queries.jsonl, rejected.jsonl, manifest.json.

Nothing is dropped silently. Every row of the input stands in the provenance of an output line or in rejected.jsonl;
what a row holds beyond the output is counted in the manifest under `left_out`. Rows stream: memory does not grow with
the file. Conversion reads formats and judges nothing: `--check` has the rule checker (data/rules.py) judge as well.
`--to` goes the other way: examples in the layouts that other trainers read (layouts.py).
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from data.binary import not_text
from data.files import add_overwrite, claim, refuse_inputs_inside
from data.formats.job import SUFFIXES, FileJob, Options, has_suffix, name_in_reports, not_read
from data.formats.layouts import LAYOUTS, summary_of, write_layout
from data.formats.output import FILES, Outputs, Seen
from data.formats.registry import FORMATS
from data.formats.source import MAX_RECORD_BYTES
from data.schema import dump_json

_PROSE = (".md", ".rst")   # descriptions beside the data, not listed


def convert(inputs: list[Path], out: Path, options: Options, *, overwrite: bool = False) -> dict[str, Any]:
    """Convert files into the folder `out` and return the manifest, which is written last.

    Raises:
        FileNotFoundError, ValueError: no such file; an unknown format; a folder `out` that holds an input, or what this
            conversion did not make (other settings, other inputs), unless `overwrite` says so.
    """
    companions = [Path(path) for path in (options.answers, options.tools) if path]
    if not overwrite:
        refuse_inputs_inside(out, (*inputs, *companions))
    files = _files(inputs, out)
    names = _names(files)
    for path in companions:
        if path.is_file():
            not_read(path, explicit=True)
    read = [(name_in_reports(path, names[path]), path) for path in files
            if not_read(path, explicit=path in inputs) is None]
    claimed = claim(out, "tooldev.py convert", inputs=read, writes=FILES, settings=vars(options), overwrite=overwrite)
    hashes = {path: entry["sha256"] for (_, path), entry in zip(read, claimed.inputs, strict=True)}
    seen, reports = Seen(), []
    with claimed:
        with Outputs(out) as outputs:
            for path in files:
                job = FileJob(path, names[path], options, outputs, seen, explicit=path in inputs,
                              sha256=hashes.get(path, ""))
                reports.append(job.run())
        served = [report for report in reports if "not_served" not in report]
        rejected = sum((Counter(report["rejected"]) for report in served), Counter())
        return claimed.finish(outputs.report(), reports, rows=sum(report["rows"] for report in served),
                              rows_converted=sum(report["rows_converted"] for report in served),
                              rejected=dict(sorted(rejected.items())), licenses=sorted({options.license} - {None}))


def _files(inputs: list[Path], outputs: Path) -> list[Path]:
    """The files to read, in a fixed order; a folder stands for the files in it, but prose, hidden ones and outputs."""
    out: list[Path] = []
    for path in inputs:
        if path.is_dir():
            own = outputs.resolve()
            found = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() not in _PROSE
                           and own not in p.resolve().parents
                           and not any(part.startswith(".") for part in p.relative_to(path).parts))
            if not any(has_suffix(p) for p in found):
                other = next((f"; {file.name} there: {why}" for file in found if (why := not_text(file))), "")
                raise FileNotFoundError(f"{path}: a folder without {', '.join(SUFFIXES)} files (gzipped or not){other}")
            out.extend(found)
        elif path.is_file():
            out.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file or folder; give --in an existing one")
    return list(dict.fromkeys(out))


def _names(files: list[Path]) -> dict[Path, str]:
    """What each file is called in ids: its name without suffixes, with folders above it where two files share that."""
    stems = {path: path.name.removesuffix(".gz").rpartition(".")[0] or path.name for path in files}
    beside = Counter((path.parent, stem) for path, stem in stems.items())
    names = {path: stem if beside[path.parent, stem] == 1 else path.name for path, stem in stems.items()}
    for depth in range(1, 8):
        for path, name in _shared(names):
            parents = path.resolve().parts[:-1]
            names[path] = f"{parents[-depth]}/{name}" if depth < len(parents) else name
    for number, (path, name) in enumerate(_shared(names)):
        names[path] = f"{name}#{number}"
    return names


def _shared(names: dict[Path, str]) -> list[tuple[Path, str]]:
    """The files whose name another one has too."""
    counts = Counter(names.values())
    return [(path, name) for path, name in names.items() if counts[name] > 1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="format", default="auto", metavar="FORMAT",
                        help="auto, " + ", ".join(FORMATS) + " (default: auto, found from each row)")
    parser.add_argument("--in", dest="inputs", nargs="+", required=True, type=Path, metavar="F",
                        help="files or folders; .gz too")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the files written")
    parser.add_argument("--to", choices=tuple(LAYOUTS),
                        help="the other way: examples.jsonl, a round's accepted.jsonl or a run's folder (--in) in the "
                             "layout that other trainers read")
    parser.add_argument("--turns", default="first", choices=("first", "all"),
                        help="first: a conversation's first request; all: later requests too, with the dialogue before "
                             "them as the query")
    parser.add_argument("--answers", metavar="F", help="BFCL: the possible_answer file (default: beside the input)")
    parser.add_argument("--tools", metavar="F",
                        help="Seal-Tools, NESTFUL, API-Bank: the file of tool documents (default: beside the input)")
    parser.add_argument("--check", action="store_true",
                        help="have the rule checker judge tools and calls; what fails is rejected")
    parser.add_argument("--source", help="written into every example (default: the file's name)")
    parser.add_argument("--license", help="written into every example and the manifest, e.g. Apache-2.0")
    parser.add_argument("--max-record-mb", type=int, default=MAX_RECORD_BYTES >> 20,
                        help="longer records are rejected (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print manifest.json instead of a summary of it")
    add_overwrite(parser)


def main(args: argparse.Namespace) -> int:
    """Run the subcommand; returns 1 where a file broke off before its end."""
    if args.to:
        refuse_options_of_reading(args)
        refuse_inputs_inside(args.out, args.inputs)
        made = write_layout(args.inputs, args.out, args.to, overwrite=args.overwrite)
        print(dump_json(made, indent=2) if args.json else summary_of(made, args.out, args.to))
        return 0
    options = Options(args.format, args.turns, args.answers, args.tools, args.check, args.source, args.license,
                      args.max_record_mb << 20)
    manifest = convert(args.inputs, args.out, options, overwrite=args.overwrite)
    print(dump_json(manifest, indent=2) if args.json else summary(manifest))
    broken = [report for report in manifest["inputs"] if report.get("broken_off")]
    for report in broken:
        print(f"warning: {report['file']} could not be read to its end ({report['broken_off']}); what stood before it "
              "was converted", file=sys.stderr)
    for report in manifest["inputs"]:
        for fault in report.get("companion_faults", ()):
            print(f"warning: beside {report['file']}, {fault}", file=sys.stderr)
    return 1 if broken else 0


def refuse_options_of_reading(args: argparse.Namespace) -> None:
    """ValueError for options that --to has no use for."""
    given = {"--from": args.format != "auto", "--turns": args.turns != "first", "--answers": args.answers,
             "--tools": args.tools, "--check": args.check, "--source": args.source, "--license": args.license}
    if used := [name for name, value in given.items() if value]:
        raise ValueError(f"{', '.join(used)}: of no use with --to, which reads ToolDev's own examples; convert a "
                         "corpus without --to first")


def summary(manifest: dict[str, Any]) -> str:
    """The manifest as a Markdown table."""
    head = ("| file | format | rows | converted | tools | examples | queries | rejected | left out |\n"
            "|---|---|---:|---:|---:|---:|---:|---|---|")
    lines = [head]
    for report in manifest["inputs"]:
        if "not_served" in report:
            lines.append(f"| {report['file']} | not served | - | - | - | - | - | {report['not_served']} | - |")
            continue
        reasons, left = (", ".join(f"{what} {count:,}" for what, count in report[key].items()) or "-"
                         for key in ("rejected", "left_out"))
        counts = " | ".join(f"{report[key]:,}" for key in ("rows", "rows_converted", "tools", "examples", "queries"))
        lines.append(f"| {report['file']} | {report['format']} | {counts} | {reasons} | {left} |")
    return "\n".join(lines)
