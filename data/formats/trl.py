"""A prompt and its answer in columns of their own: TRL's prompt and completion, preferences, prompt and response.

Of a preference the chosen answer is read, the rejected one counted. Words under `answer` may be the solution that calls
lead to, rather than a reply: they do not tell that no tool fits. The messages of the prompt are context: nobody is
trained on what the assistant says there, so only the answer can be a label.
"""

from collections.abc import Iterator
from typing import Any

from data.formats.conversation import after, answered, as_messages, column_of, earlier, messages_of
from data.formats.items import Context, Format, Item, LeftOut, RowError, Sample, need_list, unanswered
from data.formats.spelled import calls_in

_PROMPTS = ("prompt", "question", "query", "instruction", "user", "input")
_ANSWERS = ("chosen", "completion", "response", "answer", "output", "assistant", "chosen_response")
_REJECTED = ("rejected", "rejected_response")


def read(row: Any, context: Context) -> Iterator[Item]:
    column, answer = _prompt_column(row), next((key for key in _ANSWERS if _filled(row, key)), None)
    if column is None and answer is None:
        why = f"none of the columns {', '.join(_PROMPTS)}; the row has {sorted(map(str, row))[:8]}"
        raise RowError("no_query", why, stage="query")
    prompt = _messages(row.get(column), "user") if column else []
    if column == "instruction" and isinstance(row.get("input"), str) and row["input"].strip():
        prompt[-1] = {"role": "user", "content": f"{row['instruction']}\n{row['input']}"}
    if isinstance(row.get("system"), str):
        prompt = [{"role": "system", "content": row["system"]}, *prompt]
    if answer is None:
        prompt = [{**message, "weight": 0} if isinstance(message, dict) else message for message in prompt]
    said = _messages(row.get(answer), "assistant") if answer else []
    refused = [message for key in _REJECTED if _filled(row, key) for message in _messages(row.get(key), "assistant")]
    yield LeftOut("rejected_answer", int(bool(refused)))
    asks = any(role in ("user", "human") for role in _roles(said))
    if asks:
        shared = _shared(said, prompt if column else refused)
        prompt, said = said[:shared], said[shared:]
    elif not column:
        raise RowError("no_query", f"`{answer}` has no prompt beside it", stage="query")
    solution = answer == "answer" and isinstance(row[answer], str) and as_messages(row[answer]) is None
    for item in answered(row, after(earlier(row), prompt), said, context, listed=True):
        if solution and isinstance(item, Sample) and not item.calls:
            yield from unanswered("final_answer", item.query, item.tools, item.part)
        else:
            yield item


def _filled(row: Any, key: str) -> bool:
    return bool(dict.get(row, key)) and isinstance(dict.get(row, key), (str, list, dict))


def _prompt_column(row: Any) -> str | None:
    return next((key for key in _PROMPTS if _filled(row, key)), column_of(row))


def _messages(value: Any, role: str) -> list[Any]:
    """Messages as they are; a text, or calls by themselves, as one message of the role."""
    messages = as_messages(value)
    if messages is None and not isinstance(value, str) and calls_in(value):
        return [{"role": role, "content": "", "tool_calls": value}]
    if messages is None and isinstance(value, (str, dict)):
        return [{"role": role, "content": value}]
    return list(need_list(value, "the answer", "query") if messages is None else messages)


def _roles(messages: list[Any]) -> list[str]:
    return [str(message.get("from", message.get("role"))).lower() for message in messages if isinstance(message, dict)]


def _shared(said: list[Any], other: list[Any]) -> int:
    """How many messages stand before the answer in its column: those that the prompt, or the rejected one, has too."""
    plain = [[(role, message.get("value", message.get("content"))) for message in messages if isinstance(message, dict)
              for role in _roles([message])] for messages in (said, other)]
    pairs = list(zip(*plain, strict=False))
    shared = next((at for at, (one, two) in enumerate(pairs) if one != two), len(pairs))
    return shared if shared < len(said) else 0


def looks_like(row: Any) -> bool:
    """A prompt and an answer, with tools or with messages for one of them; or a chosen answer beside a rejected one."""
    if not isinstance(row, dict):
        return False
    answer = next((key for key in _ANSWERS if _filled(row, key)), None)
    prompt = _prompt_column(row)
    if answer is None:                      # of a prompt by itself, for learning from rewards
        return "tools" in row and prompt not in (None, column_of(row)) and as_messages(row[prompt]) is not None
    if prompt is None:
        return as_messages(row[answer]) is not None and any(_filled(row, key) for key in _REJECTED)
    if prompt == column_of(row):
        return answer.startswith("chosen") or _roles(messages_of(row))[-1:] in (["user"], ["human"])
    return "tools" in row or "functions" in row or any(as_messages(row[key]) is not None for key in (prompt, answer))


FORMAT = Format("trl", "a prompt and its answer in columns: prompt and completion, preferences, prompt and response",
                read, looks_like)
