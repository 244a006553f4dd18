"""The time that is left, from how long answers were and what the passes took."""

from collections import Counter

import pytest

from sampler.progress import Progress, Work, tokens_left
from tests.model_tiny import CONFIGS, tiny_model


def test_tokens_left_are_the_mean_of_what_ended():
    drawn = Counter({2: 1, 4: 1, 6: 2})
    left = tokens_left(drawn, drawn, 100)
    assert left[0] == pytest.approx(4.5) and left[2] == pytest.approx((2 + 4 + 4) / 3)


def test_answers_that_go_on_count_as_longer_than_those_that_ended():
    """Ten of twenty stopped, ten have drawn 8 and go on: far, where none has stopped of late."""
    left = tokens_left(Counter({5: 10}), Counter({5: 10, 8: 10}), 50)
    assert left[0] > 8 and 4.9 < left[8] < 5.1                          # of 50 late tokens 10 were the last
    assert tokens_left(Counter({1: 10}), Counter({1: 10, 8: 10}), 50)[8] == 42
    assert tokens_left(Counter(), Counter(), 50)[0] == 50


def test_time_left_is_right_where_long_prompts_come_first():
    """64 of 640 prompts of 1,600 to 100 tokens are done, four at once, 64 from now on: by work a fifth, by items less.
    """
    cost, progress = Work(tiny_model(CONFIGS["qwen2.5-tied"]).config, 4), Progress(True, 640, 32)
    lengths = [1600 - 1500 * i // 639 for i in range(640)]
    progress.prompts_left = sum(cost.prompt(0, n) for n in lengths)
    for n in lengths[:64]:
        progress.count("prefill", 1e-9 * cost.prompt(0, n), n, cost.prompt(0, n))
        progress.count("decode", 3e-9 * cost.answer(n, 16, 4), 16, cost.answer(n, 16, 4))
        progress.ended(16, stopped=True)
    true = sum(1e-9 * cost.prompt(0, n) + 3e-9 * cost.answer(n, 16, 64) for n in lengths[64:])
    assert progress.left(cost, [], [(n, 1, 64) for n in lengths[64:]]) == pytest.approx(true, rel=0.01)
