"""Several processes and kills: their files together equal what one process would have drawn."""

import json
import signal
import time
from pathlib import Path

import pytest
import torch
from processes import Job

from sampler import generate, generate_share, place_in_world, read_shares
from tests.model_tiny import CONFIGS, tiny_model
from tests.test_sampler_engine import make_prompts
from tooldev import one_line

PROMPTS, IDS = make_prompts(24, seed=12), [f"q{i}" for i in range(24)]
OPTIONS = {"num_samples": 3, "max_new_tokens": 12, "temperature": 1.0, "seed": 4, "eos_ids": (5,)}

WORKER = """
import sys, time
import torch
from sampler import generate_share, place_in_world
from tests.test_sampler_shards import IDS, OPTIONS, PROMPTS, tiny
torch.set_num_threads(1)
dist_rank, world_size = place_in_world()
generate_share(tiny(), PROMPTS, sys.argv[1], item_ids=IDS, dist_rank=dist_rank, world_size=world_size,
               on_item=lambda index, completions: time.sleep(float(sys.argv[2])), max_rows=6, **OPTIONS)
"""


def tiny() -> torch.nn.Module:
    return tiny_model(CONFIGS["qwen2.5-tied"])


def tokens(items) -> dict:
    return {item: [(c.ids, c.finish_reason) for c in completions] for item, completions in items.items()}


@pytest.fixture(scope="module")
def whole():
    return tokens(dict(zip(IDS, generate(tiny(), PROMPTS, item_ids=IDS, **OPTIONS))))


def start(folder: Path, dist_rank: int, world_size: int, pause: float = 0.0) -> Job:
    return Job(WORKER, str(folder), str(pause), RANK=str(dist_rank), WORLD_SIZE=str(world_size))


def test_two_processes_one_killed_and_a_restart_with_another_world_size(tmp_path, whole):
    """What three processes finish after one of two was killed equals one uninterrupted process; files are kept."""
    workers = [start(tmp_path, 0, 2), start(tmp_path, 1, 2, pause=0.2)]
    file = tmp_path / "completions-1.jsonl"
    deadline = time.monotonic() + 240
    while not (file.exists() and file.read_bytes().count(b"\n") >= 4):
        assert time.monotonic() < deadline and workers[1].poll() is None
        time.sleep(0.02)
    workers[1].send_signal(signal.SIGKILL)
    assert workers[0].wait() == 0 and workers[1].wait() != 0
    before = read_shares(tmp_path)
    assert 12 + 3 <= len(before) < 24
    with open(file, "ab") as torn:
        torn.write(b'{"item_id": "q1", "compl')  # as a power cut may leave it
    model = tiny()
    for dist_rank in range(3):
        generate_share(model, PROMPTS, tmp_path, item_ids=IDS, dist_rank=dist_rank, world_size=3, **OPTIONS)
    after = read_shares(tmp_path)
    assert tokens(after) == whole
    assert all(after[item] == completions for item, completions in before.items())
    assert sum(path.read_bytes().count(b"\n") - 1 for path in tmp_path.iterdir()) == 24  # nothing was drawn twice


def test_other_settings_are_refused_by_name_and_the_same_do_nothing_again(tmp_path):
    model, place = tiny(), {"dist_rank": 0, "world_size": 1}
    assert generate_share(model, PROMPTS[:4], tmp_path, item_ids=IDS[:4], **place, **OPTIONS) == 4
    content = (tmp_path / "completions-0.jsonl").read_bytes()
    assert generate_share(model, PROMPTS[:4], tmp_path, item_ids=IDS[:4], **place, **OPTIONS) == 0
    assert (tmp_path / "completions-0.jsonl").read_bytes() == content
    with pytest.raises(ValueError, match="seed was 4, now 5"):
        generate_share(model, PROMPTS[:4], tmp_path, item_ids=IDS[:4], **place, **(OPTIONS | {"seed": 5}))
    with pytest.raises(ValueError, match="item .* by another prompt"):
        generate_share(model, PROMPTS[1:5], tmp_path, item_ids=IDS[:4], **place, **OPTIONS)
    with pytest.raises(ValueError, match="item .* is not asked now"):
        generate_share(model, PROMPTS[:3], tmp_path, item_ids=IDS[:3], **place, **OPTIONS)
    with pytest.raises(ValueError, match="model"):
        generate_share(model, PROMPTS[:4], tmp_path, item_ids=IDS[:4], about={"model": "other"}, **place, **OPTIONS)


def test_further_items_are_drawn_beside_those_that_are_there(tmp_path):
    model, place = tiny(), {"dist_rank": 0, "world_size": 1}
    for name in ("grown", "once"):
        (tmp_path / name).mkdir()
    for size, drawn in ((3, 3), (5, 2), (8, 3)):
        assert generate_share(model, PROMPTS[:size], tmp_path / "grown", item_ids=IDS[:size], **place,
                              **OPTIONS) == drawn
    generate_share(model, PROMPTS[:8], tmp_path / "once", item_ids=IDS[:8], **place, **OPTIONS)
    assert tokens(read_shares(tmp_path / "grown")) == tokens(read_shares(tmp_path / "once"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_with_the_file_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("sampler.shards.append_to", lambda path: open("/dev/full", "a"))
    with pytest.raises(OSError) as error:
        generate_share(tiny(), PROMPTS[:2], tmp_path, item_ids=IDS[:2], dist_rank=0, world_size=1, **OPTIONS)
    told = one_line(error.value)
    assert told.startswith(f"{tmp_path / 'completions-0.jsonl'}: No space left on device; make room on the disk")


def test_a_line_of_something_else_is_reported_with_its_place(tmp_path):
    (tmp_path / "completions-0.jsonl").write_text(json.dumps({"settings": {}}) + "\n[1]\n")
    with pytest.raises(ValueError, match=r"completions-0\.jsonl, line 2"):
        read_shares(tmp_path)


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert place_in_world() == (0, 1)
