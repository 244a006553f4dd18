"""`tooldev.py convert --to`: labelled or accepted examples in the layouts that other trainers read.

Every row is read back by this project's own reader before it is written: one whose query, tools or calls would come
back otherwise (a description that spells the layout's own tags, say) goes to rejected.jsonl with what would change.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from data.files import aside, claim, made
from data.formats.items import Context, RowError, Sample, read_call
from data.formats.registry import FORMATS
from data.formats.tooldocs import read_tool
from data.prompts import NO_CALL_TEXT, calls_answer, invocation_messages, pieces_text
from data.schema import Example, dump_json, read_jsonl

Row = dict[str, Any]


def openai(example: Example) -> Row:
    """Chat messages with `tools` and `tool_calls`, arguments as JSON text: what OpenAI's fine-tuning and TRL read."""
    calls = [{"id": f"call_{n}", "type": "function", "function": {"name": call.name,
                                                                  "arguments": dump_json(call.arguments)}}
             for n, call in enumerate(example.calls)]
    answer = {"role": "assistant", "tool_calls": calls} if calls else {"role": "assistant", "content": NO_CALL_TEXT}
    return {"messages": [{"role": "user", "content": example.query}, answer],
            "tools": [tool.to_function() for tool in example.tools]}


def sharegpt(example: Example) -> Row:
    """`conversations` with a function_call turn and `tools` as JSON text: what LLaMA-Factory reads."""
    calls = [call.to_dict() for call in example.calls]
    value = dump_json(calls[0] if len(calls) == 1 else calls)
    answer = {"from": "function_call", "value": value} if calls else {"from": "gpt", "value": NO_CALL_TEXT}
    return {"conversations": [{"from": "human", "value": example.query}, answer],
            "tools": dump_json([tool.to_function()["function"] for tool in example.tools]), **origin(example)}


def hermes(example: Example) -> Row:
    """`conversations` with the tools in the system text and tagged calls in the reply, worded as the paper's Fig. 5."""
    system, user = invocation_messages(example.query, example.tools)
    return {"conversations": [{"from": "system", "value": pieces_text(system["content"])},
                              {"from": "human", "value": user["content"]},
                              {"from": "gpt", "value": pieces_text(calls_answer(example.calls))}], **origin(example)}


LAYOUTS: dict[str, Callable[[Example], Row]] = {"openai": openai, "sharegpt": sharegpt, "hermes": hermes}


def origin(example: Example) -> Row:
    """Where the example is from, as columns that a trainer passes over. OpenAI's own layout takes none."""
    known = {"id": example.id, "source": example.source, "license": example.license}
    return {key: value for key, value in known.items() if value is not None}


def changed(example: Example, layout: str) -> str:
    """What would come back otherwise from the example's row: "query", "tools" or "calls"; "" where nothing would.

    Tools are compared as the reader of tool documents takes both; what a tool returns is not part of every layout.
    """
    row = json.loads(dump_json(LAYOUTS[layout](example)))
    try:
        samples = [item for item in FORMATS[layout].read(row, Context()) if isinstance(item, Sample)]
        if len(samples) != 1 or samples[0].query != example.query:
            return "query"
        if [shape(raw) for raw in samples[0].tools] != [shape(tool.to_dict()) for tool in example.tools]:
            return "tools"
        calls = [read_call(raw) for raw in samples[0].calls]
    except RowError as error:
        return error.stage
    return "" if dump_json(calls) == dump_json([call.to_dict() for call in example.calls]) else "calls"


def shape(tool: Any) -> str:
    """A tool document as its reader takes it, less what it returns."""
    return dump_json({**read_tool(tool).record, "results": None})


def write_layout(inputs: list[Path], out: Path, layout: str, *, overwrite: bool = False) -> dict[str, Any]:
    """Write OUT/LAYOUT.jsonl, rejected.jsonl and the manifest, which is returned.

    Args:
        inputs: files of examples, as convert and a round write them; the folder of a run stands for all its rounds.

    Raises:
        FileNotFoundError, ValueError: no such file; a row that is no example; `out` holds what this command did not
            make, unless `overwrite` says so.
    """
    files = [file for path in inputs for file in examples_of(path)]
    names = (f"{layout}.jsonl", "rejected.jsonl")
    claimed = claim(out, "tooldev.py convert", inputs=[(str(path), path) for path in files], writes=names,
                    settings={"to": layout}, overwrite=overwrite)
    counts, licenses = Counter[str](), set()
    out.mkdir(parents=True, exist_ok=True)
    with claimed:
        with ExitStack() as stack:
            written, rejected = (stack.enter_context(aside(out / name)) for name in names)
            for example in examples_in(files):
                fault = changed(example, layout)
                counts["rejected" if fault else "rows"] += 1
                counts["tools that say what they return, which the layout does not"] += (
                    0 if layout == "hermes" else sum(tool.results is not None for tool in example.tools))
                licenses |= {example.license} - {None}
                line = LAYOUTS[layout](example) if not fault else rejection(example, layout, fault)
                (rejected if fault else written).write((dump_json(line) + "\n").encode("utf-8"))
        return claimed.finish(made(out, names), **{key: counts[key] for key in ("rows", "rejected")},
                              left_out={key: n for key, n in counts.items() if n and key not in ("rows", "rejected")},
                              licenses=sorted(licenses))


def rejection(example: Example, layout: str, fault: str) -> Row:
    """The line of an example that the layout cannot keep."""
    return {"id": example.id, "stage": "layout", "reason": f"{fault}_would_change",
            "detail": f"written as {layout} and read back, its {fault} would be another", "text": example.query}


def examples_of(path: Path) -> list[Path]:
    """A file itself; of a run's folder what its rounds accepted."""
    if not path.is_dir():
        return [path]
    rounds = sorted(path.glob("round-*/accepted.jsonl"), key=lambda file: (len(file.parent.name), file.parent.name))
    if not rounds:
        raise FileNotFoundError(f"{path}: no round-N/accepted.jsonl in it; --to takes files of examples, or the folder "
                                "of a run")
    return rounds


def examples_in(files: Iterable[Path]) -> Iterator[Example]:
    """The examples of files, one at a time."""
    for path in files:
        for number, row in read_jsonl(path):
            try:
                yield Example.from_dict(row)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}; --to takes examples, as `convert` without --to and "
                                 "the rounds of a run write them") from None


def summary_of(manifest: dict[str, Any], out: Path, layout: str) -> str:
    """What was written, in a few lines."""
    lines = [f"{out / layout}.jsonl: {manifest['rows']:,} rows, each read back alike by the {layout} reader"]
    if manifest["rejected"]:
        lines.append(f"{out / 'rejected.jsonl'}: {manifest['rejected']:,} that would have come back otherwise")
    lines += [f"left out: {what}: {n:,}" for what, n in manifest["left_out"].items()]
    if manifest["licenses"]:
        lines.append(f"licences named in the examples: {', '.join(manifest['licenses'])}")
    return "\n".join(lines)
