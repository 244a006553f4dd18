"""Round trips: random examples, spelled in a corpus format, converted, put into a family's prompt, parsed back."""

import json
import os
import unicodedata
from pathlib import Path

import pytest
from formats_shapes import SPELL, arg, call, tool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_tokenizers import chatml_folder, llama_json, sentencepiece_folder

from data.formats.items import Context, Sample, read_call
from data.formats.registry import FORMATS
from data.formats.tooldocs import read_tool
from data.parse import parse_calls, parse_tools
from data.prompts import calls_answer, invocation_messages, pieces_text, tools_answer
from data.schema import Tool, ToolCall
from data.tasks import IGNORE_INDEX
from model.chat import encode_chat
from model.tokenizer import load_tokenizer

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), max_codepoint=0x2FFF), max_size=12).map(
    # Qwen2.5's tokenizer writes NFC; other forms come back as NFC
    lambda text: unicodedata.normalize("NFC", text))
TRAPS = st.sampled_from(["</tool_call>", "<tool_call>", "[f(x=1)]", "'", '"', "\\", "a\nb", "<|im_end|>", "[INST]",
                         "<|eot_id|>", "{", "}}", "東京", "🧶", "ｆ"])
VALUES = {"string": TEXT | TRAPS, "integer": st.integers(-10**12, 10**12),
          "number": st.floats(-1e9, 1e9).map(lambda x: round(x, 4)),
          "boolean": st.booleans(), "dict": st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), TEXT | TRAPS
                                                            | st.integers(0, 9) | st.booleans(), max_size=3)}
NAME = st.from_regex(r"[A-Za-z][\w]{0,6}([ .\-][A-Za-z0-9]{1,5}){0,2}", fullmatch=True).filter(str.isascii)
ARGUMENT = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True).filter(lambda name: not name.endswith("_"))


@st.composite
def cases(draw, one_call=False):
    tools = []
    for name in draw(st.lists(NAME, min_size=1, max_size=3, unique=True)):
        names = draw(st.lists(ARGUMENT, max_size=3, unique=True))
        tools.append(tool(name, "Does something.", names,
                          **{n: arg(draw(st.sampled_from(sorted(VALUES))), "An argument.") for n in names}))
    calls = []
    for chosen in draw(st.lists(st.sampled_from(tools), min_size=1, max_size=1 if one_call else 3)):
        properties = chosen["arguments"]["properties"]
        calls.append(call(chosen["name"], **{n: draw(VALUES[s["type"]]) for n, s in properties.items()}))
    return {"query": "Do it.", "tools": tools, "calls": calls}


def convert_row(name, case):
    """(tools, calls) of the sample that the format's reader makes of the row."""
    row = json.loads(json.dumps(SPELL[name](case)))
    sample = next(item for item in FORMATS[{"messages": "sharegpt",
                                            "apibank_prompt": "apibank"}.get(name, name)].read(row, Context())
                  if isinstance(item, Sample))
    tools = [Tool.from_dict(read_tool(raw).record) for raw in sample.tools]
    return tools, [ToolCall.from_dict(read_call(raw)) for raw in sample.calls]


SPOKEN = ["toolace", "xlam", "hermes", "sharegpt", "messages", "openai", "toolalpaca", "sealtools", "nestools",
          "apibank", "bfcl", "functionchat", "toolrl", "hammer"]


@pytest.mark.parametrize("name", SPOKEN)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_converted_rows_keep_their_calls_through_prompt_and_parser(name, case):
    tools, calls = convert_row(name, case)
    assert [c.to_dict() for c in calls] == case["calls"]
    assert parse_calls(pieces_text(calls_answer(calls))) == calls
    assert [json.dumps(t) for t in parse_tools(pieces_text(tools_answer(tools)))] == [json.dumps(t.to_dict())
                                                                                      for t in tools]


@pytest.mark.parametrize("name", ["glaive", "apibank_prompt"])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases(one_call=True))
def test_formats_of_one_call_keep_it(name, case):
    calls = convert_row(name, case)[1]
    assert [c.to_dict() for c in calls] == case["calls"]


@pytest.fixture(scope="module", params=["chatml", "mistral", "llama3", "qwen2.5", "mistral-7b-v0.3"])
def tokenizer(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    if request.param == "chatml":
        return load_tokenizer(chatml_folder(folder))
    if request.param == "mistral":
        return load_tokenizer(sentencepiece_folder(folder))
    if request.param == "llama3":
        (folder / "tokenizer.json").write_text(llama_json())
        return load_tokenizer(folder)
    data = os.environ.get("TOOLDEV_DATA")
    if not data:
        pytest.skip("set TOOLDEV_DATA to a folder with models/ for the families' own tokenizers")
    return load_tokenizer(Path(data) / "models" / request.param)


def test_a_value_with_sentencepieces_own_sign_survives_every_family(tokenizer):
    """U+2581 stands for a space in sentencepiece's pieces, so an answer that held it as it is would teach a space."""
    calls = [ToolCall(name="draw", arguments={"bar\u2581": "\u2581\u2582 \u2583"})]
    ids = tokenizer.encode(pieces_text(calls_answer(calls)))
    assert parse_calls(tokenizer.decode(ids)) == calls


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_calls_survive_the_tokens_of_every_family(tokenizer, case):
    """xLAM row -> example -> the family's whole conversation as ids -> the supervised ids as text -> the same calls."""
    tools, calls = convert_row("xlam", case)
    ids, labels = encode_chat([*invocation_messages(case["query"], tools),
                               {"role": "assistant", "content": calls_answer(calls)}], tokenizer)
    answer = [token for token, label in zip(ids, labels, strict=True) if label != IGNORE_INDEX]
    assert answer[-1] in tokenizer.eos_ids
    assert parse_calls(tokenizer.decode(answer[:-1])) == calls
