"""The contamination guard: what counts as a repetition and what does not."""


import pytest

from data.contamination import Guard, load_guard, ngrams, tool_signature, words
from data.files import write_jsonl
from data.schema import Example, Tool
from tests.timing import BAR, cpu_seconds

WEATHER = Tool.from_dict({"name": "get_weather", "description": "Get the weather forecast of a city for a given day.",
                          "arguments": {"type": "dict", "required": ["city"], "properties": {
                              "city": {"type": "string", "description": "Name of the city."},
                              "day": {"type": "string", "description": "Day of the forecast."}}}})
QUERY = "What will the weather be like in Lisbon on Friday afternoon?"


@pytest.fixture
def guard():
    guard = Guard()
    guard.add_query("bench:1", QUERY)
    guard.add_query("bench:2", "请帮我查询一下明天下午北京到上海的高铁票价")
    guard.add_tool("bench:1", WEATHER)
    return guard


@pytest.mark.parametrize(("query", "flagged"), [
    (QUERY, True), (QUERY.upper() + " !!", True), ("Tell me: " + QUERY, True),
    ("What will the weather be like in Oslo on Monday morning?", False), ("weather", False), ("", False),
    ("will the weather be like in Lisbon on Friday", True),          # most of a benchmark query
    ("What will the weather be like", False),                        # a phrase
    ("麻烦您，请帮我查询一下明天下午北京到上海的高铁票价", True),       # written without spaces
    ("请帮我查询一下附近的餐厅", False),
])
def test_queries(guard, query, flagged):
    assert (guard.query_overlap(query) is not None) is flagged


def renamed(**changes):
    return Tool.from_dict({**WEATHER.to_dict(), **changes})


def test_tools_by_signature_and_by_text(guard):
    assert guard.tool_overlap(renamed(name="GetWeather", description="x")) is not None      # same signature
    assert guard.tool_overlap(renamed(name="forecast_service")) is not None                 # nearly the same words
    other = {"type": "dict", "properties": {"place": {"type": "string", "description": "Where."}}, "required": []}
    assert guard.tool_overlap(renamed(name="get_weather", arguments=other, description="Rain or shine?")) is None
    assert tool_signature(WEATHER) == "getweather(city,day)"


def test_an_example_is_flagged_by_its_query_or_its_tools(guard):
    assert guard.example_overlap(Example("1", QUERY, (), ()))[0] == "contaminated_query"
    assert guard.example_overlap(Example("1", "Book a table", (WEATHER,), ()))[0] == "contaminated_tool"
    assert guard.example_overlap(Example("1", "Book a table", (), ())) is None


def test_an_empty_guard_flags_nothing():
    assert Guard().example_overlap(Example("1", QUERY, (WEATHER,), ())) is None


def test_files_of_every_kind_are_read(tmp_path):
    write_jsonl(tmp_path / "mixed.jsonl", [
        {"id": "q", "query": QUERY}, WEATHER.to_dict(),
        {"id": "e", "query": "Add 2 and 3", "tools": [renamed(name="add_numbers").to_dict()], "calls": []},
        {"id": "b", "question": [[{"role": "user", "content": "Find the area of a triangle with base 10."}]],
         "function": [renamed(name="triangle_area", arguments={"type": "dict", "properties": {}}).to_dict()]}])
    guard = load_guard([tmp_path / "mixed.jsonl"])
    for query in (QUERY, "add 2 AND 3", "find the area of a triangle with base 10"):
        assert guard.query_overlap(query)
    assert {"getweather(city,day)", "addnumbers(city,day)", "trianglearea()"} == set(guard.signatures)
    write_jsonl(tmp_path / "bad.jsonl", [{"id": "x"}])
    with pytest.raises(ValueError, match="line 1: neither a query nor a tool"):
        load_guard([tmp_path / "bad.jsonl"])


def test_words_of_piled_marks_cost_milliseconds():
    for text in ("\u0345" * 8_000 + "\u0334" * 8_000, "\uff9e\u0300" * 8_000):
        assert words("plain words " + text)[:2] == ["plain", "words"]
        assert cpu_seconds(words, "plain words " + text) < BAR


def test_ngrams_of_short_and_empty_texts():
    assert ngrams("Book it") == {("book", "it")}
    assert ngrams("...") == set()
