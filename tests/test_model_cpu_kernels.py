"""The hand-written backward passes against autograd through the plain expressions."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from train_toys import toy_model

import training.loss as loss_module
from lora import apply_lora
from model import cpu_kernels, ops
from model.attention import Gathered, Scattered
from model.cpu_kernels import CausalAttention, RMSNormed, Rotated, SwiGLU, causal_attention, keep_attention
from model.ops import apply_rope, rms_norm
from training.loss import chunked_cross_entropy


def both(mine, plain, *inputs: torch.Tensor, seed: int = 0):
    """Outputs and gradients of two functions of the same inputs."""
    results = []
    for function in (mine, plain):
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        y = function(*leaves)
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(y.dtype)
        results.append((y, *torch.autograd.grad(y, leaves, dy)))
    return zip(*results, strict=True)


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_norm_swiglu_and_rope_have_autograds_gradient_in_pieces_of_any_size(rows, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(cpu_kernels, "PIECE", 256)
    x, weight = torch.randn(1, rows, 24, dtype=torch.float64), torch.rand(24, dtype=torch.float64)
    for a, b in both(*(lambda x, w, f=f: f(x, w, 1e-6) for f in (RMSNormed.apply, RMSNormed.plain)), x, weight):
        torch.testing.assert_close(a, b)
    for a, b in both(SwiGLU.apply, SwiGLU.plain, x, torch.randn_like(x)):
        torch.testing.assert_close(a, b)
    angles, x = torch.randn(1, 1, rows, 4, dtype=torch.float64), torch.randn(1, 3, rows, 8, dtype=torch.float64)
    for a, b in both(*(lambda x, f=f: f(x, angles.cos(), angles.sin()) for f in (Rotated.apply, Rotated.plain)), x):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("shape", [(1, 2, 1, 8), (2, 3, 64, 16), (2, 2, 65, 8), (1, 2, 200, 32)])
def test_attention_in_bfloat16_is_as_close_to_float64_as_pytorchs(shape):
    torch.manual_seed(0)
    scale = shape[-1] ** -0.5
    q, k, v = (torch.randn(shape, dtype=torch.bfloat16) for _ in range(3))

    def sdpa(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)

    exact = [pair[0] for pair in both(sdpa, sdpa, q.double(), k.double(), v.double())]
    for name, (mine, theirs), truth in zip("y q k v".split(),
                                           both(lambda q, k, v: CausalAttention.apply(q, k, v, scale),
                                                                  sdpa, q, k, v), exact, strict=True):
        error, reference = ((x.double() - truth).norm() / truth.norm().clamp_min(1e-3) for x in (mine, theirs))
        assert error <= 2 * reference + 4e-3, name          # bfloat16 rounds to 4e-3


def test_attention_gradients_survive_large_scores():
    torch.manual_seed(0)
    q, k, v = (20 * torch.randn(1, 2, 100, 16, dtype=torch.bfloat16) for _ in range(3))
    exact = both(*[lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.25)] * 2,
                 q.double(), k.double(), v.double())
    mine = both(*[lambda q, k, v: CausalAttention.apply(q, k, v, 0.25)] * 2, q, k, v)
    for (found, _), (truth, _) in zip(mine, exact, strict=True):
        assert torch.isfinite(found).all()
        assert (found.double() - truth).norm() <= 0.05 * truth.norm()


def test_a_result_that_is_kept_is_used_once_and_in_order():
    one, two = (torch.randn(1, 1, n, 8, dtype=torch.bfloat16) for n in (5, 9))
    first_pass, recomputation = keep_attention()
    with first_pass:
        kept = [CausalAttention.apply(x, x, x, 1.0) for x in (one, two)]
    assert len(recomputation.results) == 2
    with recomputation:
        again = [CausalAttention.apply(x, x, x, 1.0) for x in (0 * one, 0 * two)]       # taken, not computed
        assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True)) and not recomputation.results
        assert torch.equal(CausalAttention.apply(one, one, one, 1.0), kept[0]) and not recomputation.results
    CausalAttention.apply(one, one, one, 1.0)
    assert not first_pass.results


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_and_inference_agree(dtype):
    """The kernel and the plain expression of one operation, on the same input."""
    torch.manual_seed(0)
    weight = torch.rand(16, dtype=dtype)
    x = torch.randn(1, 9, 16, dtype=dtype, requires_grad=True)
    trained, sampled = (rms_norm(values, weight, 1e-6).detach() for values in (x, x.detach()))
    torch.testing.assert_close(trained, sampled, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)
    rope = torch.rand(1, 1, 9, 4), torch.rand(1, 1, 9, 4)
    q = torch.randn(1, 2, 9, 8, dtype=dtype, requires_grad=True)
    torch.testing.assert_close(apply_rope(q, rope), apply_rope(q.detach(), rope))


def test_gathering_and_scattering_a_pack_has_the_gradient_of_indexing():
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    back = torch.tensor([4, 0, 2, 1, 7, 5])
    index = torch.zeros(8, dtype=torch.int64)
    index[back] = torch.arange(6)
    for a, b in both(lambda x: Scattered.apply(Gathered.apply(x, index, back), back), lambda x: x[index][back], x):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("lengths", [[30], [30, 29, 7, 6, 3], [40, 12, 3]])
def test_checkpointing_changes_no_bit_of_a_gradient_in_bfloat16(lengths):
    """Groups of a pack must each find their own attention result again."""
    gradients = []
    for every in (0, 1):
        model = toy_model(torch.bfloat16).train()
        model.checkpoint_every = every
        ids = torch.arange(sum(lengths))[None] % 120
        model.hidden_states(ids, lengths=lengths).float().square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(("heads", "kv_heads", "old", "new"),
                         [(6, 2, 0, 130), (4, 1, 70, 65), (2, 2, 3, 1), (6, 3, 64, 64)])
def test_blockwise_attention_of_grouped_heads_behind_tokens_in_a_cache(heads, kv_heads, old, new):
    torch.manual_seed(0)
    T, D = old + new, 16
    q, k, v = (torch.randn(2, n, T, D, dtype=torch.bfloat16) for n in (heads, kv_heads, kv_heads))
    exact = F.scaled_dot_product_attention(q.double(), *(x.double().repeat_interleave(heads // kv_heads, dim=1)
                                                         for x in (k, v)), is_causal=True)
    scores = q.double() @ k.double().repeat_interleave(heads // kv_heads, dim=1).transpose(2, 3) * D**-0.5
    log_sum = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), float("-inf")).logsumexp(-1)
    for found in (causal_attention(q[:, :, old:], k.transpose(2, 3), v, D**-0.5),
                  causal_attention(q[:, :, old:], k.transpose(2, 3).contiguous(), v, D**-0.5)):
        # bfloat16 rounds to 4e-3
        assert (found[0].double() - exact[:, :, old:]).norm() <= 6e-3 * exact[:, :, old:].norm()
        torch.testing.assert_close(found[1].double(), log_sum[:, :, old:], rtol=0, atol=1e-4)


def test_gradients_of_grouped_heads_are_those_of_repeated_ones():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, n, 100, 16, dtype=torch.bfloat16) for n in (6, 2, 2))

    def repeated(q, k, v):
        return F.scaled_dot_product_attention(q, k.repeat_interleave(3, dim=1), v.repeat_interleave(3, dim=1),
                                              is_causal=True, scale=0.25)

    exact = [pair[0] for pair in both(repeated, repeated, q.double(), k.double(), v.double())]
    for name, (found, _), truth in zip("y q k v".split(),
                                       both(lambda q, k, v: CausalAttention.apply(q, k, v, 0.25), repeated, q, k, v),
                                       exact, strict=True):
        assert (found.double() - truth).norm() <= 0.02 * truth.norm(), name


def test_attention_gradients_survive_large_scores_where_the_scale_is_no_power_of_two():
    torch.manual_seed(0)
    q, k, v = (12 * torch.randn(1, 2, 100, 128, dtype=torch.bfloat16) for _ in range(3))
    scale = 128**-0.5
    exact = both(*[lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)] * 2,
                 q.double(), k.double(), v.double())
    mine = both(*[lambda q, k, v: CausalAttention.apply(q, k, v, scale)] * 2, q, k, v)
    for (found, _), (truth, _) in zip(mine, exact, strict=True):
        assert (found.double() - truth).norm() <= 0.05 * truth.norm()


class ProductShapes(TorchDispatchMode):
    """Shapes and strides of the bfloat16 matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("mm", "addmm", "addmm_", "bmm") and args[-1].dtype == torch.bfloat16:
            self.seen.add((func.overloadpacket.__name__, *((x.shape, x.stride()) for x in args[-2:])))
        return func(*args, **(kwargs or {}))


def loss_of_pack(model, lengths: list[int], seed: int = 0) -> torch.Tensor:
    ids = torch.randint(120, (1, sum(lengths)), generator=torch.Generator().manual_seed(seed))
    hidden = model.hidden_states(ids, lengths=lengths)[0]
    loss = chunked_cross_entropy(hidden[1::3], model.lm_head.weight, ids[0, 1::3], chunk=64)
    model.zero_grad()
    loss.backward()
    return loss.detach()


def test_packs_of_other_lengths_bring_no_new_shapes_of_bfloat16_products():
    """On a processor that multiplies bfloat16, each new shape is a compiled kernel that stays in memory."""
    model = toy_model(torch.bfloat16).train()
    apply_lora(model, 4, 8)
    with ProductShapes() as products:
        for first in range(65, 97, 3):                                  # passes of 327 to 384 tokens
            loss_of_pack(model, [first, first + 31, 200 - first, 31 + first])
            if first == 65:
                before = len(products.seen)
    assert len(products.seen) <= 1.2 * before


def test_filling_up_a_pack_changes_its_loss_and_gradients_within_bfloat16(monkeypatch):
    results = []
    for filled in (True, False):
        if not filled:
            monkeypatch.setattr(ops, "missing_to", lambda multiple, count, weight: 0)
            monkeypatch.setattr(loss_module, "missing_to", lambda multiple, count, weight: 0)
        model = toy_model(torch.bfloat16).train()
        loss = loss_of_pack(model, [70, 33, 5, 20, 3])
        results.append((float(loss), {name: p.grad.double() for name, p in model.named_parameters()}))
    (one, gradients), (other, plain) = results
    assert one == pytest.approx(other, rel=2e-3)
    assert all((gradients[name] - plain[name]).norm() <= 1e-2 * plain[name].norm() for name in plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_types_are_not_filled_up(dtype):
    weight = torch.zeros(2, 2, dtype=dtype)
    assert ops.missing_to(128, 5, weight) == 0 and ops.missing_to(128, 5, weight.bfloat16()) == 123
    with torch.no_grad():
        assert ops.missing_to(128, 5, weight.bfloat16()) == 0
