"""Tools from a large pool: words, sentences, the index beside a plain count, and the field's well-known bugs."""

import importlib.util
import json
import math
import random
from collections import Counter

import numpy as np
import pytest

from data.formats.convert import Options, convert
from data.prompts import tools_text
from data.retrieval import K1, B, ToolIndex, parts, stem, tool_text, top, words
from data.schema import Query, Tool, load_tools
from evolution.config import RoundConfig
from evolution.decide import candidates_for, pool_of


def tool(name: str, description: str = "", group: str | None = None, **arguments: str) -> Tool:
    properties = {key: {"type": "string", "description": text} for key, text in arguments.items()}
    return Tool(name, description, {"type": "dict", "properties": properties, "required": []}, group=group)


def names(index: ToolIndex, query: str, k: int = 3) -> list[str]:
    return [found.tool.name for found in index.search(query, k)]


@pytest.mark.parametrize(("text", "terms"), [
    ("appTableRecord", {"app", "table", "tabl", "record", "apptablerecord"}),
    ("XMLParser", {"xml", "parser", "xmlparser"}),
    ("addPerson_mcp", {"add", "person", "mcp", "addpersonmcp"}),
    ("get-user2FA", {"get", "user", "2", "fa", "user2fa"}),
    ("the weather in Oslo", {"weather", "oslo"}),
    ("ＦＵＬＬ width", {"full", "width"}),
    ("서울 날씨", {"서울", "날씨"}),
    ("北京天气预报", {"北京", "京天", "天气", "气预", "预报"}),
    ("हिन्दी मौसम", {"हिन्दी", "मौसम"}),
    ("Größe", {"größe", "größ"}),
    ("München MÜNCHEN Züge", {"münchen", "züge"}),
    ("SãoPaulo", {"são", "paulo", "sãopaulo"}),
    ("météoÉcole", {"météo", "école", "écol", "météoécole"}),
    ("ГородПогода", {"город", "погода", "городпогода"}),
    ("HTTPПогода", {"http", "погода", "httpпогода"}),
    ("APIطقس", {"api", "طقس", "apiطقس"}),
    ("Oʻzbek M\u0304ara", {"oʻzbek", "m\u0304ara"}),
    ("the of", set()),
    ("?!_ __", set()),
])
def test_words_of_names_and_scripts(text, terms):
    assert set(words(text)) == terms


def test_a_word_and_its_stem_meet():
    assert [stem(word) for word in ("bookings", "cities", "quickly", "sing")] == ["book", "citi", "quick", "sing"]
    assert set(words("booked")) & set(words("booking")) == {"book"}


def test_a_query_is_cut_at_sentence_ends():
    assert parts("Get the weather. Then book a hotel! Why? ...\n- a car") == [
        "Get the weather.", "Then book a hotel!", "Why?", "- a car"]
    assert parts("天気は？予約して。") == ["天気は？", "予約して。"]
    assert parts("ما الطقس؟ احجز فندقا. मौसम क्या है। होटल") == ["ما الطقس؟", "احجز فندقا.", "मौसम क्या है।", "होटल"]
    assert parts("version 2.5 of it") == ["version 2.5 of it"] and parts("?") == []


def test_all_fields_are_searched_nested_arguments_too():
    nested = Tool("plan", "", {"type": "dict", "properties": {
        "stops": {"type": "array", "items": {"type": "dict", "properties": {"harbour": {"description": "a ferry"}}}}}})
    text = tool_text(nested)
    assert "harbour" in text and "a ferry" in text and tool_text(tool("a", "b", "Servers", c="d")).split() == [
        "a", "b", "c", "d", "Servers"]
    chosen = {"anyOf": [{"properties": {"quay": {}}}, {"description": "a buoy"}],
              "allOf": [{"properties": {"sail": {}}}], "additionalProperties": {"description": "an oar"},
              "items": {"description": "a rope", "items": {}}}
    said = tool_text(Tool("x", "", {"properties": {"a": chosen}, "oneOf": [{"properties": {"mast": {}}}]}))
    assert {"quay", "buoy", "sail", "oar", "rope", "mast"} < set(words(said))
    pool = [tool("list", "Lists things", "GitHub"), tool("list_all", "Lists things", "Jira")]
    assert names(ToolIndex(pool), "the issues on github", 1) == ["list"]
    odd = Tool("odd", "", {"properties": {"a": {"properties": ["b"]}, "c": "string", "d": {"items": [1]}}})
    assert tool_text(odd).split() == ["odd", "a", "c", "d"]


def test_convert_writes_the_group_which_is_read_and_never_shown(tmp_path):
    api = {"name": "now", "description": "x", "required_parameters": [], "optional_parameters": []}
    rows = [{"tool_name": "Clock", "tool_description": "Tells the time", "category": "Time", "api_list": [api]},
            {"server_name": "Calendar", "overview": "", "tools": [{"name": "add", "inputSchema": {"type": "object"}}]}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    convert([tmp_path / "in.jsonl"], tmp_path / "out", Options())
    clock, calendar = load_tools(tmp_path / "out" / "tools.jsonl")
    assert (clock.group, calendar.group) == ("Clock\nTells the time\nTime", "Calendar")
    assert "group" not in clock.to_dict() and "Clock" not in tools_text([clock])
    assert names(ToolIndex([clock, calendar]), "a calendar") == ["add"]


def test_the_tools_of_toolalpaca_keep_the_name_of_their_api(tmp_path):
    """Beside queries, answered or not, and alone."""
    paths = {"/now": {"get": {"operationId": "now", "description": "x"}}}
    row = {"Name": "Clock", "Category": "Time", "Documentation": json.dumps({"paths": paths})}
    for number, said in enumerate(({}, {"Instructions": ["What time is it?"]}, {
            "Instructions": ["What time is it?"], "Golden_Answers": [[{"Action": "now", "Action_Input": "{}"}]]})):
        (tmp_path / "in.jsonl").write_text(json.dumps(row | {"Instructions": []} | said) + "\n")
        convert([tmp_path / "in.jsonl"], tmp_path / str(number), Options())
        (clock,) = load_tools(tmp_path / str(number) / "tools.jsonl")
        assert clock.group == "Clock\nTime"


def test_scores_are_those_of_a_plain_count():
    rng = random.Random(0)
    pool = [tool(f"t{i}", " ".join(rng.choices("red green blue black white".split(), k=rng.randint(0, 9))))
            for i in range(50)]
    index, query = ToolIndex(pool), "red blue red"
    documents = [Counter(words(tool_text(one))) for one in pool]
    mean = sum(map(Counter.total, documents)) / len(documents)
    expected = np.zeros(len(pool))
    for term in set(words(query)):
        present = sum(term in document for document in documents)
        for i, document in enumerate(documents):
            norm = K1 * (1 - B + B * document.total() / mean)
            idf = math.log(1 + (len(pool) - present + 0.5) / (present + 0.5))
            expected[i] += idf * document[term] / (document[term] + norm)
    np.testing.assert_allclose(index.scores(query), expected, atol=1e-5)


def test_one_of_two_things_asked_for_does_not_hide_the_other():
    pool = [tool("forecast", "weather forecast for the city of Oslo today"), *[tool("city", "Oslo today")] * 3,
            *[tool("book")] * 7]
    query = "Tell me the weather forecast today for the city of Oslo. Book something."
    index = ToolIndex(pool)
    found = index.search(query, 2)
    assert {one.tool.name: one.part for one in found} == {
        "forecast": "Tell me the weather forecast today for the city of Oslo.", "book": "Book something."}
    assert 0 < found[1].score < found[0].score <= 1 and top(index.scores(query), 4) == [0, 1, 2, 3]


def test_written_tools_add_their_words_and_replace_none():
    index = ToolIndex([tool("currency_converter", "Convert money"), tool("plane", "Find a seat"), tool("rent", "Cars")])
    query = "How many kroner are 5 euros? I need a seat."
    assert names(index, query) == ["plane"]
    made = [found.tool.name for found in index.search(query, 3, ["convert_currency: money of another country", ""])]
    assert set(made) == {"plane", "currency_converter"}
    with pytest.raises(ValueError, match="1 texts were made for 2 sentences"):
        index.search(query, 3, ["x"])


def test_an_exact_name_is_first():
    pool = [tool("getWeatherForecast", "get weather get weather"), tool("get_weather", "x " * 300), tool("get")]
    assert names(ToolIndex(pool), "get_weather", 1) == ["get_weather"]
    assert names(ToolIndex([tool("GitHub", "code"), tool("hub", "a git of hubs")]), "github", 1) == ["GitHub"]
    long = [tool(f"t{i}", "search") for i in range(40)] + [tool("search", "other words " * 300)]
    assert names(ToolIndex(long), "Search", 1) == ["search"] and names(ToolIndex(long), "search", 2)[1] == "t0"
    assert names(ToolIndex([tool("off", "of a kind"), tool("Of", "x"), tool("of", "y")]), "of") == ["Of", "of"]
    assert names(ToolIndex([tool("?!", "x")]), "?!") == ["?!"]


def test_odd_pools_and_queries():
    same = [tool("same", "The same")] * 3
    assert [found.position for found in ToolIndex(same).search("same", 2)] == [0, 1]          # equal: the earlier
    assert len(ToolIndex(same).search("same", 9)) == 3                                        # fewer than k
    empty = ToolIndex([tool("a1"), tool("weather")])
    assert names(empty, "weather") == ["weather"] and names(empty, "nothing known") == [] == names(empty, "?")
    assert names(ToolIndex([tool("only", "one")]), "one") == ["only"]
    assert ToolIndex([]).search("x", 3) == []
    long = ToolIndex([tool("long", "word " * 200_000), tool("short", "word")])
    assert set(names(long, "word")) == {"short", "long"}
    korean = ToolIndex([tool("weather", "도시의 날씨를 알려준다"), tool("hotel", "호텔을 예약한다")])
    assert names(korean, "내일 서울 날씨 알려줘", 1) == ["weather"] and names(korean, "호텔 예약", 1) == ["hotel"]
    with pytest.raises(ValueError, match="k is 0"):
        empty.search("weather", 0)


def test_the_best_are_all_found_whatever_is_equal():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.integers(0, 4, rng.integers(1, 30)).astype(np.float32)
        k = int(rng.integers(1, 35))
        expected = [i for i in np.argsort(-scores, kind="stable") if scores[i] > 0][:k]
        assert top(scores, k) == expected


@pytest.mark.reference
def test_scores_are_those_of_bm25s():
    if importlib.util.find_spec("bm25s") is None:
        pytest.skip("needs bm25s (requirements-reference.txt)")
    from benchmarks.retrieval import parity
    rng = random.Random(0)
    vocabulary = [f"w{rng.randint(0, 400)}x" for _ in range(3000)]
    pool = [tool(f"t{i}", " ".join(rng.choices(vocabulary, k=rng.randint(1, 60)))) for i in range(500)]
    asked = [(" ".join(rng.choices(vocabulary, k=8)), {rng.randrange(500)}) for _ in range(50)]
    result = parity(ToolIndex(pool), asked)
    assert result["largest difference"] < 2e-5 and result["R@10"][0] == result["R@10"][1]


def test_similar_distractors_are_near_and_no_copies():
    made = {"q1": (tool("get_weather", "The weather forecast of a city for some days"),),
            "q2": (tool("get_weather_now", "The weather forecast of a city for some days"),),       # nearly the same
            "q3": (tool("get_tides", "The tide forecast of a harbour"), tool("get_weather", "Another of that name")),
            "q4": (tool("book_hotel", "A room in a city"),), "q5": (tool("sum", "Adds numbers"),)}
    config = RoundConfig(distractors=2, distractor_choice="similar")
    pool = pool_of(made, config)
    first = candidates_for(Query("q1", "x"), made, config, pool)
    assert first.distractors == ["book_hotel", "get_tides"] and made["q1"][0] in first.tools
    assert first == candidates_for(Query("q1", "x"), made, config, pool)
    many = candidates_for(Query("q1", "x"), made, RoundConfig(distractors=4, distractor_choice="similar"), pool)
    assert many.distractors == ["book_hotel", "get_tides", "sum"]          # any others fill up, but for the near copy
    assert pool_of(made, RoundConfig(distractors=2)) is None
    assert "distractor_choice" not in RoundConfig().identity() and "distractor_choice" in config.identity()


def test_near_copies_are_told_by_the_tools_own_score():
    """A tool that says the same more often scores far more than the tool itself: it is no measure of what is near."""
    made = {"q1": (tool(" ".join(f"w{i}" for i in range(40)), "harbour"),), "q2": (tool("often", "harbour " * 9),),
            "q3": (tool("once", "A harbour by the sea"),), "q4": (tool("other", "Adds numbers"),)}
    config = RoundConfig(distractors=2, distractor_choice="similar")
    assert candidates_for(Query("q1", "x"), made, config, pool_of(made, config)).distractors == ["other"]


def test_similar_distractors_are_never_the_other_tools_made_for_the_query():
    made = {"q1": (tool("tide", "The tide of a harbour"), tool("boats", "The boats that lie in the harbour of a city")),
            "q2": (tool("sum", "Adds numbers"),)}
    config = RoundConfig(distractors=1, distractor_choice="similar", control="random_tool")
    assert candidates_for(Query("q1", "x"), made, config, pool_of(made, config)).distractors == ["sum"]
