"""One training run: rows -> packed micro-batches -> loss on supervised tokens -> one update; adapters or all weights.

    python train.py --stage joint --model ckpt/qwen2.5-0.5b --data examples.jsonl --out runs/a/joint
    torchrun --nproc-per-node 8 train.py ...              # same flags, same global batch, same update

The same command typed again resumes. `train_step` is one step, from batch to update; all it needs is in this file, lora/
and data/batching.py. Around it, a file each in training/: config, base, rows, processes, checkpoints, resume, plan.
"""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.batching import MicroBatch, pack, share, step_rows
from data.tasks import IGNORE_INDEX, OBJECTIVES, Row
from lora import copy_companions, save_adapter
from model.cpu_kernels import pieces
from tooldev import one_line
from training.base import compute_dtype, load_model_for, model_config, place, trained_parameters, weights_on
from training.checkpoints import Checkpoints, append_from, mark_done, refuse_unwritable, write_json
from training.config import TrainConfig, TrainResult, parse_config
from training.optimizer import Muon, make_optimizer
from training.plan import make_plan, peak_memory_gb
from training.processes import LostProcess, Processes, hush, progress_line, tell, tell_error, tell_first
from training.resume import data_sha256, finished, refuse_other_settings, restore, snapshot, synchronise
from training.rows import fingerprint, load_rows, supervised_in

MAX_SKIPS_IN_A_ROW = 20         # 2**16 halved that often is below 0.1: the numbers are broken, not the scale


# --- the loss --------------------------------------------------------------------------------------------------------


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of weighted token losses from hidden states, with logits for `chunk` tokens at a time, softmax in float32.

    The gradient is formed while the chunk's logits exist, so they are computed once and thrown away; what stays is one
    vector per token, as wide as the hidden state (the idea of Hsu et al. 2024, arXiv:2410.10989, section 3.2).
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, labels: Tensor, token_weights: Tensor | None, chunk: int) -> Tensor:
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        token_weights = None if token_weights is None else token_weights.to(wide)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight = torch.zeros(weight.shape, dtype=wide, device=weight.device) if need_weight else None
        room = hidden.new_empty((min(chunk, hidden.shape[0]), weight.shape[0]))             # for every chunk's logits: fresh memory is slow
        for start in range(0, hidden.shape[0], chunk):
            part = slice(start, start + chunk)
            logits = torch.mm(hidden[part], weight.t(), out=room[:hidden[part].shape[0]])   # (chunk, V)
            for few in pieces(logits) if logits.device.type == "cpu" else [slice(None)]:    # a CPU: what stays in its cache
                target = labels[part][few, None]
                share = logits[few].to(wide, copy=True)
                top, right = share.amax(-1, keepdim=True), share.gather(1, target)
                share.sub_(top).exp_()
                z = share.sum(-1, keepdim=True)
                losses = z.log() + (top - right)                                            # (rows, 1)
                scale = torch.ones_like(z) if token_weights is None else token_weights[part][few, None]
                total += (losses * scale).sum()
                if need_hidden or need_weight:                                              # softmax minus one-hot, in the logits' place
                    logits[few] = share.mul_(scale / z).scatter_add_(1, target, -scale)
            if need_hidden:
                torch.mm(logits, weight, out=d_hidden[part])
            if need_weight:
                d_weight += logits.t() @ hidden[part]
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_total: Tensor):
        d_hidden, d_weight = ctx.saved_tensors
        return (None if d_hidden is None else d_hidden * d_total.to(d_hidden.dtype),
                None if d_weight is None else (d_weight * d_total).to(ctx.weight_dtype), None, None, None)


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor, chunk: int = 1024,
                          token_weights: Tensor | None = None) -> Tensor:
    """hidden (N, E), weight (V, E), labels (N,) with none ignored -> () float32: sum of weight x cross entropy."""
    if not torch.is_grad_enabled():                         # a Function sees what requires a gradient, not whether one is wanted
        hidden, weight = hidden.detach(), weight.detach()
    return ChunkedCrossEntropy.apply(hidden, weight, labels, token_weights, chunk)


def batch_loss(model: nn.Module, batch: MicroBatch, token_weights: Sequence[float], chunk: int) -> Tensor:
    """Loss sum of one micro-batch; `token_weights` holds one weight per objective, or [1.0] for all.

    Only supervised positions reach `lm_head`: hidden states are selected first.
    """
    hidden = model.hidden_states(batch.input_ids, lengths=batch.lengths).flatten(0, 1)      # (B * S, E)
    kept = torch.nonzero(batch.labels != IGNORE_INDEX).squeeze(1)
    weights = None
    if set(token_weights) != {1.0}:
        weights = torch.tensor(token_weights, dtype=torch.float64, device=hidden.device)[batch.objectives[kept]]
    return chunked_cross_entropy(hidden[kept], model.lm_head.weight, batch.labels[kept], chunk, weights)


def objective_weights(counts: Sequence[int], balance: str, generation_weight: float = 1.0) -> list[float]:
    """Weight of a token of each objective, relative to 1 / (supervised tokens of the global batch).

    "token": the weighted mean over all tokens. "objective": the sum of the objectives' token means (Eq. 6), hence total / count
    each. Either way the generation objective counts `generation_weight` times.
    """
    factors = [generation_weight if name == "generation" else 1.0 for name in OBJECTIVES]
    if balance == "objective":
        return [factor * sum(counts) / count if count else 0.0 for factor, count in zip(factors, counts, strict=True)]
    weighted = sum(factor * count for factor, count in zip(factors, counts, strict=True))
    return [factor * sum(counts) / weighted for factor in factors] if weighted else [0.0] * len(counts)


# --- the trained weights, the loss scale, the schedule ----------------------------------------------------------------


class FlatWeights:
    """The trained weights, and their gradients, as views into one vector each.

    One vector makes the step plain: the all-reduce, the norm, the finite check and AdamW are one call each. Gradients of
    all micro-batches add up locally and cross processes once a step (what DDP calls no_sync), in a layout that is the
    same in every run; DDP regroups its buckets after the first step, so a resumed run of it may round differently.
    Where all weights of a half-precision model train, `master` is the float32 copy that AdamW works on; otherwise (LoRA
    weights are float32) it is the weights themselves.
    """

    def __init__(self, named: dict[str, nn.Parameter]) -> None:
        kind = lambda name: (named[name].dim() < 2) * 2 + (named[name].dim() == 2 and "layers" not in name)
        self.names = sorted(named, key=kind)                                    # hidden matrices, embeddings, vectors
        self.params = [named[name] for name in self.names]
        dtypes = {p.dtype for p in self.params}
        assert len(dtypes) == 1, f"trained weights of several dtypes: {dtypes}"
        self.sizes = [p.numel() for p in self.params]
        self.compute = torch.cat([p.detach().reshape(-1) for p in self.params])
        self.compute_grad = torch.zeros_like(self.compute)
        self.has_master = dtypes <= {torch.float16, torch.bfloat16}
        self.master = self.compute.float() if self.has_master else self.compute
        self.grad = torch.zeros_like(self.master) if self.has_master else self.compute_grad
        self.num_hidden, self.num_decayed = (sum(size for name, size in zip(self.names, self.sizes, strict=True) if kind(name) <= last)
                                             for last in (0, 1))
        for p, data, grad in zip(self.params, self.compute.split(self.sizes), self.compute_grad.split(self.sizes),
                                 strict=True):
            p.data, p.grad = data.view(p.shape), grad.view(p.shape)

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


class LossScale:
    """Dynamic loss scale of fp16 (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2); 1 for other types.

    Halved when a gradient is not finite (the step is then skipped), doubled after `growth_interval` good steps in a row.
    """

    def __init__(self, enabled: bool, scale: float = 65536.0, growth_interval: int = 2000) -> None:
        self.enabled, self.scale, self.growth_interval = enabled, scale if enabled else 1.0, growth_interval
        self.good_steps = 0

    def update(self, finite: bool) -> None:
        """Learn from one step."""
        self.good_steps = self.good_steps + 1 if finite else 0
        if self.enabled and not finite:
            self.scale /= 2
        elif self.enabled and self.good_steps == self.growth_interval:
            self.scale, self.good_steps = min(self.scale * 2, 2.0**24), 0


def cosine_lr(update: int, total: int, warmup: int, peak: float, final: float = 0.0) -> float:
    """Rate of update number `update` (from 0): linear up to the peak over `warmup` updates, then half a cosine down."""
    if update < warmup:
        return peak * (update + 1) / warmup
    progress = min((update - warmup) / max(total - warmup, 1), 1.0)
    return final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


# --- one step --------------------------------------------------------------------------------------------------------


@dataclass
class Trainer:
    """Everything that one step touches."""

    config: TrainConfig
    processes: Processes
    model: nn.Module
    rows: Sequence[Row]
    validation: Sequence[Row]
    flat: FlatWeights
    optimizer: torch.optim.AdamW | Muon
    loss_scale: LossScale
    total_steps: int
    say: Callable[[str], None]
    rows_sha256: str
    data_sha256: str | None         # of the file --data, where the rows were read from it
    step: int = 0                   # global batches used
    skipped: int = 0                # of them, those whose gradient was not finite: no update, and the schedule waits
    skips_in_a_row: int = 0
    tokens: int = 0

    def micro_batches(self, rows: Sequence[Row]) -> list[MicroBatch]:
        """Rows, packed as this run packs them."""
        c = self.config
        return pack(rows, c.micro_batch_tokens, OBJECTIVES, max_rows=c.micro_batch_size, packed=c.packing)


def train_step(trainer: Trainer) -> dict[str, Any]:
    """Global batch -> micro-batches -> summed gradient -> one update; returns the step's record."""
    config, flat, scale = trainer.config, trainer.flat, trainer.loss_scale.scale
    picked = step_rows(len(trainer.rows), config.global_batch_size, trainer.step, config.seed)
    batches = trainer.micro_batches([trainer.rows[i] for i in picked])
    loss, counts = accumulate_gradients(trainer, batches)
    trainer.processes.all_reduce(flat.grad, f"step {trainer.step + 1}, gradients")
    if scale != 1.0:
        flat.grad /= scale
    grad_norm = float(torch.linalg.vector_norm(flat.grad))
    finite = math.isfinite(grad_norm)

    updates = trainer.step - trainer.skipped                # a skipped step does not move the schedule
    warmup = max(1, round(config.warmup_ratio * trainer.total_steps))
    rate = cosine_lr(updates, trainer.total_steps, warmup, config.learning_rate,
                     config.final_learning_rate)
    if finite:
        if 0.0 < config.clip < grad_norm:
            flat.grad *= config.clip / grad_norm
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate
        trainer.optimizer.step()                            # never called on a skip: fused AdamW would hide it
        flat.publish()
        trainer.skips_in_a_row = 0
    else:
        skip_step(trainer, batches)
    trainer.loss_scale.update(finite)
    trainer.step += 1
    tokens = sum(batch.tokens for batch in batches)
    trainer.tokens += tokens
    return {"step": trainer.step, "loss": loss if math.isfinite(loss) else None, "lr": rate,
            "grad_norm": grad_norm if finite else None, "loss_scale": scale, "skipped": trainer.skipped,
            "tokens": tokens, "supervised_tokens": sum(counts)}


def accumulate_gradients(trainer: Trainer, batches: Sequence[MicroBatch]) -> tuple[float, list[int]]:
    """Gradient of the global batch's loss, this process's share of it, into `flat.grad`, times the loss scale.

    The loss is a weighted sum over supervised tokens divided by the sum of their weights in the whole global batch. Every process packs the
    whole batch, so all know that number and no collective runs inside; a process without a micro-batch adds zeros.
    Returns the loss of the global batch and its supervised tokens per objective.
    """
    config, flat, processes = trainer.config, trainer.flat, trainer.processes
    counts = supervised_counts(batches)
    weights = objective_weights(counts, config.balance, config.generation_weight)
    flat.zero_grad()
    loss = torch.zeros((), dtype=torch.float64, device=processes.device)
    for index, batch in share(batches, processes.dist_rank, processes.world_size):
        if config.dropout > 0.0:                            # a seed per pass: no random state to carry over a restart
            torch.manual_seed(((config.seed * 1_000_003 + trainer.step) * 1_000_003 + index) % 2**63)
        loss_sum = batch_loss(trainer.model, batch.to(processes.device), weights, config.loss_chunk_for(trainer.model.config.vocab_size))
        (loss_sum * (trainer.loss_scale.scale / sum(counts))).backward()
        flat.collect()
        loss += loss_sum.detach() / sum(counts)
    return float(processes.all_reduce(loss, f"step {trainer.step + 1}, loss")), counts


def supervised_counts(batches: Sequence[MicroBatch]) -> list[int]:
    """Supervised tokens of each objective."""
    return sum(torch.bincount(batch.objectives[batch.labels != IGNORE_INDEX], minlength=len(OBJECTIVES))
               for batch in batches).tolist()


def skip_step(trainer: Trainer, batches: Sequence[MicroBatch]) -> None:
    """Count a step whose gradient is not finite, and name the module that overflowed."""
    trainer.skipped += 1
    trainer.skips_in_a_row += 1
    dist_rank, overflow = trainer.processes.dist_rank, find_overflow(trainer, batches)
    report = f"step {trainer.step + 1} skipped at loss scale {trainer.loss_scale.scale:g}: {overflow}"
    trainer.say(report)
    if dist_rank > 0 and overflow.startswith("forward pass"):       # only this process saw it
        tell(f"process {dist_rank}: {report}")
    if trainer.skips_in_a_row >= MAX_SKIPS_IN_A_ROW:
        raise ValueError(f"{report}; {MAX_SKIPS_IN_A_ROW} steps in a row were skipped; try --precision bf16 or fp32, or a "
                         "lower --learning-rate")


def find_overflow(trainer: Trainer, batches: Sequence[MicroBatch]) -> str:
    """The first module whose output is not finite, from a second forward pass; else the weights whose gradient is not."""
    from model.monitor import OverflowMonitor
    processes = trainer.processes
    with torch.no_grad():
        for _, batch in share(batches, processes.dist_rank, processes.world_size):
            with OverflowMonitor(trainer.model) as monitor:
                trainer.model.hidden_states(batch.input_ids.to(processes.device), lengths=batch.lengths)
            if monitor.first is not None:
                return f"forward pass, {monitor.first}"
    return "the forward pass is finite; not finite are the gradients of " + ", ".join(trainer.flat.not_finite())


@torch.no_grad()
def validation_loss(trainer: Trainer) -> float:
    """Mean loss per supervised token over the validation rows, shared over the processes."""
    trainer.model.eval()
    batches, chunk = trainer.micro_batches(trainer.validation), trainer.config.loss_chunk_for(trainer.model.config.vocab_size)
    total = torch.zeros((), dtype=torch.float64, device=trainer.processes.device)
    for _, batch in share(batches, trainer.processes.dist_rank, trainer.processes.world_size):
        total += batch_loss(trainer.model, batch.to(trainer.processes.device), [1.0], chunk)
    trainer.model.train()
    trainer.processes.all_reduce(total, f"step {trainer.step}, validation")
    return float(total) / sum(supervised_counts(batches))


# --- a run -----------------------------------------------------------------------------------------------------------


def run_training(config: TrainConfig, rows: Sequence[Row] | Callable[[], Sequence[Row]] | None = None,
                 model: nn.Module | None = None, tokenizer: Any = None, progress: bool = True,
                 validation: Sequence[Row] | None = None) -> TrainResult:
    """Train to the end, going on from what `config.out` holds; in-process as one process, or under torchrun.

    Args:
        rows: ready rows, or a function that makes them; None reads `config.data`.
        model: computed with in the dtype it has, unless `config.precision` names another; it is trained in place.
            None loads `config.model`.
        tokenizer: None loads that of `config.model`, where rows have to be read.
        progress: print one line a step to stderr, on the first process.

    Raises:
        ValueError: settings or rows differ from those that `config.out` was begun with, the run cannot fit into memory,
            or 20 steps in a row were not finite.
        LostProcess: another process of the run died.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    processes = Processes(60 * config.timeout_minutes)
    say = tell if progress and processes.dist_rank == 0 else hush
    failed = True
    try:
        if processes.dist_rank == 0 and not config.plan_only:
            refuse_unwritable(Path(config.out))
        refuse_other_settings(config, data_sha256(config) if rows is None else None)
        done = finished(config)
        if done is not None:
            say(f"{done.out} is complete ({done.steps} steps); nothing to do")
        else:
            trainer = prepare(config, processes, rows, validation, model, tokenizer, say)
            done = TrainResult(Path(config.out), 0, None, 0, 0) if trainer is None else run_steps(trainer)
        failed = False
        return done
    finally:
        processes.close(failed)


def prepare(config: TrainConfig, processes: Processes, rows: Any, validation: Sequence[Row] | None,
            model: nn.Module | None, tokenizer: Any, say: Callable[[str], None]) -> Trainer | None:
    """Rows, the plan (printed; what cannot fit is refused; the end with `plan_only`), model, adapter and optimizer."""
    if tokenizer is None and (rows is None or config.validation and validation is None):
        from model import load_tokenizer
        tokenizer = load_tokenizer(config.model)

    def read(path: str) -> list[Row]:
        return load_rows(config.stage, path, tokenizer, max_length=config.max_length, train_on=config.train_on,
                         too_long=config.too_long, seed=config.seed, say=say, only_called=config.only_called)

    source = data_sha256(config) if rows is None else None
    rows = read(config.data) if rows is None else rows() if callable(rows) else rows
    if validation is None:
        validation = read(config.validation) if config.validation else ()
    if not rows:
        raise ValueError("no rows to train on")
    steps = config.max_steps or max(1, round(config.epochs * -(-len(rows) // config.global_batch_size)))
    dtype = compute_dtype(config.precision, processes.device, model)
    shape = model.config if model is not None else model_config(config.model)
    plan = make_plan(config, shape, [len(row.ids) for row in rows], sum(supervised_in(row) for row in rows), steps, dtype,
                     processes.device, processes.world_size, resident=weights_on(processes.device, model))
    for line in [*plan.lines(), *config.without_effect()]:
        say(line)
    plan.refuse_what_cannot_fit()
    if config.plan_only:
        return None
    rows_sha256 = fingerprint(rows)
    if not processes.same(int(rows_sha256[:15], 16), "rows"):
        raise ValueError("the processes of this run hold different rows; give every one the same --data")
    if not processes.same(int(config.sha256(str(dtype))[:15], 16), "settings"):
        raise ValueError(f"the processes of this run have different settings, or compute in other types than {dtype} here; start every one with the "
                         "same command, and name --precision where their devices differ")

    model = place(load_model_for(config, dtype, processes.device) if model is None else model, dtype, processes.device)
    named = trained_parameters(config, model)
    model.checkpoint_every = config.gradient_checkpointing
    flat = FlatWeights(named)
    return Trainer(config, processes, model, rows, validation, flat, make_optimizer(flat, config),
                   LossScale(dtype == torch.float16), steps, say, rows_sha256, source)


def run_steps(trainer: Trainer) -> TrainResult:
    """The loop: steps, metrics, validation, checkpoints, and the finished run's files."""
    config, processes, say = trainer.config, trainer.processes, trainer.say
    out, first = Path(config.out), processes.dist_rank == 0
    checkpoints = Checkpoints(out / "checkpoint", config.keep_checkpoints)
    if first:
        out.mkdir(parents=True, exist_ok=True)
        restore(trainer, checkpoints.newest(say))
        write_json(out / "config.json", {**dataclasses.asdict(config), "rows_sha256": trainer.rows_sha256, "data_sha256": trainer.data_sha256})
    synchronise(trainer)
    metrics = append_from(out / "metrics.jsonl", trainer.step) if first else None
    saved_at = started_at = time.monotonic()
    first_step, first_tokens = trainer.step, trainer.tokens
    trainer.model.train()
    record = {"loss": None}
    while trainer.step < trainer.total_steps:
        began = time.monotonic()
        record = train_step(trainer)
        if trainer.validation and (trainer.step % config.eval_steps == 0 or trainer.step == trainer.total_steps):
            record["validation_loss"] = validation_loss(trainer)
        now = time.monotonic()
        record |= {"tok_per_s": round(record["tokens"] / (now - began), 1),
                   "peak_mem_gb": peak_memory_gb(processes.device)}
        say(progress_line(record, trainer.total_steps, (trainer.tokens - first_tokens) / (now - started_at),
                          (now - started_at) / (trainer.step - first_step)))
        if first:
            metrics.write(json.dumps(record, allow_nan=False) + "\n")
            metrics.flush()
            due = config.checkpoint_steps and trainer.step % config.checkpoint_steps == 0
            late = config.checkpoint_minutes and now - saved_at > 60 * config.checkpoint_minutes
            if (due or late) and trainer.step < trainer.total_steps:
                checkpoints.save(trainer.step, *snapshot(trainer))
                saved_at = time.monotonic()
    if first:
        metrics.close()
    return finish(trainer, record["loss"])


def finish(trainer: Trainer, final_loss: float | None) -> TrainResult:
    """Write the adapter (pretrain: the model with its tokenizer), then the marker that vouches for every file."""
    config, out = trainer.config, Path(trainer.config.out)
    trainer.model.eval()
    for p in trainer.flat.params:
        p.grad = None                                       # a caller that goes on with the model wants its memory back
    if trainer.processes.dist_rank == 0:
        if config.stage == "pretrain":
            from model.weights import save_model
            save_model(trainer.model, out / "model")
            copy_companions(Path(config.model), out / "model")
        else:
            save_adapter(trainer.model, out / "adapter", base_model=config.model)
        folder = out / ("model" if config.stage == "pretrain" else "adapter")
        mark_done(out, ["config.json", "metrics.jsonl", *(str(f.relative_to(out)) for f in sorted(folder.iterdir()))],
                  steps=trainer.step, skipped=trainer.skipped, tokens=trainer.tokens, final_loss=final_loss)
        Checkpoints(out / "checkpoint", 1).clear()
    trainer.processes.wait("the end")
    trainer.say(f"done: {trainer.step} steps, {trainer.skipped} skipped, {trainer.tokens:,} tokens; {out}")
    return TrainResult(out, trainer.step, final_loss, trainer.skipped, trainer.tokens)


# --- command line ----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python train.py` and `torchrun train.py`; exit code 2 for what the user can mend, 1 for a lost process."""
    try:
        run_training(parse_config(argv, __doc__.splitlines()[0]))
    except (ValueError, OSError) as error:
        tell_error(f"error: {one_line(error)}")
        return 2
    except LostProcess as error:
        tell(f"error: {error}; the same command resumes")
        return 1
    except KeyboardInterrupt:
        tell_first("interrupted; the same command goes on from the newest checkpoint")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
