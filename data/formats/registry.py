"""All formats by name, and the guess behind `--from auto`. The order is that of the guess: special layouts first."""

from __future__ import annotations

from typing import Any

from data.formats import (
    apibank,
    bfcl,
    glaive,
    hermes,
    mcp,
    openai,
    prompts_in_text,
    queries,
    sealtools,
    sharegpt,
    toolace,
    toolalpaca,
    toolbench,
    trl,
    xlam,
)
from data.formats.items import Format

FORMATS: dict[str, Format] = {fmt.name: fmt for fmt in (
    toolalpaca.FORMAT, prompts_in_text.TOOLRL, prompts_in_text.MASKED, sealtools.FORMAT, sealtools.NESTOOLS,
    apibank.FORMAT, xlam.FORMAT,
    prompts_in_text.NESTFUL, trl.FORMAT, hermes.FORMAT, glaive.FORMAT, toolace.FORMAT, sharegpt.FORMAT,
    openai.FUNCTIONCHAT, openai.FORMAT,
    bfcl.FORMAT, prompts_in_text.MTU, toolbench.FORMAT, mcp.FORMAT, mcp.TOOLS, queries.FORMAT)}

# Files of public corpora that hold no tools, examples or queries in a form that a reader could take.
NOT_SERVED = (
    ("name_for_human", "a plugin manifest: marketing lines, no parameters"),
    ("Cors", "a public API list: one-line descriptions, no parameters"),
)


# Columns of text that somebody says: a row of them is no dictionary of descriptions, though no reader may take it.
_SAID = {"query", "user_request", "instruction", "input", "output", "prompt", "response", "question", "answer", "text",
         "completion"}


def guess(row: Any) -> Format | None:
    """The first format that recognises the row, or None."""
    return next((fmt for fmt in FORMATS.values() if fmt.looks_like(row)), None)


def not_served(row: Any) -> str | None:
    """Why a row of a known corpus has no reader; None where it may have one."""
    if not isinstance(row, dict) or not row:
        return None
    if isinstance(row.get("entries"), list) and row["entries"] and isinstance(row["entries"][0], dict):
        row = row["entries"][0]
    for key, why in NOT_SERVED:
        if key in row:
            return why
    values = list(row.values())
    if len(row) > 1 and all(isinstance(value, str) for value in values) and not _SAID & set(row):
        return "a dictionary of names and descriptions: no parameters, no queries"
    if all(isinstance(value, list) and all(isinstance(part, str) for part in value) for value in values):
        return "lists of names: no parameters, no queries"
    return None
