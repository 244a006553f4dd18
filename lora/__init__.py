"""Low-rank adapters: the layer, adapters on a whole model in PEFT's file layout, and export to other tools."""

from lora.adapter import (
           TARGETS,
           adapter_folder,
           apply_lora,
           load_adapter,
           lora_layers,
           lora_parameters,
           merge,
           read_config,
           reset_adapter,
           save_adapter,
)
from lora.export import Drift, copy_companions, export
from lora.layer import LoRALinear

__all__ = ["TARGETS", "Drift", "LoRALinear", "adapter_folder", "apply_lora", "copy_companions", "export", "load_adapter", "lora_layers",
           "lora_parameters", "merge", "read_config", "reset_adapter", "save_adapter"]
