"""One training run: rows -> packed micro-batches -> loss on supervised tokens -> one update; adapters or all weights.

    python train.py --stage joint --model ckpt/qwen2.5-0.5b --data examples.jsonl --out runs/a/joint
    torchrun --nproc-per-node 8 train.py ...              # same flags, same global batch, same update

The same command typed again resumes from the newest checkpoint. One step is `train_step`. Flat weights, loss scale and
checkpoints are in train_state.py; LoRA in lora/; packing in data/batching.py. Leaves out: making rows (data/tasks.py).
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from data.batching import MicroBatch, pack, share, step_rows
from data.tasks import IGNORE_INDEX, OBJECTIVES, Row
from lora import apply_lora, load_adapter, lora_parameters, save_adapter
from train_state import Checkpoints, FlatWeights, LossScale, cosine_lr, flush_dir, mark_done, write_json

STAGES = ("pretrain", "adaption", "invocation", "joint", "evolve")
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}


def option(default: Any, help: str, **more: Any) -> Any:
    """A dataclass field whose help text is also the flag's."""
    return dataclasses.field(default=default, metadata={"help": help, **more})


@dataclass(frozen=True)
class TrainConfig:
    """One run. The defaults that the paper states are the paper's (section 4.1); the rest are this project's."""

    stage: str = option("joint", "what the rows teach", choices=STAGES)
    model: str = option("model/tiny", "folder of the base: config.json, tokenizer, safetensors (pretrain: weights optional)")
    adapter: str = option("", "adapter to continue from, PEFT layout (default: a fresh one)")
    data: str = option("", "JSONL: tools (adaption), examples (invocation, joint, evolve), {messages} or {text} (pretrain)")
    out: str = option("runs/train", "folder of the run; the same command resumes it")
    learning_rate: float = option(1e-4, "peak rate, reached after warmup (paper)")
    final_learning_rate: float = option(0.0, "rate at the end of the cosine (not stated in the paper)")
    warmup_ratio: float = option(0.1, "share of the steps in warmup (paper)")
    epochs: float = option(1.0, "passes over the rows (not stated in the paper)")
    max_steps: int = option(0, "stop the schedule at this many steps instead (0: epochs decide)")
    global_batch_size: int = option(64, "rows per optimizer step, over all processes (paper)")
    micro_batch_tokens: int = option(4096, "most tokens in one forward pass; lower it if memory runs out")
    max_length: int = option(2048, "longest row in tokens; longer ones are refused and counted (not stated in the paper)")
    precision: str = option("auto", "compute type of the base; auto: bf16 where the device has it", choices=("auto", *DTYPES))
    rank: int = option(16, "LoRA rank (paper)")
    alpha: float = option(32.0, "LoRA alpha: the update is scaled by alpha / rank (paper)")
    dropout: float = option(0.0, "LoRA dropout (not stated in the paper)")
    balance: str = option("token", "weigh every token alike, or sum the token means of the objectives (Eq. 6)",
                          choices=("token", "objective"))
    weight_decay: float = option(0.0, "AdamW weight decay, on matrices only")
    beta2: float = option(0.999, "AdamW second decay rate")
    clip: float = option(1.0, "largest norm of the gradient; 0: no clipping")
    seed: int = option(0, "order of the rows, fresh adapter, dropout")
    train_on: str = option("last", "pretrain: supervise the last assistant turn, every one, or all tokens",
                           choices=("last", "assistant", "all"))
    gradient_checkpointing: int = option(0, "recompute activations: 0 off, 1 every block, k every k-th block")
    loss_chunk: int = option(1024, "supervised tokens whose logits exist at one time")
    checkpoint_steps: int = option(100, "steps between checkpoints; 0: by minutes only")
    checkpoint_minutes: float = option(10.0, "minutes between checkpoints; 0: by steps only")
    keep_checkpoints: int = option(2, "checkpoints to keep")
    threads: int = option(0, "CPU threads of each process; 0: leave as it is")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            allowed = field.metadata.get("choices")
            if allowed and getattr(self, field.name) not in allowed:
                raise ValueError(f"--{field.name.replace('_', '-')} is {getattr(self, field.name)!r}; "
                                 f"expected one of {', '.join(allowed)}")
        for name in ("learning_rate", "epochs", "global_batch_size", "micro_batch_tokens", "max_length", "loss_chunk"):
            if getattr(self, name) <= 0:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be above 0")


@dataclass(frozen=True)
class TrainResult:
    """What a run left behind."""

    out: Path
    steps: int
    final_loss: float
    skipped: int
    tokens: int


@dataclass(frozen=True)
class World:
    """The processes of this run (torchrun's environment), and the device of this one."""

    dist_rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum over processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor


def join_world() -> World:
    """Read torchrun's environment; one process without it."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if world_size == 1:
        return World(device=device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), world_size, device)


# --- the loss --------------------------------------------------------------------------------------------------------


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of weighted token losses from hidden states, with logits for `chunk` tokens at a time.

    The gradient is formed while a chunk's logits exist (loss and gradient share them), so nothing is kept but one
    vector as wide as the hidden state per token, and nothing is computed twice. float32 softmax.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, labels: Tensor, token_weights: Tensor | None, chunk: int) -> Tensor:
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight = torch.zeros(weight.shape, dtype=wide, device=weight.device) if need_weight else None
        for start in range(0, hidden.shape[0], chunk):
            part = slice(start, start + chunk)
            logits = (hidden[part] @ weight.t()).to(wide)                                   # (chunk, V)
            log_z = torch.logsumexp(logits, dim=-1, keepdim=True)
            losses = (log_z - logits.gather(1, labels[part, None])).squeeze(1)
            total += losses.sum() if token_weights is None else losses @ token_weights[part]
            if need_hidden or need_weight:
                d_logits = logits.sub_(log_z).exp_()                                        # softmax
                d_logits[torch.arange(len(losses), device=labels.device), labels[part]] -= 1.0
                if token_weights is not None:
                    d_logits *= token_weights[part, None]
                d_logits = d_logits.to(hidden.dtype)
                if need_hidden:
                    torch.mm(d_logits, weight, out=d_hidden[part])
                if need_weight:
                    d_weight += d_logits.t() @ hidden[part]
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
    """hidden (N, E), weight (V, E), labels (N,), none ignored -> sum over tokens of weight x cross entropy, float32."""
    return ChunkedCrossEntropy.apply(hidden, weight, labels, token_weights, chunk)


def batch_loss(model: nn.Module, batch: MicroBatch, token_weights: Tensor, chunk: int) -> Tensor:
    """Loss sum of one micro-batch; `token_weights` (objectives,) weighs a token by its row's objective.

    Only supervised positions reach `lm_head`: hidden states are selected first.
    """
    hidden = model.hidden_states(batch.input_ids, lengths=batch.lengths)[0]                 # (S, E)
    kept = torch.nonzero(batch.labels != IGNORE_INDEX).squeeze(1)
    weights = token_weights[batch.objectives[kept]] if len(token_weights) > 1 else None
    return chunked_cross_entropy(hidden[kept], model.lm_head.weight, batch.labels[kept], chunk, weights)


# --- one step --------------------------------------------------------------------------------------------------------


@dataclass
class Trainer:
    """Everything that one step touches."""

    config: TrainConfig
    world: World
    model: nn.Module
    rows: Sequence[Row]
    flat: FlatWeights
    optimizer: torch.optim.AdamW
    loss_scale: LossScale
    total_steps: int
    warmup_steps: int
    step: int = 0           # global batches used
    skipped: int = 0        # of them, steps whose gradient was not finite: the schedule did not move
    tokens: int = 0         # tokens of all steps so far


def objective_weights(counts: Sequence[int], balance: str) -> list[float]:
    """Weight of a token of each objective, relative to 1 / (all supervised tokens of the global batch).

    "token" pools all tokens; "objective" sums the objectives' token means (Eq. 6), hence total / count each.
    """
    if balance == "token":
        return [1.0]
    return [sum(counts) / count if count else 0.0 for count in counts]


def train_step(trainer: Trainer) -> dict[str, Any]:
    """Global batch -> micro-batches -> summed gradient -> one update; returns the step's record."""
    config, world, flat = trainer.config, trainer.world, trainer.flat
    picked = [trainer.rows[i] for i in step_rows(len(trainer.rows), config.global_batch_size, trainer.step, config.seed)]
    micro_batches = pack(picked, config.micro_batch_tokens, OBJECTIVES)
    counts = [0] * len(OBJECTIVES)
    for batch in micro_batches:                             # every process knows the whole batch: no collective needed
        for objective, count in enumerate(torch.bincount(batch.objectives[batch.labels != IGNORE_INDEX],
                                                         minlength=len(OBJECTIVES)).tolist()):
            counts[objective] += count
    n_tokens = sum(counts)
    token_weights = torch.tensor(objective_weights(counts, config.balance), device=world.device)

    flat.zero_grad()
    loss = torch.zeros((), dtype=torch.float64, device=world.device)
    for micro_step, batch in enumerate(share(micro_batches, world.dist_rank, world.world_size)):
        if config.dropout > 0.0:                            # a seed per pass: nothing random to carry over a restart
            torch.manual_seed(hash((config.seed, trainer.step, world.dist_rank, micro_step)) % 2**63)
        loss_sum = batch_loss(trainer.model, batch.to(world.device), token_weights, config.loss_chunk)
        (loss_sum * (trainer.loss_scale.scale / n_tokens)).backward()
        flat.collect()
        loss += loss_sum.detach() / n_tokens
    world.all_reduce(loss)
    world.all_reduce(flat.grad)                             # one sum a step: the gradient of the whole global batch

    if trainer.loss_scale.scale != 1.0:
        flat.grad /= trainer.loss_scale.scale
    grad_norm = flat.grad.norm().item()
    finite = grad_norm == grad_norm and grad_norm != float("inf")
    update = trainer.step - trainer.skipped
    rate = cosine_lr(update, trainer.total_steps, trainer.warmup_steps, config.learning_rate, config.final_learning_rate)
    if finite:
        if config.clip > 0.0 and grad_norm > config.clip:
            flat.grad *= config.clip / grad_norm
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate
        trainer.optimizer.step()
        flat.publish()
    else:
        trainer.skipped += 1
    record = {"step": trainer.step + 1, "loss": loss.item() if torch.isfinite(loss) else None, "lr": rate,
              "grad_norm": grad_norm if finite else None, "loss_scale": trainer.loss_scale.scale,
              "skipped": trainer.skipped, "tokens": sum(batch.tokens for batch in micro_batches),
              "supervised_tokens": n_tokens}
    trainer.loss_scale.update(finite)
    trainer.step += 1
    trainer.tokens += record["tokens"]
    return record


# --- a run -----------------------------------------------------------------------------------------------------------


def run_training(config: TrainConfig, rows: Sequence[Row] | Callable[[], Sequence[Row]] | None = None,
                 model: nn.Module | None = None, tokenizer: Any = None, progress: bool = True) -> TrainResult:
    """Train to the end, resuming what `config.out` holds; callable in-process (one process) or under torchrun.

    Args:
        rows: ready rows, or a function that makes them; None reads `config.data`.
        model, tokenizer: already loaded ones; None loads `config.model`.
    """
    world = join_world()
    if config.threads:
        torch.set_num_threads(config.threads)
    say = _say if progress and world.dist_rank == 0 else _hush
    out = Path(config.out)
    finished = _finished(out, config)
    if finished:
        say(f"{out} is complete ({finished.steps} steps); nothing to do")
        return finished
    if tokenizer is None:
        from model import load_tokenizer
        tokenizer = load_tokenizer(config.model)
    rows = load_rows(config, tokenizer, say) if rows is None else rows() if callable(rows) else rows
    if not rows:
        raise ValueError(f"{config.data or 'rows'}: no row to train on; check the refusals above or raise --max-length")
    trainer = prepare(config, world, rows, model)
    out.mkdir(parents=True, exist_ok=True)
    if world.dist_rank == 0:
        write_json(out / "config.json", dataclasses.asdict(config))
    checkpoints = Checkpoints(out / "checkpoint", config.keep_checkpoints)
    restore(trainer, checkpoints.newest(say), say)
    say(f"global batch {config.global_batch_size} rows over {world.world_size} processes | {trainer.total_steps:,} steps | "
        f"{len(rows):,} rows | {flat_size(trainer):,} of {sum(p.numel() for p in trainer.model.parameters()):,} weights "
        f"train | {next(trainer.model.parameters()).dtype}")

    record: dict[str, Any] = {"loss": float("nan")}
    metrics = open_metrics(out / "metrics.jsonl", trainer.step) if world.dist_rank == 0 else None
    saved_at = started_at = time.monotonic()
    first_step, first_tokens = trainer.step, trainer.tokens
    trainer.model.train()
    while trainer.step < trainer.total_steps:
        began = time.monotonic()
        record = train_step(trainer)
        now = time.monotonic()
        record |= {"tok_per_s": round(record["tokens"] / (now - began), 1), "peak_mem_gb": peak_memory_gb(world.device)}
        if metrics:
            metrics.write(json.dumps(record, allow_nan=False) + "\n")
            metrics.flush()
        say(progress_line(record, trainer, (trainer.tokens - first_tokens) / (now - started_at),
                          (now - started_at) / (trainer.step - first_step)))
        due = (config.checkpoint_steps and trainer.step % config.checkpoint_steps == 0
               or config.checkpoint_minutes and now - saved_at > 60 * config.checkpoint_minutes)
        if due and world.dist_rank == 0 and trainer.step < trainer.total_steps:
            checkpoints.save(trainer.step, *snapshot(trainer))
            saved_at = time.monotonic()
    result = finish(trainer, out, record, tokenizer)
    say(f"done: {out}")
    return result


def flat_size(trainer: Trainer) -> int:
    """Number of trained weights."""
    return trainer.flat.master.numel()


def prepare(config: TrainConfig, world: World, rows: Sequence[Row], model: nn.Module | None) -> Trainer:
    """Load or take the model, put the adapter on it (or free all weights: pretrain), make the optimizer."""
    dtype = compute_dtype(config.precision, world.device)
    if model is None:
        model = load_or_make(config, dtype, world.device)
    if config.stage == "pretrain":
        model.to(dtype=dtype, device=world.device).requires_grad_(True)
        named = dict(model.named_parameters())
    else:
        if config.adapter:
            load_adapter(model, config.adapter, dropout=config.dropout)
        elif not lora_parameters(model):
            apply_lora(model, config.rank, config.alpha, config.dropout, seed=config.seed)
        named = lora_parameters(model)
    model.checkpoint_every = config.gradient_checkpointing
    flat = FlatWeights(named)
    steps = config.max_steps or max(1, round(config.epochs * -(-len(rows) // config.global_batch_size)))
    return Trainer(config, world, model, rows, flat, flat.optimizer(config.learning_rate, (0.9, config.beta2),
                   config.weight_decay), LossScale(dtype == torch.float16), steps,
                   max(1, round(config.warmup_ratio * steps)))


def load_or_make(config: TrainConfig, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The base of `config.model`; for pretrain a fresh one where the folder holds no weights."""
    from model import ModelConfig, Transformer, load_model
    folder = Path(config.model)
    if config.stage != "pretrain" or any(folder.glob("*.safetensors")):
        return load_model(folder, dtype=dtype, device=device)
    return Transformer(ModelConfig.load(folder)).init_weights(config.seed)


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """auto: bf16 where the device multiplies it natively, else fp16 on a GPU and fp32 on a CPU."""
    if precision != "auto":
        return DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


# --- rows ------------------------------------------------------------------------------------------------------------


def load_rows(config: TrainConfig, tokenizer: Any, say: Callable[[str], None]) -> list[Row]:
    """Read `config.data` into rows for the stage; rows longer than `max_length` are refused, with a count."""
    from data.schema import load_examples, load_tools
    from data.tasks import rows_for_stage
    from model.chat import encode_chat
    if not config.data:
        raise ValueError("--data is missing: a JSONL file of tools (adaption), examples (invocation, joint, evolve) or "
                         "chat rows (pretrain)")
    if config.stage == "pretrain":
        rows, refused = pretrain_rows(config, tokenizer, encode_chat)
    else:
        data = (load_tools if config.stage == "adaption" else load_examples)(config.data)
        rows, refused = rows_for_stage(config.stage, data, tokenizer, encode_chat, config.max_length)
    if refused:
        reasons: dict[str, int] = {}
        for refusal in refused:
            reason = getattr(refusal, "reason", refusal)
            reasons[reason] = reasons.get(reason, 0) + 1
        say(f"{len(refused):,} rows refused: " + ", ".join(f"{reason} {count:,}" for reason, count in reasons.items()))
    return rows


def pretrain_rows(config: TrainConfig, tokenizer: Any, encode_chat: Callable) -> tuple[list[Row], list[str]]:
    """Chat rows {"messages"} and plain documents {"text"}; `train_on` says which tokens are supervised."""
    from data.schema import read_jsonl
    rows, refused = [], []
    for number, record in read_jsonl(config.data):
        if "messages" in record:
            ids, labels = chat_labels(record["messages"], tokenizer, encode_chat, config.train_on)
        elif "text" in record:
            ids = tokenizer.encode(record["text"]) + tokenizer.eos_ids[:1]
            labels = ids
        else:
            raise ValueError(f'{config.data}, line {number}: expected "messages" or "text", found {sorted(record)}')
        if len(ids) > config.max_length:
            refused.append("over_max_length")
        elif all(label == IGNORE_INDEX for label in labels[1:]):
            refused.append("nothing_supervised")
        else:                                               # arrays: 4 bytes a token, not 36
            rows.append(Row(str(record.get("id", number)), "text", array("i", ids), array("i", labels)))
    return rows, refused


def chat_labels(messages: list[dict], tokenizer: Any, encode_chat: Callable, train_on: str) -> tuple[list[int], list[int]]:
    """Ids of a conversation, and labels for its last assistant turn, every assistant turn, or every token."""
    messages = [{**message, "content": _pieces(message["content"])} for message in messages]
    ids, labels = encode_chat(messages, tokenizer)
    if train_on == "all":
        return ids, ids
    if train_on == "assistant":
        for end in range(1, len(messages)):
            if messages[end - 1]["role"] == "assistant":
                for at, label in enumerate(encode_chat(messages[:end], tokenizer)[1]):
                    if label != IGNORE_INDEX:
                        labels[at] = label
    return ids, labels


def _pieces(content: Any) -> Any:
    return content if isinstance(content, str) else [tuple(piece) for piece in content]


# --- resume, finish, report ------------------------------------------------------------------------------------------


def snapshot(trainer: Trainer) -> tuple[dict[str, Tensor], dict]:
    """All state of a run: weights, optimizer, loss scale, counters. Order and dropout follow from seed and step."""
    tensors = {"weights": trainer.flat.master}
    for i, state in enumerate(trainer.optimizer.state.values()):
        tensors |= {f"optimizer.{i}.{name}": value for name, value in state.items()}
    scale = trainer.loss_scale
    return tensors, {"step": trainer.step, "skipped": trainer.skipped, "tokens": trainer.tokens,
                     "loss_scale": scale.scale, "good_steps": scale.good_steps, "names": trainer.flat.names}


def restore(trainer: Trainer, saved: tuple[dict[str, Tensor], dict] | None, say: Callable[[str], None]) -> None:
    """Put a snapshot back."""
    if saved is None:
        return
    tensors, state = saved
    if state["names"] != trainer.flat.names or tensors["weights"].shape != trainer.flat.master.shape:
        raise ValueError(f"{trainer.config.out}: the checkpoint holds other weights than this run trains; use a new --out")
    trainer.flat.master.copy_(tensors["weights"])
    trainer.flat.publish()
    for i, group in enumerate(trainer.optimizer.param_groups):
        values = {name.split(".", 2)[2]: value for name, value in tensors.items() if name.startswith(f"optimizer.{i}.")}
        if values:
            device = trainer.flat.device
            trainer.optimizer.state[group["params"][0]] = {name: value.to(device) for name, value in values.items()}
    trainer.step, trainer.skipped, trainer.tokens = state["step"], state["skipped"], state["tokens"]
    trainer.loss_scale.scale, trainer.loss_scale.good_steps = state["loss_scale"], state["good_steps"]
    say(f"resumed at step {trainer.step} of {trainer.total_steps}")


def open_metrics(path: Path, step: int):
    """metrics.jsonl, cut back to the steps that the checkpoint vouches for."""
    if path.exists():
        kept = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True)[:step] if line.endswith("\n")]
        aside = path.with_name(path.name + ".tmp")
        aside.write_text("".join(kept), encoding="utf-8")
        os.replace(aside, path)
    return open(path, "a", encoding="utf-8")


def finish(trainer: Trainer, out: Path, record: dict, tokenizer: Any) -> TrainResult:
    """Write the adapter (or the whole model), then the marker; the checkpoints go."""
    config = trainer.config
    trainer.model.eval()
    if trainer.world.dist_rank == 0:
        folder = "model" if config.stage == "pretrain" else "adapter"
        if config.stage == "pretrain":
            from model.weights import save_model
            save_model(trainer.model, out / folder)
        else:
            save_adapter(trainer.model, out / folder, base_model=config.model)
        files = [str(path.relative_to(out)) for path in sorted((out / folder).iterdir()) if path.is_file()]
        mark_done(out, ["config.json", "metrics.jsonl", *files], steps=trainer.step, skipped=trainer.skipped,
                  tokens=trainer.tokens, final_loss=record["loss"])
        flush_dir(out)
    if trainer.world.world_size > 1:
        dist.barrier()
    return TrainResult(out, trainer.step, record["loss"], trainer.skipped, trainer.tokens)


def _finished(out: Path, config: TrainConfig) -> TrainResult | None:
    """The result of a complete run; a run with another setting is refused by name."""
    if (out / "config.json").exists():
        old, new = json.loads((out / "config.json").read_text(encoding="utf-8")), dataclasses.asdict(config)
        free = {"out", "threads", "checkpoint_steps", "checkpoint_minutes", "keep_checkpoints"}
        changed = [f"{k} {old.get(k)!r} -> {new[k]!r}" for k in new if k not in free and old.get(k) != new[k]]
        if changed:
            raise ValueError(f"{out} was begun with other settings ({'; '.join(changed)}); use a new --out, or the old ones")
    if not (out / "DONE.json").exists():
        return None
    marker = json.loads((out / "DONE.json").read_text(encoding="utf-8"))
    return TrainResult(out, marker["steps"], marker["final_loss"], marker["skipped"], marker["tokens"])


def peak_memory_gb(device: torch.device) -> float:
    """Largest memory so far: the allocator's on a GPU, the process's resident set on a CPU."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
    import resource
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)


def progress_line(record: dict, trainer: Trainer, tok_per_s: float, seconds_per_step: float) -> str:
    """One step in fixed fields."""
    left = int((trainer.total_steps - trainer.step) * seconds_per_step)
    number = lambda value, form: "n/a" if value is None else format(value, form)  # noqa: E731
    return (f"step {record['step']:05d}/{trainer.total_steps:05d} | loss {number(record['loss'], '.4f')} | "
            f"lr {record['lr']:.2e} | grad {number(record['grad_norm'], '.3f')} | {tok_per_s:,.0f} tok/s | "
            f"mem {record['peak_mem_gb']:.1f} GB | eta {left // 3600:02d}:{left // 60 % 60:02d}:{left % 60:02d}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _hush(line: str) -> None:
    """Say nothing: not the first process, or progress is off."""


def parse_config(argv: Sequence[str] | None = None) -> TrainConfig:
    """Flags from the fields of TrainConfig."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in dataclasses.fields(TrainConfig):
        parser.add_argument("--" + field.name.replace("_", "-"), type=type(field.default), default=field.default,
                            help=field.metadata["help"].replace("%", "%%"), choices=field.metadata.get("choices"))
    return TrainConfig(**vars(parser.parse_args(argv)))


def main() -> int:
    """Entry point of `python train.py` and `torchrun train.py`."""
    try:
        run_training(parse_config())
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
