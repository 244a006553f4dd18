"""API-Bank, "Call" (level 1) and "Retrieve+Call" (level 2): from a reply to its verdict (Table 2 of the paper).

Follows the released evaluator: one bracketed call is searched in the reply, its arguments are read as text, the service
is run on a fresh copy of its initial state and its result is compared with the recorded one by rules of its own.
Two scores are given: `official_like`, where the rows that nobody can get right stay 0, and `call_match`, where they
count when the expected call was made. Labelled fall-backs: translation, dictionary and search stand in for services
that need a network or an embedding model.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data.schema import read_json
from eval.answers import Answer, printable
from eval.apibank.services import (
    DAY,
    MOMENT,
    SAME,
    Databases,
    ServiceError,
    call_service,
    normal_date,
    normal_day_of_year,
)
from eval.bfcl.benchmark import percent, wrote_tools
from eval.retrieval import bm25_top, lexical_best
from eval.stats import proportion, weighted_interval

LEVELS = {1: ("level-1-api.json", "level-1-given-desc"), 2: ("level-2-api.json", "level-2-toolsearcher")}
SIZES = {1: 399, 2: 135}
MAX_CHARS = 1_000_000               # of a reply; a complete one is some hundred characters
CALL_OPENING = re.compile(r"\[(\w+)\(")
QUOTE = re.compile("['\"]")
OPTIONAL = {"ModifyRegistration": ("new_appointment_date", "new_appointment_doctor"), "RecordHealthData": ("health_data",),
            "ForgotPassword": ("username", "email", "verification_code", "new_password"),
            "Translate": ("src_lang", "tgt_lang")}
WORDS = {"AddAgenda": False, "ModifyAgenda": False, "QueryAgenda": False,       # content by word overlap: fold case?
         "AddReminder": True, "ModifyReminder": True, "QueryReminder": True}
MEETINGS = ("AddMeeting", "ModifyMeeting", "QueryMeeting")
DRIFT = "description drift"


def _trim(text: str) -> str:
    return text.strip()


def _fold(text: str) -> str:
    return text.strip().lower()


def _capital(text: str) -> str:
    return text.strip().upper()


def _day(text: str) -> str | None:
    return normal_date(text, DAY)


def _moment(text: str) -> str | None:
    return normal_date(text, MOMENT)


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


@dataclass(frozen=True)
class Row:
    """One next call to predict: the prompt, the expected call as text, and the recorded call with its result."""

    level: int
    file: str
    sample_id: int
    instruction: str
    input: str
    expected: str
    api: str
    recorded: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"L{self.level}/{self.file}#{self.sample_id}"


@dataclass(frozen=True)
class Benchmark:
    """Rows of both levels, the documentation of every API and the state of the services."""

    folder: str
    rows: dict[str, Row]
    documents: dict[str, dict]
    databases: Databases
    unattainable: dict[str, str]

    @cached_property
    def search_texts(self) -> dict[str, str]:
        """For the tool search: name split at capitals, lower-cased, followed by the description."""
        return {name: re.sub(r"([A-Z])", r" \1", name).strip().lower() + " " + document["description"]
                for name, document in self.documents.items() if name != "ToolSearcher"}


def load_benchmark(data: str | Path) -> Benchmark:
    """Load the folder that holds test-data/, lv1-lv2-samples/, init_database/ and api_docs.json.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: a row has no recorded call.
    """
    folder = Path(data)
    if not (folder / "test-data").is_dir() and (folder / "apibank").is_dir():
        folder = folder / "apibank"
    rows: dict[str, Row] = {}
    for level, (name, dialogues) in LEVELS.items():
        samples: dict[str, list[dict]] = {}
        for record in read_json(folder / "test-data" / name):
            file, number = record["file"], record["id"]
            if file not in samples:
                samples[file] = _samples(folder / "lv1-lv2-samples" / dialogues / file)
            turn = samples[file][number] if number < len(samples[file]) else {}
            if turn.get("role") != "API":
                raise ValueError(f"{folder}: row {file}#{number} of {name} has no recorded call; take both from one release")
            row = Row(level, file, number, record["instruction"], record["input"], record["expected_output"],
                      turn["api_name"], turn["result"])
            rows[row.id] = row
    documents = {d["name"]: d for d in read_json(folder / "api_docs.json") if d.get("suite", "level-1/2") == "level-1/2"}
    blocked = folder / "unattainable.json"
    unattainable = {u["id"]: u["kind"] for u in read_json(blocked)} if blocked.is_file() else {}
    return Benchmark(str(folder), rows, documents, Databases(folder / "init_database"), unattainable)


def _samples(path: Path) -> list[dict]:
    """The released sample builder: for every API turn that turn and the next one, so adjacent calls come twice."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such dialogue; expected the released samples beside test-data")
    turns = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    turns.append({})
    return [turn for i, first in enumerate(turns) if first.get("role") == "API" for turn in (first, turns[i + 1])]


# -------------------------------------------------------------------------------------------------------- reading a reply

def find_call(reply: str) -> tuple[str, str] | None:
    """(name, text between the parentheses) of the first `[Name(...)]` on one line, as the released expression finds it."""
    line_end = -1
    for match in CALL_OPENING.finditer(reply):
        if match.end() <= line_end:
            continue                                      # this line has no further ")]"
        line_end = reply.find("\n", match.end())
        line_end = len(reply) if line_end < 0 else line_end
        end = reply.rfind(")]", match.end(), line_end)
        if end >= 0:
            return match[1], reply[match.end():end]
    return None


def read_arguments(text: str) -> dict[str, str]:
    """Keyword arguments as text: quoted (any quote closes), bracketed up to the last `]`, or one bare word."""
    arguments: dict[str, str] = {}
    position, last_bracket = 0, text.rfind("]")
    equals = text.find("=")
    while equals >= 0:
        name = _word_before(text, equals, position)
        value = _value_after(text, equals + 1, last_bracket) if name else None
        if value is not None:
            arguments[name], position = value
        equals = text.find("=", max(position, equals + 1))
    return arguments


def _word_before(text: str, equals: int, start: int) -> str:
    end = equals
    while end > start and text[end - 1].isspace():
        end -= 1
    begin = end
    while begin > start and _is_word(text[begin - 1]):
        begin -= 1
    return text[begin:end]


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _value_after(text: str, start: int, last_bracket: int) -> tuple[str, int] | None:
    """(value, position after it) of one argument, None if no form fits."""
    while start < len(text) and text[start].isspace():
        start += 1
    if text[start:start + 1] in ("'", '"') and start < len(text):
        close = QUOTE.search(text, start + 2)
        return (text[start + 1:close.start()], close.end()) if close else None
    if text.startswith("[", start):
        return (text[start:last_bracket + 1], last_bracket + 1) if last_bracket > start else None
    end = start
    while end < len(text) and _is_word(text[end]):
        end += 1
    return (text[start:end], end) if end > start else None


# --------------------------------------------------------------------------------------------------------------- verdicts

def judge(benchmark: Benchmark, row: Row, reply: str) -> dict[str, Any]:
    """Verdict line: score (official-like, 0 or 1), outcome, call_match, and how a search or network row was decided."""
    outcome, decided_by = _outcome(benchmark, row, reply)
    official = outcome == "correct" and benchmark.unattainable.get(row.id, DRIFT) == DRIFT
    line = {"id": row.id, "level": row.level, "file": row.file, "sample_id": row.sample_id, "score": int(official),
            "outcome": outcome, "call_match": int(official or outcome == "correct" or _same_call(row.expected, reply))}
    if decided_by:
        line["decided_by"] = decided_by
    return line


def _same_call(expected: str, reply: str) -> bool:
    """Whether the reply holds the expected call, both read by the same rules."""
    wanted, found = find_call(expected), find_call(reply)
    return bool(wanted and found) and wanted[0] == found[0] and read_arguments(wanted[1]) == read_arguments(found[1])


def _outcome(benchmark: Benchmark, row: Row, reply: str) -> tuple[str, str | None]:
    call = find_call(reply)
    if call is None:
        return "no_call", None
    name, text = call
    if name != row.api:
        return "name_mismatch", None
    arguments, fault = _typed(benchmark.documents[name]["input_parameters"], read_arguments(text))
    if fault:
        return fault, None
    missing = set(benchmark.documents[name]["input_parameters"]) - set(arguments) - set(OPTIONAL.get(name, ()))
    if missing:
        return "missing_argument", None
    try:
        output = call_service(name, arguments, benchmark.databases)
    except ServiceError:
        return "api_exception", None
    try:
        right, decided_by = _agrees(benchmark, name, arguments, output, row.recorded)
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


def _agrees(benchmark: Benchmark, name: str, arguments: Mapping[str, Any], output: Any,
            recorded: Mapping[str, Any]) -> tuple[bool, str | None]:
    """Whether the result agrees with the recorded one by that API's rule; KeyError where the rule reads a lost field."""
    wanted = recorded["input"]
    if name == "ToolSearcher":
        return _search_agrees(benchmark, arguments["keywords"], recorded)
    if name == "SearchEngine":
        return _engine_agrees(benchmark, arguments["keyword"], recorded)
    if name == "DeleteMeeting":
        raise KeyError("time")                            # the released rule reads an input that does not exist
    if output is not SAME and output != recorded["output"]:
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


def _search_agrees(benchmark: Benchmark, keywords: str, recorded: Mapping[str, Any]) -> tuple[bool, str]:
    """Recorded keywords: right. Others: a lexical search stands in for the embedding model, names are compared."""
    if keywords == recorded["input"]["keywords"]:
        return True, "recorded_search"
    found = lexical_best(keywords, benchmark.search_texts)
    names = [found] if "token" not in benchmark.documents[found]["input_parameters"] else ["GetUserToken", found]
    output = recorded["output"]
    return names == [tool["name"] for tool in (output if isinstance(output, list) else [output])], "lexical_search"


def _engine_agrees(benchmark: Benchmark, keyword: str, recorded: Mapping[str, Any]) -> tuple[bool, str]:
    if _fold(keyword) == _fold(recorded["input"]["keyword"]):
        return True, "recorded_search"
    store = benchmark.databases["SearchEngine"]
    found = [store["raw_documents"][i] for i in bm25_top(_fold(keyword), store["tokenized_documents"], 2)]

    def key(page: Mapping) -> str:
        return page["title"] + page["abstract"]

    return sorted(found, key=key) == sorted(recorded["output"], key=key), "bm25"


# ---------------------------------------------------------------------------------------------------------------- summary

def find_row(benchmark: Benchmark, answer: Answer) -> Row | None:
    """The row of an answer, by its id `L1/file#number` or by level, file and sample_id."""
    record = answer.record
    key = record.get("id")
    if not (isinstance(key, str) and key in benchmark.rows):
        key = f"L{record.get('level')}/{record.get('file')}#{record.get('sample_id')}"
    return benchmark.rows.get(key)


def score_answers(benchmark: Benchmark, answers: Iterable[Answer]) -> tuple[list[dict], dict]:
    """(verdict lines in the order of the answers, summary); a row without an answer counts as wrong."""
    verdicts: list[dict] = []
    first: dict[str, dict] = {}
    tools_written = 0
    for answer in answers:
        row = find_row(benchmark, answer)
        if row is None:
            verdicts.append({"id": printable(answer.record.get("id")), "score": 0, "outcome": "unknown_entry"})
            continue
        reply = answer.text("reply")
        if answer.fault or reply is None or len(reply) > MAX_CHARS:
            reason = answer.fault or ("no_reply" if reply is None else "answer_too_long")
            line = judge(benchmark, row, "") | {"outcome": "undecodable", "reason": reason}
        else:
            line = judge(benchmark, row, reply)
        tools_written += wrote_tools(answer)
        verdicts.append(line)
        first.setdefault(row.id, line)
    return verdicts, summarise(benchmark, first) | {"wrote_tools_instead": tools_written, "answers": {
        "lines": len(verdicts), "unknown": sum(v["outcome"] == "unknown_entry" for v in verdicts),
        "repeated": sum(v["outcome"] != "unknown_entry" for v in verdicts) - len(first)}}


def summarise(benchmark: Benchmark, verdicts: Mapping[str, Mapping]) -> dict:
    """Both scores of both levels and their unweighted mean in percent, with 95 % intervals and bounds for the searches."""
    sizes = Counter(row.level for row in benchmark.rows.values())
    levels = {}
    for level, name in ((1, "call"), (2, "retrieve_call")):
        lines = [v for v in verdicts.values() if v["level"] == level]
        searches = [v for v in lines if v.get("decided_by") == "lexical_search"]
        right = sum(v["score"] for v in lines)
        levels[name] = {
            "n": sizes[level], "answered": len(lines), "right": right,
            "undecodable": sum(v["outcome"] in ("no_call", "undecodable") for v in lines),
            "official_like": percent(proportion(right, sizes[level])),
            "call_match": percent(proportion(sum(v["call_match"] for v in lines), sizes[level])),
            "decided_by_lexical_search": len(searches),
            "bounds": [round(100 * (right - sum(v["score"] for v in searches) + extra) / max(1, sizes[level]), 2)
                       for extra in (0, len(searches))],
            "with_edited_descriptions": percent(proportion(sum(
                v["score"] for v in lines if benchmark.unattainable.get(v["id"]) != DRIFT), sizes[level])),
            "outcomes": dict(sorted(Counter(v["outcome"] for v in lines).items())),
        }
    def mean(counts: Mapping[int, int]) -> dict:
        return percent(weighted_interval([(0.5, counts[level], sizes[level]) for level in (1, 2)]))
    matched = {level: sum(v["call_match"] for v in verdicts.values() if v["level"] == level) for level in (1, 2)}
    return {"benchmark": "apibank", "complete": dict(sizes) == SIZES,
            "scores": {"call": levels["call"]["official_like"], "retrieve_call": levels["retrieve_call"]["official_like"],
                       "overall": mean({1: levels["call"]["right"], 2: levels["retrieve_call"]["right"]}),
                       "overall_call_match": mean(matched)},
            "levels": levels,
            "fall_backs": {"lexical_search": "tool searches with other keywords than recorded: a lexical search over the "
                                             "same texts, tool names compared",
                           "recorded_translation": "right only with the recorded arguments",
                           "recorded_entry": "dictionary: right only with the recorded keyword",
                           "bm25": "search engine: BM25 with a simple tokenizer"}}


def ordered(benchmark: Benchmark, levels: Sequence[int] = (1, 2)) -> list[Row]:
    """Rows of the given levels, in file order."""
    return [row for row in benchmark.rows.values() if row.level in levels]
