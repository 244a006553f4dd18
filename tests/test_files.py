"""Output folders lose nothing: a command replaces only what it made from these inputs, unless the user says so."""

import errno
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import torch
from eval_fixtures import bfcl_folder
from formats_shapes import CASES, SPELL
from safetensors import SafetensorError
from safetensors.torch import save_file

import tooldev
from data.binary import not_text
from data.files import (
    append_record,
    append_to,
    aside,
    begun_marker,
    claim,
    held,
    made,
    naming,
    refuse_changes,
    refuse_foreign,
    sha256_path,
    whole_lines,
    write_json,
    write_text,
)
from train import main as train_main

TOOL = {"name": "tide_table", "description": "Tides.", "arguments": {
    "type": "dict", "properties": {"harbour": {"type": "string", "description": "Where."}}, "required": ["harbour"]}}


def examples(count: int) -> str:
    rows = [{"id": f"e{n}", "query": f"Tides at harbour number {n}?", "tools": [TOOL],
             "calls": [{"name": "tide_table", "arguments": {"harbour": str(n)}}]} for n in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows)


def corpus(count: int) -> str:
    """Rows as a corpus has them, for convert."""
    return "".join(json.dumps(SPELL["xlam"](case)) + "\n" for case in CASES[:count])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(capsys, folder: Path, argv: list, *fragments: str) -> None:
    """The command ends with 2 and one line that holds the fragments, and nothing in the folder changed."""
    before = contents(folder)
    assert tooldev.main([str(word) for word in argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    for fragment in fragments:
        assert fragment in error, error
    assert contents(folder) == before


# ------------------------------------------------------------------------------------------------- convert and split

def test_convert_never_writes_where_its_input_lies(tmp_path, capsys):
    for name in ("examples", "tools"):
        (tmp_path / f"{name}.jsonl").write_text("by hand\n")
    asked = tmp_path / "queries.jsonl"
    asked.write_text('{"id": "q1", "query": "High water?"}\n')
    command = ["convert", "--in", asked, "--out", tmp_path]
    refused(capsys, tmp_path, command, "the input", "lies there", "--overwrite")
    refused(capsys, tmp_path, ["convert", "--in", tmp_path, "--out", tmp_path], "lies there")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "q.jsonl").write_bytes(asked.read_bytes())
    refused(capsys, tmp_path, ["convert", "--in", tmp_path / "below" / "q.jsonl", "--out", tmp_path], "lies there")
    (tmp_path / "link").symlink_to(tmp_path)
    refused(capsys, tmp_path, ["convert", "--in", asked, "--out", tmp_path / "link"], "lies there")
    assert tooldev.main([*map(str, command), "--overwrite"]) == 0
    assert (tmp_path / "examples.jsonl").read_bytes() == b"" and b"High water?" in asked.read_bytes()


def test_a_companion_file_of_a_conversion_must_not_lie_in_its_output(tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text(corpus(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tools.jsonl").write_text(json.dumps(TOOL) + "\n")
    refused(capsys, tmp_path, ["convert", "--in", tmp_path / "in.jsonl", "--tools", tmp_path / "out" / "tools.jsonl",
                               "--out", tmp_path / "out"],
            "lies there")


def test_convert_replaces_only_what_it_made_from_the_same_inputs(tmp_path, capsys):
    one, two, out = tmp_path / "one.jsonl", tmp_path / "two.jsonl", tmp_path / "out"
    one.write_text(corpus(3))
    two.write_text(corpus(5))
    command = ["convert", "--in", str(one), "--out", str(out)]
    assert tooldev.main(command) == 0
    before = contents(out)
    assert tooldev.main(command) == 0 and contents(out) == before
    refused(capsys, tmp_path, ["convert", "--in", two, "--out", out], "other inputs", "one.jsonl, two.jsonl",
            "--overwrite")
    refused(capsys, tmp_path, [*command, "--turns", "all"], "turns was 'first', now 'all'")
    one.write_text(corpus(4))                                                    # the same name, another content
    refused(capsys, tmp_path, command, "other inputs (one.jsonl)")
    one.write_text(corpus(3))
    (out / "examples.jsonl").write_text("mended by hand\n")
    refused(capsys, tmp_path, command, "examples.jsonl changed")
    (out / "examples.jsonl").unlink()                                              # what is missing is made again
    assert tooldev.main(command) == 0 and contents(out) == before
    assert tooldev.main(["convert", "--in", str(two), "--out", str(out), "--overwrite"]) == 0
    assert len((out / "examples.jsonl").read_text().splitlines()) == 5


def test_convert_and_split_refuse_a_folder_with_files_of_others(tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text(corpus(3))
    out = tmp_path / "out"
    for command in (["convert", "--in"], ["split", "--examples"]):
        for name in ("thesis.txt", "examples.jsonl"):
            out.mkdir()
            (out / name).write_text("mine")
            refused(capsys, tmp_path, [*command, tmp_path / "in.jsonl", "--out", out], name, "--overwrite")
            (out / name).unlink()
            out.rmdir()
    write_json(out / "manifest.json", {"name": "of something else"})
    refused(capsys, tmp_path, ["split", "--examples", tmp_path / "in.jsonl", "--out", out], "made by something else")


def test_split_does_not_take_over_what_convert_made(tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text(corpus(9))
    out = tmp_path / "out"
    assert tooldev.main(["convert", "--in", str(tmp_path / "in.jsonl"), "--out", str(out)]) == 0
    few = ["split", "--examples", out / "examples.jsonl", "--num-examples", "5", "--out"]
    refused(capsys, tmp_path, [*few, out], "lies there")
    refused(capsys, tmp_path, ["split", "--examples", tmp_path / "in.jsonl", "--out", out],
            "made by tooldev.py convert")
    again = [*map(str, few), str(tmp_path / "few")]
    assert tooldev.main(again) == 0 and tooldev.main(again) == 0
    refused(capsys, tmp_path, [*again, "--seed", "1"], "seed was 0, now 1")


def test_a_split_that_is_made_over_leaves_no_file_of_the_one_before(tmp_path):
    (tmp_path / "in.jsonl").write_text(examples(9))
    out = tmp_path / "out"
    (out / "notes").mkdir(parents=True)
    command = ["split", "--examples", str(tmp_path / "in.jsonl"), "--out", str(out), "--overwrite"]
    assert tooldev.main([*command, "--num-held-out", "2"]) == 0 and (out / "held_out.jsonl").is_file()
    assert tooldev.main(command) == 0
    assert not (out / "held_out.jsonl").exists() and (out / "notes").is_dir()


def test_a_command_that_was_killed_goes_on_and_another_one_does_not(tmp_path):
    (tmp_path / "in.jsonl").write_text(examples(2))
    out, given = tmp_path / "out", {"inputs": [("in.jsonl", tmp_path / "in.jsonl")], "writes": ["a.jsonl", "b.jsonl"]}

    class Killed(BaseException):
        """What ends a process in the middle."""

    with pytest.raises(Killed), claim(out, "one", **given):
        write_text(out / "a.jsonl", "half of it\n")
        raise Killed
    with pytest.raises(ValueError, match="made by one, not by another"):
        claim(out, "another", **given)
    with pytest.raises(ValueError, match="seed was None, now 1"):
        claim(out, "one", **given, settings={"seed": 1})
    with claim(out, "one", **given) as claimed:
        write_text(out / "a.jsonl", "all of it\n")
        claimed.finish({"a": {"sha256": "-"}})
    assert sorted(p.name for p in out.iterdir()) == ["a.jsonl", "manifest.json"]


def test_a_second_command_waits_for_the_first_and_replaces_nothing_of_it(tmp_path, capsys):
    out = tmp_path / "out"
    for name in ("one.jsonl", "two.jsonl"):
        (tmp_path / name).write_text(name)
    first, second = (claim(out, "a", inputs=[(name, tmp_path / name)], writes=["a.jsonl"])
                     for name in ("one.jsonl", "two.jsonl"))
    with ThreadPoolExecutor(1) as pool:
        with first:
            waiting = pool.submit(second.__enter__)
            assert wait([waiting], 0.2).not_done
            write_text(out / "a.jsonl", "of the first\n")
            first.finish(made(out, ["a.jsonl"]))
        with pytest.raises(ValueError, match="made from other inputs .one.jsonl, two.jsonl"):
            waiting.result(20)
    with first:                                     # the same once more may, and is not kept out
        pass
    assert "another command is writing there" in capsys.readouterr().err
    assert (out / "a.jsonl").read_text() == "of the first\n"


def test_a_finished_folder_that_was_begun_again_keeps_what_was_edited_since(tmp_path):
    (tmp_path / "in.jsonl").write_text(examples(2))
    out, given = tmp_path / "out", {"inputs": [("in.jsonl", tmp_path / "in.jsonl")], "writes": ["a.jsonl"]}
    with claim(out, "one", **given) as claimed:
        write_text(out / "a.jsonl", "made\n")
        claimed.finish(made(out, ["a.jsonl"]))
    claim(out, "one", **given).__enter__()                          # and killed
    with claim(out, "one", **given) as claimed:
        claimed.finish(made(out, ["a.jsonl"]))
    claim(out, "one", **given).__enter__()
    (out / "a.jsonl").write_text("mine\n")
    with pytest.raises(ValueError, match="a.jsonl changed after this command wrote it"):
        claim(out, "one", **given)
    assert claim(out, "one", **given, overwrite=True)


def test_a_folder_or_a_device_of_the_name_is_refused_before_anything_is_written(tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text(corpus(2))
    (tmp_path / "out" / "examples.jsonl").mkdir(parents=True)
    (tmp_path / "out" / "examples.jsonl" / "mine.txt").write_text("mine")
    refused(capsys, tmp_path, ["convert", "--in", tmp_path / "in.jsonl", "--out", tmp_path / "out", "--overwrite"],
            "examples.jsonl: is a folder")
    (tmp_path / "good.jsonl").write_text(examples(1))
    os.mkfifo(tmp_path / "pipe")
    for more in ([], ["--overwrite"]):
        refused(capsys, tmp_path, ["check", tmp_path / "good.jsonl", "--rejected", tmp_path / "pipe", *more],
                "pipe: is a device or a pipe")
    with pytest.raises(ValueError, match="is a device"), aside(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()


def test_a_model_folder_is_no_folder_of_a_training_run(tmp_path, capsys):
    base = shutil.copytree(tooldev.home("model", "tiny"), tmp_path / "base")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "config.json").write_text("[]")
    before = contents(tmp_path)
    for out in (base, tmp_path / "list"):
        assert train_main(["--model", str(tooldev.home("model", "tiny")), "--out", str(out)]) == 2
        assert "is not that of a training run" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_run_does_not_begin_where_another_command_began(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "examples.jsonl").write_text("mine\n")
    write_json(tmp_path / ".begun.json", {"made_by": "tooldev.py convert"})
    assert begun_marker(tmp_path, "tooldev.py run") == []
    with pytest.raises(ValueError, match="nothing of ours"):
        refuse_foreign(tmp_path, "run.json", *begun_marker(tmp_path, "tooldev.py run"))
    write_json(tmp_path / ".begun.json", {"made_by": "tooldev.py run"})
    refuse_foreign(tmp_path, "run.json", *begun_marker(tmp_path, "tooldev.py run"))


def test_a_command_that_fails_before_it_writes_leaves_an_empty_folder(tmp_path):
    with pytest.raises(ValueError), claim(tmp_path / "out", "one", inputs=[], writes=[]):
        raise ValueError
    assert list((tmp_path / "out").iterdir()) == []


def test_check_replaces_neither_its_input_nor_another_file(tmp_path, capsys):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(examples(1).replace('"harbour": "0"', '"port": "0"'))
    refused_to = tmp_path / "refused.jsonl"
    command = ["check", str(bad), "--rejected"]
    for _ in range(2):                                             # the same bytes are no loss
        assert tooldev.main([*command, str(refused_to)]) == 1
    before = bad.read_bytes()
    for target in (bad, refused_to):
        refused_to.write_text("mine")
        assert tooldev.main([*command, str(target)]) == 2
        assert bad.read_bytes() == before and refused_to.read_text() == "mine"
    assert tooldev.main([*command, str(refused_to), "--overwrite"]) == 1 and "mine" not in refused_to.read_text()
    assert tooldev.main([*command, str(bad), "--overwrite"]) == 2 and bad.read_bytes() == before
    capsys.readouterr()


# ---------------------------------------------------------------------------------------------- score, eval and data

def answers(path: Path, data: Path, text: str) -> Path:
    rows = [json.loads(line) for file in sorted(data.glob("BFCL_*.json")) for line in file.read_text().splitlines()]
    path.write_text("".join(json.dumps({"id": row["id"], "text": text}) + "\n" for row in rows))
    return path


def test_score_keeps_the_scores_of_other_answers(tmp_path, capsys):
    data = bfcl_folder(tmp_path / "data")
    one, two, out = answers(tmp_path / "one.jsonl", data,
                            "[f()]"), answers(tmp_path / "two.jsonl", data, "no"), tmp_path / "out"
    command = ["score", "--bench", "bfcl", "--data", str(data), "--out", str(out), "--answers"]
    assert tooldev.main([*command, str(one)]) == 0
    before = contents(out)
    assert tooldev.main([*command, str(one)]) == 0 and contents(out) == before
    capsys.readouterr()
    refused(capsys, tmp_path, [*command, two], "other inputs (one.jsonl, two.jsonl)", "--overwrite")
    refused(capsys, tmp_path, [*command, one, "--against", out], "lies there")
    refused(capsys, tmp_path, [*command, two, "--against", out], "lies there")
    refused(capsys, tmp_path, [*command, one, "--against", out / "verdicts.jsonl"], "lies there")
    refused(capsys, tmp_path, [*command[:-2], data, "--answers", one], "lies there")
    other = tmp_path / "other"
    assert tooldev.main([*command[:-2], str(other), "--answers", str(two), "--against", str(out)]) == 0
    told = json.loads((other / "comparison.json").read_text())
    capsys.readouterr()
    third = answers(tmp_path / "third.jsonl", data, "f")
    assert tooldev.main([*command[:-2], str(tmp_path / "third"), "--answers", str(third)]) == 0
    again = [*command[:-2], other, "--answers", two, "--against", tmp_path / "third"]
    capsys.readouterr()
    refused(capsys, tmp_path, again, "comparison.json", "is there already")
    # made over on purpose, the former scores are what is compared with
    over = [*command, str(two), "--against", str(out), "--overwrite"]
    assert tooldev.main(over) == 0
    assert json.loads((out / "comparison.json").read_text())["difference"] == told["difference"]


def test_the_hash_of_a_folder_counts_what_lies_in_it_but_not_what_is_written_there(tmp_path):
    """Into the folder above the data, by --overwrite, a command noted the hash of no file at all."""
    data = tmp_path / "out" / "data"
    (data / "scores").mkdir(parents=True)
    (data / "questions.jsonl").write_text("{}\n")
    alone = sha256_path(data)
    assert sha256_path(data, tmp_path / "out") == sha256_path(data, data) == alone
    (data / "scores" / "verdicts.jsonl").write_text("{}\n")
    assert sha256_path(data, data / "scores") == alone != sha256_path(data)


def test_data_does_not_replace_other_data(tmp_path, capsys):
    source, out = bfcl_folder(tmp_path / "source"), tmp_path / "out"
    command = ["data", "bfcl", "--from", str(source), "--out"]
    assert tooldev.main([*command, str(out)]) == 0 and tooldev.main([*command, str(out)]) == 0
    capsys.readouterr()
    refused(capsys, tmp_path, [*command, source], "lies there")
    file = next(source.glob("BFCL_*.json"))
    file.write_text(file.read_text() + "\n")
    refused(capsys, tmp_path, [*command, out], "other inputs (source)")


# ------------------------------------------------------------------------------------------------------------- writing

def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(RuntimeError), aside(tmp_path / "a") as file:
        file.write(b"new")
        raise RuntimeError
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_names_the_file_and_what_to_do(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError) as found, aside(tmp_path / "tooldev-full-test") as file:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x" * 10)
        file.write(b"")
    assert "tooldev-full-test: No space left on device; make room on the disk" in tooldev.one_line(found.value)


def test_a_full_disk_under_weights_gives_the_line_of_any_other_file():
    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(OSError) as found, naming("out/model.safetensors"):
        raise full
    assert tooldev.one_line(found.value).startswith("out/model.safetensors: No space left on device;"
                                                    " make room on the disk")
    for other in (SafetensorError("invalid header"), ZeroDivisionError()):
        with pytest.raises(type(other)), naming("out"):
            raise other


def test_weights_that_cannot_be_written_raise_what_is_translated(tmp_path):
    """Holds the wording of safetensors that the translation reads."""
    with pytest.raises(FileNotFoundError, match="No such file"), naming(tmp_path / "none" / "x"):
        save_file({"weight": torch.zeros(8)}, tmp_path / "none" / "x")


def test_a_torn_line_is_cut_off_before_the_next_record(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2')
    assert whole_lines(path) == [b'{"n": 1}']
    with append_to(path) as file:
        append_record(file, {"n": 3})
    assert path.read_bytes() == b'{"n": 1}\n{"n": 3}\n'


def test_an_interrupted_command_promises_only_what_it_keeps(monkeypatch, capsys, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("data.formats.convert.convert", stop)
    monkeypatch.setattr("data.check.check_file", stop)
    monkeypatch.setattr("pipeline.demo.run_pipeline", stop)
    said = {"convert": "interrupted; nothing is kept, the same command begins anew", "check": "interrupted",
            "demo": "interrupted; the same command goes on from here"}
    commands = (["convert", "--in", "a", "--out", "b"], ["check", "a"],
                ["demo", "--quick", "--out", str(tmp_path / "d")])
    for command in commands:
        assert tooldev.main(command) == 130
        assert capsys.readouterr().err.splitlines()[-1] == said[command[0]]


def test_a_round_does_not_begin_in_a_folder_of_something_else(tmp_path):
    from evolution.state import Place

    (tmp_path / "round-1").mkdir()
    (tmp_path / "round-1" / "accepted.jsonl").write_text("mine")
    with pytest.raises(ValueError, match="accepted.jsonl, but no round.json"):
        Place(tmp_path / "round-1").claim({"seed": 0})
    assert sorted(p.name for p in (tmp_path / "round-1").iterdir()) == ["accepted.jsonl"]


def test_other_settings_are_named_and_the_rest_is_counted():
    with pytest.raises(ValueError, match=r"x was begun with other settings: a was 1, now 2; b was 1, now None; c .*;"
                                         r" 1 more; use"):
        refuse_changes("x", dict.fromkeys("abcde", 1), {"a": 2})
    refuse_changes("x", {"a": 1}, {"a": 1})


# ----------------------------------------------------------------------------------------------- files that are no text

BINARY = {"a.parquet": (b"PAR1\x15\x04\x15\x10PAR1", "Parquet"), "b.jsonl": (b"PAR1\x15\x00\x15", "Parquet"),
          "c.arrow": (b"\xff\xff\xff\xff\x78\x00", "Arrow"), "d.json": (b"ARROW1\x00\x00", "Arrow"),
          "e.xlsx": (b"PK\x03\x04\x14\x00\x06\x00", "Excel"), "f.csv": (b"PK\x03\x04\x14\x00\x06\x00", "zip"),
          "g.jsonl.zst": (b"\x28\xb5\x2f\xfd\x04\x58", "Zstandard"), "h.jsonl": (b"SQLite format 3\x00", "SQLite"),
          "i.jsonl": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
          "j.feather": (b"\x00\x01\x80\xff", "Feather"), "k.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel")}


@pytest.mark.parametrize("name", BINARY)
def test_a_file_that_is_no_text_is_named_with_what_to_do(name, tmp_path, capsys):
    data, kind = BINARY[name]
    (tmp_path / name).write_bytes(data)
    for command in (["convert", "--in", tmp_path / name, "--out", tmp_path / "out"], ["check", tmp_path / name],
                    ["split", "--examples", tmp_path / name, "--out", tmp_path / "out"], ["stats", tmp_path / name]):
        refused(capsys, tmp_path, command, name, kind, "which is not read here; ")


def test_a_file_of_a_folder_that_is_no_text_is_listed_and_the_others_are_read(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.parquet").write_bytes(b"PAR1\x15\x00\x15PAR1")
    (tmp_path / "in" / "b.jsonl").write_text(corpus(2))
    assert tooldev.main(["convert", "--in", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    first, second = json.loads((tmp_path / "out" / "manifest.json").read_text())["inputs"]
    assert first["not_served"].startswith("a Parquet file") and second["examples"] == 2


@pytest.mark.parametrize("text", ["ORCA whales, where?\n", "Look at DUCK ponds\n", "Obj\n", "BZh\n", "PK and others\n",
                                  ""])
def test_text_that_begins_like_a_mark_is_text(text, tmp_path):
    (tmp_path / "a.txt").write_text(text)
    assert not_text(tmp_path / "a.txt") is None
    (tmp_path / "cut.parquet").write_bytes(("x" * 511 + "é").encode())       # a character cut in two by the look
    assert not_text(tmp_path / "cut.parquet") is None


def test_a_second_process_does_not_write_into_the_same_work(tmp_path, capsys, monkeypatch):
    """A command typed again while the first one runs on, as after a lost connection."""
    with held(tmp_path, "run"):
        with held(tmp_path, "train"), held(tmp_path, "run", dist_rank=1):           # other work, and a process of ours
            pass
        with pytest.raises(ValueError, match=r"another process is at work in it \(run\); wait for it or stop it"):
            held(tmp_path, "run").__enter__()
    assert not list(tmp_path.iterdir())                 # nothing is left of it
    with held(tmp_path, "run"):
        pass

    def refused(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    monkeypatch.setattr("data.files.fcntl.flock", refused)
    with held(tmp_path, "run"):
        assert "its file system has no locks" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "train", "eval"])
def test_a_command_typed_twice_is_refused_and_the_first_goes_on(command, tmp_path, capsys):
    data = tmp_path / "examples.jsonl"
    data.write_text(examples(6))
    tools = tmp_path / "tools.jsonl"
    tools.write_text(json.dumps(TOOL) + "\n")
    queries = tmp_path / "queries.jsonl"
    queries.write_text(json.dumps({"id": "q", "query": "Tides at Bergen?"}) + "\n")
    out, small = tmp_path / "out", ["--micro-batch-tokens", "1024", "--max-length", "1024"]
    type_it = {
        "run": lambda: tooldev.main(["run", "--tools", str(tools), "--examples", str(data), "--queries", str(queries),
                                     "--holdout", "0", "--rounds", "0", "--variants", "joint", "--out", str(out)]),
        "train": lambda: train_main(["--model", tooldev.home("model", "tiny").as_posix(), "--stage", "invocation",
                                     "--data", str(data), "--max-steps", "1", "--out", str(out), *small]),
        "eval": lambda: tooldev.main(["eval", "--bench", "bfcl", "--data", str(bfcl_folder(tmp_path / "bfcl")),
                                      "--bench-limit", "11", "--max-new-tokens", "1", "--out", str(out),
                                      "--model", tooldev.home("model", "tiny").as_posix()]),
    }[command]
    with held(out / "generation" if command == "eval" else out, command):
        assert type_it() == 2
    assert "another process is at work in it" in capsys.readouterr().err.splitlines()[-1]
    assert not [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]
