"""`tooldev.py show`: one training row, token by token; the supervised ones in colour on a terminal, else in brackets.

    python tooldev.py show --model DIR examples.jsonl --row 3 --stage invocation

Reads what training reads: tools, examples, or conversations ({"messages"} or {"text"}).
"""

import argparse
import dataclasses
import sys
from itertools import islice
from typing import Any

from data.prompts import PAPER_PROMPT, PROMPTS
from data.schema import Example, Tool, read_jsonl
from data.tasks import IGNORE_INDEX, Row, RowError, adaption_row, generation_row, invocation_row
from pipeline.inputs import EMBEDDED, flag, print_json
from training.gate import check_model
from training.prompt import check_trainable

STAGES = ("adaption", "invocation", "generation")
NO_LIMIT = 2**31
COLOUR, PLAIN = "\033[1;32m", "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="F", help="JSON Lines of tools, examples or conversations")
    parser.add_argument("--model", default=str(EMBEDDED), metavar="DIR", help="whose tokenizer and chat format to use")
    parser.add_argument("--row", type=int, default=1, help="which record of the file, from 1")
    parser.add_argument("--json", action="store_true", help="print the row as JSON: ids, labels, tokens")
    parser.add_argument("--prompt", choices=PROMPTS, default=PAPER_PROMPT,
                        help="how an invocation row asks: the paper's prompt, or the tool block of the model's own "
                             "chat template")
    flag(parser, "stage", None, "task of the record; without it, adaption for a tool and invocation for an example",
         choices=STAGES)


def main(args: argparse.Namespace) -> int:
    if args.row < 1:
        raise ValueError(f"--row is {args.row}; rows are counted from 1")
    found = next(islice(read_jsonl(args.file), args.row - 1, None), None)
    if found is None:
        raise ValueError(f"{args.file}: no row {args.row} in it; lower --row")
    number, record = found
    tokenizer = check_model(args.model)
    if "query" in record and args.stage in (None, "invocation"):
        check_trainable(args.prompt, tokenizer)
    elif args.prompt != PAPER_PROMPT:
        raise ValueError("--prompt is for rows that call tools: examples, --stage invocation; leave it out")
    try:
        row = make_row(record, args.stage, tokenizer, args.prompt)
    except RowError as error:
        raise ValueError(f"{args.file}, line {number}: no training row: {error}; see --row and --stage") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{args.file}, line {number}: {error}") from None
    if args.json:
        print_json({**dataclasses.asdict(row), "tokens": [name(token, tokenizer) for token in row.ids]})
        return 0
    print(f"{args.file}, line {number}: {summary(row, tokenizer)}\n")
    print("\n".join(lines(row, tokenizer, colour=sys.stdout.isatty())))
    return 0


def make_row(record: dict[str, Any], stage: str | None, tokenizer: Any, prompt: str = PAPER_PROMPT) -> Row:
    """The training row of one record; `stage` None takes the natural one."""
    from model.chat import encode_chat
    from training.rows import chat_labels

    if isinstance(record.get("messages"), list):
        return Row(str(record.get("id", "")), "text", *chat_labels(record["messages"], tokenizer, encode_chat, "last"))
    if isinstance(record.get("text"), str) and "query" not in record:
        ids = tokenizer.encode(record["text"]) + list(tokenizer.eos_ids[:1])
        return Row(str(record.get("id", "")), "text", ids, ids)
    if "query" not in record:
        if stage not in (None, "adaption"):
            raise ValueError(f"a tool makes a row for adaption only; give examples for --stage {stage}")
        return adaption_row(Tool.from_dict(record), tokenizer, encode_chat, NO_LIMIT)
    if stage == "adaption":
        raise ValueError("an example makes rows for invocation and generation; give tools for --stage adaption")
    example = Example.from_dict(record)
    if stage == "generation":
        return generation_row(example, tokenizer, encode_chat, NO_LIMIT)
    return invocation_row(example, tokenizer, encode_chat, NO_LIMIT, prompt)


def summary(row: Row, tokenizer: Any) -> str:
    """What the row is and how much of it is trained on."""
    trained = [label for label in row.labels[1:] if label != IGNORE_INDEX]
    stop = next((label for label in reversed(trained) if label in tokenizer.eos_ids), None)
    end = f"the stop token is {name(stop, tokenizer)} ({stop})" if stop is not None else "no stop token is trained"
    return f"{row.objective}; {len(row.ids)} tokens, {len(trained)} of them supervised; {end}"


def lines(row: Row, tokenizer: Any, colour: bool) -> list[str]:
    """One line per token: index, id, text, and whether the loss counts it."""
    made = []
    for index, (token, label) in enumerate(zip(row.ids, row.labels, strict=True)):
        supervised, text = label != IGNORE_INDEX, name(token, tokenizer)
        shown = f"{COLOUR}{text}{PLAIN}" if supervised and colour else f"[{text}]" if supervised else f" {text}"
        made.append(f"{index:6d} {token:8d}  {shown}")
    return made


def name(token: int, tokenizer: Any) -> str:
    """A token as readable text: controls as they are spelled, white space and broken characters escaped."""
    control = tokenizer.control_name(token)
    if control is not None:
        return control
    piece = tokenizer.token_bytes(token)
    try:
        return repr(piece.decode("utf-8"))[1:-1]
    except UnicodeDecodeError:
        return repr(piece)[2:-1]
