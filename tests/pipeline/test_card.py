"""The model card of an export: what the run and the base's folder say, and nothing that they do not."""

import dataclasses
import json
from pathlib import Path

import pytest

import tooldev
from data.files import write_json, write_jsonl
from data.schema import read_json
from pipeline.card import model_card
from pipeline.evaluate import fingerprint
from pipeline.licence import licence_of
from tests.report_run import make_run
from training.config import TrainConfig


def card(base: Path, adapter: Path, **more) -> str:
    return model_card(base, adapter, **{"name": "mine", "base_name": "", "merged": False} | more)


def test_a_card_holds_scores_with_intervals_settings_and_licences_of_the_run(tmp_path):
    run = make_run(tmp_path / "r_n", steps=("raw", "adaption", "joint", "round-1"))
    write_jsonl(run / "data" / "examples.jsonl", [{"id": "a", "license": "Apache-2.0"}, {"id": "b"}])
    write_json(run / "round-1" / "bench" / "bfcl" / "summary.json", {"benchmark": "bfcl", "scores": {
        "overall": {"value": 41.25, "low": 39.0, "high": 43.5}, "none": None}})
    write_json(run / "raw" / "bench" / "bfcl-native" / "summary.json", {
        "benchmark": "bfcl", "subset": {"entries": 600, "of": 3951}, "scores": {
            "overall": {"value": 7.0, "low": 6.0, "high": 8.0}}})
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text('---\nlicense: "llama3.1"\n---\n# Base\n')
    text = card(base, run / "round-1" / "adapter", base_name="org/base")
    summary = read_json(run / "round-1" / "eval" / "summary.json")["all"]
    low, high = 100 * summary["low"], 100 * summary["high"]
    assert f"| round 1 | exact match, 210 items | all | {100 * summary['value']:.1f} [{low:.1f}, {high:.1f}] |" in text
    assert "| raw | exact match, 210 items | all |" in text
    assert "| round 1 | bfcl | overall | 41.25 [39.00, 43.50] |" in text
    assert "| raw | bfcl, a subset of 600 entries, by its own tool prompt | overall | 7.00 [6.00, 8.00] |" in text
    assert "# Round 1 of r\\_n" in text and "| learning rate | 0.001 | 0.0001 |" in text
    assert "- The base, org/base: llama3.1." in text and "- Labelled examples, Apache-2.0: 1." in text
    assert "- Labelled examples, not stated: 1." in text
    head = text.split("---\n")[1].splitlines()
    facts = {key: json.loads(value) for key, value in (line.split(": ", 1) for line in head)}
    assert facts["base_model"] == "org/base" and facts["library_name"] == "peft" and facts["license"] == "llama3.1"


def test_what_no_run_says_is_called_not_recorded(tmp_path):
    base = tmp_path / "some[base]"
    base.mkdir()
    text = card(base, tmp_path / "elsewhere" / "adapter", merged=True, drift="Merged in float32.")
    assert "Scores: not recorded." in text and "Data and settings: not recorded." in text
    assert "license:" not in text and "not stated in its folder" in text and "some\\[base\\]" in text
    assert "Merged in float32." in text and "has no chat template" in text and "vllm serve ./mine" in text


def test_a_card_names_no_local_path_and_says_what_to_replace(tmp_path):
    base = tmp_path / "SmolLM2"
    base.mkdir()
    text = card(base, tmp_path / "elsewhere" / "adapter")
    assert str(tmp_path) not in text and "from_pretrained('SmolLM2')" in text and "vllm serve SmolLM2 " in text
    assert "`SmolLM2` below is the name of the base's folder" in text and "`--base-name`" in text
    named = card(base, tmp_path / "elsewhere" / "adapter", base_name="org/base")
    assert "from_pretrained('org/base')" in named and "below is the name of" not in named


def test_the_settings_of_train_py_are_read_beside_its_adapter(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "joint" / "adapter"
    base.mkdir()
    config = TrainConfig(stage="invocation", model=str(base), data=str(tmp_path / "rows_of.jsonl"), rank=4, out="x")
    write_json(tmp_path / "joint" / "config.json", dataclasses.asdict(config) | {
        "rows_sha256": "ab" * 32, "data_sha256": "cd" * 32})
    write_json(tmp_path / "joint" / "DONE.json", {"steps": 12, "tokens": 34_000})
    text = card(base, adapter)
    assert "Data and settings: not recorded" not in text and str(tmp_path) not in text
    for line in ("| stage | invocation |", "| rank | 4 |", "| data | rows\\_of.jsonl |", "| seed | 0 |",
                 f"- sha256 of the rows: `{'ab' * 32}`", f"- sha256 of the data file: `{'cd' * 32}`",
                 "- tokens: 34,000"):
        assert line in text, line
    assert "| threads |" not in text and "| validation |" not in text
    write_json(tmp_path / "joint" / "config.json", {"model_type": "llama"})        # a model's, not a run's
    assert "Data and settings: not recorded" in card(base, adapter)


APACHE = "\n          Apache License\n     Version 2.0, January 2004\n"


@pytest.mark.parametrize("text, name", [
    (APACHE, "apache-2.0"), ("MIT License\n\nCopyright (c) 2024 A", "mit"),
    ("The MIT License (MIT)\nCopyright (c) 2024 A", "mit"), ("MIT No Attribution\n\nCopyright 2024 A", ""),
    ("META LLAMA 3 COMMUNITY LICENSE AGREEMENT\nMeta", "llama3"), ("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT", "llama3.1"),
    ("Llama 3.2 Community License Agreement", "llama3.2"), ("Qwen RESEARCH LICENSE AGREEMENT\n", ""), ("", "")])
def test_a_licence_file_gives_the_name_that_hubs_use_or_none(tmp_path, text, name):
    (tmp_path / "LICENSE").write_text(text)
    assert licence_of(tmp_path).hub_id == name
    found = card(tmp_path, tmp_path / "a" / "adapter")
    assert (f'license: "{name}"' in found) is bool(name) and ("have no `license`" in found) is not bool(name)
    if text.startswith("Qwen"):
        assert "begins with \u201cQwen RESEARCH LICENSE AGREEMENT\u201d" in found


def test_the_projects_own_licence_is_known():
    assert licence_of(tooldev.home()).hub_id == "apache-2.0"


def scored(folder: Path, weights: dict, value: float) -> Path:
    write_json(folder / "summary.json", {"benchmark": "bfcl", "scores": {
        "overall": {"value": value, "low": value - 1, "high": value + 1}}})
    write_jsonl(folder / "generation" / "completions-0.jsonl", [{"settings": {"model": weights}}])
    return folder


def test_folders_of_eval_are_told_apart_by_the_weights_that_answered(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "run" / "joint" / "adapter"
    for folder, words in ((base, "base"), (adapter, "adapter")):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(words)
    before = scored(tmp_path / "raw", fingerprint(str(base), None), 10.0)
    after = scored(tmp_path / "evolved", fingerprint(str(base), adapter), 20.0)
    text = card(base, adapter, scored=[after, before])
    assert "| raw | bfcl | overall | 10.00 [9.00, 11.00] |" in text
    assert "| mine | bfcl | overall | 20.00 [19.00, 21.00] |" in text and "Scores: not recorded" not in text
    other = scored(tmp_path / "other", {"a/model.safetensors": "00"}, 99.0)
    with pytest.raises(ValueError, match=r"--scores .*other: the answers there are of other weights \(a/model"):
        card(base, adapter, scored=[other])
    with pytest.raises(FileNotFoundError, match="--scores .*none: no summary.json"):
        card(base, adapter, scored=[tmp_path / "none"])
