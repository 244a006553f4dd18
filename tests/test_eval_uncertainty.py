"""Intervals and paired tests: known values, coverage, symmetry."""

import json
import math
import random

import pytest

from eval.uncertainty import (
    Comparison,
    describe,
    mcnemar,
    mean_interval,
    over_clusters,
    over_seeds,
    paired_bootstrap,
    proportion,
    weighted_interval,
    wilson_interval,
)


def test_wilson_matches_published_values():
    low, high = wilson_interval(15, 148)  # Newcombe 1998, Statistics in Medicine 17:857, table I method 3
    assert (round(low, 4), round(high, 4)) == (0.0624, 0.1605)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 20)[0] == 0.0 and wilson_interval(20, 20)[1] == 1.0
    with pytest.raises(ValueError, match="within 0..3"):
        wilson_interval(4, 3)


def test_wilson_covers_the_truth_about_95_percent_of_the_time():
    rng = random.Random(0)
    hits = 0
    for _ in range(2000):
        low, high = wilson_interval(sum(rng.random() < 0.8 for _ in range(60)), 60)
        hits += low <= 0.8 <= high
    assert 0.93 < hits / 2000 < 0.97


def test_weighted_interval_of_one_category_is_wilson_and_of_two_is_narrower():
    one = weighted_interval([(1.0, proportion(30, 40))])
    assert (one.low, one.high) == pytest.approx(wilson_interval(30, 40))
    two = weighted_interval([(0.5, proportion(30, 40))] * 2)
    assert two.value == one.value and two.high - two.low < one.high - one.low


def test_mcnemar_is_exact_binomial_over_the_disagreements():
    a, b = [True] * 8 + [False] * 2 + [True] * 90, [False] * 8 + [True] * 2 + [True] * 90
    assert mcnemar(a, b) == (8, 2, pytest.approx(0.109375))  # 2 * (1 + 10 + 45) / 1024
    assert mcnemar([True], [True]) == (0, 0, 1.0)
    with pytest.raises(ValueError, match="same entries"):
        mcnemar([True], [])


def test_bootstrap_repeats_flips_sign_and_calls_noise_noise():
    rng = random.Random(1)
    a = [rng.random() < 0.7 for _ in range(800)]
    b = [x if rng.random() < 0.98 else not x for x in a]
    first, again, flipped = paired_bootstrap(a, b, 3), paired_bootstrap(a, b, 3), paired_bootstrap(b, a, 3)
    assert first == again and flipped.difference == -first.difference
    assert first.inside_noise and "inside the noise" in describe(first)
    better = paired_bootstrap(a, [True] * 800, 3)
    assert not better.inside_noise and better.low > 0 and "noise" not in describe(better)
    assert paired_bootstrap([], [], 0) == Comparison(0.0, 0.0, 0.0, 1.0, 0)


def test_a_comparison_of_scores_between_0_and_1_is_written_as_json():
    """T-Eval's are such; a number of NumPy's in it ended a report after all the work was done."""
    found = paired_bootstrap([0.0] * 20, [0.5, 0.25] * 10)
    assert not found.inside_noise and json.loads(json.dumps(found.to_dict()))["p_value"] < 0.01
    assert type(found.p_value) is float


def test_entries_of_one_cluster_count_once():
    rng = random.Random(2)
    a, alone = [False] * 400, [str(i) for i in range(400)]
    b = [rng.random() < 0.5 for _ in range(400)]
    entries, items = over_clusters(a, b, alone), paired_bootstrap(a, b)
    assert entries["n"] == 400 and (entries["low"], entries["high"]) == (
        pytest.approx(items.low, abs=0.01),
        pytest.approx(items.high, abs=0.01),
    )
    whole = [i % 20 < 10 for i in range(400)]  # the entries of a cluster agree: 20 clusters, not 400 entries
    clustered, expected = over_clusters(a, whole, [str(i % 20) for i in range(400)]), 1.96 * math.sqrt(0.25 / 20)
    assert clustered["n"] == 20 and clustered["high"] - clustered["low"] == pytest.approx(2 * expected, rel=0.15)
    one, uneven = (
        over_clusters([0, 0], [1, 1], ["x", "x"]),
        over_clusters([0] * 10, [1] * 9 + [0], ["big"] * 9 + ["small"]),
    )
    assert (one["low"], one["high"]) == (None, None) and (uneven["low"], uneven["high"]) == (0.0, 1.0)
    with pytest.raises(ValueError, match="same entries"):
        over_clusters([1], [1], [])
    with pytest.raises(ValueError, match="no entries"):
        over_clusters([], [], [])


def test_seeds_and_means():
    seeds = over_seeds([80.0, 82.0, 84.0])
    assert seeds["mean"] == 82.0 and seeds["std"] == 2.0
    assert seeds["high"] - 82.0 == pytest.approx(4.3027 * 2 / 3**0.5)
    assert over_seeds([80.0])["low"] is None
    for values in ([0.0] * 9, [1.0] * 9, [0, 0, 1, 1, 1], [1] + [0] * 552):  # right or wrong: as a proportion
        assert mean_interval(values).to_dict() == proportion(round(sum(values)), len(values)).to_dict()
    graded, whole = mean_interval([0.4, 0.6] * 20), mean_interval([0.0, 1.0] * 20)
    assert (
        whole.low < graded.low < graded.value == 0.5 < graded.high < whole.high
        and graded.high - graded.low == pytest.approx(0.062, abs=0.001)
    )
    assert 0 < mean_interval([0.5] * 9).low < 0.5 and mean_interval([0.99999] * 50).high <= 1
    with pytest.raises(ValueError, match="no values"):
        over_seeds([])
