"""A run that is killed and started again ends with the same bytes; damaged files and other settings are refused by name."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from train_toys import ROOT, run_processes, toy_model, toy_rows

from train import TrainConfig, run_training
from training.checkpoints import Checkpoints

RUN = """
import json, sys
sys.path.insert(0, sys.argv[3])
from train_toys import toy_model, toy_rows
from train import TrainConfig, run_training
rows = toy_rows(48)
settings = dict(rank=4, alpha=8, dropout=0.1, global_batch_size=8, micro_batch_tokens=64, epochs=2.0, learning_rate=1e-2,
                checkpoint_steps=2, eval_steps=3, timeout_minutes=0.5)
run_training(TrainConfig(out=sys.argv[1], **settings, **json.loads(sys.argv[2])), rows=rows, model=toy_model(),
             validation=toy_rows(8, seed=5))
"""
SETTINGS = {"rank": 4, "alpha": 8, "global_batch_size": 8, "micro_batch_tokens": 64, "learning_rate": 1e-2,
            "checkpoint_steps": 2}
TESTS = str(ROOT / "tests")


def train(out, steps_to_stop: int = 0, say=None, **changes):
    """A toy run in this process; `steps_to_stop` raises KeyboardInterrupt after that many steps."""
    import train as module
    config = TrainConfig(out=str(out), **{**SETTINGS, **changes})
    original, done = module.train_step, []

    def stop_after(trainer):
        record = original(trainer)
        done.append(record)
        if len(done) == steps_to_stop:
            raise KeyboardInterrupt
        return record

    module.train_step = stop_after
    said = module._say
    module._say = say or module._hush
    try:
        return run_training(config, rows=toy_rows(48), model=toy_model())
    finally:
        module.train_step, module._say = original, said


def adapter_bytes(out) -> bytes:
    return (out / "adapter" / "adapter_model.safetensors").read_bytes()


def losses(out) -> list:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("tok_per_s", "peak_mem_gb")} for line in lines]


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_an_interrupted_run_ends_byte_for_byte_as_an_uninterrupted_one(stop, tmp_path):
    train(tmp_path / "whole", dropout=0.1)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", stop, dropout=0.1)
    train(tmp_path / "cut", dropout=0.1)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_complete_run_is_not_trained_again(tmp_path):
    first = train(tmp_path / "a")
    again = train(tmp_path / "a", steps_to_stop=1)
    assert again == first and first.steps == 6
    assert not (tmp_path / "a" / "checkpoint").exists()


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path):
    train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", 5)
    newest = Checkpoints(tmp_path / "cut" / "checkpoint", 2).steps()[-1]
    blob = bytearray((newest / "state.safetensors").read_bytes())
    blob[-5] ^= 1
    (newest / "state.safetensors").write_bytes(blob)
    lines = []
    train(tmp_path / "cut", say=lines.append)
    assert any("step-000004 is damaged (state.safetensors does not match its sha256)" in line for line in lines)
    assert any("resumed at step 2" in line for line in lines)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["unlink", "truncate", "garbage"])
def test_a_checkpoint_without_a_sound_marker_does_not_count(damage, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2):
        checkpoints.save(step, {"weights": torch.full((3,), float(step))}, {"step": step})
    marker = tmp_path / "step-000002" / "DONE.json"
    {"unlink": marker.unlink, "truncate": lambda: marker.write_text(""),
     "garbage": lambda: marker.write_text('{"sha256": 3}')}[damage]()
    tensors, state = checkpoints.newest(lambda line: None)
    assert state["step"] == 1 and tensors["weights"][0] == 1


def test_only_the_last_checkpoints_are_kept_and_stale_ones_cleared(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    (tmp_path / ".step-000001.tmp").mkdir(parents=True)
    for step in (1, 2, 3, 4):
        checkpoints.save(step, {"weights": torch.zeros(1)}, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000003", "step-000004"]


def test_another_setting_on_the_same_out_is_refused_by_name(tmp_path):
    train(tmp_path / "a")
    with pytest.raises(ValueError, match=r"--learning-rate was 0.01, now 0.5"):
        train(tmp_path / "a", learning_rate=0.5)
    train(tmp_path / "a", checkpoint_steps=1)           # what does not change the result may differ


def test_other_rows_on_the_same_out_are_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a", 3)
    with pytest.raises(ValueError, match="other rows"):
        run_training(TrainConfig(out=str(tmp_path / "a"), **SETTINGS), rows=toy_rows(48, seed=9), model=toy_model(),
                     progress=False)


def test_a_changed_adapter_of_a_complete_run_is_noticed(tmp_path):
    train(tmp_path / "a")
    (tmp_path / "a" / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"adapter_config.json does not match its sha256"):
        train(tmp_path / "a")


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_killed_at_20_random_moments_the_run_ends_with_the_same_bytes(world_size, tmp_path):
    whole = tmp_path / "whole"
    began = time.monotonic()
    run_processes(RUN, str(whole), "{}", TESTS, world_size=world_size)
    seconds = time.monotonic() - began
    rng = random.Random(world_size)
    cut, kills, resumed = tmp_path / "cut", 0, 0
    env = {**os.environ, "WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1",
           "PYTHONPATH": f"{ROOT}:{TESTS}", "TOLD": "1"}
    while kills < 20:
        env["MASTER_PORT"] = str(20000 + rng.randrange(20000))
        started = [subprocess.Popen([sys.executable, "-c", RUN, str(cut), "{}", TESTS], cwd=ROOT, text=True,
                                    env={**env, "RANK": str(r), "LOCAL_RANK": str(r)}, stderr=subprocess.PIPE)
                   for r in range(world_size)]
        steps_at_start = _steps(cut)
        deadline = time.monotonic() + rng.uniform(0.3, 1.0) * seconds
        while time.monotonic() < deadline and any(p.poll() is None for p in started):
            time.sleep(0.005)
        alive = [p for p in started if p.poll() is None]
        for process in alive:
            process.send_signal(signal.SIGKILL)
        errors = [p.communicate()[1] for p in started]
        resumed += any("resumed at step" in e for e in errors)
        if alive:
            kills += 1
        elif all(p.returncode == 0 for p in started):           # it finished before the kill: judge it, and begin anew
            _assert_equal(cut, whole)
            cut = tmp_path / f"cut-{kills}"
        assert _steps(cut) >= 0 and steps_at_start >= 0
    run_processes(RUN, str(cut), "{}", TESTS, world_size=world_size)
    _assert_equal(cut, whole)
    assert resumed >= 3, "too few of the kills fell between a checkpoint and the end: the test proves little"


def _steps(out) -> int:
    file = out / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def _assert_equal(cut, whole) -> None:
    assert adapter_bytes(cut) == adapter_bytes(whole)
    assert losses(cut) == losses(whole)
