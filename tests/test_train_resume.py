"""A run that is killed and started again ends with the same bytes; damaged files and other settings are refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from train_toys import ROOT, toy_model, toy_rows

from train import TrainConfig, run_training
from training.checkpoints import Checkpoints
from training.resume import refuse_other_settings

# Forks a run of `world_size` processes from a warm interpreter, kills them all with SIGKILL at random moments of the
# run 20 times, and lets each new one go on; prints what happened.
KILLER = """
import json, os, random, signal, socket, sys, time
from pathlib import Path
from train_toys import toy_model, toy_rows
from train import TrainConfig, run_training

folder, world_size = Path(sys.argv[1]), int(sys.argv[2])
rng = random.Random(world_size)

def fork(out):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for dist_rank in range(world_size):
        child = os.fork()
        if child == 0:
            os.environ.update(RANK=str(dist_rank), LOCAL_RANK=str(dist_rank), WORLD_SIZE=str(world_size),
                              MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            code = 1
            try:
                run_training(TrainConfig(out=str(out), rank=4, alpha=8, dropout=0.1, global_batch_size=8,
                                         micro_batch_tokens=64, epochs=2.0, learning_rate=1e-2, checkpoint_steps=1,
                                         eval_steps=2),
                             rows=toy_rows(48), model=toy_model(), validation=toy_rows(8, seed=5))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    return children

def steps(out):
    file = out / "metrics.jsonl"
    return file.read_text().count("\\n") if file.exists() else 0

def ended(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

def reap(children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

assert reap(fork(folder / "whole")) == [0] * world_size
kills, moments, outs = 0, [], [folder / "cut-0"]
while kills < 20:
    out = outs[-1]
    children, target = fork(out), steps(out) + rng.randint(0, 4)
    while steps(out) < target and not any(map(ended, children)):
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.08))
    if all(map(ended, children)):
        assert reap(children) == [0] * world_size
        outs.append(folder / f"cut-{len(outs)}")
        continue
    for child in children:
        os.kill(child, signal.SIGKILL)
    reap(children)
    left = sorted(path.name for path in (out / "checkpoint").glob("*")) + sorted(p.name for p in out.glob("*.json"))
    moments.append([steps(out), left])
    kills += 1
assert reap(fork(outs[-1])) == [0] * world_size
print(json.dumps({"outs": [str(out) for out in outs], "moments": moments}))
"""
SETTINGS = {"rank": 4, "alpha": 8, "global_batch_size": 8, "micro_batch_tokens": 64, "learning_rate": 1e-2,
            "checkpoint_steps": 2}


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
    said = module.tell
    module.tell = say or module.hush
    try:
        return run_training(config, rows=toy_rows(48), model=toy_model())
    finally:
        module.train_step, module.tell = original, said


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


def test_damaged_checkpoints_of_later_steps_give_way_to_new_ones(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(5, {"weights": torch.zeros(1)}, {"step": 5})
    (tmp_path / "step-000005" / "DONE.json").unlink()
    assert checkpoints.newest(lambda line: None) is None                # so the run begins anew
    checkpoints.save(2, {"weights": torch.zeros(1)}, {"step": 2})
    assert [path.name for path in checkpoints.steps()] == ["step-000002"]


def test_another_setting_on_the_same_out_is_refused_by_name(tmp_path):
    train(tmp_path / "a")
    with pytest.raises(ValueError, match=r"--learning-rate was 0.01, now 0.5"):
        train(tmp_path / "a", learning_rate=0.5)
    train(tmp_path / "a", checkpoint_steps=1)           # what does not change the result may differ


def test_a_run_older_than_a_setting_is_one_with_its_default(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a", 2)
    kept = json.loads((tmp_path / "a" / "config.json").read_text())
    del kept["generation_weight"]
    (tmp_path / "a" / "config.json").write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=r"--generation-weight was 1.0, now 0.02"):
        train(tmp_path / "a", generation_weight=0.02)
    assert train(tmp_path / "a").steps == 6


def test_a_run_with_the_former_chunk_of_the_loss_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a", 2)
    kept = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "a" / "config.json").write_text(json.dumps(kept | {"loss_chunk": 1024}))
    with pytest.raises(ValueError, match=r"--loss-chunk was 1024, now 7"):
        train(tmp_path / "a", loss_chunk=7)
    assert train(tmp_path / "a").steps == 6


def test_other_rows_on_the_same_out_are_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a", 3)
    with pytest.raises(ValueError, match="other rows"):
        run_training(TrainConfig(out=str(tmp_path / "a"), **SETTINGS), rows=toy_rows(48, seed=9), model=toy_model(),
                     progress=False)


def test_changed_data_is_refused_also_where_the_run_is_complete(tmp_path):
    data, lines = tmp_path / "rows.jsonl", [json.dumps({"text": f"row {n} of the first file"}) for n in range(4)]
    data.write_text("\n".join(lines))
    config = TrainConfig(stage="pretrain", train_on="all", data=str(data), out=str(tmp_path / "a"), max_steps=1,
                         global_batch_size=4, precision="fp32")
    run_training(config, progress=False)
    assert run_training(config, progress=False).steps == 1
    data.write_text("\n".join(lines).replace("first", "second"))
    with pytest.raises(ValueError, match="another content of --data .*rows.jsonl"):
        run_training(config, progress=False)


def test_a_changed_adapter_of_a_complete_run_is_noticed(tmp_path):
    train(tmp_path / "a")
    (tmp_path / "a" / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"adapter_config.json does not match its sha256"):
        train(tmp_path / "a")


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_killed_at_20_random_moments_the_run_ends_with_the_same_bytes(world_size, tmp_path):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    result = subprocess.run([sys.executable, "-c", KILLER, str(tmp_path), str(world_size)], cwd=ROOT, env=env,
                            text=True, capture_output=True, timeout=1800)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads(result.stdout.splitlines()[-1])
    for out in report["outs"]:
        assert adapter_bytes(Path(out)) == adapter_bytes(tmp_path / "whole")
        assert losses(Path(out)) == losses(tmp_path / "whole")
    assert len(report["moments"]) == 20
    assert sum(0 < step for step, _ in report["moments"]) >= 10, "too few kills fell inside the steps to prove much"
    assert "resumed at step" in result.stderr


@pytest.mark.parametrize("content", ["{}", "[]", "not JSON", '{"round": 3, "players": ["a", "b"]}'])
def test_another_programs_round_json_does_not_make_a_folder_ours(tmp_path, content):
    """A round trains in its own folder; any other round.json, and what stands beside it, is somebody's."""
    for name in ("round.json", "metrics.jsonl"):
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="nothing of ours"):
        refuse_other_settings(TrainConfig(out=str(tmp_path)))
    assert (tmp_path / "metrics.jsonl").read_text() == content
