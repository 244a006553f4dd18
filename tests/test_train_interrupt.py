"""Ctrl-C and SIGTERM while a run trains, a full disk, a run without one update: what is kept, and what is said."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from processes import Job
from test_train_resume import SETTINGS, adapter_bytes, losses, train
from train_toys import ROOT, run_processes, toy_model, toy_rows

import train as train_module
import training.metrics
import training.run
from data.tasks import Row
from tooldev import one_line
from train import TrainConfig, run_training
from training.checkpoints import Checkpoints, kept
from training.interrupt import Interrupt, Interrupted

RARE = {**SETTINGS, "checkpoint_steps": 0, "checkpoint_minutes": 0}         # no checkpoint is ever due


@pytest.fixture(autouse=True)
def listening():
    """Python's own handler, also where the tests were started in the background, with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def signal_in_step(monkeypatch, number: int, step: int) -> None:
    """Send this process the signal in the first forward pass of that step (from 0)."""
    original, batch_loss = train_module.accumulate_gradients, train_module.batch_loss

    def accumulate_gradients(trainer, batches):
        def signalled(*args):
            if trainer.step == step:
                os.kill(os.getpid(), number)
            return batch_loss(*args)

        monkeypatch.setattr(train_module, "batch_loss", signalled)
        return original(trainer, batches)

    monkeypatch.setattr(train_module, "accumulate_gradients", accumulate_gradients)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_finished_steps_and_the_run_goes_on_to_the_same_bytes(number, tmp_path, monkeypatch):
    train(tmp_path / "whole", dropout=0.1, **RARE)
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signal_in_step(patch, number, 3)
        with pytest.raises(Interrupted, match="interrupted; 3 steps are kept in .*, the same command goes on") as stop:
            train(tmp_path / "cut", dropout=0.1, **RARE)
    assert stop.value.code == 128 + number and signal.getsignal(number) is before
    assert [path.name for path in Checkpoints(tmp_path / "cut" / "checkpoint", 2).steps()] == ["step-000003"]
    lines = []
    train(tmp_path / "cut", dropout=0.1, say=lines.append, **RARE)
    assert any("resumed at step 3" in line for line in lines)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


@pytest.mark.parametrize("script", ["train.py", "evolve.py"])
def test_ctrl_c_while_torch_is_loaded_is_one_line(script, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise KeyboardInterrupt")
    job = subprocess.run([sys.executable, str(ROOT / script)], env={**os.environ, "PYTHONPATH": str(tmp_path)},
                         capture_output=True, text=True)
    assert job.returncode in (-signal.SIGINT, 130) and job.stderr.startswith("\ninterrupted"), job.stderr
    assert job.stderr.count("\n") == 2


def test_before_the_first_step_there_is_nothing_to_keep_and_none_is_promised(tmp_path, monkeypatch):
    signal_in_step(monkeypatch, signal.SIGINT, 0)
    with pytest.raises(Interrupted, match="has no checkpoint yet, so the same command begins anew"):
        train(tmp_path, **RARE)
    assert not (tmp_path / "checkpoint").exists()


def test_a_signal_after_the_last_step_loses_nothing_and_still_stops_the_caller(tmp_path, monkeypatch):
    original = training.run.mark_done

    def mark_done(*args, **facts):
        original(*args, **facts)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training.run, "mark_done", mark_done)
    with pytest.raises(Interrupted, match="the training in .* is complete"):
        train(tmp_path, **RARE)
    assert train(tmp_path, **RARE).steps == 6


def test_outside_the_main_thread_and_where_a_signal_is_ignored_nothing_changes():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert not interrupt.asked
    finally:
        signal.signal(signal.SIGINT, before)


def test_words_of_what_is_kept_are_those_of_the_disk(tmp_path):
    assert "begins anew" in kept(tmp_path)
    checkpoints = Checkpoints(tmp_path / "checkpoint", 2)
    checkpoints.save(4, {"weights": torch.zeros(1)}, {"step": 4})
    checkpoints.save(7, {"weights": torch.zeros(1)}, {"step": 7})
    assert "7 steps are kept" in kept(tmp_path)
    (tmp_path / "checkpoint" / "step-000007" / "DONE.json").unlink()
    assert "4 steps are kept" in kept(tmp_path)


ONE_OF_TWO = """
import os, signal, sys
import train
from train import TrainConfig, run_training
from train_toys import toy_model, toy_rows

number, when, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
original, done = train.train_step, []
def train_step(trainer):
    record = original(trainer)
    done.append(record)
    if len(done) == when and os.environ["RANK"] == "1":
        os.kill(os.getpid(), number)
    return record
train.train_step = train_step
try:
    run_training(TrainConfig(out=out, rank=4, alpha=8, dropout=0.1, global_batch_size=8, micro_batch_tokens=64,
                             epochs=2.0, learning_rate=1e-2, checkpoint_steps=0),
                 rows=toy_rows(48), model=toy_model(), progress=False)
except KeyboardInterrupt as stop:
    print(len(done), stop)
"""


def test_one_process_that_is_asked_to_stop_stops_all_after_the_same_step(tmp_path):
    run_processes(ONE_OF_TWO, "0", "-1", str(tmp_path / "whole"), world_size=2)
    stopped = run_processes(ONE_OF_TWO, str(int(signal.SIGTERM)), "5", str(tmp_path / "cut"), world_size=2)
    assert [result.stdout.split(" ", 1)[0] for result in stopped] == ["5", "5"], stopped
    assert all("interrupted; 5 steps are kept" in result.stdout for result in stopped)
    run_processes(ONE_OF_TWO, "0", "-1", str(tmp_path / "cut"), world_size=2)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


SLOW_DISK = """
import sys, time
from training.checkpoints import Checkpoints
import train
def save(self, step, tensors, state):
    print("saving", flush=True)
    time.sleep(60)
Checkpoints.save = save
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.fixture
def command(tmp_path):
    """Arguments of a run of many small steps on the embedded model."""
    if not (ROOT / "model/tiny/model.safetensors").is_file():
        pytest.skip("model/tiny is not in this checkout")
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": f"row {n} of a small file"}) + "\n" for n in range(64)))
    return ["--stage", "pretrain", "--train-on", "all", "--data", str(data), "--model", str(ROOT / "model/tiny"),
            "--precision", "fp32", "--global-batch-size", "2", "--max-steps", "500", "--checkpoint-steps", "0",
            "--out", str(tmp_path / "run")]


def begun(arguments, code="import sys, train; sys.exit(train.main(sys.argv[1:]))"):
    """A process that trains, after its second step."""
    job = Job(code, *arguments)
    for line in job.stderr:
        if line.startswith("step 00002/"):
            return job
    raise AssertionError("it ended before its second step")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_says_what_it_keeps(number, code, command, tmp_path):
    job = begun(command)
    job.send_signal(number)
    _, said = job.communicate()
    assert job.returncode == code and "Traceback" not in said
    steps = Checkpoints(tmp_path / "run" / "checkpoint", 2).newest_step()
    assert said.splitlines()[-1] == (f"interrupted; {steps} steps are kept in {tmp_path / 'run' / 'checkpoint'}, "
                                     "the same command goes on from there")
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == steps >= 2


def test_a_second_signal_stops_at_once_and_promises_nothing(command, tmp_path):
    job = begun(command, SLOW_DISK)
    job.send_signal(signal.SIGINT)
    assert job.stdout.readline() == "saving\n"
    began = time.monotonic()
    job.send_signal(signal.SIGINT)
    _, said = job.communicate()
    assert job.returncode == 130 and time.monotonic() - began < 20 and "Traceback" not in said
    assert said.splitlines()[-1] == (f"interrupted; {tmp_path / 'run'} has no checkpoint yet, so the same command "
                                     "begins anew")


# --- a full disk ------------------------------------------------------------------------------------------------------


LIMITED = """
import resource, sys
import train
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit(train.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("when", ["checkpoint", "model"])
def test_what_cannot_be_written_is_named_in_one_line_and_nothing_half_written_stays(when, command, tmp_path):
    """A limit on the size of a file stands for a full disk: the system refuses the write in the same place."""
    steps = ["--checkpoint-steps", "1"] if when == "checkpoint" else []
    job = Job(LIMITED, "1000000", *command, "--max-steps", "2", *steps).completed()
    assert job.returncode == 2 and "Traceback" not in job.stderr
    out = tmp_path / "run"
    place = out / "checkpoint" / "step-000001" if when == "checkpoint" else out / "model"
    assert job.stderr.splitlines()[-1] == f"error: {place}: {os.strerror(errno.EFBIG)}; choose another path"
    assert not (out / "DONE.json").exists() and not list(out.rglob("*.safetensors")) and not list(out.rglob("*.tmp"))


def test_a_full_disk_keeps_the_checkpoint_before_and_says_to_make_room(tmp_path, monkeypatch):
    from safetensors import SafetensorError
    original, saved = Checkpoints.save, []

    def save(self, step, *rest):
        saved.append(step)
        if len(saved) == 2:
            def full(*args, **options):
                raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
            monkeypatch.setattr("training.checkpoints.save_file", full)
        original(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save)
        with pytest.raises(OSError) as error:
            train(tmp_path)
    monkeypatch.undo()
    place = tmp_path / "checkpoint" / "step-000004"
    assert one_line(error.value).startswith(f"{place}: No space left on device; make room on the disk")
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["step-000002"]
    assert train(tmp_path).steps == 6


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_line_of_metrics_that_finds_no_room_says_to_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(training.metrics, "append_to", lambda path: path.touch() or open("/dev/full", "a"))
    with pytest.raises(OSError) as error:
        train(tmp_path)
    assert one_line(error.value).startswith(f"{tmp_path / 'metrics.jsonl'}: No space left on device; make room")


# --- a training without one update ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "told"), [
    ("fp32", "float32 holds what this base computes on sound rows"), ("bf16", "bfloat16 holds what this base"),
    ("fp16", "try --precision bf16 or fp32, or more steps .the loss scale, now 8192, halves")])
def test_a_training_in_which_no_step_was_taken_is_not_finished(precision, told, tmp_path, monkeypatch):
    original = train_module.batch_loss
    monkeypatch.setattr(train_module, "batch_loss", lambda *args: original(*args) * float("nan"))
    with pytest.raises(ValueError, match=f"no step was taken, all 3 were skipped.*{told}") as error:
        run_training(TrainConfig(out=str(tmp_path), rank=4, alpha=8, max_steps=3, global_batch_size=1,
                                 precision=precision), rows=toy_rows(24), model=toy_model(), progress=False)
    assert ("bf16" in str(error.value)) == (precision == "fp16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "metrics.csv", "metrics.jsonl"]


@pytest.mark.parametrize(("setting", "words"), [
    ({"seed": 2**70}, "--seed is .* below 2..64"), ({"alpha": 1e300}, "--alpha is 1e.300; .* below"),
    ({"threads": 10**9}, "--threads is 1000000000; expected 0")])
def test_settings_that_no_step_could_bear_are_refused_before_any(setting, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**setting)


def test_a_training_whose_last_update_left_no_numbers_is_not_finished(tmp_path, monkeypatch):
    step = train_module.train_step

    def last(trainer, *args):
        record = step(trainer, *args)
        trainer.flat.compute.fill_(float("inf"))
        return record

    monkeypatch.setattr(train_module, "train_step", last)
    with pytest.raises(ValueError, match="of the trained weights are not finite .first: .*lower --learning-rate"):
        run_training(TrainConfig(out=str(tmp_path), rank=4, alpha=8, max_steps=1, global_batch_size=1),
                     rows=toy_rows(24), model=toy_model(), progress=False)
    assert not (tmp_path / "DONE.json").exists() and not (tmp_path / "adapter").exists()


def test_weights_that_are_not_numbers_are_named_and_no_setting_is_advised(tmp_path):
    model, said = toy_model(), []
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = float("nan")
    with pytest.raises(ValueError, match="up_proj.*weight holds NaN or infinity, so no setting helps") as error:
        train_with(model, tmp_path, said, max_steps=3)
    assert "--precision" not in str(error.value) and "learning-rate" not in str(error.value)
    told = "step 1 skipped at loss scale 1: weights that are not finite: model.layers.1.mlp.up_proj"
    assert any(told in line for line in said)
    assert not (tmp_path / "DONE.json").exists() and not (tmp_path / "adapter").exists()


def test_one_update_is_a_training(tmp_path, monkeypatch):
    original, calls = train_module.batch_loss, []

    def mostly_bad(*args):
        calls.append(1)
        return original(*args) * (1.0 if len(calls) == 1 else float("nan"))

    monkeypatch.setattr(train_module, "batch_loss", mostly_bad)
    rows = [Row("r", "invocation", list(range(5, 25)), [-100] * 10 + list(range(15, 25)))]
    result = run_training(TrainConfig(out=str(tmp_path), rank=4, alpha=8, max_steps=3, precision="fp32"), rows=rows,
                          model=toy_model(), progress=False)
    assert (result.steps, result.skipped) == (3, 2) and (tmp_path / "DONE.json").is_file()


def train_with(model, out, said, **settings):
    before = train_module.tell
    train_module.tell = said.append
    try:
        return run_training(TrainConfig(out=str(out), rank=4, alpha=8, global_batch_size=8, **settings),
                            rows=toy_rows(24), model=model)
    finally:
        train_module.tell = before
