"""Live comparison with transformers: run with `pytest -m reference`. The everyday tests use its frozen values."""

import pytest
import torch

from model import load_model, save_model
from tests.model_tiny import CONFIGS, next_token_loss, tiny_model, token_ids
from tests.test_model_parity import TOLERANCE

pytestmark = pytest.mark.reference
transformers = pytest.importorskip("transformers")


def reference(name: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    from tests.golden.make_model import reference_model

    return reference_model(CONFIGS[name], dtype)


@pytest.mark.parametrize("shard_size", ["1GB", "60KB"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_that_the_reference_wrote_gives_its_logits(tmp_path, name, shard_size):
    """Whole and sharded, in the spelling of the installed version; three rows of 200 ids."""
    theirs, ids = reference(name), token_ids(3, 200)
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 if shard_size == "1GB" else (
        (tmp_path / "model.safetensors.index.json").is_file())
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path)(ids), theirs(ids).logits, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("shard_gb", [1.0, 60e-6])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_reference_reads_the_folder_that_we_write(tmp_path, name, shard_gb):
    ours, ids = tiny_model(CONFIGS[name]), token_ids(1, 96)
    save_model(ours, tmp_path, shard_gb=shard_gb)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs.eval()(ids).logits, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_gradient_equals_the_references(name):
    ours, theirs, ids = tiny_model(CONFIGS[name]), reference(name), token_ids(2, 128)
    next_token_loss(ours(ids), ids).backward()
    next_token_loss(theirs(ids).logits, ids).backward()
    gradients = dict(theirs.named_parameters())
    for parameter, weight in ours.named_parameters():
        other = gradients[parameter].grad
        assert (weight.grad - other).norm() <= 1e-4 * other.norm(), parameter


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CONFIGS)
def test_half_precision_is_within_the_references_own_rounding(name, dtype):
    """Against the reference in float32: root mean square and largest error, ours at most 1.1 and 1.5 times theirs."""
    ids = token_ids(4, 128)
    with torch.no_grad():
        exact = reference(name)(ids).logits
        theirs = (reference(name, dtype)(ids).logits.float() - exact).abs()
        ours = (tiny_model(CONFIGS[name]).to(dtype)(ids).float() - exact).abs()
    assert ours.square().mean().sqrt() <= 1.1 * theirs.square().mean().sqrt()
    assert ours.max() <= 1.5 * theirs.max()


def test_packed_rows_equal_the_references_separate_ones():
    """Padding-free packs, with and without a sliding window, against one reference call per sequence."""
    lengths, ids = [70, 3, 90, 37], token_ids(1, 200)
    for name in ("qwen2.5-untied", "qwen2-window", "mistral-window"):
        with torch.no_grad():
            separate = torch.cat([reference(name)(part).logits for part in ids.split(lengths, dim=1)], dim=1)
            packed = tiny_model(CONFIGS[name])(ids, lengths=lengths)
        torch.testing.assert_close(packed, separate, rtol=0, atol=TOLERANCE)
