"""Where the rows of a run come from: a file for the stage, chat rows for pre-training, or the generated tool world."""

import hashlib
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from data.augment import Recipe
from data.prompts import NO_CALL_TEXT, PAPER_PROMPT
from data.schema import load_examples, load_tools, read_jsonl
from data.tasks import IGNORE_INDEX, PAPER, EncodeChat, Row, rows_for_stage
from data.world import training_data
from model import Tokenizer
from model.chat import encode_chat

Say = Callable[[str], None]
# Share of rows without a call above which a warning is due: with 36% a model of 494M weights called no more
# (docs/log/training.md); Hammer's best was 10% (arXiv 2410.04587).
MOST_SILENCE = 0.25


def load_rows(stage: str, path: str, tokenizer: Tokenizer, *, max_length: int, train_on: str = "last",
              too_long: str = "refuse", seed: int = 0, say: Say = print, only_called: bool = False,
              recipe: Recipe = PAPER, prompt: str = PAPER_PROMPT) -> list[Row]:
    """Rows of `stage` from the JSONL file `path`; without a path, the generated tool world's.

    Args:
        max_length: longest row in tokens. `too_long` "refuse" leaves a longer one out; "truncate" cuts its end off
            where supervised tokens remain. Both are counted and said.
        only_called: see `data.tasks.generation_row`. recipe: see `data.augment`. prompt: see `data.prompts`.
        train_on: pretrain only: supervise the "last" assistant turn, every one ("assistant"), or "all" tokens.

    Raises:
        ValueError: a line of the file is not what the stage needs, or no row is left.
    """
    encode_to = max_length if too_long == "refuse" else 2**31
    if stage == "pretrain":
        if not path:
            raise ValueError('--stage pretrain needs --data: JSONL of {"messages": [...]} or {"text": ...}')
        rows, reasons = pretrain_rows(path, tokenizer, encode_chat, train_on)
    else:
        found = _stage_data(stage, path, seed, say)
        rows, refused = rows_for_stage(stage, found, tokenizer, encode_chat, encode_to, only_called, recipe, prompt)
        reasons = Counter(item.reason for item in refused)
    rows, length_reasons = fit(rows, max_length, too_long)
    reasons += length_reasons
    if reasons:
        counted = ", ".join(f"{name} {n:,}" for name, n in sorted(reasons.items()))
        say(f"{len(rows):,} rows; left out or cut: {counted}")
    if note := silence_note(rows, tokenizer):
        say(note)
    if not rows:
        raise ValueError(f"{path or 'the tool world'}: no row left to train on ({dict(reasons)}); "
                         "raise --max-length or check the file with tooldev.py check")
    return rows


def silence_note(rows: Iterable[Row], tokenizer: Tokenizer) -> str:
    """How many of the rows that may call have the no-call sentence for an answer; "" where none has."""
    answered = [[label for label in row.labels if label != IGNORE_INDEX] for row in rows
                if row.objective == "invocation"]
    silence = [{"role": "user", "content": ""}, {"role": "assistant", "content": NO_CALL_TEXT}]
    sentence = [label for label in encode_chat(silence, tokenizer)[1] if label != IGNORE_INDEX] if answered else []
    count = sum(answer == sentence for answer in answered)
    if not count:
        return ""
    note = f"{count:,} of {len(answered):,} invocation rows ({count / len(answered):.0%}) call no tool"
    return note if count <= MOST_SILENCE * len(answered) else (
        f"{note}: so many can teach a model to call none; lower --irrelevance, or raise --max-length where that leaves "
        "calls out")


def _stage_data(stage: str, path: str, seed: int, say: Say) -> Sequence:
    if path:
        return (load_tools if stage == "adaption" else load_examples)(path)
    say("no --data: training on the generated tool world")
    return training_data(seed)["tools" if stage == "adaption" else "examples"]


def fit(rows: Iterable[Row], max_length: int, too_long: str) -> tuple[list[Row], Counter]:
    """Rows within `max_length`, and how many were refused or truncated. Truncation keeps the start of a row."""
    kept, reasons = [], Counter()
    for row in rows:
        if len(row.ids) > max_length:
            cut = Row(row.id, row.objective, row.ids[:max_length], row.labels[:max_length])
            if too_long == "refuse":
                reasons["over_max_length"] += 1
                continue
            if not any(label != IGNORE_INDEX for label in cut.labels[1:]):
                reasons["nothing_supervised_after_truncation"] += 1
                continue
            reasons["truncated"] += 1
            row = cut
        kept.append(row)
    return kept, reasons


def pretrain_rows(path: str, tokenizer: Tokenizer, encode_chat: EncodeChat,
                  train_on: str) -> tuple[list[Row], Counter]:
    """Rows from chat records {"messages"} and plain documents {"text"} (every token supervised, an end token added)."""
    rows, reasons = [], Counter()
    for number, record in read_jsonl(path):
        if isinstance(record.get("messages"), list):
            try:
                ids, labels = chat_labels(record["messages"], tokenizer, encode_chat, train_on)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: {error}; expected messages of role and content") from error
        elif isinstance(record.get("text"), str):
            ids = tokenizer.encode(record["text"]) + list(tokenizer.eos_ids[:1])
            labels = ids
        else:
            raise ValueError(f'{path}, line {number}: expected "messages" or "text", found {sorted(record)}')
        if any(label != IGNORE_INDEX for label in labels[1:]):
            name = str(record.get("id", number))
            rows.append(Row(name, "text", array("i", ids), array("i", labels)))         # 8 bytes a token
        else:
            reasons["nothing_supervised"] += 1
    return rows, reasons


def chat_labels(messages: list[dict], tokenizer: Tokenizer, encode_chat: EncodeChat,
                train_on: str) -> tuple[list[int], list[int]]:
    """Ids of a conversation, and labels for its last assistant turn, every assistant turn, or every token."""
    messages = [{**m, "content": m["content"] if isinstance(m["content"], str) else [tuple(p) for p in m["content"]]}
                for m in messages]
    ids, labels = encode_chat(messages, tokenizer)
    if train_on == "all":
        return ids, ids
    labels = list(labels)
    for end in range(1, len(messages)) if train_on == "assistant" else ():
        if messages[end - 1]["role"] == "assistant":
            for at, label in enumerate(encode_chat(messages[:end], tokenizer)[1]):
                if label != IGNORE_INDEX:
                    labels[at] = label
    return ids, labels


def fingerprint(rows: Sequence[Row]) -> str:
    """sha256 over all ids and labels: what a resumed run must find again."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(array("q", itertools.chain((len(row.ids),), row.ids, row.labels)).tobytes())
        digest.update(row.objective.encode())
    return digest.hexdigest()


def supervised_in(row: Row) -> int:
    """Number of supervised tokens of a row."""
    return sum(label != IGNORE_INDEX for label in row.labels[1:])
