"""Tags that the weights cannot tell from other tokens, so that no adapter can teach them.

A tokenizer may know tokens that its model's training never met. Their rows of the output matrix are then the same, as
those of the padding behind the vocabulary are: whatever the hidden state, such tokens are equally likely, and LoRA does
not change the matrix. In Qwen2.5-Coder-0.5B-Instruct <tool_call> and </tool_call> have the row of 282 others. A model
that is taught to write them learns to write something else.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TAG = re.compile(r"</?\w+>")                       # such as <tool_call>; control tokens are spelled otherwise
SAME, LENGTHS = 0.999, 0.01                        # cosine and relative difference of length: rows rounded to four bits


def untaught(path: Path, added: Mapping[str, int]) -> dict[str, int]:
    """Tags whose output row other added tokens or padding have, too, and how many have it; nothing without weights.

    Args:
        added: the tokenizer's added tokens and their ids.
    """
    tags = {text: token_id for text, token_id in added.items() if TAG.fullmatch(text)}
    rows = output_rows(path, min(added.values())) if tags else None
    if rows is None:
        return {}
    lengths, found = rows.norm(dim=1), {}
    for text, token_id in tags.items():
        row = token_id - min(added.values())
        if row >= len(rows):
            continue
        cosine = (rows @ rows[row]) / (lengths * lengths[row]).clamp(min=1e-12)
        same = (cosine > SAME) & ((lengths / lengths[row].clamp(min=1e-12) - 1).abs() < LENGTHS)
        if (others := int(same.sum()) - 1) > 0:
            found[text] = others
    return found


def output_rows(path: Path, first: int) -> "Tensor | None":
    """Rows `first` to the end of the matrix that makes logits, (R, hidden) float32; None where it cannot be read.

    What is wrong with the weights is said by load_model.
    """
    from safetensors import SafetensorError, safe_open

    from .weights import EMBEDDING, HEAD, weight_files

    try:
        for name in (HEAD, EMBEDDING):
            for file in weight_files(path):
                with safe_open(file, framework="pt") as shard:
                    if name in shard.keys():        # noqa: SIM118 - no mapping
                        return shard.get_slice(name)[first:].float()
    except (OSError, ValueError, SafetensorError):
        return None
    return None
