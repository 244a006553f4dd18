"""One forward pass, however its tokens are laid out: packed, batched, cached, checkpointed, in half precision."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import transformer
from model.attention import Pack
from model.monitor import OverflowMonitor
from model.ops import apply_rope, attend
from model.transformer import rope_angles
from sampler import kv_cache
from sampler.kv_cache import KVCache, Piece
from tests.model_tiny import CONFIGS, next_token_loss, tiny_model, token_ids

ATOL = 1e-5                                         # float32, sums in another order, logits of standard deviation 1
VARIANTS = ["llama-3.1", "qwen2.5-tied", "qwen2-window", "mistral-window"]


class GrowingCache:
    """The simplest object of the cache protocol: keeps every key and value, masks by hand, softmax written out."""

    def __init__(self, layers: int) -> None:
        self.layers = [SimpleNamespace(attend=self.attend_of({})) for _ in range(layers)]

    @staticmethod
    def attend_of(kept: dict):
        def attend_cached(q, k, v, scale, window):
            kept["k"] = torch.cat([kept["k"], k], dim=2) if kept else k
            kept["v"] = torch.cat([kept["v"], v], dim=2) if "v" in kept else v
            k, v = (kept[name].repeat_interleave(q.shape[1] // kept[name].shape[1], dim=1) for name in "kv")
            S, T = q.shape[2], k.shape[2]
            distance = torch.arange(T - S, T)[:, None] - torch.arange(T)
            seen = (distance >= 0) & (distance < (window or T))
            scores = (q @ k.transpose(2, 3) * scale).masked_fill(~seen, -torch.inf)
            return scores.softmax(dim=-1) @ v
        return attend_cached


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("lengths", [[96], [5, 60, 1, 30], [24, 24, 24, 24], [1, 2, 3, 90], [70, 26]])
def test_packed_equals_separate(name, lengths):
    model, ids = tiny_model(CONFIGS[name]), token_ids(1, 96)
    with torch.no_grad():
        packed = model(ids, lengths=lengths)
        separate = torch.cat([model(part) for part in ids.split(lengths, dim=1)], dim=1)
    torch.testing.assert_close(packed, separate, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", VARIANTS)
def test_packed_gradients_equal_separate_ones(name):
    lengths, ids = [40, 7, 33, 16], token_ids(1, 96)
    packed, separate = tiny_model(CONFIGS[name]), tiny_model(CONFIGS[name])
    packed(ids, lengths=lengths).square().sum().backward()
    for part in ids.split(lengths, dim=1):
        separate(part).square().sum().backward()
    for (parameter, one), other in zip(packed.named_parameters(), separate.parameters()):
        assert (one.grad - other.grad).norm() <= 1e-5 * other.grad.norm(), parameter


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("prefill", [1, 40, 95])
def test_cached_equals_uncached(name, prefill):
    model, ids = tiny_model(CONFIGS[name]), token_ids(2, 96)
    cache, positions = GrowingCache(model.config.num_hidden_layers), torch.arange(96).expand(2, 96)
    steps = [slice(0, prefill), *(slice(i, i + 1) for i in range(prefill, 96))]
    with torch.no_grad():
        cached = torch.cat([model(ids[:, s], position_ids=positions[:, s], cache=cache) for s in steps], dim=1)
        torch.testing.assert_close(cached, model(ids), rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("entries", [1, 1 << 20])
def test_the_samplers_cache_equals_no_cache(name, entries, monkeypatch):
    """Three prompts prefilled as one row, one of them in two pieces, then decoded for 40 steps, in one block of slots
    or one each.

    One of the samples begins ten steps after the others.
    """
    monkeypatch.setattr(kv_cache, "ENTRIES", entries)
    model, ids, lengths = tiny_model(CONFIGS[name]), token_ids(3, 96), torch.tensor([50, 7, 33])
    cache = KVCache(model.config, slots=3, width=2, prefix_length=50, suffix_length=40, dtype=torch.float32,
                    device=torch.device("cpu"))
    with torch.no_grad():
        whole = model(ids)
        for pieces in ([Piece(0, 0, 20), Piece(1, 0, 7), Piece(2, 0, 33)], [Piece(0, 20, 30)]):
            slots = torch.cat([torch.full((piece.length,), piece.slot) for piece in pieces])
            positions = torch.cat([torch.arange(piece.start, piece.start + piece.length) for piece in pieces])
            cache.begin_prefill(pieces)
            prefilled = model(ids[slots, positions][None], position_ids=positions[None], cache=cache)
            torch.testing.assert_close(prefilled[0], whole[slots, positions], rtol=0, atol=ATOL)
        for step in range(40):
            # the slot between is free at first
            rows = torch.tensor([0, 2] if step < 10 else [0, 1, 2])
            cache.set_rows([((0, 1), (1, 0), (2, 1))[row] for row in rows])
            stored = torch.where(rows == 1, step - 10, step)
            positions = lengths[rows] + stored
            cache.begin_decode(stored, stored.tolist())
            assert len(cache.blocks) == (1 if entries > 1 else len(rows))
            decoded = model(ids[rows, positions][:, None], position_ids=positions[:, None], cache=cache)
            torch.testing.assert_close(decoded[:, 0], whole[rows, positions], rtol=0, atol=ATOL)


def test_the_layouts_agree_to_the_last_digits_in_float64():
    """So the differences in float32 are rounding and nothing else."""
    model, ids, lengths = tiny_model(CONFIGS["qwen2-window"]).double(), token_ids(1, 96), [50, 6, 40]
    cache, positions = GrowingCache(model.config.num_hidden_layers), torch.arange(96)[None]
    with torch.no_grad():
        whole = model(ids)
        steps = [model(ids[:, [i]], position_ids=positions[:, [i]], cache=cache) for i in range(96)]
        cached, packed = torch.cat(steps, dim=1), model(ids, lengths=lengths)
        separate = torch.cat([model(part) for part in ids.split(lengths, dim=1)], dim=1)
    torch.testing.assert_close(cached, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(packed, separate, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_batched_equals_single(name):
    """Shorter rows are filled up on the right, and the filling reaches none of their tokens."""
    model, lengths = tiny_model(CONFIGS[name]), [96, 33, 1]
    ids = token_ids(3, 96)
    with torch.no_grad():
        batched = model(ids)
        for row, length in enumerate(lengths):
            single = model(ids[row:row + 1, :length])
            torch.testing.assert_close(batched[row:row + 1, :length], single, rtol=0, atol=ATOL)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_pack_finds_every_token_once(lengths):
    pack = Pack(lengths, torch.device("cpu"))
    joined = torch.cat([group.flatten() for group in pack.groups])
    assert torch.equal(joined[pack.back], torch.arange(sum(lengths)))
    assert joined.numel() <= 1.1 * sum(lengths)
    assert pack.position_ids.tolist() == [[i for n in lengths for i in range(n)]]


def test_no_gradient_crosses_a_pack():
    model = tiny_model(CONFIGS["qwen2-window"])
    embedded = []
    model.model.embed_tokens.register_forward_hook(lambda _module, _inputs, output: embedded.append(output))
    hidden = model.hidden_states(token_ids(1, 96), lengths=[30, 50, 16])
    (reached,) = torch.autograd.grad(hidden[0, 40].sum(), embedded[-1])
    assert reached[0].abs().sum(dim=-1).nonzero().flatten().tolist() == list(range(30, 41))


@pytest.mark.parametrize("arguments", [
    {"lengths": [50, 40]}, {"lengths": [96, 0]}, {"lengths": []}, {"lengths": [96], "cache": object()},
    {"cache": object()}])
def test_a_layout_that_does_not_fit_is_refused(arguments):
    with pytest.raises(ValueError, match="pack is one row|position_ids"):
        tiny_model(CONFIGS["llama-3.1"])(token_ids(1, 96), **arguments)


def test_lengths_with_two_rows_are_refused():
    with pytest.raises(ValueError, match="got 2 rows"):
        tiny_model(CONFIGS["llama-3.1"])(token_ids(2, 96), lengths=[96])


@pytest.mark.parametrize("every", [1, 2])
def test_checkpointing_changes_no_gradient(every):
    plain, checkpointed = (tiny_model(CONFIGS["qwen2.5-untied"]) for _ in range(2))
    ids = token_ids(1, 96)
    checkpointed.checkpoint_every = every
    for model in (plain, checkpointed):
        next_token_loss(model.train()(ids, lengths=[50, 46]), ids).backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters()):
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 8])
def test_scores_beyond_the_largest_float16_are_survived(dtype, window):
    generator = torch.Generator().manual_seed(0)
    q, k = (300 * torch.randn(1, 4, 32, 16, generator=generator) for _ in range(2))
    v = torch.randn(1, 4, 32, 16, generator=generator)
    q, k, v = (x.to(dtype) for x in (q, k, v))
    assert (q.float() @ k.float().transpose(2, 3)).abs().max() > 1e5
    exact = attend(q.float(), k.float(), v.float(), 0.25, window)
    for pack in (None, Pack([32], torch.device("cpu"))):
        y = attend(q, k, v, 0.25, window, pack)
        torch.testing.assert_close(y.float(), exact, rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 8])
def test_decoding_over_large_scores_is_as_exact_as_one_pass(dtype, window):
    """Keys and queries share a direction, as large biases make them: all scores lie around 2,800, 1 or so apart."""
    generator, heads = torch.Generator().manual_seed(0), SimpleNamespace(num_key_value_heads=2, head_dim=64,
                                                                         num_hidden_layers=1)
    q, k, v = (torch.randn(1, n, 40, 64, generator=generator) for n in (4, 2, 2))
    q, k, v = (q + 150 / 8).to(dtype), (k + 150 / 8).to(dtype), v.to(dtype)
    exact = attend(q.double(), k.double(), v.double(), 0.125, window)[:, :, -1:]
    cache = KVCache(heads, slots=1, width=1, prefix_length=39, suffix_length=1, dtype=dtype, device=torch.device("cpu"))
    cache.begin_prefill([Piece(0, 0, 39)])
    cache.layers[0].attend(q[:, :, :39], k[:, :, :39], v[:, :, :39], 0.125, window)
    cache.set_rows([(0, 0)])
    cache.begin_decode(torch.zeros(1, dtype=torch.int64), [0])
    decoded = cache.layers[0].attend(q[:, :, 39:], k[:, :, 39:], v[:, :, 39:], 0.125, window)
    torch.testing.assert_close(decoded.double(), exact, rtol=0, atol=4 * torch.finfo(dtype).eps)


def test_biases_as_large_as_qwens_in_float16_give_what_float32_attention_gives(monkeypatch):
    """Query and key biases of several hundred push scores past 65504; attention in float32 is the yardstick."""
    model, ids = tiny_model(CONFIGS["qwen2.5-untied"]).half(), token_ids(1, 96)
    largest = []

    def in_float32(q, k, v, scale, window, pack):
        largest.append(float((q.float() @ k.float().repeat_interleave(2, dim=1).transpose(2, 3)).abs().max()))
        return attend(q.float(), k.float(), v.float(), scale, window, pack).half()

    with torch.no_grad():
        for block in model.model.layers:
            for projection in (block.self_attn.q_proj, block.self_attn.k_proj):
                projection.bias.mul_(400)
        logits = model(ids)
        monkeypatch.setattr(transformer, "attend", in_float32)
        assert (logits.float() - model(ids).float()).square().mean().sqrt() < 0.02
    assert max(largest) > 65504 and torch.isfinite(logits).all()


def test_positions_turn_queries_and_keys_in_float32_at_any_length():
    """In half precision an angle of 100,000 radians would be off by whole turns; float32 keeps the relative one."""
    config = tiny_model(CONFIGS["llama-3.1"]).config
    x = torch.randn(1, 1, 1, config.head_dim, generator=torch.Generator().manual_seed(1))
    near = [apply_rope(x, rope_angles(config, torch.tensor([[p]]))) for p in (0, 7)]
    far = [apply_rope(x, rope_angles(config, torch.tensor([[p]]))) for p in (100_000, 100_007)]
    assert abs((near[0] * near[1]).sum() - (far[0] * far[1]).sum()) < 0.05


def test_the_monitor_names_the_first_module_that_overflows():
    model, ids = tiny_model(CONFIGS["qwen2.5-untied"]).to(torch.float16), token_ids(1, 96)
    with torch.no_grad(), OverflowMonitor(model) as monitor:
        model(ids)
    assert monitor.first is None
    model.model.layers[1].mlp.up_proj.weight.data.mul_(3e4)
    with torch.no_grad(), OverflowMonitor(model) as monitor:
        assert not torch.isfinite(model(ids)).all()
    assert monitor.first.module == "model.layers.1.mlp.up_proj"
    assert "model.layers.1.mlp.up_proj" in str(monitor.first) and monitor.first.bad_values > 0
    assert not any(module._forward_hooks for module in model.modules())
