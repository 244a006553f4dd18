"""Is a text a conversation as a chat template writes it, turn marks and all? Such a text is no user's query."""

from __future__ import annotations

import re

_WHO = r"(?:user|human|system|assistant|bot|model|tool|observation|prompter|developer|ipython|gpt)"
_START = re.compile(r"(?:\s|<s>|<bos>|\[gMASK\]|<sop>|<[|｜](?:begin[▁_]of[▁_](?:text|sentence)|startoftext|endoftext|end[▁_]of[▁_]text)[|｜]>)*")
_ROLE = re.compile(
    rf"<\|(?:im_start|start|turn|im_user|im_assistant|im_system)\|?>\s*{_WHO}\b|<\|start_header_id\|>|<\|start_of_role\|>|<(?:\|)?start_of_turn(?:\|)?>"
    rf"|<[|｜]{_WHO}[|｜]>|\[\|{_WHO}\|\]|\[INST\]|<\|START_OF_TURN_TOKEN\|>|<extra_id_[01]>|<role>\s*{_WHO}|\]~b\]{_WHO}|<\|im_(?:user|assistant|system)\|>"
    rf"|^\s*#{{2,3}}\s*(?:Instruction|Response|Input|{_WHO})\s*:", re.IGNORECASE | re.MULTILINE)
_ANSWERER = re.compile(r"(?:assistant|bot|model|response|gpt)\b|\[/INST\]", re.IGNORECASE)
_WORDS = re.compile(rf"^[^\w\n]{{0,4}}(?P<who>{_WHO}|AI)\s*:", re.IGNORECASE | re.MULTILINE)
_ANSWERERS = ("assistant", "bot", "model", "gpt", "ai")


def rendered(text: str) -> bool:
    """Does the text begin with a turn mark of a chat template, or hold several of them?"""
    if "<" not in text and "[" not in text and "#" not in text:
        return False
    marks = list(_ROLE.finditer(text))
    return bool(marks) and (len(marks) > 1 or marks[0].start() <= _START.match(text).end() or "[/INST]" in text)  # type: ignore[union-attr]


def holds_an_answer(text: str) -> bool:
    """Does the text end with what an assistant says, in lines of `Human:` and `Assistant:`? A dialogue up to a user's turn does not."""
    marks = list(_WORDS.finditer(text))
    return len(marks) > 1 and marks[-1]["who"].lower() in _ANSWERERS and any(mark["who"].lower() in ("user", "human") for mark in marks)
