"""evolution/grounding.py: does an answer say what the query says?"""

import json

import pytest

from data import world
from data.schema import Query, Tool, ToolCall
from evolution.config import RoundConfig
from evolution.decide import settle
from evolution.grounding import ungrounded
from evolution.said import codes_in, names_in, numbers_in, quotes_in
from tests.timing import BAR, cpu_seconds


def tool(**arguments):
    return Tool("book", "Book a thing at Instagram.", {"type": "dict", "properties": arguments, "required": []})


NUMBER = {"type": "number", "description": ""}
CLASS = {"type": "string", "description": "", "enum": ["first", "second"]}


@pytest.mark.parametrize("query, arguments, code", [
    ('Book "Blue Lamp" for 45 minutes.', {"title": "Blue Lamp", "minutes": 45}, None),
    ('Book "Blue Lamp" for 45 minutes.', {"title": "blue  lamp", "minutes": 45.0}, None),
    ('Book "Blue Lamp" for 45 minutes.', {"title": "Blue Lamp", "minutes": 54}, "value_not_in_query"),
    ('Book "Blue Lamp" for 45 minutes.', {"title": "Red Lamp", "minutes": 45}, "value_not_in_query"),
    ('Book "Blue Lamp" for 45 minutes.', {"title": "Blue Lamp", "name": "Blue Lamp", "minutes": 45}, "value_twice"),
    ('Book "Blue Lamp" for 45 minutes.', {"minutes": 45, "duration": 45, "title": "Blue Lamp"}, "value_twice"),
    ('Book "Blue Lamp" for 45 minutes.', {"minutes": 45}, "value_left_out"),
    ('Book "Blue Lamp" for 45 minutes.', {"title": "Blue Lamp"}, "value_left_out"),
    ("Book rows 7 and 7.", {"rows": [7, 7]}, None),
    ("Book rows 7 and 9.", {"rows": [7, 7]}, "value_twice"),
    ("Book $1,250.50 at 08:30 on 2025-03-04 under code AB-1234.",
     {"price": 1250.5, "time": "08:30", "day": "2025-03-04", "code": "AB-1234"}, None),
    ("Book it at 91 Elm Street, 72755.", {"place": {"street": "91 Elm Street", "zip": "72755"}}, None),
    ("Book it with breakfast.", {"breakfast": True, "class": "first", "note": None}, None),
    ("Book it with breakfast.", {"class": "third"}, "value_not_in_query"),
    ("Book a 5kg bag.", {"weight": 5}, None),
    ("Book a 5kg bag.", {"weight": 5, "length": 5}, "value_twice"),
    ("Book a 12-inch one at 3pm.", {"size": 12, "hour": 3}, None),
    ("Book a 2.5kg bag.", {"weight": 2.5}, None),
    ('Book "1984" twice.', {"title": 1984}, None),
    ("Book it on 2012-05-07 under 7f3a.", {"count": 7}, "value_not_in_query"),
    ("Book it on 2012-05-07.", {"day": "2012-05-07", "level": 2}, None),
    ("Book it on 2012-05-07.", {"day": "2012-05-07", "level": 3}, "value_not_in_query"),
    ("Book it on June 30, 2022.", {"day": "2022-06-30"}, None),        # four of 14 refusals of a real round
    ("Book it for the 20th of March, 2023.", {"day": "2023-03-20"}, None),
    ("Book it on Sept. 3rd 2024 and 5 May 2025.", {"day": "2024-09-03", "end": "2025-05-05"}, None),
    ("Book it on June 30, 2022.", {"day": "2022-06-03"}, "value_not_in_query"),
    ("Book it on June 30, 2022.", {"day": "2022-06-30", "end": "2022-06-30"}, "value_twice"),
    ("Book it on June 30.", {"day": "2022-06-30"}, "value_not_in_query"),
    # the first three: answers that two rounds of real models accepted, each for a part of what was asked
    ("Print example.jpg, and apply for a passport at Oslo.", {"file": "example.jpg"}, "name_left_out"),
    ("Join 'one.wav' and 'two.wav'.", {"file": "one.wav"}, "value_left_out"),
    ("Ask the robot UKNqN14OlHI9 whether emma007 is known.", {"user": "emma007"}, "value_left_out"),
    ("Join 'one.wav' and 'two.wav'.", {"files": ["one.wav", "two.wav"]}, None),
    ("Tell \u201cthe cook's aunt.\u201d to ann@b.org", {"text": "the cook's aunt", "to": "ann@b.org"}, None),
    ("Tell \u2018the cook\u2019 to ann@b.org", {"text": "the cook"}, "value_left_out"),
    ("The boys' hall and the girls' hall, please.", {"place": "hall"}, None),
    ("What is the weather at Delft National Park on June 30, 2022?", {"day": "2022-06-30"}, "name_left_out"),
    ("What is the weather at Delft National Park on June 30, 2022?",
     {"day": "2022-06-30", "place": "Delft National Park"}, None),
    ("I need this URL, and I'm late. Then rest! On Friday I add Major Harris's songs.", {"who": "major harris"}, None),
    ("Book it for seniors.", {"audience": "eniors"}, "value_not_in_query"),
    ("Book it for seniors.", {"audience": "senior"}, None),
    ("Book row 2015.", {"row": "20"}, "value_not_in_query"),
    ("Book it for Ann Lee.", {"name": "Ann Lee", "place": "Ann"}, "value_twice"),
    ("Book it for Ann Lee at Ann\u2019s.", {"name": "Ann Lee", "place": "Ann"}, None),
    ("Book it on 2012-05-07.", {"breakfast": True}, "value_left_out"),
    ("Book it at 08:30.", {"breakfast": True}, "value_left_out"),
    ("Get the IDs and the URLs. On Mondays I\u2019m in.", {}, None),
    ("1) Find it. 2) Book it.", {"rows": [1, 2]}, None),
    ("Mix 5 eggs and 5kg.", {"eggs": 5, "flour": 5}, None),
    ("Ask Al for banal things.", {"text": "banal things"}, "name_left_out"),
    ("Print photo.JPG today.", {"text": "today"}, "value_left_out"),
    ("Eat " + "banana " * 120 + "of kind a.", {"kind": "a"}, None),     # 360 other a's before it
    ("Get the IDs and the URLs.", {}, None),
    ("Use Book to rest.", {}, None),                                    # the tool's own name
    ("Book me at Instagram.", {}, None),                                # and what it says of itself
    ("GET ME A BLUE LAMP TODAY PLEASE", {}, None),
    ("Buche Oslo. \u660e\u5929Oslo\u5929\u6c14", {"place": "Oslo"}, None),
    ("Install the editor.", {"title": ""}, "value_not_in_query"),       # an empty text was taken as said
    ("Install the editor.", {"title": " "}, "value_not_in_query"),
])
def test_values_of_a_call_against_the_query(query, arguments, code):
    offered = tool(**{"class": CLASS, "level": {**NUMBER, "enum": [1, 2]}})
    found = ungrounded(query, [ToolCall("book", arguments)], [offered])
    assert (found and found.code) == code


def test_a_call_each_may_use_a_value_that_is_said_once():
    calls = [ToolCall("book", {"minutes": 45}), ToolCall("rate", {"minutes": 45})]
    assert ungrounded("Book and rate it, 45 minutes each.", calls, [tool()]) is None


def test_no_call_is_never_held_against_the_query():
    assert ungrounded('Sing "Blue Lamp" 45 times.', [], [tool()]) is None


def test_dates_times_and_codes_hold_no_numbers():
    assert numbers_in('On 2025-03-04 at 08:30, code AB-1234, -5 to 1,000.25 "12 Monkeys" x9') == ["-5", "1,000.25"]


def test_what_a_query_names():
    query = "Send 'A b.' and \u201cC d\u201d, not the cook's 5kg, to x@y.org or http://z.org/a (see note.txt, AB-12)."
    assert quotes_in(query) == ["A b.", "C d"]
    assert [*codes_in(query)] == ["x@y.org", "http://z.org/a", "note.txt", "AB-12"]
    query = "Ask Ada Lovelace's cook for an ID and the MacBook. She left it on May 3. - Then we call Mr O'Hara!"
    assert names_in(query) == ["Ada", "Lovelace", "MacBook", "O'Hara"]


def test_every_labelled_example_of_the_world_is_grounded():
    for example in world.examples(300, group="labelled", split="train", seed=5):
        assert ungrounded(example.query, example.calls, example.tools) is None, example.query


@pytest.mark.parametrize("grounded, control, accepted", [
    (False, "none", True), (True, "none", False), (True, "no_rules", True)])
def test_a_round_throws_out_only_where_it_is_asked_to(grounded, control, accepted):
    call = {"name": "book", "arguments": {"minutes": 45, "duration": 45}}
    text = f"<tool_call>\n{json.dumps(call)}\n</tool_call>"
    samples = [{"text": text, "finish_reason": "stop", "logprob": -0.1, "tokens": 9} for _ in range(5)]
    voting = RoundConfig(grounded=grounded, control=control).voting
    outcome = settle(Query("q", "Book it for 45 minutes."), [tool(minutes=NUMBER, duration=NUMBER)],
                     {"samples": samples, "decided_early": False}, voting)
    assert (outcome.example is not None) == accepted
    if not accepted:
        assert outcome.rejected["stage"] == "calls" and outcome.rejected["reason"] == "value_twice"


def test_an_answer_that_calls_a_distractor_is_rejected():
    """The row would teach that the query's own tools serve it, and that another tool answers it."""
    own, other = tool(minutes=NUMBER), Tool.from_dict({**tool(minutes=NUMBER).to_dict(), "name": "other"})
    for name, reason in (("book", None), ("other", "calls_distractor")):
        text = f'<tool_call>\n{{"name": "{name}", "arguments": {{"minutes": 45}}}}\n</tool_call>'
        samples = [{"text": text, "finish_reason": "stop", "logprob": -0.1, "tokens": 9} for _ in range(5)]
        outcome = settle(Query("q", "Book it for 45 minutes."), [own, other],
                         {"samples": samples, "decided_early": False}, RoundConfig().voting, ["other"])
        assert (outcome.rejected or {}).get("reason") == reason


@pytest.mark.parametrize("query, values", [
    ("1," * 20_000 + '"' * 9_999, ["a" * 50] * 2_000), (" ".join(map(str, range(6_000))), [*map(str, range(6_000))]),
    (" ".join(f"w{i}" for i in range(6_000)), [f"w{i}" for i in range(250)]),
    ("Book it.", [10**400, -10**5_000]), ("9" * 5_000, [int("9" * 4_000)]),
    ("a" * 32_000, []), ("'\u2018\u201c" * 10_000, []), ("Aa b.cd " * 4_000, []), ("A." * 16_000, []),
    ("a" * 32_000, ["a" * n for n in range(1, 250)]),
])
def test_hostile_text_costs_little_and_raises_nothing(query, values):
    assert cpu_seconds(ungrounded, query, [ToolCall("book", {"v": values})], [tool()]) < BAR
