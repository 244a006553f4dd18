"""`tooldev.py guard`: a benchmark's queries and tools become a file that `--guard` reads."""

import pytest
from eval_fixtures import apibank_folder, bfcl_folder, teval_folder

import tooldev
from data.contamination import load_guard
from data.schema import Example, Tool, read_jsonl


@pytest.fixture
def folders(tmp_path):
    for name, make in (("bfcl", bfcl_folder), ("apibank", apibank_folder), ("teval", teval_folder)):
        (tmp_path / name).mkdir()
        make(tmp_path / name)
    return [f"{name}={tmp_path / name}" for name in ("bfcl", "apibank", "teval")]


def test_every_entry_of_every_benchmark_is_guarded(tmp_path, folders, capsys):
    out = tmp_path / "guard.jsonl"
    assert tooldev.main(["guard", *folders, "--out", str(out)]) == 0
    rows = [row for _, row in read_jsonl(out)]
    assert {row["id"].split("/")[0] for row in rows} == {"bfcl", "apibank", "teval"}
    assert all(row["query"].strip() for row in rows)
    guard = load_guard([out])
    other = Tool("unlike_any", "Nothing.", {"type": "dict", "properties": {}})
    for row in rows:
        example = Example("mine", row["query"], (other,), ())
        assert guard.example_overlap(example)[0] == "contaminated_query"
    assert guard.query_overlap("Please water the roses behind the old greenhouse on the hill tonight") is None
    before = out.read_bytes()
    assert tooldev.main(["guard", *folders, "--out", str(out)]) == 0         # the same again is no replacement
    assert tooldev.main(["guard", folders[0], "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_bytes() == before


@pytest.mark.parametrize(("spec", "said"), [("bfcl", "expected NAME=DIR"), ("nothing=.", "expected NAME=DIR"),
                                            ("bfcl=no-such-folder", "there is no such folder")])
def test_what_names_no_benchmark_is_refused(tmp_path, spec, said, capsys):
    assert tooldev.main(["guard", spec, "--out", str(tmp_path / "guard.jsonl")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "guard.jsonl").exists()
