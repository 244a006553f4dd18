"""`run --config F.json`: the settings that a run saved, as defaults of another one's flags.

F is a run.json, or its part "settings" alone. Paths to data are not among them: those are flags.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from data.schema import read_json
from evolution.config import RoundConfig
from evolution.flags import named_values
from pipeline.settings import PRESETS, RunSettings
from tooldev import nearest
from training.config import TrainConfig

# settings with a flag of their own, whose default they become; the others count as sizes of the preset
FLAGS = ("model", "preset", "seed", "rounds", "variants", "queries_per_round", "rank", "alpha", "precision", "guard")
INSIDE = {"evolve": RoundConfig, "train": TrainConfig}


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
    fields = {field.name: field for field in dataclasses.fields(RunSettings)}
    for name, value in settings.items():
        if name not in fields:
            raise ValueError(f"--config {path}: no setting {name!r}{nearest(name, fields)}")
        settings[name] = _typed(value, fields[name], f"--config {path}: {name}")
    if settings["preset"] not in PRESETS:
        raise ValueError(f"--config {path}: preset {settings['preset']!r}; expected one of {', '.join(PRESETS)}")
    inside = {name: settings.get(name, {}) for name in INSIDE}
    stop = {"stop_when": bool(inside["evolve"].pop("stop_when", False))}
    for name, kind in INSIDE.items():
        inside[name] = named_values([f"{key}={value}" for key, value in inside[name].items()], kind, (),
                                    f"--config {path}: {name}")
    return {**{name: settings[name] for name in FLAGS if name in settings}, **stop, "saved": {**settings, **inside}}


def sizes(saved: dict[str, Any], preset: str) -> dict[str, Any]:
    """What counts of saved settings beside the flags; nothing of the sizes where another preset was asked for."""
    inside = {name: saved.get(name, {}) for name in INSIDE}
    kept = {name: value for name, value in saved.items() if name not in (*FLAGS, *INSIDE)}
    return {**(kept if saved.get("preset") == preset else {}), **inside}


def _typed(value: Any, field: dataclasses.Field, where: str) -> Any:
    """The value in the type of the setting."""
    default = dict() if field.default is dataclasses.MISSING and field.name in INSIDE else field.default
    kinds: dict[type, tuple[type, ...]] = {tuple: (list,), float: (int, float), int: (int,), bool: (bool,),
                                           str: (str,), dict: (dict,)}
    expected: type = {"model": str, "preset": str, "seed": int}.get(field.name) or type(default)
    if not isinstance(value, kinds[expected]) or isinstance(value, bool) != (expected is bool):
        raise ValueError(f"{where} is {value!r:.80}; expected {expected.__name__}")
    make: Callable[[Any], Any] = expected
    return make(value)
