"""Is a text a prompt or a conversation as a chat template writes it? Such a text is no user's query."""

import re

_WHO = r"(?:user|human|system|assistant|bot|model|tool|observation|prompter|developer|ipython|gpt)"
_START = re.compile(r"(?:\s|<s>|<bos>|\[gMASK\]|<sop>"
                    r"|<[|｜](?:begin[▁_]of[▁_](?:text|sentence)|startoftext|endoftext|end[▁_]of[▁_]text)[|｜]>)*")
_ROLE = re.compile(
    rf"<\|(?:im_start|start|turn)\|?>\s*{_WHO}\b|<\|start_header_id\|>|<\|start_of_role\|>|<\|?start_of_turn\|?>"
    rf"|<[|｜]{_WHO}[|｜]>|\[\|{_WHO}\|\]|\[INST\]|<\|START_OF_TURN_TOKEN\|>|<extra_id_[01]>|<role>\s*{_WHO}"
    rf"|\]~b\]{_WHO}|<\|im_(?:user|assistant|system)\|>"
    rf"|^[^\S\n]*+#{{2,3}}\s*(?:Instruction|Response|Input|{_WHO})\s*:", re.IGNORECASE | re.MULTILINE)
_ANSWERER = re.compile(r"[\n>][^\S\n]*+(?:<[^<>\n]{1,40}>\s*(?:assistant|model|bot|gpt)\b"
                       r"|<[|｜](?:assistant|model|bot|gpt)[|｜]>)|\[/INST\]", re.IGNORECASE)
_WORDS = re.compile(rf"^[^\w\n]{{0,4}}(?P<who>{_WHO}|AI)\s*:", re.IGNORECASE | re.MULTILINE)
_AWAITING = re.compile(r"^[^\w\n]{0,4}(?:assistant|bot|model|gpt|ai)\s*:\s*\Z", re.IGNORECASE | re.MULTILINE)
_DECLARES = re.compile(
    r"<tools>\s*[\[{]|[\"']parameters[\"']\s*:\s*\[\s*\{\s*[\"']name[\"']"
    r"|[\"'](?:parameters|input_schema|inputSchema)[\"']\s*:\s*\{\s*(?:[\"']type[\"']\s*:\s*[\"'](?:object|dict)[\"']"
    r"|[\"']properties[\"']|[\"']\w+[\"']\s*:\s*\{\s*[\"'](?:type|description)[\"'])", re.IGNORECASE)
_ANSWERERS = ("assistant", "bot", "model", "gpt", "ai")


def awaits_an_answer(text: str) -> bool:
    """Does the text begin with a speaker's name and end with an assistant's that says nothing yet?"""
    return _AWAITING.search(text) is not None and _WORDS.match(text.lstrip()) is not None


def rendered(text: str) -> bool:
    """Does the text begin with a turn mark of a chat template, hold several, or open an assistant's turn on a line?"""
    if "<" not in text and "[" not in text and "#" not in text:
        return False
    marks = list(_ROLE.finditer(text))
    first = marks[0].start() if marks else len(text)
    opens = first <= _START.match(text).end()  # type: ignore[union-attr]
    return bool(marks) and (len(marks) > 1 or opens or _ANSWERER.search(text) is not None)


def declares_tools(text: str) -> bool:
    """Does the text hold the definition of a tool, as a prompt that lists them does?"""
    return ("[" in text or "{" in text) and _DECLARES.search(text) is not None


def holds_an_answer(text: str) -> bool:
    """Does the text end with what an assistant says, in lines of `Human:` and `Assistant:`?"""
    speakers = [mark["who"].lower() for mark in _WORDS.finditer(text)]
    return bool(speakers) and speakers[-1] in _ANSWERERS and not {"user", "human"}.isdisjoint(speakers)
