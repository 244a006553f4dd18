"""`tooldev.py find`: the tools of a pool that fit a query, without a model; and what `call --retrieve` offers.

    python tooldev.py find "What is the weather in Oslo? Book a hotel there." --tools pool.jsonl -k 8
    python tooldev.py find "..." --tools pool.jsonl --index pool.index --json     # the index is kept for the next time
"""

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

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MISSES = 8                          # so many tools in a row without room: the context is taken as full


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
    check_query(args.query)
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
        print(f"{one.score:.2f}  {shown(one.tool.name)}  {shown(' '.join(one.tool.description.split())[:100])}")
    if not found:
        print(f"no tool of {len(index.tools):,} shares a word with the query; ask in the words of the tools' "
              "documents", file=sys.stderr)
    return 0 if found else 1


def check_query(query: str) -> None:
    """ValueError for an empty query, or one that is no UTF-8."""
    if not query.strip():
        raise ValueError("the query is empty; put what the user asks for in quotes")
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the query is not valid UTF-8 (character {error.start + 1}); check the terminal's encoding"
                         ) from None


def shown(text: str) -> str:
    """A tool's text for a terminal: control characters, which could move the cursor or the order of signs, escaped."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


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
    """The tools to offer, best first, and what to say of those left out: a name again, or no room in the prompt.

    A tool that does not fit is passed over, and a worse, shorter one may fit; after MISSES in a row none is tried.
    """
    tools: list[Tool] = []
    left = [f"{shown(name)} (a better one has this name)" for name in dict.fromkeys(one.tool.name for one in again)]
    missed = 0
    for number, one in enumerate(found, start=1):
        if fits([*tools, one.tool]):
            tools.append(one.tool)
            missed = 0
            continue
        left.append(f"{shown(one.tool.name)} (no room in the model's context)")
        missed += 1
        if missed == MISSES and number < len(found):
            left.append(f"the {len(found) - number:,} after it (the context is full)")
            break
    return tools, left
