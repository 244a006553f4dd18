"""A base shared out over processes computes what a whole one does: gradients, runs, loading, sampling, evolution."""

import json

import pytest
from train_toys import run_processes, toy_rows

from data.batching import deal, pack
from data.tasks import IGNORE_INDEX
from training.config import TrainConfig, parse_config

# --- training --------------------------------------------------------------------------------------------------------

GRADIENTS = """
import itertools, json, sys
from train_toys import toy_model, toy_rows
from train import TrainConfig, accumulate_gradients, prepare
from training.processes import Processes

processes = Processes(60)

def gradient(dtype, every, tied, **settings):
    config = TrainConfig(out="unused", rank=4, alpha=8, micro_batch_tokens=160, gradient_checkpointing=every,
                         **settings)
    trainer = prepare(config, processes, toy_rows(), None, toy_model(torch.float32, tied=tied).to(dtype), None, print)
    noise = torch.randn(trainer.flat.master.shape, generator=torch.Generator().manual_seed(7))
    trainer.flat.master += 0.05 * noise
    trainer.model.train()
    found = []
    for _ in range(2):
        loss, _ = accumulate_gradients(trainer, trainer.micro_batches(trainer.rows))
        processes.all_reduce(trainer.flat.grad, "test")
        found.append(trainer.flat.grad.clone())
    return loss, found

dtypes = [getattr(torch, name) for name in sys.argv[1].split(",")]
for dtype, every, tied in itertools.product(dtypes, (0, 1), (True, False)):
    loss, (whole, _) = gradient(dtype, every, tied)
    sharded, (first, again) = gradient(dtype, every, tied, shard="job")
    what = [str(dtype), every, tied]
    assert loss == sharded and float(whole.norm()) > 0, what
    assert torch.equal(whole, first) and torch.equal(first, again), what
processes.close()
"""


@pytest.mark.parametrize(("world_size", "dtypes"), [
    (2, "float32"), *(pytest.param(n, "float32,bfloat16,float16", marks=pytest.mark.slow) for n in (2, 3, 4))])
def test_gradients_of_a_sharded_base_are_those_of_a_whole_one_bit_for_bit(world_size, dtypes):
    """Checkpointed and not, tied and not; three processes leave slices of uneven length."""
    run_processes(GRADIENTS, dtypes, world_size=world_size)


def test_equal_passes_deal_the_same_work_and_fill_up_with_idle_ones():
    batches = pack(toy_rows(23), 60)
    shares = [deal(batches, dist_rank, 4, equal=True) for dist_rank in range(4)]
    assert len({len(part) for part in shares}) == 1
    for dist_rank, part in enumerate(shares):
        real = [pair for pair in part if pair[0] < len(batches)]
        assert real == deal(batches, dist_rank, 4)
        assert all(b.tokens == 1 and int(b.labels) == IGNORE_INDEX for index, b in part if index == len(batches))
    assert any(index == len(batches) for part in shares for index, _ in part)


def test_shard_alone_means_a_machine_and_pretraining_refuses_it():
    assert parse_config(["--shard", "--max-steps", "3"]).shard == "node"
    assert parse_config(["--shard", "auto"]).shard == "auto" and parse_config([]).shard == "off"
    with pytest.raises(ValueError, match="--shard job is for a frozen base"):
        TrainConfig(stage="pretrain", shard="job")


RUNS = """
import os, signal, sys
import torch.distributed as dist
from train_toys import toy_model, toy_rows
import train
from train import TrainConfig, run_training

folder, kill = sys.argv[1], len(sys.argv) > 2
if not kill:
    dist.init_process_group("gloo")                 # kept over the runs

def run(name, **more):
    config = TrainConfig(out=f"{folder}/{name}", rank=4, alpha=8, micro_batch_tokens=90, gradient_checkpointing=1,
                         max_steps=4, global_batch_size=18, learning_rate=1e-2, checkpoint_steps=1, dropout=0.1,
                         eval_steps=2, timeout_minutes=1.0, **more)
    return run_training(config, rows=toy_rows(), model=toy_model(tied=False).half(), validation=toy_rows(7, seed=5))

if kill:
    step = train.train_step
    def dying(trainer):
        if trainer.step == 2 and trainer.processes.dist_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(trainer)
    train.train_step = dying
    try:
        run("killed", shard="job")
    except train.LostProcess as error:
        print(error)
        sys.exit(1)
else:
    run("whole")
    run("sharded", shard="job")
    run("killed", shard="job")
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_a_sharded_run_ends_with_the_bytes_of_a_whole_one_and_so_does_a_killed_one(tmp_path):
    """In float16, with idle passes, dropout, validation; process 1 is killed after two steps, the other one names it
    and ends."""
    first, second = run_processes(RUNS, str(tmp_path), "kill", world_size=2, check=False)
    assert second.returncode == -9 and first.returncode == 1
    assert "process 0 lost the others at step 3, a pass: process 1 was last seen at step 2" in first.stdout
    run_processes(RUNS, str(tmp_path), world_size=2)
    adapters = {(tmp_path / name / "adapter/adapter_model.safetensors").read_bytes()
                for name in ("whole", "sharded", "killed")}
    metrics = {name: [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
               for name in ("whole", "sharded", "killed")}
    assert len(adapters) == 1
    kept = {name: [{k: v for k, v in line.items() if k not in ("tok_per_s", "peak_mem_gb")} for line in lines]
            for name, lines in metrics.items()}
    assert kept["whole"] == kept["sharded"] == kept["killed"] and "validation_loss" in kept["whole"][1]
