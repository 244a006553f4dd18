"""Ours beside transformers and peft: gradients, a short training, adapters both ways, merged checkpoints."""

import pytest
import torch
from train_toys import toy_model, toy_rows

from data.tasks import IGNORE_INDEX
from lora import apply_lora, export, load_adapter, lora_layers, lora_parameters, merge, save_adapter
from model import load_model
from model.weights import save_model
from train import TrainConfig, accumulate_gradients, prepare, train_step
from training.processes import Processes

pytestmark = pytest.mark.reference
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
IDS = torch.arange(2, 42).view(2, 20)
STEPS, RATE = 20, 1e-3


@pytest.fixture
def folders(tmp_path):
    """A toy checkpoint, and an adapter for it whose B is not zero."""
    save_model(toy_model(), tmp_path / "base")
    model = load_model(tmp_path / "base")
    apply_lora(model, 4, 8)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in lora_parameters(model).values():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    save_adapter(model, tmp_path / "adapter", base_model=str(tmp_path / "base"))
    return tmp_path / "base", tmp_path / "adapter"


def reference_model(base, adapter=None):
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    return model if adapter is None else peft.PeftModel.from_pretrained(model, adapter, is_trainable=True)


def reference_loss(model, rows) -> torch.Tensor:
    """Token mean over a padded batch, with transformers' own loss."""
    longest = max(len(row.ids) for row in rows)
    ids, mask = torch.zeros(len(rows), longest, dtype=torch.int64), torch.zeros(len(rows), longest, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORE_INDEX)
    for i, row in enumerate(rows):
        ids[i, :len(row.ids)], labels[i, :len(row.ids)] = torch.tensor(row.ids), torch.tensor(row.labels)
        mask[i, :len(row.ids)] = 1
    return model(input_ids=ids, attention_mask=mask, labels=labels).loss


def ours(folders, **settings):
    base, adapter = folders
    config = TrainConfig(out="unused", model=str(base), adapter=str(adapter), rank=4, alpha=8, precision="fp32",
                         global_batch_size=16, learning_rate=RATE, max_steps=STEPS, micro_batch_tokens=100,
                         warmup_ratio=0.0, final_learning_rate=RATE, clip=0.0, **settings)
    trainer = prepare(config, Processes(), toy_rows(16), None, None, object(), lambda line: None)
    trainer.model.train()
    return trainer


def theirs(model) -> dict[str, torch.nn.Parameter]:
    return {name.replace(".default", ""): p for name, p in model.named_parameters() if "lora_" in name}


def test_lora_gradients_are_those_of_peft_and_transformers(folders):
    trainer = ours(folders)
    loss, _ = accumulate_gradients(trainer, trainer.micro_batches(trainer.rows))
    reference = reference_model(*folders)
    expected = reference_loss(reference, trainer.rows)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    mine, other = lora_parameters(trainer.model), theirs(reference)
    assert set(mine) == set(other) and len(mine) == 2 * 7 * 3
    for name, weight in mine.items():
        assert (weight.grad - other[name].grad).norm() <= 1e-4 * other[name].grad.norm(), name


def test_after_20_steps_the_weights_are_those_of_peft_and_transformers(folders):
    trainer = ours(folders)
    reference = reference_model(*folders)
    optimizer = torch.optim.AdamW(theirs(reference).values(), lr=RATE, betas=(0.9, 0.999), weight_decay=0.0)
    start = {name: weight.clone() for name, weight in lora_parameters(trainer.model).items()}
    losses = []
    for _ in range(STEPS):
        losses.append(train_step(trainer)["loss"])
        optimizer.zero_grad()
        reference_loss(reference, trainer.rows).backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    for name, weight in lora_parameters(trainer.model).items():
        other = theirs(reference)[name]
        assert (weight - other).norm() <= 1e-3 * other.norm(), name
        assert (weight - start[name]).norm() > 1e-2 * start[name].norm(), name


def test_an_adapter_from_here_loads_in_peft_with_the_same_logits(folders):
    model = load_model(folders[0])
    load_adapter(model, folders[1])
    with torch.no_grad():
        torch.testing.assert_close(reference_model(*folders).eval()(IDS).logits, model(IDS), rtol=0, atol=1e-4)


def test_an_adapter_from_peft_loads_here_with_the_same_logits(folders, tmp_path):
    base = folders[0]
    settings = peft.LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM",
                               init_lora_weights=False)
    reference = peft.get_peft_model(reference_model(base), settings).eval()
    reference.save_pretrained(tmp_path / "peft")
    model = load_model(base)
    load_adapter(model, tmp_path / "peft")
    assert len(lora_layers(model)) == 2 * 3
    with torch.no_grad():
        assert (model(IDS) - load_model(base)(IDS)).abs().max() > 1e-2
        torch.testing.assert_close(model(IDS), reference(IDS).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shard_gb", [5.0, 1e-4])
def test_a_merged_checkpoint_loads_in_transformers(shard_gb, folders, tmp_path):
    base, adapter = folders
    (base / "tokenizer.json").write_text("{}")
    drift = export(base, adapter, tmp_path / "merged", load_model=load_model, save_model=save_model, shard_gb=shard_gb)
    assert drift.weights == 0.0 and drift.logits < 1e-4
    assert (tmp_path / "merged" / "tokenizer.json").read_text() == "{}"
    assert (len(list((tmp_path / "merged").glob("*.safetensors"))) > 1) == (shard_gb < 1)
    model = load_model(base)
    load_adapter(model, adapter)
    with torch.no_grad():
        theirs_merged = reference_model(tmp_path / "merged").eval()(IDS).logits
        torch.testing.assert_close(theirs_merged, model(IDS), rtol=0, atol=1e-4)
    merge(model)


def test_an_exported_adapter_loads_in_peft(folders, tmp_path):
    base, adapter = folders
    assert export(base, adapter, tmp_path / "out", load_model=load_model) is None
    with torch.no_grad():
        torch.testing.assert_close(reference_model(base, tmp_path / "out").eval()(IDS).logits,
                                   reference_model(base, adapter).eval()(IDS).logits)
