"""The commands run, show, call, make-tools and export, as typed: what they write, and what they say to mistakes."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest
import torch
from eval_fixtures import bfcl_folder

import tooldev
import train
from data import world
from data.files import write_json, write_jsonl
from data.prompts import NO_CALL_TEXT, calls_answer, pieces_text, tools_answer
from data.schema import Example, ToolCall, load_examples, read_json
from data.world_text import train_tokenizer
from evolution.flags import named_values
from lora import apply_lora, load_adapter, lora_parameters, save_adapter
from model import ModelConfig, Transformer, load_model, load_tokenizer, save_model
from pipeline import run_bench
from pipeline.inputs import hold_out, read_inputs
from pipeline.settings import RunSettings
from sampler import Completion
from train import TrainConfig

QUERY = "What is the weather in Oslo?"
WEATHER = {"name": "weather.now", "description": "The weather of a city.", "arguments": {
    "type": "dict", "properties": {"city": {"type": "string", "description": "Its name."}}, "required": ["city"]}}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A random model of some ten thousand weights, with the world's tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    train_tokenizer(0, rows=300).save(str(folder / "tokenizer.json"))
    shutil.copy(tooldev.home("model", "tiny", "tokenizer_config.json"), folder)     # its chat template
    config = ModelConfig(vocab_size=load_tokenizer(folder).vocab_size, hidden_size=16, intermediate_size=24,
                         num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
                         max_position_embeddings=4096, model_type="qwen2", qkv_bias=True, tie_word_embeddings=True)
    save_model(Transformer(config).init_weights(0, std=0.2), folder)
    raw = read_json(folder / "config.json")
    (folder / "config.json").write_text(json.dumps({**raw, "eos_token_id": 7, "rope_theta": 5000.0}))
    return folder


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory) -> Path:
    """A step of a run with an adapter on that model that changes its answers."""
    model = load_model(base)
    apply_lora(model, rank=2, alpha=4, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in lora_parameters(model).values():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    step = tmp_path_factory.mktemp("run") / "joint"
    save_adapter(model, step / "adapter", base_model=str(base))
    return step


@pytest.fixture
def data(tmp_path) -> dict[str, Path]:
    """Tools, examples and new queries of the generated world as files."""
    made, (queries, _) = world.training_data(0, tools=12, labelled=24), world.queries(8, seed=0)
    files = {"tools": made["tools"], "examples": made["examples"], "queries": queries}
    for name, rows in files.items():
        write_jsonl(tmp_path / f"{name}.jsonl", [row.to_dict() for row in rows])
    return {name: tmp_path / f"{name}.jsonl" for name in files}


def run(base, data, out, *more) -> int:
    files = [word for name, path in data.items() for word in (f"--{name}", str(path))]
    return tooldev.main(["run", "--model", str(base), *files, "--out", str(out), *map(str, more)])


def refused(capsys, code: int, *fragments: str) -> None:
    """The command ended with 2 and one line that holds the fragments."""
    error = capsys.readouterr().err
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    for fragment in fragments:
        assert fragment in error, error


# ------------------------------------------------------------------------------------------------------------------ run

def test_run_does_every_step_and_again_only_reads(base, data, tmp_path, capsys):
    out = tmp_path / "run"
    options = ["--rounds", 1, "--queries-per-round", 4, "--preset", "tiny", "--max-tools-tokens", 8,
               "--max-calls-tokens", 8, "--precision", "fp32", "--evolve", "retries=0", "--train", "rank=2"]
    refused(capsys, run(base, data, out, *options), "--train rank=2", "expected NAME=VALUE")
    options[-1] = "balance=objective"
    assert run(base, data, out, *options) == 0
    told = capsys.readouterr()
    assert "held out by the hash of their query" in told.err and "not stated" in told.err and "joint" in told.out
    record = read_json(out / "run.json")
    assert record["settings"]["train"] == {"balance": "objective"} and record["settings"]["queries_per_round"] == 4
    assert read_json(out / "joint" / "config.json")["balance"] == "objective"
    assert read_json(out / "round-1" / "ledger.json")["queries"] == {"in": 4, "accepted": 0, "rejected": 4}
    parts = {name: load_examples(out / "data" / f"{name}.jsonl") for name in ("examples", "validation", "test")}
    found = sorted(example.id for rows in parts.values() for example in rows)
    assert found == sorted(example.id for example in load_examples(data["examples"]))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("adapter_model.safetensors")}
    assert run(base, data, out, *options) == 0 and "every step is complete" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("adapter_model.safetensors")}

    # asked again as a new query: it has its labels
    told_twice = json.loads(data["examples"].read_text().splitlines()[0])["query"]
    with data["queries"].open("a") as file:
        file.write(json.dumps({"id": "again", "query": told_twice.upper()}) + "\n")
    assert run(base, data, out, *options) == 0 and read_json(out / "run.json") == record
    assert "new queries: 1 left out that repeat a " in capsys.readouterr().err
    paced = [*options, "--evolve", "cache_gb=0.5", "--train", "threads=1"]        # what only sets the pace may differ
    assert run(base, data, out, *paced) == 0 and "every step is complete" in capsys.readouterr().err

    older = read_json(out / "run.json")                              # of a version that did not know this setting yet
    assert older["settings"].pop("evolve_generation_weight") == 0.02
    write_json(out / "run.json", older)
    assert run(base, data, out, *options) == 2
    assert "settings.evolve_generation_weight was 1.0, now 0.02" in capsys.readouterr().err.splitlines()[-1]
    write_json(out / "run.json", record)

    kept = (out / "data" / "tools.jsonl").read_bytes()
    (out / "data" / "tools.jsonl").write_bytes(kept + b"\n")
    assert run(base, data, out,
               *options) == 2 and "changed since the run began" in capsys.readouterr().err.splitlines()[-1]
    (out / "data" / "tools.jsonl").write_bytes(kept)
    data["tools"].write_text(json.dumps(WEATHER) + "\n")
    refused(capsys, run(base, data, out, *options), "holds a run on other tools")
    assert (out / "data" / "tools.jsonl").read_bytes() == kept
    shutil.copy(out / "data" / "tools.jsonl", data["tools"])
    assert run(base, data, out, *options, "--learning-rate", "3e-3") == 2
    assert "settings.learning_rate was 0.001, now 0.003" in capsys.readouterr().err.splitlines()[-1]

    assert run(base, data, out, *options, "--rounds", 2) == 0                # a finished run takes another round
    assert "note: rounds of this run was 1, now 2; steps that are complete stay" in capsys.readouterr().err
    assert read_json(out / "run.json")["settings"]["rounds"] == 2
    assert read_json(out / "round-2" / "ledger.json")["queries"]["in"] == 4
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_run_asks_every_step_the_benchmarks_and_goes_on_where_it_stopped(base, data, tmp_path, capsys, monkeypatch):
    out, board = tmp_path / "run", bfcl_folder(tmp_path / "bfcl", irrelevance=1)
    options = ["--rounds", 0, "--preset", "tiny", "--max-calls-tokens", 2, "--precision", "fp32", "--bench",
               f"bfcl={board}", "--bench-limit", 11, "--bench-tokens", 2]
    refused(capsys, run(base, data, out, *options, "--bench", "bfcl"), "expected NAME=DIR")
    refused(capsys, run(base, data, out, *options, "--bench-limit", 3), "fewer than the 11 categories")
    assert not out.exists()
    ask = run_bench.ask

    def killed(asked, settings, name, folder, step, place):
        if step.name == "joint":
            raise KeyboardInterrupt
        ask(asked, settings, name, folder, step, place)
    monkeypatch.setattr(run_bench, "ask", killed)
    assert run(base, data, out, *options) == 130
    assert re.search(r"together +\d+ test items and 11 entries of benchmarks after every step", capsys.readouterr().err)
    monkeypatch.undo()
    assert (out / "adaption/bench/bfcl/summary.json").is_file() and not (out / "joint/bench").exists()
    capsys.readouterr()
    assert run(base, data, out, *options) == 0
    told = capsys.readouterr()
    assert "a fixed subset by hash: 11 of 15 entries" in told.err and "without --guard" in told.err
    assert told.err.count("joint: bfcl") == 1 and "adaption: bfcl" not in told.err
    assert "Table 1: BFCL" in told.out and "a fixed subset by hash" in told.out
    summaries = {path: path.read_bytes() for path in out.glob("*/bench/*/summary.json")}
    assert {path.parts[-4] for path in summaries} == {"raw", "adaption", "joint"}
    assert run(base, data, out, *options) == 0
    assert summaries == {path: path.read_bytes() for path in out.glob("*/bench/*/summary.json")}
    capsys.readouterr()
    assert run(base, data, out, *options, "--bench-limit", 12) == 0
    assert capsys.readouterr().err.count("sampled 1/1 items") == len(summaries)         # the further entry alone
    assert all(json.loads(path.read_text())["subset"]["entries"] == 12 for path in summaries)
    assert run(base, data, out, *options) == 2
    assert "bench_limit was 12, now 11" in capsys.readouterr().err.splitlines()[-1]
    torn = out / "raw/bench/bfcl"               # as a kill leaves it that came between the answers and the scores of 13
    begun = json.loads((torn / "manifest.json").read_text())
    begun["settings"]["bench_limit"] = 13
    (torn / ".begun.json").write_text(json.dumps(begun))
    assert run(base, data, out, *options, "--bench-limit", 13) == 0
    assert all(json.loads(path.read_text())["subset"]["entries"] == 13 for path in summaries)


def test_the_pace_of_the_rounds_is_that_of_the_benchmarks(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(run_bench.evaluate, "main", given.append)
    settings = RunSettings.from_preset("tiny", model="base", seed=0, evolve={"max_rows": 7, "pack_weights": True})
    run_bench.ask(run_bench.Benchmarks({}, {}, None, 2), settings, "bfcl", "data", Path("raw"), tmp_path)
    assert (given[0].max_rows, given[0].pack_weights, given[0].cache_gb) == (7, True, None)
    for packs in (False, None):
        settings = RunSettings.from_preset("tiny", model="base", seed=0, evolve={"pack_weights": packs})
        run_bench.ask(run_bench.Benchmarks({}, {}, None, 2), settings, "bfcl", "data", Path("raw"), tmp_path)
        assert given[-1].pack_weights is packs


def test_run_and_train_keep_files_that_are_not_theirs(base, data, tmp_path, capsys):
    out = tmp_path / "mine"
    (out / "data").mkdir(parents=True)
    shutil.copy(data["tools"], out / "data" / "tools.jsonl")
    before = sorted(out.rglob("*"))
    refused(capsys, run(base, data, out), f"--out {out}", "nothing of ours (data", "choose another folder")
    refused(capsys, run(base, {**data, "tools": out / "data" / "tools.jsonl"}, out), "the input", "lies there")
    (out / "metrics.jsonl").write_text("mine")
    command = ["--model", str(base), "--stage", "joint", "--data", str(data["examples"]), "--out", str(out)]
    refused(capsys, train.main(command), f"--out {out}", "metrics.jsonl")
    assert (out / "metrics.jsonl").read_text() == "mine"
    (out / "metrics.jsonl").unlink()
    write_json(out / "run.json", {"name": "of another program"})
    refused(capsys, run(base, data, out), f"--out {out}")
    assert sorted(out.rglob("*")) == sorted([*before, out / "run.json"])


def broken(path: Path, line: int, text: str) -> None:
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")


def no_parameters(path: Path, line: int) -> None:
    broken(path, line, json.dumps({"name": "a", "description": "b"}))


MISTAKES = {
    "broken line": (lambda d: broken(d["examples"], 3, '{"id": "x", '), ("examples.jsonl, line 3: ", "mend or remove")),
    "NaN": (lambda d: broken(d["queries"], 2, '{"id": "x", "query": NaN}'), ("queries.jsonl, line 2: ", "NaN")),
    "tool without parameters": (lambda d: no_parameters(d["tools"], 5), ("tools.jsonl, line 5: ", "no `arguments`")),
    "empty query": (lambda d: broken(d["queries"], 4, '{"id": "x", "query": " "}'),
                    ("queries.jsonl, line 4: ", "no `query`", "non-empty")),
    "no rows": (lambda d: d["tools"].write_text("\n"), ("tools.jsonl: no tools in it",)),
    "no file": (lambda d: d["queries"].unlink(), ("queries.jsonl: no such file",)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_run_refuses_bad_data_and_writes_nothing(mistake, base, data, tmp_path, capsys):
    spoil, fragments = MISTAKES[mistake]
    spoil(data)
    refused(capsys, run(base, data, tmp_path / "out"), *fragments)
    assert not (tmp_path / "out").exists()


OPTIONS = {
    "unknown round setting": (["--evolve", "votes=3"], ("--evolve votes=3", "min_votes")),
    "wrong type": (["--evolve", "min_votes=most"], ("--evolve min_votes=most: expected a whole number",)),
    "votes never reached": (["--evolve", "min_votes=9"], ("--min-votes 9 can never be reached with 5 samples",)),
    "rate": (["--learning-rate", "-1"], ("--learning-rate",)),
    "too many queries": (["--queries-per-round", "5", "--rounds", "2"], ("8 queries are too few for 2 rounds of 5",)),
    "holdout": (["--holdout", "0.6"], ("--holdout 0.6",)),
    "guard": (["--guard", "nowhere.jsonl"], ("nowhere.jsonl: no such file",)),
    "test file": (["--test", "nowhere.jsonl"], ("nowhere.jsonl: no such file",)),
}


@pytest.mark.parametrize("mistake", OPTIONS)
def test_run_refuses_bad_options_and_writes_nothing(mistake, base, data, tmp_path, capsys):
    options, fragments = OPTIONS[mistake]
    refused(capsys, run(base, data, tmp_path / "out", *options), *fragments)
    assert not (tmp_path / "out").exists()


def spoiled(base: Path, folder: Path, kind: str) -> Path:
    """A copy of the model with one thing wrong."""
    if kind == "missing":
        return folder
    shutil.copytree(base, folder)
    weights = folder / "model.safetensors"
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif kind == "no config":
        (folder / "config.json").unlink()
    elif kind == "other shape":
        raw = read_json(folder / "config.json")
        (folder / "config.json").write_text(json.dumps({**raw, "intermediate_size": 32}))
    return folder


MODELS = {"missing": "no such folder", "truncated": "the file is truncated or damaged", "other shape": "wrong shape",
          "no tokenizer": "neither tokenizer.json", "no config": "config.json: no such file"}


@pytest.mark.parametrize("kind", MODELS)
def test_every_command_refuses_a_spoiled_model(kind, base, adapter, data, tmp_path, capsys):
    folder = spoiled(base, tmp_path / "spoiled", kind)
    model, out = ["--model", str(folder)], tmp_path / "out"
    refused(capsys, run(folder, data, out), str(folder), MODELS[kind])
    refused(capsys, export(folder, adapter, out), str(folder), MODELS[kind])
    refused(capsys, tooldev.main(["show", *model, str(data["tools"])]), str(folder), MODELS[kind])
    refused(capsys, tooldev.main(["call", *model, "--tools", str(data["tools"]), QUERY]), str(folder), MODELS[kind])
    refused(capsys, tooldev.main(["make-tools", *model, QUERY]), str(folder), MODELS[kind])
    assert not out.exists()


def test_run_and_export_refuse_an_out_that_cannot_be_written(base, adapter, data, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    for out in (Path("/proc/nowhere/out"), tmp_path / "file", tmp_path / "file" / "below", tmp_path / "full"):
        before = sorted(tmp_path.rglob("*"))
        refused(capsys, run(base, data, out), f"--out {out}", "choose another folder")
        refused(capsys, export(base, adapter, out, "--merge"), f"--out {out}", "choose another folder")
        assert sorted(tmp_path.rglob("*")) == before


def test_a_path_in_the_way_is_refused_with_what_to_do(data, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        refused(capsys, tooldev.main(["convert", "--from", "queries", "--in", str(data["queries"]), "--out", str(out)]),
                str(tmp_path / "file"), "choose another folder")
    refused(capsys, tooldev.main(["ablate", "--first-seed", "-1", "--out", str(tmp_path / "out")]), "--first-seed -1")
    refused(capsys, train.main(["--model", str(tmp_path / "none"), "--data", str(data["examples"]), "--out",
                                str(tmp_path / "out")]), "no such folder")
    assert not (tmp_path / "out").exists()


def made_examples(count: int) -> list[Example]:
    """Each query twice."""
    return [Example(f"e{i}", f"Please look at the number {i // 2}.", (), ()) for i in range(count)]


def test_what_is_held_out_depends_on_the_queries_and_not_on_order_or_ids():
    examples = made_examples(60)
    shuffled = random.Random(0).sample(examples, len(examples))
    for name in ("validation", "test"):
        kept, held = hold_out(examples, 0.1, name, "F")
        queries = {example.query for example in held}
        assert len(held) == 6 and len(kept) == 54 and not {e.query for e in kept} & queries
        assert {e.query for e in hold_out(shuffled, 0.1, name, "F")[1]} == queries
        more = [*examples, *(Example(f"n{i}", f"Please look at the number {i}.", (), ()) for i in range(30, 33))]
        assert len({e.query for e in hold_out(more, 0.1, name, "F")[1]} & queries) >= 2
    assert hold_out(examples, 0.1, "test", "F")[1] != hold_out(examples, 0.1, "validation", "F")[1]
    with pytest.raises(ValueError, match="too few different queries to hold some out for test"):
        hold_out(made_examples(2), 0.1, "test", "F")


def test_training_data_never_repeats_the_test_or_the_guard(data, tmp_path):
    examples = load_examples(data["examples"])
    files = {name: str(path) for name, path in data.items()}
    first = examples[0].query
    write_jsonl(tmp_path / "test.jsonl", [{**examples[0].to_dict(), "id": "t", "query": first.upper() + " !"}])
    with data["queries"].open("a") as file:
        file.write(json.dumps({"id": "copy", "query": first}) + "\n")
    found = read_inputs(**files, test=str(tmp_path / "test.jsonl"))
    assert [e.id for e in found.test] == ["t"] and len(found.validation) == 2 and len(found.queries) == 8
    assert len(found.examples) == 24 - 2 - 1 and examples[0].id not in {e.id for e in found.examples}
    assert "examples: 1 left out that repeat a held-out query" in found.notes
    assert "new queries: 1 left out that repeat a held-out query" in found.notes

    guard = tmp_path / "bench.jsonl"
    write_jsonl(guard, [examples[1].to_dict()])
    kept = read_inputs(**files, fraction=0.0, guard=[str(guard)])
    assert examples[1].id not in {e.id for e in kept.examples} and not kept.test and not kept.validation
    assert any("repeat the guarded benchmark" in note for note in kept.notes)


def test_settings_given_by_name_take_the_type_of_their_field():
    texts = ["gradient-checkpointing=2", "packing=false", "dropout=0.1", "balance=objective"]
    values = {"gradient_checkpointing": 2, "packing": False, "dropout": 0.1, "balance": "objective"}
    assert named_values(texts, TrainConfig, ("stage",), "--train") == values
    for text in ("packing=no", "stage=joint", "dropout", "dropout=nan", "rank=1.5"):
        with pytest.raises(ValueError, match="--train"):
            named_values([text], TrainConfig, ("stage",), "--train")


# ----------------------------------------------------------------------------------------------------------------- show

def shown(capsys, *argv) -> tuple[str, str, str]:
    """(first line, text of all tokens, text of the marked ones) of the command's output."""
    assert tooldev.main(["show", *map(str, argv)]) == 0
    head, _, *tokens = capsys.readouterr().out.splitlines()
    texts = [token[17:] for token in tokens]
    marked = [text[1:-1] for text in texts if text.startswith("[")]
    whole = [text[1:-1] if text.startswith("[") else text[1:] for text in texts]
    assert f"{len(tokens)} tokens, {len(marked)} of them supervised" in head
    return head, "".join(whole).replace("\\n", "\n"), "".join(marked).replace("\\n", "\n")


def test_show_marks_the_answer_and_its_stop_token_and_nothing_else(base, data, tmp_path, capsys):
    example = next(e for e in load_examples(data["examples"]) if e.calls)
    write_jsonl(tmp_path / "one.jsonl", [example.to_dict()])
    head, whole, marked = shown(capsys, "--model", base, tmp_path / "one.jsonl")
    assert "invocation" in head and "the stop token is <|im_end|>" in head and "line 1" in head
    assert marked == pieces_text(calls_answer(example.calls)) + "<|im_end|>"
    assert whole.startswith("<|im_start|>system\n") and example.query in whole and whole.endswith(marked + "\n")
    marked = shown(capsys, "--model", base, tmp_path / "one.jsonl", "--stage", "generation")[2]
    assert marked == pieces_text(tools_answer(example.tools)) + "<|im_end|>"

    tool = json.loads(data["tools"].read_text().splitlines()[1])
    head, whole, marked = shown(capsys, "--model", base, data["tools"], "--row", 2)
    assert "adaption" in head and tool["description"] in whole and json.loads(marked.split("\n")[1]) == tool
    answer = {"role": "assistant", "content": [["tag", "<tools>"], ["text", "東"]]}
    write_jsonl(tmp_path / "chat.jsonl", [{"messages": [{"role": "user", "content": "é\t?"}, answer]}])
    assert tooldev.main(["show", "--model", str(base), str(tmp_path / "chat.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert "[<tools>]" in printed and "[\\xe6]" in printed and "\\t" in printed     # part of a character


def test_show_says_which_row_cannot_be_shown_and_why(base, data, tmp_path, capsys):
    write_jsonl(tmp_path / "none.jsonl", [{"id": "a", "query": "Hello?", "tools": [], "calls": []}])
    show = ["show", "--model", str(base)]
    none, tools = str(tmp_path / "none.jsonl"), str(data["tools"])
    refused(capsys, tooldev.main([*show, none, "--stage", "generation"]), "none.jsonl, line 1", "no_tools")
    refused(capsys, tooldev.main([*show, none, "--row", "2"]), "no row 2 in it")
    refused(capsys, tooldev.main([*show, none, "--row", "0"]), "--row is 0")
    refused(capsys, tooldev.main([*show, tools, "--stage", "invocation"]), "tools.jsonl, line 1", "give examples")
    no_parameters(data["tools"], 3)
    refused(capsys, tooldev.main([*show, tools, "--row", "3"]), "tools.jsonl, line 3", "no `arguments`")
    refused(capsys, tooldev.main([*show, str(tmp_path / "nowhere.jsonl")]), "nowhere.jsonl: no such file")


# ----------------------------------------------------------------------------------------------------- call, make-tools

def answers(monkeypatch, base, *texts: str, finish: str = "stop") -> None:
    """Let the model write these texts."""
    tokenizer = load_tokenizer(base)

    def generate(model, prompts, *, num_samples, **options):
        assert num_samples == len(texts) and len(prompts) == 1
        return [[Completion(tokenizer.encode(text), -1.0, finish) for text in texts]]
    monkeypatch.setattr("sampler.generate", generate)


def call_text(**arguments) -> str:
    return pieces_text(calls_answer([ToolCall(WEATHER["name"], arguments)]))


def ask(capsys, base, *argv) -> tuple[int, object, str]:
    code = tooldev.main([argv[0], "--model", str(base), *map(str, argv[1:])])
    told = capsys.readouterr()
    return code, json.loads(told.out), told.err


def test_call_prints_the_calls_or_the_reason(base, adapter, tmp_path, capsys, monkeypatch):
    write_jsonl(tmp_path / "tools.jsonl", [WEATHER])
    offer = ("call", "--tools", tmp_path / "tools.jsonl", QUERY)
    answers(monkeypatch, base, call_text(city="Oslo"))
    oslo = {"name": "weather.now", "arguments": {"city": "Oslo"}}
    assert ask(capsys, base, *offer, "--adapter", adapter) == (0, [oslo], "rule checker: good\n")
    answers(monkeypatch, base, NO_CALL_TEXT)
    assert ask(capsys, base, *offer)[:2] == (0, [])
    answers(monkeypatch, base, "Rain.")
    code, found, _ = ask(capsys, base, *offer)
    assert code == 1 and found["reason"] == "no_call_text" and found["text"] == "Rain."
    answers(monkeypatch, base, "", finish="length")
    code, found, _ = ask(capsys, base, *offer)
    assert code == 1 and found["reason"] == "cut_off"
    answers(monkeypatch, base, call_text(city=5))
    code, found, told = ask(capsys, base, *offer)
    assert code == 1 and found[0]["arguments"] == {"city": 5} and "rule checker: " in told and "city" in told


def test_call_with_samples_prints_what_most_agree_on(base, tmp_path, capsys, monkeypatch):
    write_jsonl(tmp_path / "tools.jsonl", [WEATHER])
    cities = [call_text(city=city) for city in ("Rome", "Oslo", "Oslo", "Bergen")]
    answers(monkeypatch, base, "Rain.", *cities)
    code, found, told = ask(capsys, base, "call", "--tools", tmp_path / "tools.jsonl", "--samples", 5, QUERY)
    assert code == 0 and found == [{"name": "weather.now", "arguments": {"city": "Oslo"}}]
    assert "2 of 5 samples agree, 1 did not parse, 3 different answers" in told


def test_make_tools_prints_the_tools_and_the_rule_checkers_word(base, capsys, monkeypatch):
    text = f"<tools>\n{json.dumps(WEATHER)}\n</tools>"
    answers(monkeypatch, base, text)
    assert ask(capsys, base, "make-tools", QUERY) == (0, [WEATHER], "rule checker: good\n")
    answers(monkeypatch, base, text.replace('"string"', '"place"'))
    code, found, told = ask(capsys, base, "make-tools", QUERY)
    assert code == 1 and found[0]["name"] == WEATHER["name"] and "rule checker: " in told and "place" in told
    answers(monkeypatch, base, call_text(city="Oslo"))
    assert ask(capsys, base, "make-tools", QUERY)[1]["reason"] == "wrote_calls_instead"


def test_call_with_a_real_model_and_adapter_ends_with_json(base, adapter, data, capsys):
    code, found, _ = ask(capsys, base, "call", "--adapter", adapter, "--tools", data["tools"], "--max-new-tokens", 4,
                         "--precision", "fp32", QUERY)
    assert code == 1 and found["reason"] in ("cut_off", "no_call_text")


def test_call_and_make_tools_refuse_mistakes(base, data, tmp_path, capsys):
    def fails(command: str, *argv, says: str) -> None:
        refused(capsys, tooldev.main([command, "--model", str(base), *map(str, argv)]), says)

    fails("make-tools", "  ", says="the query is empty")
    fails("call", "--tools", data["tools"], "", says="the query is empty")
    fails("call", "--tools", tmp_path / "none.jsonl", QUERY, says="none.jsonl: no such file")
    fails("make-tools", "--adapter", tmp_path / "none", QUERY, says="none: no such folder; --adapter wants")
    fails("make-tools", "--adapter", base, QUERY, says="adapter_config.json: not found")
    many = [{**WEATHER, "name": f"tool_{i}", "description": "A long description. " * 20} for i in range(200)]
    write_jsonl(tmp_path / "many.jsonl", many)
    fails("call", "--tools", tmp_path / "many.jsonl", QUERY, says="the model's context is 4,096; offer fewer tools")
    for value in ("inf", "nan", "-1", "1e39"):
        fails("call", "--tools", data["tools"], "--samples", 3, "--temperature", value, QUERY,
              says="expected 0 (greedy) to 1e+06")
        fails("make-tools", "--temperature", value, QUERY, says="--temperature is")
    no_parameters(data["tools"], 2)
    fails("call", "--tools", data["tools"], QUERY, says="tools.jsonl, line 2: tool 'a' has no `arguments`")


def test_a_temperature_too_low_to_divide_by_is_greedy(base, data, capsys):
    options = ("--tools", data["tools"], "--max-new-tokens", 6, "--precision", "fp32", QUERY)
    greedy = ask(capsys, base, "call", "--temperature", 0, *options)
    assert ask(capsys, base, "call", "--temperature", "1e-46", *options) == greedy


# --------------------------------------------------------------------------------------------------------------- export

def export(base, adapter, out, *more) -> int:
    return tooldev.main(["export", "--model", str(base), "--adapter", str(adapter), "--out", str(out), *map(str, more)])


def test_export_replaces_what_is_there_only_on_purpose(base, adapter, tmp_path, capsys):
    out = tmp_path / "out"
    assert export(base, adapter, out, "--merge", "--shard-gb", "1e-4") == 0
    (out / "notes.txt").write_text("mine")
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    capsys.readouterr()
    refused(capsys, export(base, adapter, out), f"--out {out}", "--overwrite")
    for place in (base, adapter / "adapter"):
        refused(capsys, export(base, adapter, place, "--overwrite"), "is where the export comes from")
    assert before == {p.name: p.read_bytes() for p in out.iterdir()}
    assert export(base, adapter, out, "--overwrite") == 0
    assert (out / "notes.txt").read_text() == "mine" and not list(out.glob("model-*"))
    load_adapter(load_model(base), out)
    assert export(base, adapter, out, "--merge", "--overwrite") == 0
    assert not (out / "adapter_config.json").exists() and torch.equal(logits(load_model(out)), logits(load_model(out)))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(40)[None])


def test_exported_adapter_and_merged_checkpoint_answer_as_the_adapted_model(base, adapter, tmp_path, capsys):
    adapted = load_model(base)
    load_adapter(adapted, adapter / "adapter")
    assert export(base, adapter, tmp_path / "peft", "--base-name", "me/base") == 0
    assert "rank 2, alpha 4" in capsys.readouterr().out
    assert read_json(tmp_path / "peft" / "adapter_config.json")["base_model_name_or_path"] == "me/base"
    again = load_model(base)
    load_adapter(again, tmp_path / "peft")
    assert torch.equal(logits(again), logits(adapted))

    assert export(base, adapter, tmp_path / "merged", "--merge", "--shard-gb", "1e-4") == 0
    told = capsys.readouterr().out
    assert "merged in float32: rounding lost" in told and "logits moved by at most" in told
    assert len(list((tmp_path / "merged").glob("model-*.safetensors"))) > 1
    merged = load_model(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), logits(adapted), rtol=0, atol=1e-5)      # float32, sums reordered
    config = read_json(tmp_path / "merged" / "config.json")
    ends = [load_tokenizer(base).control_id("<|im_end|>"), 7]               # where training ended, then the base's own
    assert config == {**read_json(base / "config.json"), "torch_dtype": "float32", "eos_token_id": ends}
    assert (tmp_path / "merged" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert export(base, adapter, tmp_path / "half", "--merge", "--dtype", "bf16") == 0
    assert read_json(tmp_path / "half" / "config.json")["torch_dtype"] == "bfloat16"


def test_export_leaves_nothing_behind_when_it_fails(base, adapter, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(adapter / "adapter", other)
    config = read_json(other / "adapter_config.json")
    (other / "adapter_config.json").write_text(json.dumps({**config, "r": 3}))
    before = sorted(tmp_path.rglob("*"))
    refused(capsys, export(base, other, tmp_path / "out", "--merge"), "is this the adapter of another model?")
    refused(capsys, export(base, adapter, tmp_path / "out", "--shard-gb", "0"), "--shard-gb")
    refused(capsys, export(base, tmp_path / "none", tmp_path / "out"), "none: no such folder")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.reference
def test_exports_load_in_transformers_and_peft_as_their_cards_say(base, adapter, tmp_path, monkeypatch, capsys):
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    adapted = load_model(base)
    load_adapter(adapted, adapter / "adapter")
    assert export(base, adapter, tmp_path / "merged", "--merge", "--shard-gb", "1e-4") == 0
    assert export(base, adapter, tmp_path / "peft", "--base-name", str(base)) == 0
    cards = pytest.importorskip("huggingface_hub").ModelCard
    for name, known_as, library in (("merged", base.name, "transformers"), ("peft", str(base), "peft")):
        card = cards.load(tmp_path / name / "README.md")
        assert (card.data.base_model, card.data.library_name) == (known_as, library)
        monkeypatch.chdir(tmp_path)
        exec(re.search(r"```python\n(.*?)```", card.text, flags=re.S)[1], {})      # as a user would paste it
        assert capsys.readouterr().out.strip()
    load = transformers.AutoModelForCausalLM.from_pretrained
    for model in (load(tmp_path / "merged"), peft.PeftModel.from_pretrained(load(base), tmp_path / "peft")):
        with torch.no_grad():
            found = model(torch.arange(40)[None]).logits
        torch.testing.assert_close(found, logits(adapted), rtol=0, atol=1e-4)
