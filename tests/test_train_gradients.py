"""The gradient of a global batch is the same number however the batch is cut."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from train_toys import run_processes, toy_model, toy_rows

from data.tasks import IGNORE_INDEX
from train import TrainConfig, accumulate_gradients, prepare, train_step
from training.processes import Processes
from training.resume import synchronise

ROWS = 32           # of the global batch: several packs of 160 tokens, and as many passes where each takes one row
CUTS = {
    "1x32": {"micro_batch_tokens": 100_000},
    "4x8": {"micro_batch_size": 8, "micro_batch_tokens": 100_000},
    "padded": {"micro_batch_tokens": 160, "packing": False},
    "padded 1x32": {"micro_batch_tokens": 100_000, "packing": False},
    "one row a pass": {"micro_batch_size": 1},
    "checkpointed": {"micro_batch_tokens": 160, "gradient_checkpointing": 1},
    "every second": {"micro_batch_tokens": 160, "gradient_checkpointing": 2},
    "small chunks": {"micro_batch_tokens": 300, "loss_chunk": 7},
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}          # relative, per tensor: sums in another order


def trainer_for(dtype: torch.dtype, stage: str = "joint", **settings):
    model = toy_model(dtype)
    config = TrainConfig(**{"global_batch_size": ROWS, **settings}, stage=stage, out="unused", rank=4, alpha=8)
    trainer = prepare(config, Processes(), toy_rows(ROWS), None, model, None, lambda line: None)
    with torch.no_grad():           # B is zero in a fresh adapter, and would leave A without a gradient
        generator = torch.Generator().manual_seed(7)
        noise = torch.randn(trainer.flat.master.shape, generator=generator, dtype=torch.float64)
        trainer.flat.master += 0.05 * noise.to(dtype)
    trainer.flat.publish()
    model.train()
    return trainer


def gradients(trainer) -> dict[str, torch.Tensor]:
    accumulate_gradients(trainer, trainer.micro_batches(trainer.rows))
    return by_name(trainer)


def by_name(trainer) -> dict[str, torch.Tensor]:
    parts = trainer.flat.grad.split(trainer.flat.sizes)
    return {name: grad.clone() for name, grad in zip(trainer.flat.names, parts, strict=True)}


def assert_same(found: dict, expected: dict, tolerance: float) -> None:
    for name, grad in expected.items():
        assert grad.norm() > 0, name
        assert (found[name] - grad).norm() <= tolerance * grad.norm(), name


WEIGHINGS = [("token", 1.0), ("objective", 1.0), ("token", 0.02), ("objective", 0.3)]


@pytest.mark.parametrize("balance, weight", WEIGHINGS)
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_every_cut_of_a_global_batch_gives_the_same_gradient(dtype, balance, weight):
    expected = gradients(trainer_for(dtype, balance=balance, generation_weight=weight, **CUTS["1x32"]))
    for settings in CUTS.values():
        found = gradients(trainer_for(dtype, balance=balance, generation_weight=weight, **settings))
        assert_same(found, expected, TOLERANCE[dtype])


def plain_loss(model, rows, balance: str, generation_weight: float = 1.0) -> torch.Tensor:
    """Row by row, full logits, autograd through everything: what the batch's loss is defined to be."""
    sums, counts = {}, {}
    for row in rows:
        logits = model(torch.tensor([row.ids]))[0, :-1]
        labels = torch.tensor(row.labels[1:])
        kept = labels != IGNORE_INDEX
        loss = F.cross_entropy(logits[kept], labels[kept], reduction="sum")
        sums[row.objective] = sums.get(row.objective, 0.0) + loss
        counts[row.objective] = counts.get(row.objective, 0) + int(kept.sum())
    factors = {name: generation_weight if name == "generation" else 1.0 for name in sums}
    if balance == "token":
        return sum(factors[name] * sums[name] for name in sums) / sum(factors[name] * counts[name] for name in sums)
    return sum(factors[name] * sums[name] / counts[name] for name in sums)


@pytest.mark.parametrize("balance, weight", WEIGHINGS)
def test_the_gradient_is_that_of_the_loss_written_out(balance, weight):
    trainer = trainer_for(torch.float64, balance=balance, generation_weight=weight, micro_batch_tokens=160)
    found = gradients(trainer)
    loss, _ = accumulate_gradients(trainer, trainer.micro_batches(trainer.rows))
    trainer.flat.zero_grad()
    expected_loss = plain_loss(trainer.model, trainer.rows, balance, weight)
    expected_loss.backward()
    expected = by_name(trainer)
    assert abs(loss - expected_loss.item()) < 1e-12 * abs(loss)
    assert_same(found, expected, 1e-10)


def test_an_objective_that_counts_nothing_gives_no_gradient():
    """A weight of zero is no weight of one: rows of that objective alone have a gradient of zero."""
    trainer = trainer_for(torch.float64, generation_weight=0.0, micro_batch_tokens=160)
    trainer.rows = [row for row in trainer.rows if row.objective == "generation"]
    assert trainer.rows
    loss, _ = accumulate_gradients(trainer, trainer.micro_batches(trainer.rows))
    assert loss == 0.0 and trainer.flat.grad.norm() == 0.0


def test_full_training_has_the_gradient_of_the_loss_written_out():
    trainer = trainer_for(torch.float64, stage="pretrain", micro_batch_tokens=160)
    found = gradients(trainer)
    trainer.flat.zero_grad()
    plain_loss(trainer.model, trainer.rows, "token").backward()
    expected = by_name(trainer)
    assert_same(found, expected, 1e-10)


def test_frozen_weights_get_no_gradient():
    trainer = trainer_for(torch.float32)
    gradients(trainer)
    trained = {id(p) for p in trainer.flat.params}
    frozen = [p for p in trainer.model.parameters() if id(p) not in trained]
    assert frozen and all(p.grad is None and not p.requires_grad for p in frozen)


def test_no_row_of_a_pack_changes_the_hidden_states_of_another():
    trainer = trainer_for(torch.float64, micro_batch_tokens=100_000)
    (batch,) = trainer.micro_batches(trainer.rows[:6])
    with torch.no_grad():
        whole = trainer.model.hidden_states(batch.input_ids, lengths=batch.lengths)[0].split(batch.lengths)
        other = batch.input_ids.clone()
        first = batch.lengths[0]
        other[0, :first] = (other[0, :first] + 1) % 120
        changed = trainer.model.hidden_states(other, lengths=batch.lengths)[0].split(batch.lengths)
    assert (whole[0] - changed[0]).abs().max() > 1e-3
    for before, after in zip(whole[1:], changed[1:], strict=True):
        assert torch.equal(before, after)


TWO_PROCESSES = """
import sys, torch
from safetensors.torch import save_file
from test_train_gradients import WEIGHINGS, trainer_for
from train import accumulate_gradients
dtype, path = getattr(torch, sys.argv[1]), sys.argv[2]
for cut, settings in (("2x2x8", dict(micro_batch_size=8)), ("uneven", dict(micro_batch_tokens=100000))):
    for number, (balance, weight) in enumerate(WEIGHINGS):
        trainer = trainer_for(dtype, balance=balance, generation_weight=weight, **settings)
        loss, counts = accumulate_gradients(trainer, trainer.micro_batches(trainer.rows))
        trainer.processes.all_reduce(trainer.flat.grad, "test")
        if trainer.processes.dist_rank == 0:
            save_file({"grad": trainer.flat.grad}, f"{path}/{cut} {number}")
trainer.processes.close()
"""


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_two_processes_give_the_gradient_of_one(dtype, tmp_path):
    run_processes(TWO_PROCESSES, str(dtype).removeprefix("torch."), str(tmp_path), world_size=2)
    for number, (balance, weight) in enumerate(WEIGHINGS):
        trainer = trainer_for(dtype, balance=balance, generation_weight=weight, **CUTS["1x32"])
        expected = gradients(trainer)
        for cut in ("2x2x8", "uneven"):         # "uneven": one micro-batch only, so the second process runs none
            parts = load_file(tmp_path / f"{cut} {number}")["grad"].split(trainer.flat.sizes)
            assert_same(dict(zip(trainer.flat.names, parts, strict=True)), expected, TOLERANCE[dtype])


def test_after_several_steps_the_cuts_stay_together():
    one, many = (trainer_for(torch.float32, max_steps=4, global_batch_size=16, learning_rate=1e-3, **CUTS[name])
                 for name in ("1x32", "padded"))
    for trainer in (one, many):
        synchronise(trainer)
        for _ in range(4):
            train_step(trainer)
    assert (one.flat.master - many.flat.master).norm() <= 1e-4 * one.flat.master.norm()
