"""The settings of a round, one default per option; those that the paper leaves open say so, with the reason.

The paper's own numbers come from tooldev.Evolution and tooldev.Sizes. A part of a round gets the few settings it needs:
`tools_draws`, `calls_draws` and `pace` the sampler, `voting` the verdict on a query.
"""

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any, Self

from data.decoding import PACKING, check_temperature
from tooldev import Evolution, Sizes
from training.config import check_options, flag, option

INITS = ("previous", "joint", "base")
# Each control leaves out one part of a round, to see what it gives.
CONTROLS = {"none": "", "labelled_only": "data", "one_sample": "vote", "no_rules": "rules", "random_tool": "choice"}
FREE = ("run", "model", "queries", "labelled", "validation", "guard", "stop_when", "cache_gb", "max_rows",
        "pack_weights", "compile_decode")               # paths (their contents count), pace


@dataclass(frozen=True)
class Draws:
    """How the sampler draws: so many samples of one prompt, temperature 0 for the greedy one."""

    num_samples: int
    max_new_tokens: int
    temperature: float
    top_k: int
    seed: int


@dataclass(frozen=True)
class Pace:
    """What the sampler may take; it changes no draw, in half precision only the rounding."""

    max_prompt_tokens: int
    chunk: int
    cache_gb: float | None
    max_rows: int
    pack_weights: bool | None
    compile_decode: bool


@dataclass(frozen=True)
class Voting:
    """What an answer needs in order to be accepted."""

    min_votes: int = 1
    keep_no_call: bool = True
    rules: bool = True              # the rule checker judges tools and calls
    grounded: bool = False          # and the values of the calls must be those of the query


@dataclass(frozen=True)
class RoundConfig:
    """One round. run.json keeps these under "evolve", so that `evolve.py --round N` repeats them."""

    run: str = option("", "folder of the run; default: the newest under runs/")
    round: int = option(1, "number of the round, from 1; what round N-1 left writes round N's data, and --init says "
                           "where its training starts")
    model: str = option("", "folder of the base; default: the run's")
    queries: str = option("", "JSONL of new queries; default: the run's")
    labelled: str = option("", "JSONL of labelled examples, for --mix, --probe and the control labelled_only")
    validation: str = option("", "JSONL of labelled examples never trained on: greedy exact match after the round")
    guard: tuple[str, ...] = option((), "benchmark files (JSONL); what repeats them never enters training")
    overlaps: str = option("drop", "what repeats the benchmark: drop it, or only list it", choices=("drop", "list"))
    queries_per_round: int = option(0, "take this many queries a round, none twice "
                                       f"(paper: {Sizes.queries_per_round}); 0: the whole file")
    seed: int = option(0, "seed of the draws and of training")

    tools_temperature: float = option(Evolution.tools_temperature,
                                      "temperature of the tool generation (paper, section A.3)")
    tools_top_k: int = option(0, "top-k of the tool generation; not stated in the paper: off, for diversity")
    max_tools_tokens: int = option(1024, "most new tokens for the tools of one query")
    retries: int = option(2, "further tries, with fresh draws, where the rule checker rejects the tools (ours)")
    distractors: int = option(0, "tools made for other queries mixed into the candidates of a query (ours; paper: "
                                 "none)")
    distractor_choice: str = option("random", "which ones: any, or those most like the query's own (ours); near copies "
                                              "are left out, since they are right answers, too",
                                    choices=("random", "similar"))

    num_samples: int = option(Evolution.num_samples, "samples of the tool calls (paper, section A.3)")
    calls_temperature: float = option(0.7, "their temperature; not stated in the paper: that of self-consistency")
    calls_top_k: int = option(40, "their top-k; not stated in the paper: that of self-consistency (arXiv:2203.11171)")
    max_calls_tokens: int = option(512, "most new tokens for one sample of calls")
    early: bool = option(False, "stop sampling once the vote is decided; saves up to 40% and hides the margin")
    min_votes: int = option(1, "votes that the winner needs (paper: the most votes win, however few)")
    grounded: bool = option(False, "throw out answers whose values are not those that the query says (ours; paper: the "
                                   "rule checker alone)")
    no_call: str = option("keep", "an agreed \"no call\": keep it as an example, or drop it", choices=("keep", "drop"))

    init: str = option("previous", "weights that training starts from; the paper's Eq. 6: previous", choices=INITS)
    accumulate: bool = option(False, "train on earlier rounds' accepted examples, too (paper: this round's only)")
    mix: float = option(0.0, "labelled examples mixed in, per accepted example, earlier ones counted (paper: none)")
    control: str = option("none", "leave out one part, to see what it gives", choices=tuple(CONTROLS))
    probe: int = option(64, "labelled examples whose agreement and log-probability are followed; 0: none")
    train: dict[str, Any] = field(default_factory=dict, metadata={"help": "settings of train.TrainConfig"})

    stop_when: bool = option(False, "no further round where the ledger says stop: validation fell twice, diversity "
                                    "fell")
    chunk: int = option(256, "queries per call of the sampler in half precision, where results depend on the batch: a "
                             "chunk that was killed begins anew, so that restarts end the same; in fp32 every query is "
                             "kept")
    cache_gb: float = option(0.0, "memory for keys and values while sampling, in 10^9 bytes; 0: half of what is free, "
                                  "80% on a GPU")
    max_rows: int = option(256, "samples decoded at once")
    pack_weights: bool | None = option(None, PACKING)
    compile_decode: bool = option(False, "torch.compile the decode pass: faster on a GPU, after a minute of compiling")

    def __post_init__(self) -> None:
        object.__setattr__(self, "guard", tuple(self.guard))
        for name in ("round", "num_samples", "min_votes", "max_tools_tokens", "max_calls_tokens", "chunk", "max_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{flag(name)} is {getattr(self, name)}; it must be 1 or more")
        for name in ("tools_temperature", "calls_temperature"):
            check_temperature(getattr(self, name), f"--{flag(name)}")
        check_options(self)
        if self.min_votes > self.samples:
            raise ValueError(f"--min-votes {self.min_votes} can never be reached with {self.samples} samples")
        if self.train.get("shard", "off") != "off" and (self.compile_decode or self.pack_weights):
            name, why = (("compile-decode", "a compiled pass cannot gather its weights") if self.compile_decode else
                         ("pack-weights", "packed weights are a second, whole copy of the base"))
            raise ValueError(f"--{name} does not go with --shard: {why}; leave one of them out")
        only_labelled = self.without("data")
        if (self.mix or only_labelled) and not self.labelled:
            raise ValueError("--mix and --control labelled_only need --labelled, the file of labelled examples")
        if only_labelled and not self.train.get("max_steps"):
            raise ValueError("--control labelled_only needs max_steps among the training settings: the steps of the "
                             "round that it is compared with")

    def without(self, part: str) -> bool:
        """Whether this round's control leaves out that part (a value of CONTROLS)."""
        return leaves_out(self.control, part)

    @property
    def samples(self) -> int:
        """Samples of the calls that are drawn: one under the control that does without the vote."""
        return 1 if self.without("vote") else self.num_samples

    @property
    def voting(self) -> Voting:
        """What an answer needs."""
        return Voting(self.min_votes, self.no_call == "keep", not self.without("rules"), self.grounded)

    def tools_draws(self, attempt: int) -> Draws:
        """Draws of Eq. 4: one for each query, afresh in every attempt."""
        return Draws(1, self.max_tools_tokens, self.tools_temperature, self.tools_top_k,
                     stage_seed(self.seed, self.round, "tools", attempt))

    def calls_draws(self) -> Draws:
        """Draws of Eq. 5."""
        return Draws(self.samples, self.max_calls_tokens, self.calls_temperature, self.calls_top_k,
                     stage_seed(self.seed, self.round, "calls"))

    def probe_draws(self) -> Draws:
        """Draws of the probe: full samples, the same in every round."""
        return Draws(self.num_samples, self.max_calls_tokens, self.calls_temperature, self.calls_top_k,
                     stage_seed(self.seed, "probe"))

    def validation_draws(self) -> Draws:
        """The greedy answer."""
        return Draws(1, self.max_calls_tokens, 0.0, 0, stage_seed(self.seed, "validation"))

    def pace(self, max_prompt_tokens: int) -> Pace:
        """What the sampler may take for prompts of that length."""
        return Pace(max_prompt_tokens, self.chunk, self.cache_gb or None, self.max_rows, self.pack_weights,
                    self.compile_decode)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Settings as they stand in run.json; an unknown one is refused by name."""
        unknown = sorted(set(record) - {spec.name for spec in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"unknown settings of a round: {', '.join(unknown)}")
        return cls(**record)

    def identity(self) -> dict[str, Any]:
        """What must be equal for two runs of the same command to be halves of one round."""
        record = dataclasses.asdict(self)
        if self.distractor_choice == "random":
            del record["distractor_choice"]             # rounds begun before there was a choice go on
        return {key: value for key, value in record.items() if key not in FREE}


def leaves_out(control: str, part: str) -> bool:
    """Whether a control leaves out that part: "data" (what the model wrote), "vote", "rules" or "choice" (of tools)."""
    return CONTROLS[control] == part


def stage_seed(*parts: str | int) -> int:
    """A seed from names and numbers, the same everywhere."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8]) >> 1
