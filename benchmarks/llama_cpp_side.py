"""llama.cpp's side of sampler_speed.py: the same weights as a GGUF file in their type, forks, continuous slots.

Needs `pip install llama-cpp-python gguf` (the first is compiled, some minutes). A prompt is decoded once and its
sequence copied to the other samples; a slot whose samples have all ended takes the next prompt; every step is one batch
over all live rows.
"""

import ctypes
import random
import tempfile
import time
from pathlib import Path

import torch

from model.transformer import Transformer

NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def write_gguf(model: Transformer, path: Path) -> None:
    """The Qwen2-shaped model as GGUF: matrices in their type, norms and biases in float32, no tokenizer."""
    import gguf

    c = model.config
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_vocab_size(c.vocab_size)
    writer.add_tokenizer_model("none")
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue                                        # tied
        if weight.dim() == 2 and weight.dtype == torch.bfloat16:
            writer.add_tensor(gguf_name(name), weight.contiguous().view(torch.uint8).numpy(),
                              raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(gguf_name(name), weight.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """A Hugging Face tensor name as llama.cpp spells it."""
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[part]}.{kind}"


class Slots:
    """A context of llama.cpp whose sequences are `slots` prompts of `width` samples each."""

    def __init__(self, path: str, slots: int, width: int, cells: int, threads: int, unified: bool) -> None:
        import llama_cpp as L

        self.L, self.width, self.free = L, width, list(range(slots))
        L.llama_backend_init()
        self.quiet = L.llama_log_callback(lambda *_: None)
        L.llama_log_set(self.quiet, ctypes.c_void_p(0))
        self.model = L.llama_model_load_from_file(path.encode(), L.llama_model_default_params())
        assert self.model, f"llama.cpp cannot load {path}"
        params = L.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = (cells if unified
                                                             else slots * width * cells), slots * width, unified
        params.n_batch, params.n_ubatch, params.n_threads, params.n_threads_batch = 2048, 512, threads, threads
        self.context = L.llama_init_from_model(self.model, params)
        assert self.context, "llama.cpp made no context"
        self.memory = L.llama_get_memory(self.context)
        self.batch = L.llama_batch_init(2048, 0, 1)
        self.sampler = L.llama_sampler_chain_init(L.llama_sampler_chain_default_params())

    def sample_with(self, top_k: int, temperature: float) -> None:
        for part in (self.L.llama_sampler_init_top_k(top_k), self.L.llama_sampler_init_temp(temperature),
                     self.L.llama_sampler_init_dist(1)):
            self.L.llama_sampler_chain_add(self.sampler, part)

    def decode(self, tokens: list[tuple[int, int, int, bool]]) -> None:
        """One batch of (token, position, sequence, whether its logits are wanted)."""
        for begin in range(0, len(tokens), 2048):
            part = tokens[begin:begin + 2048]
            self.batch.n_tokens = len(part)
            for i, (token, position, sequence, wanted) in enumerate(part):
                self.batch.token[i], self.batch.pos[i], self.batch.logits[i] = token, position, wanted
                self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, sequence
            code = self.L.llama_decode(self.context, self.batch)
            assert code == 0, f"llama_decode returned {code}"

    def draw(self, index: int) -> int:
        return self.L.llama_sampler_sample(self.sampler, self.context, index)

    def begin(self, prompt: list[int]) -> tuple[int, list[int]]:
        """Take a slot for a prompt, decode it, fork it; (slot, first tokens of its samples)."""
        slot = self.free.pop()
        first = slot * self.width
        for sequence in range(first, first + self.width):
            self.L.llama_memory_seq_rm(self.memory, sequence, -1, -1)
        self.decode([(token, i, first, i == len(prompt) - 1) for i, token in enumerate(prompt)])
        drawn = [self.draw(-1) for _ in range(self.width)]
        for sequence in range(first + 1, first + self.width):
            self.L.llama_memory_seq_cp(self.memory, first, sequence, -1, -1)
        return slot, drawn


def run_llama(model: Transformer, prompts: list[list[int]], lengths: list[list[int]], *, slots: int, unified: bool,
              top_k: int, threads: int) -> dict:
    """Seconds for all samples; loading is not counted."""
    slots, width = min(slots, len(prompts)), len(lengths[0])
    room = max(map(max, lengths))
    longest = max(map(len, prompts))
    cells = slots * (longest + width * room) if unified else longest + room
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        write_gguf(model, path)
        del model
        engine = Slots(str(path), slots, width, -(-cells // 256) * 256, threads, unified)
    engine.sample_with(top_k, 1.0)
    waiting = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))          # the longest leaves first
    live: list[dict] = []
    written = [[0] * width for _ in prompts]
    began = time.perf_counter()
    while waiting or live:
        while waiting and engine.free:
            item = waiting.pop()
            slot, tokens = engine.begin(prompts[item])
            for sample, token in enumerate(tokens):
                live.append({"item": item, "sample": sample, "slot": slot, "token": token,
                             "position": len(prompts[item])})
                written[item][sample] = 1
        for row in [row for row in live if written[row["item"]][row["sample"]] >= lengths[row["item"]][row["sample"]]]:
            live.remove(row)
            if not any(other["slot"] == row["slot"] for other in live):
                engine.free.append(row["slot"])
        if live and (not waiting or not engine.free):
            engine.decode([(row["token"], row["position"], row["slot"] * width + row["sample"], True) for row in live])
            for i, row in enumerate(live):
                row["token"], row["position"] = engine.draw(i), row["position"] + 1
                written[row["item"]][row["sample"]] += 1
    seconds = time.perf_counter() - began
    assert written == lengths, "a sample has the wrong length"
    return {"seconds": seconds}


def check_weights(model: Transformer, threads: int) -> float:
    """Largest difference of the logits after a short prompt, relative to their spread: is it one model?"""
    import numpy as np

    prompt = [random.Random(0).randrange(model.config.vocab_size) for _ in range(24)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        write_gguf(model, path)
        engine = Slots(str(path), 1, 1, 256, threads, True)
    engine.decode([(token, i, 0, i == len(prompt) - 1) for i, token in enumerate(prompt)])
    theirs = np.ctypeslib.as_array(engine.L.llama_get_logits_ith(engine.context, -1), (model.config.vocab_size,)).copy()
    with torch.inference_mode():
        ours = model(torch.tensor([prompt]))[0, -1].float().numpy()
    return float(np.abs(ours - theirs).max() / ours.std())
