"""The settings of a run: one default and one help text per option, read from the command line; and what a run leaves.

Imports no torch: a caller can check settings without waiting for it.
"""

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from data.augment import Recipe
from data.prompts import PAPER_PROMPT, PROMPTS
from data.schema import IN_WORDS
from tooldev import Help, Lora, Parser, Sft, home, nearest

STAGES = ("pretrain", "adaption", "invocation", "joint", "evolve")
PRECISIONS = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "fp64": "float64"}     # torch's names of them
KINDS = {tuple: (list,), float: (int, float), int: (int,), bool: (bool,), str: (str,), dict: (dict,)}   # JSON's values
MOST_THREADS = 1024
PATHS = ("model", "adapter", "data", "validation")
LOGITS = 2**25      # of one chunk of the loss: 64 MiB in half precision, and on a GPU 128 MiB more for the softmax
# With no --data: settings that suit a model of a few million weights, not the paper's backbones (reason in LOG.md).
TINY_SETTINGS = {"learning_rate": 1e-3, "global_batch_size": 16, "epochs": 2.0, "max_length": 1024}


def option(default: Any, help: str, **more: Any) -> Any:
    """A dataclass field whose help text is also the flag's.

    `free=True`: may differ when a run is resumed. `bare`: what the flag means without a value.
    """
    return dataclasses.field(default=default, metadata={"help": help, **more})


def flag(name: str) -> str:
    """The flag of a setting, without its dashes."""
    return name.replace("_", "-")


def check_options(settings: Any) -> None:
    """ValueError, by its flag, for a setting that is none of its choices, or a number below 0 or from 2**64 on."""
    for field in dataclasses.fields(settings):
        name, value, allowed = flag(field.name), getattr(settings, field.name), field.metadata.get("choices")
        if allowed and value not in allowed:
            raise ValueError(f"--{name} is {value!r}; expected one of {', '.join(allowed)}")
        if isinstance(value, (int, float)) and not 0 <= value < 2**64:
            raise ValueError(f"--{name} is {value}; it must be 0 or more{' and below 2**64' * (value >= 2**64)}")


def settings_of(values: Any, record: type, where: str, taken: Collection[str] = ()) -> dict[str, Any]:
    """Settings as a file has them, each in the type of its field; `taken` are fields that a file may not set.

    Raises:
        ValueError: they are no object, one is not known, or not of its type.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {str(values)!r:.80}; expected an object of settings")
    fields = {field.name: field for field in dataclasses.fields(record)}
    for name, value in values.items():
        if name not in fields:
            raise ValueError(f"{where}: no setting {name!r:.80}{nearest(name, fields)}")
        if name in taken:
            raise ValueError(f"{where}: {name} is {value!r:.80}, and is not set here; leave it out")
    return {name: typed(value, fields[name].type, f"{where}: {name}") for name, value in values.items()}


def typed(value: Any, expected: Any, where: str) -> Any:
    """A value of a JSON file in the type of its setting; ValueError where it is of another one."""
    if type(None) in get_args(expected):
        if value is None:
            return None
        expected = next(kind for kind in get_args(expected) if kind is not type(None))
    kind = get_origin(expected) or expected
    right = isinstance(value, KINDS[kind]) and isinstance(value, bool) == (kind is bool)
    if not right or kind is tuple and not all(isinstance(one, str) for one in value):
        raise ValueError(f"{where} is {value!r:.80}; expected {IN_WORDS[kind]}")
    return kind(value)


@dataclass(frozen=True)
class TrainConfig:
    """One run. Defaults marked (paper) are those of section 4.1; the paper does not state the others: they are ours."""

    stage: str = option("joint", "what the rows teach", choices=STAGES)
    model: str = option(str(home("model", "tiny")), "folder of the base: config.json, tokenizer, safetensors (pretrain "
                                                    "makes fresh ones where there are none)")
    adapter: str = option("", "adapter to go on from, in PEFT's layout; empty: a fresh one")
    data: str = option("", "JSONL of tools (adaption), examples (invocation, joint, evolve), {messages} or {text} "
                           "(pretrain); empty: the generated tool world")
    validation: str = option("", "JSONL like --data, whose loss is measured every --eval-steps")
    out: str = option("runs/train", "folder of the run; the same command resumes it", free=True)
    learning_rate: float = option(Sft.learning_rate, "peak rate, reached after warmup (paper)")
    final_learning_rate: float = option(0.0, "rate at the end of the cosine")
    warmup_ratio: float = option(Sft.warmup_ratio, "share of the steps in warmup (paper)")
    epochs: float = option(1.0, "passes over the rows")
    max_steps: int = option(0, "this many steps instead of --epochs; 0: epochs decide")
    global_batch_size: int = option(Sft.global_batch_size, "rows per optimizer step, over all processes (paper)")
    micro_batch_tokens: int = option(4096, "most tokens in one forward pass; lower it if memory runs out")
    micro_batch_size: int = option(0, "most rows in one forward pass; 0: as many as the tokens allow")
    packing: bool = option(True, "rows end to end in one row without padding; off: padded rows of similar length")
    only_called: bool = option(False, "teach a query to make only those of its candidate tools that the answer calls; "
                                      "off: all (Eq. 3)")
    irrelevance: float = option(0.0, "share of the examples that also give a row without their called tools, whose "
                                     "answer calls none (ours; paper: none)")
    mask_names: float = option(0.0, "share of the invocation rows with random names for tools and arguments, in "
                                    "documents and calls alike (Hammer, arXiv 2410.04587; paper: none)")
    shuffle_tools: bool = option(False, "offer the candidate tools of an invocation row in another order (paper: no)")
    candidates: int = option(0, "fill the candidates of an invocation row up to this many with tools of other "
                                "examples (paper: 0)")
    prompt: str = option(PAPER_PROMPT, "how invocation rows ask: the paper's prompt, or native, the tool block of the "
                                       "model's own chat template (ChatML alone)", choices=PROMPTS)
    max_length: int = option(2048, "longest row in tokens")
    too_long: str = option("refuse", "a longer row is left out, or cut at its end", choices=("refuse", "truncate"))
    precision: str = option("auto", "compute type of the base; auto: bf16 where the device multiplies it natively, "
                                    "else fp16 on a GPU, fp32 on a CPU", choices=("auto", *PRECISIONS))
    rank: int = option(Lora.rank, "LoRA rank (paper)")
    alpha: float = option(Lora.alpha, "LoRA alpha: the update is scaled by alpha / rank (paper)")
    dropout: float = option(0.0, "LoRA dropout")
    targets: str = option(Lora.targets, "linear layers that LoRA adapts, with commas (paper: all)")
    balance: str = option("token", "weigh every token alike, or add the objectives' token means (Eq. 6)",
                          choices=("token", "objective"))
    generation_weight: float = option(1.0, "how much the generation objective counts beside invocation (paper, Eq. 6: "
                                           "1)")
    optimizer: str = option("adamw", "muon: for the hidden matrices of a model trained from scratch (pretrain only)",
                            choices=("adamw", "muon"))
    weight_decay: float = option(0.0, "weight decay, on matrices only")
    beta2: float = option(0.999, "AdamW second decay rate")
    clip: float = option(1.0, "largest norm of the gradient; 0: no clipping")
    seed: int = option(0, "order of the rows, fresh weights, dropout")
    train_on: str = option("last", "pretrain: supervise the last assistant turn, every one, or all tokens",
                           choices=("last", "assistant", "all"))
    gradient_checkpointing: int = option(0, "recompute activations: 0 off, 1 every block, k every k-th block")
    loss_chunk: int = option(0, "supervised tokens whose logits exist at one time; 0: 1,024, or for a large vocabulary "
                                "what makes 2^25 logits")
    eval_steps: int = option(50, "steps between measurements of the validation loss")
    checkpoint_steps: int = option(100, "steps between checkpoints; 0: by minutes only", free=True)
    checkpoint_minutes: float = option(10.0, "minutes between checkpoints; 0: by steps only", free=True)
    keep_checkpoints: int = option(2, "checkpoints to keep", free=True)
    timeout_minutes: float = option(30.0, "a process that waits this long reports who is missing", free=True)
    shard: str = option("off", "share the frozen base's weights out over the processes of a machine (node) or of the "
                               "run (job); --shard alone: node; auto: where the base does not fit otherwise",
                        choices=("off", "auto", "node", "job"), bare="node", free=True)
    threads: int = option(0, "CPU threads of each process; 0: torch's own choice", free=True)
    plan_only: bool = option(False, "print the plan and stop", free=True)

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("learning_rate", "epochs", "global_batch_size", "micro_batch_tokens", "max_length",
                     "eval_steps", "keep_checkpoints", "timeout_minutes", "rank", "alpha"):
            if getattr(self, name) <= 0:
                raise ValueError(f"--{flag(name)} is {getattr(self, name)}; it must be above 0")
        check_threads(self.threads)
        if self.adapter and self.stage == "pretrain":
            raise ValueError(f"--adapter {self.adapter}: --stage pretrain trains the weights of --model and reads no "
                             "adapter; merge it first (tooldev.py export), or leave it out")
        if self.optimizer == "muon" and self.stage != "pretrain":
            raise ValueError(f"--optimizer muon is for --stage pretrain, not for the adapters of {self.stage}; "
                             "leave it at adamw")
        if self.shard != "off" and self.stage == "pretrain":
            raise ValueError(f"--shard {self.shard} is for a frozen base, and --stage pretrain trains every weight; "
                             "leave --shard out")
        every, named = Lora.targets.split(","), [name.strip() for name in self.targets.split(",")]
        if not set(named) <= set(every):
            raise ValueError(f"--targets is {self.targets!r}; expected some of {Lora.targets}")
        object.__setattr__(self, "targets", ",".join(name for name in every if name in named))      # in one order
        _ = self.recipe                                     # refuses a share that is none
        for name in ("warmup_ratio", "dropout", "beta2"):
            if getattr(self, name) >= 1:
                raise ValueError(f"--{flag(name)} is {getattr(self, name)}; it must be below 1")

    def loss_chunk_for(self, vocab_size: int) -> int:
        """Supervised tokens in one chunk of the loss: `loss_chunk`, or its default for this vocabulary."""
        return self.loss_chunk or max(1, min(1024, LOGITS // vocab_size))

    def without_effect(self) -> list[str]:
        """A line for each reason why settings that were given do nothing in this run."""
        full = self.stage == "pretrain"
        single = self.stage not in ("joint", "evolve")
        reasons = {f"stage {self.stage} has one objective": (single, ("balance", "generation_weight")),
                   "pretrain trains the weights themselves, no adapter":
                       (full, ("rank", "alpha", "dropout", "targets")),
                   f"stage {self.stage} has no invocation rows":
                       (self.stage in ("pretrain", "adaption"),
                        ("irrelevance", "mask_names", "shuffle_tools", "candidates")),
                   "only pretrain chooses what to supervise": (not full, ("train_on",)),
                   "there is no --validation": (not self.validation, ("eval_steps",))}
        lines = []
        for reason, (applies, names) in reasons.items():
            given = [f"--{flag(name)} {getattr(self, name)}" for name in names
                     if getattr(self, name) != self.__dataclass_fields__[name].default]
            if applies and given:
                lines.append(f"{' and '.join(given)}: no effect, {reason}")
        return lines

    def identity(self) -> dict[str, Any]:
        """The settings that a run may not change on the way."""
        return lasting(vars(self))

    def sha256(self, more: str = "") -> str:
        """Of `identity` and `more`, less the paths: machines may differ in them; their contents are compared apart."""
        settings = {name: value for name, value in self.identity().items() if name not in PATHS}
        return hashlib.sha256(f"{json.dumps(settings, sort_keys=True)} {more}".encode()).hexdigest()

    @property
    def recipe(self) -> Recipe:
        """What is done to the candidates of invocation rows."""
        return Recipe(self.irrelevance, self.mask_names, self.shuffle_tools, self.candidates, self.seed)

    @property
    def target_modules(self) -> tuple[str, ...]:
        """`targets`, a name each."""
        return tuple(self.targets.split(","))


def check_threads(number: int) -> None:
    """ValueError for a number of CPU threads that is none, or more than any machine's: torch makes them all."""
    if not 0 <= number <= MOST_THREADS:
        raise ValueError(f"--threads is {number}; expected 0 (torch's own choice) to {MOST_THREADS}")


def lasting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some training settings that decide about the result; the others may change on the way."""
    free = {field.name for field in dataclasses.fields(TrainConfig) if field.metadata.get("free")}
    return {name: value for name, value in settings.items() if name not in free}


@dataclass(frozen=True)
class TrainResult:
    """What a run left in `out`: adapter/ (pretrain: model/), metrics.jsonl, config.json, DONE.json."""

    out: Path
    steps: int
    final_loss: float | None        # of the last step; None where that was not finite
    skipped: int
    tokens: int


def parse_config(argv: Sequence[str] | None = None, description: str | None = None) -> TrainConfig:
    """Flags from the fields of TrainConfig. With no --data and no --model, TINY_SETTINGS are the defaults."""
    from training.processes import tell_first
    parser = Parser(description=description, formatter_class=Help, epilog="Example:\n  python train.py --stage joint "
                    "--model model/tiny --data examples.jsonl --max-steps 2 --out runs/joint")
    for field in dataclasses.fields(TrainConfig):
        kind = {"action": argparse.BooleanOptionalAction} if field.type is bool else {
            "type": field.type, "choices": field.metadata.get("choices"),
            **({"nargs": "?", "const": field.metadata["bare"]} if "bare" in field.metadata else {})}
        parser.add_argument("--" + flag(field.name), default=argparse.SUPPRESS,
                            help=f"{field.metadata['help']} (default: {field.default!r})".replace("%", "%%"), **kind)
    given = vars(parser.parse_args(argv))
    if "data" not in given and "model" not in given:
        given = {**TINY_SETTINGS, **given}
        tell_first("no --model and no --data: the embedded model on the generated tool world, with settings for its "
                   "size: " + ", ".join(f"{name} {value}" for name, value in TINY_SETTINGS.items()))
    return TrainConfig(**given)
