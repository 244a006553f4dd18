"""One training run: rows -> packed micro-batches -> loss on supervised tokens -> one update; adapters or all weights.

    python train.py --stage joint --model ckpt/qwen2.5-0.5b --data examples.jsonl --out runs/a/joint
    torchrun --nproc-per-node 8 train.py ...              # same flags, same global batch, same update

The same command typed again resumes. `train_step` is one step, from batch to update. In training/ are what it touches
(trainer, flat), the chunked cross entropy (loss), what stands around the steps (run), and config, base, rows,
optimizer, overflow, interrupt, processes, checkpoints, resume, plan.
"""

import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from tooldev import fit_threads, hush_interrupts

    fit_threads()
    hush_interrupts()

import torch
from torch import Tensor, nn

from data.batching import MicroBatch, step_rows
from data.files import held, refuse_no_folder
from data.tasks import IGNORE_INDEX, OBJECTIVES, Row
from model import Tokenizer
from tooldev import one_line
from training.checkpoints import kept
from training.config import TrainConfig, TrainResult, parse_config
from training.interrupt import Interrupted
from training.loss import chunked_cross_entropy
from training.overflow import advice, find_overflow
from training.processes import LostProcess, Processes, hush, tell, tell_error, tell_first
from training.resume import data_sha256, finished, refuse_other_settings
from training.run import Journal, Rows, finish, prepare
from training.trainer import Trainer

MAX_SKIPS_IN_A_ROW = 20         # 2**16 halved that often is below 0.1: the numbers are broken, not the scale


# ------------------------------------------------------------------------------------------------------------- the loss

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

    "token": the weighted mean over all tokens. "objective": the sum of the objectives' token means (Eq. 6), hence
    total / count each. Either way the generation objective counts `generation_weight` times.
    """
    factors = [generation_weight if name == "generation" else 1.0 for name in OBJECTIVES]
    pairs = list(zip(factors, counts, strict=True))
    if balance == "objective":
        return [factor * sum(counts) / count if count else 0.0 for factor, count in pairs]
    weighted = sum(factor * count for factor, count in pairs)
    return [factor * sum(counts) / weighted for factor in factors] if weighted else [0.0] * len(counts)


# ------------------------------------------------------------------------------------------------------------- one step

def cosine_lr(update: int, total: int, warmup: int, peak: float, final: float = 0.0) -> float:
    """Rate of update number `update` (from 0): linear up to the peak over `warmup` updates, then half a cosine down."""
    if update < warmup:
        return peak * (update + 1) / warmup
    progress = min((update - warmup) / max(total - warmup, 1), 1.0)
    return final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


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
    """Gradient of the global batch's loss, this process's part of it, into `flat.grad`, times the loss scale.

    The loss is a weighted sum over supervised tokens divided by the sum of their weights in the whole global batch.
    Every process packs the whole batch, so all know that number and no collective runs inside (but those of a sharded
    base's passes); a process without a micro-batch adds zeros.
    Returns the loss of the global batch and its supervised tokens per objective.

    Raises:
        Interrupted: a process was asked to stop. All learn it from the sum of the losses and give up the same step,
            which has changed nothing yet but the gradient.
    """
    config, flat, processes = trainer.config, trainer.flat, trainer.processes
    counts = supervised_counts(batches)
    weights = objective_weights(counts, config.balance, config.generation_weight)
    flat.zero_grad()
    sums = torch.zeros(2, dtype=torch.float64, device=processes.device)    # the loss; processes that were asked to stop
    for index, batch in trainer.dealt(batches):
        if trainer.interrupt.asked and not trainer.sharded:         # sharded: the others cannot pass without this one
            break
        if config.dropout > 0.0:                            # a seed per pass: no random state to carry over a restart
            torch.manual_seed(((config.seed * 1_000_003 + trainer.step) * 1_000_003 + index) % 2**63)
        with trainer.meeting("a pass"):
            sums[0] += add_gradients(trainer, batch, weights, sum(counts))
        flat.collect()
    sums[1] = bool(trainer.interrupt.asked)
    loss, stopping = processes.all_reduce(sums, f"step {trainer.step + 1}, loss").tolist()
    if stopping:
        raise Interrupted(f"step {trainer.step + 1} was given up", trainer.interrupt.code)
    return loss, counts


def add_gradients(trainer: Trainer, batch: MicroBatch, weights: Sequence[float], supervised: int) -> Tensor:
    """One pass forward and backward; its part of the loss.

    A function of its own, so that nothing of its graph outlives it: what lies between the next pass's tensors keeps
    memory in pieces.
    """
    loss_sum = batch_loss(trainer.model, batch, weights, trainer.loss_chunk)
    (loss_sum * (trainer.loss_scale.scale / supervised)).backward()
    return loss_sum.detach() / supervised


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
    alone = ("forward pass", "weights") if trainer.sharded else "forward pass"      # what only this process saw
    if dist_rank > 0 and overflow.startswith(alone):
        tell(f"process {dist_rank}: {report}")
    if trainer.skips_in_a_row >= MAX_SKIPS_IN_A_ROW:
        raise ValueError(f"{report}; {MAX_SKIPS_IN_A_ROW} steps in a row were skipped; "
                         f"{advice(trainer, updated=trainer.step >= trainer.skipped)}")


@torch.no_grad()
def validation_loss(trainer: Trainer) -> float:
    """Mean loss per supervised token over the validation rows, dealt to the processes."""
    trainer.model.eval()
    batches = trainer.micro_batches(trainer.validation)
    total = torch.zeros((), dtype=torch.float64, device=trainer.processes.device)
    for _, batch in trainer.dealt(batches):
        with trainer.meeting("validation"):
            total += batch_loss(trainer.model, batch, [1.0], trainer.loss_chunk)
    trainer.model.train()
    trainer.processes.all_reduce(total, f"step {trainer.step}, validation")
    return float(total) / sum(supervised_counts(batches))


# ---------------------------------------------------------------------------------------------------------------- a run

def run_training(config: TrainConfig, rows: Rows = None,
                 model: nn.Module | None = None, tokenizer: Tokenizer | None = None, progress: bool = True,
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
            20 steps in a row were not finite, or not one was.
        Interrupted: Ctrl-C or SIGTERM while it trained; the finished steps are saved.
        LostProcess: another process of the run died.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with Processes(60 * config.timeout_minutes) as processes:
        say = tell if progress and processes.dist_rank == 0 else hush
        if processes.dist_rank == 0 and not config.plan_only:
            refuse_no_folder(Path(config.out))
        refuse_other_settings(config, data_sha256(config) if rows is None else None)
        done = finished(config)
        if done is not None:
            say(f"{done.out} is complete ({done.steps} steps); nothing to do")
        else:
            trainer = prepare(config, processes, rows, validation, model, tokenizer, say)
            done = TrainResult(Path(config.out), 0, None, 0, 0) if trainer is None else run_steps(trainer)
        return done


def run_steps(trainer: Trainer) -> TrainResult:
    """The steps that are left, with what is noted between them, and the finished run's files."""
    config, out = trainer.config, Path(trainer.config.out)
    alone = held(out, "train") if trainer.processes.dist_rank == 0 else nullcontext()
    with alone, Journal(trainer) as journal, trainer.interrupt:
        trainer.model.train()
        record: dict[str, Any] = {"loss": None}
        try:
            while trainer.step < trainer.total_steps:
                record = train_step(trainer)
                measured = trainer.step % config.eval_steps == 0 or trainer.step == trainer.total_steps
                if trainer.validation and measured:
                    record["validation_loss"] = validation_loss(trainer)
                journal.note(record)
        except Interrupted as stop:
            raise Interrupted(journal.keep_finished_steps(), stop.code) from None
        result = finish(trainer, record["loss"])
    if trainer.interrupt.asked:         # after the last step: nothing is lost, and the caller is to stop all the same
        raise Interrupted(kept(out), trainer.interrupt.code)
    return result


# --------------------------------------------------------------------------------------------------------- command line

def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python train.py` and `torchrun train.py`.

    Exit code 2 for what the user can mend, 1 for a lost process, 130 after Ctrl-C, 143 after SIGTERM.
    """
    out = None
    try:
        config = parse_config(argv, (__doc__ or "").partition("\n")[0])
        out = Path(config.out)
        run_training(config)
    except (ValueError, OSError) as error:
        tell_error(f"error: {one_line(error)}")
        return 2
    except LostProcess as error:
        tell(f"error: {error}; the same command resumes")
        return 1
    except Interrupted as stop:
        tell_first(str(stop))
        return stop.code
    except KeyboardInterrupt:
        tell_first(kept(out) if out else "interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
