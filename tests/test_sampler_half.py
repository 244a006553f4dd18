"""The engine in half precision, and with packed weights."""

import math
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from lora import apply_lora, lora_layers
from model.device import built_in_memory, free_memory
from model.transformer import Transformer
from sampler import generate, packing
from sampler.packing import packed_linears, packing_note
from tests.model_tiny import CONFIGS, tiny_model
from tests.test_sampler_engine import make_prompts


def bf16_model():
    return tiny_model(CONFIGS["qwen2.5-untied"] | {"vocab_size": 320}).bfloat16()


@pytest.mark.parametrize("tokens", [40, 300])  # few rows take the packed weights, many the plain ones
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 0.1), (torch.float32, 1e-5)])
def test_packed_weights_give_the_same_logits_up_to_rounding_and_leave_no_trace(dtype, rounding, tokens):
    model = bf16_model().to(dtype)
    with torch.no_grad():
        ids = torch.arange(tokens)[None]
        plain = model(ids)
        with packed_linears(model) as packed:
            torch.testing.assert_close(model(ids), plain, rtol=0, atol=rounding)  # bf16: 8 bits, logits of about 1
        assert packed in (0, 22)  # 3 blocks of 7 and the head, where the processor has the operators
        assert model(ids).equal(plain)
    assert not any("forward" in vars(layer) for layer in model.modules())
    plain, packed = (
        generate(model, make_prompts(4), max_new_tokens=8, num_samples=2, pack_weights=pack) for pack in (False, True)
    )
    assert [len(c.ids) for c in plain[0]] == [len(c.ids) for c in packed[0]]


@pytest.mark.parametrize(("asked", "memory", "packs"), [
    (None, 4.0, True), (None, 3.9, False), (True, 0.0, True), (False, 99.0, False)])
def test_weights_are_packed_by_themselves_where_a_copy_takes_a_quarter_of_the_memory(monkeypatch, asked, memory, packs):
    model, seen = bf16_model().float(), []
    copied = sum(layer.weight.nbytes for layer in model.modules() if isinstance(layer, torch.nn.Linear))
    assert not packing.affordable(model)                    # too small to be worth it
    monkeypatch.setattr(packing, "LEAST_COPY", 0)
    monkeypatch.setattr("model.device.built_in_memory", lambda: int(memory * copied))
    monkeypatch.setattr("sampler.engine.packed_linears", lambda model: (seen.append(1), nullcontext())[1])
    generate(model, make_prompts(2), max_new_tokens=2, num_samples=1, pack_weights=asked)
    assert bool(seen) == packs


def test_the_memory_of_this_machine_is_more_than_what_is_free():
    assert free_memory(torch.device("cpu")) <= built_in_memory() < 2**50


def test_packed_weights_serve_the_layers_under_an_adapter(monkeypatch):
    """A LoRA layer once took its frozen weight itself: packing cost memory, and only the head was packed."""
    model = bf16_model().float()
    apply_lora(model, rank=2, alpha=4.0)
    for layer in lora_layers(model).values():
        torch.nn.init.normal_(layer.lora_B.weight)
    rows = []
    monkeypatch.setattr(packing, "_linear", partial(count_and_call, rows, packing._linear))
    model.eval()
    with torch.no_grad():
        ids = torch.arange(40)[None]
        plain = model(ids)
        with packed_linears(model) as packed:
            torch.testing.assert_close(model(ids), plain, rtol=0, atol=1e-4)
    assert len(rows) == packed and packed in (0, 22)  # the thin layers of the adapter stay as they are


def count_and_call(rows, function, weight, packed, bias, x):
    rows.append(x.shape)
    return function(weight, packed, bias, x)


def test_packing_that_does_nothing_is_noted():
    assert packing_note(bf16_model()) == packing_note(bf16_model().float()) == ""
    assert "no effect on weights in float16; bfloat16 and float32" in packing_note(bf16_model().half())
    assert "no effect on meta; only a CPU's weights" in packing_note(bf16_model().to("meta"))


def test_bf16_and_fp16_sample_without_nan_whatever_the_batch():
    for dtype in (torch.bfloat16, torch.float16):
        model = bf16_model().to(dtype)
        for completions in generate(
            model, make_prompts(6), max_new_tokens=6, num_samples=2, temperature=1.0, max_rows=5
        ):
            assert all(math.isfinite(c.logprob) and len(c.ids) == 6 for c in completions)


@pytest.mark.parametrize("name", ["qwen2.5-untied", "mistral-window"])
@pytest.mark.parametrize("chunk", [7, 1024])
def test_bf16_prefill_in_pieces_and_under_a_window_draws_what_whole_passes_say(name, chunk):
    """The log-probability of what was drawn, against one pass in float32 over prompt and answer."""
    wide = tiny_model(CONFIGS[name])
    prompts = make_prompts(4, longest=50, shortest=30)
    model = Transformer(wide.config)
    model.load_state_dict(wide.state_dict())
    for prompt, (completion,) in zip(prompts, generate(model.bfloat16(), prompts, max_new_tokens=4,
                                                       prefill_chunk=chunk), strict=True):
        ids = torch.tensor([prompt + completion.ids])
        with torch.no_grad():
            shares = wide(ids)[0, len(prompt) - 1:-1].log_softmax(-1)
        expected = shares.gather(1, torch.tensor(completion.ids)[:, None]).mean()
        assert abs(completion.logprob - float(expected)) < 0.05
