"""The optimizer of a run: AdamW; and Muon for the hidden matrices of a model that trains in full (`--optimizer muon`).

Muon is momentum whose update is made orthogonal: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural
networks"; Liu et al. 2025, arXiv:2502.16982. Embeddings, norms and biases stay with AdamW. It pre-trained the embedded
model (LOG.md); it is never for adapters.
"""

import itertools

import torch
from torch import Tensor, nn

from training.config import TrainConfig
from training.flat import FlatWeights

MOMENTUM = 0.95
RATE = 7.0                      # Muon's rate over AdamW's: 0.02 beside 3e-3


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """(A, B) -> about U V^T of its singular value decomposition, by Newton-Schulz steps with Jordan's coefficients."""
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.t() if tall else x
    for _ in range(steps):
        gram = x @ x.t()
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return x.t() if tall else x


class Muon:
    """The optimizer of a step: Muon on one vector that holds matrices of `shapes` end to end, `adamw` on the rest."""

    def __init__(self, vector: nn.Parameter, shapes: list[torch.Size], weight_decay: float,
                 adamw: torch.optim.AdamW) -> None:
        self.vector, self.shapes, self.weight_decay, self.adamw = vector, shapes, weight_decay, adamw
        self.group = {"params": [vector], "lr": 0.0, "kept": ("momentum",)}
        self.param_groups = [self.group, *adamw.param_groups]
        self.state = adamw.state

    @torch.no_grad()
    def step(self) -> None:
        """One update; the rates are in the groups."""
        rate, gradient = self.group["lr"] * RATE, self.vector.grad
        momentum = self.state[self.vector].setdefault("momentum", torch.zeros_like(self.vector))
        momentum.lerp_(gradient, 1 - MOMENTUM)
        wanted = gradient.lerp(momentum, MOMENTUM)                                           # Nesterov
        self.vector.mul_(1 - rate * self.weight_decay)
        sizes = [shape.numel() for shape in self.shapes]
        for weight, change, shape in zip(self.vector.split(sizes), wanted.split(sizes), self.shapes, strict=True):
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            weight.add_(orthogonal(change.view(shape)).reshape(-1), alpha=-rate * scale)
        self.adamw.step()


def make_optimizer(flat: FlatWeights, config: TrainConfig) -> torch.optim.AdamW | Muon:
    """Fused AdamW on the vector of `flat`, in two groups: matrices, which decay, and the rest; or Muon for the
    hidden matrices and AdamW for what is left."""
    def part(start: int, end: int | None) -> nn.Parameter:
        vector = nn.Parameter(flat.master[start:end])
        vector.grad = flat.grad[start:end]
        return vector

    hidden = flat.num_hidden if config.optimizer == "muon" else 0
    decayed, rest = part(hidden, flat.num_decayed), part(flat.num_decayed, None)
    groups = [{"params": [vector], "weight_decay": decay}
              for vector, decay in ((decayed, config.weight_decay), (rest, 0.0)) if vector.numel()]
    adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2), eps=1e-8, fused=True)
    if not hidden:
        return adamw
    shapes = [p.shape for p, so_far in zip(flat.params, itertools.accumulate(flat.sizes)) if so_far <= hidden]
    return Muon(part(0, hidden), shapes, config.weight_decay, adamw)
