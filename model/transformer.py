"""The forward pass: one decoder-only transformer for Llama 3, Qwen2.5 and Mistral; ModelConfig tells them apart.

Where Qwen2.5 differs from Llama: `bias=cfg.qkv_bias` in Attention. Mistral v0.1: `window`. Llama 3.1: RoPE frequencies.

Letters: B rows, S new tokens, T cached + new tokens, E hidden_size, H query heads, K key/value heads, D head_dim,
F intermediate_size, V vocab_size. Module names are those of Hugging Face checkpoints.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from .attention import Cache, Pack
from .config import ModelConfig
from .ops import apply_rope, attend, filled_up, rms_norm, run, swiglu


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


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in float32 (Zhang & Sennrich 2019, arXiv:1910.07467, equation 4)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:                             # (B, S, E) -> (B, S, E)
        return rms_norm(x, self.weight, self.eps)


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

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], pack: Pack | None = None,
                cache: Cache | None = None) -> Tensor:
        """x (B, S, E), rope from `rope_angles` -> (B, S, E); with a cache, tokens also see the T - S cached ones."""
        B, S, _ = x.shape
        q = self.q_proj(x).view(B, S, -1, self.head_dim).transpose(1, 2)                 # (B, H, S, D)
        k = self.k_proj(x).view(B, S, -1, self.head_dim).transpose(1, 2)                 # (B, K, S, D)
        v = self.v_proj(x).view(B, S, -1, self.head_dim).transpose(1, 2)                 # (B, K, S, D)
        q, k = apply_rope(q, rope), apply_rope(k, rope)
        scale = self.head_dim**-0.5
        if cache is None:
            y = attend(q, k, v, scale, self.window, pack)                          # (B, H, S, D)
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
        return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))


class Block(nn.Module):
    """Attention, then MLP, each on a normed copy and added back (Touvron et al. 2023, arXiv:2302.13971, 2.2)."""

    def __init__(self, cfg: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(cfg, layer)
        self.mlp = MLP(cfg)
        self.input_layernorm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], pack: Pack | None = None, cache: Cache | None = None,
                recompute: bool = False) -> Tensor:
        """x (B, S, E) -> (B, S, E); `recompute`: keep only the inputs of the two halves for the backward pass.

        Two halves rather than one: with frozen weights, neither half's last matmul is then computed a second time.
        """
        x = run(self.attention_half, x, rope, pack, cache, recompute=recompute)
        return run(self.mlp_half, x, recompute=recompute)

    def attention_half(self, x: Tensor, rope: tuple[Tensor, Tensor], pack: Pack | None, cache: Cache | None) -> Tensor:
        """(B, S, E) -> (B, S, E)"""
        return x + self.self_attn(self.input_layernorm(x), rope, pack, cache)

    def mlp_half(self, x: Tensor) -> Tensor:
        """(B, S, E) -> (B, S, E)"""
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """The parts that a Hugging Face checkpoint names `model.*`."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        # zeros: PyTorch's own draw, on the meta device, imports its compiler first, for seconds
        self.embed_tokens = nn.Embedding.from_pretrained(torch.zeros(cfg.vocab_size, cfg.hidden_size), freeze=False)
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

    def recomputes(self, layer: int) -> bool:
        """Whether this block is recomputed in the backward pass."""
        return self.training and self.checkpoint_every > 0 and layer % self.checkpoint_every == 0

    def hidden_states(self, input_ids: Tensor, position_ids: Tensor | None = None, lengths: list[int] | None = None,
                      cache: Cache | None = None) -> Tensor:
        """What lm_head reads: (B, S) ids -> (B, S, E), after the final norm.

        Args:
            input_ids: (B, S). Rows are causal and independent; ids past a shorter row's end do not reach its tokens.
            position_ids: (B, S), each token's index in its own sequence; needed with a cache, else 0, 1, 2, ...
            lengths: the row (B == 1) is a pack of sequences of these lengths: positions restart, nothing crosses.
            cache: stores keys and values, and attends to those of earlier tokens, too.

        Raises:
            ValueError: `lengths` do not fit the row, or a cache comes without positions or with lengths.
        """
        (B, S), pack = input_ids.shape, None
        if lengths is not None:
            if B != 1 or sum(lengths) != S or min(lengths, default=0) < 1 or cache is not None:
                raise ValueError(f"a pack is one row without a cache, with lengths of 1 or more that add up to its {S} "
                                 f"tokens; got {B} rows and {len(lengths)} lengths that add up to {sum(lengths)}")
            if position_ids is None:
                input_ids, lengths = filled_up(input_ids, lengths, self.lm_head.weight)
            pack = Pack(lengths, input_ids.device)
            position_ids = pack.position_ids if position_ids is None else position_ids
            pack = pack if len(lengths) > 1 else None
        elif position_ids is None:
            if cache is not None:
                raise ValueError("position_ids (B, S) must be given with a cache")
            position_ids = torch.arange(S, device=input_ids.device)[None]                # (1, S)
        rope = rope_angles(self.config, position_ids)
        x = self.model.embed_tokens(input_ids)                                           # (B, S, E)
        for layer, block in enumerate(self.model.layers):
            x = block(x, rope, pack, cache, self.recomputes(layer))
        return self.model.norm(x)[:, :S]

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, lengths: list[int] | None = None,
                cache: Cache | None = None) -> Tensor:
        """Logits (B, S, V) in the compute dtype; arguments as in `hidden_states`."""
        return self.lm_head(self.hidden_states(input_ids, position_ids, lengths, cache))
