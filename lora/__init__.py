"""Low-rank adapters: the layer, adapters on a whole model in PEFT's file layout, and export to other tools."""

from lora.adapter import (
           TARGETS,
           adapted_layers,
           adapter_folder,
           apply_lora,
           layers_of,
           load_adapter,
           lora_layers,
           lora_parameters,
           merge,
           reset_adapter,
           save_adapter,
)
from lora.adapter_config import read_config
from lora.export import Drift, companions, copy_companions, export
from lora.layer import LoRALinear

__all__ = ["TARGETS", "Drift", "LoRALinear", "adapted_layers", "adapter_folder", "apply_lora", "companions",
           "copy_companions", "export", "layers_of", "load_adapter", "lora_layers", "lora_parameters", "merge",
           "read_config", "reset_adapter", "save_adapter"]
