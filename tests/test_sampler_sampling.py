"""The random numbers and the draw, without a model."""

import numpy as np
import pytest
import torch

from sampler.sampling import choose, draw, stream_key, uniforms


def chi_square_z(observed: np.ndarray, probabilities: np.ndarray) -> float:
    """How many standard deviations chi-square lies from its mean (Wilson & Hilferty 1931); bins of 5 or more."""
    expected = probabilities * observed.sum()
    bins = expected >= 5
    observed = np.append(observed[bins], observed[~bins].sum())
    expected = np.append(expected[bins], expected[~bins].sum())
    observed, expected = observed[expected > 0], expected[expected > 0]
    freedom = len(expected) - 1
    chi_square = ((observed - expected) ** 2 / expected).sum()
    return ((chi_square / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5


def exact_distribution(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """The textbook definition, in float64."""
    order = np.argsort(-logits, kind="stable")
    kept = order[: top_k or None]
    weights = np.exp((logits[kept] - logits.max()) / temperature)
    share = weights / weights.sum()
    number = int(np.searchsorted(np.cumsum(share), top_p)) + 1 if top_p < 1 else len(kept)
    result = np.zeros(len(logits))
    result[kept[:number]] = share[:number] / share[:number].sum()
    return result


def test_uniforms_are_the_published_splitmix64_stream():
    """First outputs for the start values 0 and 1234567, as in the Java reference (java.util.SplittableRandom)."""
    expected = {
        0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F],
        1234567: [6457827717110365317, 3203168211198807973, 9817491932198370423],
    }
    for start, outputs in expected.items():
        assert uniforms([start], [0], 3)[0].tolist() == [(output >> 11) * 2.0**-53 for output in outputs]


def test_a_number_depends_on_key_and_step_only():
    keys = [stream_key(0, "a", 0), stream_key(0, "a", 1), 2**64 - 1]
    block = uniforms(keys, [0, 5, 9], 8)
    for row, (key, first) in enumerate(zip(keys, [0, 5, 9])):
        for i in range(8):
            assert uniforms([key], [first + i])[0, 0] == block[row, i]


def test_streams_of_different_seeds_items_and_samples_differ():
    names = [
        (seed, item, sample) for seed in (0, 1) for item in (0, 1, 11, "0", "1", "a|1", "a") for sample in range(12)
    ]
    assert len({stream_key(*name) for name in names}) == len(names)


@pytest.mark.parametrize("temperature,top_k,top_p", [(1.0, 10, 1.0), (0.7, 0, 1.0), (1.3, 40, 0.8), (1.0, 0, 0.9)])
def test_a_million_draws_follow_the_exact_distribution(temperature, top_k, top_p):
    logits = torch.from_numpy(np.random.RandomState(1).standard_normal(120).astype(np.float32) * 2)
    counts = np.zeros(120)
    for item in range(50):  # 50 items x 20 samples x 1,000 steps
        keys = [stream_key(7, item, sample) for sample in range(20)]
        u = torch.from_numpy(uniforms(keys, [0] * 20, 1000).ravel())
        tokens, _ = choose(logits.expand(len(u), -1), u, temperature=temperature, top_k=top_k, top_p=top_p)
        counts += np.bincount(tokens.numpy(), minlength=120)
    exact = exact_distribution(logits.double().numpy(), temperature, top_k, top_p)
    assert counts.sum() == 1_000_000 and counts[exact == 0].sum() == 0
    assert abs(chi_square_z(counts, exact)) < 4


def test_a_million_draws_from_a_large_vocabulary_follow_the_exact_distribution():
    weights = torch.from_numpy(np.random.RandomState(2).pareto(1.0, 3000).astype(np.float32))
    weights[torch.arange(0, 3000, 7)] = 0.0
    counts = np.zeros(3000)
    for item in range(100):
        u = torch.from_numpy(uniforms([stream_key(3, item, 0)], [0], 10_000)[0])
        counts += np.bincount(draw(weights.expand(len(u), -1), u).numpy(), minlength=3000)
    assert counts[::7].sum() == 0
    assert abs(chi_square_z(counts, weights.double().numpy() / weights.double().sum().item())) < 4


def test_neighbouring_steps_samples_and_items_are_independent():
    """Pairs of numbers, 16 x 16 cells: each cell equally likely."""
    u = np.stack(
        [uniforms([stream_key(5, item, sample) for sample in range(20)], [0] * 20, 100) for item in range(200)]
    )
    cell = (u * 16).astype(int)  # (item, sample, step)
    for a, b in ((cell[:, :, :-1], cell[:, :, 1:]), (cell[:, :-1], cell[:, 1:]), (cell[:-1], cell[1:])):
        counts = np.bincount((a * 16 + b).ravel(), minlength=256)
        assert abs(chi_square_z(counts, np.full(256, 1 / 256))) < 4


@pytest.mark.parametrize("size", [5, 1024, 1025, 5000, 5120])
def test_draw_is_the_inverse_of_the_cumulative_sum_at_any_size(size):
    """Against a plain loop over float64 sums, the ends of the range included; weightless tokens never come."""
    weights = torch.from_numpy(np.random.RandomState(size).random_sample((8, size)).astype(np.float32))
    weights[weights < 0.3] = 0.0
    weights[3, 10:] = 0.0  # nothing behind the tenth
    weights[4, :-1], weights[4, -1] = 0.0, 1.0  # all at the end
    u = torch.tensor([0.0, 1 - 2.0**-53, 0.5, 1 - 2.0**-53, 0.25, 1e-9, 0.9999999, 0.125], dtype=torch.float64)
    for row, got in enumerate(draw(weights, u).tolist()):
        w = weights[row].double().numpy()
        edges = np.cumsum(w)
        expected = min(int(np.searchsorted(edges, float(u[row]) * edges[-1], side="right")), int(np.nonzero(w)[0][-1]))
        assert w[got] > 0
        assert got == expected or abs(edges[min(got, expected)] / edges[-1] - float(u[row])) < 1e-6


def test_logprob_is_the_models_own_whatever_the_limits():
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    u = torch.linspace(0, 0.99, 6, dtype=torch.float64)
    for limits in ({"temperature": 0.0}, {"temperature": 0.5, "top_k": 3}, {"temperature": 2.0, "top_p": 0.5}):
        tokens, logprobs = choose(logits, u, **limits)
        torch.testing.assert_close(logprobs, logits.log_softmax(-1)[torch.arange(6), tokens])


def test_top_k_one_and_a_tiny_top_p_are_greedy():
    logits = torch.randn(40, 3000, generator=torch.Generator().manual_seed(0))
    u = torch.rand(40, dtype=torch.float64)
    for limits in ({"top_k": 1}, {"top_p": 1e-6}):
        assert choose(logits, u, temperature=1.0, **limits)[0].equal(logits.argmax(-1))


def test_forbidden_tokens_are_never_drawn_even_if_top_k_reaches_them():
    logits = torch.zeros(2000, 8)
    logits[:, 3:] = -torch.inf
    u = torch.from_numpy(uniforms([1], [0], 2000)[0])
    assert set(choose(logits, u, temperature=1.0, top_k=6)[0].tolist()) == {0, 1, 2}
