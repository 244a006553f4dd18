"""`find` and `call --retrieve`: from a pool of many tools to those that a prompt offers."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

import tooldev
from data.pool import open_pool
from data.retrieval import Found, ToolIndex
from data.schema import Tool, load_tools
from pipeline.find import distinct, offered, written_text
from pipeline.inputs import Inputs

OSLO = {"name": "get_weather", "description": "The weather of a city", "arguments": {"properties": {}}}
HOTEL = {"name": "book_hotel", "description": "Book a room", "arguments": {"properties": {}}, "group": "Travel"}


def pool_of(path, *tools):
    path.write_text("\ufeff\n" + "\n\n".join(tool if isinstance(tool, str) else json.dumps(tool) for tool in tools),
                    encoding="utf-8")
    return str(path)


def test_find_prints_tools_or_json(tmp_path, capsys):
    pool = pool_of(tmp_path / "pool.jsonl", OSLO, HOTEL)
    assert tooldev.main(["find", "weather in Oslo. Then travel.", "--tools", pool]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["get_weather", "book_hotel"]
    assert tooldev.main(["find", "I travel.", "--tools", pool, "--json", "-k", "1"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["tool"]["name"] == "book_hotel" and found["sentence"] == "I travel." and found["group"] == "Travel"
    assert tooldev.main(["find", "zebra", "--tools", pool]) == 1
    assert "no tool of 2 shares a word" in capsys.readouterr().err


def test_a_kept_index_finds_the_same_and_is_made_anew_for_another_pool(tmp_path):
    pool, folder = pool_of(tmp_path / "pool.jsonl", OSLO, HOTEL), tmp_path / "index"
    plain = open_pool(pool)[0]
    for how in ("made and kept", "kept"):
        index, told = open_pool(pool, folder)
        assert told == how and [found.tool for found in index.search("a room", 3)] == [
            found.tool for found in plain.search("a room", 3)]
        np.testing.assert_array_equal(index.scores("weather room"), plain.scores("weather room"))
    pool_of(tmp_path / "pool.jsonl", HOTEL)
    index, told = open_pool(pool, folder)
    assert told == "made anew" and len(index.tools) == 1 and index.search("weather", 3) == []
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "note").write_text("mine")
    with pytest.raises(ValueError, match="a folder with other files"):
        open_pool(pool, tmp_path / "other")


@pytest.mark.parametrize(("line", "said"), [
    ("{", "line 4: "), ('{"name": 5, "description": "", "arguments": {}}', "line 4: the tool has no `name`"),
    ('{"name": "a", "arguments": {}}', "line 4: tool 'a' has no `description`"), ("[]", "line 4: a tool must be"),
    ('{"name": "a", "description": "", "arguments": {}, "group": {"name": "x"}}',
     "line 4: tool 'a': `group` must be a string, found dict"),
])
def test_a_bad_line_is_named(tmp_path, capsys, line, said):
    pool = pool_of(tmp_path / "pool.jsonl", OSLO, line)
    assert tooldev.main(["find", "weather", "--tools", pool]) == 2
    assert f"pool.jsonl, {said}" in capsys.readouterr().err


def test_empty_or_missing_pools_and_wrong_flags(tmp_path, capsys):
    (tmp_path / "empty.jsonl").write_text("\n")
    pool = pool_of(tmp_path / "pool.jsonl", OSLO)
    for words, said in ((["find", "x", "--tools", str(tmp_path / "empty.jsonl")], "no tools in it"),
                        (["find", "x", "--tools", str(tmp_path / "none.jsonl")], "no such file"),
                        (["find", "x", "--tools", str(tmp_path)], "not a plain file"),
                        (["find", " ", "--tools", pool], "query is empty"),
                        (["find", "x", "--tools", pool, "-k", "0"], "-k 0: expected 1 or more"),
                        (["call", "x", "--tools", pool, "--expand"], "--expand is for --retrieve"),
                        (["call", "x", "--tools", pool, "--retrieve", "0"], "--retrieve 0: expected 1 or more"),
                        (["call", "zebra", "--tools", pool, "--retrieve", "2"], "none shares a word")):
        assert tooldev.main(words) == 2
        assert said in capsys.readouterr().err


def test_what_is_offered_fits_and_has_one_tool_a_name():
    tools = [Tool("a", "first", {}), Tool("a", "second", {}), Tool("b", "long", {}), Tool("c", "", {})]
    found, again = distinct(ToolIndex([replace(tool, group="x") for tool in tools]), "x", 4, key=lambda tool: tool.name)
    kept, left = offered(found, again, lambda some: all(tool.description != "long" for tool in some))
    assert [tool.name for tool in kept] == ["a", "c"] and kept[0].description == "first"
    assert left == ["a (a better one has this name)", "b (no room in the model's context)"]


def test_no_tool_is_tried_after_many_without_room():
    """A shorter one may follow those that do not fit, but after eight in a row the context is taken as full."""
    tools = [Tool(f"t{i}", "long", {}) for i in range(7)] + [Tool("short", "", {})] + [
        Tool(f"u{i}", "long", {}) for i in range(300)]
    tried = []

    def fits(some):
        tried.append(some[-1].name)
        return all(tool.description != "long" for tool in some)

    kept, left = offered([Found(i, tool, 1.0, "x") for i, tool in enumerate(tools)], [], fits)
    assert [tool.name for tool in kept] == ["short"] and len(tried) == 16 and len(left) == 16
    assert left[-2:] == ["u7 (no room in the model's context)", "the 292 after it (the context is full)"]


def test_control_characters_are_escaped_and_broken_text_is_refused(tmp_path, capsys):
    pool = pool_of(tmp_path / "pool.jsonl", OSLO | {"name": "get\x1b[2J\n\u202eit", "description": "weather \x9b1m"})
    assert tooldev.main(["find", "weather", "--tools", pool]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[1:] == ["get\\x1b[2J\\n\\u202eit", "weather", "\\x9b1m"]
    for words in (["find", "a\udcff"], ["call", "a\udcff", "--retrieve", "1"]):
        assert tooldev.main([*words, "--tools", pool]) == 2
        assert "the query is not valid UTF-8 (character 2)" in capsys.readouterr().err


def test_copies_crowd_nothing_out(tmp_path, capsys):
    """Five copies and two others: three that differ are found, not three times the same."""
    pool = pool_of(tmp_path / "pool.jsonl", *[OSLO] * 5, HOTEL, HOTEL | {"name": "a_hotel", "group": "City hotels"})
    assert tooldev.main(["find", "the weather in a city. a hotel", "--tools", pool, "-k", "3"]) == 0
    shown = capsys.readouterr()
    assert sorted(line.split()[1] for line in shown.out.splitlines()) == ["a_hotel", "book_hotel", "get_weather"]
    assert "left out, the same tool again: 4" in shown.err
    found, again = distinct(open_pool(pool)[0], "city weather", 9, key=lambda tool: tool.name)
    assert [one.tool.name for one in found] == ["get_weather", "a_hotel"] and len(again) == 4


def resave(name, change):
    """Write an array of the index again, changed."""
    return lambda folder: np.save(folder / f"{name}.npy", change(np.load(folder / f"{name}.npy")))


def other_header(folder):
    data = bytearray((folder / "counts.npy").read_bytes())
    data[12:20] = b"!!!!!!!!"
    (folder / "counts.npy").write_bytes(data)


@pytest.mark.parametrize("harm", [
    lambda folder: (folder / "terms.txt").unlink(), lambda folder: (folder / "terms.txt").write_text("x"),
    lambda folder: (folder / "counts.npy").write_bytes(b""), lambda folder: (folder / "counts.npy").write_bytes(b"x"),
    lambda folder: np.save(folder / "lines.npy", np.zeros((9, 2), np.int64)),
    lambda folder: (folder / "index.json").write_text("{"), lambda folder: (folder / "index.json").write_text("[]"),
    lambda folder: (folder / "terms.txt").write_text((folder / "terms.txt").read_text()[::-1]), other_header,
    resave("documents", lambda array: array + 99), resave("counts", lambda array: array.astype(str)),
    resave("counts", lambda array: array * np.nan), resave("lines", lambda array: array[:, 0]),
    resave("lines", lambda array: array.astype(float)), resave("lines", lambda array: array + 3),
    resave("starts", lambda array: array[-1]), resave("starts", lambda array: array[:0]),
    resave("starts", lambda array: array[::-1]), resave("names", lambda array: array + 1),
])
def test_a_damaged_index_is_made_anew(tmp_path, harm):
    pool, folder = pool_of(tmp_path / "pool.jsonl", OSLO, HOTEL), tmp_path / "index"
    open_pool(pool, folder)
    harm(folder)
    index, told = open_pool(pool, folder)
    assert told == "damaged, made anew" and [one.tool.name for one in index.search("room", 2)] == ["book_hotel"]
    index, told = open_pool(pool, folder)
    assert told == "kept" and isinstance(index.postings.counts.base, np.memmap)         # mapped, not read


def test_an_index_whose_saving_broke_off_is_made_anew(tmp_path):
    pool, folder = pool_of(tmp_path / "pool.jsonl", OSLO, HOTEL), tmp_path / "index"
    open_pool(pool, folder)
    for lost in ("index.json", "terms.txt", "lines.npy"):
        (folder / lost).unlink()
    (folder / ".counts.npy.tmp").write_bytes(b"x")
    assert open_pool(pool, folder)[1] == "damaged, made anew" and open_pool(pool, folder)[1] == "kept"
    (folder / "index.json").write_text('{"name": "a web page"}')
    (folder / "main.js").write_text("")
    with pytest.raises(ValueError, match="a folder with other files"):
        open_pool(pool, folder)
    for name in ("index.json", "terms.txt"):                # of somebody else's
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text('{"title": "mine"}')
        with pytest.raises(ValueError, match="a folder with other files"):
            open_pool(pool, tmp_path / name)
        assert (tmp_path / name / name).read_text() == '{"title": "mine"}'
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file: no folder"):
        open_pool(pool, tmp_path / "file")


def test_a_pool_without_a_word_has_an_index_too(tmp_path, capsys):
    pool = pool_of(tmp_path / "pool.jsonl", {"name": "?", "description": "!", "arguments": {}})
    for _ in range(2):
        assert tooldev.main(["find", "weather", "--tools", pool, "--index", str(tmp_path / "index")]) == 1
        assert tooldev.main(["find", "?", "--tools", pool, "--index", str(tmp_path / "index")]) == 0
    assert "no tool of 1 shares a word" in capsys.readouterr().err


def test_a_packed_pool_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "pool.jsonl.gz").write_bytes(gzip.compress(json.dumps(OSLO).encode()))
    assert tooldev.main(["find", "weather", "--tools", str(tmp_path / "pool.jsonl.gz")]) == 2
    assert "pool.jsonl.gz: packed with gzip; unpack it first" in capsys.readouterr().err


def test_the_group_stays_in_the_tools_of_a_run(tmp_path):
    """`run` copies its tools into its data folder; the group is searched there, too, and never in a prompt."""
    (tool,) = load_tools(pool_of(tmp_path / "pool.jsonl", HOTEL))
    plain = Tool.from_dict(OSLO)
    Inputs([tool, plain], [], []).write(tmp_path / "data")
    assert [one.group for one in load_tools(tmp_path / "data" / "tools.jsonl")] == ["Travel", None]
    assert "group" not in tool.to_dict() and plain.to_document() == plain.to_dict()


def test_written_tools_are_read_whole_or_by_their_names_and_descriptions():
    text = f"<tools>\n{json.dumps(HOTEL)}\n</tools>"
    assert "Book a room" in written_text(text)
    cut = '```json\n{"name": "get_rate", "description": "A \\"rate\\" of money", "arguments": {"type": "di'
    assert written_text(cut) == 'get_rate\nA \\"rate\\" of money' and written_text("I cannot do that.") == ""


def test_call_offers_what_was_retrieved(tmp_path, capsys):
    """With the embedded model: the right tool of a pool is offered, within its context, and stderr says so."""
    long = [{"name": f"weather_{i}", "description": "weather " * 6000, "arguments": {"properties": {}}}
            for i in range(2)]
    pool = pool_of(tmp_path / "pool.jsonl", *long, OSLO, HOTEL)
    tooldev.main(["call", "What is the weather in Oslo?", "--tools", pool, "--retrieve", "3", "--expand",
                  "--max-new-tokens", "24"])
    told = capsys.readouterr().err
    assert "offered, of 4: get_weather\n" in told and "no room in the model's context" in told
    assert "written for 'What is the weather in Oslo?'" in told
    assert tooldev.main(["call", "weather " * 6000, "--tools", pool, "--retrieve", "1"]) == 2
    assert "the query is too long: " in capsys.readouterr().err


