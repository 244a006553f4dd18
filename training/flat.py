"""The trained weights of a run as one vector."""

import torch
from torch import nn


class FlatWeights:
    """The trained weights, and their gradients, as views into one vector each.

    One vector makes the step plain: the all-reduce, the norm, the finite check and AdamW are one call each. Gradients
    of all micro-batches add up locally and cross processes once a step (what DDP calls no_sync), in a layout that is
    the same in every run; DDP regroups its buckets after the first step, so a resumed run of it may round differently.
    Where all weights of a half-precision model train, `master` is the float32 copy that AdamW works on; otherwise (LoRA
    weights are float32) it is the weights themselves.
    """

    def __init__(self, named: dict[str, nn.Parameter]) -> None:
        kinds = {name: kind_of(name, weight) for name, weight in named.items()}
        self.names = sorted(named, key=kinds.__getitem__)
        self.params = [named[name] for name in self.names]
        dtypes = {p.dtype for p in self.params}
        assert len(dtypes) == 1, f"trained weights of several dtypes: {dtypes}"
        self.sizes = [p.numel() for p in self.params]
        self.compute = torch.cat([p.detach().reshape(-1) for p in self.params])
        self.compute_grad = torch.zeros_like(self.compute)
        self.has_master = dtypes <= {torch.float16, torch.bfloat16}
        self.master = self.compute.float() if self.has_master else self.compute
        self.grad = torch.zeros_like(self.master) if self.has_master else self.compute_grad
        self.num_hidden = sum(p.numel() for name, p in named.items() if kinds[name] == HIDDEN)
        self.num_decayed = sum(p.numel() for name, p in named.items() if kinds[name] != VECTOR)
        views = zip(self.params, self.compute.split(self.sizes), self.compute_grad.split(self.sizes), strict=True)
        for p, data, grad in views:
            p.data, p.grad = data.view(p.shape), grad.view(p.shape)
        # Autograd makes such a node for each weight anew in every pass, and glibc keeps it until the next one is made:
        # hundreds of small blocks that stay between the activations and cut what those leave into pieces. Kept, they
        # lie together.
        self.accumulators = [p.expand_as(p).grad_fn.next_functions[0][0] for p in self.params]

    def zero_grad(self) -> None:
        """Before the first micro-batch of a step."""
        self.grad.zero_()
        self.compute_grad.zero_()

    def collect(self) -> None:
        """After each backward pass: add a half-precision gradient to the float32 one."""
        if self.has_master:
            self.grad += self.compute_grad
            self.compute_grad.zero_()

    def publish(self) -> None:
        """After the update: round the float32 weights into the module's."""
        if self.has_master:
            self.compute.copy_(self.master)

    def not_finite(self, limit: int = 3) -> list[str]:
        """The first weights whose gradient is not finite."""
        parts = zip(self.names, self.grad.split(self.sizes), strict=True)
        return [name for name, grad in parts if not torch.isfinite(grad).all()][:limit]


HIDDEN, EMBEDDING, VECTOR = range(3)        # the order of the vector's parts: matrices decay, hidden ones are Muon's


def kind_of(name: str, weight: nn.Parameter) -> int:
    """Which part of the vector a weight stands in."""
    if weight.dim() < 2:
        return VECTOR
    return EMBEDDING if weight.dim() == 2 and "layers" not in name else HIDDEN
