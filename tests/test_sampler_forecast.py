"""The time that is left: how long answers get, what passes take, and the schedule played forward."""

from collections import Counter

import numpy as np
import pytest
import torch

import sampler.engine
from sampler.engine import Engine
from sampler.forecast import Pace, Waiting, Work, forecast, lengths, survival
from sampler.options import Options
from sampler.progress import Progress
from tests.model_tiny import CONFIGS, tiny_model


def mean_length(share: np.ndarray, drawn: int = 0) -> float:
    """Of a sample that has drawn so many: the sum of what share[t] says for t from there on."""
    return drawn + share[drawn:].sum() / share[drawn]


def test_many_answers_that_ended_say_how_long_the_next_will_be():
    drawn = Counter({2: 100, 4: 100, 6: 200})
    assert mean_length(survival(drawn, drawn, 100)) == pytest.approx(4.5, rel=0.05)


def test_answers_that_go_on_count_as_longer_than_those_that_ended():
    """Ten of twenty stopped after 5, ten have drawn 8 and go on."""
    ended = mean_length(survival(Counter({5: 10}), Counter({5: 10}), 50))
    both = survival(Counter({5: 10}), Counter({5: 10, 8: 10}), 50)
    assert mean_length(both) > ended + 3 and mean_length(both, 8) > 12


def test_before_the_first_answer_ends_it_may_have_any_order_of_magnitude():
    """Neither one token nor as many as it may have; and the more it has, the more it will."""
    share = survival(Counter(), Counter(), 512)
    assert mean_length(share) == pytest.approx((512 - 8) / np.log(512 / 8), rel=0.05)
    going = survival(Counter(), Counter({100: 60}), 512)
    assert mean_length(going, 100) > 2 * mean_length(share)
    assert survival(Counter(), Counter(), 3).tolist() == [1, 1, 1, 0]
    assert share[0] == 1 and share[-1] == 0 and (np.diff(share) <= 0).all()


def test_rows_that_all_go_on_are_expected_to_go_on():
    """Prose to the limit: 5 of 37 have stopped within 60 tokens, 32 have drawn 60 of 256 and go on."""
    ended = Counter({5: 2, 20: 2, 28: 1})
    going = survival(ended, ended + Counter({60: 32}), 256)
    assert mean_length(going, 60) > 200
    late = Counter({n: 3 for n in range(40, 61)})
    assert mean_length(survival(late, late + Counter({60: 3}), 256), 60) < 100


def test_lengths_follow_the_shares_and_exceed_what_is_drawn():
    share = survival(Counter({10: 50, 20: 50}), Counter({10: 50, 20: 50}), 40)
    drawn = lengths(share, np.zeros(400, dtype=int))
    assert 0.45 < np.mean([n <= 10 for n in drawn]) < 0.55 and np.mean([n <= 20 for n in drawn]) > 0.95
    assert lengths(share, np.array([0, 12, 39, 40]))[1:] == [20, 40, 40] and max(drawn) <= 40


def test_time_left_is_right_where_long_prompts_come_first():
    """64 of 640 prompts of 1,600 to 100 tokens are done, four at once, 64 from now on: by work a fifth, by items less.
    """
    work, pace = Work(tiny_model(CONFIGS["qwen2.5-tied"]).config, 4), Pace()
    prompts = [1600 - 1500 * i // 639 for i in range(640)]
    for n in prompts[:64]:
        pace.prefilled(1e-9 * work.prompt(0, n), work.prompt(0, n))
        pace.decoded(3e-9 * work.decode(4, 16, 16 * n).sum(), work.decode(4, 16, 16 * n))
    share = survival(Counter({16: 10**6}), Counter({16: 10**6}), 32)
    waiting = [Waiting(n, 1, work.prompt(0, n)) for n in prompts[64:]]
    true = sum(1e-9 * work.prompt(0, n) + 3e-9 * work.decode(15 / 64, 15, 15 * n + 128).sum() for n in prompts[64:])
    assert forecast(work, pace, share, [], waiting, lambda longest: 64) == pytest.approx(true, rel=0.02)


def test_the_first_token_of_an_answer_needs_no_pass():
    """It is drawn from the logits behind the prompt: answers of one token take the time of their prompts alone."""
    work, pace, ended = Work(tiny_model(CONFIGS["qwen2.5-tied"]).config, 4), Pace(), Counter({1: 10**6})
    pace.prefilled(1.0, 1e6)
    pace.decoded(1.0, work.decode(1, 4, 400))
    waiting = [Waiting(100, 2, 1e6)] * 5
    assert forecast(work, pace, survival(ended, ended, 8), [], waiting, lambda longest: 4) == pytest.approx(5.0)


def test_nothing_is_said_before_the_first_pass():
    work = Work(tiny_model(CONFIGS["qwen2.5-tied"]).config, 4)
    assert forecast(work, Pace(), survival(Counter(), Counter(), 8), [], [Waiting(3, 1, 10.0)], lambda n: 1) is None


def test_causes_of_a_pass_are_told_apart():
    """Passes of 4 and of 64 rows, of which one part is five times as dear as the first guess says, another free."""
    work, pace, draw = Work(tiny_model(CONFIGS["qwen2.5-tied"]).config, 4), Pace(), np.random.default_rng(0)
    true = np.array([5e-9, 1e-9, 0.2e-9])
    for _ in range(200):
        rows = int(draw.choice([4, 64]))
        parts = work.decode(1, rows, rows * int(draw.integers(100, 1000)))
        pace.decoded(float(parts @ true), parts)
    few, many = work.decode(1, 2, 3000), work.decode(1, 100, 100_000)
    assert few @ pace.decode() == pytest.approx(few @ true, rel=0.15)
    assert many @ pace.decode() == pytest.approx(many @ true, rel=0.15)


TRUE = (0.080, 0.002, 2e-6)     # seconds: a pass, a row in it, a stored token that it reads


def play(model, prompts, answers, rows, guess_after=60.0):
    """Sample with a clock that knows what passes take; returns (forecast plus elapsed, seconds in all), the forecast
    being the first after `guess_after` seconds."""
    clock, said = [0.0], []

    class Timed(Engine):
        def most_tokens(self, row):
            return answers[row.item.index]

        def end(self, row, reason):
            super().end(row, "stop")

        def prefill(self):
            super().prefill()
            look(self)

        def decode(self):
            super().decode()
            look(self)

    def look(engine):
        if clock[0] >= guess_after and not said:
            said.append(clock[0] + engine.seconds_left())

    def timed(function, seconds):
        """The passes of the engine, after each of which the clock goes on."""
        def run(*args):
            before = engine.stats.prefill_tokens
            result = function(*args)
            clock[0] += seconds(engine.stats.prefill_tokens - before)
            return result
        return run

    def decoded(_):
        return np.array([1, len(engine.rows), sum(len(row.item.prompt) + len(row.ids) for row in engine.rows)]) @ TRUE

    width = model.config.hidden_size
    model.hidden_states = lambda ids, positions, cache: torch.zeros(*ids.shape, width)  # any tokens do
    real = sampler.engine.time.perf_counter
    sampler.engine.time.perf_counter = lambda: clock[0]
    try:
        engine = Timed(model, prompts, Options(max_new_tokens=512, max_rows=rows, prefill_chunk=256))
        engine.passes.prefill = timed(engine.passes.prefill, lambda tokens: 0.01 * tokens)
        engine.passes.decode = timed(engine.passes.decode, decoded)
        engine.run()
    finally:
        sampler.engine.time.perf_counter = real
        del model.hidden_states
    return said[0], clock[0]


@pytest.mark.parametrize("rows", [8, 32])
def test_forecast_is_right_within_a_third_after_a_minute(rows):
    """120 prompts of 20 to 300 tokens, answers of 5 to 60 tokens and some of 200, on a machine whose passes take other
    shares of the time than the first guess says."""
    draw = np.random.default_rng(0)
    model = tiny_model(CONFIGS["qwen2.5-tied"])
    prompts = [draw.integers(5, 60, n).tolist() for n in draw.integers(20, 300, 120)]
    answers = [200 if draw.random() < 0.05 else int(n) for n in draw.integers(5, 60, 120)]
    said, true = play(model, prompts, answers, rows)
    assert true > 200 and said == pytest.approx(true, rel=0.3)


def test_forecasts_take_a_fiftieth_of_the_time_at_most(monkeypatch, capsys):
    """One of 500,000 samples takes 1.5 s, and a line was due every second."""
    clock = [100.0]
    monkeypatch.setattr("sampler.progress.time.monotonic", lambda: clock[0])
    progress, spent = Progress(True, 500_000), 0.0

    def forecast_of_many() -> float:
        nonlocal spent
        clock[0] += 1.5
        spent += 1.5
        return 4000.0

    while clock[0] < 700:
        clock[0] += 0.1
        if progress.due():
            progress.show(8, 8, forecast_of_many)
    assert 3 <= spent <= 0.03 * 600 and "eta 01:06:40" in capsys.readouterr().err
