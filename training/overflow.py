"""What is said of a step whose gradient is not finite: where it began, and what to do about it."""

from collections.abc import Sequence

import torch
from torch import nn

from data.batching import MicroBatch
from model.monitor import OverflowMonitor
from model.sharding import local
from training.trainer import Trainer


def find_overflow(trainer: Trainer, batches: Sequence[MicroBatch]) -> str:
    """The first weights that are not finite, else the first module whose output is not, from a second forward pass.

    Where both are finite: the weights whose gradient is not. With a sharded base a process that has found something
    runs its passes to the end all the same: the others are in them.
    """
    damaged, found = damaged_weights(trainer.model), ""
    if damaged:
        found = f"weights that are not finite: {damaged}"
    with torch.no_grad():
        for _, batch in trainer.dealt(batches):
            if found and not trainer.sharded:
                break
            with trainer.meeting("the search for an overflow"), OverflowMonitor(trainer.model) as monitor:
                trainer.model.hidden_states(batch.input_ids, lengths=batch.lengths)
            if monitor.first is not None and not found:
                found = f"forward pass, {monitor.first}"
    grads = "the forward pass is finite; not finite are the gradients of " + ", ".join(trainer.flat.not_finite())
    return found or grads


def damaged_weights(model: nn.Module) -> str | None:
    """The name of the first weight that holds NaN or infinity; of a sharded one this process's rows are looked at."""
    return next((name for name, weight in model.named_parameters() if not torch.isfinite(local(weight)).all()), None)


def advice(trainer: Trainer, updated: bool) -> str:
    """What helps a run whose steps are skipped, by its precision and by whether any step `updated` the weights."""
    dtype, damaged = trainer.model.lm_head.weight.dtype, damaged_weights(trainer.model)
    if damaged:
        return f"{damaged} holds NaN or infinity, so no setting helps: get the files of --model, or of --adapter, again"
    ways = ["try --precision bf16 or fp32"] if dtype == torch.float16 else []
    if updated:                                             # before the first update the rate has changed nothing
        ways.append("try a lower --learning-rate" if not ways else "a lower --learning-rate")
    elif dtype == torch.float16:
        ways.append(f"more steps (the loss scale, now {trainer.loss_scale.scale:g}, halves with each that is skipped)")
    name = str(dtype).removeprefix("torch.")
    usual = f"{name} holds what this base computes on sound rows: check the files of --model and --data"
    return ", or ".join(ways) or usual
