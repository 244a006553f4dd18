"""Low-rank adapters: the layer, and adapters on a whole model in PEFT's file layout."""

from lora.adapter import TARGETS, apply_lora, load_adapter, lora_layers, lora_parameters, merge, save_adapter
from lora.layer import LoRALinear

__all__ = ["TARGETS", "LoRALinear", "apply_lora", "load_adapter", "lora_layers", "lora_parameters", "merge",
           "save_adapter"]
