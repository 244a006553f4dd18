"""Rendered conversations against the golden rows, and what training needs of them: labels, prefixes, no forgery."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import chat, load_tokenizer
from model.chat import IGNORE_INDEX
from tests.model_tiny import data_folder
from tests.model_tokenizers import chatml_folder, forged_texts, sentencepiece_folder
from tests.test_model_tokenizer import REAL, loaded

FILES = ["llama31", "llama32", "qwen25", "mistral_v03"]
FORGED = "lookalike_in_user"                        # the one row whose reference ids hold control tokens a user typed
SYSTEM_USER = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}]


def golden(file: str) -> list[dict]:
    lines = data_folder("models", "golden", f"{file}_chat.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def real(file: str, path):
    return loaded("llama31" if file == "llama32" else file, path)


@pytest.fixture(scope="module", params=["tiny chatml", "tiny sentencepiece"])
def tiny(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    return load_tokenizer(chatml_folder(folder) if request.param == "tiny chatml" else sentencepiece_folder(folder))


@pytest.fixture(scope="module", params=[*REAL, "tiny chatml", "tiny sentencepiece"])
def tokenizer(request, tmp_path_factory):
    return loaded(request.param, tmp_path_factory.mktemp("chat"))


@pytest.mark.parametrize("file", FILES)
def test_ids_and_text_equal_the_golden_rows(file, tmp_path):
    tokenizer, rows = real(file, tmp_path), golden(file)
    assert len(rows) == 14
    for row in rows:
        prompted = row["kwargs"]["add_generation_prompt"]
        ids, text = chat.render(row["messages"], tokenizer, prompted, tools=row["tools"] or ())
        expected = row.get("mistral_common_ids", row["ids"])
        official_text = row["text"] if row["ids"] == expected or row["name"] == FORGED else None
        if row["name"] != FORGED or file == "mistral_v03":      # Mistral's library encodes contents literally, as we do
            assert ids == expected, row["name"]
        if official_text is not None:                           # the hub's Mistral template differs from the library
            assert text == official_text, row["name"]


@pytest.mark.parametrize("file", FILES)
def test_the_forged_row_differs_from_the_reference_in_the_forged_tokens_only(file, tmp_path):
    tokenizer = real(file, tmp_path)
    (row,) = [row for row in golden(file) if row["name"] == FORGED]
    ids, _ = chat.render(row["messages"], tokenizer)
    controls = set(tokenizer._controls.values())
    harmless = [{"role": "user", "content": "Ignore"}]
    expected_controls = [token for token in chat.render(harmless, tokenizer)[0] if token in controls]
    assert [token for token in ids if token in controls] == expected_controls


@pytest.mark.parametrize("file", FILES)
def test_training_rows_equal_the_golden_rows_and_their_prompts(file, tmp_path):
    """Where an answer ends the row: the same ids in one pass, the answer and its stop token supervised, no more."""
    tokenizer, seen = real(file, tmp_path), 0
    for row in golden(file):
        if row["messages"][-1]["role"] != "assistant":
            continue
        seen, tools = seen + 1, row["tools"] or ()
        ids, labels = chat.encode_chat(row["messages"], tokenizer, tools=tools)
        assert ids == row.get("mistral_common_ids", row["ids"])
        prompt, _ = chat.render(row["messages"][:-1], tokenizer, tools=tools)
        assert ids[:len(prompt)] == prompt
        tail = ids[len(prompt):-1] if file == "qwen25" else ids[len(prompt):]      # Qwen's newline after the stop token
        assert tail[-1] in tokenizer.eos_ids
        assert labels == [IGNORE_INDEX] * len(prompt) + tail + ([IGNORE_INDEX] if file == "qwen25" else [])
    assert seen == 3


def test_the_mask_token_by_token(tmp_path):
    tokenizer = load_tokenizer(chatml_folder(tmp_path))
    answer = [("tag", "<tool_call>"), ("text", "\n{}\n"), ("tag", "</tool_call>")]
    messages = [*SYSTEM_USER, {"role": "assistant", "content": answer}]
    ids, labels = chat.encode_chat(messages, tokenizer)
    shown = "".join(tokenizer.decode([i]) or {v: k for k, v in tokenizer._controls.items()}[i] for i in ids)
    assert shown == ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello there<|im_end|>\n"
                     "<|im_start|>assistant\n<tool_call>\n{}\n</tool_call><|im_end|>\n")
    supervised = [i for i, label in zip(ids, labels) if label != IGNORE_INDEX]
    assert [label for label in labels if label != IGNORE_INDEX] == supervised
    assert supervised == [tokenizer.control_id("<tool_call>"), *tokenizer.encode("\n{}\n"),
                          tokenizer.control_id("</tool_call>"), tokenizer.control_id("<|im_end|>")]
    assert labels.index(supervised[0]) == len(chat.render(SYSTEM_USER, tokenizer)[0]) and labels[-1] == IGNORE_INDEX


CONTENT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["", "\n", " ", "\n\nx", " x ", "<|im_end|>", "[/INST]", "</s>", "<tool_call>", "<|eot_id|>"])


@settings(max_examples=80, deadline=None)
@given(system=CONTENT, query=CONTENT, first=CONTENT, answer=CONTENT)
def test_the_prompt_is_a_prefix_of_the_training_row(tokenizer, system, query, first, answer):
    messages = [{"role": "system", "content": system}, {"role": "user", "content": first},
                {"role": "assistant", "content": first}, {"role": "user", "content": query}]
    prompt, _ = chat.render(messages, tokenizer)
    ids, labels = chat.encode_chat([*messages, {"role": "assistant", "content": answer}], tokenizer)
    assert ids[:len(prompt)] == prompt
    assert labels[:len(prompt)] == [IGNORE_INDEX] * len(prompt)
    rest = [label for label in labels[len(prompt):] if label != IGNORE_INDEX]
    assert rest and rest[-1] in tokenizer.eos_ids and ids[len(prompt):len(prompt) + len(rest)] == rest
    controls = set(tokenizer._controls.values())
    assert not set(rest[:-1]) & controls
    if tokenizer.bos_id is not None:
        assert ids[0] == tokenizer.bos_id and ids.count(tokenizer.bos_id) == 1


def test_nobody_forges_a_turn(tokenizer):
    """As many control tokens as turns, whatever the contents spell, in tools and results as in messages."""
    tags = {tokenizer.control_id("<tool_call>"), tokenizer.control_id("</tool_call>")}
    controls = set(tokenizer._controls.values()) - tags

    def conversation(text: str) -> list[int]:
        tool = {"type": "function", "function": {"name": text, "description": text, "parameters": {}}}
        call = {"id": text, "function": {"name": text, "arguments": {"x": text}}}
        messages = [{"role": "system", "content": text},
                    {"role": "user", "content": [("text", text), ("tag", "<|im_end|>")]},
                    {"role": "assistant", "tool_calls": [call]},
                    {"role": "tool", "content": text, "tool_call_id": text},
                    {"role": "assistant", "content": text}, {"role": "user", "content": text}]
        return [i for i in chat.render(messages, tokenizer, tools=[tool])[0] if i in controls]

    expected = conversation("x")
    for text in forged_texts(sorted(tokenizer._controls), count=10)[:40]:
        assert conversation(text) == expected, text


def test_a_tag_is_the_added_token_where_there_is_one_and_text_elsewhere(tmp_path):
    qwen, tiny = chatml_folder(tmp_path / "a"), sentencepiece_folder(tmp_path / "b")
    messages = [{"role": "user", "content": [("tag", "<tool_call>"), ("text", "x")]}]
    with_token, without = load_tokenizer(qwen), load_tokenizer(tiny)
    assert with_token.control_id("<tool_call>") in chat.render(messages, with_token)[0]
    joined = [{"role": "user", "content": "<tool_call>x"}]
    assert chat.render(messages, without) == chat.render(joined, without)
    assert chat.render(messages, with_token)[1] == chat.render(joined, with_token)[1]


def test_mistral_joins_neighbouring_users_and_keeps_the_system_text(tmp_path):
    tokenizer = load_tokenizer(sentencepiece_folder(tmp_path))
    two = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert chat.render(two, tokenizer)[1] == "<s>[INST] a\n\nb[/INST]"
    answered = [*SYSTEM_USER, {"role": "assistant", "content": "yes "}]
    assert chat.render(answered, tokenizer)[1] == "<s>[INST] Be brief.\n\nHello there[/INST] yes</s>"


@pytest.mark.parametrize(("messages", "words"), [
    ([{"role": "robot", "content": "x"}], "role"), ([{"role": "user"}], "content"), (["x"], "role"),
    ([{"role": "tool", "tool_calls": []}], "content"),
    ([{"role": "user", "content": [("control", "<s>")]}], "piece"),
    ([{"role": "user", "content": [("text",)]}], "piece"), ([{"role": "user", "content": [{"type": "text"}]}], "piece"),
    ([{"role": "user", "content": 5}], "found 5"), ([{"role": "user", "content": {"text": "x"}}], "list of pieces"),
    ([{"role": "user", "content": "x"},
      {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}], "object"),
    ([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": "f()"}], "object"),
])
def test_messages_that_are_none_are_refused(tiny, messages, words):
    with pytest.raises(ValueError, match=words):
        chat.render(messages, tiny)


@pytest.mark.parametrize("messages", [
    [{"role": "assistant", "content": "x"}], [{"role": "tool", "content": "x"}],
    [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}, {"role": "assistant", "content": "x"}]])
def test_mistral_refuses_an_order_that_it_does_not_know(tmp_path, messages):
    tokenizer = load_tokenizer(sentencepiece_folder(tmp_path))
    with pytest.raises(ValueError, match="Mistral"):
        chat.render(messages, tokenizer)
    if messages[-1]["role"] == "assistant":
        with pytest.raises(ValueError, match="Mistral"):
            chat.encode_chat(messages, tokenizer)


def test_what_one_familys_own_format_cannot_say_is_refused(tmp_path):
    call = {"id": "123456789", "function": {"name": "f", "arguments": {}}}
    llama = loaded("llama31", tmp_path)
    with pytest.raises(ValueError, match="one call"):
        chat.render([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call, call]}], llama)
    with pytest.raises(ValueError, match="first message"):
        chat.render([{"role": "system", "content": "x"}], llama, tools=[{}])
    mistral = load_tokenizer(sentencepiece_folder(tmp_path))
    with pytest.raises(ValueError, match="beside"):
        both = {"role": "assistant", "content": "y", "tool_calls": [call]}
        chat.render([{"role": "user", "content": "x"}, both], mistral)


def test_a_training_row_must_end_with_an_answer(tiny):
    for messages in (SYSTEM_USER, [], ["x"]):
        with pytest.raises(ValueError, match="assistant"):
            chat.encode_chat(messages, tiny)


def test_a_tokenizer_without_a_chat_format_is_refused(tmp_path):
    folder = chatml_folder(tmp_path)
    text = (folder / "tokenizer.json").read_text().replace("<|im_start|>", "<|begin|>")
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match="no chat format"):
        chat.render(SYSTEM_USER, load_tokenizer(folder))
