"""Make tests/golden/model.json: what the reference library computes for the tiny checkpoints of tests/model_tiny.py.

    python -m tests.golden.make_model        (needs transformers; the everyday tests then do not)

For each configuration, in float32 with eager attention: logits at four positions of a row of 96 ids, and for the
gradient of the mean next-token loss each tensor's norm and its product with a fixed direction. Also the root mean
square error of the reference's own bfloat16 and float16 logits against its float32 ones, the yardstick for half
precision.
"""

import json
import platform
from pathlib import Path

import torch
import transformers

from tests.model_tiny import CONFIGS, direction, draw_weights, next_token_loss, token_ids

POSITIONS = [0, 31, 64, 95]
CLASSES = {"llama": ("LlamaConfig", "LlamaForCausalLM"), "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
           "mistral": ("MistralConfig", "MistralForCausalLM")}


def reference_model(raw: dict, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """Hugging Face's model of a config.json object, with the tiny weights."""
    config_class, model_class = (getattr(transformers, name) for name in CLASSES[raw["model_type"]])
    config = config_class.from_dict({key: value for key, value in raw.items() if key != "architectures"})
    config._attn_implementation = "eager"
    model = model_class(config).eval()
    tied = bool(raw.get("tie_word_embeddings", False))
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    if tied:
        del shapes["lm_head.weight"]
    missing, unexpected = model.load_state_dict(draw_weights(shapes, tied), strict=False)
    assert not unexpected and missing in ([], ["lm_head.weight"])
    return model.to(dtype)


def golden(raw: dict) -> dict:
    """The frozen values of one configuration."""
    ids = token_ids(1, 96)
    model = reference_model(raw)
    logits = model(ids).logits
    next_token_loss(logits, ids).backward()
    errors = {}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        with torch.no_grad():
            errors[name] = float((reference_model(raw, dtype)(ids).logits.float() - logits).square().mean().sqrt())
    gradients = {name: [float(w.grad.norm()), float((w.grad * direction(name, tuple(w.shape))).sum())]
                 for name, w in model.named_parameters()}
    return {"std": float(logits.std()), "half_precision_rms_error": errors, "gradients": gradients,
            "logits": [[round(value, 7) for value in row] for row in logits[0, POSITIONS].tolist()]}


if __name__ == "__main__":
    torch.manual_seed(0)
    made_with = {"python": platform.python_version(), "torch": torch.__version__,
                 "transformers": transformers.__version__}
    found = {name: golden(raw) for name, raw in CONFIGS.items()}
    for name, values in found.items():
        print(f"{name:24} logits std {values['std']:.3f}, rms errors {values['half_precision_rms_error']}")
    text = json.dumps({"made_with": made_with, "positions": POSITIONS, "configs": found})
    Path(__file__).with_name("model.json").write_text(text.replace('}, "', '},\n"') + "\n")
