"""A real trained checkpoint, stories260K (karpathy/tinyllamas): it goes on telling exactly the published stories."""

import json

import pytest
import torch

from model import load_model, load_tokenizer
from tests.model_tiny import data_folder
from tests.test_model_attention import GrowingCache


@pytest.fixture(scope="module")
def stories():
    folder = data_folder("models", "stories260K")
    return load_model(folder / "hf"), load_tokenizer(folder / "hf"), json.loads((folder / "expected.json").read_text())


def greedy(model, ids: list[int], steps: int, stop: int) -> list[int]:
    """The most likely continuation, `steps` positions in all, as run.c counts them."""
    cache, new = GrowingCache(model.config.num_hidden_layers), ids
    with torch.no_grad():
        while len(ids) <= steps:
            positions = torch.arange(len(ids) - len(new), len(ids))[None]
            best = int(model(torch.tensor([new]), position_ids=positions, cache=cache)[0, -1].argmax())
            if best == stop:
                break
            ids, new = [*ids, best], [best]
    return ids


def test_ids_of_the_tokenizer(stories):
    _, tokenizer, expected = stories
    for row in expected["encode_with_bos"]:
        assert [tokenizer.bos_id, *tokenizer.encode(row["text"])] == row["ids"]


def test_greedy_stories(stories):
    model, tokenizer, expected = stories
    for row in expected["greedy"]:
        prompt = [tokenizer.bos_id, *tokenizer.encode(row["prompt"])]
        assert tokenizer.decode(greedy(model, prompt, row["steps"], tokenizer.bos_id)) == row["text"]
    assert greedy(model, [tokenizer.bos_id], 200, tokenizer.bos_id) == expected["greedy_200_ids"]


def test_logits(stories):
    model, _, expected = stories
    with torch.no_grad():
        logits = model(torch.tensor([expected["greedy_200_ids"]]))[0]
    for position, top in enumerate(expected["top5_logits_of_first_16_positions"]):
        for token, value in top:
            assert abs(float(logits[position, token]) - value) < 1e-4
    torch.testing.assert_close(logits[15], torch.tensor(expected["all_logits_at_position_15"]), rtol=0, atol=1e-4)


def test_the_stories_packed_equal_the_stories_alone(stories):
    model, tokenizer, expected = stories
    rows = [torch.tensor([[tokenizer.bos_id, *tokenizer.encode(row["text"])]]) for row in expected["greedy"]]
    with torch.no_grad():
        packed = model(torch.cat(rows, dim=1), lengths=[row.shape[1] for row in rows])
        alone = torch.cat([model(row) for row in rows], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-6, atol=1e-5)     # logits reach 20 here
