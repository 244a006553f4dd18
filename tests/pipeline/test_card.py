"""The model card of an export: what the run and the base's folder say, and nothing that they do not."""

import json
from pathlib import Path

from data.files import write_json, write_jsonl
from data.schema import read_json
from pipeline.card import model_card
from tests.report_run import make_run


def card(base: Path, adapter: Path, **more) -> str:
    return model_card(base, adapter, **{"name": "mine", "base_name": "", "merged": False} | more)


def test_a_card_holds_scores_with_intervals_settings_and_licences_of_the_run(tmp_path):
    run = make_run(tmp_path / "r_n", steps=("raw", "adaption", "joint", "round-1"))
    write_jsonl(run / "data" / "examples.jsonl", [{"id": "a", "license": "Apache-2.0"}, {"id": "b"}])
    write_json(run / "round-1" / "bfcl" / "summary.json", {"benchmark": "bfcl", "scores": {
        "overall": {"value": 41.25, "low": 39.0, "high": 43.5}, "none": None}})
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text('---\nlicense: "llama3.1"\n---\n# Base\n')
    text = card(base, run / "round-1" / "adapter", base_name="org/base")
    summary = read_json(run / "round-1" / "eval" / "summary.json")["all"]
    low, high = 100 * summary["low"], 100 * summary["high"]
    assert f"| round 1 | exact match, 210 items | all | {100 * summary['value']:.1f} [{low:.1f}, {high:.1f}] |" in text
    assert "| raw | exact match, 210 items | all |" in text
    assert "| round 1 | bfcl | overall | 41.25 [39.00, 43.50] |" in text
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
