"""What a round trains on (Eq. 6): what it accepted, earlier and labelled examples, as rows of both objectives."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.files import sha256_text
from data.schema import Example
from data.tasks import Refused, Row, rows_for_stage
from evolution.config import RoundConfig, stage_seed
from evolution.decide import by_hash
from evolution.inputs import Inputs
from training.config import TrainConfig
from training.prompt import noted_prompt

if TYPE_CHECKING:
    from model.tokenizer import Tokenizer


def signed(example: Example, config: RoundConfig, model_sha: str, tools_text: str,
           distractors: Sequence[str]) -> Example:
    """The example with where it comes from."""
    origin = {"round": config.round, "model_sha": model_sha, "seed": config.seed, **example.provenance,
              "tools_text_sha": sha256_text(tools_text)}
    if distractors:
        origin["distractors"] = list(distractors)
    return dataclasses.replace(example, source="self", provenance=origin)


def training_examples(accepted: list[Example], inputs: Inputs,
                      config: RoundConfig) -> tuple[list[Example], dict[str, int]]:
    """What the round trains on, in an order that depends on ids only, and how much of it comes from where."""
    wanted = round(config.mix * (len(accepted) + len(inputs.earlier)))
    if config.without("data"):
        wanted = len(inputs.labelled)
    mixed = by_hash(inputs.labelled, config.seed, config.round, "mix")[:wanted]
    counts = {"evolved": len(accepted), "accumulated": len(inputs.earlier), "labelled": len(mixed)}
    return [*accepted, *inputs.earlier, *mixed], counts


def training_rows(examples: Sequence[Example], tokenizer: "Tokenizer",
                  train: TrainConfig) -> tuple[list[Row], list[Refused]]:
    """Rows of both objectives, and what is too long for one."""
    from model.chat import encode_chat

    return rows_for_stage("evolve", examples, tokenizer, encode_chat, train.max_length, train.only_called, train.recipe,
                          train.prompt)


def training_settings(config: RoundConfig, start: Path, folder: Path) -> TrainConfig:
    """The settings of the joint training: the run's, over the start adapter's shape and a seed of the round."""
    from lora.adapter import read_config

    shape = read_config(start)
    begin = {"previous": start, "joint": folder.parent / "joint" / "adapter", "base": ""}[config.init]
    ours = {"seed": stage_seed(config.seed, config.round, "train") % 2**31, "rank": shape["r"],
            "alpha": float(shape["lora_alpha"]), "targets": ",".join(shape["target_modules"]),
            "prompt": noted_prompt(start)}
    return TrainConfig(stage="evolve", model=config.model, adapter=str(begin), out=str(folder),
                       data=str(folder / "accepted.jsonl"), **{**ours, **config.train})
