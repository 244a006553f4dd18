"""Uncertainty of benchmark scores: intervals, paired tests, seeds, and the words "inside the noise".

Every number here is a proportion or a mean over entries of a test set, on the scale 0..1. The intervals say how much a
score would move on another test set of the same kind; they say nothing about other seeds, which `over_seeds` does.
Leaves out: corrections for many comparisons (print the p-values and count them).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054                       # two-sided 95 % quantile of the normal distribution

# Two-sided 95 % quantiles of Student's t for 1..30 degrees of freedom.
T95 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448,
       2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484,
       2.0452, 2.0423)


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval, all on the scale 0..1 (or in the units of the values given)."""

    value: float
    low: float
    high: float

    def to_dict(self, digits: int = 6) -> dict:
        return {"value": round(self.value, digits), "low": round(self.low, digits), "high": round(self.high, digits)}


@dataclass(frozen=True)
class Comparison:
    """b minus a on the same entries: difference with a 95 % bootstrap interval, McNemar's exact p where it applies."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    only_a: int | None = None                 # entries right in a alone, for right/wrong scores
    only_b: int | None = None

    @property
    def inside_noise(self) -> bool:
        """True unless the interval excludes zero and the test agrees (p < 0.05)."""
        return self.n == 0 or self.low <= 0.0 <= self.high or self.p_value >= 0.05

    def to_dict(self) -> dict:
        record = {"difference": round(self.difference, 6), "low": round(self.low, 6), "high": round(self.high, 6),
                  "p_value": round(self.p_value, 6), "n": self.n, "inside_noise": self.inside_noise}
        if self.only_a is not None:
            record |= {"only_a": self.only_a, "only_b": self.only_b}
        return record


def wilson_interval(k: float, n: float, z: float = Z95) -> tuple[float, float]:
    """(low, high) of Wilson's score interval for k successes of n (Wilson 1927); (0, 1) when n is 0.

    Raises:
        ValueError: k is not within 0..n.
    """
    if not 0 <= k <= n:
        raise ValueError(f"successes must lie within 0..{n}, got {k}; check what was counted")
    if n == 0:
        return 0.0, 1.0
    p, zz = k / n, z * z
    middle = (p + zz / (2 * n)) / (1 + zz / n)
    half = z / (1 + zz / n) * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return (0.0 if k == 0 else middle - half), (1.0 if k == n else middle + half)


def proportion(k: int, n: int) -> Interval:
    """k / n with Wilson's interval; the value of an empty set is 0."""
    low, high = wilson_interval(k, n)
    return Interval(k / n if n else 0.0, low, high)


def percent(interval: Interval) -> dict:
    """An interval on the scale 0..100, two digits, as the tables print it."""
    return {key: round(100 * value, 2) for key, value in
            (("value", interval.value), ("low", interval.low), ("high", interval.high))}


def weighted_interval(parts: Sequence[tuple[float, Interval]]) -> Interval:
    """Interval of sum(weight * value) over independent parts: categories of entries, or abilities.

    MOVER (Zou and Donner 2008, Statistics in Medicine 27:1693), widths added in quadrature: with Wilson limits, unlike
    a bootstrap, it keeps a width when a category is all right or all wrong.
    """
    value = below = above = 0.0
    for weight, part in parts:
        value += weight * part.value
        below += (weight * (part.value - part.low)) ** 2
        above += (weight * (part.high - part.value)) ** 2
    return Interval(value, value - math.sqrt(below), value + math.sqrt(above))


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of per-entry scores within 0..1 with a 95 % interval; an empty list gives 0 with the interval (0, 1).

    Wilson's interval with the effective number of right/wrong entries that has the scores' variance, so it is
    `proportion` for scores of 0 and 1, never leaves 0..1, and keeps a width when all scores are equal.
    """
    n = len(values)
    if n == 0:
        return Interval(0.0, 0.0, 1.0)
    mean = min(1.0, max(0.0, math.fsum(values) / n))
    variance = math.fsum((v - mean) ** 2 for v in values) / n
    effective = n * max(1.0, mean * (1 - mean) / variance) if variance > 1e-12 else n
    low, high = wilson_interval(mean * effective, effective)
    return Interval(mean, min(low, mean), max(high, mean))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> tuple[int, int, float]:
    """(only a right, only b right, exact two-sided p) of McNemar's test on the same entries (McNemar 1947).

    Raises:
        ValueError: the two sequences differ in length.
    """
    _same_length(a, b)
    only_a = sum(1 for x, y in zip(a, b) if x and not y)
    only_b = sum(1 for x, y in zip(a, b) if y and not x)
    return only_a, only_b, _binomial_two_sided(min(only_a, only_b), only_a + only_b)


def paired_bootstrap(a: Sequence[float], b: Sequence[float], seed: int = 0, *,
                     resamples: int = 10_000) -> Comparison:
    """Compare two runs entry by entry: b minus a, percentile interval and p-value over resampled entries.

    Args:
        a, b: per-entry scores of the two runs (True/False or 0..1), in the same order of entries.
        seed: of the resampling; the same seed gives the same numbers.

    Raises:
        ValueError: the sequences differ in length.
    """
    _same_length(a, b)
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(left) == 0:
        return Comparison(0.0, 0.0, 0.0, 1.0, 0)
    delta = right - left
    draws = _resampled_means(delta, resamples, np.random.default_rng(seed))
    low, high = (float(x) for x in np.quantile(draws, [0.025, 0.975]))
    tail = int(min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0)))
    p_value = min(1.0, 2 * (tail + 1) / (resamples + 1))
    binary = bool(np.isin(left, (0, 1)).all() and np.isin(right, (0, 1)).all())
    only_a = only_b = None
    if binary:
        only_a, only_b, p_value = mcnemar(left.astype(bool).tolist(), right.astype(bool).tolist())
    return Comparison(float(delta.mean()), low, high, p_value, len(left), only_a, only_b)


def over_clusters(a: Sequence[float], b: Sequence[float], clusters: Sequence[str], seed: int = 0, *,
                  resamples: int = 10_000) -> dict:
    """b minus a when whole clusters are drawn, not entries: what other clusters (tools, documents) would change, too.

    Returns {"n": clusters, "low", "high"}: the 95 % percentile interval of the mean over the entries of the drawn
    clusters (Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x); None for both where there is one cluster.

    Raises:
        ValueError: the sequences differ in length, or there is no entry.
    """
    _same_length(a, b)
    _same_length(a, clusters)
    if not len(a):
        raise ValueError("no entries to draw clusters of; give at least one")
    names, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    if len(names) == 1:
        return {"n": 1, "low": None, "high": None}
    sums = np.bincount(member, np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64))
    sizes = np.bincount(member)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    low, high = np.quantile(drawn @ sums / (drawn @ sizes), [0.025, 0.975])
    return {"n": len(names), "low": float(low), "high": float(high)}


def over_seeds(values: Sequence[float]) -> dict:
    """Mean, sample standard deviation and 95 % t-interval of one score over seeds; one seed has no interval."""
    n = len(values)
    if n == 0:
        raise ValueError("no values to aggregate over seeds; run at least one seed")
    mean = math.fsum(values) / n
    if n == 1:
        return {"n": 1, "mean": mean, "std": None, "low": None, "high": None, "values": list(values)}
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = (T95[n - 2] if n - 2 < len(T95) else Z95) * std / math.sqrt(n)
    return {"n": n, "mean": mean, "std": std, "low": mean - half, "high": mean + half, "values": list(values)}


def describe(comparison: Comparison, a: str = "a", b: str = "b") -> str:
    """One sentence, in points of 100; a difference that is not distinguishable from noise is called that."""
    if comparison.n == 0:
        return f"{b} against {a}: nothing to compare"
    points = [100 * x for x in (comparison.difference, comparison.low, comparison.high)]
    text = f"{b} minus {a}: {points[0]:+.2f} points [{points[1]:+.2f}, {points[2]:+.2f}], p = {comparison.p_value:.3f}"
    return text + (", inside the noise" if comparison.inside_noise else "")


def _same_length(a: Sequence, b: Sequence) -> None:
    if len(a) != len(b):
        raise ValueError(f"paired comparison needs the same entries: {len(a)} against {len(b)}; "
                         "align the two runs by id")


def _binomial_two_sided(k: int, n: int) -> float:
    """2 * P(X <= k) for X ~ Binomial(n, 1/2), at most 1; sums in logarithms so that n may be large."""
    if n == 0:
        return 1.0
    log_half = n * math.log(0.5)
    tail = math.fsum(math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + log_half)
                     for i in range(k + 1))
    return min(1.0, 2 * tail)


def _resampled_means(delta: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of `resamples` samples with replacement, drawn as counts of the distinct values."""
    values, counts = np.unique(delta, return_counts=True)
    n = len(delta)
    if len(values) == 1:
        return np.full(resamples, values[0])
    means, step = np.empty(resamples), max(1, 4_000_000 // len(values))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        means[start:start + size] = rng.multinomial(n, counts / n, size=size) @ values / n
    return means
