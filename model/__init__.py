"""Llama 3, Qwen2.5 and Mistral from Hugging Face folders: config, weights, forward pass, tokenizer, chat format."""

from . import chat
from .config import ModelConfig
from .tokenizer import Tokenizer, load_tokenizer
from .transformer import Transformer
from .weights import load_model, save_model

__all__ = ["ModelConfig", "Tokenizer", "Transformer", "chat", "load_model", "load_tokenizer", "save_model"]
