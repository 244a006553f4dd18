"""Examples in other trainers' layouts: what is written comes back the same, from our readers and from `datasets`."""

import json

import pytest

import tooldev
from data.files import write_jsonl
from data.formats.layouts import LAYOUTS, changed
from data.schema import Example, Tool, ToolCall, read_json, read_jsonl

TEXTS = ("plain", 'quotes " and \\ and \n lines', "</tool_call>", "東京 🧶", "[f(x=1)]", "<|im_end|>")


def example(number: int, text: str, calls: int = 1, results: bool = False) -> Example:
    parameters = {"type": "dict", "required": ["n"], "properties": {
        "n": {"type": "integer", "description": text}, "more": {"type": "any", "description": "Anything.",
                                                               "default": ["x", 1.0, True][number % 3]},
        "type": {"type": "array", "description": "A list.", "items": {"type": "dict", "properties": {
            "x": {"type": "number", "description": "A number."}}, "required": ["x"]}}}}
    tools = (Tool("first.tool", text, parameters, {"type": "dict", "properties": {
        "r": {"type": "string", "description": "What it gives."}}} if results else None),
        Tool("other", "Does nothing.", {"type": "dict", "properties": {}, "required": []}))
    values = {"n": number, "more": text, "type": [{"x": 1.0}, {"x": 2.5}]}
    return Example(f"e{number}", f"Ask: {text}", tools, tuple(ToolCall("first.tool", values) for _ in range(calls)),
                   "self", "Apache-2.0")


EXAMPLES = [example(n, text, n % 3, results=n == 2) for n, text in enumerate(TEXTS)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_examples_come_back_as_they_went(layout):
    assert {one.id: changed(one, layout) for one in EXAMPLES if one.id != "e2"} == {
        one.id: "" for one in EXAMPLES if one.id != "e2"}


def test_the_command_writes_what_convert_reads_back_and_rejects_what_a_layout_cannot_keep(tmp_path, capsys):
    write_jsonl(tmp_path / "examples.jsonl", EXAMPLES)
    for layout in LAYOUTS:
        out = tmp_path / layout
        command = ["convert", "--to", layout, "--in", str(tmp_path / "examples.jsonl"), "--out", str(out)]
        assert tooldev.main(command) == 0 and tooldev.main(command) == 0            # again: the same files
        manifest, rejected = read_json(out / "manifest.json"), [row for _, row in read_jsonl(out / "rejected.jsonl")]
        assert manifest["rows"] + manifest["rejected"] == len(EXAMPLES) and manifest["licenses"] == ["Apache-2.0"]
        assert len(rejected) == manifest["rejected"] and all(row["stage"] == "layout" for row in rejected)
        back = tmp_path / f"{layout}-back"
        assert tooldev.main(["convert", "--in", str(out / f"{layout}.jsonl"), "--out", str(back)]) == 0
        kept = [one for one in EXAMPLES if one.id not in {row["id"] for row in rejected}]
        found = [row for _, row in read_jsonl(back / "examples.jsonl")]
        assert [(row["query"], row["calls"]) for row in found] == [
            (one.query, [call.to_dict() for call in one.calls]) for one in kept]
        assert [row["tools"][0]["arguments"] for row in found] == [one.tools[0].parameters for one in kept]
    assert "left out: tools that say what they return" in capsys.readouterr().out


def test_a_run_stands_for_what_its_rounds_accepted(tmp_path, capsys):
    for number in (2, 10, 1):
        write_jsonl(tmp_path / "run" / f"round-{number}" / "accepted.jsonl", [example(number, "plain")])
    run, out = str(tmp_path / "run"), str(tmp_path / "o")
    assert tooldev.main(["convert", "--to", "sharegpt", "--in", run, "--out", out]) == 0
    assert [row["id"] for _, row in read_jsonl(tmp_path / "o" / "sharegpt.jsonl")] == ["e1", "e2", "e10"]
    assert tooldev.main(["convert", "--to", "hermes", "--in", out, "--out", str(tmp_path / "p")]) == 2
    assert "no round-N/accepted.jsonl" in capsys.readouterr().err
    assert tooldev.main(["convert", "--to", "hermes", "--turns", "all", "--in", run, "--out", str(tmp_path / "p")]) == 2
    assert "--turns: of no use with --to" in capsys.readouterr().err and not (tmp_path / "p").exists()


@pytest.mark.reference
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_json_loader_of_datasets_gives_every_row_back(layout, tmp_path):
    datasets = pytest.importorskip("datasets")
    write_jsonl(tmp_path / "examples.jsonl", EXAMPLES)
    out = tmp_path / layout
    assert tooldev.main(["convert", "--to", layout, "--in", str(tmp_path / "examples.jsonl"), "--out", str(out)]) == 0
    rows = [row for _, row in read_jsonl(out / f"{layout}.jsonl")]
    loaded = datasets.load_dataset("json", data_files=str(out / f"{layout}.jsonl"), split="train",
                                   cache_dir=str(tmp_path / "cache"))
    assert [json.dumps(row, sort_keys=True) for row in loaded] == [json.dumps(row, sort_keys=True) for row in rows]
