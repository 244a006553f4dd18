"""The main job, as a newcomer types it: it ends with a report, opens no connection, repeats itself, survives a kill."""

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import SCRIPT, Job

import tooldev
from data.schema import ToolCall, load_examples, load_tools, read_jsonl
from data.tasks import calls_answer
from eval.exact import verdicts_of
from evolution.config import RoundConfig
from experiments import ablation, bounds, controls
from pipeline.demo import WorldSizes
from pipeline.settings import TINY_PRESET, RunSettings, round_settings
from pipeline.steps import Run
from sampler import Completion

ROOT = Path(__file__).resolve().parent.parent
SMALL = WorldSizes(tools=8, examples=12, queries_per_round=6, rounds=1, validation=2, test=(2, 2, 2))
SHORT = dataclasses.replace(TINY_PRESET, max_tools_tokens=128, max_calls_tokens=64)
NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("the demo tried to open a network connection")
for name in ("connect", "connect_ex", "bind", "sendto"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = refuse
"""
SMALL_DEMO = (NO_NETWORK
              + "import pipeline.demo as demo, pipeline.settings as settings, pipeline.steps as steps, tooldev, sys; "
              + f"demo.QUICK = demo.{SMALL!r}; settings.PRESETS['tiny'] = settings.{SHORT!r}; "
                "sys.exit(tooldev.main(sys.argv[1:]))")
# Timed passes of the model at every start, and nothing but lines to print: the uninterrupted demo makes its plan.
UNPLANNED = SMALL_DEMO.replace("sys.exit", "steps.print_plan = lambda *_: None; sys.exit")
pytestmark = pytest.mark.skipif(not (ROOT / "model/tiny/model.safetensors").is_file(),
                                reason="model/tiny is not in this checkout")


def small_demo(out: Path, code: str = SMALL_DEMO) -> Job:
    return Job(code, "demo", "--quick", "--out", str(out))


def results(out: Path) -> dict[str, bytes]:
    """Everything that must not depend on interruptions: adapters, what the rounds wrote, answers."""
    wanted = ("adapter_model.safetensors", "accepted.jsonl", "rejected.jsonl", "answers.jsonl", "verdicts.jsonl")
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.name in wanted}


def report_without_times(out: Path) -> dict:
    report = json.loads((out / "report.json").read_text())
    report.pop("seconds")
    return report


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "a"
    job = small_demo(out)
    shown, errors = job.communicate()
    assert job.returncode == 0, errors[-2000:]
    (out.parent / "out").write_text(shown)
    (out.parent / "err").write_text(errors)
    return out


def assert_ended_with_its_reports(out: Path, shown: str, errors: str) -> None:
    report = json.loads((out / "report.json").read_text())
    assert report and (out / "report.html").stat().st_size > 2000
    assert "exact match" in shown.lower() and "together " in errors[errors.index("\nplan\n"):]
    assert [errors.count(f"  {step}: exact match") for step in ("raw", "adaption", "joint", "round-1")] == [1, 1, 1, 1]
    ledger = json.loads((out / "round-1/ledger.json").read_text())
    assert ledger["queries"]["in"] == ledger["queries"]["accepted"] + ledger["queries"]["rejected"]


def test_the_demo_ends_with_its_reports_and_opens_no_connection(uninterrupted):
    """Every demo of this file runs with connections forbidden; see also the slow test below."""
    assert_ended_with_its_reports(uninterrupted, (uninterrupted.parent / "out").read_text(),
                                  (uninterrupted.parent / "err").read_text())


def test_a_connection_would_end_the_demo():
    job = subprocess.run([sys.executable, "-c", NO_NETWORK + "socket.create_connection(('127.0.0.1', 9))"],
                         capture_output=True, text=True)
    assert job.returncode != 0 and "tried to open a network connection" in job.stderr


@pytest.mark.slow
def test_the_quick_demo_in_its_full_size_opens_no_connection(tmp_path):
    code = NO_NETWORK + "import tooldev, sys; sys.exit(tooldev.main(sys.argv[1:]))"
    job = subprocess.run([sys.executable, "-c", code, "demo", "--quick", "--out", str(tmp_path / "run")],
                         env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert job.returncode == 0, job.stderr[-2000:]
    assert_ended_with_its_reports(tmp_path / "run", job.stdout, job.stderr)


def test_the_same_seed_gives_the_same_report_also_where_it_is_killed_on_the_way(uninterrupted, tmp_path):
    out = tmp_path / "c"
    for moment in (out / "data", out / "adaption", out / "joint" / "adapter", out / "round-1"):
        job = small_demo(out, UNPLANNED)
        while job.poll() is None and not moment.exists():
            time.sleep(0.01)
        assert job.poll() is None, f"it ended before {moment} was there: {job.stderr.read()[-2000:]}"
        job.send_signal(signal.SIGKILL)
        job.wait()
        assert not (out / "report.json").exists()
    out = out.rename(tmp_path / "moved")
    job = small_demo(out, UNPLANNED)
    errors = job.communicate()[1]
    assert job.returncode == 0, errors[-2000:]
    assert results(out) == results(uninterrupted)
    assert report_without_times(out) == report_without_times(uninterrupted)


def torchrun(folder: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1",
                             str(ROOT / "train.py")],
                            cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)


def torchruns_process(folder: Path) -> Job:
    """What torchrun starts, in the environment that it makes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Job(SCRIPT, str(ROOT / "train.py"), cwd=folder, RANK="0", LOCAL_RANK="0", WORLD_SIZE="1",
               MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


@pytest.mark.parametrize("start", [torchruns_process, pytest.param(torchrun, marks=pytest.mark.slow)])
def test_train_py_with_nothing_else_trains_the_embedded_model(start, tmp_path):
    """From another folder, as `torchrun train.py`: it says what it takes, plans, trains, and is stopped here after
    two steps.
    """
    job = start(tmp_path)
    said = []
    for line in job.stderr:
        said.append(line)
        if line.startswith("step 00002/"):
            job.send_signal(signal.SIGTERM)                             # torchrun ends its processes, too
    job.wait()
    text = "".join(said)
    assert (
        "no --model and no --data: the embedded model on the generated tool world" in text and "time, estimated" in text
    )
    assert "step 00002/" in text and "done:" not in text, text
    steps = (tmp_path / "runs/train/metrics.jsonl").read_text().count("\n")
    assert f"interrupted; {steps} steps are kept in runs/train/checkpoint" in text
    assert (tmp_path / f"runs/train/checkpoint/step-{steps:06d}/DONE.json").is_file()
    names = {path.name for path in (tmp_path / "runs/train").iterdir()} - {"tensorboard"}
    assert names == {"config.json", "metrics.jsonl", "metrics.csv", "checkpoint"}


def test_evolve_py_with_a_round_only_makes_it_in_the_newest_run(uninterrupted, tmp_path):
    """From the folder that holds runs/, as `python evolve.py --round 1`: the same round as in the demo."""
    run = tmp_path / "runs" / "demo"
    shutil.copytree(uninterrupted, run)
    shutil.rmtree(run / "round-1")
    job = Job(SCRIPT, str(ROOT / "evolve.py"), "--round", "1", cwd=tmp_path).completed()
    assert job.returncode == 0, job.stderr[-2000:]
    assert "run: runs/demo (the newest)" in job.stderr
    for name in ("accepted.jsonl", "rejected.jsonl", "adapter/adapter_model.safetensors"):
        assert (run / "round-1" / name).read_bytes() == (uninterrupted / "round-1" / name).read_bytes(), name


def test_another_setting_on_the_same_folder_is_refused_by_name(uninterrupted, capsys):
    assert tooldev.main(["demo", "--quick", "--out", str(uninterrupted), "--seed", "7"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "another --out" in error


def test_an_unwritable_folder_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert tooldev.main(["demo", "--quick", "--out", str(tmp_path / "file" / "run")]) == 2
    assert "cannot write there" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["demo"], ["ablate", "--seeds", "1"], ["make-base"]])
@pytest.mark.parametrize("kind", ["missing", "truncated"])
def test_a_broken_base_is_refused_before_anything_is_made(command, kind, tmp_path, capsys):
    base, out = tmp_path / "base", tmp_path / "run"
    if kind == "truncated":
        shutil.copytree(tooldev.home("model", "tiny"), base)
        with open(base / "model.safetensors", "r+b") as file:
            file.truncate(5_000_000)
    assert tooldev.main([*command, "--out", str(out), "--model", str(base)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and str(base) in error
    # else the right command would find another run's settings
    assert not out.exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_ablation_takes_several_bases_each_in_a_folder_of_its_own(jobs, tmp_path, monkeypatch, capsys):
    began = []

    def started(waiting, at_once):
        for job in waiting:
            assert tooldev.main(list(job.arguments)) == 0

    def seed_of(out, model, sizes, seed, variants, fresh, asked):
        began.append((out.name, model, seed))
        (out / f"seed-{seed}").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(ablation, "run_seed", seed_of)
    monkeypatch.setattr(ablation, "run_jobs", started)
    monkeypatch.setattr(ablation, "check_model", lambda folder: None)                   # the folders are names only
    monkeypatch.setattr(ablation, "collect", lambda out, seeds, fresh: f"table of {out.name}")
    command = ["ablate", "--seeds", "2", "--jobs", jobs, "--out", str(tmp_path / "three"), "--model"]
    assert tooldev.main([*command, "ckpt/a", "ckpt/b"]) == 0
    assert began == [("a", "ckpt/a", 0), ("a", "ckpt/a", 1), ("b", "ckpt/b", 0), ("b", "ckpt/b", 1)]
    assert "ckpt/b:\n\ntable of b" in capsys.readouterr().out
    for name in "ab":
        (tmp_path / "three" / name / "ablation.json").write_text(json.dumps({"of": name}))
    assert tooldev.main([*command, "ckpt/a", "ckpt/b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ckpt/a": {"of": "a"}, "ckpt/b": {"of": "b"}}
    assert tooldev.main([*command, "ckpt/a"]) == 0 and began[-1] == ("three", "ckpt/a", 1)
    assert tooldev.main([*command, "x/a", "y/a"]) == 2 and "one name" in capsys.readouterr().err
    assert tooldev.main(["ablate", "--variants", "invocation", "--fresh", "5", "--out",
                         str(tmp_path / "f")]) == 2 and "add joint" in capsys.readouterr().err


def test_an_ablation_compares_what_was_trained():
    assert ablation._pairs(["raw", "invocation"]) == [("raw", "invocation")]
    # without rounds there is no last one
    assert ablation._pairs(["raw", "joint"]) == [("raw", "joint")]
    assert {("joint", "last"), ("invocation", "last")} < {*ablation._pairs(["raw", "invocation", "joint", "round-1"])}
    assert ("raw", "joint") in ablation._pairs(["raw", "adaption", "joint", "round-1"])
    assert ("raw", "joint") not in ablation._pairs(["raw", "adaption", "invocation-adapted", "joint"])


def test_an_ablation_says_what_became_of_the_queries(uninterrupted, tmp_path):
    asked = set()
    for seed in (0, 1):
        shutil.copytree(uninterrupted, tmp_path / f"seed-{seed}")
        run = Run(RunSettings(**json.loads((uninterrupted / "run.json").read_text())["settings"]),
                  tmp_path / f"seed-{seed}")
        held = {item.id for item in run.test}
        ablation.ask_fresh(run, seed, ["round-1"], 4)
        answered = [v["id"] for v in verdicts_of(tmp_path / f"seed-{seed}" / "fresh-4" / "joint" / "eval")]
        asked |= {item.calls[0].name if item.calls else item.tools[0].name for item in run.test}
        assert len(answered) == 4 and not held & {*answered} and all(name.startswith("unlabelled-test-")
                                                                     for name in answered)
    table = ablation.collect(tmp_path, [0, 1], fresh=4)
    # that variant was not trained here
    assert "all: joint minus raw" in table and "Invo. w. Adaption" not in table
    assert re.search(r"all: joint minus raw.*; over \d+ tools \[.*; over 2 seeds \[", table)
    assert (
        f"; over {len(asked)} tools [" in table[table.index("| 8 items") : table.index("items, the test's")]
        and len(asked) > 1
    )
    assert "asked further items" in table and "over 2 seeds" in table[table.index("round-1 minus joint",
                                                                                  table.index("further items")):]
    assert f"| {2 * 4} items |" in table and f"| {2 * (4 + SMALL.test[1])} items, the test's" in table
    ledger = json.loads((uninterrupted / "round-1" / "ledger.json").read_text())
    queries, sums = ledger["queries"], json.loads((tmp_path / "ablation.json").read_text())["funnel"]["round-1"]
    assert (sums["queries"], sums["accepted"]) == (2 * queries["in"], 2 * queries["accepted"])
    assert sum(sums["reasons"].values()) == 2 * queries["rejected"]
    assert (
        f"| round 1 | {sums['queries']} | {sums['accepted']} |" in table
        and table == (tmp_path / "ablation.md").read_text()
    )


def test_controls_take_as_many_steps_and_stand_beside_the_method(uninterrupted, tmp_path, capsys, monkeypatch):
    out = tmp_path / "ablation"
    shutil.copytree(uninterrupted, out / "seed-0")
    ledger = out / "seed-0" / "round-1" / "ledger.json"
    record = json.loads(ledger.read_text())
    ledger.write_text(json.dumps(record | {"training": record["training"] | {"steps": 0}}))
    # said before any work
    assert tooldev.main(["controls", "--out", str(out)]) == 2 and not (out / "seed-0/controls").exists()
    assert "trained on nothing" in capsys.readouterr().err
    # one step and two queries: a control takes what run.json and the ledger say
    record["training"]["steps"] = 1
    ledger.write_text(json.dumps(record))
    settings = json.loads((out / "seed-0" / "run.json").read_text())
    settings["settings"]["queries_per_round"] = 2
    (out / "seed-0" / "run.json").write_text(json.dumps(settings))
    some = ["labelled_only", "one_sample", "true_labels"]
    for control in some:
        controls.run_control(out / "seed-0", control, 1)
    labelled = json.loads((out / "seed-0/controls/labelled_only/round-1/ledger.json").read_text())
    assert labelled["training"]["steps"] == 1 and labelled["examples"]["labelled"] == SMALL.examples
    bound = json.loads((out / "seed-0/controls/true_labels/round-1/ledger.json").read_text())
    assert bound["training"]["steps"] == 1 and bound["examples"]["labelled"] == 2 + 2        # as many mixed in
    taught = load_examples(out / "seed-0/controls/true_labels/taught-1.jsonl")[:2]
    truth = {row["id"]: row["calls"] for _, row in read_jsonl(out / "seed-0/data/truth.jsonl")}
    assert all([call.to_dict() for call in example.calls] == truth[example.id] and
               {call.name for call in example.calls} <= {tool.name for tool in example.tools} for example in taught)
    one = [json.loads(line)
           for line in (out / "seed-0/controls/one_sample/round-1/calls.jsonl").read_text().splitlines()]
    assert one and all(len(line["samples"]) == 1 for line in one)
    assert tooldev.main(["controls", "--out", str(out), "--rounds", "2"]) == 2
    assert "round-2/DONE.json" in capsys.readouterr().err
    table = controls.collect(out, [out / "seed-0"], 1, some)
    assert table == (out / "controls.md").read_text()
    assert all(f"| {name} |" in table for name in ("joint", "the method", "labelled_only", "one_sample"))
    assert "all: true_labels minus joint: " in table and "labelled_only minus joint" not in table
    record = json.loads((out / "controls.json").read_text())
    assert record["scores"]["joint"]["all"]["items"] == sum(SMALL.test)
    monkeypatch.setattr(controls, "run_jobs", lambda jobs, count: None)                 # they have run
    assert tooldev.main(["controls", "--out", str(out), "--controls", *some, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == record


def test_bounds_take_from_the_world_what_the_model_would_write(uninterrupted, tmp_path, monkeypatch):
    shutil.copytree(uninterrupted, tmp_path / "seed-0")
    run = Run(RunSettings.of_run(uninterrupted), tmp_path / "seed-0")
    asked = load_examples(bounds.write_taught("true_labels", run, tmp_path, 1))
    true = [example for example in asked if example.source == "world/truth"]
    assert len(true) == SMALL.queries_per_round and len(asked) == 2 * len(true)
    wrong = dataclasses.replace(true[1], calls=(ToolCall(true[1].calls[0].name, {}),))
    (tmp_path / "seed-0/round-1/accepted.jsonl").write_text(
        "".join(json.dumps(example.to_dict()) + "\n" for example in (true[0], wrong)))
    for kind in ("true_accepted", "right_accepted"):
        taught = [example for example in load_examples(bounds.write_taught(kind, run, tmp_path, 1))
                  if example.source == "world/truth"]
        assert taught == (true[:2] if kind == "true_accepted" else true[:1])
    found = bounds.with_documents(true, bounds.ToolIndex(load_tools(run.data / "tools.jsonl")))
    assert found == bounds.with_documents(true, bounds.ToolIndex(load_tools(run.data / "tools.jsonl")))
    assert all(len(example.tools) <= bounds.DOCUMENTS for example in found)
    config = RoundConfig.from_dict({**round_settings(run.settings, run.data), "round": 1, "run": str(run.out),
                                    "min_votes": 1, "grounded": False})
    texts = {one.id: "".join(text for _, text in calls_answer(one.calls)) for one in true[1:]}
    said = {name: run.tokenizer.encode(text) for name, text in texts.items()} | {true[0].id: [1]}
    monkeypatch.setattr("sampler.generate", lambda model, prompts, *, item_ids, num_samples, **_: [
        [Completion(said[name], -1.0, "stop")] * num_samples for name in item_ids])
    assert [(one.id, one.tools, one.calls) for one in bounds.answered(run, true, config)] == [
        (one.id, one.tools, one.calls) for one in true[1:]]
    queries = run.data / "queries.jsonl"
    queries.write_text(queries.read_text().replace('"query": "', '"query": "Of another world: ', 1))
    with pytest.raises(ValueError, match="is not a query of today's tool world"):
        bounds.write_taught("true_tools", run, tmp_path, 1)
