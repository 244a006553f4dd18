"""LoRA: the layer's arithmetic, PEFT's file layout both ways, merging, and what is refused."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from train_toys import toy_model

from lora import LoRALinear, apply_lora, load_adapter, lora_layers, lora_parameters, merge, save_adapter


def filled(model, rank: int = 4, seed: int = 3, **settings):
    """The model with an adapter whose B is not zero."""
    apply_lora(model, rank, 8, **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in lora_parameters(model).values():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


IDS = torch.arange(2, 22).view(2, 10)


def test_a_fresh_adapter_changes_no_logit():
    model = toy_model()
    before = model(IDS)
    apply_lora(model, 4, 8)
    assert torch.equal(model(IDS), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("x_wants_gradient", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_written_out_backward_is_autograds(dtype, x_wants_gradient, bias):
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(12, 20, bias=bias, dtype=dtype), rank=3, alpha=6)
    nn.init.normal_(layer.lora_B.weight)
    x = torch.randn(2, 7, 12, dtype=dtype, requires_grad=x_wants_gradient)
    wanted = [layer.lora_A.weight, layer.lora_B.weight] + [x] * x_wants_gradient
    dy = torch.randn(2, 7, 20, dtype=dtype)
    found = torch.autograd.grad(layer(x), wanted, dy)
    plain = layer.base(x) + 2.0 * F.linear(F.linear(x, layer.lora_A.weight), layer.lora_B.weight)
    torch.testing.assert_close(layer(x), plain)
    for mine, theirs in zip(found, torch.autograd.grad(plain, wanted, dy), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_backward_pass_survives_gradcheck():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(4, 5, dtype=torch.float64), rank=2, alpha=4)
    nn.init.normal_(layer.lora_B.weight)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


def test_adapter_weights_and_gradients_are_float32_over_a_half_base():
    layer = LoRALinear(nn.Linear(8, 6, dtype=torch.bfloat16), rank=2, alpha=4)
    y = layer(torch.randn(3, 8, dtype=torch.bfloat16, requires_grad=True))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.lora_A.weight.grad.dtype == layer.lora_B.weight.grad.dtype == torch.float32
    assert layer.base.weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sampling_takes_a_shorter_way_to_the_very_same_numbers(dtype):
    layer = filled(toy_model(dtype)).eval().model.layers[0].mlp.up_proj
    x = torch.randn(3, 5, 32).to(dtype)
    with torch.no_grad():
        short = layer(x)
    assert torch.equal(short, layer(x.requires_grad_()).detach())


def test_dropout_acts_on_the_adapters_input_only_and_only_in_training():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(50, 6), rank=2, alpha=4, dropout=0.5)
    nn.init.normal_(layer.lora_B.weight)
    x = torch.randn(3, 50)
    assert not torch.equal(layer(x), layer(x))
    nn.init.zeros_(layer.lora_B.weight)
    torch.testing.assert_close(layer(x), layer.base(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_no_tensor_as_large_as_a_frozen_weight_is_made():
    """The merged weight and the frozen weight's gradient would both be 300 x 200."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            made.extend(t.shape for t in (out if isinstance(out, (tuple, list)) else [out])
                        if isinstance(t, torch.Tensor))
            return out

    made = []
    layer = LoRALinear(nn.Linear(300, 200), rank=2, alpha=4)
    x = torch.randn(5, 300, requires_grad=True)
    with Sizes():
        layer(x).sum().backward()
    made = [shape for shape in made if shape.numel() >= 200 * 300 and shape not in ((300, 200), (200, 300))]
    assert not made         # (300, 200) itself appears only as a transposed view of the frozen weight
    assert layer.base.weight.grad is None


def test_save_and_load_give_the_same_model(tmp_path):
    model = filled(toy_model())
    save_adapter(model, tmp_path, base_model="base")
    other = toy_model()
    load_adapter(other, tmp_path)
    assert torch.equal(model(IDS), other(IDS))
    layer = next(iter(lora_layers(other).values()))
    assert (layer.rank, layer.alpha) == (4, 8)
    assert not list(tmp_path.glob("*.tmp"))


def test_merged_is_unmerged_within_rounding_and_drift_is_zero_in_float32():
    model = filled(toy_model())
    model.eval()
    expected = model(IDS)
    assert merge(model) == 0.0
    assert not lora_layers(model)
    torch.testing.assert_close(model(IDS), expected, rtol=0, atol=1e-4)


def test_merging_in_bfloat16_reports_what_rounding_lost():
    model = filled(toy_model(torch.bfloat16))
    drift = merge(model)
    assert 0.001 < drift < 0.2


def test_merge_refuses_a_damaged_adapter_and_merges_nothing():
    model = filled(toy_model())
    last = list(lora_layers(model).values())[-1]
    with torch.no_grad():
        last.lora_B.weight[0, 0] = float("nan")
    before = {name: p.clone() for name, p in model.named_parameters() if "base" in name}
    with pytest.raises(ValueError, match="not finite"):
        merge(model)
    assert all(torch.equal(before[name], dict(model.named_parameters())[name]) for name in before)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float16, 1e3), (torch.bfloat16, 1e19), (torch.float32, 1e25)])
def test_a_merge_that_overflows_merges_nothing(dtype, size):
    model = filled(toy_model(dtype))
    last = list(lora_layers(model).values())[-1]
    with torch.no_grad():
        last.lora_A.weight.fill_(size)
        last.lora_B.weight.fill_(size)
    before = {name: layer.base.weight.clone() for name, layer in lora_layers(model).items()}
    with pytest.raises(ValueError, match=f"does not fit into {dtype}; nothing was merged"):
        merge(model)
    assert all(torch.equal(before[name], layer.base.weight) for name, layer in lora_layers(model).items())


def damaged(path, change) -> None:
    file = path / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def rename(tensors) -> None:
    key = sorted(tensors)[0]
    tensors[key.replace("lora_A", "lora_C")] = tensors.pop(key)


@pytest.mark.parametrize(("change", "message"), [
    (rename, "1 keys match nothing .*lora_C.* 1 that it needs are absent .*lora_A"),
    (lambda t: t.pop(sorted(t)[0]), "1 that it needs are absent"),
    (lambda t: t.update(extra=torch.zeros(1)), r"1 keys match nothing in the model \(first: extra\)"),
    (lambda t: t.update({sorted(t)[0]: torch.zeros(3, 3)}), r"has shape \(3, 3\), the model needs"),
])
def test_any_key_that_does_not_match_is_refused_and_nothing_is_loaded(change, message, tmp_path):
    save_adapter(filled(toy_model()), tmp_path)
    damaged(tmp_path, change)
    model = toy_model()
    with pytest.raises(ValueError, match=message):
        load_adapter(model, tmp_path)
    assert not lora_layers(model)


@pytest.mark.parametrize(("key", "value"), [
    ("peft_type", "IA3"), ("use_dora", True), ("use_rslora", True), ("bias", "all"), ("modules_to_save", ["lm_head"]),
    ("rank_pattern", {"q_proj": 2}), ("target_modules", "all-linear"), ("r", 0), ("layers_to_transform", [0])])
def test_an_adapter_that_is_not_plain_lora_is_refused_by_the_name_of_its_feature(key, value, tmp_path):
    save_adapter(filled(toy_model()), tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=key):
        load_adapter(toy_model(), tmp_path)


def test_missing_and_truncated_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="adapter_config.json"):
        load_adapter(toy_model(), tmp_path)
    save_adapter(filled(toy_model()), tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        load_adapter(toy_model(), tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="adapter_model.safetensors"):
        load_adapter(toy_model(), tmp_path)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="rank must be 1 or more"):
        LoRALinear(nn.Linear(2, 2), 0, 1)
    with pytest.raises(ValueError, match="dropout"):
        LoRALinear(nn.Linear(2, 2), 1, 1, dropout=1.0)
    with pytest.raises(ValueError, match=r"\['c_attn'\] match no linear layer.*q_proj"):
        apply_lora(toy_model(), targets=("q_proj", "c_attn"))
    with pytest.raises(ValueError, match="lm_head"):
        apply_lora(toy_model(), targets=("q_proj", "lm_head"))
    with pytest.raises(ValueError, match="already carries"):
        apply_lora(filled(toy_model()))


def test_the_same_seed_makes_the_same_adapter_and_the_base_is_frozen():
    one, two, three = toy_model(), toy_model(), toy_model()
    for model, seed in ((one, 1), (two, 1), (three, 2)):
        apply_lora(model, 4, 8, seed=seed)
    key = next(iter(lora_parameters(one)))
    assert torch.equal(lora_parameters(one)[key], lora_parameters(two)[key])
    assert not torch.equal(lora_parameters(one)[key], lora_parameters(three)[key])
    assert {name for name, p in one.named_parameters() if p.requires_grad} == {
        key.removeprefix("base_model.model.") for key in lora_parameters(one)}
