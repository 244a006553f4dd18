"""What an adapter_config.json says: whether it is plain LoRA, and which layers it adapts, as PEFT reads it.

Whatever would change the numbers is refused by name. That is every option that is switched on and not known here to
leave them alone, so that an option of a later PEFT is refused too. Leaves out: weights (adapter.py).
"""

import json
from collections.abc import Iterable
from pathlib import Path

CONFIG = "adapter_config.json"
OFF = (None, False, "", [], {})                     # an option with one of these values is switched off
# Options that leave the numbers of plain LoRA alone, whatever they say; some count only beside one that is refused.
HARMLESS = {"peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
            "inference_mode", "r", "lora_alpha", "lora_dropout", "target_modules", "init_lora_weights", "megatron_core",
            "runtime_config", "qalora_group_size", "ensure_weight_tying"}
# Options that are off though their value is none of OFF.
ALSO_OFF = {"bias": ("none",)}
# Settings of another kind of layer: an empty object means its defaults, switched on.
KINDS = {"kasa_config", "velora_config", "arrow_config", "monteclora_config", "use_bdlora"}
# Starts of A and B that leave the frozen weights as they were. Every other one (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA)
# takes a part out of them, which the adapter's file does not hold. EVA changes no weight, only ranks: rank_pattern.
PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva", "mica")
START_OPTIONS = {"eva": "eva_config"}               # settings of a plain start, which count only while it is made


def read_config(path: Path) -> dict:
    """adapter_config.json of a plain LoRA adapter; `path` is its folder.

    Raises:
        FileNotFoundError: there is no adapter_config.json.
        ValueError: it is not JSON, or has a feature that would change the numbers, which is named.
    """
    file = path / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not found; an adapter is a folder in PEFT's layout{_snapshots(path)}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant,
                            object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not JSON ({error})") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError(f"{file}: peft_type is {config.get('peft_type') if isinstance(config, dict) else config!r}; "
                         "only LORA is read")
    _refuse_changed_base(file, config)
    _refuse_unknown_options(file, config)
    _check_numbers(file, config)
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not targets or not all(isinstance(name, str) and name for name in targets):
        raise ValueError(f"{file}: target_modules must be a list of names, found {str(targets)[:200]!r}; patterns and "
                         "\"all-linear\" are not read: put the names of the adapted layers there")
    return config


def adapted(names: Iterable[str], targets: Iterable[str]) -> list[str]:
    """The module names that PEFT adapts: each equals a target, or ends with a dot and a target."""
    targets = list(targets)
    return [name for name in names if any(name == target or name.endswith(f".{target}") for target in targets)]


def _refuse_changed_base(file: Path, config: dict) -> None:
    start = config.get("init_lora_weights", True)
    named = start.lower() if isinstance(start, str) else start
    if not isinstance(start, (str, bool, type(None))) or named not in PLAIN_STARTS:
        raise ValueError(
            f"{file}: init_lora_weights {start!r} is not supported: such an adapter was trained on a base that its "
            "initialisation had changed, and on the base as published it is another model; convert it to plain LoRA "
            "with PEFT (save_pretrained with path_initial_model_for_weight_conversion), or merge it there")


def _refuse_unknown_options(file: Path, config: dict) -> None:
    made = START_OPTIONS.get(config.get("init_lora_weights"))
    for key, value in config.items():
        off = any(value is one or (value == one and type(value) is type(one)) for one in (*OFF, *ALSO_OFF.get(key, ())))
        if (not off or key in KINDS and value == {}) and key not in HARMLESS and key != made:
            raise ValueError(f"{file}: {key} {str(value)[:200]!r} is not supported: only plain LoRA is read, and this "
                             "option may change its numbers; merge the adapter with PEFT and use the merged checkpoint "
                             "(where the option is known to change nothing, set it to null in a copy of the adapter)")


def _check_numbers(file: Path, config: dict) -> None:
    rank, alpha, dropout = config.get("r"), config.get("lora_alpha"), config.get("lora_dropout")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1 or not _finite(alpha):
        raise ValueError(f"{file}: r must be a whole number above 0 and lora_alpha a number, found {rank!r} and "
                         f"{alpha!r}")
    if dropout is not None and not (_finite(dropout) and 0 <= dropout < 1):
        raise ValueError(f"{file}: lora_dropout must be a number from 0 to below 1, found {dropout!r}")


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**64


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _once(pairs: list[tuple[str, object]]) -> dict:
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"a key stands twice among {', '.join(key for key, _ in pairs)}")
    return dict(pairs)


def _snapshots(path: Path) -> str:
    """Where adapters lie inside a folder of the hub's cache or of a trainer's checkpoints, for an error's end."""
    for pattern, kind in (("snapshots/*", "a folder of the hub's cache"), ("*", "a folder of folders of adapters")):
        if found := [str(file.parent) for file in sorted(path.glob(f"{pattern}/{CONFIG}"))]:
            return f"; this is {kind}, give {' or '.join(found[:3])}{f' ({len(found)} in all)' * (len(found) > 3)}"
    return ""
