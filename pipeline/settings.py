"""Everything that decides what a run computes; kept in run.json, and compared when the same folder is used again.

A preset holds the sizes that depend on the model: the paper's for its backbones, smaller batches and a higher rate for
the embedded model of a few million weights. Left out: paths of results and anything that only changes the pace.
"""

import dataclasses
import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from data.augment import RECIPE
from data.files import refuse_changes, sha256_file, some, write_json
from data.prompts import PAPER_PROMPT
from data.schema import read_json, read_object
from evolution.config import FREE, RoundConfig
from tooldev import VARIANTS, Evolution, Lora, Sft
from training.config import lasting, option, settings_of

DATA_FILES = ("tools", "examples", "queries", "validation", "test")
EXTENT = ("rounds", "variants")         # which steps a run has; what a step does depends on neither


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What depends on the size of the model. The defaults are the paper's.

    Epochs and lengths are not stated in it: one pass, and lengths that hold its prompts (LOG.md).
    """

    learning_rate: float = option(Sft.learning_rate, "peak learning rate")
    global_batch_size: int = option(Sft.global_batch_size, "rows per optimizer step")
    adaption_epochs: float = option(1.0, "passes over the tools")
    labelled_epochs: float = option(1.0, "passes over the examples")
    evolve_epochs: float = option(1.0, "passes over what a round accepted")
    evolve_learning_rate: float = option(0.0, "peak learning rate of a round's training; 0: --learning-rate")
    evolve_generation_weight: float = option(1.0, "how much tool generation counts beside calls in a round's training "
                                                  "(paper: 1)")
    max_length: int = option(4096, "longest row in tokens")
    max_tools_tokens: int = option(RoundConfig.max_tools_tokens, "most new tokens for the tools of one query")
    max_calls_tokens: int = option(RoundConfig.max_calls_tokens, "most new tokens for one answer")
    micro_batch_tokens: int = option(4096, "most tokens in one forward pass; lower it if memory runs out")
    irrelevance: float = option(0.0, "share of the examples that also give a row without their called tools, to be "
                                     "answered with no call (paper: none)")
    mask_names: float = option(0.0, "share of the call rows whose tools and arguments get random names (paper: none)")
    candidates: int = option(0, "fill the candidates of a call row up to this many tools (paper: 0)")
    only_called: bool = False
    shuffle_tools: bool = False


PAPER_PRESET = Preset()
# reasons in LOG.md
TINY_PRESET = Preset(learning_rate=1e-3, global_batch_size=16, evolve_epochs=2.0, max_length=1024, max_tools_tokens=320,
                     max_calls_tokens=192, micro_batch_tokens=1024, only_called=True, evolve_generation_weight=0.02)
# For backbones of 0.1 to 0.6 billion weights: higher rates and small batches for few rows, and Hammer's recipe.
SMALL_PRESET = Preset(learning_rate=5e-4, global_batch_size=16, labelled_epochs=2.0, max_length=2048,
                      max_tools_tokens=512, max_calls_tokens=256, irrelevance=0.1, mask_names=0.25, shuffle_tools=True)
PRESETS = {"paper": PAPER_PRESET, "small": SMALL_PRESET, "tiny": TINY_PRESET}


@dataclass(frozen=True, kw_only=True)
class RunSettings(Preset):
    """One run of the method. Paths to data are free to move: what counts is what the files say (their hashes)."""

    model: str
    preset: str
    seed: int
    rounds: int = Evolution.rounds
    variants: tuple[str, ...] = ("joint",)
    queries_per_round: int = 0
    rank: int = Lora.rank
    alpha: float = Lora.alpha
    precision: str = "auto"
    probe: int = RoundConfig.probe
    guard: tuple[str, ...] = ()
    # further settings of evolution.config.RoundConfig
    evolve: dict[str, Any] = dataclasses.field(default_factory=dict)
    train: dict[str, Any] = dataclasses.field(default_factory=dict)       # further settings of train.TrainConfig

    @classmethod
    def of_run(cls, folder: Path) -> Self:
        """The settings of the run in a folder; ValueError where its run.json does not hold them."""
        where = folder / "run.json"
        found = read_object(where, "settings", settings=dict)["settings"]
        if missing := {"model", "preset", "seed"} - found.keys():
            raise ValueError(f"{where}: has no {', '.join(sorted(missing))} among its settings; is it that of a run?")
        return cls(**settings_of(found, cls, f"{where}: settings"))

    def __post_init__(self) -> None:
        unknown = sorted(set(self.variants) - set(VARIANTS))
        if unknown:
            raise ValueError(f"unknown variants {', '.join(unknown)}; expected some of {', '.join(VARIANTS)}")
        if not self.variants:
            raise ValueError(f"no variants to train; expected some of {', '.join(VARIANTS)}")
        if self.rounds < 0 or self.seed < 0:
            raise ValueError(f"--rounds {self.rounds} and --seed {self.seed}: both must be 0 or more")

    @classmethod
    def from_preset(cls, preset: str, **changes: Any) -> Self:
        """The preset's sizes, with `changes` on top."""
        return cls(preset=preset, **{**dataclasses.asdict(PRESETS[preset]), **changes})

    @property
    def prompt(self) -> str:
        """How the model is asked to call tools, one of data.prompts.PROMPTS."""
        return self.train.get("prompt", PAPER_PROMPT)

    def training(self, stage: str) -> dict[str, Any]:
        """The settings of train.TrainConfig for one stage."""
        epochs = {"adaption": self.adaption_epochs, "evolve": self.evolve_epochs}.get(stage, self.labelled_epochs)
        weight = self.evolve_generation_weight if stage == "evolve" else 1.0
        rate = self.evolve_learning_rate if stage == "evolve" and self.evolve_learning_rate else self.learning_rate
        recipe = {name: getattr(self, name) for name in RECIPE if getattr(self, name) and stage != "adaption"}
        return {"learning_rate": rate, "global_batch_size": self.global_batch_size, "epochs": epochs,
                "max_length": self.max_length, "micro_batch_tokens": self.micro_batch_tokens,
                "only_called": self.only_called, "rank": self.rank,
                "alpha": self.alpha, "precision": self.precision, "seed": self.seed, "checkpoint_steps": 50,
                **({} if weight == 1.0 else {"generation_weight": weight}), **recipe, **self.train}


def run_record(settings: RunSettings, data: Path) -> dict[str, Any]:
    """What run.json holds: every setting, the data's and the model's hashes, versions, the commit."""
    files = {name: data / f"{name}.jsonl" for name in DATA_FILES if (data / f"{name}.jsonl").is_file()}
    return {
        "model": settings.model, "queries": str(data / "queries.jsonl"), "settings": dataclasses.asdict(settings),
        "evolve": round_settings(settings, data),
        "data_sha256": {name: sha256_file(path) for name, path in files.items()},
        "model_sha256": {p.name: sha256_file(p) for p in sorted(Path(settings.model).glob("*.safetensors"))},
        "versions": versions(), "git_commit": git_commit(),
    }


def round_settings(settings: RunSettings, data: Path) -> dict[str, Any]:
    """What evolve.py needs to repeat a round of this run: fields of evolution.config.RoundConfig."""
    validation = data / "validation.jsonl"
    return {"model": settings.model, "queries": str(data / "queries.jsonl"), "labelled": str(data / "examples.jsonl"),
            "validation": str(validation) if validation.is_file() else "",
            "queries_per_round": settings.queries_per_round,
            "guard": [*settings.guard], "seed": settings.seed, "max_tools_tokens": settings.max_tools_tokens,
            "max_calls_tokens": settings.max_calls_tokens, "probe": settings.probe,
            "train": settings.training("evolve"), **settings.evolve}


def versions() -> dict[str, str]:
    """Python, the run-time packages, and the number of threads: what a byte-for-byte repetition needs."""
    from importlib.metadata import version

    import torch

    names = ("torch", "safetensors", "tokenizers", "sentencepiece", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names},
            "threads": str(torch.get_num_threads()), "machine": platform.machine()}


def git_commit() -> str:
    """The commit of the code, with a + if files differ from it; "unknown" outside a clone."""
    folder = Path(__file__).resolve().parent.parent
    try:
        found = subprocess.run(["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12"],
                               capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"


def refuse_edited(out: Path) -> None:
    """ValueError if a data file of the run in the folder is not as the run wrote it: it would be written again."""
    if (out / "run.json").is_file():
        kept = read_object(out / "run.json", data_sha256=dict).get("data_sha256", {})
        files = {name: out / "data" / f"{name}.jsonl" for name in kept}
        changed = [str(path) for name, path in files.items() if path.is_file() and sha256_file(path) != kept[name]]
        if changed:
            raise ValueError(f"{some(changed)}: changed since the run began; put it back, or give the changed rows to "
                             "another run with its own --out")


def claim(out: Path, record: dict[str, Any]) -> None:
    """Write run.json, or check that the folder's run is this one; a difference is refused by name.

    How far the run goes may change: a finished run takes another round, or another variant, and keeps its steps.
    """
    if not (out / "run.json").is_file():
        write_json(out / "run.json", record)
        return
    refuse_other_settings(out, record)
    kept = read_json(out / "run.json")
    begun, now = kept["versions"], record["versions"]
    for name in EXTENT:
        was, asked = kept["settings"].get(name), json.loads(json.dumps(record["settings"][name]))
        if was != asked:
            print(f"note: {name} of this run was {was}, now {asked}; steps that are complete stay", file=sys.stderr)
            kept["settings"][name] = asked
            write_json(out / "run.json", kept)
    for name in (n for n in now if begun.get(n) != now[n]):
        print(f"note: {name} was {begun.get(name)}, now {now[name]}; results may differ in the last digits",
              file=sys.stderr)


def refuse_other_settings(out: Path, record: dict[str, Any]) -> None:
    """ValueError naming every part of `record` that differs from the run in the folder; paths and versions may."""
    if not (out / "run.json").is_file():
        return
    begun = read_json(out / "run.json")
    if not isinstance(begun, dict) or not isinstance(begun.get("settings"), dict):
        raise ValueError(f"--out {out}: its run.json is not that of a run of ToolDev; choose another folder")
    defaults = {spec.name: spec.default for spec in dataclasses.fields(RunSettings)
                if spec.default is not dataclasses.MISSING}
    begun["settings"] = {**defaults, **begun["settings"]}               # a run older than a setting had its default
    compared = [name for name in ("settings", "data_sha256", "model_sha256") if name in record]
    before, now = (_flat({name: without_pace(source[name]) if name == "settings" else source.get(name)
                          for name in compared}) for source in (begun, record))
    for name in ("model", *EXTENT):             # a path is free: the weights' hashes count; so is how far a run goes
        before[f"settings.{name}"] = now.get(f"settings.{name}")
    refuse_changes(out, before, now, advice="use them again, or another --out")


def without_pace(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run less those of its rounds and its training that only set the pace."""
    return {**settings, "evolve": {name: value for name, value in settings["evolve"].items() if name not in FREE},
            "train": lasting(settings["train"])}


def _flat(record: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(record, dict):
        return {prefix.rstrip("."): list(record) if isinstance(record, tuple) else record}
    return {key: value for name, item in record.items() for key, value in _flat(item, f"{prefix}{name}.").items()}
