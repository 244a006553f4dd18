"""`tooldev.py stats F --model DIR`: what a file of tools, examples or queries holds, in rows, tokens and types.

Lengths are those of the training rows, made by the encoder that training uses: a row per tool (documentation adaption),
two per example (query-aware tool generation, tool invocation), or the prompt of generation for a bare query. Without
--model only what needs no tokenizer is reported.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data.contamination import folded, tool_signature
from data.prompts import generation_messages
from data.schema import Query, dump_json, load_examples, load_queries, load_tools, read_jsonl
from data.tasks import IGNORE_INDEX, EncodeChat, Row, rows_for_stage

EDGES = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
NO_LIMIT = 1 << 30


def load(path: Path) -> tuple[str, list[Any]]:
    """The kind of a file ("tools", "examples" or "queries"), told by its first record, and its records.

    Raises:
        FileNotFoundError, ValueError: no such file, an empty one, or a line that is no record of that kind.
    """
    first = next((row for _, row in read_jsonl(path)), None)
    if first is None:
        raise ValueError(f"{path}: no record in it; expected tools, examples or queries, one per line")
    kind = "examples" if "calls" in first else "queries" if "query" in first else "tools"
    return kind, {"tools": load_tools, "examples": load_examples, "queries": load_queries}[kind](path)


def contents(kind: str, records: list[Any]) -> dict[str, Any]:
    """What can be counted without a tokenizer."""
    report: dict[str, Any] = {"kind": kind, "rows": len(records)}
    if kind != "tools":
        report["repeated_queries"] = len(records) - len({folded(record.query) for record in records})
    tools = records if kind == "tools" else [tool for record in records for tool in getattr(record, "tools", ())]
    if tools:
        report["tools"] = len(tools)
        report["repeated_tools"] = len(tools) - len({tool_signature(tool) for tool in tools})
        report["tools_without_description"] = sum(not tool.description.strip() for tool in tools)
        report["arguments_per_tool"] = _counts(len(tool.parameters["properties"]) for tool in tools)
        report["types"] = dict(Counter(word for tool in tools for word in _types(tool.parameters)).most_common())
    if kind == "examples":
        report["calls_per_example"] = _counts(len(record.calls) for record in records)
        report["tools_per_example"] = _counts(len(record.tools) for record in records)
        report["sources"] = dict(Counter(record.source or "not given" for record in records).most_common())
        report["licenses"] = dict(Counter(record.license or "not given" for record in records).most_common())
    return report


def _counts(numbers: Iterable[int]) -> dict[str, int]:
    return {str(number): count for number, count in sorted(Counter(numbers).items())}


def _types(schema: Any) -> Iterable[str]:
    """The type words of a schema's arguments, those of nested ones too."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    for inner in [*(properties or {}).values(),
                  *([schema["items"]] if isinstance(schema, dict) and "items" in schema else [])]:
        if isinstance(inner, dict):
            word = inner.get("type", "none")
            yield word if isinstance(word, str) else json.dumps(word)
            yield from _types(inner)


def tokens(kind: str, records: list[Any], tokenizer: Any, encode_chat: EncodeChat, *, max_length: int,
           pack_tokens: int) -> dict[str, Any]:
    """Lengths in tokens per objective, supervised share, rows over the maximum, and packing efficiency."""
    if kind == "queries":
        rows = [_prompt_row(record, tokenizer, encode_chat) for record in records]
        refused = []
    else:
        rows, refused = rows_for_stage("adaption" if kind == "tools" else "joint", records, tokenizer, encode_chat,
                                       NO_LIMIT)
    report: dict[str, Any] = {"max_length": max_length, "refused": dict(Counter(row.reason for row in refused))}
    for objective in sorted({row.objective for row in rows}):
        report[objective] = _lengths([row for row in rows if row.objective == objective], max_length)
    fitting = [len(row.ids) for row in rows if len(row.ids) <= max_length]
    if fitting:
        report["packing"] = _packing(fitting, pack_tokens)
    return report


def _packing(lengths: list[int], capacity: int) -> dict[str, Any]:
    """How many packs, and how many batches of padded rows, of `capacity` tokens the rows fill, and to what share."""
    from data.batching import bins, padded_groups  # needs torch

    capacity = max(capacity, *lengths)
    packs, batches = (len(group(lengths, capacity, len(lengths))) for group in (bins, padded_groups))
    return {"tokens_per_pack": capacity, "packs": packs, "packed": round(sum(lengths) / (packs * capacity), 4),
            "padded_batches": batches, "padded": round(sum(lengths) / (batches * capacity), 4)}


def _prompt_row(query: Query, tokenizer: Any, encode_chat: EncodeChat) -> Row:
    """The prompt that a round of self-evolution makes of a query; its answer is not known, so it is empty."""
    ids, _ = encode_chat([*generation_messages(query.query), {"role": "assistant", "content": ""}], tokenizer)
    return Row(query.id, "generation prompt", ids, [IGNORE_INDEX] * len(ids))


def _lengths(rows: list[Row], max_length: int) -> dict[str, Any]:
    lengths = sorted(len(row.ids) for row in rows)
    total, supervised = sum(lengths), sum(label != IGNORE_INDEX for row in rows for label in row.labels)
    edges = ([edge for edge in EDGES if edge < lengths[-1]]
             + [next((edge for edge in EDGES if edge >= lengths[-1]), lengths[-1])])
    histogram = {f"<= {edge}": sum(low < length <= edge for length in lengths)
                 for low, edge in zip([0, *edges], edges, strict=False)}
    return {"rows": len(rows), "tokens": total, "supervised_share": round(supervised / total, 4),
            "shortest": lengths[0], "median": lengths[len(lengths) // 2],
            "p95": lengths[int(0.95 * (len(lengths) - 1))],
            "longest": lengths[-1], "over_max_length": sum(length > max_length for length in lengths),
            "histogram": histogram}


def render(report: dict[str, Any]) -> str:
    """The report as text: a line per figure, a bar per bin of a histogram."""
    lines = []
    for key, value in report.items():
        if isinstance(value, dict) and "histogram" in value:
            figures = ", ".join(f"{name.replace('_', ' ')} {number:,}"
                                for name, number in value.items() if name != "histogram")
            lines.append(f"{key}: {figures}")
            most = max(value["histogram"].values())
            lines += [f"  {edge:>9} {count:>9,} {'#' * round(40 * count / most)}"
                      for edge, count in value["histogram"].items()]
        elif isinstance(value, dict):
            lines.append(f"{key.replace('_', ' ')}: "
                         + (", ".join(f"{name} {number:,}" for name, number in value.items()) or "none"))
        else:
            lines.append(f"{key.replace('_', ' ')}: {value:,}" if isinstance(value, int) else f"{key}: {value}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="F", help="a file of tools, examples or queries")
    parser.add_argument("--model", type=Path, metavar="DIR",
                        help="a folder with a tokenizer; without it nothing is said about tokens")
    parser.add_argument("--max-length", type=int, default=4096,
                        help="longest row that training takes, in tokens (default: %(default)s)")
    parser.add_argument("--pack-tokens", type=int, help="tokens of one pack (default: --max-length)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    for name in ("max_length", "pack_tokens"):
        if (number := getattr(args, name)) is not None and number < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {number}; expected 1 or more tokens")
    kind, records = load(args.file)
    report = contents(kind, records)
    if args.model is not None:
        from model.chat import encode_chat  # here, not above: the data folder itself needs no model
        from model.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(args.model)
        for note in tokenizer.notes:
            print(f"{args.model}: {note}", file=sys.stderr)
        report |= tokens(kind, records, tokenizer, encode_chat, max_length=args.max_length,
                         pack_tokens=args.pack_tokens or args.max_length)
    print(dump_json(report, indent=2) if args.json else render(report))
    return 0
