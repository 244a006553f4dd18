"""The plan of a run: what it counts is what the stages then train on."""

import json
from types import SimpleNamespace

import pytest
from model_tokenizers import chatml_folder

from model.tokenizer import load_tokenizer
from pipeline.estimate import _lengths, _step
from pipeline.settings import RunSettings
from training.config import TrainConfig
from training.rows import load_rows

COUNT = 40


def tool(name: str, words: int) -> dict:
    return {"name": name, "description": "Depth of the sea, " * words, "arguments": {
        "type": "dict", "properties": {"at": {"type": "number", "description": "Where."}}, "required": ["at"]}}


@pytest.fixture
def folder(tmp_path):
    """Every fourth example has a document too long for a row, every eighth no call."""
    rows = [{"id": str(i), "query": f"How deep is it at {i}?", "tools": [tool(f"sonar_{i}", 400 if i % 4 == 1 else 2)],
             "calls": [] if i % 8 == 0 else [{"name": f"sonar_{i}", "arguments": {"at": i}}]} for i in range(COUNT)]
    (tmp_path / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tools.jsonl").write_text("".join(json.dumps(row["tools"][0]) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize("train", [{}, {"too_long": "truncate"}])
@pytest.mark.parametrize("stage", ["adaption", "invocation", "joint"])
def test_the_plan_counts_the_rows_that_the_stage_makes(folder, tmp_path, stage, train):
    model = chatml_folder(tmp_path / "m")
    settings = RunSettings.from_preset("small", model=str(model), seed=0, max_length=3000, labelled_epochs=1.0,
                                       irrelevance=0.5, train=train)
    run = SimpleNamespace(settings=settings, data=folder, tokenizer=load_tokenizer(model))
    lengths = _lengths(run, [stage])
    facts, tokens = _step(settings, SimpleNamespace(stage=stage, round=0), {"tools": COUNT, "examples": COUNT}, lengths)
    wanted = settings.training(stage)
    source = folder / ("tools.jsonl" if stage == "adaption" else "examples.jsonl")
    rows = load_rows(stage, str(source), run.tokenizer, max_length=3000,
                     recipe=TrainConfig(stage=stage, **wanted).recipe,
                     too_long=wanted.get("too_long", "refuse"))
    assert facts.startswith(f"{len(rows)} rows x 1,")
    assert tokens["trained"] == pytest.approx(sum(len(row.ids) for row in rows))


def test_a_plan_of_rows_that_are_all_too_long_says_so(folder, tmp_path):
    model = chatml_folder(tmp_path / "m")
    settings = RunSettings.from_preset("small", model=str(model), seed=0, max_length=16)
    run = SimpleNamespace(settings=settings, data=folder, tokenizer=load_tokenizer(model))
    with pytest.raises(ValueError, match="fits --max-length 16; raise it"):
        _lengths(run, ["joint"])
