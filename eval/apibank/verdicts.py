"""API-Bank's verdicts: run the call that a reply makes, compare its result with the recorded one by the API's own rule.

Follows the released evaluator: the service is run on a fresh copy of its initial state. Two scores are given: `score`,
where the rows that nobody can get right stay 0, and `call_match`, where they count when the expected call was made.
Labelled fall-backs: translation, dictionary and search stand in for services that need a network or an embedding model.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from eval.apibank.reading import find_call, read_arguments
from eval.apibank.rows import Data, Row
from eval.apibank.searches import bm25_top, lexical_best
from eval.apibank.services import DAY, MOMENT, SERVICES, ServiceError, normal_date, normal_day_of_year

OPTIONAL = {"ModifyRegistration": ("new_appointment_date", "new_appointment_doctor"),
            "RecordHealthData": ("health_data",),
            "ForgotPassword": ("username", "email", "verification_code", "new_password"),
            "Translate": ("src_lang", "tgt_lang")}
WORDS = {"AddAgenda": False, "ModifyAgenda": False, "QueryAgenda": False,       # content by word overlap: fold case?
         "AddReminder": True, "ModifyReminder": True, "QueryReminder": True}
MEETINGS = ("AddMeeting", "ModifyMeeting", "QueryMeeting")
DRIFT = "description drift"


_trim = str.strip
_day, _moment = (partial(normal_date, form=form) for form in (DAY, MOMENT))


def _fold(text: str) -> str:
    return text.strip().lower()


def _capital(text: str) -> str:
    return text.strip().upper()


# Inputs compared, each after a reading of its own; a reading of None (a date that does not parse) never agrees.
INPUTS: dict[str, dict[str, Any]] = {
    "Calculator": {"formula": lambda t: t.replace(" ", "")}, "EmergencyKnowledge": {"symptom": _fold},
    "SymptomSearch": {"symptom": _fold},
    "AppointmentRegistration": {"patient_name": _trim, "date": _day, "doctor_name": _trim},
    "QueryRegistration": {"patient_name": _trim, "date": _day}, "CancelRegistration": {"appointment_id": _trim},
    "RecordHealthData": {"user_id": _capital, "time": _moment},
    "QueryHealthData": {"user_id": _capital, "start_time": _moment, "end_time": _moment},
    "QueryStock": {"stock_code": _capital, "date": _day}, "QueryHistoryToday": {"date": normal_day_of_year},
    "QueryBalance": {"token": _trim}, "DeleteScene": {"name": _fold}, "QueryScene": {"name": _fold},
    "AddScene": {"name": _fold}, "ModifyScene": {"name": _fold},
    "TimedSwitch": {"name": _fold, "time": _moment, "on": lambda value: value},
    "CancelTimedSwitch": {"name": _fold, "time": _moment},
    "Dictionary": {"keyword": lambda t: t.replace("_", " ").strip().lower()},
    "DocumentQA": {"url": _trim, "question": _trim},
    "SendEmail": {"receiver": _fold, "subject": _trim, "content": _trim}, "PlayMusic": {}, "Wiki": {}, "GetToday": {},
}


def judge(data: Data, row: Row, reply: str) -> dict[str, Any]:
    """Verdict line: score (official-like, 0 or 1), outcome, call_match, and how a search or network row was decided."""
    outcome, decided_by = _outcome(data, row, reply)
    official = outcome == "correct" and data.unattainable.get(row.key, DRIFT) == DRIFT
    line = {"id": row.key, "level": row.level, "file": row.file, "sample_id": row.sample_id, "score": int(official),
            "outcome": outcome, "call_match": int(official or outcome == "correct" or _same_call(row.expected, reply))}
    if decided_by:
        line["decided_by"] = decided_by
    return line


def _same_call(expected: str, reply: str) -> bool:
    """Whether the reply holds the expected call, both read by the same rules."""
    wanted, found = find_call(expected), find_call(reply)
    return bool(wanted and found) and wanted[0] == found[0] and read_arguments(wanted[1]) == read_arguments(found[1])


def _outcome(data: Data, row: Row, reply: str) -> tuple[str, str | None]:
    call = find_call(reply)
    if call is None:
        return "no_call", None
    name, text = call
    if name != row.api:
        return "name_mismatch", None
    arguments, fault = _typed(data.documents[name]["input_parameters"], read_arguments(text))
    if fault:
        return fault, None
    missing = set(data.documents[name]["input_parameters"]) - set(arguments) - set(OPTIONAL.get(name, ()))
    if missing:
        return "missing_argument", None
    try:
        output = SERVICES[name](arguments, data.databases)
    except ServiceError:
        return "api_exception", None
    try:
        right, decided_by = _agrees(data, name, arguments, output, row.recorded)
    except KeyError:
        return "key_error", None
    return ("correct" if right else "mismatch"), decided_by


def _typed(documented: Mapping[str, dict], arguments: Mapping[str, str]) -> tuple[dict[str, Any], str | None]:
    """Arguments with documented classes, or the outcome of the first that does not fit; lists stay text."""
    typed: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in documented:
            return {}, "invalid_parameter"
        kind = documented[name]["type"]
        if kind == "int":
            if not value.isdecimal() or len(value) > 300:
                return {}, "assertion"
            typed[name] = int(value)
        else:
            typed[name] = value == "True" if kind == "bool" else value
    return typed, None


def _agrees(data: Data, name: str, arguments: Mapping[str, Any], output: Any,
            recorded: Mapping[str, Any]) -> tuple[bool, str | None]:
    """Whether the result agrees with the recorded one by that API's rule; KeyError where that reads a lost field."""
    wanted = recorded["input"]
    if name == "ToolSearcher":
        return _search_agrees(data, arguments["keywords"], recorded)
    if name == "SearchEngine":
        return _engine_agrees(data, arguments["keyword"], recorded)
    if name == "DeleteMeeting":
        raise KeyError("time")                            # the released rule reads an input that does not exist
    if output is not None and output != recorded["output"]:
        return False, None
    if name == "Translate":
        same = arguments["src"] == wanted["src"] and all(
            arguments.get(key) == wanted.get(key) for key in ("src_lang", "tgt_lang"))
        return same, "recorded_translation"
    if name in ("DeleteAgenda", "DeleteReminder"):
        return arguments["time"] == wanted["time"], None
    if name in WORDS:
        exact = [key for key in ("time", "location") if key in wanted]
        return (_overlap(arguments["content"], wanted["content"], WORDS[name])
                and all(arguments[key] == wanted[key] for key in exact)), None
    if name in MEETINGS:
        rest = [key for key in wanted if key != "meeting_topic"]
        return (_overlap(arguments["meeting_topic"], wanted["meeting_topic"], False)
                and all(arguments[key] == wanted[key] for key in rest)), None
    if name == "ModifyRegistration":
        return _registration_agrees(arguments, wanted), None
    if name in INPUTS:
        return _inputs_agree(INPUTS[name], arguments, wanted), "recorded_entry" if name == "Dictionary" else None
    return {key: arguments.get(key) for key in {*wanted, *arguments}} == dict(wanted), None


def _inputs_agree(readings: Mapping[str, Any], arguments: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    pairs = [(read(arguments[key]), read(wanted[key])) for key, read in readings.items()]
    return all(given is not None and given == truth for given, truth in pairs)


def _registration_agrees(arguments: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    for key, read in (("appointment_id", _trim), ("new_appointment_date", _day), ("new_appointment_doctor", _trim)):
        given, truth = arguments.get(key), wanted[key]
        if (given is None) != (truth is None) or (given is not None and read(given) != read(truth)):
            return False
    return True


def _overlap(given: str, wanted: str, fold_case: bool) -> bool:
    """Shared words over all words must exceed one half; words are what single spaces separate."""
    a, b = (set((text.lower() if fold_case else text).split(" ")) for text in (given, wanted))
    return len(a & b) / len(a | b) > 0.5


def _search_agrees(data: Data, keywords: str, recorded: Mapping[str, Any]) -> tuple[bool, str]:
    """Recorded keywords: right. Others: a lexical search stands in for the embedding model, names are compared."""
    if keywords == recorded["input"]["keywords"]:
        return True, "recorded_search"
    found = lexical_best(keywords, data.search_texts)
    names = [found] if "token" not in data.documents[found]["input_parameters"] else ["GetUserToken", found]
    output = recorded["output"]
    return names == [tool["name"] for tool in (output if isinstance(output, list) else [output])], "lexical_search"


def _engine_agrees(data: Data, keyword: str, recorded: Mapping[str, Any]) -> tuple[bool, str]:
    if _fold(keyword) == _fold(recorded["input"]["keyword"]):
        return True, "recorded_search"
    store = data.databases["SearchEngine"]
    found = [store["raw_documents"][i] for i in bm25_top(_fold(keyword), store["tokenized_documents"], 2)]

    def key(page: Mapping) -> str:
        return page["title"] + page["abstract"]

    return sorted(found, key=key) == sorted(recorded["output"], key=key), "bm25"
