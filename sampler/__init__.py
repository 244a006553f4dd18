"""Sampling: a prompt is prefilled once, its samples fork from it, all rows decode together."""

from .engine import generate
from .options import Completion, Options
from .shards import generate_share, place_in_world, read_shares

__all__ = ["Completion", "Options", "generate", "generate_share", "place_in_world", "read_shares"]
