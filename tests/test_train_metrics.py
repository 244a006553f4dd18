"""Copies of metrics.jsonl for other programs: the table after a restart, and events that TensorBoard reads."""

import json
import sys

import pytest

from training.metrics import COLUMNS, Metrics


def record(step: int, **more) -> dict:
    told = dict.fromkeys(COLUMNS[1:-1], float(step))
    return told | {"step": step, "loss": None if step == 2 else step / 4} | more


def written(out, steps, first: int = 0, **more) -> None:
    metrics = Metrics(out, first)
    for step in steps:
        metrics.add(record(step, **more))
    metrics.close()


def test_the_table_says_after_a_restart_what_the_records_say(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    written(tmp_path, [1, 2, 3, 4])
    written(tmp_path, [3], first=2, validation_loss=0.5)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS) and [line.split(",")[:2] for line in lines[1:]] == [
        ["1", "0.25"], ["2", ""], ["3", "0.75"]]
    assert lines[3].endswith(",0.5") and lines[2].endswith(",")
    kept = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert kept == [1, 2, 3] and not (tmp_path / "tensorboard").exists()


@pytest.mark.reference
def test_tensorboard_reads_the_events_of_a_run_that_was_restarted(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    written(tmp_path, [1, 2, 3, 4])
    written(tmp_path, [3], first=2, validation_loss=0.5)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("train/loss")] == [(1, 0.25), (3, 0.75)]
    assert [(one.step, one.value) for one in events.Scalars("train/validation_loss")] == [(3, 0.5)]
    assert {f"train/{name}" for name in COLUMNS[1:]} == set(events.Tags()["scalars"])
