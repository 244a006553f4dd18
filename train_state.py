"""What a training run carries from step to step, and how it survives a kill: flat weights, loss scale, checkpoints.

Split from train.py so that one step reads there in one sitting. Leaves out: what is trained, and the step itself.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class FlatWeights:
    """The trained weights, and their gradients, as views into one vector each.

    One vector makes the step plain: the all-reduce, the norm, the finite check and AdamW are one call each, in a layout
    that never changes, so the sum over processes has one order in every run (DDP regroups its buckets after the first
    step, hence a resumed run may round differently). Where the module computes in half precision with trained half
    weights (full training), `master` is the float32 copy that AdamW works on; otherwise it is the weights themselves.
    """

    def __init__(self, named: dict[str, nn.Parameter]) -> None:
        # Matrices first, so that weight decay (matrices only) is a prefix of the vector.
        self.names = sorted(named, key=lambda name: named[name].dim() < 2)
        self.params = [named[name] for name in self.names]
        dtypes, device = {p.dtype for p in self.params}, self.params[0].device
        assert len(dtypes) == 1, f"trained weights of several dtypes: {dtypes}"
        dtype = dtypes.pop()
        sizes = [p.numel() for p in self.params]
        self.compute = torch.cat([p.detach().reshape(-1) for p in self.params])
        self.compute_grad = torch.zeros_like(self.compute)
        for p, vector, grad in zip(self.params, self.compute.split(sizes), self.compute_grad.split(sizes), strict=True):
            p.data, p.grad = vector.view(p.shape), grad.view(p.shape)
        self.has_master = dtype in (torch.float16, torch.bfloat16)
        self.master = self.compute.float() if self.has_master else self.compute
        self.grad = torch.zeros_like(self.master) if self.has_master else self.compute_grad
        self.num_decayed = sum(size for p, size in zip(self.params, sizes, strict=True) if p.dim() >= 2)
        self.sizes, self.device = sizes, device

    def zero_grad(self) -> None:
        """Before the first micro-batch of a step."""
        self.grad.zero_()
        self.compute_grad.zero_()

    def collect(self) -> None:
        """After each backward pass: add a half-precision gradient into the float32 one."""
        if self.has_master:
            self.grad += self.compute_grad
            self.compute_grad.zero_()

    def publish(self) -> None:
        """After the update: round the float32 weights into the module's."""
        if self.has_master:
            self.compute.copy_(self.master)

    def optimizer(self, learning_rate: float, betas: tuple[float, float], weight_decay: float) -> torch.optim.AdamW:
        """Fused AdamW on the vector; decay on matrices only."""
        groups = []
        for part, decay in ((slice(0, self.num_decayed), weight_decay), (slice(self.num_decayed, None), 0.0)):
            if self.master[part].numel():
                vector = nn.Parameter(self.master[part])
                vector.grad = self.grad[part]
                groups.append({"params": [vector], "weight_decay": decay})
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=1e-8, fused=True)

    def bad_names(self, limit: int = 4) -> list[str]:
        """Names of the weights whose gradient is not finite."""
        parts = self.grad.split(self.sizes)
        return [name for name, grad in zip(self.names, parts, strict=True) if not torch.isfinite(grad).all()][:limit]


class LossScale:
    """Dynamic loss scale of fp16 (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2); 1 and inert otherwise.

    Halved when a gradient is not finite (that step is skipped), doubled after `growth_interval` good steps in a row.
    """

    def __init__(self, enabled: bool, scale: float = 65536.0, growth_interval: int = 2000) -> None:
        self.enabled, self.scale, self.growth_interval = enabled, scale if enabled else 1.0, growth_interval
        self.good_steps = 0

    def update(self, finite: bool) -> None:
        if not self.enabled:
            return
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.scale = max(self.scale / 2, 2.0**-10)
        elif self.good_steps == self.growth_interval:
            self.scale, self.good_steps = min(self.scale * 2, 2.0**24), 0


def cosine_lr(update: int, total: int, warmup: int, peak: float, final: float = 0.0) -> float:
    """Rate of update number `update` (from 0): linear warmup to the peak, then half a cosine down to `final`."""
    if update < warmup:
        return peak * (update + 1) / warmup
    progress = min((update - warmup) / max(total - warmup, 1), 1.0)
    return final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


# --- files: written aside, flushed, renamed; the marker last ---------------------------------------------------------


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: dict) -> None:
    """Strict JSON, aside then renamed."""
    aside = path.with_name(path.name + ".tmp")
    with open(aside, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def flush_dir(path: Path) -> None:
    """Make renames inside a directory durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def mark_done(directory: Path, files: list[str], **facts) -> None:
    """Write DONE.json, last: the sha256 of each file that it vouches for."""
    for name in files:
        with open(directory / name, "rb") as file:
            os.fsync(file.fileno())
    write_json(directory / "DONE.json", {**facts, "sha256": {name: sha256(directory / name) for name in files}})
    flush_dir(directory)


def fault(directory: Path) -> str | None:
    """Why a marked directory cannot be trusted; None if it can."""
    try:
        marker = json.loads((directory / "DONE.json").read_text(encoding="utf-8"))
        for name, digest in marker["sha256"].items():
            if sha256(directory / name) != digest:
                return f"{name} does not match its sha256"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        return "DONE.json does not parse"
    return None


class Checkpoints:
    """The last `keep` checkpoints of a run: checkpoint/step-NNNNNN/{state.safetensors, state.json, DONE.json}."""

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory, self.keep = directory, keep

    def save(self, step: int, tensors: dict[str, Tensor], state: dict) -> None:
        """Write one checkpoint and drop the oldest. Call on one process: every process holds the same weights."""
        self.directory.mkdir(parents=True, exist_ok=True)
        final = self.directory / f"step-{step:06d}"
        aside = self.directory / f".step-{step:06d}.tmp"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                  aside / "state.safetensors")
        write_json(aside / "state.json", state)
        mark_done(aside, ["state.safetensors", "state.json"], step=step)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(aside, final)
        flush_dir(self.directory)
        for old in self.steps()[:-self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def steps(self) -> list[Path]:
        """Checkpoints, oldest first, damaged ones included."""
        return sorted(path for path in self.directory.glob("step-*") if path.is_dir())

    def newest(self, say: Callable[[str], None]) -> tuple[dict[str, Tensor], dict] | None:
        """The newest checkpoint that its hashes vouch for; a damaged one is named and passed over."""
        for path in reversed(self.steps()):
            reason = fault(path)
            if reason is None:
                return (load_file(path / "state.safetensors"),
                        json.loads((path / "state.json").read_text(encoding="utf-8")))
            say(f"checkpoint {path} is damaged ({reason}); using the one before it")
        return None
