"""`tooldev.py check F [--tools]`: rule-check a file of examples or tools and print the funnel.

The exit code is 1 if anything is rejected.
"""

import argparse
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from data.files import refuse_replacing, write_text
from data.rules import Finding, check_calls, check_tool, check_tools
from data.schema import Example, Tool, dump_json, read_jsonl


@dataclass
class Funnel:
    """How many rows passed, and for every reason how many it rejected with one of them as the example."""

    what: str
    rows: int = 0
    passed: int = 0
    reasons: Counter = field(default_factory=Counter)               # rows per reason; a row counts once per reason
    first: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, findings: list[Finding]) -> None:
        self.rows += 1
        self.passed += not findings
        for code, detail in dict(reversed(findings)).items():
            self.reasons[code] += 1
            self.first.setdefault(code, f"{where}: {detail}")

    def markdown(self) -> str:
        """The funnel as a table: rows per reason, each with its first example."""
        share = f" ({self.passed / self.rows:.1%})" if self.rows else ""
        lines = [f"{self.rows} {self.what} = {self.passed} passed{share} + {self.rows - self.passed} rejected"]
        if self.reasons:
            lines += ["", f"| reason | {self.what} | first example |", "|---|---|---|"]
            for code, count in sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])):
                example = self.first[code].replace("|", "\\|").replace("\n", " ")
                lines.append(f"| {code} | {count} | {example[:160]} |")
        return "\n".join(lines)


def findings_of(record: dict, kind: type[Tool] | type[Example]) -> list[Finding]:
    """Everything the rule checker says about one tool, or one example (its tools, then its calls), shape included."""
    if kind is Tool:
        findings = check_tool(record)
    else:
        findings = check_tools(record.get("tools") or []) if record.get("calls") or record.get("tools") else []
    try:
        made = kind.from_dict(record)
    except ValueError as err:
        return findings or [("bad_record", str(err))]
    return findings + (check_calls(made.calls, made.tools) if isinstance(made, Example) else [])


def check_file(path: str | Path, *, tools: bool) -> tuple[Funnel, list[dict]]:
    """Rule-check every row of a JSONL file -> (funnel, one record per rejected row)."""
    funnel, rejected = Funnel("tools" if tools else "examples"), []
    for number, record in read_jsonl(path):
        findings = findings_of(record, Tool if tools else Example)
        name = record.get("name" if tools else "id")
        funnel.add(f"line {number} ({str(name)[:60]})", findings)
        if findings:
            rejected.append({"id": str(name), "line": number, "stage": "tools" if tools else "calls",
                             "reason": findings[0][0], "detail": findings[0][1]})
    return funnel, rejected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="JSON Lines of examples, or of tools with --tools")
    parser.add_argument("--tools", action="store_true", help="the file holds tools, one per line")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("--rejected", type=Path, help="also write one line per rejected row to this file")
    parser.add_argument("--overwrite", action="store_true", help="replace the file --rejected whatever it holds")


def main(args: argparse.Namespace) -> int:
    """Print the funnel; 1 if anything was rejected."""
    funnel, rejected = check_file(args.file, tools=args.tools)
    print(dump_json(vars(funnel), indent=2) if args.json else funnel.markdown())
    if args.rejected:
        text = "".join(dump_json(row) + "\n" for row in rejected)
        refuse_replacing(args.rejected, text, inputs=[args.file], overwrite=args.overwrite)
        write_text(args.rejected, text)
        print(f"rejected rows: {args.rejected}", file=sys.stderr)
    return 1 if rejected else 0
