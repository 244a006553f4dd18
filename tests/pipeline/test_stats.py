"""The token report, on rows whose figures can be counted by hand."""

import argparse
import json

import pytest
from model_tokenizers import chatml_folder

from data.prompts import adaption_messages, tools_answer
from data.schema import Tool
from model.chat import encode_chat
from model.tokenizer import load_tokenizer
from pipeline import stats

TOOL = {"name": "sonar", "description": "Depth below.", "arguments": {"type": "dict", "properties": {
    "at": {"type": "array", "description": "Where.", "items": {"type": "number"}},
    "unit": {"type": "string", "description": "Unit."}}, "required": []}}
EXAMPLE = {"id": "1", "query": "How deep is it?", "tools": [TOOL],
           "calls": [{"name": "sonar", "arguments": {"at": [1.5, 2]}}], "source": "made", "license": "CC0"}


def report(path, *arguments, capsys):
    parser = argparse.ArgumentParser()
    stats.add_arguments(parser)
    assert stats.main(parser.parse_args([str(path), *map(str, arguments), "--json"])) == 0
    return json.loads(capsys.readouterr().out)


def test_contents_need_no_tokenizer(tmp_path, capsys):
    path = tmp_path / "e.jsonl"
    path.write_text("".join(json.dumps(row) + "\n"
                            for row in (EXAMPLE, EXAMPLE | {"id": "2", "query": "how DEEP is it", "calls": []})))
    found = report(path, capsys=capsys)
    assert found["rows"] == 2 and found["repeated_queries"] == 1 and found["repeated_tools"] == 1
    assert found["types"] == {"array": 2, "number": 2, "string": 2}
    assert found["calls_per_example"] == {"0": 1, "1": 1} and found["licenses"] == {"CC0": 2}


def test_token_figures_are_those_of_the_training_rows(tmp_path, capsys):
    folder, path = chatml_folder(tmp_path / "m"), tmp_path / "t.jsonl"
    tools = [TOOL, TOOL | {"name": "echo", "description": "Depth below, said at length, " * 9}]
    path.write_text("".join(json.dumps(tool) + "\n" for tool in tools))
    tokenizer = load_tokenizer(folder)
    rows = [encode_chat([*adaption_messages(t["description"]),
                         {"role": "assistant", "content": tools_answer([Tool.from_dict(t)])}], tokenizer)
                         for t in tools]
    lengths = [len(ids) for ids, _ in rows]
    limit = max(lengths) - 1
    found = report(path, "--model", folder, "--max-length", limit, "--pack-tokens", 2 * limit,
                   capsys=capsys)["adaption"]
    assert (found["rows"], found["shortest"], found["longest"],
            found["tokens"]) == (2, min(lengths), max(lengths), sum(lengths))
    assert found["over_max_length"] == 1 and sum(found["histogram"].values()) == 2
    assert found["supervised_share"] == round(sum(label >= 0 for _, labels in rows for label in labels) / sum(lengths),
                                              4)


def test_examples_make_two_rows_and_queries_a_prompt(tmp_path, capsys):
    folder = chatml_folder(tmp_path / "m")
    (tmp_path / "e.jsonl").write_text(json.dumps(EXAMPLE) + "\n" + json.dumps(EXAMPLE | {"id": "2", "calls": []})
                                      + "\n")
    (tmp_path / "q.jsonl").write_text(json.dumps({"id": "1", "query": "How deep?"}) + "\n")
    found = report(tmp_path / "e.jsonl", "--model", folder, capsys=capsys)
    assert (found["generation"]["rows"], found["invocation"]["rows"], found["refused"]) == (1, 2, {"no_call": 1})
    assert (
        found["packing"]["padded"] <= found["packing"]["packed"] <= 1
        and found["packing"]["packs"] <= found["packing"]["padded_batches"]
    )
    assert report(tmp_path / "q.jsonl", "--model", folder, capsys=capsys)["generation prompt"]["supervised_share"] == 0


def test_text_report_and_errors(tmp_path, capsys):
    (tmp_path / "t.jsonl").write_text(json.dumps(TOOL) + "\n")
    assert stats.main(argparse.Namespace(file=tmp_path / "t.jsonl", model=chatml_folder(tmp_path / "m"),
                                         max_length=4096, pack_tokens=None, json=False)) == 0
    printed = capsys.readouterr().out
    assert "types: array 1, number 1, string 1" in printed and "########" in printed
    (tmp_path / "bad.jsonl").write_text('{"name": 1}\n')
    with pytest.raises(ValueError, match="bad.jsonl, line 1"):
        stats.load(tmp_path / "bad.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="no record"):
        stats.load(tmp_path / "empty.jsonl")


def test_what_a_model_folder_has_to_say_of_its_prompts_is_told(tmp_path, capsys):
    (tmp_path / "q.jsonl").write_text('{"id": "1", "query": "Where?"}\n')
    folder = chatml_folder(tmp_path / "m")
    report(tmp_path / "q.jsonl", "--model", folder, capsys=capsys)
    (folder / "tokenizer_config.json").write_text('{"chat_template": "<|im_start|>{{ messages }}"}')
    assert stats.main(argparse.Namespace(file=tmp_path / "q.jsonl", model=folder, max_length=64, pack_tokens=None,
                                         json=False)) == 0
    assert "WARNING: tokenizer_config.json: this chat template is not known here" in capsys.readouterr().err
