"""What the command line says to mistakes, the examples of --help, results as JSON, and settings read from a file."""

import json
import os
import re
import shlex

import pytest
from eval_fixtures import bfcl_folder

import evolve
import tooldev
import train
from data import world
from data.files import write_jsonl
from data.schema import read_json
from evolution import flags
from pipeline.inputs import Inputs
from pipeline.run import run_settings
from pipeline.settings import RunSettings

COMMANDS = list(tooldev.COMMANDS)
FILES = ["--tools", "t.jsonl", "--examples", "e.jsonl", "--queries", "q.jsonl", "--out", "new"]


def refused(capsys, argv: list[str]) -> str:
    """The line of a mistake that ends with exit code 2."""
    with pytest.raises(SystemExit, match="2"):
        tooldev.main(argv)
    return capsys.readouterr().err.splitlines()[-1]


def failed(capsys, argv: list[str]) -> str:
    """The one line of what a command found wrong."""
    assert tooldev.main(argv) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("typed, meant", [("evla", "eval"), ("make_tools", "make-tools"), ("export-", "export")])
def test_the_nearest_command_is_named(typed, meant, capsys):
    assert refused(capsys, [typed, "--out", "x"]).endswith(f"no command '{typed}'; did you mean {meant}?")


@pytest.mark.parametrize("argv, meant", [
    (["run", "--exmaples", "e.jsonl"], "--examples"), (["call", "--tool_s", "f", "a query"], "--tools"),
    (["eval", "--max-new-token-s=3"], "--max-new-tokens"), (["check", "F", "--jsno"], "--json")])
def test_the_nearest_option_is_named_before_what_is_missing(argv, meant, capsys):
    error = refused(capsys, argv)
    assert re.search(rf"no option --\S+; did you mean {meant}\?$", error), error


@pytest.mark.parametrize("word", ["--conf", "--confi", "--conf=run.json"])
def test_a_shortened_option_is_refused_and_named_whole(word, tmp_path, capsys):
    """argparse took --conf for --config, whose file was then not read."""
    assert refused(capsys, ["run", *FILES, word, saved(tmp_path)]).endswith("did you mean --config?")


@pytest.mark.parametrize("argv", [
    ["convert", "--in", "x", "--out", ""], ["convert", "--in", "", "--out", "x"],
    ["call", "q", "--tools", "t", "--adapter="], ["export", "--adapter", "", "--out", "x"]])
def test_an_empty_path_is_refused_by_its_option(argv, capsys):
    """As a variable of the shell that is not set gives it: it would be the working folder, or no adapter."""
    assert re.search(r"error: --\w+ is empty; give a path", refused(capsys, argv))


@pytest.mark.parametrize(("files", "own", "expected"), [
    ({"cpu.max": "150000 100000\n"}, None, "2"), ({"cpu.max": "50000 100000\n"}, None, "1"),
    ({"cpu.max": "max 100000\n"}, None, None), ({"cpu.max": "900000 100000\n"}, None, None), ({}, None, None),
    ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, None, "2"),
    ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, None),
    ({"cpu.max": "150000 100000\n"}, "3", "3")])
def test_a_containers_quota_decides_about_threads_where_the_user_has_not(files, own, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(os, "environ", {} if own is None else {"OMP_NUM_THREADS": own})
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    tooldev.fit_threads(tmp_path)
    assert os.environ.get("OMP_NUM_THREADS") == expected


@pytest.mark.parametrize("program", [tooldev, train, evolve])
def test_help_is_there_without_docstrings(program, monkeypatch, capsys):
    """As PYTHONOPTIMIZE=2 leaves the programs."""
    monkeypatch.setattr(program, "__doc__", None)
    with pytest.raises(SystemExit, match="0"):
        program.main(["--help"])
    assert "usage:" in capsys.readouterr().out


def test_a_name_that_is_no_text_is_told_in_one_line(tmp_path, capsys):
    row = {"messages": [{"role": "user", "content": "q"}], "tools": []}
    name = os.fsdecode(os.fsencode(tmp_path / "in") + b"\xe9.jsonl")
    with open(name, "w") as file:
        file.write(json.dumps(row) + "\n")
    assert tooldev.main(["convert", "--in", name, "--out", str(tmp_path / "out")]) == 2
    assert "cannot be written as utf-8: give the file a name in UTF-8" in capsys.readouterr().err


def test_an_option_that_is_like_no_other_is_named_too(capsys):
    assert refused(capsys, ["stats", "F", "--qqq"]).endswith("no option --qqq; --help lists them")
    assert "no command 'zzzzzzzz'; --help lists them" in refused(capsys, ["zzzzzzzz"])


@pytest.mark.parametrize("parse", [train.parse_config, lambda words: flags.make_parser().parse_args(words)],
                         ids=["train.py", "evolve.py"])
def test_train_and_evolve_name_the_nearest_option(parse, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(["--round", "1", "--learning-raet", "1"] if parse is not train.parse_config else ["--learning-raet", "1"])
    assert "no option --learning-raet; did you mean --learning-rate?" in capsys.readouterr().err


def test_every_command_has_an_example():
    assert all(words for _, _, words in tooldev.COMMANDS.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_an_example_whose_flags_are_known(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        tooldev.main([name, "--help"])
    last = capsys.readouterr().out.strip().splitlines()[-1].strip()
    assert last.startswith(f"python tooldev.py {name}"), last
    words = shlex.split(last)[2:]
    tooldev.make_parser(name).parse_args(words)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key", "value"), [("call", "arguments", {"phone_number": "253-5835"}),
                                                    ("make-tools", "description", "Book a doctor visit.")])
def test_an_example_that_needs_no_files_of_yours_works(name, key, value, monkeypatch, capsys):
    """The others' examples name files; tests/test_commands_on_pages.py runs such commands."""
    monkeypatch.chdir(tooldev.home())
    assert tooldev.main([name, *shlex.split(tooldev.COMMANDS[name][2]), "--precision", "fp32"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["name"] == "book_doctor_visit" and answer[key] == value


def test_what_follows_two_dashes_is_no_option():
    parsed = tooldev.make_parser("call").parse_args(["call", "--tools", "F", "--", "--exmaples"])
    assert parsed.query == "--exmaples"


# ------------------------------------------------------------------------------------------------------ results as JSON

def test_check_split_convert_show_and_trace_print_json(tmp_path, capsys):
    made, _ = world.training_data(0, tools=4, labelled=4), None
    write_jsonl(tmp_path / "e.jsonl", [example.to_dict() for example in made["examples"]])
    assert tooldev.main(["check", str(tmp_path / "e.jsonl"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] == 4
    assert tooldev.main(["check", str(tmp_path / "e.jsonl"), "--tools", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["reasons"]["missing_description"] == 4
    assert tooldev.main(["split", "--examples", str(tmp_path / "e.jsonl"), "--num-examples", "2", "--out",
                         str(tmp_path / "few"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_json(tmp_path / "few/manifest.json")
    (tmp_path / "q.txt").write_text("A query.\n")
    assert tooldev.main(["convert", "--from", "queries", "--in", str(tmp_path / "q.txt"), "--out",
                         str(tmp_path / "made"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_json(tmp_path / "made/manifest.json")
    assert tooldev.main(["show", str(tmp_path / "e.jsonl"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert len(row["ids"]) == len(row["labels"]) == len(row["tokens"]) and row["objective"] == "invocation"
    write_jsonl(tmp_path / "run/round-1/rejected.jsonl", [{"id": "a", "stage": "query", "reason": "r", "detail": "",
                                                           "text": "a query"}])
    for name in ("accepted", "tools", "calls"):
        write_jsonl(tmp_path / f"run/round-1/{name}.jsonl", [])
    assert tooldev.main(["trace", str(tmp_path / "run"), "--id", "a", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["round"] == 1 and record["accepted"] is None and record["rejected"][0]["reason"] == "r"


# ------------------------------------------------------------------------------------------------ settings from a file

def settings_of(tmp_path, *argv: str) -> RunSettings:
    args = tooldev.make_parser("run").parse_args(["run", *FILES, *argv])
    return run_settings(args, Inputs([], [], list(range(90))))


def saved(tmp_path, **changes) -> str:
    """A run.json whose settings are those of the tiny preset with some of their own."""
    settings = RunSettings.from_preset("tiny", **{"model": "model/tiny", "seed": 7, "rounds": 2, "labelled_epochs": 3.0,
                                                  "queries_per_round": 5, "evolve": {"min_votes": 3, "grounded": True},
                                                  "train": {"balance": "objective"}, "guard": ("g.json",)})
    record = json.loads(json.dumps({"settings": vars(settings) | changes}))
    (tmp_path / "run.json").write_text(json.dumps(record))
    return str(tmp_path / "run.json")


def test_config_gives_the_settings_of_a_run_and_flags_override_them(tmp_path):
    config = saved(tmp_path)
    same = settings_of(tmp_path, "--config", config)
    assert json.loads(json.dumps(vars(same))) == read_json(config)["settings"]
    first = settings_of(tmp_path, "--rounds", "1", "--config", config, "--epochs", "2", "--evolve", "min_votes=4",
                        "--learning-rate", "0.5", "--guard", "h.json")
    assert (first.rounds, first.seed, first.learning_rate, first.labelled_epochs) == (1, 7, 0.5, 2.0)
    assert first.evolve == {"min_votes": 4, "grounded": True} and first.train == {"balance": "objective"}
    assert first.guard == ("h.json",) and first.max_length == 1024
    slower = settings_of(tmp_path, "--learning-rate", "0.5", "--evolve-learning-rate", "0.25")
    assert [slower.training(stage)["learning_rate"] for stage in ("adaption", "joint", "evolve")] == [0.5, 0.5, 0.25]
    assert first.training("evolve")["learning_rate"] == 0.5
    paper = settings_of(tmp_path, f"--config={config}", "--preset", "paper")
    assert paper.max_length == 4096 and paper.labelled_epochs == 1.0 and paper.seed == 7


def test_a_saved_switch_can_be_turned_off(tmp_path):
    config = saved(tmp_path, evolve={"stop_when": True})
    assert settings_of(tmp_path, "--config", config).evolve == {"stop_when": True}
    assert settings_of(tmp_path, "--config", config, "--no-stop-when").evolve == {}


def test_config_without_settings_or_with_bad_ones_is_refused(tmp_path):
    other = tmp_path / "other.json"
    other.write_text('{"a": 1}')
    with pytest.raises(ValueError, match="no settings of a run in it; expected a run.json"):
        settings_of(tmp_path, "--config", str(other))
    with pytest.raises(ValueError, match="no setting 'learning_raet'; did you mean learning_rate"):
        settings_of(tmp_path, "--config", saved(tmp_path, learning_raet=1.0))
    with pytest.raises(ValueError, match="rounds is '3'; expected a whole number"):
        settings_of(tmp_path, "--config", saved(tmp_path, rounds="3"))
    with pytest.raises(ValueError, match="evolve: no setting 'min_vote'; did you mean min_votes"):
        settings_of(tmp_path, "--config", saved(tmp_path, evolve={"min_vote": 3}))
    with pytest.raises(FileNotFoundError):
        settings_of(tmp_path, "--config", str(tmp_path / "none.json"))


def test_a_lost_process_is_told_in_one_line_and_another_fault_is_not_hidden(capsys, monkeypatch):
    from training.processes import LostProcess

    argv = ["eval", "--bench", "bfcl", "--data", "D", "--model", "M", "--out", "O"]
    for kind in (LostProcess, RuntimeError):
        def main(args, kind=kind):
            raise kind("process 0 lost the others at a pass")

        monkeypatch.setattr("pipeline.evaluate.main", main)
        if kind is RuntimeError:
            with pytest.raises(RuntimeError):
                tooldev.main(argv)
        else:
            assert tooldev.main(argv) == 1
            assert capsys.readouterr().err == ("error: process 0 lost the others at a pass; the same command goes on "
                                               "from what is finished\n")


@pytest.mark.parametrize(("changes", "words"), [
    ({"variants": [["joint"]]}, "variants is"), ({"variants": []}, "no variants to train"),
    ({"guard": [3]}, "guard is"), ({"queries_per_round": -3}, "--queries-per-round is -3"),
    ({"evolve": {"stop_when": "no"}}, "evolve: stop_when is 'no'; expected true or false"),
    ({"evolve": {"pack_weights": "no"}}, "evolve: pack_weights is 'no'; expected true or false"),
    ({"evolve": {"round": 7}}, "evolve: round is 7, and is not set here"),
    ({"evolve": {"probe": 7}}, "evolve: probe is 7, and is not set here"),
    ({"train": {"rank": 3}}, "train: rank is 3, and is not set here"),
    ({"evolve": {"train": {"rank": 4}}}, "evolve: train is"), ({"evolve": {"num_samples": "5"}}, "num_samples is '5'"),
    ({"train": {"model": "/x"}}, "train: model is '/x', and is not set here"),
    ({"train": {"stage": "pretrain"}}, "train: stage is"), ({"train": {"dropout": None}}, "train: dropout is None"),
    ({"train": [1]}, r"train is .*\[1\].*; expected an object"), ({"alpha": 10**400}, "401 characters"),
    ({"x" * 5000: 1}, "no setting")], ids=range(17))
def test_a_saved_setting_of_another_type_or_of_the_runs_own_is_refused(changes, words, tmp_path):
    """stop_when "no" was true, an empty list of variants trained nothing, a list in it ended in a traceback."""
    with pytest.raises(ValueError, match=words) as caught:
        settings_of(tmp_path, "--config", saved(tmp_path, **changes))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("record", "words"), [
    ("[]", "holds []; expected an object"), ("null", "holds null; expected an object"),
    ('{"evolve": null}', "expected an object of settings"),
    ('{"evolve": {"num_samples": "x"}}', "num_samples is 'x'; expected a whole number"),
    ('{"evolve": {"num_samples": null}}', "expected a whole number"),
    ('{"evolve": {"seed": 1.5}}', "seed is 1.5; expected a whole number"),
    ('{"evolve": {"guard": 5}}', "expected a list of texts"), ('{"evolve": {"train": [1]}}', "train is [1]"),
    ('{"evolve": {"train": {"learning_rate": "x"}}}', "learning_rate is 'x'; expected a number"),
    ('{"evolve": {"train": {"lerning_rate": 1}}}', "did you mean learning_rate"),
    ('{"evolve": {"train": {"out": "/x"}}}', "out is '/x', and is not set here"),
    ('{"evolve": {"queries_per_round": -1}}', "-1")], ids=range(12))
def test_a_round_on_a_damaged_record_of_its_run_ends_with_one_line(record, words, tmp_path, capsys):
    from evolve import main as evolve_main

    (tmp_path / "run.json").write_text(record)
    assert evolve_main(["--run", str(tmp_path), "--round", "1"]) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(("argv", "words"), [
    (["--config", ""], "--config is empty"), (["--config="], "--config is empty"), (["--test="], "--test is empty"),
    (["--guard", ""], "--guard is empty")])
def test_an_option_whose_path_is_empty_is_refused(argv, words, capsys):
    assert words in refused(capsys, ["run", *FILES, *argv])


@pytest.mark.parametrize(("option", "value"), [("--max-length", "-1"), ("--pack-tokens", "0")])
def test_lengths_that_are_none_are_refused(option, value, capsys):
    assert f"{option} is {value}" in failed(capsys, ["stats", str(tooldev.home("docs", "few.jsonl")), option, value])


def test_guard_writes_nothing_among_the_data_of_a_benchmark(tmp_path, capsys):
    folder = bfcl_folder(tmp_path / "bfcl")
    assert "lies among the data" in failed(capsys, ["guard", f"bfcl={folder}", "--out", str(folder / "g.jsonl")])
    assert not (folder / "g.jsonl").exists()


def test_a_folder_of_parquet_files_is_named_with_what_to_do(tmp_path, capsys):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train-00000.parquet").write_bytes(b"PAR1" + bytes(99))
    line = failed(capsys, ["convert", "--in", str(tmp_path / "rows"), "--out", str(tmp_path / "out")])
    assert "train-00000.parquet" in line and "read_parquet" in line


@pytest.mark.parametrize(("record", "words"), [
    ("[]", "expected an object"), ("{}", "has no settings"), ('{"settings": [1]}', "settings is"),
    ('{"settings": {"preset": "tiny"}}', "has no model, seed among its settings"),
    ('{"settings": {"model": "m", "preset": "tiny", "seed": 1.5}}', "seed is 1.5; expected a whole number")],
    ids=range(5))
def test_the_settings_of_a_damaged_run_are_refused_by_name(record, words, tmp_path):
    (tmp_path / "run.json").write_text(record)
    with pytest.raises(ValueError, match=words):
        RunSettings.of_run(tmp_path)
