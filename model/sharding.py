"""A frozen base larger than a card: its blocks' weights shared out over processes by PyTorch's FSDP2.

Each process holds a slice of the rows of every weight of every block; a block is gathered for its forward pass, and
again for its backward pass, and let go (Zhao et al. 2023, arXiv:2304.11277; Rajbhandari et al. 2020, arXiv:1910.02054,
stage 3). Embedding, final norm and head stay whole on each: they are read outside of any block. LoRA comes afterwards
and stays plain. Every pass is a meeting of all processes, so all have to run equally many: `in_step` sees to that while
sampling, `data.batching.deal` while training. Leaves out: weights that train; tensor parallelism.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from safetensors import PySafeSlice
    from torch.distributed.device_mesh import DeviceMesh

FSDP = "torch.distributed.fsdp"                 # seconds to import, and only a sharded model needs it


def shard_blocks(model: nn.Module, mesh: "DeviceMesh") -> nn.Module:
    """Freeze the model and leave each process of the one-dimensional mesh its rows of the blocks' weights; in place.

    On the meta device this takes no memory: `model.load_model` then fills the slices in.

    Raises:
        ValueError: the model carries an adapter, which is to come afterwards.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if any(".lora_" in name for name, _ in model.named_parameters()):
        raise ValueError("a model that carries an adapter cannot be sharded: shard the base, then put the adapter on")
    # A view of the last norm's output leaves `hidden_states`; nobody writes into it.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    model.requires_grad_(False)
    for block in model.model.layers:
        fully_shard(block, mesh=mesh)
    sharded = {id(weight) for block in model.model.layers for weight in block.parameters()}
    fully_shard(model, mesh=mesh, ignored_params={w for w in model.parameters() if id(w) not in sharded})
    register_fsdp_forward_method(model, "hidden_states")
    return model


def is_sharded(model: nn.Module | None) -> bool:
    """Whether `shard_blocks` was here."""
    return FSDP in sys.modules and isinstance(model, sys.modules[FSDP].FSDPModule)


def sharing_of(model: nn.Module) -> int:
    """How many processes share a sharded model's weights out."""
    return next(weight.device_mesh.size() for weight in model.parameters() if is_slice(weight))


def warm(model: nn.Module) -> nn.Module:
    """Make the buffers that blocks are gathered into, once the slices are there; a meeting of all processes.

    Made in a first pass under inference_mode, they would be inference tensors, which no backward pass can save. Only
    the blocks are touched: embedding, norm and head may come later.
    """
    for block in model.model.layers:
        block.unshard()
        block.reshard()
    return model


def local(weight: Tensor) -> Tensor:
    """What this process holds of a weight: its slice of a sharded one, else all of it."""
    return weight.to_local() if is_slice(weight) else weight


def is_slice(weight: Tensor) -> bool:
    """Whether a weight is one that is shared out."""
    return hasattr(weight, "to_local")


def rows_of(weight: Tensor) -> slice:
    """The rows of a sharded weight that are this process's: even shares, rounded up, so the last may have fewer."""
    mesh, rows = weight.device_mesh, weight.shape[0]
    share = -(-rows // mesh.size())
    start = min(mesh.get_local_rank() * share, rows)
    return slice(start, min(start + share, rows))


def read_rows(stored: "PySafeSlice", weight: Tensor) -> Tensor:
    """This process's rows of a tensor in a safetensors file, mapped; `weight` is what it is to become."""
    return stored[rows_of(weight)]


def as_sharded(rows: Tensor, weight: Tensor) -> Tensor:
    """This process's rows as the sharded tensor that `weight`, on the meta device, stands for."""
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(rows, weight.device_mesh, weight.placements, run_check=False, shape=weight.shape,
                              stride=weight.stride())


def of_all(values: dict[str, float], mesh: "DeviceMesh") -> dict[str, float]:
    """The largest that any process of the mesh has by that name; NaN counts as infinite. A meeting of all."""
    import torch.distributed as dist

    found = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64, device=mesh.device_type)
    dist.all_reduce(found.nan_to_num_(nan=torch.inf), dist.ReduceOp.MAX, group=mesh.get_group())
    return dict(zip(sorted(values), found.tolist(), strict=True))


@contextmanager
def in_step(model: nn.Module, joint_pass: Callable[[bool], AbstractContextManager[bool]]) -> Iterator[None]:
    """Inside, each process may run any number of passes of a sharded model; one that is through joins the others'.

    Around every pass stands `joint_pass`: all processes tell it whether they have one to run, and it says whether any
    has. At the end a process runs passes over one token until none has work left. Nothing happens where the model is
    not sharded.
    """
    if not is_sharded(model):
        yield
        return
    alone = model.hidden_states

    def together(*args: object, **kwargs: object) -> Tensor:
        with joint_pass(True):
            return alone(*args, **kwargs)

    model.hidden_states = together
    try:
        yield
        token = torch.zeros((1, 1), dtype=torch.int64, device=model.lm_head.weight.device)
        at_work = True
        while at_work:
            with joint_pass(False) as at_work, torch.no_grad():
                if at_work:
                    alone(token)
    finally:
        model.hidden_states = alone
