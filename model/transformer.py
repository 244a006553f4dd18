"""The forward pass: one decoder-only transformer for Llama 3, Qwen2.5 and Mistral; ModelConfig tells them apart.

Where Qwen2.5 differs from Llama: `bias=cfg.qkv_bias` in Attention. Mistral v0.1: `window`. Llama 3.1: RoPE frequencies.

Letters: B rows, S new tokens, T cached + new tokens, E hidden_size, H query heads, K key/value heads, D head_dim,
F intermediate_size, V vocab_size. Module names are those of Hugging Face checkpoints.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import fused
from .config import ModelConfig


@lru_cache(maxsize=32)
def rope_frequencies(cfg: ModelConfig, device: torch.device) -> Tensor:
    """Radians per position of each rotating pair: (D/2,), float32 (Su et al. 2021, arXiv:2104.09864, section 3.2.2).

    Llama 3.1 divides the slow ones by `factor`, keeps the fast ones, and blends between the two wavelengths
    (Grattafiori et al. 2024, arXiv:2407.21783; the formula is in Meta's released code only). It applies at every
    position, also below the original length. Kept out of the state dict and never cast: half precision would ruin it.
    """
    with torch.inference_mode(False):
        exponent = torch.arange(0, cfg.head_dim, 2, dtype=torch.int64, device=device).float() / cfg.head_dim
        frequency = 1.0 / cfg.rope_theta**exponent
        if cfg.rope_scaling is None:
            return frequency
        rope = cfg.rope_scaling
        turns = rope.original_max_position_embeddings * frequency / (2 * math.pi)     # in the original context
        keep = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
        keep = keep.clamp(0, 1)                                                       # 1 fast, 0 slow
        return keep * frequency + (1 - keep) * frequency / rope.factor


def rope_angles(cfg: ModelConfig, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    """position_ids (B, S) -> cos and sin, each (B, 1, S, D/2), float32."""
    angles = position_ids[:, None, :, None].float() * rope_frequencies(cfg, position_ids.device)
    return angles.cos(), angles.sin()


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return x if x.dtype == torch.float64 else x.float()


def apply_rope(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (i, i + D/2) of x (B, heads, S, D) by its position's angle, in float32."""
    cos, sin = rope
    if fused.usable(x):
        return fused.Rotated.apply(x, cos, sin)
    first, second = at_least_float32(x).chunk(2, dim=-1)                # half-split, as in Hugging Face weights
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


class Pack:
    """Where the sequences of a padding-free row lie, for attention: `lengths` in order, their sum is S.

    Sequences whose lengths are within a factor of 1.5 share one padded (n, L) batch, so a row costs few attention
    calls and never more than 2.25 times the work of its sequences. Computed once, used by every layer.
    """

    def __init__(self, lengths: list[int], device: torch.device) -> None:
        starts = [0]
        for length in lengths:
            starts.append(starts[-1] + length)
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        self.total = starts[-1]
        self.position_ids = torch.cat([torch.arange(n) for n in lengths]).to(device)[None]          # (1, S)
        self.groups: list[Tensor] = []                                  # each (n, L): the row's token at [sequence, i]
        self.back = torch.empty(self.total, dtype=torch.int64)          # (S,): where a token is in the joined groups
        used = 0
        while order:
            longest = lengths[order[0]]
            group = [i for i in order if lengths[i] * 3 >= longest * 2]
            order = order[len(group):]
            first = torch.tensor([starts[i] for i in group])[:, None]
            last = torch.tensor([starts[i + 1] - 1 for i in group])[:, None]
            index = first + torch.arange(longest)
            real = index <= last
            self.back[index[real]] = used + real.flatten().nonzero()[:, 0]
            self.groups.append(torch.minimum(index, last))
            used += index.numel()
        self.index = torch.cat([group.flatten() for group in self.groups]).to(device)    # (padded tokens,)
        self.back = self.back.to(device)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, pack: Pack | None = None,
           memo: list | None = None) -> Tensor:
    """Causal attention without a cache: q (B, H, S, D), k and v (B, K, S, D) -> (B, H, S, D).

    The one place where the kernel is chosen: bfloat16 on a CPU has its own (fused.py). PyTorch's scaled_dot_product_attention takes its
    fused kernel on a CPU, and on a GPU flash (sm_80 up) or memory-efficient (V100, T4) attention: all keep scores and softmax in float32, so
    fp16 survives logits beyond 65504. Key/value heads are repeated because the memory-efficient kernel knows no groups.
    With a cache, the cache attends (sampler/kv_cache.py): prefill by the same kernels, decoding by matmuls, scores in float32.
    A window is a boolean mask, and only where it is shorter than the row. A pack is split by `Pack`. `memo` is that of
    `fused.CausalAttention`.
    """
    if pack is not None:
        row = [fused.Gathered.apply(x[0].transpose(0, 1), pack.index, pack.back) for x in (q, k, v)]
        groups = zip(*(x.split([group.numel() for group in pack.groups]) for x in row), strict=True)
        if memo is not None and not memo:
            memo.extend([] for _ in pack.groups)
        memos = memo if memo is not None else [None] * len(pack.groups)                  # a memo of its own for each group
        parts = [attend(*(x.view(*places.shape, *x.shape[1:]).transpose(1, 2) for x in group), scale, window, memo=own)
                 for group, places, own in zip(groups, pack.groups, memos, strict=True)]  # each (n, H, L, D)
        y = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in parts])            # (padded tokens, H, D)
        return fused.Scattered.apply(y, pack.back).transpose(0, 1)[None]                 # (1, H, S, D)
    if fused.attends_blockwise(q.dtype, q.device, window, q.shape[2]):
        return fused.CausalAttention.apply(q, k, v, scale, memo)
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if window is None or window >= q.shape[2]:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    position = torch.arange(q.shape[2], device=q.device)
    distance = position[:, None] - position[None, :]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=(distance >= 0) & (distance < window), scale=scale)


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in float32 (Zhang & Sennrich 2019, arXiv:1910.07467, equation 4)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:                             # (B, S, E) -> (B, S, E)
        if fused.usable(x):
            return fused.RMSNormed.apply(x, self.weight, self.eps)
        return self.weight * F.rms_norm(at_least_float32(x), x.shape[-1:], None, self.eps).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions (Ainslie et al. 2023, arXiv:2305.13245, section 2.2)."""

    def __init__(self, cfg: ModelConfig, layer: int) -> None:
        super().__init__()
        E, H, K, D = cfg.hidden_size, cfg.num_attention_heads, cfg.num_key_value_heads, cfg.head_dim
        self.layer, self.head_dim, self.window = layer, D, cfg.window(layer)
        self.q_proj = nn.Linear(E, H * D, bias=cfg.qkv_bias)            # Qwen2.5: a bias here, and not in o_proj
        self.k_proj = nn.Linear(E, K * D, bias=cfg.qkv_bias)
        self.v_proj = nn.Linear(E, K * D, bias=cfg.qkv_bias)
        self.o_proj = nn.Linear(H * D, E, bias=cfg.o_proj_bias)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], pack: Pack | None = None, cache=None,
                memo: list | None = None) -> Tensor:
        """x (B, S, E), rope from `rope_angles` -> (B, S, E); with a cache, tokens also see the T - S cached ones."""
        B, S, _ = x.shape
        q = self.q_proj(x).view(B, S, -1, self.head_dim).transpose(1, 2)                 # (B, H, S, D)
        k = self.k_proj(x).view(B, S, -1, self.head_dim).transpose(1, 2)                 # (B, K, S, D)
        v = self.v_proj(x).view(B, S, -1, self.head_dim).transpose(1, 2)                 # (B, K, S, D)
        q, k = apply_rope(q, rope), apply_rope(k, rope)
        scale = self.head_dim**-0.5
        if cache is None:
            y = attend(q, k, v, scale, self.window, pack, memo)                          # (B, H, S, D)
        else:
            y = cache.layers[self.layer].attend(q, k, v, scale, self.window)             # (B, H, S, D)
        return self.o_proj(y.transpose(1, 2).reshape(B, S, -1))


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x)): SwiGLU (Shazeer 2020, arXiv:2002.05202, equation 6)."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(cfg.hidden_size, cfg.intermediate_size, bias=cfg.mlp_bias)
        self.up_proj = nn.Linear(cfg.hidden_size, cfg.intermediate_size, bias=cfg.mlp_bias)
        self.down_proj = nn.Linear(cfg.intermediate_size, cfg.hidden_size, bias=cfg.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:                             # (B, S, E) -> (B, S, F) -> (B, S, E)
        gate, up = self.gate_proj(x), self.up_proj(x)
        return self.down_proj(fused.SwiGLU.apply(gate, up) if fused.usable(gate) else F.silu(gate) * up)


class Block(nn.Module):
    """Attention, then MLP, each on a normed copy and added back (Touvron et al. 2023, arXiv:2302.13971, 2.2)."""

    def __init__(self, cfg: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(cfg, layer)
        self.mlp = MLP(cfg)
        self.input_layernorm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], pack: Pack | None = None, cache=None,
                recompute: bool = False) -> Tensor:
        """x (B, S, E) -> (B, S, E); `recompute`: keep only the inputs of the two halves for the backward pass.

        Two halves rather than one: with frozen weights, neither half's last matmul is then computed a second time.
        """
        if recompute:
            x = checkpoint(self.attention_half, x, rope, pack, cache, [], use_reentrant=False)
            return checkpoint(self.mlp_half, x, use_reentrant=False)
        return self.mlp_half(self.attention_half(x, rope, pack, cache))

    def attention_half(self, x: Tensor, rope: tuple[Tensor, Tensor], pack: Pack | None = None, cache=None,
                       memo: list | None = None) -> Tensor:
        """(B, S, E) -> (B, S, E)"""
        return x + self.self_attn(self.input_layernorm(x), rope, pack, cache, memo)

    def mlp_half(self, x: Tensor) -> Tensor:
        """(B, S, E) -> (B, S, E)"""
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """The parts that a Hugging Face checkpoint names `model.*`."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.hidden_size)
        self.layers = nn.ModuleList(Block(cfg, layer) for layer in range(cfg.num_hidden_layers))
        self.norm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)


class Transformer(nn.Module):
    """Token ids in, next-token logits out: `module(input_ids)` -> (B, S, V).

    `checkpoint_every` (0: off, 1: every block, k: every k-th) recomputes blocks in the backward pass while training.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_every = 0
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Let lm_head share the embedding's weight where the config says so (Press & Wolf 2017, arXiv:1608.05859)."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def init_weights(self, seed: int, std: float = 0.02) -> "Transformer":
        """Draw a fresh model for pre-training: matrices N(0, std), biases 0, norms 1."""
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            with torch.no_grad():
                if weight.dim() == 2:
                    weight.copy_(torch.empty(weight.shape).normal_(0, std, generator=generator))
                else:
                    weight.fill_(0.0 if name.endswith("bias") else 1.0)
        return self

    def hidden_states(self, input_ids: Tensor, position_ids: Tensor | None = None, lengths: list[int] | None = None,
                      cache=None) -> Tensor:
        """What lm_head reads: (B, S) ids -> (B, S, E), after the final norm.

        Args:
            input_ids: (B, S). Rows are causal and independent; ids past a shorter row's end do not reach its tokens.
            position_ids: (B, S), each token's index in its own sequence; needed with a cache, else 0, 1, 2, ...
            lengths: the row (B == 1) is a pack of sequences of these lengths: positions restart, nothing crosses.
            cache: an object whose `layers[i].attend(q, k, v, scale, window)` stores k and v and returns attention.

        Raises:
            ValueError: `lengths` do not fit the row, or a cache comes without positions or with lengths.
        """
        B, S = input_ids.shape
        pack = None
        if lengths is not None:
            if B != 1 or sum(lengths) != S or min(lengths, default=0) < 1 or cache is not None:
                raise ValueError(f"a pack is one row without a cache, with lengths of 1 or more that add up to its {S} "
                                 f"tokens; got {B} rows and {len(lengths)} lengths that add up to {sum(lengths)}")
            pack = Pack(lengths, input_ids.device)
            position_ids = pack.position_ids if position_ids is None else position_ids
            pack = pack if len(lengths) > 1 else None
        elif position_ids is None:
            if cache is not None:
                raise ValueError("position_ids (B, S) must be given with a cache")
            position_ids = torch.arange(S, device=input_ids.device)[None]                # (1, S)
        rope = rope_angles(self.config, position_ids)
        x = self.model.embed_tokens(input_ids)                                           # (B, S, E)
        for i, block in enumerate(self.model.layers):
            x = block(x, rope, pack, cache, self.training and self.checkpoint_every > 0 and i % self.checkpoint_every == 0)
        return self.model.norm(x)

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, lengths: list[int] | None = None,
                cache=None) -> Tensor:
        """Logits (B, S, V) in the compute dtype; arguments as in `hidden_states`."""
        return self.lm_head(self.hidden_states(input_ids, position_ids, lengths, cache))
