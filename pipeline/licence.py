"""Which licence the folder of a base names: in its card, or by the first lines of its licence file. Nothing is guessed.

Model hubs want an identifier (Hugging Face's list: hub docs, "Licenses"); a title such as "Apache License" is none.
"""

import re
from dataclasses import dataclass
from pathlib import Path

FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md")
# How well-known texts begin, in lower case and without marks -> the hub's identifier.
BEGINNINGS = {
    "apache license version 2.0": "apache-2.0",
    "mit license copyright": "mit",
    "the mit license mit copyright": "mit",
    "mit license mit copyright": "mit",
    "bsd 2-clause license": "bsd-2-clause",
    "bsd 3-clause license": "bsd-3-clause",
    "llama 2 community license agreement": "llama2",
    "meta llama 3 community license agreement": "llama3",
    "llama 3.1 community license agreement": "llama3.1",
    "llama 3.2 community license agreement": "llama3.2",
    "llama 3.3 community license agreement": "llama3.3",
    "gemma terms of use": "gemma"}


@dataclass(frozen=True)
class Licence:
    """What a folder says: `hub_id` as hubs spell it, "" where that is not known; `text` in words, "" for nothing."""

    hub_id: str = ""
    text: str = ""


def licence_of(base: Path) -> Licence:
    """The licence that the card in the base's folder names, else that of its licence file."""
    if named := _card_says(base / "README.md"):
        return Licence(named, named)
    for path in (base / name for name in FILES):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            title = next((line.strip() for line in text.splitlines() if line.strip()), "")
            found = next((name for start, name in BEGINNINGS.items() if _bare(text).startswith(start)), "")
            return Licence(found, found or f"a text that begins with \N{LEFT DOUBLE QUOTATION MARK}{title[:120]}"
                                           "\N{RIGHT DOUBLE QUOTATION MARK}")
    return Licence()


def _card_says(card: Path) -> str:
    if not card.is_file():
        return ""
    head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), flags=re.S)
    found = head and re.search(r"^license: *[\"']?([^\"'\n]+)", head[1], flags=re.M)
    return found[1].strip() if found else ""


def _bare(text: str) -> str:
    """The beginning in lower case: words and numbers with one blank between them."""
    return " ".join(re.findall(r"[\w.-]*\w", text[:2_000].lower()))
