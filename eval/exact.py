"""Exact match on labelled examples: greedy answers, compared with the labels as the vote compares answers.

For data whose right answer is one list of calls: the generated world's test items, or a user's own labelled rows. An
answer is `right`, `wrong`, `undecodable` (no calls could be read) or `wrote_tools_instead` (a definition where a call
was asked for, paper section 4.5). Raw answers are kept beside the verdicts, scores carry 95% intervals. BFCL's looser
match is eval/bfcl/checker.py.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data.canonical import canonical_answer
from data.decoding import never_sampled
from data.files import write_json, write_jsonl
from data.parse import Reason, parse_calls
from data.prompts import PAPER_PROMPT, invocation_messages
from data.schema import Example, read_json, read_jsonl
from eval.uncertainty import proportion

OUTCOMES = ("right", "wrong", "undecodable", "wrote_tools_instead")


def judge(item: Example, text: str, finish_reason: str) -> tuple[str, str]:
    """(outcome, reason): reason is empty for right and wrong answers."""
    if finish_reason != "stop":
        return "undecodable", "prompt_too_long" if finish_reason == "refused" else "cut_off"
    calls = parse_calls(text)
    if isinstance(calls, Reason):
        return ("wrote_tools_instead" if calls.code == "wrote_tools_instead" else "undecodable"), calls.code
    same = canonical_answer(calls, item.tools) == canonical_answer(item.calls, item.tools)
    return ("right" if same else "wrong"), ""


def answer(items: Sequence[Example], model: Any, tokenizer: Any, generate: Callable[..., Any],
           render: Callable[..., Any], *, max_new_tokens: int, prompt: str = PAPER_PROMPT) -> list[dict]:
    """Greedy answers, one record per item in order: id, text, finish_reason, tokens, logprob."""
    prompts = [render(invocation_messages(item.query, item.tools, prompt), tokenizer)[0] for item in items]
    drawn = generate(model, prompts, num_samples=1, max_new_tokens=max_new_tokens, temperature=0.0, top_k=0, seed=0,
                     eos_ids=tokenizer.eos_ids, vocab_size=tokenizer.vocab_size, banned_ids=never_sampled(tokenizer))
    return [{"id": item.id, "text": tokenizer.decode(one.ids), "finish_reason": one.finish_reason,
             "tokens": len(one.ids), "logprob": round(one.logprob, 6)}
            for item, (one,) in zip(items, drawn, strict=True)]


def score(items: Sequence[Example], answers: Sequence[dict]) -> tuple[list[dict], dict]:
    """(verdicts, summary) of answers in the order of the items."""
    verdicts = []
    for item, record in zip(items, answers, strict=True):
        assert item.id == record["id"], f"answer of {record['id']} beside item {item.id}"
        outcome, reason = judge(item, record["text"], record["finish_reason"])
        called = outcome in ("right", "wrong") and parse_calls(record["text"]) != []
        verdicts.append({"id": item.id, "set": test_set(item), "category": category(item), "outcome": outcome,
                         "reason": reason, "called": called})
    return verdicts, summarise(verdicts)


def test_set(item: Example) -> str:
    """Which part of the test an item belongs to: the group of its domain in the generated world, else "test"."""
    return item.id.split("-")[0] if (item.source or "").startswith("world/") else "test"


def category(item: Example) -> str:
    """The world's own word, else by the number of calls and tools as BFCL names them."""
    if (item.source or "").startswith("world/"):
        return item.source.rsplit("/", 1)[1]
    if not item.calls:
        return "irrelevance"
    several = len({call.name for call in item.calls}) > 1
    if len(item.calls) > 1:
        return "parallel_multiple" if several or len(item.tools) > 1 else "parallel"
    return "multiple" if len(item.tools) > 1 else "simple"


def summarise(verdicts: Sequence[dict]) -> dict:
    """Counts and shares with 95% intervals: in all, by part of the test, by category; calls made where none fits."""
    irrelevant = [v for v in verdicts if v["category"] == "irrelevance"]
    return {
        "items": len(verdicts),
        "outcomes": {name: sum(v["outcome"] == name for v in verdicts) for name in OUTCOMES},
        "reasons": dict(sorted(Counter(v["reason"] for v in verdicts if v["reason"]).items())),
        "all": _share(verdicts),
        "sets": _shares(verdicts, "set"),
        "categories": _shares(verdicts, "category"),
        "called_when_no_tool_fits": proportion(sum(v["called"] for v in irrelevant), len(irrelevant)).to_dict()
        | {"items": len(irrelevant)},
    }


def _shares(verdicts: Sequence[dict], key: str) -> dict[str, dict]:
    return {name: _share([v for v in verdicts if v[key] == name]) for name in dict.fromkeys(v[key] for v in verdicts)}


def _share(verdicts: Sequence[dict]) -> dict:
    right = sum(v["outcome"] == "right" for v in verdicts)
    return proportion(right, len(verdicts)).to_dict() | {"right": right, "items": len(verdicts)}


def evaluate(items: Sequence[Example], model: Any, tokenizer: Any, generate: Callable[..., Any],
             render: Callable[..., Any], folder: str | Path, *, max_new_tokens: int,
             prompt: str = PAPER_PROMPT) -> dict:
    """Answer and score the items -> the summary; `folder` keeps answers.jsonl, verdicts.jsonl and summary.json (last).

    Where summary.json is there already the work is done: it is read, not repeated. `generate` is the sampler's,
    `render` model.chat's: they are handed in, so that verdicts are read and scored without torch.
    """
    folder = Path(folder)
    if (folder / "summary.json").is_file():
        return read_json(folder / "summary.json")
    folder.mkdir(parents=True, exist_ok=True)
    answers = answer(items, model, tokenizer, generate, render, max_new_tokens=max_new_tokens, prompt=prompt)
    verdicts, summary = score(items, answers)
    write_jsonl(folder / "answers.jsonl", answers)
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    write_json(folder / "summary.json", summary)
    return summary


def verdicts_of(folder: str | Path) -> list[dict]:
    """The verdicts kept by `evaluate`, in the order of the items."""
    return [record for _, record in read_jsonl(Path(folder) / "verdicts.jsonl")]
