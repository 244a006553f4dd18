"""Sampling: a prompt is prefilled once, its samples fork from it, all rows decode together."""

from .engine import Completion, Options, generate

__all__ = ["Completion", "Options", "generate"]
