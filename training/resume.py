"""What the same command typed again finds: other settings, a finished run, or a state to go on from.

That state is what a run carries from step to step: out of the trainer, back into it, and to every process. How files
survive a kill: checkpoints.py.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.files import fault, read_record, refuse_changes, refuse_foreign, sha256_file
from training.config import PATHS, TrainConfig, TrainResult
from training.origin import same_base
from training.trainer import Trainer


def snapshot(trainer: Trainer) -> tuple[dict[str, Tensor], dict]:
    """All that a run carries from step to step. Rows' order and dropout follow from seed and step: no random state."""
    tensors = {"weights": trainer.flat.master}
    for i, group in enumerate(trainer.optimizer.param_groups):
        state = trainer.optimizer.state[group["params"][0]]
        tensors |= {f"optimizer.{i}.{name}": value for name, value in state.items()}
    scale = trainer.loss_scale
    return tensors, {"step": trainer.step, "skipped": trainer.skipped, "skips_in_a_row": trainer.skips_in_a_row,
                     "tokens": trainer.tokens, "loss_scale": scale.scale, "good_steps": scale.good_steps,
                     "names": trainer.flat.names, "rows_sha256": trainer.rows_sha256,
                     "base": trainer.base, "world_size": trainer.processes.world_size}


def restore(trainer: Trainer, saved: tuple[dict[str, Tensor], dict] | None) -> None:
    """Put a snapshot back (on the first process; `synchronise` brings it to the others)."""
    if saved is None:
        return
    tensors, state = saved
    if state["names"] != trainer.flat.names or tensors["weights"].shape != trainer.flat.master.shape:
        raise ValueError(f"{trainer.config.out}: the checkpoint holds other weights than this run trains; "
                         "use a new --out")
    if state.get("rows_sha256", trainer.rows_sha256) != trainer.rows_sha256:
        raise ValueError(f"{trainer.config.out}: --data gives other rows than those the run was begun with; "
                         "use a new --out")
    if not same_base(state.get("base", {}), trainer.base):
        raise ValueError(f"{trainer.config.out}: {trainer.config.model} holds other weights than those that the run "
                         "was begun on; put them back, or use a new --out")
    trainer.flat.master.copy_(tensors["weights"])
    for i, group in enumerate(trainer.optimizer.param_groups):
        vector = group["params"][0]
        prefix = f"optimizer.{i}."
        trainer.optimizer.state[vector] = {
            name.removeprefix(prefix): value.to(vector.device)
            for name, value in tensors.items() if name.startswith(prefix)}
    trainer.step, trainer.skipped, trainer.tokens = state["step"], state["skipped"], state["tokens"]
    trainer.skips_in_a_row = state.get("skips_in_a_row", 0)
    trainer.loss_scale.scale, trainer.loss_scale.good_steps = state["loss_scale"], state["good_steps"]
    other = state.get("world_size", trainer.processes.world_size) != trainer.processes.world_size
    trainer.say(f"resumed at step {trainer.step} of {trainer.total_steps}"
                + (" with another number of processes: equal within rounding, not byte for byte" if other else ""))


def synchronise(trainer: Trainer) -> None:
    """Bring every process to the first one's state: weights, optimizer, counters."""
    processes, flat, scale = trainer.processes, trainer.flat, trainer.loss_scale
    counters = torch.tensor([trainer.step, trainer.skipped, trainer.skips_in_a_row, trainer.tokens, scale.scale,
                             scale.good_steps], dtype=torch.float64, device=processes.device)
    *whole, scale.scale, good = processes.broadcast(counters, "start, counters").tolist()
    trainer.step, trainer.skipped, trainer.skips_in_a_row, trainer.tokens = map(int, whole)
    scale.good_steps = int(good)
    processes.broadcast(flat.master, "start, weights")
    if trainer.step > trainer.skipped:                                                      # AdamW has a state
        for group in trainer.optimizer.param_groups:
            vector = group["params"][0]
            state = trainer.optimizer.state[vector]
            for name in group.get("kept", ("step", "exp_avg", "exp_avg_sq")):
                value = state.get(name, torch.zeros(()) if name == "step" else torch.zeros_like(vector))
                state[name] = processes.broadcast(value.to(processes.device), f"start, {name}")
    flat.publish()


def data_sha256(config: TrainConfig) -> str | None:
    """Of the file --data; None where there is none (the generated tool world)."""
    return sha256_file(Path(config.data)) if config.data and Path(config.data).is_file() else None


def refuse_other_settings(config: TrainConfig, data: str | None = None) -> None:
    """ValueError by name if `config.out` was begun with other settings, or other rows: their file's sha256 is `data`.

    Settings marked free may differ.
    """
    file = Path(config.out) / "config.json"
    if not file.exists():
        rounds = ["round.json"] if _is_a_rounds(Path(config.out) / "round.json") else []
        refuse_foreign(config.out, "config.json", *rounds)
        return
    old = _begun_with(file)
    # A run older than a setting was begun with its default.
    begun = {field.name: old.get(field.name, field.default) for field in dataclasses.fields(config)}
    if begun["loss_chunk"] == 1024 and not config.loss_chunk:      # the former default: the same sum in other pieces
        begun["loss_chunk"] = 0
    if data and old.get("data_sha256", data) not in (data, None):
        raise ValueError(f"{config.out} was begun with another content of --data {config.data}; use a new --out to "
                         "train on what it holds now")
    now = config.identity()
    moved = {name for name in PATHS if _moved_along(begun, config, name)}
    refuse_changes(config.out, {name: now[name] if name in moved else begun[name] for name in now}, now,
                   spell=lambda name: f"--{name.replace('_', '-')}", advice="use a new --out or those settings")


def _is_a_rounds(file: Path) -> bool:
    """Whether a file of that name is the one that a round of self-evolution leaves in its folder, where it trains."""
    return file.is_file() and {"round", "queries_sha", "model_sha"} <= read_record(file).keys()


def _begun_with(file: Path) -> dict[str, Any]:
    """The settings in a run's config.json; ValueError for a file of that name that is another's, such as a model's."""
    old = read_record(file)
    if not {"stage", "out", "seed"} <= old.keys():
        raise ValueError(f"{file}: is not that of a training run (the folder of a model?); choose another --out")
    return old


def _moved_along(begun: dict[str, Any], config: TrainConfig, name: str) -> bool:
    """Whether a path, seen from --out, is the one that the run was begun with: its folder was moved or copied."""
    before, now = begun[name], getattr(config, name)
    return bool(before and now) and os.path.relpath(before, begun["out"]) == os.path.relpath(now, config.out)


def finished(config: TrainConfig) -> TrainResult | None:
    """The result of a complete run whose files match its marker."""
    out = Path(config.out)
    if not (out / "DONE.json").exists():
        return None
    reason = fault(out)
    if reason:
        raise ValueError(f"{out} says it is complete, but {reason}; remove {out / 'DONE.json'} to train on, or use a "
                         "new --out")
    marker = json.loads((out / "DONE.json").read_text(encoding="utf-8"))
    return TrainResult(out, *(marker[name] for name in ("steps", "final_loss", "skipped", "tokens")))
