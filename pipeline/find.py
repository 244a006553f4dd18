"""`tooldev.py find`: the tools of a pool that fit a query, without a model; and what `call --retrieve` offers.

    python tooldev.py find "What is the weather in Oslo? Book a hotel there." --tools pool.jsonl -k 8
    python tooldev.py find "..." --tools pool.jsonl --index pool.index --json     # the index is kept for the next time
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence

from data.parse import Reason, parse_tools
from data.pool import open_pool
from data.retrieval import Found, ToolIndex, tool_text
from data.schema import Tool, dump_json
from pipeline.inputs import flag, print_json

_WRITTEN = re.compile(r'"(?:name|description)"\s*:\s*"((?:[^"\\]|\\.)*)')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", help="what the user asks for, in quotes; sentences are searched one by one, too")
    parser.add_argument("--tools", required=True, default=argparse.SUPPRESS, metavar="POOL",
                        help="JSON Lines of tools; `group` (server, API family) is searched where a tool has it")
    parser.add_argument("-k", type=int, default=8, help="how many tools at most")
    parser.add_argument("--json", action="store_true", help="print JSON: score, sentence and tool of each")
    add_index(parser)


def add_index(parser: argparse.ArgumentParser) -> None:
    """The flag of the folder that keeps an index."""
    flag(parser, "index", None, "keep the pool's index in this folder, and use it while the pool is the same",
         metavar="DIR")


def main(args: argparse.Namespace) -> int:
    """Print what was found; exit code 1 if nothing was."""
    if not args.query.strip():
        raise ValueError("the query is empty; put what the user asks for in quotes")
    if args.k < 1:
        raise ValueError(f"-k {args.k}: expected 1 or more")
    index = opened(args.tools, args.index)
    found, again = distinct(index, args.query, args.k, key=lambda tool: dump_json(tool.to_document()))
    if again:
        print(f"left out, the same tool again: {len(again):,}", file=sys.stderr)
    if args.json:
        print_json([{"score": round(one.score, 4), "sentence": one.part, "tool": one.tool.to_dict(),
                     **({"group": one.tool.group} if one.tool.group else {})} for one in found])
    for one in () if args.json else found:
        print(f"{one.score:.2f}  {one.tool.name}  {' '.join(one.tool.description.split())[:100]}")
    if not found:
        print(f"no tool of {len(index.tools):,} shares a word with the query; ask in the words of the tools' "
              "documents", file=sys.stderr)
    return 0 if found else 1


def opened(path: str, folder: str | None) -> ToolIndex:
    """The index of a pool, and a line on stderr where one was kept."""
    index, how = open_pool(path, folder)
    if folder is not None:
        print(f"index of {len(index.tools):,} tools: {how} ({folder})", file=sys.stderr, flush=True)
    return index


def written_text(text: str) -> str:
    """What is searched of tools that a model wrote: all of them where they parse, else each name and description."""
    tools = parse_tools(text)
    if isinstance(tools, Reason):
        return "\n".join(_WRITTEN.findall(text))
    try:
        return "\n".join(tool_text(Tool.from_dict(tool)) for tool in tools)
    except ValueError:
        return "\n".join(_WRITTEN.findall(text))


def distinct(index: ToolIndex, query: str, k: int, made: Sequence[str] = (), *, key: Callable[[Tool], str]
             ) -> tuple[list[Found], list[Found]]:
    """The k best tools that differ in `key`, and the worse ones passed over for it: copies crowd nothing out."""
    depth = k
    while True:
        found, firsts, again = index.search(query, depth, made), {}, []
        for one in found:
            if len(firsts) == k:
                break
            if firsts.setdefault(key(one.tool), one) is not one:
                again.append(one)
        if len(firsts) == k or len(found) < depth:
            return list(firsts.values()), again
        depth *= 2


def offered(found: Sequence[Found], again: Sequence[Found], fits: Callable[[Sequence[Tool]], bool]
            ) -> tuple[list[Tool], list[str]]:
    """The tools to offer, best first, and a line for each that is left out: a name again, or no room in the prompt."""
    tools: list[Tool] = []
    left = [f"{name} (a better one has this name)" for name in dict.fromkeys(one.tool.name for one in again)]
    for one in found:
        if fits([*tools, one.tool]):
            tools.append(one.tool)
        else:
            left.append(f"{one.tool.name} (no room in the model's context)")
    return tools, left
