"""Hand a trained adapter to other tools: PEFT's adapter folder, or a merged checkpoint in Hugging Face's layout.

The functions that load and save a model are handed in, so that this folder needs no other of ours.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lora.adapter import load_adapter, merge, save_adapter

# What a model folder holds besides weights: copied as it is, so that other tools find what the base has.
COMPANIONS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
              "added_tokens.json", "vocab.json", "merges.txt", "generation_config.json", "chat_template.jinja",
              "chat_template.json")
NAMED_TEMPLATES = "additional_chat_templates/*.jinja"


@dataclass(frozen=True)
class Drift:
    """What merging lost to rounding. `weights`: worst layer, relative to its update; `logits`: largest change."""

    weights: float
    logits: float


def export(model_folder: str | Path, adapter_folder: str | Path, out: str | Path, *,
           load_model: Callable[..., nn.Module], save_model: Callable[..., None] | None = None,
           dtype: torch.dtype = torch.float32, shard_gb: float = 5.0) -> Drift | None:
    """Write `out`: an adapter folder that PEFT loads, or with `save_model` a merged checkpoint that transformers loads.

    Args:
        load_model, save_model: model.load_model and model.save_model.
        dtype: of the merged weights; that of the base's files loses least (bfloat16 for Qwen2.5 and Llama 3).

    Returns:
        The drift of the merge; None where nothing was merged.

    Raises:
        ValueError: `out` is the folder of the model or of the adapter, or the adapter does not fit the model.
    """
    model_folder, out = Path(model_folder), Path(out)
    if out.resolve() in (model_folder.resolve(), Path(adapter_folder).resolve()):
        raise ValueError(f"{out} is where the export comes from; choose another folder")
    model = load_model(model_folder, dtype=dtype)
    load_adapter(model, adapter_folder)
    model.eval()
    if save_model is None:
        save_adapter(model, out, base_model=str(model_folder))
        return None
    probe = torch.arange(16)[None] % model.lm_head.out_features
    with torch.no_grad():
        before = model(probe).float()
        weights = merge(model)
        logits = float((model(probe).float() - before).abs().max())
    save_model(model, out, shard_gb=shard_gb)
    copy_companions(Path(model_folder), Path(out))
    return Drift(weights, logits)


def copy_companions(source: Path, target: Path) -> None:
    """Copy the tokenizer's files, and the like, beside other weights; each aside, then renamed."""
    for path in companions(source):
        file = target / path.relative_to(source)
        file.parent.mkdir(exist_ok=True)
        aside = file.with_name(file.name + ".tmp")
        shutil.copyfile(path, aside)
        os.replace(aside, file)


def companions(folder: Path) -> list[Path]:
    """The files of a model folder that stand beside its weights and its config."""
    named = [folder / name for name in COMPANIONS]
    return [path for path in (*named, *sorted(folder.glob(NAMED_TEMPLATES))) if path.is_file()]
