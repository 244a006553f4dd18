"""Sampling: a prompt is prefilled once, its samples fork from it, all rows decode together."""

from .engine import Completion, Options, generate
from .shards import generate_share, place_in_world, read_shares

__all__ = ["Completion", "Options", "generate", "generate_share", "place_in_world", "read_shares"]
