"""`run --config F.json`: the settings that a run saved, as defaults of another one's flags.

F is a run.json, or its part "settings" alone. Paths to data are not among them: those are flags.
"""

from typing import Any

from data.augment import RECIPE
from data.schema import read_json
from evolution.config import RoundConfig
from pipeline.settings import PRESETS, RunSettings
from training.config import TrainConfig, settings_of

# settings with a flag of their own, whose default they become; the others count as sizes of the preset
FLAGS = ("model", "preset", "seed", "rounds", "variants", "queries_per_round", "rank", "alpha", "precision", "guard")
# Settings of a round and of training that have an option of `run`, or that follow from the run.
OF_ROUND = ("run", "round", "model", "queries", "labelled", "validation", "guard", "queries_per_round", "seed", "train",
            "probe", "max_tools_tokens", "max_calls_tokens", "stop_when")
OF_TRAINING = ("stage", "model", "adapter", "data", "validation", "out", "learning_rate", "global_batch_size", "epochs",
               "max_length", "micro_batch_tokens", "rank", "alpha", "precision", "seed", "shard", "plan_only", "prompt",
               *RECIPE)
KEPT = ("stop_when", "prompt", "shard")                         # of these, what a run keeps among its own all the same
INSIDE = {"evolve": (RoundConfig, OF_ROUND), "train": (TrainConfig, OF_TRAINING)}


def saved_settings(path: str) -> dict[str, Any]:
    """Defaults for the flags of `run`, and under "saved" what has no flag to be a default of.

    Raises:
        FileNotFoundError, ValueError: no such file, no settings of a run in it, or a setting that is not known or not
            of its type.
    """
    record = read_json(path)
    settings = record.get("settings", record) if isinstance(record, dict) else None
    if not isinstance(settings, dict) or "preset" not in settings:
        raise ValueError(f"--config {path}: no settings of a run in it; expected a run.json, as in runs/demo")
    settings = settings_of(settings, RunSettings, f"--config {path}")
    if settings["preset"] not in PRESETS:
        raise ValueError(f"--config {path}: preset {settings['preset']!r}; expected one of {', '.join(PRESETS)}")
    inside = {name: settings_of(settings.get(name, {}), kind, f"--config {path}: {name}", {*taken} - {*KEPT})
              for name, (kind, taken) in INSIDE.items()}
    stop = {"stop_when": inside["evolve"].pop("stop_when", False)}
    return {**{name: settings[name] for name in FLAGS if name in settings}, **stop, "saved": {**settings, **inside}}


def sizes(saved: dict[str, Any], preset: str) -> dict[str, Any]:
    """What counts of saved settings beside the flags; nothing of the sizes where another preset was asked for."""
    inside = {name: saved.get(name, {}) for name in INSIDE}
    kept = {name: value for name, value in saved.items() if name not in (*FLAGS, *INSIDE)}
    return {**(kept if saved.get("preset") == preset else {}), **inside}
