"""What a row, a message, a call or a log says of its answer: not to be learnt, judged bad, or not all that was said.

Marks are columns and keys. A table writes them as texts; those count like the values that they spell.
"""

import re
from collections.abc import Mapping
from typing import Any

from data.formats.items import RowError, is_nothing
from data.formats.parts import as_value, failed, role_word
from data.formats.strict import unpacked
from data.formats.values import first

_LEARNT = re.compile(r"(?:.+_)?(?:loss|weight|loss_?(?:mask|weights?|scale))"
                     r"|train(?:ing|able|ed|_?on(?:_?turn)?)?|learn", re.IGNORECASE)
_MASKED = ("masked", "mask", "deleted", "ignore", "ignored", "skip", "exclude", "excluded")
MASKS = re.compile(r"(?:.+_)?(?:loss|weight|(?:loss|train)_?(?:masks?|weights?|scale|on)?)s?", re.IGNORECASE)
# Of a row or a message; false, or a reward of nothing: its answer is an example of what not to say.
_VERDICT = re.compile(
    r"(?!(?:n|num|count|total)_)(?:.+_)?(?:correct(?:ness)?|accuracy|desirable|valid|validity|pass|passed|success"
    r"|accept(?:ed)?|approved|keep|kept|keep_row\w*|good|preferred|is_chosen|resolved|upvoted?|thumbs_up"
    r"|faithful)(?:_checks?)?"
    r"|(?:is_)?ok|(?:semantic|format|execution)_check(?:er)?|label|kto_tag|rewards?|verdict|judge?ment|outcome|quality"
    r"|feedback|(?:(?=.*judge).*_|quality_|overall_|total_)?scores?", re.IGNORECASE)
_STARTS, _ENDS = "(?:(?<![a-z])|(?-i:(?<=[a-z])(?=[A-Z])))", "(?:(?![a-z])|(?-i:(?<=[a-z])(?=[A-Z])))"   # a word
_IN_WORDS = re.compile(
    rf"{_STARTS}(?:(?:verdict|judge(?:e?ment)?|judgment|label|result|verification|verifier|thumb|grade|decision|filter"
    rf"|review|validity|validation|valid|eval|evaluation|checker|check(?!_?(?:in|out)(?![a-z])))s?{_ENDS}"
    rf"|(?:verifi|filter|validat|judg|review|evaluat|grad|label|check)ed\Z)", re.IGNORECASE)
_VOTE = re.compile(rf"{_STARTS}(?:thumb|vote|feedback|rating)s?{_ENDS}", re.IGNORECASE)
_BAD = ("bad", "wrong", "incorrect", "invalid", "reject", "rejected", "undesirable", "fail", "failed", "failure",
        "thumbs_down")
_AGAINST_IT = ("down", "negative", "thumbs_down", "thumbs down", "thumbs-down", "thumbsdown")
_AGAINST = re.compile(r"(?:is_|was_)?(?:bad|wrong|incorrect|invalid|rejected|undesirable|hallucinat(?:ed|ions?)"
                      r"|discard(?:ed)?|drop(?:ped)?|filter(?:ed)?_out|corrupt(?:ed)?|broken)", re.IGNORECASE)
_JUDGING = re.compile(rf"{_STARTS}(?:judg|eval|annotat|label|feedback|metric|assess|review|verif"
                      rf"|grade|reward|score|check(?:s|ers?|ed)?{_ENDS})", re.IGNORECASE)
_STOPPED = re.compile(r"(?:.*[._])?(?:finish|stop(?:ping)?|done|termination|incomplete)_?(?:reasons?|details|type)"
                      r"|finish", re.IGNORECASE)
_FAILED = re.compile(r"(?:is_?|has_?)?(?:error|failed|exception)|error_?message|refusal"
                     r"|(?:reject(?:ion|ed)?|fail(?:ure|ed)?|discard(?:ed)?|exclusion)_?reasons?", re.IGNORECASE)
_STATUS = re.compile(r"(?:\w+_)?status", re.IGNORECASE)
_ANNOTATED = re.compile(                                # of an order, "rejected" tells nothing of the answer
    r"(?:(?:.+[_.])?(?:annotat(?:ion|or)|answer|completion|example|human|label|quality|record|responses?|review(?:er)?"
    r"|sample|validation|verification)[_.])?status", re.IGNORECASE)
_THROWN_OUT = {"rejected", "discarded"}                             # by Argilla's annotators
_FIRST_OF_SEVERAL = re.compile(                                     # "FAIL - wrong tool", but not "failed: 0"
    r"([a-z_]+)(?:\s+[-–—]|\s*(?:[;:(]|[,.]\s)(?!\s*(?:0|no|none|false|\[\])\)?\s*\Z))")
_EXECUTED = re.compile(r"(?:exec(?:ution)?|run|call|tool|api)_?(?:results?|outputs?|responses?)|exec(?:ution)?",
                       re.IGNORECASE)
_LOGS = ("response_metadata", "generation_info", "metadata", "extra", "extra_info", "info", "response", "generation",
         "usage")                                           # where logs may lie in a message or a row
_CUT_OFF = re.compile(r"length|max_|limit|exceed|timeout|too_many|filter|safety|block|prohibit|spii|recit|guardrail|"
                      r"refus|malformed|unexpected|incomplete|fail|cancel|error|abort|interrupt|pause|progress")
_WENT_WRONG = re.compile(r"fail|error|incomplete|time_?out")
_GOES_ON = {
    **dict.fromkeys(("prefix", "partial", "truncated", "is_truncated", "was_truncated", "cut_off", "stopped_limit",
                     "incomplete", "interrupted", "aborted"), True),
    **dict.fromkeys(("end_turn", "done", "complete", "completed", "is_complete", "finished"), False)}
_ENDS_WITH_CALLS = ("tool_calls", "tool_call", "tool_use", "function_call")


def row_is_learnt(row: Mapping[str, Any]) -> bool:
    """False where a whole row is marked as not to be learnt, or as an example of a bad answer (KTO's `label`)."""
    return learnt(row) and not condemned(row)


def condemned(marked: Mapping[str, Any]) -> bool:
    """Is a row, a message or a call judged bad, by a mark of its own or one in its logs, or did its run go wrong?"""
    judging = [unpacked(value) for name, value in marked.items() if name in _LOGS or _JUDGING.search(str(name))]
    inside = [part for value in judging for part in (value if isinstance(value, list) else [value])
              if isinstance(part, dict)]
    named = [{role_word(part["name"]): _told(part)} for part in inside if isinstance(part.get("name"), str)]
    ran = [unpacked(value) for name, value in marked.items() if _EXECUTED.fullmatch(str(name))]
    return any(map(is_bad, [marked, *inside, *named])) or any(map(failed, ran))


def _told(score: Mapping[str, Any]) -> Any:
    """What a named score says: its word before its number, which is an index beside one; 1 is yes, no count."""
    value = first(score, ("stringValue", "string_value", "value"))
    return True if value == 1 else value


def is_bad(marked: Mapping[str, Any]) -> bool:
    """Is a row or a message judged bad: a verdict of no, a reward of nothing?"""
    bad = [key for key, value in marked.items() if _is_against(str(key), value)]
    return any(marked.get(key) is not None for key in bad)


def _is_against(key: str, value: Any) -> bool:
    """Does a column, or a key of a message, speak against the answer?"""
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in _AGAINST_IT and _VOTE.search(key):           # of a service, `down` tells nothing of the answer
        return True
    if _ANNOTATED.fullmatch(key) and _words(value) and _THROWN_OUT.issuperset(_words(value)):
        return True
    first = _FIRST_OF_SEVERAL.match(word)
    if word in _BAD or first and first[1] in _BAD:
        return bool(_VERDICT.fullmatch(key) or _IN_WORDS.search(key))
    if isinstance(value, list) and value and _VERDICT.fullmatch(key):
        return all(map(is_off, value))
    if bool(_VERDICT.fullmatch(key)) and is_off(value):
        return True
    spoken = key.lower() == "rejected" and bool(word) and word != "true"    # the rejected answer of a preference
    counted = value == 1 and value is not True and not key.lower().startswith(("is_", "was_"))      # one was rejected
    return _is_on(value) and not spoken and not counted and bool(_AGAINST.fullmatch(key))


def learnt(marked: Mapping[str, Any]) -> bool:
    """False where a message or a row is marked as not to be learnt: `"weight": 0`, `"train": false`, ..."""
    off = any(is_off(marked[key]) for key in marked if _LEARNT.fullmatch(key))
    lists = (unpacked(value) for key, value in marked.items() if MASKS.fullmatch(key))      # of messages or tokens
    off = off or any(isinstance(marks, list) and marks and all(map(is_off, marks)) for marks in lists)
    return not off and not any(_is_on(marked[key]) for key in _MASKED if key in marked)


def is_off(value: Any) -> bool:
    """Does a mark say no: false, a number of 0 or less, or a text of that?"""
    mark = as_value(value)
    return isinstance(mark, (bool, int, float)) and mark <= 0


def _is_on(value: Any) -> bool:
    """Does a mark say yes: true, 1, or a text of that?"""
    mark = as_value(value)
    return isinstance(mark, (bool, int, float)) and mark == 1


def unfinished(marked: Mapping[str, Any], *, message: bool = False, calling: bool = False) -> RowError | None:
    """A fault where the log of a row, or of a message, says that a reply was cut off, goes on or failed, or, of one
    without calls, that it has not ended, or ended with calls."""
    goes_on = [key for key, mark in _GOES_ON.items()
               if (_is_on if mark else is_off)(dict.get(marked, key)) and (mark or not calling)]
    failed = [key for key, value in marked.items() if _tells_failure(key, value)]
    if goes_on or failed:
        key = (*goes_on, *failed)[0]
        shown = f"{key}: {marked[key]!r:.80}"
        return RowError("unfinished_answer", f"{shown}; the reply is not all that was answered", stage="calls")
    logs = [marked, *(part for name in _LOGS if isinstance(part := dict.get(marked, name), dict))]
    for key, told in ((key, value) for log in logs for key, value in log.items() if _STOPPED.fullmatch(key)):
        for word in _words(told):
            if _CUT_OFF.search(word) or word in _ENDS_WITH_CALLS and not calling:
                marked.get(key)
                return RowError("unfinished_answer", f"`{key}` is {told!r:.60}: the reply is not all that was answered",
                                stage="calls")
    for key in filter(_STATUS.fullmatch, map(str, marked)):         # of a row, a word like "blocked" is anybody's
        if any(map((_CUT_OFF if message else _WENT_WRONG).search, _words(dict.get(marked, key)))):
            return RowError("unfinished_answer", f"`{key}` is {marked[key]!r:.40}", stage="calls")
    return None


def _tells_failure(key: str, value: Any) -> bool:
    """Does a log's field tell of a failure: an `error` that holds one, or Langfuse's level of one?"""
    if key == "level":
        return _words(value) == ["error"]
    return bool(_FAILED.fullmatch(key)) and not (void(value) or is_nothing(value) or is_off(value))


def _words(value: Any) -> list[str]:
    """The words of a log's field, in small letters: one, a list of them, or those of an object (`{"reason": ...}`)."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else (value,)
    return [part.strip().lower() for part in parts if isinstance(part, str)]


def void(value: Any) -> bool:
    """Nothing, or what tables with fixed columns write for it: null in every field."""
    if isinstance(value, dict):
        return all(void(inner) for inner in value.values())
    return value is None or value == "" or (isinstance(value, list) and all(void(inner) for inner in value))
