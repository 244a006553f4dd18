"""A base shared out over processes computes what a whole one does: gradients, runs, loading, sampling, evolution."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from train_toys import ROOT, run_processes, toy_model, toy_rows

from benchmarks.shard_plan import NODES, SHAPES, shape_of, training_memory, verdict
from data.batching import deal, pack
from data.tasks import IGNORE_INDEX
from evolution.config import RoundConfig
from model import ModelConfig, save_model
from pipeline.steps import Run
from tests.evolve_run import FAST, make_run
from training.config import TrainConfig, parse_config
from training.plan import base_memory
from training.processes import Processes
from training.sharing import shard_that_fits

# --- training --------------------------------------------------------------------------------------------------------

GRADIENTS = """
import itertools, sys
import torch
from train_toys import toy_model, toy_rows
from train import TrainConfig, accumulate_gradients, prepare
from training.processes import Processes

processes = Processes(600)

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
                         eval_steps=2, timeout_minutes=10.0, **more)
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


# --- who shares -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("available", "world_size", "expected"), [
    (100, 4, "off"), (70, 4, "node"), (55, 4, "job"), (10, 4, "job"), (10, 1, "off")])
def test_auto_shares_no_wider_than_it_must(available, world_size, expected, monkeypatch):
    """Of 100 bytes 60 are the base and 40 nobody shares: two of a machine need 70 each, the four of the run 55."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(min(world_size, 2)))
    processes = SimpleNamespace(world_size=world_size, any_over=lambda needed, available: needed > available)
    said = []
    assert shard_that_fits(lambda sharing: 40 + 60 / max(sharing, 1), available, processes, said.append) == expected
    assert len(said) == 1 and said[0].startswith(f"--shard auto: {expected} (")


AUTO = """
import sys
import torch
import torch.distributed as dist
import training.plan, training.sharing
from model import ModelConfig, load_model
from model.sharding import is_sharded
from train import TrainConfig, run_training
from train_toys import toy_rows
from training.base import load_base
from training.processes import Processes
from training.rows import supervised_in

folder, rows, cpu = sys.argv[1], toy_rows(), torch.device("cpu")
dist.init_process_group("gloo")                     # kept over the runs: a second one could meet the first one's store

def run(name, shard, available):
    training.plan.available_memory = lambda device: available - training.plan.LIBRARIES
    config = TrainConfig(out=f"{folder}/{name}", model=f"{folder}/base", rank=2, alpha=4, micro_batch_tokens=32,
                         precision="fp32", gradient_checkpointing=1, global_batch_size=4, max_steps=2, shard=shard,
                         timeout_minutes=10.0)
    run_training(config, rows=rows)
    return config

config = run("off", "off", 2**40)
longest, lengths = max(len(row.ids) for row in rows), sum(len(row.ids) for row in rows)
whole, shared = (sum(training.plan.memory_parts(config, ModelConfig.load(config.model), longest, sum(map(
    supervised_in, rows)) / lengths, torch.float32, cpu, sharing).values()) for sharing in (0, 2))
assert shared < whole
run("fits", "auto", whole + 1)
run("shared", "auto", (whole + shared) // 2)
weights = sum(weight.nbytes for weight in load_model(config.model, torch.float32).parameters())
with Processes(600) as processes:
    for available in (0.9, 1.3):
        training.sharing.available_memory = lambda device: available * weights
        print(is_sharded(load_base(config.model, "fp32", processes, "auto", print)))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_auto_shards_where_the_plan_says_that_a_whole_base_does_not_fit(tmp_path):
    save_model(toy_model(layers=8), tmp_path / "base")
    first, second = run_processes(AUTO, str(tmp_path), world_size=2)
    plain = [line for line in first.stderr.splitlines() if line.startswith("--shard auto")]
    assert [line.split(" (")[0] for line in plain] == ["--shard auto: off", "--shard auto: node"], first.stderr
    assert first.stderr.count("base's share") == 1 and "--shard auto" not in second.stderr
    assert len({(tmp_path / name / "adapter/adapter_model.safetensors").read_bytes()
                for name in ("off", "fits", "shared")}) == 1
    assert [line for line in second.stdout.splitlines() if line in ("True", "False")] == ["True", "False"]


UNEVEN = """
import os
from training.processes import Processes
from training.sharing import mesh_over

os.environ["LOCAL_WORLD_SIZE"] = "1" if os.environ["RANK"] == "2" else "2"
with Processes(60) as processes:
    try:
        mesh_over("node", processes)
    except ValueError as error:
        print(error)
"""


def test_machines_that_run_different_numbers_of_processes_are_refused_by_all():
    for result in run_processes(UNEVEN, world_size=3):
        assert "of the 3 processes, another one another number; start equally many on each" in result.stdout


@pytest.mark.slow
def test_two_launchers_share_one_base_as_two_machines_do(tmp_path):
    """torchrun twice, with a meeting point of their own: --shard job, beside two whole bases under one torchrun."""
    run = make_run(tmp_path, [{"id": "q", "query": "What?"}])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    training = [str(ROOT / "train.py"), "--model", run.model, "--data", run.labelled, "--max-steps", "2", "--rank", "4",
                "--global-batch-size", "4", "--precision", "fp32"]
    meeting = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "mine",
               "--rdzv-endpoint", f"127.0.0.1:{port}"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    machines = [subprocess.Popen([*torchrun, *meeting, *training, "--shard", "job", "--out", str(tmp_path / "two")],
                                 env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [machine.communicate(timeout=900)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], "\n".join(said)
    assert sum("done: 2 steps, 0 skipped" in text for text in said) == 1 and "base's share" in "".join(said)
    subprocess.run([*torchrun, "--standalone", "--nproc-per-node", "2", *training, "--out", str(tmp_path / "one")],
                   env=env, check=True, timeout=900)
    assert len({(tmp_path / name / "adapter/adapter_model.safetensors").read_bytes() for name in ("one", "two")}) == 1


# --- loading ---------------------------------------------------------------------------------------------------------

LOADING = """
import json, os, signal, sys
from pathlib import Path
import torch
import model.weights
from model import load_model
from model.sharding import local, rows_of
from training.base import load_shared
from training.processes import LostProcess, Processes
from training.sharing import mesh_over

folder, dtype = Path(sys.argv[1]), getattr(torch, sys.argv[2])
with Processes(600) as processes:
    mesh = mesh_over("job", processes)
    whole, sharded = (dict(load_model(folder / "good", dtype, mesh=m).named_parameters()) for m in (None, mesh))
    assert whole.keys() == sharded.keys()
    for name, weight in whole.items():
        here = weight[rows_of(sharded[name])] if "layers" in name else weight
        assert local(sharded[name]).dtype == dtype and torch.equal(local(sharded[name]), here), name
    for bad in ("broken", "wrong"):
        try:
            load_model(folder / bad, torch.float16, mesh=mesh)
        except ValueError as error:
            print(error, flush=True)
    if processes.dist_rank == 1:
        model.weights.warm = lambda model: os.kill(os.getpid(), signal.SIGKILL)
    try:
        load_shared(folder / "good", dtype, processes.device, processes, mesh)
    except LostProcess as error:
        print(error, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_each_process_reads_its_rows_and_all_refuse_what_one_of_them_found(world_size, tmp_path):
    """At the end process 1 is killed while it loads, and the others name it."""
    for name in ("good", "broken", "wrong"):
        save_model(toy_model(tied=name == "wrong"), tmp_path / name)
    file = tmp_path / "broken" / "model.safetensors"
    state = load_file(file)
    state["model.layers.1.mlp.up_proj.weight"][-1, -1] = torch.nan              # in the last process's rows
    state["model.layers.0.self_attn.q_proj.weight"][0, 0] = 1e5
    save_file(state, file)
    settings = json.loads((tmp_path / "wrong" / "config.json").read_text())
    (tmp_path / "wrong" / "config.json").write_text(json.dumps({**settings, "intermediate_size": 96}))
    results = run_processes(LOADING, str(tmp_path), "bfloat16", world_size=world_size, check=False)
    assert [result.returncode for result in results] == [0, -signal.SIGKILL, 0][:world_size], results[0].stderr
    for dist_rank, result in enumerate(results):
        assert dist_rank == 1 or "lost the others at loading the base: process 1 was last seen at" in result.stdout
        assert "1 tensors hold values that are not finite (NaN or infinity): model.layers.1.mlp.up" in result.stdout
        assert "wrong shape (9): model.layers.0.mlp.down_proj.weight [32, 80], expected [32, 96]" in result.stdout


# --- sampling --------------------------------------------------------------------------------------------------------

SAMPLING = """
import os, random, signal, sys, time
import torch
from train_toys import toy_model, toy_rows
from model.sharding import in_step
from sampler import generate
from train import TrainConfig, accumulate_gradients, prepare
from training.processes import LostProcess, Processes

processes = Processes(600)
rank, world_size = processes.dist_rank, processes.world_size
rng = random.Random(0)
prompts = [[rng.randrange(120) for _ in range(rng.randint(3, 40))] for _ in range(12)]

def trainer(**settings):
    config = TrainConfig(out="unused", rank=4, alpha=8, micro_batch_tokens=160, gradient_checkpointing=1, **settings)
    made = prepare(config, processes, toy_rows(), None, toy_model(tied=False), None, print)
    made.flat.master += 0.05 * torch.randn(made.flat.master.shape, generator=torch.Generator().manual_seed(7))
    return made

def sampled(model, mine):
    found = {}
    for part in (mine[:len(mine) // 2], mine[len(mine) // 2:]):
        if part:
            got = generate(model, [prompts[i] for i in part], item_ids=part, num_samples=3, max_new_tokens=12,
                           temperature=1.0, seed=3, eos_ids=[5, 17, 90, 33], prefill_chunk=32, max_rows=12)
            found |= {i: [(c.ids, c.logprob) for c in row] for i, row in zip(part, got)}
    return found

def gradient(trainer):
    trainer.model.train()
    accumulate_gradients(trainer, trainer.micro_batches(trainer.rows))
    return trainer.flat.grad.clone()

whole, sharded = trainer(), trainer(shard="job")
thirds = [[], list(range(0, 12, 3)), [i for i in range(12) if i % 3]]      # no work, a third, the rest
mine = thirds[rank % 3]
for _ in range(2):                                                          # sampling, training, sampling, training
    with in_step(sharded.model, processes.joint_pass):
        found = sampled(sharded.model, mine)
    assert found == sampled(whole.model, mine)
    assert torch.equal(gradient(sharded), gradient(whole))
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if len(sys.argv) > 1:
    try:
        with in_step(sharded.model, processes.joint_pass):
            if rank == 1 and sys.argv[1] == "before":
                die()
            if rank == 1:                                                   # the others wait for the next block
                sharded.model.model.layers[1].register_forward_pre_hook(die)
            sampled(sharded.model, mine)
    except LostProcess as error:
        print(error, flush=True)
        time.sleep(10 if rank == 0 else 0)                                  # it holds the store that the other one asks
processes.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("world_size", "killed"), [(2, ""), (3, "before"), (3, "inside")])
def test_uneven_sampling_equals_that_of_a_whole_base_and_training_follows(world_size, killed):
    """The first process has no item to sample. At the end process 1 is killed, before a pass or inside of one."""
    results = run_processes(SAMPLING, *[killed] * bool(killed), world_size=world_size, check=not killed)
    if killed:
        assert [result.returncode for result in results] == [0, -signal.SIGKILL, 0], results[0].stderr
    for result in results[::2] if killed else ():
        assert "lost the others at a pass while sampling: process 1 was last seen at" in result.stdout, result.stderr


# --- a round ---------------------------------------------------------------------------------------------------------

ROUND = """
import json, random, sys
from pathlib import Path
from evolution.config import RoundConfig
from evolve import run_round
from model import load_tokenizer
from sampler import generate
from tests.evolve_run import Dice

class Woven(Dice):
    '''What the model really samples decides what Dice says: a random base writes no tools.'''
    def generate(self, model, prompts, *, num_samples, item_ids, on_item, seed, on_sample=None, **rest):
        drawn = generate(model, prompts, num_samples=num_samples, item_ids=item_ids, seed=seed,
                         **{**rest, "max_new_tokens": 4, "progress": False})
        names = [f"{name} {[c.ids for c in row]}" for name, row in zip(item_ids, drawn)]
        super().generate(model, prompts, num_samples=num_samples, item_ids=names, on_item=on_item, seed=seed)

    @staticmethod
    def calls_text(rng, prompt):
        return Dice.calls_text(rng, prompt) if '{"name": "tool_' in prompt else "hm"        # else a labelled example

config = RoundConfig.from_dict(json.loads(Path(sys.argv[1]).read_text()))
tokenizer = load_tokenizer(config.model)
run_round(config, tokenizer=tokenizer, generate=Woven(tokenizer).generate, progress=False)
"""


@pytest.mark.slow
def test_a_round_of_a_sharded_base_is_that_of_two_whole_ones(tmp_path):
    """Data, probe and validation (by one process alone), training: the same files and the same adapter."""
    found = {}
    for shard in ("off", "job"):
        queries = [{"id": f"q{i}", "query": f"What is {i} and {i}?"} for i in range(9)]
        config = make_run(tmp_path / shard, queries, train={**FAST, "shard": shard})
        config = dataclasses.replace(config, probe=2, validation=config.labelled)
        (tmp_path / shard / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
        run_processes(ROUND, str(tmp_path / shard / "config.json"), world_size=2)
        folder = tmp_path / shard / "run" / "round-1"
        ledger = json.loads((folder / "ledger.json").read_text())
        found[shard] = [(folder / name).read_bytes() for name in ("tools.jsonl", "calls.jsonl", "accepted.jsonl",
                                                                 "adapter/adapter_model.safetensors")]
        found[shard] += [{name: value for name, value in ledger.items() if name != "seconds"}]
    assert found["off"] == found["job"] and found["off"][4]["training"]["steps"] == 2


def test_a_process_with_a_base_of_its_own_waits_until_the_first_one_has_measured(tmp_path):
    """As --shard auto leaves it: the next meeting has a timeout, and the test items may take longer."""
    run = object.__new__(Run)
    run.test, run.out, run.first, run.processes, run.model = [None], tmp_path, False, Processes(), lambda _: toy_model()
    waiting = threading.Thread(target=run.measure, args=("joint", None))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    (tmp_path / "joint" / "eval").mkdir(parents=True)
    (tmp_path / "joint" / "eval" / "summary.json").write_text("{}")
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_round_refuses_what_does_not_go_with_a_sharded_base():
    for name in ("compile_decode", "pack_weights"):
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} does not go with --shard"):
            RoundConfig(train={"shard": "node"}, **{name: True})


# --- the plan --------------------------------------------------------------------------------------------------------


def test_the_plan_says_what_fits_which_cards():
    nodes = {node.name: node for node in NODES}

    def said(name, node):
        return verdict(sum(training_memory(name, nodes[node]).values()), nodes[node])

    assert said("Qwen2.5-14B", "8 x V100-32GB, NVLink") == said("Qwen2.5-32B", "8 x V100-32GB, NVLink") == "fits"
    assert said("Qwen2.5-32B", "4 x V100-32GB, NVLink") == "tight"
    assert said("Qwen2.5-32B", "8 x V100-16GB, NVLink") == "refused"


def test_the_plans_shapes_are_those_of_the_published_configs():
    folder = Path(os.environ.get("TOOLDEV_DATA", ""), "models", "configs")
    if not (folder / "Qwen2.5-32B-Instruct.json").is_file():
        pytest.skip("set TOOLDEV_DATA to a folder with models/configs")
    for name in SHAPES:
        ours, theirs = shape_of(name), ModelConfig.from_dict(json.loads((folder / f"{name}-Instruct.json").read_text()))
        for field in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim",
                      "num_key_value_heads", "vocab_size", "tie_word_embeddings", "qkv_bias", "o_proj_bias"):
            assert getattr(ours, field) == getattr(theirs, field), (name, field)


def test_a_share_of_the_base_is_counted_in_rows_rounded_up():
    shape = ModelConfig.from_dict({"architectures": ["Qwen2ForCausalLM"], "vocab_size": 120, "hidden_size": 32,
                                   "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
                                   "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "tie_word_embeddings": True})
    whole = base_memory(shape, 4, 0, on_cpu=True)["base"]
    half, thirds = (base_memory(shape, 4, n, on_cpu=True)["base's share"] for n in (2, 3))
    rest = 4 * (120 * 32 + 32)                              # embedding and last norm
    assert half == (whole - rest) / 2 + rest and thirds > (whole - rest) / 3 + rest


COUNTED = """
from benchmarks.shard_memory import measure
from benchmarks.train_memory import SHAPES
for name, shape in SHAPES.items():
    for sharing in (2, 4):
        planned, counted = measure(shape, sharing)
        assert abs(planned / counted - 1) < 0.1, (name, sharing, planned, counted)
"""


@pytest.mark.slow
def test_planned_bytes_of_a_sharded_step_are_within_a_tenth_of_those_counted():
    run_processes(COUNTED, world_size=1)
