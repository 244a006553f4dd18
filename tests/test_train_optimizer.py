"""Muon: its update is orthogonal, it moves hidden matrices only by it, and a stopped run goes on to the same bytes."""

import pytest
import torch
from test_train_resume import train
from test_train_steps import trainer_for

from train import TrainConfig, train_step
from training.optimizer import MOMENTUM, RATE, orthogonal


@pytest.mark.parametrize("shape", [(24, 24), (64, 24), (24, 64)])
def test_the_update_is_orthogonal(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(orthogonal(matrix), full_matrices=False)
    assert 0.5 < s.min() and s.max() < 1.3                   # Jordan's coefficients stop near 1, not at it
    true_u, _, true_v = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.nn.functional.cosine_similarity((u * s @ v).flatten(), (true_u @ true_v).flatten(), dim=0) > 0.95


def test_the_first_step_moves_a_hidden_matrix_by_its_orthogonal_gradient_and_adamw_moves_the_rest():
    trainer, _ = trainer_for(stage="pretrain", optimizer="muon", max_steps=4, learning_rate=1e-2, clip=0.0)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    rate = train_step(trainer)["lr"] * RATE
    for name, p in trainer.model.named_parameters():
        moved = p.detach() - before[name]
        if p.dim() == 2 and "layers" in name:
            scale = max(1.0, p.shape[0] / p.shape[1]) ** 0.5
            wanted = -rate * scale * orthogonal(p.grad * (1 - MOMENTUM**2))
            torch.testing.assert_close(moved, wanted, rtol=1e-3, atol=1e-5)
        else:
            assert moved.abs().max() <= 1.01 * rate / RATE   # AdamW's first step is its rate at most


def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path):
    settings = {"stage": "pretrain", "optimizer": "muon", "model": "model/tiny", "max_steps": 8}
    train(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", steps_to_stop=5, **settings)
    train(tmp_path / "cut", **settings)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_it_is_refused_for_adapters():
    with pytest.raises(ValueError, match="--optimizer muon is for --stage pretrain"):
        TrainConfig(stage="joint", optimizer="muon")
