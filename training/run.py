"""Around the steps of a run: what is made ready before them, noted between them, and written after them."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data.augment import Recipe
from data.files import mark_done, naming, write_json
from data.tasks import PAPER, Row
from model import ModelConfig, Tokenizer
from model.sharding import is_sharded, shard_blocks, sharing_of, warm
from model.weights import save_model
from training.base import compute_dtype, load_model_for, place, trained_parameters, weights_on
from training.checkpoints import Checkpoints, kept
from training.config import TrainConfig, TrainResult
from training.flat import FlatWeights
from training.gate import check_model
from training.metrics import Metrics
from training.optimizer import make_optimizer
from training.origin import note_base, noted
from training.overflow import advice
from training.plan import forget_peak, make_plan, peak_memory_gb
from training.processes import Processes, progress_line
from training.prompt import check_trainable, note_prompt, other_prompt
from training.resume import data_sha256, restore, snapshot, synchronise
from training.rows import fingerprint, load_rows, supervised_in
from training.sharing import mesh_over, shard_that_fits, sharers
from training.trainer import LossScale, Trainer

Rows = Sequence[Row] | Callable[[], Sequence[Row]] | None


# ----------------------------------------------------------------------------------------------------- before the steps

def prepare(config: TrainConfig, processes: Processes, rows: Rows, validation: Sequence[Row] | None,
            model: nn.Module | None, tokenizer: Tokenizer | None, say: Callable[[str], None]) -> Trainer | None:
    """Rows, the plan (printed; what cannot fit is refused; the end with `plan_only`), model, adapter and optimizer."""
    source = data_sha256(config) if rows is None else None
    rows, validation = all_rows(config, rows, validation, tokenizer, say)
    steps = config.max_steps or max(1, round(config.epochs * -(-len(rows) // config.global_batch_size)))
    dtype = compute_dtype(config.precision, processes.device, model)
    shape = model.config if model is not None else ModelConfig.load(config.model)
    planned = partial(make_plan, config, shape, [len(row.ids) for row in rows], sum(supervised_in(r) for r in rows),
                      steps, dtype, processes.device, processes.world_size,
                      resident=weights_on(processes.device, model))
    shard = config.shard
    if shard == "auto":                 # a model that was handed in is there, so it fits
        shard = "off" if model is not None else shard_that_fits(
            lambda sharing: planned(sharing=sharing).total, planned().available, processes, say)
    plan = planned(sharing=sharing_of(model) if is_sharded(model) else sharers(shard, processes))
    for line in [*plan.lines(), *config.without_effect()]:
        say(line)
    plan.refuse_what_cannot_fit()
    if config.plan_only:
        return None
    rows_sha256 = fingerprint(rows)
    refuse_unequal_processes(config, processes, rows_sha256, dtype)
    mesh = mesh_over(shard, processes) if shard != "off" and not is_sharded(model) else None
    if model is None:
        model = load_model_for(config, dtype, processes, mesh)
    model = place(model, dtype, processes.device)
    if mesh is not None and not is_sharded(model):
        with processes.meeting("sharing the base out"):
            warm(shard_blocks(model, mesh))
    named = trained_parameters(config, model)
    model.checkpoint_every = config.gradient_checkpointing
    flat = FlatWeights(named)
    return Trainer(config, processes, model, rows, validation, flat, make_optimizer(flat, config),
                   LossScale(dtype == torch.float16), steps, say, rows_sha256, source,
                   {} if config.stage == "pretrain" else noted(config.model))


def all_rows(config: TrainConfig, rows: Rows, validation: Sequence[Row] | None,
             tokenizer: Tokenizer | None, say: Callable[[str], None]) -> tuple[Sequence[Row], Sequence[Row]]:
    """The rows to train on and those to validate on, each read from its file where it was not handed in."""
    if tokenizer is None and (rows is None or config.validation and validation is None):
        tokenizer = check_model(config.model, config.adapter, fresh=config.stage == "pretrain", say=say)
    if tokenizer is not None:
        check_trainable(config.prompt, tokenizer)
        if config.stage != "pretrain" and (note := other_prompt(config.prompt, config.model, config.adapter)):
            say(note)

    def read(path: str, recipe: Recipe = PAPER) -> list[Row]:
        return load_rows(config.stage, path, tokenizer, max_length=config.max_length, train_on=config.train_on,
                         too_long=config.too_long, seed=config.seed, say=say, only_called=config.only_called,
                         recipe=recipe, prompt=config.prompt)

    rows = read(config.data, config.recipe) if rows is None else rows() if callable(rows) else rows
    if validation is None:
        validation = read(config.validation) if config.validation else ()
    if not rows:
        raise ValueError("no rows to train on")
    return rows, validation


def refuse_unequal_processes(config: TrainConfig, processes: Processes, rows_sha256: str, dtype: torch.dtype) -> None:
    """ValueError where the processes of this run hold other rows or settings, or compute in other types."""
    if not processes.same(int(rows_sha256[:15], 16), "rows"):
        raise ValueError("the processes of this run hold different rows; give every one the same --data")
    if not processes.same(int(config.sha256(str(dtype))[:15], 16), "settings"):
        raise ValueError(f"the processes of this run have different settings, or compute in other types than {dtype} "
                         "here; start every one with the same command, and name --precision where their devices differ")


# ---------------------------------------------------------------------------------------------------- between the steps

class Journal(AbstractContextManager):
    """`with Journal(trainer) as journal:` goes on from the newest checkpoint; then every step's record is noted.

    Files are the first process's: those of metrics, a line a step, config.json, and the checkpoints that are due.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.out = trainer, Path(trainer.config.out)
        self.first = trainer.processes.dist_rank == 0
        self.checkpoints = Checkpoints(self.out / "checkpoint", trainer.config.keep_checkpoints)
        if self.first:
            self.out.mkdir(parents=True, exist_ok=True)
            restore(trainer, self.checkpoints.newest(trainer.say))
            write_json(self.out / "config.json", {**dataclasses.asdict(trainer.config),
                                                  "rows_sha256": trainer.rows_sha256,
                                                  "data_sha256": trainer.data_sha256})
        synchronise(trainer)
        forget_peak(trainer.processes.device)
        self.metrics = Metrics(self.out, trainer.step) if self.first else None
        self.began = self.saved = self.noted = time.monotonic()
        self.first_step, self.first_tokens = trainer.step, trainer.tokens

    def __exit__(self, *_: object) -> None:
        if self.metrics is not None:
            self.metrics.close()

    def note(self, record: dict[str, Any]) -> None:
        """A step is done: its progress line, its line of metrics, a checkpoint if one is due."""
        trainer, now = self.trainer, time.monotonic()
        record |= {"tok_per_s": round(record["tokens"] / (now - self.noted), 1),
                   "peak_mem_gb": peak_memory_gb(trainer.processes.device)}
        spent = now - self.began
        trainer.say(progress_line(record, trainer.total_steps, (trainer.tokens - self.first_tokens) / spent,
                                  spent / (trainer.step - self.first_step)))
        if self.metrics is not None:
            self.metrics.add(record)
            if self.is_due(now) and trainer.step < trainer.total_steps:
                self.save()
        self.noted = time.monotonic()

    def is_due(self, now: float) -> bool:
        """Whether it is time for a checkpoint, by steps or by minutes."""
        config = self.trainer.config
        by_steps = config.checkpoint_steps and self.trainer.step % config.checkpoint_steps == 0
        return bool(by_steps or config.checkpoint_minutes and now - self.saved > 60 * config.checkpoint_minutes)

    def save(self) -> None:
        """Write a checkpoint of the state after the last finished step."""
        self.checkpoints.save(self.trainer.step, *snapshot(self.trainer))
        self.saved = time.monotonic()

    def keep_finished_steps(self) -> str:
        """Save what has been learnt, on the first process; the others wait for it. What is kept, in words."""
        step = self.trainer.step
        if self.first and step and self.checkpoints.newest_step() != step:
            self.save()
        self.trainer.processes.wait(f"the checkpoint of step {step}")
        return kept(self.out)


# ------------------------------------------------------------------------------------------------------ after the steps

def finish(trainer: Trainer, final_loss: float | None) -> TrainResult:
    """Write the adapter (pretrain: the model with its tokenizer), then the marker that vouches for every file.

    Raises:
        ValueError: not one step was taken, so nothing was trained, or the weights are not finite; no adapter and no
            marker are written.
    """
    config, out = trainer.config, Path(trainer.config.out)
    if trainer.skipped == trainer.step:
        raise ValueError(f"{out}: no step was taken, all {trainer.step} were skipped, so nothing was trained and no "
                         f"adapter is written; {advice(trainer, updated=False)}")
    broken = [name for name, weight in zip(trainer.flat.names, trainer.flat.params, strict=True)
              if not torch.isfinite(weight).all()]
    if broken:
        raise ValueError(f"{out}: {len(broken)} of the trained weights are not finite (first: {broken[0]}), so nothing "
                         "is written; lower --learning-rate")
    trainer.model.eval()
    for p in trainer.flat.params:
        p.grad = None                                       # a caller that goes on with the model wants its memory back
    if trainer.processes.dist_rank == 0:
        folder = out / ("model" if config.stage == "pretrain" else "adapter")
        with naming(folder):
            write_result(trainer, folder)
        files = ["config.json", "metrics.jsonl", *(str(file.relative_to(out)) for file in sorted(folder.iterdir()))]
        mark_done(out, files, steps=trainer.step, skipped=trainer.skipped, tokens=trainer.tokens, final_loss=final_loss)
        Checkpoints(out / "checkpoint", 1).clear()
    trainer.processes.wait("the end")
    trainer.say(f"done: {trainer.step} steps, {trainer.skipped} skipped, {trainer.tokens:,} tokens; {out}")
    return TrainResult(out, trainer.step, final_loss, trainer.skipped, trainer.tokens)


def write_result(trainer: Trainer, folder: Path) -> None:
    """The adapter, or for pretrain the model with its tokenizer."""
    from lora import copy_companions, save_adapter

    if trainer.config.stage == "pretrain":
        save_model(trainer.model, folder)
        copy_companions(Path(trainer.config.model), folder)
    else:
        save_adapter(trainer.model, folder, base_model=trainer.config.model)
        note_prompt(folder, trainer.config.prompt)
        note_base(folder, trainer.base)
