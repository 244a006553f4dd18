"""Tags that the weights cannot tell from other tokens are spelled in ordinary tokens, everywhere alike."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from data.decoding import never_sampled
from model import load_model, load_tokenizer
from model.chat import encode_chat, render
from model.weights import EMBEDDING, HEAD
from tooldev import home

CALL = [{"role": "user", "content": "Leith?"},
        {"role": "assistant", "content": [("tag", "<tool_call>"), ("text", "{}"), ("tag", "</tool_call>")]}]


def with_rows(folder: Path, noise: float = 0.0, head: bool = False) -> Path:
    """The embedded model with one output row for <tool_call>, </tool_call> and <tools>, as untrained tokens have it."""
    shutil.copytree(home("model", "tiny"), folder)
    weights = load_file(folder / "model.safetensors")
    tokenizer = load_tokenizer(folder)
    ids = [tokenizer.control_id(text) for text in ("<tool_call>", "</tool_call>", "<tools>")]
    rows = weights[EMBEDDING].clone()
    drawn = torch.randn(3, rows.shape[1], generator=torch.Generator().manual_seed(0)).to(rows)
    rows[ids] = rows[ids[0]] + noise * drawn * rows[ids[0]].float().norm().to(rows) / drawn.shape[1] ** 0.5
    weights[HEAD if head else EMBEDDING] = rows
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("head", [False, True], ids=["tied", "a head of its own"])
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_tags_with_one_output_row_are_written_in_ordinary_tokens(noise, head, tmp_path):
    before, tokenizer = load_tokenizer(home("model", "tiny")), load_tokenizer(with_rows(tmp_path / "m", noise, head))
    tags = {before.control_id(text) for text in ("<tool_call>", "</tool_call>", "<tools>")}
    ids, labels = encode_chat(CALL, tokenizer)
    assert tags.isdisjoint(ids) and tags <= set(never_sampled(tokenizer)) and tags & set(encode_chat(CALL, before)[0])
    assert tokenizer.decode([i for i in labels if i >= 0]) == "<tool_call>{}</tool_call>"
    assert tags.isdisjoint(render(CALL[:1], tokenizer)[0])
    (note,) = tokenizer.notes
    assert "<tool_call> and </tool_call> and <tools> are tokens that these weights never learnt (2 others" in note


def test_rows_that_differ_are_tokens(tmp_path):
    kept = load_tokenizer(with_rows(tmp_path / "m", noise=0.2))
    assert kept.notes == () and encode_chat(CALL, kept) == encode_chat(CALL, load_tokenizer(home("model", "tiny")))


def test_a_folder_without_weights_or_with_damaged_ones_gives_a_tokenizer(tmp_path):
    """What is wrong with weights is said where they are loaded."""
    folder = with_rows(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(b"cut")
    assert load_tokenizer(folder).notes == ()
    with pytest.raises(ValueError, match="truncated or damaged"):
        load_model(folder)
    (folder / "model.safetensors").unlink()
    assert load_tokenizer(folder).notes == ()
