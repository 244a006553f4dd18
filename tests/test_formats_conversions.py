"""Every format, twenty-five rows each, against expectations that were written by hand (tests/formats_shapes.py)."""

import json

import pytest
from formats_shapes import CASES, GIVES, READER, SPELL, expected

from data.formats.convert import Options, convert
from data.formats.items import Context
from data.formats.registry import FORMATS, guess
from data.schema import Example, Query, Tool, load_examples, load_queries, load_tools, read_jsonl

ORDER = [t["name"] for case in CASES for t in case["tools"]]


def write_rows(path, name):
    path.write_text("".join(json.dumps(SPELL[name](case), ensure_ascii=number % 2 == 0) + "\n"
                            for number, case in enumerate(CASES)))


@pytest.mark.parametrize("name", SPELL)
def test_twenty_five_rows_give_what_was_written_by_hand(name, tmp_path):
    source, out = tmp_path / f"{name}.jsonl", tmp_path / "out"
    write_rows(source, name)
    tools_file = None
    if name == "nestful":
        from formats_shapes import flat
        tools_file = tmp_path / "spec.json"
        by_name = {t["name"]: t for case in CASES for t in case["tools"]}
        spec = [{"name": t["name"], "description": t["description"], "query_parameters": {
            k: v | {"required": k in t["arguments"]["required"]} for k, v in flat(t).items()}}
            for t in by_name.values()]
        tools_file.write_text(json.dumps(spec))
    manifest = convert([source], out, Options(format=READER.get(name, name),
                                              tools=str(tools_file) if tools_file else None))
    assert manifest["rejected"] == {}
    assert manifest["rows"] == manifest["rows_converted"] == 25
    gives = GIVES.get(name, "examples")
    if "examples" in gives:
        examples = load_examples(out / "examples.jsonl")
        assert len(examples) == 25
        for example, case in zip(examples, CASES, strict=True):
            query, tools, calls = expected(name, case)
            assert example.query == query
            assert [c.to_dict() for c in example.calls] == calls
            if name == "nestful":       # its candidates are the whole specification
                tools = [t for t in tools if t["name"] in {c["name"] for c in calls}]
                given = [t.to_dict() for t in example.tools if t.name in {c["name"] for c in calls}]
                assert sorted(map(json.dumps, given)) == sorted(map(json.dumps, tools))
            else:
                # key order too
                assert [json.dumps(t.to_dict()) for t in example.tools] == [json.dumps(t) for t in tools]
    if "tools" in gives:
        wanted = [json.dumps(t) for case in CASES for t in expected(name, case)[1]]
        given = [json.dumps(t.to_dict()) for t in load_tools(out / "tools.jsonl")]
        assert given == (list(dict.fromkeys(wanted)) if name == "toolbench" else wanted)
    if "queries" in gives:
        assert [q.query for q in load_queries(out / "queries.jsonl")] == [case["query"] for case in CASES]


@pytest.mark.parametrize("name", SPELL)
def test_auto_finds_the_format(name):
    found = {guess(json.loads(json.dumps(SPELL[name](case)))).name for case in CASES}
    assert found <= {READER.get(name, name), *({"openai"} if name == "messages" else ())}
    assert len(found) == 1


@pytest.mark.parametrize("name", SPELL)
def test_original_type_words_stay_in_provenance(name, tmp_path):
    if name in ("queries",):
        pytest.skip("a query list has no types")
    source, out = tmp_path / "rows.jsonl", tmp_path / "out"
    source.write_text(json.dumps(SPELL[name](CASES[15] | {"tools": CASES[15]["tools"][:1]})) + "\n")
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps([SPELL["tools"](CASES[15])["function"]]))
    convert([source], out, Options(format=READER.get(name, name), tools=str(spec) if name == "nestful" else None))
    (_, row), = read_jsonl(out / "tools.jsonl")
    words = {"object", "dict", "dict, optional", "OBJECT"}
    changed = row["provenance"].get("types", {}).get("options", "dict")
    assert changed in words
    assert row["arguments"]["properties"]["options"]["type"] == "dict"
    assert row["provenance"]["row"] == 1 and row["provenance"]["line"] == 1


def test_every_format_has_a_speller():
    assert {READER.get(name, name) for name in SPELL} == set(FORMATS)


def test_readers_are_lazy_and_read_one_row_without_a_file():
    row = json.loads(json.dumps(SPELL["xlam"](CASES[0])))
    item, = FORMATS["xlam"].read(row, Context())
    assert item.query == CASES[0]["query"]


def test_output_lines_are_records_of_the_schema(tmp_path):
    source, out = tmp_path / "rows.jsonl", tmp_path / "out"
    write_rows(source, "xlam")
    convert([source], out, Options(license="CC-BY-4.0", source="made up"))
    for name, record in (("tools", Tool), ("examples", Example), ("queries", Query)):
        for _, row in read_jsonl(out / f"{name}.jsonl"):
            record.from_dict(row)
    example = load_examples(out / "examples.jsonl")[3]
    assert (example.id, example.license, example.source) == ("rows:4", "CC-BY-4.0", "made up")
    assert example.provenance["changes"]["Ferry Timetable API"]["types"] == {
        "from": "str", "to": "str", "cars": "bool, optional", "max_price": "float, optional"}
