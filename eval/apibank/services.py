"""What API-Bank's simulated services answer to one call on their initial state (Li et al. 2023, arXiv 2304.08244).

Every recorded call of levels 1 and 2 succeeded, so a verdict needs three things only: does this call raise, what does a
look-up return, and do the arguments agree with the recorded ones. A service that merely reports success returns None,
and why one refuses is not told. Translation and the dictionary need a network and the tool search an embedding model:
see `eval.apibank`.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from data.schema import read_json

MOMENT = "%Y-%m-%d %H:%M:%S"
DAY = "%Y-%m-%d"
EMAIL = re.compile(r"(?:[a-z0-9]{2,}|[a-z0-9]+[._][a-z0-9]+)@\w+[.]\w{2,3}$")
FORMULA = re.compile(r"[\d+\-*/().\s]+$")


class ServiceError(Exception):
    """The simulated service refuses the call."""


class Databases:
    """The initial state of the services, read when first asked for; never changed by a call."""

    def __init__(self, folder: str | Path) -> None:
        self._load = cache(lambda name: read_json(Path(folder) / f"{name}.json"))

    def __getitem__(self, name: str) -> Any:
        return self._load(name)

    def user(self, token: str) -> str:
        """The user whose token this is."""
        return _found(next((name for name, account in self["Account"].items() if account["token"] == token), None))


def _need(condition: Any) -> None:
    if not condition:
        raise ServiceError


def _found(value: Any) -> Any:
    """What a look-up gave, if it gave anything."""
    _need(value is not None)
    return value


# ------------------------------------------------------------------------------------------------------ dates and words

def is_moment(text: str) -> bool:
    """Whether a text is a date with time exactly as documented."""
    with suppress(ValueError):
        return bool(datetime.strptime(text, MOMENT))
    return False


def normal_date(text: str, form: str) -> str | None:
    """The date re-formatted, None if it does not parse; a short year is padded with zeros on the left."""
    text = text.strip()
    parts = text.split("-")
    if len(parts) == 3 and len(parts[0]) != 4:
        text = "-".join([parts[0].zfill(4), *parts[1:]])
    with suppress(ValueError):
        return datetime.strptime(text, form).strftime(form)
    return None


def normal_day_of_year(text: str) -> str | None:
    """Month and day of a date with or without its year."""
    full = normal_date(text, DAY)
    if full is not None:
        return datetime.strptime(full.zfill(10), DAY).strftime("%m-%d")
    with suppress(ValueError):
        return datetime.strptime(f"2000-{text.strip()}", DAY).strftime("%m-%d")
    return None


# ------------------------------------------------------------------------------------------------------------- services

def _looked_up(database: str, text_key: str, *time_keys: str, record: bool = False, time_needed: bool = False,
               text_needed: bool = False) -> Callable:
    """A service that looks up the first record of the token's user with exactly this text or the first of the times.

    Its output is the record where that is asked.
    """
    def call(a: Mapping, db: Databases) -> Any:
        _need(all(is_moment(a[key]) for key in time_keys if time_needed or a[key]))
        _need(not text_needed or a[text_key].strip())
        user = db.user(a["token"])
        found = _found(next((one for one in db[database].values() if one["username"] == user and any(
            one[key] == a[key] for key in (text_key, time_keys[0]))), None))
        return found if record else None
    return call


_agenda = partial(_looked_up, "Agenda", "content", "time")
_reminder = partial(_looked_up, "Reminder", "content", "time", time_needed=True, text_needed=True)
_meeting = partial(_looked_up, "Meeting", "meeting_topic", "start_time", "end_time")


def _needs(holds: Callable[[Mapping, Databases], Any]) -> Callable:
    """A service that succeeds where this holds, and refuses elsewhere."""
    return lambda a, db: _need(holds(a, db))


def _add(*texts: str, times: tuple[str, ...] = ("time",)) -> Callable:
    return _needs(lambda a, db: all(is_moment(a[key]) for key in times) and all(a[key].strip() for key in texts)
                  and db.user(a["token"]))


def _alarm(key: str) -> Callable:
    return _needs(lambda a, db: all(is_moment(a[name]) for name in a if name != "token") and any(
        alarm["username"] == db.user(a["token"]) and alarm["time"] == a[key] for alarm in db["Alarm"].values()))


def _known_url(database: str) -> Callable:
    def known(a: Mapping, db: Databases) -> bool:
        pages = db[database]
        return a["url"].strip() in (pages if isinstance(pages, dict) else {item["url"] for item in pages})
    return _needs(known)


def _get_user_token(a: Mapping, db: Databases) -> Any:
    account = _found(db["Account"].get(a["username"]))
    _need(account["password"] == a["password"])
    return {"token": account["token"]}


def _appointment(a: Mapping, db: Databases) -> Any:
    patient, day = a["patient_name"].strip(), normal_date(a["date"], DAY)
    _need(patient and a["doctor_name"].strip() and day)
    _need(not any(r["patient_name"] == patient and r["date"] == day for r in db["Appointments"].values()))


def _query_registration(a: Mapping, db: Databases) -> Any:
    patient, day = a["patient_name"].strip(), normal_date(a["date"], DAY)
    found = {key: r for key, r in db["Appointments"].items()
             if r["patient_name"] == patient and normal_date(r["date"], DAY) == day}
    _need(day and found)
    return found


def _modify_registration(a: Mapping, db: Databases) -> Any:
    record = _found(db["Appointments"].get(a["appointment_id"].strip()))
    day, doctor = a.get("new_appointment_date"), a.get("new_appointment_doctor")
    _need(day is not None or doctor is not None)
    _need(day is None or normal_date(day, DAY) not in (None, record["date"]))
    _need(doctor is None or doctor.strip() not in ("", record["doctor_name"]))


def _query_health(a: Mapping, db: Databases) -> Any:
    start, end = normal_date(a["start_time"], MOMENT), normal_date(a["end_time"], MOMENT)
    _need(start and end and start <= end and a["user_id"].strip().upper() in db["HealthData"])


def _wiki(a: Mapping, db: Databases) -> Any:
    page = _found(db["Wiki"].get(a["keyword"].replace("_", " ").strip().lower()))
    return {"url": page["url"], "summary": page["summary"]}


_symptom = _needs(lambda a, db: a["symptom"].strip().lower() in db["Symptom"])
_token_only = _needs(lambda a, db: db.user(a["token"]))
_takes_a_list = _needs(lambda a, db: False)             # a list arrives as text, which these refuse

SERVICES: dict[str, Callable[[Mapping, Databases], Any]] = {
    "AddAgenda": _add("content"), "DeleteAgenda": _agenda(time_needed=True), "ModifyAgenda": _agenda(),
    "QueryAgenda": _agenda(record=True), "AddReminder": _add("content"), "DeleteReminder": _reminder(),
    "ModifyReminder": _reminder(), "QueryReminder": _reminder(record=True),
    "AddMeeting": _add("meeting_topic", times=("start_time", "end_time")), "DeleteMeeting": _meeting(),
    "ModifyMeeting": _meeting(), "QueryMeeting": _meeting(record=True), "AddAlarm": _add(),
    "DeleteAlarm": _alarm("time"), "QueryAlarm": _alarm("time"), "ModifyAlarm": _alarm("from_time"),
    "GetUserToken": _get_user_token, "CheckToken": _token_only, "DeleteAccount": _token_only,
    "ModifyPassword": _needs(lambda a, db: db["Account"][db.user(a["token"])]["password"] == a["old_password"]),
    "ForgotPassword": _needs(lambda a, db: a["status"] == "Forgot Password" and a.get("username") and a.get("email")
                             and db["Account"].get(a["username"], {}).get("email") == a["email"]),
    "RegisterUser": _needs(lambda a, db: a["username"] not in db["Account"]),
    "QueryBalance": _needs(lambda a, db: db["Bank"].get(db.user(a["token"])) is not None),
    "OpenBankAccount": lambda a, db: "failed" if a["account"] == "test" else None,
    "BookHotel": _needs(lambda a, db: all(normal_date(a[key], DAY) for key in ("check_in_time", "check_out_time"))),
    "EmergencyKnowledge": _symptom, "SymptomSearch": _symptom,
    "QueryStock": lambda a, db: _found(
        db["Stock"].get(a["stock_code"].strip().upper(), {}).get(normal_date(a["date"], DAY))),
    "QueryHistoryToday": _needs(lambda a, db: normal_day_of_year(a["date"]) in db["History"]),
    "AppointmentRegistration": _appointment, "QueryRegistration": _query_registration,
    "CancelRegistration": _needs(lambda a, db: a["appointment_id"].strip() in db["Appointments"]),
    "ModifyRegistration": _modify_registration, "RecordHealthData": _takes_a_list, "QueryHealthData": _query_health,
    "QueryScene": lambda a, db: _found(db["Scenes"].get(a["name"].strip().lower())),
    "DeleteScene": _needs(lambda a, db: a["name"].strip().lower() in db["Scenes"]),
    "AddScene": _takes_a_list, "ModifyScene": _takes_a_list,
    "TimedSwitch": _needs(lambda a, db: a["name"].strip() and normal_date(a["time"], MOMENT)),
    "CancelTimedSwitch": _needs(lambda a, db: any(switch["time"] == normal_date(a["time"], MOMENT) for switch
                                                  in db["TimeSwitch"].get(a["name"].strip().lower(), ()))),
    "PlayMusic": lambda a, db: "music://" + a["music_name"].strip().lower(), "Wiki": _wiki,
    "DocumentQA": _known_url("QuestionAnswering"), "ImageCaption": _known_url("ImageCaptioning"),
    "SpeechRecognition": _known_url("SpeechRecognition"),
    "Calculator": _needs(lambda a, db: FORMULA.match(a["formula"])),
    "SendEmail": _needs(lambda a, db: EMAIL.match(a["receiver"].strip()) and a["subject"].strip()
                        and a["content"].strip()),
    **dict.fromkeys(("GetToday", "Dictionary", "Translate", "SearchEngine", "ToolSearcher"), lambda a, db: None),
}
