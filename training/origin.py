"""Which base an adapter was trained on: a few of its weights, kept beside the adapter, compared where it is loaded.

An adapter loads on every base of equal shape and is right on one. The weights are sampled as values, not hashed: so
another type or other shards of the same base are the same, and a requantised copy can be told from another model.
"""

import json
import math
import os
import re
from pathlib import Path
from statistics import median

from data.files import write_json
from data.schema import read_json

FILE = "trained_on.json"
VALUES = 8              # of each tensor
ROUNDING = 0.005        # relative; bfloat16 rounds by 2**-8 at most
RELATED = 0.5           # distance over norm: 2-bit quantisation moves weights by some 0.3, independent ones are 1 apart
MOST_BYTES = 1_000_000
HUB_CACHE = re.compile(r"models--.+?--(.+)")
SIZED = re.compile(r"\d+(\.\d+)?[bm]")                      # "0.5b": only the name of a model says its size
PACKING = {"unsloth", "bnb", "gguf", "gptq", "awq", "hf", "bf16", "fp16", "4bit", "8bit", "int4", "int8"}


# ---------------------------------------------------------------------------------------------------- beside an adapter

def noted(model: str | Path) -> dict[str, str]:
    """The sampled weights of a base as a file keeps them; {} where no folder holds that base."""
    if not model or not any(Path(model).glob("*.safetensors")):         # Path("") would be the working folder
        return {}
    return {name: " ".join(f"{value:.6g}" for value in values) for name, values in sample(Path(model)).items()}


def note_base(adapter: Path, weights: dict[str, str]) -> None:
    """Write beside an adapter which base it was trained on, where that is known."""
    if weights:
        write_json(adapter / FILE, {"weights": weights})


def same_base(before: dict[str, str], now: dict[str, str]) -> bool:
    """Whether two notes may be of one base, in any type; one that is empty says nothing."""
    one, other = ({name: [float(value) for value in text.split()] for name, text in note.items()}
                  for note in (before, now))
    return not one or not other or distance(one, other) == 0


def sample(folder: Path) -> dict[str, list[float]]:
    """A few values of every weight in the first, the middle and the last block of a model folder, by name."""
    from safetensors import safe_open

    from model import ModelConfig
    from model.weights import read_header, weight_files

    last = ModelConfig.load(folder).num_hidden_layers - 1
    blocks = tuple(f"model.layers.{i}." for i in (0, last // 2, last))
    found = {}
    for file in weight_files(folder):
        names = [name for name in read_header(file) if name.startswith(blocks)]
        with safe_open(file, framework="pt") as shard:
            for name in names:
                part = shard.get_slice(name)
                rows, *columns = part.get_shape()
                row = (part[rows // 2:rows // 2 + 1] if columns else part[:]).flatten().tolist()
                found[name] = [row[len(row) * i // VALUES] for i in range(VALUES if row else 0)]
    return dict(sorted(found.items()))


def read_note(file: Path) -> dict[str, list[float]]:
    """The sampled weights that were noted; ValueError for a file that does not hold them."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError("is too large")
        weights = {name: [float(value) for value in text.split()] for name, text in read_json(file)["weights"].items()}
        if not weights or not all(map(math.isfinite, (value for values in weights.values() for value in values))):
            raise ValueError("holds no weights, or such as are no numbers")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: damaged ({error}); copy it again, or remove it: nothing then says which base the "
                         "adapter was trained on") from error
    return weights


# ------------------------------------------------------------------------------------------------------------- compared

def check_base(model: str | Path, adapter: Path) -> str:
    """A line where the adapter was trained on other weights than this model's, though related ones; "" if all is well.

    Raises:
        ValueError: it was trained on another base, or the note of its base is damaged.
    """
    folder, file, named = Path(model), adapter / FILE, named_base(adapter)
    if not file.is_file():
        return unnoted(folder, adapter, named)
    apart = distance(read_note(file), sample(folder))
    if apart == 0:
        return ""
    if apart >= RELATED:
        how = "weights have other names or sizes" if apart == math.inf else (
            f"sampled weights differ by {apart:.0%} of their norm")
        raise ValueError(f"{file}: the adapter was trained on another base{f' ({named})' * bool(named)} than {folder}: "
                         f"{how}; give the base that it was trained on (to put the two together all the same, remove "
                         "this file from a copy of the adapter)")
    return f"WARNING: {adapter}: {differs(apart, named)}"


def distance(before: dict[str, list[float]], now: dict[str, list[float]]) -> float:
    """How far apart two samples are: 0 for the same weights in any type, else the median over matrices of |a-b| / |a|.

    Infinite where they are not of one shape. Above 0, too, where not half of the matrices differ.
    """
    if {name: len(values) for name, values in before.items()} != {name: len(values) for name, values in now.items()}:
        return math.inf
    if all(abs(a - b) <= ROUNDING * max(abs(a), abs(b)) + 1e-7
           for name in before for a, b in zip(before[name], now[name], strict=True)):
        return 0.0
    parts = [math.dist(before[name], now[name]) / max(math.hypot(*before[name]), 1e-12)
             for name in before if name.endswith("_proj.weight")]
    return max(median(parts), 1e-9) if parts else math.inf


def differs(apart: float, named: str) -> str:
    share = f"{apart:.1%}" if apart >= 0.001 else "less than 0.1%"
    return (f"trained on related, but other weights{f' ({named})' * bool(named)}: sampled ones differ by {share} of "
            "their norm. A requantised or further trained base may do; a base that the adapter is merged into already "
            "must not get it again")


# ------------------------------------------------------------------------------------------------------- without a note

def named_base(adapter: Path) -> str:
    """What adapter_config.json calls the base; "" where it does not say."""
    try:
        named = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return named if isinstance(named, str) else ""


def unnoted(folder: Path, adapter: Path, named: str) -> str:
    """What an adapter of PEFT, or of an earlier version, lets say of its base: its folder here, or its name."""
    own = Path(named)
    if named and os.path.isdir(own) and any(own.glob("*.safetensors")) and not own.samefile(folder):
        try:
            apart = distance(sample(own), sample(folder))
        except (ValueError, OSError):
            return ""                                       # that folder is no matter of this command
        return "" if apart == 0 else f"WARNING: {adapter}: {differs(apart, named)}" if apart < RELATED else (
            f"WARNING: {adapter}: trained on another base: its adapter_config.json names {named}, whose weights are "
            "other ones")
    here = hub_name(folder)
    words, own_words = name_words(here), name_words(own.name)
    if SIZED.search(here.lower()) and SIZED.search(own.name.lower()) and words - own_words:
        return (f"WARNING: {adapter}: its adapter_config.json names {named[:200]} as the base, and this folder is "
                f"called {here}; an adapter fits every model of equal shape, but is right on its own base alone")
    return ""


def hub_name(folder: Path) -> str:
    """The name of a model by its folder: that of the hub where the folder lies in the hub's cache."""
    for part in reversed(folder.absolute().parts):
        if found := HUB_CACHE.fullmatch(part):
            return found[1]
    return folder.resolve().name


def name_words(name: str) -> set[str]:
    """The words of a model's name, less those that say how it is packed."""
    return set(re.split(r"[-_\s]+", name.lower())) - PACKING - {""}
