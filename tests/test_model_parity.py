"""Our forward and backward pass against frozen values of the reference library (tests/golden/make_model.py)."""

import json
from pathlib import Path

import pytest
import torch

from tests.model_tiny import CONFIGS, direction, next_token_loss, tiny_model, token_ids

GOLDEN = json.loads((Path(__file__).parent / "golden" / "model.json").read_text())
TOLERANCE = 1e-4                                    # absolute, on logits whose standard deviation is about 1


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_the_reference(name):
    golden = GOLDEN["configs"][name]
    with torch.no_grad():
        logits = tiny_model(CONFIGS[name])(token_ids(1, 96))[0]
    assert 0.7 < logits.std() < 1.5
    torch.testing.assert_close(logits[GOLDEN["positions"]], torch.tensor(golden["logits"]), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_equal_the_reference(name):
    """Norm of each tensor's gradient, and its product with a fixed direction of unit variance."""
    model, ids = tiny_model(CONFIGS[name]), token_ids(1, 96)
    next_token_loss(model(ids), ids).backward()
    golden = GOLDEN["configs"][name]["gradients"]
    gradients = {parameter: weight.grad for parameter, weight in model.named_parameters()}
    assert gradients.keys() == golden.keys()
    for parameter, (norm, product) in golden.items():
        gradient = gradients[parameter]
        assert abs(float(gradient.norm()) - norm) <= 1e-4 * norm, parameter
        ours = float((gradient * direction(parameter, tuple(gradient.shape))).sum())
        assert abs(ours - product) <= 1e-4 * norm, parameter


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_half_precision_strays_no_further_than_the_reference_does(name, dtype):
    """Root mean square distance to float32 logits, at most 1.1 times that of the reference in the same precision.

    Ours is usually smaller: RoPE is computed in float32 here, and in the half type there.
    """
    model, ids = tiny_model(CONFIGS[name]), token_ids(1, 96)
    with torch.no_grad():
        exact = model(ids)
        error = (model.to(getattr(torch, dtype))(ids).float() - exact).square().mean().sqrt()
    assert error <= 1.1 * GOLDEN["configs"][name]["half_precision_rms_error"][dtype]
