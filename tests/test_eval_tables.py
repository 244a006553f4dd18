"""Tables and figures, the download command, and the generating command with a tiny model."""

import argparse
import json
import shutil
import signal
import time
import zipfile

import pytest
from bfcl_gold import bfcl_calls
from eval_fixtures import apibank_folder, bfcl_folder, call_text, real, records, teval_folder
from processes import Job

import eval.report.tables
import pipeline.fetch
import tooldev
from data.parse import parse_calls
from data.prompts import pieces_text
from data.schema import ToolCall
from eval import benches
from eval.answers import Answer
from eval.apibank.prompts import reply as apibank_reply
from eval.bfcl.benchmark import Settings, load
from eval.report.paper import TABLE_1
from eval.report.tables import (
    comparable,
    figure,
    leaderboard_row,
    read_leaderboard,
    recompute_table_1,
    table_1,
    table_2,
    table_3,
)
from eval.score import run_module, score_answers
from eval.teval.prompts import reply as teval_reply
from model.templates import chatml_template
from pipeline import evaluate


@pytest.fixture
def summary(tmp_path):
    benchmark = load(bfcl_folder(tmp_path))
    return score_answers(
        benchmark, [Answer({"id": e.id, "output": bfcl_calls(e)}) for e in benchmark.entries.values()]
    )[1]


def test_table_1_of_the_paper_follows_from_the_leaderboard_to_the_printed_digit():
    leaderboard = read_leaderboard(real("bfcl") / "data_combined_Sep_20_2024.csv")
    checks = recompute_table_1(leaderboard)
    assert len(checks) == 21 and sum(check["source"] == "csv" for check in checks) == 19
    assert [check for check in checks if check["differs"]] == []


def test_a_wrong_cell_is_found_and_named():
    name, model, printed = TABLE_1[0]
    columns = dict(zip(eval.report.tables.CSV_COLUMNS, (f"{v}%" for v in printed))) | {"Non-Live AST Acc": "90.00%"}
    check = recompute_table_1({model: leaderboard_row(columns)})[0]
    assert check["name"] == name and set(check["differs"]) == {"non_live", "overall"}
    assert "do not follow" in " ".join(table_1({model: leaderboard_row(columns)}).notes)


def test_our_rows_stand_beside_the_papers_with_intervals_and_warnings(summary, tmp_path):
    table = table_1({}, {"ours": summary})
    assert table.rows[0][0] == "ours" and table.rows[0][11] == 100.0
    assert any("ours: overall 100.00 [" in note for note in table.notes) and table.markdown().count("|") > 200
    other = summary | {"edition": "v4", "counts": {"missing": 3}}
    assert "other data (v4), not every entry" in eval.report.tables.comparable(other)
    assert "3 prompts were too long" in eval.report.tables.comparable(summary | {"undecodable_reasons": {"refused": 3}})
    third = table_3({"raw": [summary, summary], "joint": [summary]}, {"raw": ("Raw", (72.06, 56.93, 64.50))})
    assert third.rows[0][:5] == ("Raw", 2, "100.00 ± 0.00", 72.06, pytest.approx(27.94)) and third.rows[1][3] is None
    second = table_2({"ours": {"apibank": {"scores": {"overall": {"value": 50.0, "low": 40.0, "high": 60.0}}}}})
    assert second.rows[-1] == ("ours", 50.0, None, "ours")
    data, picture = figure("Figure 2", {"round 0": [summary], "round 1": [summary, summary]})
    assert (
        data["gains_over_first"]["overall"] == [0.0, 0.0]
        and picture.startswith("<svg xmlns")
        and picture.count("<svg ") == 4
    )


def test_tables_command(summary, tmp_path, capsys):
    (tmp_path / "s.json").write_text(json.dumps(summary))
    command = [
        "--out",
        str(tmp_path / "out"),
        "--variant",
        f"raw={tmp_path / 's.json'}",
        "--point",
        f"r0={tmp_path / 's.json'}",
    ]
    assert (
        run_module(eval.report.tables, command) == 0
        and "| Raw | 1 | 100.00 | 72.06 | 27.94 |" in capsys.readouterr().out
    )
    assert (tmp_path / "out" / "figure-2.svg").is_file() and (tmp_path / "out" / "table-3.json").is_file()
    assert run_module(eval.report.tables, ["--out", "x", "--point", "nonsense"]) == 2


def test_data_comes_out_of_a_package_without_running_it(tmp_path, capsys):
    source = bfcl_folder(tmp_path / "src" / "bfcl_eval" / "data", later=True, irrelevance=2)
    wheel = tmp_path / "bfcl_eval-1.whl"
    with zipfile.ZipFile(wheel, "w") as package:
        for path in sorted(source.rglob("*.json")):
            package.write(path, path.relative_to(tmp_path / "src").as_posix())
        package.writestr("../../evil/BFCL_v4_simple_python.json.py", "raise SystemExit")
        package.writestr("bfcl_eval/data/unused_datasets/BFCL_v4_simple_python.json", "{}")
    for place in (wheel, tmp_path / "src"):
        out = tmp_path / f"out-{place.name}"
        assert run_module(pipeline.fetch, ["bfcl", "--from", str(place), "--out", str(out)]) == 0
        manifest = json.loads((out / "manifest.json").read_text())
        assert (
            manifest["edition"].startswith("v4")
            and manifest["entries"]["irrelevance"] == 2
            and not manifest["sizes_of_2024_09_20"]
        )
        assert sorted(p.name for p in out.iterdir() if p.is_file()) == sorted(
            [*(n for n in manifest["outputs"] if "/" not in n), "manifest.json"]
        )
    assert "not the data of the paper's table" in capsys.readouterr().out
    assert run_module(pipeline.fetch, ["bfcl", "--from", str(tmp_path / "none"), "--out", "x"]) == 2
    assert (
        run_module(pipeline.fetch, ["bfcl", "--from", str(tmp_path / "out-src" / "manifest.json"), "--out", "x"]) == 2
    )


def test_what_the_model_is_shown(tmp_path):
    data = bfcl_folder(tmp_path)
    entries = load(data).entries

    def shown(entry, settings=None):
        return pieces_text(load(data, settings or Settings()).messages(entries[entry])[0]["content"])

    text = shown("java_0")
    assert (
        '"type": "string", "description": "Weights. This is a Java Array value, written as a string. '
        'Its elements are of type integer."' in text
    )
    assert "Java 8 SDK" in text and "Java 8 SDK" not in shown("java_0", Settings(no_language_note=True))
    assert '"type": "number"' in shown("simple_1") and "This is a float." in shown("simple_1")
    assert '"type": "float"' in shown("simple_1", Settings(published_types=True))
    assert '"name": "lamp_set"' in shown("simple_0", Settings(underscore_names=True))
    assert (
        entries["java_0"].functions[0]["parameters"]["properties"]["parts"]["type"] == "Array"
    )  # the data stay as they are


def test_our_calls_become_the_benchmarks_own_form():
    calls = parse_calls(
        call_text("F", {"a": "x", "n": 3, "ok": True, "none": "", "l": ["p"]}) + "\n" + call_text("G", {})
    )
    assert apibank_reply(calls) == "[F(a='x', n='3', ok='True', l='['p']')]\n[G()]"
    assert teval_reply("retrieve_str", calls) == "F" and teval_reply("understand_str", calls) == "x"
    assert json.loads(teval_reply("rru_json", calls))["name"] == "F" and teval_reply("rru_json", []) == ""
    assert [s["name"] for s in json.loads(teval_reply("plan_json", calls))] == ["F", "G"]
    assert teval_reply("plan_str", [ToolCall("F", {"a": 1})]) == "Use F to {'a': 1}"


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    torch = pytest.importorskip("torch")
    from model_tokenizers import chatml_folder

    from model import ModelConfig, Transformer, load_tokenizer, save_model

    torch.set_num_threads(1)
    folder = chatml_folder(tmp_path_factory.mktemp("tiny"))
    size = load_tokenizer(folder).vocab_size
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["Qwen2ForCausalLM"],
                "model_type": "qwen2",
                "vocab_size": size,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "rms_norm_eps": 1e-6,
                "tie_word_embeddings": True,
                "hidden_act": "silu",
                "max_position_embeddings": 4096,
                "rope_theta": 10000.0,
            }
        )
    )
    save_model(Transformer(ModelConfig.load(folder)).init_weights(0), folder)
    return folder


@pytest.mark.parametrize(
    ("bench", "make", "count"), [("bfcl", bfcl_folder, 14), ("apibank", apibank_folder, 5), ("teval", teval_folder, 5)]
)
def test_eval_generates_scores_and_resumes_to_the_same_files(tmp_path, tiny_folder, bench, make, count, capsys):
    data = make(tmp_path / "data")
    command = [
        "--bench",
        bench,
        "--data",
        str(data),
        "--model",
        str(tiny_folder),
        "--max-new-tokens",
        "4",
        "--precision",
        "fp32",
        "--out",
    ]
    assert run_module(evaluate, [*command, str(tmp_path / "a")]) == 0
    answers = records(tmp_path / "a" / "answers.jsonl")
    assert len(answers) == count and len(records(tmp_path / "a" / "verdicts.jsonl")) == count
    torn = tmp_path / "b" / "generation"
    torn.mkdir(parents=True)
    for path in (tmp_path / "a" / "generation").iterdir():  # as if killed in the middle of a line
        content = path.read_bytes()
        (torn / path.name).write_bytes(content[: len(content) * 2 // 3])
    assert (
        run_module(evaluate, [*command, str(tmp_path / "b"), "--pack-weights"]) == 0
    )  # sets the pace only, in float32
    for name in ("answers.jsonl", "verdicts.jsonl", "summary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert (
        run_module(evaluate, [*command, str(tmp_path / "a"), "--temperature", "1"]) == 2
        and "temperature" in capsys.readouterr().err
    )


def test_eval_killed_and_typed_again_ends_with_the_same_files(tmp_path, tiny_folder):
    data = bfcl_folder(tmp_path / "data")
    command = [
        "--bench",
        "bfcl",
        "--data",
        str(data),
        "--model",
        str(tiny_folder),
        "--max-new-tokens",
        "160",
        "--max-rows",
        "2",
        "--threads",
        "1",
        "--out",
    ]
    assert run_module(evaluate, [*command, str(tmp_path / "whole")]) == 0
    file = tmp_path / "killed" / "generation" / "completions-0.jsonl"
    typed = "import sys, tooldev; sys.exit(tooldev.main(sys.argv[1:]))"
    process = Job(typed, "eval", *command, str(tmp_path / "killed"))
    while not (file.exists() and file.read_bytes().count(b"\n") >= 3):  # the settings and two answers
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert (
        process.wait() == -signal.SIGKILL
        and len(records(file)) < 15
        and not (tmp_path / "killed" / "answers.jsonl").exists()
    )
    assert run_module(evaluate, [*command, str(tmp_path / "killed")]) == 0
    for name in ("answers.jsonl", "verdicts.jsonl", "summary.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name


def eval_command(data, model, out, *more, bench="bfcl"):
    """Arguments of `eval` for a few tokens an answer."""
    base = ["--bench", bench, "--data", str(data), "--model", str(model), "--max-new-tokens", "2", "--threads", "1"]
    return [*base, "--out", str(out), *more]


def test_a_subset_is_fixed_nested_and_in_proportion(tmp_path):
    board = load(bfcl_folder(tmp_path, irrelevance=10))
    chosen = benches.choose(board)
    keys = {}
    for size in range(11, 24):
        part, kept, about = benches.take_subset(board, chosen, size)
        keys[size] = [entry.key for entry in kept]
        assert len(kept) == size == len(part.entries) and about["of"] == 24
        assert all(1 <= taken <= there for taken, there in about["categories"].values())
    assert all(set(keys[size]) < set(keys[size + 1]) for size in range(11, 23))
    assert benches.take_subset(board, chosen, 17)[2]["categories"]["irrelevance"][0] > 3
    assert benches.take_subset(board, chosen[::-1], 17)[1] == benches.take_subset(board, chosen, 17)[1][::-1]
    assert benches.take_subset(board, chosen, 24) == (board, chosen, None)
    with pytest.raises(ValueError, match="--bench-limit 10: fewer than the 11 categories"):
        benches.take_subset(board, chosen, 10)


def test_eval_scores_a_subset_as_a_subset(tmp_path, tiny_folder, capsys):
    data = bfcl_folder(tmp_path / "data")
    assert run_module(evaluate, eval_command(data, tiny_folder, tmp_path / "out", "--bench-limit", "11")) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["subset"]["entries"] == 11 and summary["counts"]["missing"] == 0
    assert sum(line["n"] for line in summary["categories"].values()) == 11
    assert "a fixed subset by hash: 11 of 14 entries" in capsys.readouterr().out
    assert "a fixed subset by hash" in comparable(summary)
    both = eval_command(data, tiny_folder, tmp_path / "both", "--bench-limit", "11", "--limit", "1")
    assert run_module(evaluate, both) == 2 and "give one" in capsys.readouterr().err
    for bench, make in (("apibank", apibank_folder), ("teval", teval_folder)):
        command = eval_command(make(tmp_path / bench), tiny_folder, tmp_path / f"{bench}-out", "--bench-limit", "5",
                               bench=bench)
        assert run_module(evaluate, [*command[:-1], "4" if bench == "apibank" else "5"]) == 0


def test_a_larger_subset_asks_the_further_entries_alone(tmp_path, tiny_folder, capsys):
    data, out = bfcl_folder(tmp_path / "data"), tmp_path / "out"
    asked = [eval_command(data, tiny_folder, out, *limit)
             for limit in (("--bench-limit", "11"), ("--bench-limit", "13"), ())]
    said = []
    for command, entries in zip(asked, (11, 13, 14), strict=True):
        assert run_module(evaluate, command) == 0
        said.append(capsys.readouterr().err)
        assert len((out / "answers.jsonl").read_text().splitlines()) == entries
    assert [f"sampled {n}/{n} items" in err for n, err in zip((11, 2, 1), said, strict=True)] == [True] * 3
    once = eval_command(data, tiny_folder, tmp_path / "once")
    assert run_module(evaluate, once) == 0
    assert (out / "answers.jsonl").read_bytes() == (tmp_path / "once" / "answers.jsonl").read_bytes()
    assert run_module(evaluate, asked[0]) == 2 and "bench_limit" in capsys.readouterr().err     # nor is one given up
    assert run_module(evaluate, asked[2]) == 0
    capsys.readouterr()
    assert run_module(evaluate, [*eval_command(data, tiny_folder, tmp_path / "few", "--bench-limit", "11")]) == 0
    (tmp_path / "few" / "answers.jsonl").write_text("mine\n")
    assert run_module(evaluate, eval_command(data, tiny_folder, tmp_path / "few", "--bench-limit", "12")) == 2
    assert (tmp_path / "few" / "answers.jsonl").read_text() == "mine\n"


def test_the_native_prompt_has_the_tools_as_the_models_template_has_them(tmp_path, tiny_folder, capsys):
    from model import load_tokenizer

    tokenizer = load_tokenizer(tiny_folder)
    board = load(bfcl_folder(tmp_path / "b"), Settings(underscore_names=True))
    text = tokenizer.decode(evaluate.prompt_ids(board, board.entries["simple_0"], tokenizer, "native"))
    assert '{"type": "function", "function": {"name": "lamp_set", "description": "Does lamp.set.' in text
    assert '"parameters": {"type": "object", "properties": {"room": {"type": "string"' in text
    bank = benches.load("apibank", apibank_folder(tmp_path / "a"), argparse.Namespace())
    row = next(iter(bank.entries.values()))
    assert '"type": "function"' in tokenizer.decode(evaluate.prompt_ids(bank, row, tokenizer, "native"))
    command = eval_command(teval_folder(tmp_path / "t"), tiny_folder, tmp_path / "no", "--prompt", "native",
                           bench="teval")
    assert run_module(evaluate, command) == 2 and "leave --prompt native out" in capsys.readouterr().err
    plain = tmp_path / "plain"
    shutil.copytree(tiny_folder, plain)
    (plain / "tokenizer_config.json").write_text(json.dumps({"chat_template": chatml_template("Be brief.")}))
    command = eval_command(tmp_path / "b", plain, tmp_path / "no", "--prompt", "native")
    assert run_module(evaluate, command) == 2 and "no block for tools" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    command = eval_command(tmp_path / "b", tiny_folder, tmp_path / "yes", "--prompt", "native", "--limit", "1")
    assert run_module(evaluate, command) == 0
    assert json.loads((tmp_path / "yes" / "summary.json").read_text())["prompt"] == "native"


@pytest.mark.parametrize("wrong", ["model", "out"])
def test_eval_refuses_before_it_makes_anything(tmp_path, tiny_folder, wrong, capsys):
    base, out = tmp_path / "base", tmp_path / "out"
    shutil.copytree(tiny_folder, base)
    if wrong == "model":
        with open(base / "model.safetensors", "r+b") as file:
            file.truncate(100)
    else:
        tmp_path.joinpath("file").write_text("in the way")
        out = tmp_path / "file" / "out"
    command = [
        "--bench",
        "bfcl",
        "--data",
        str(bfcl_folder(tmp_path / "data")),
        "--model",
        str(base),
        "--out",
        str(out),
    ]
    assert run_module(evaluate, command) == 2 and not out.exists()
    error = capsys.readouterr().err
    assert (
        error.count("\n") == 1
        and (str(base / "model.safetensors") if wrong == "model" else "cannot write there") in error
    )


def test_cuda_is_each_processes_own(monkeypatch):
    from pipeline.evaluate import device_of

    monkeypatch.setenv("LOCAL_RANK", "3")
    assert (str(device_of("cuda")), str(device_of("cuda:1")), str(device_of("cpu"))) == ("cuda:3", "cuda:1", "cpu")


@pytest.mark.parametrize(("flags", "words"), [
    (["--limit", "-1"], "--limit is -1; expected 1 or more"), (["--limit", "0"], "--limit is 0"),
    (["--bench-limit", "-1"], "--bench-limit is -1"), (["--threads", "-1"], "--threads is -1"),
    (["--threads", "1000000000"], "--threads is 1000000000"), (["--device", ""], "--device ''"),
    (["--device", "meta"], "--device 'meta'")])
def test_numbers_and_devices_that_are_none_are_refused_before_anything_is_made(flags, words, tmp_path, capsys):
    data, out = bfcl_folder(tmp_path / "data"), tmp_path / "out"
    argv = ["eval", "--bench", "bfcl", "--data", str(data), "--model", "x", "--out", str(out), *flags]
    assert tooldev.main(argv) == 2
    assert words in capsys.readouterr().err and not out.exists()


def test_eval_that_cannot_begin_anew_keeps_the_answers_that_are_there(tmp_path, tiny_folder, capsys):
    data, out = bfcl_folder(tmp_path / "data"), tmp_path / "out"
    (out / "generation").mkdir(parents=True)
    (out / "generation" / "completions-0.jsonl").write_text("{}\n")
    base = shutil.copytree(tiny_folder, tmp_path / "base")
    with open(base / "model.safetensors", "r+b") as file:
        file.truncate(100)
    command = ["--bench", "bfcl", "--data", str(data), "--model", str(base), "--out", str(out), "--overwrite"]
    assert run_module(evaluate, command) == 2
    assert (out / "generation" / "completions-0.jsonl").read_text() == "{}\n"
    (out / "generation" / "notes.txt").write_text("mine")               # a folder of that name that is another's
    assert run_module(evaluate, command[:-1]) == 2
    assert "did not make" in capsys.readouterr().err
