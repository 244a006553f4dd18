"""Adapters that PEFT made, with each of its starts and options: read with PEFT's own logits, or refused by name."""

import pytest
import torch
from train_toys import toy_model

from lora import export, load_adapter
from model import load_model
from model.weights import save_model

pytestmark = pytest.mark.reference
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
IDS = torch.arange(2, 42).view(2, 20)
FULL = [f"model.layers.{i}.self_attn.q_proj" for i in range(3)]
READ = {
    "plain": {}, "no start": {"init_lora_weights": False}, "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"}, "mica": {"init_lora_weights": "mica"},
    "eva": {"init_lora_weights": "eva"}, "full names": {"target_modules": FULL},
    "one layer": {"target_modules": FULL[1:2]}, "mixed": {"target_modules": [FULL[0], "up_proj"]},
    "dotted": {"target_modules": ["self_attn.v_proj", "mlp.down_proj"]},
    "names of another family": {"target_modules": ["q_proj", "c_attn"]},
    "all linear": {"target_modules": "all-linear"},
    "dropout": {"lora_dropout": 0.3}, "tying asked for": {"ensure_weight_tying": True},
}
REFUSED = {
    "pissa": ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa'"),
    "pissa, fast": ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights 'pissa_niter_4'"),
    "olora": ({"init_lora_weights": "olora"}, "init_lora_weights 'olora'"),
    "rslora": ({"use_rslora": True}, "use_rslora"), "dora": ({"use_dora": True}, "use_dora"),
    "ranks": ({"rank_pattern": {"k_proj": 2}, "target_modules": ["q_proj", "k_proj"]}, "rank_pattern"),
    "alphas": ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern"), "aLoRA": ({"alora_invocation_tokens": [3]}, "alora"),
    "some layers": ({"layers_to_transform": [1]}, "layers_to_transform"), "biases": ({"bias": "all"}, "bias"),
    "bias of B": ({"lora_bias": True}, "lora_bias"), "head": ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "replicated": ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
    "excluded": ({"exclude_modules": ["layers.0.self_attn.q_proj"]}, "exclude_modules"),
    "pattern": ({"target_modules": r".*layers\.1\..*q_proj"}, "target_modules"),
    "output layer": ({"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
    "embedding": ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens"),
    "tokens": ({"trainable_token_indices": [5]}, "trainable_token_indices"),
}


def peft_adapter(tmp_path, settings):
    """A toy base in `base`, and an adapter of PEFT's with weights far from their start in `adapter`."""
    save_model(toy_model(), tmp_path / "base")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", **{"target_modules": ["q_proj"], **settings})
    model = peft.get_peft_model(reference(tmp_path / "base"), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(tmp_path / "adapter")
    return model.eval()


def reference(path):
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")


@pytest.mark.parametrize("name", READ)
def test_a_plain_adapter_of_peft_gives_its_logits_here_exported_and_merged(name, tmp_path):
    theirs = peft_adapter(tmp_path, READ[name])
    ours = load_model(tmp_path / "base")
    load_adapter(ours, tmp_path / "adapter")
    export(tmp_path / "base", tmp_path / "adapter", tmp_path / "again", load_model=load_model)
    export(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged", load_model=load_model, save_model=save_model)
    again = peft.PeftModel.from_pretrained(reference(tmp_path / "base"), tmp_path / "again").eval()
    with torch.no_grad():
        expected = theirs(IDS).logits
        assert (expected - reference(tmp_path / "base").eval()(IDS).logits).abs().max() > 1e-3
        for logits in (ours.eval()(IDS), again(IDS).logits, reference(tmp_path / "merged").eval()(IDS).logits):
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_adapter_of_peft_is_refused_by_name_and_never_exported(name, tmp_path):
    settings, words = REFUSED[name]
    peft_adapter(tmp_path, settings)
    ours = load_model(tmp_path / "base")
    before = ours(IDS)
    with pytest.raises(ValueError, match=words):
        load_adapter(ours, tmp_path / "adapter")
    assert torch.equal(ours(IDS), before)
    for writer in (None, save_model):
        with pytest.raises(ValueError, match=words):
            export(tmp_path / "base", tmp_path / "adapter", tmp_path / "out", load_model=load_model, save_model=writer)
    assert not (tmp_path / "out").exists()
