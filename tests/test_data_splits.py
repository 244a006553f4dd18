"""Splits: the same for the same seed, whatever the file order; nothing twice; strata and mixtures as asked."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from data.contamination import folded
from data.schema import load_examples, load_queries, load_tools, read_jsonl
from data.splits import SplitConfig, split
from tooldev import main

ROOT = Path(__file__).resolve().parent.parent


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tool(n):
    return {"name": f"tool {n}", "description": f"Does {n}.",
            "arguments": {"type": "dict", "properties": {}, "required": []},
            "provenance": {"file": "t", "row": n, "license": "MIT"}}


def example(n, calls, **more):
    return {"id": f"e{n}", "query": f"Please do number {n}!", "tools": [tool(n)],
            "calls": [{"name": f"tool {n}", "arguments": {}}] * calls, **more}


@pytest.fixture
def corpus(tmp_path):
    examples = [example(n, n % 3, source="even" if n % 2 == 0 else "odd", license="CC0") for n in range(300)]
    queries = [{"id": f"q{n}", "query": f"please do NUMBER {n}"} for n in range(0, 600, 2)]
    return {"tools": (lines(tmp_path / "tools.jsonl", [tool(n) for n in range(200)]
                            + [tool(5) | {"description": "again"}, tool(7) | {"name": "Tool_7"}]),),
            "examples": (lines(tmp_path / "examples.jsonl",
                               examples + [example(3, 1) | {"query": "please do number 3"}]),),
            "queries": (lines(tmp_path / "queries.jsonl", queries),)}


def drawn(out, name):
    return [row.get("id") or row["name"] for _, row in read_jsonl(out / f"{name}.jsonl")]


def test_the_same_seed_draws_the_same_bytes_and_another_does_not(corpus, tmp_path):
    config = {"num_tools": 20, "num_examples": 30, "num_queries": 10, "rounds": 2}
    first, again, other = (split(SplitConfig(**corpus, **config, seed=seed), tmp_path / name)
                           for seed, name in ((1, "a"), (1, "b"), (2, "c")))
    assert first == again and first["outputs"] != other["outputs"]
    for name in ("tools", "examples", "queries", "queries-1", "queries-2"):
        assert (tmp_path / "a" / f"{name}.jsonl").read_bytes() == (tmp_path / "b" / f"{name}.jsonl").read_bytes()
    assert drawn(tmp_path / "a", "queries") == drawn(tmp_path / "a", "queries-1") + drawn(tmp_path / "a", "queries-2")
    assert len(load_tools(tmp_path / "a" / "tools.jsonl")) == 20 and len(load_queries(tmp_path / "a"
                                                                                      / "queries.jsonl")) == 20


def test_a_smaller_subset_is_the_head_of_a_larger_one_whatever_the_order_of_the_files(corpus, tmp_path):
    rows = corpus["tools"][0].read_text().splitlines(keepends=True)
    (tmp_path / "back.jsonl").write_text("".join(reversed(rows[:200])))
    (tmp_path / "front.jsonl").write_text("".join(rows[:200]))
    split(SplitConfig(tools=(tmp_path / "front.jsonl",), num_tools=50), tmp_path / "a")
    split(SplitConfig(tools=(tmp_path / "back.jsonl",), num_tools=20), tmp_path / "b")
    assert drawn(tmp_path / "a", "tools")[:20] == drawn(tmp_path / "b", "tools")


def test_tools_are_unique_by_signature_and_queries_by_their_words(corpus, tmp_path):
    manifest = split(SplitConfig(**corpus, num_examples=100), tmp_path / "out")
    reports = manifest["outputs"]
    assert reports["tools"]["rows"] == 200 and reports["tools"]["left_out"] == {"duplicate": 2}
    assert reports["examples"]["left_out"] == {"duplicate": 1}
    asked = {folded(e.query) for e in load_examples(tmp_path / "out" / "examples.jsonl")}
    assert not asked & {folded(q.query) for q in load_queries(tmp_path / "out" / "queries.jsonl")}
    assert reports["queries"]["left_out"]["asked_by_an_example"] > 0
    assert reports["tools"]["licenses"] == {"MIT": 200} and reports["examples"]["licenses"] == {"CC0": 100}


def test_strata_keep_their_shares_and_held_out_examples_stay_out(corpus, tmp_path):
    manifest = split(SplitConfig(**corpus, num_examples=91, num_held_out=30), tmp_path / "out")
    assert manifest["outputs"]["held_out"]["strata"] == {"0 calls": 10, "1 calls": 10, "2 calls": 10}
    assert sorted(manifest["outputs"]["examples"]["strata"].values()) == [30, 30, 31]
    assert not set(drawn(tmp_path / "out", "examples")) & set(drawn(tmp_path / "out", "held_out"))


@pytest.mark.parametrize("argv, words", [
    (["--rounds", "1000000000"], "--rounds is 1000000000; expected at most"),
    (["--mix", "a=\u00b2"], "expected SOURCE=N")])
def test_numbers_that_are_none_or_too_many_are_refused(argv, words, corpus, tmp_path, capsys):
    examples = str(corpus["examples"][0])
    assert main(["split", "--examples", examples, "--out", str(tmp_path / "x"), *argv]) == 2
    assert words in capsys.readouterr().err


def test_mixtures_take_from_every_source_what_is_asked(corpus, tmp_path):
    manifest = split(SplitConfig(**corpus, mix=(("even", 10), ("odd", 25))), tmp_path / "out")
    assert manifest["outputs"]["examples"]["sources"] == {"odd": 25, "even": 10}
    with pytest.raises(ValueError, match="--mix green: no example has this source; there are .*even, odd"):
        split(SplitConfig(**corpus, mix=(("green", 1),)), tmp_path / "x")


def test_examples_with_unwanted_notes_or_too_many_tools_are_left_out_and_counted(tmp_path):
    rows = [example(0, 1, provenance={"notes": ["nested_reference"]}), example(1, 1) | {"tools": [tool(1)] * 9},
            example(2, 1)]
    manifest = split(SplitConfig(examples=(lines(tmp_path / "e.jsonl", rows),), without=("nested_reference",),
                                 max_tools=8), tmp_path / "out")
    assert drawn(tmp_path / "out", "examples") == ["e2"]
    assert manifest["outputs"]["examples"]["left_out"] == {"nested_reference": 1, "over_max_tools": 1}


def test_broken_input_names_its_line(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps(tool(1)) + "\n{oops\n")
    with pytest.raises(ValueError, match=r"t.jsonl, line 2: .*mend or remove"):
        split(SplitConfig(tools=(tmp_path / "t.jsonl",)), tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        split(SplitConfig(tools=(tmp_path / "no.jsonl",)), tmp_path / "out")
    with pytest.raises(ValueError, match="nothing to split"):
        SplitConfig()


def test_the_command_line_warns_of_too_few_rows(corpus, tmp_path):
    done = subprocess.run([sys.executable, "tooldev.py", "split", "--tools", corpus["tools"][0], "--out",
                           tmp_path / "out"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "| tools.jsonl | 200 | 26,522 | 200 | duplicate 2 |" in done.stdout
    assert done.stderr == "warning: tools: 26,522 wanted, only 200 available\n"
    assert Counter(path.name for path in (tmp_path / "out").iterdir()) == {"tools.jsonl": 1, "manifest.json": 1}
