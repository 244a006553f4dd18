"""What API-Bank's simulated services answer to one call on their initial state (Li et al. 2023, arXiv 2304.08244).

Every recorded call of levels 1 and 2 succeeded, so a verdict needs three things only: does this call raise, what does a
look-up return, and do the arguments agree with the recorded ones. A service that merely reports success returns None.
Translation and the dictionary need a network and the tool search an embedding model: see `eval.apibank`.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from data.schema import read_json

SAME = object()                     # the constant output of a success, equal to the recorded one by construction
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
        for name, account in self["Account"].items():
            if account["token"] == token:
                return name
        raise ServiceError("The token is invalid.")


def call_service(name: str, arguments: Mapping[str, Any], databases: Databases) -> Any:
    """Output of one call, or SAME; raises ServiceError where the service does."""
    output = SERVICES[name](arguments, databases)
    return SAME if output is None else output


# ------------------------------------------------------------------------------------------------------ dates and words

def check_moment(text: str) -> str:
    """The text itself if it is a date with time exactly as documented."""
    try:
        datetime.strptime(text, MOMENT)
    except ValueError as error:
        raise ServiceError(str(error)) from None
    return text


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


def _need(condition: Any, message: str) -> None:
    if not condition:
        raise ServiceError(message)


def _date(text: str, form: str) -> str:
    date = normal_date(text, form)
    _need(date is not None, "The date does not have the documented format.")
    return date


# ------------------------------------------------------------------------------------------------------------- look-ups

def _record_of(database: str, text_key: str, time_key: str, arguments: Mapping, databases: Databases) -> dict:
    """The first record of the token's user with exactly this text or this time."""
    user = databases.user(arguments["token"])
    for record in databases[database].values():
        if record["username"] == user and (record[text_key] == arguments[text_key]
                                           or record[time_key] == arguments[time_key]):
            return record
    raise ServiceError("No such record.")


def _looked_up(database: str, text_key: str, *time_keys: str, record: bool = False, time_needed: bool = False,
               text_needed: bool = False) -> Callable:
    """A service that looks up by a text or by the first of the times; its output is the record where that is asked."""
    def call(a: Mapping, db: Databases) -> Any:
        for key in time_keys:
            if time_needed or a[key]:
                check_moment(a[key])
        _need(not text_needed or a[text_key].strip(), "Content should not be null")
        found = _record_of(database, text_key, time_keys[0], a, db)
        return found if record else None
    return call


_agenda = partial(_looked_up, "Agenda", "content", "time")
_reminder = partial(_looked_up, "Reminder", "content", "time", time_needed=True, text_needed=True)
_meeting = partial(_looked_up, "Meeting", "meeting_topic", "start_time", "end_time")


def _add(*texts: str, times: tuple[str, ...] = ("time",)) -> Callable:
    def call(a: Mapping, db: Databases) -> Any:
        for key in times:
            check_moment(a[key])
        _need(all(a[key].strip() for key in texts), "Content should not be null")
        db.user(a["token"])
    return call


def _alarm(key: str) -> Callable:
    def call(a: Mapping, db: Databases) -> Any:
        for name in a:
            if name != "token":
                check_moment(a[name])
        user = db.user(a["token"])
        there = any(alarm["username"] == user and alarm["time"] == a[key] for alarm in db["Alarm"].values())
        _need(there, "No alarm at this time.")
    return call


def _needs(holds: Callable[[Mapping, Databases], Any], message: str) -> Callable:
    """A service that succeeds where this holds, and refuses with the message elsewhere."""
    def call(a: Mapping, db: Databases) -> Any:
        _need(holds(a, db), message)
    return call


def _known_url(database: str) -> Callable:
    def known(a: Mapping, db: Databases) -> bool:
        pages = db[database]
        return a["url"].strip() in (pages if isinstance(pages, dict) else {item["url"] for item in pages})
    return _needs(known, "The url does not exist.")


_modify_password = _needs(lambda a, db: db["Account"][db.user(a["token"])]["password"] == a["old_password"],
                          "The old password is incorrect.")
_register_user = _needs(lambda a, db: a["username"] not in db["Account"], "The username already exists.")
_balance = _needs(lambda a, db: db["Bank"].get(db.user(a["token"])) is not None, "The user does not have an account.")
_symptom = _needs(lambda a, db: a["symptom"].strip().lower() in db["Symptom"], "The symptom does not exist.")
_history = _needs(lambda a, db: normal_day_of_year(a["date"]) in db["History"], "The date is not in the database.")
_cancel_registration = _needs(lambda a, db: a["appointment_id"].strip() in db["Appointments"],
                              "The appointment ID is incorrect.")
_calculator = _needs(lambda a, db: FORMULA.match(a["formula"]), "invalid formula")


def _get_user_token(a: Mapping, db: Databases) -> Any:
    account = db["Account"].get(a["username"])
    _need(account is not None, "The username does not exist.")
    _need(account["password"] == a["password"], "The password is incorrect.")
    return {"token": account["token"]}


def _forgot_password(a: Mapping, db: Databases) -> Any:
    _need(a["status"] == "Forgot Password", "This status needs an earlier call.")
    _need(a.get("username") and a.get("email"), "The username and email are required for the first call.")
    account = db["Account"].get(a["username"])
    _need(account is not None and account["email"] == a["email"], "The username or the email is incorrect.")


def _book_hotel(a: Mapping, db: Databases) -> Any:
    for key in ("check_in_time", "check_out_time"):
        _date(a[key], DAY)


def _stock(a: Mapping, db: Databases) -> Any:
    prices, day = db["Stock"].get(a["stock_code"].strip().upper()), _date(a["date"], DAY)
    _need(prices is not None and day in prices, "The stock price of this date is not maintained.")
    return prices[day]


def _appointment(a: Mapping, db: Databases) -> Any:
    patient, doctor, day = a["patient_name"].strip(), a["doctor_name"].strip(), _date(a["date"], DAY)
    _need(patient and doctor, "Patient name or doctor name cannot be empty.")
    taken = any(r["patient_name"] == patient and r["date"] == day for r in db["Appointments"].values())
    _need(not taken, "This patient has already been registered in this day.")


def _query_registration(a: Mapping, db: Databases) -> Any:
    patient, day = a["patient_name"].strip(), _date(a["date"], DAY)
    found = {key: r for key, r in db["Appointments"].items()
             if r["patient_name"] == patient and normal_date(r["date"], DAY) == day}
    _need(found, "No appointments found.")
    return found


def _modify_registration(a: Mapping, db: Databases) -> Any:
    record = db["Appointments"].get(a["appointment_id"].strip())
    _need(record is not None, "The appointment ID does not exist.")
    day, doctor = a.get("new_appointment_date"), a.get("new_appointment_doctor")
    _need(day is not None or doctor is not None, "Fail because no modification is made.")
    _need(day is None or _date(day, DAY) != record["date"], "Fail because date is not changed.")
    _need(doctor is None or (doctor.strip() and doctor.strip() != record["doctor_name"]),
          "Fail because doctor is empty or not changed.")


def _record_health(a: Mapping, db: Databases) -> Any:
    _need(a["user_id"].strip(), "The user id cannot be empty.")
    _date(a["time"], MOMENT)
    _need(isinstance(a.get("health_data"), list), "The health data has invalid format.")     # it arrives as text


def _query_health(a: Mapping, db: Databases) -> Any:
    start, end = _date(a["start_time"], MOMENT), _date(a["end_time"], MOMENT)
    _need(start <= end, "The start time cannot be later than the end time.")
    _need(a["user_id"].strip().upper() in db["HealthData"], "The user id does not exist.")


def _scene(a: Mapping, db: Databases) -> Any:
    scene = db["Scenes"].get(a["name"].strip().lower())
    _need(scene is not None, "The scene does not exist.")
    return scene


def _delete_scene(a: Mapping, db: Databases) -> Any:
    _scene(a, db)


def _change_scene(a: Mapping, db: Databases) -> Any:
    raise ServiceError("Invalid device format.")              # a list arrives as text


def _timed_switch(a: Mapping, db: Databases) -> Any:
    _need(a["name"].strip(), "Name cannot be empty.")
    _date(a["time"], MOMENT)


def _cancel_switch(a: Mapping, db: Databases) -> Any:
    moment, switches = _date(a["time"], MOMENT), db["TimeSwitch"].get(a["name"].strip().lower())
    _need(switches is not None and any(s["time"] == moment for s in switches), "device or time does not exist.")


def _wiki(a: Mapping, db: Databases) -> Any:
    page = db["Wiki"].get(a["keyword"].replace("_", " ").strip().lower())
    _need(page is not None, "Keyword not found.")
    return {"url": page["url"], "summary": page["summary"]}


def _email(a: Mapping, db: Databases) -> Any:
    _need(EMAIL.match(a["receiver"].strip()), "Email address of the receiver is invalid.")
    _need(a["subject"].strip() and a["content"].strip(), "Subject and content cannot be empty.")


def _token_only(a: Mapping, db: Databases) -> Any:
    db.user(a["token"])


SERVICES: dict[str, Callable[[Mapping, Databases], Any]] = {
    "AddAgenda": _add("content"), "DeleteAgenda": _agenda(time_needed=True), "ModifyAgenda": _agenda(),
    "QueryAgenda": _agenda(record=True), "AddReminder": _add("content"), "DeleteReminder": _reminder(),
    "ModifyReminder": _reminder(), "QueryReminder": _reminder(record=True),
    "AddMeeting": _add("meeting_topic", times=("start_time", "end_time")), "DeleteMeeting": _meeting(),
    "ModifyMeeting": _meeting(), "QueryMeeting": _meeting(record=True), "AddAlarm": _add(),
    "DeleteAlarm": _alarm("time"), "QueryAlarm": _alarm("time"), "ModifyAlarm": _alarm("from_time"),
    "GetUserToken": _get_user_token,
    "CheckToken": _token_only, "DeleteAccount": _token_only, "ModifyPassword": _modify_password,
    "ForgotPassword": _forgot_password, "RegisterUser": _register_user, "QueryBalance": _balance,
    "OpenBankAccount": lambda a, db: "failed" if a["account"] == "test" else None, "BookHotel": _book_hotel,
    "EmergencyKnowledge": _symptom, "SymptomSearch": _symptom, "QueryStock": _stock, "QueryHistoryToday": _history,
    "AppointmentRegistration": _appointment, "QueryRegistration": _query_registration,
    "CancelRegistration": _cancel_registration, "ModifyRegistration": _modify_registration,
    "RecordHealthData": _record_health, "QueryHealthData": _query_health, "QueryScene": _scene,
    "DeleteScene": _delete_scene, "AddScene": _change_scene, "ModifyScene": _change_scene, "TimedSwitch": _timed_switch,
    "CancelTimedSwitch": _cancel_switch, "PlayMusic": lambda a, db: "music://" + a["music_name"].strip().lower(),
    "Wiki": _wiki,
    "DocumentQA": _known_url("QuestionAnswering"), "ImageCaption": _known_url("ImageCaptioning"),
    "SpeechRecognition": _known_url("SpeechRecognition"), "Calculator": _calculator, "SendEmail": _email,
    **dict.fromkeys(("GetToday", "Dictionary", "Translate", "SearchEngine", "ToolSearcher"), lambda a, db: None),
}
