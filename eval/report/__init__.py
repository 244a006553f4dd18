"""`tooldev.py report`: what a run measured, as report.json, report.md and report.html in the run's folder.

What is not there yet is simply not shown. Two runs of one seed give the same report.json apart from its key "seconds",
which alone holds times, speeds and memory. gather.py reads the run, page.py has the words and tables, markup.py prints
them, charts.py draws; report.html, report.css and charts.css are how the page looks. records.py and bench_items.py read
every query, test item and benchmark entry for the explorer of report.html; explorer.py packs them into it, explorer.js
and explorer.css show them. measured.py reads what the steps scored on benchmarks, and benchmarks.py has their tables.
Beside it: tables.py, the paper's tables with rows of ours.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from data.files import write_json, write_text
from data.schema import dump_json
from eval.report import benchmarks
from eval.report.explorer import explorer_data
from eval.report.gather import gather
from eval.report.markup import to_html, to_markdown
from eval.report.measured import folders_of, read_benchmarks
from eval.report.page import contents, headline, title_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="folder of a run (with run.json); a run at work may be looked at, too")
    parser.add_argument("--json", action="store_true", help="print report.json instead of the files' names")


def main(args: argparse.Namespace) -> int:
    run = Path(args.run)
    report = write_report(run)
    if args.json:
        print(dump_json(report, indent=2))
        return 0
    print("\n".join(str(run / f"report.{kind}") for kind in ("html", "md", "json")))
    return 0


def write_report(run: str | Path) -> dict[str, Any]:
    """Write report.json, report.md and report.html of a run, finished or not -> what report.json holds.

    Raises:
        FileNotFoundError: `run` has no run.json.
        ValueError: a file of the run is damaged, or two steps were measured on different test items.
    """
    run = Path(run)
    report = gather(run)
    measured = [(step["name"], title_of(step["name"])) for step in report["steps"] if "test" in step]
    folders = folders_of(run)
    titled = {benchmarks.name_of(label): found for label, found in folders.items()}
    explored = explorer_data(run, [ledger["round"] for ledger in report["rounds"]], measured, titled)
    asked = read_benchmarks(folders)
    report |= {"benchmarks": asked} if asked["steps"] else {}
    name, blocks = run.resolve().name, benchmarks.contents(asked)
    title, blocks = headline(report, name), contents(report, f"run {name} · {when(run)}", explored, blocks)
    write_json(run / "report.json", report)
    write_text(run / "report.md", to_markdown(title, blocks))
    write_text(run / "report.html", to_html(title, blocks))
    return report


def when(run: Path) -> str:
    """From when to when the run's files date (local time, to the minute); of no interest to report.json."""
    files = [run / "run.json", *run.glob("*/eval/summary.json"), *run.glob("*/ledger.json"), *run.glob("*/DONE.json")]
    dates = sorted(file.stat().st_mtime for file in files)
    first, last = (time.strftime("%Y-%m-%d %H:%M", time.localtime(date)) for date in (dates[0], dates[-1]))
    return first if first == last else f"{first} to {last}"
