"""The literal parser: agrees with Python where it has an answer, refuses what is no literal, never hangs."""

import ast
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.formats.literals import LiteralError, looks_like_calls, parse_calls, parse_literal

PLAIN = st.recursive(st.none() | st.booleans() | st.integers(-10**15, 10**15)
                     | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                     lambda inner: st.lists(inner, max_size=4)
                     | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)
NAMES = st.from_regex(r"[A-Za-zÄé][\w.\-]{0,8}( [A-Za-z0-9]{1,6}){0,2}", fullmatch=True)

CALLS = [
    ("[f()]", [("f", {})]),
    ("[f(a=1)]", [("f", {"a": 1})]),
    ("f(a=1)", [("f", {"a": 1})]),
    ("[f(a=1,)]", [("f", {"a": 1})]),
    ("[f(a=1), g(b=2),]", [("f", {"a": 1}), ("g", {"b": 2})]),
    (" [ f ( a = 'x' ) , f ( a = \"y\" ) ] ", [("f", {"a": "x"}), ("f", {"a": "y"})]),
    ("[Market Trends API(trend_type=\"GAINERS\", country=\"us\")]",
     [("Market Trends API", {"trend_type": "GAINERS", "country": "us"})]),
    ("[a.b.c(x=-1.5e3, y=+2, z=.5, w=0x1F, v=1_000)]",
     [("a.b.c", {"x": -1500.0, "y": 2, "z": 0.5, "w": 31, "v": 1000})]),
    ("[f(a='it\\'s', b=\"say \\\"hi\\\"\", c='tab\\tnew\\nline')]",
     [("f", {"a": "it's", "b": 'say "hi"', "c": "tab\tnew\nline"})]),
    ("[f(a='), g(x=1)', b='[1, 2]')]", [("f", {"a": "), g(x=1)", "b": "[1, 2]"})]),
    ("[f(q=\"g(x='1')\")]", [("f", {"q": "g(x='1')"})]),
    ("[f(a=[1, [2, (3, 4)], {'k': True}], b={'x': None, \"y\": [false, null]})]",
     [("f", {"a": [1, [2, [3, 4]], {"k": True}], "b": {"x": None, "y": [False, None]}})]),
    ("[f(a='''three ' quotes''', b=\"\"\"two \"\" here\"\"\")]", [("f", {"a": "three ' quotes", "b": 'two "" here'})]),
    ("[f(a=r'C:\\new', b=u'ü', c='a' 'b')]", [("f", {"a": "C:\\new", "b": "ü", "c": "ab"})]),
    ("[f(a='\\u00e9\\x41\\ud83e\\uddf6\\101')]", [("f", {"a": "éA🧶A"})]),
    ("[天気(都市='東京')]", [("天気", {"都市": "東京"})]),
    ("[f(user-id=3, max results='x', @type=1)]", [("f", {"user-id": 3, "max results": "x", "@type": 1})]),
    ("[f(a=(1,), b=(1), c=())]", [("f", {"a": [1], "b": 1, "c": []})]),
    ("[f(a='=', b='a=b')]", [("f", {"a": "=", "b": "a=b"})]),
    ("[]", []),
]
REFUSED = ["[f(a=b)]", "[f(a=1+1)]", "[f(a=g(1))]", "[f(a=nan)]", "[f(a=1e999)]", "[f(a=inf)]", "[f(a=f'{x}')]",
           "[f(a='x)]", "[f(a=1]", "[f(a=1)",
           "[f(1)]", "[f(a=1, a=2)]", "[f(a=1) g(b=2)]", "[f(a=1)] and more", "[(a=1)]", "f", "", "[f(a={1: 2})]",
           "[f(a={'k': 1, 'k': 2})]",
           "[f(a=01)]", "[f(a=__import__('os'))]", "[f(a=" + "[" * 500 + "]" * 500 + ")]", "[f(a=" + "9" * 5000 + ")]",
           "[f(a='\\U00FFFFFF')]"]


@pytest.mark.parametrize(("text", "calls"), CALLS, ids=range(len(CALLS)))
def test_calls(text, calls):
    assert parse_calls(text) == calls


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_list_of_calls_is_refused(text):
    with pytest.raises(LiteralError):
        parse_calls(text)


def test_known_names_may_hold_brackets_and_commas_and_the_longest_wins():
    known = {"Get (v2), fast": ["x"], "Get": [], "Get (v2)": ["y"]}
    assert parse_calls("[Get (v2), fast(x=1), Get (v2)(y='('), Get()]", known) == [
        ("Get (v2), fast", {"x": 1}), ("Get (v2)", {"y": "("}), ("Get", {})]


def test_positional_arguments_take_the_parameters_in_order():
    assert parse_calls("[f(1, 'a', z=True)]", {"f": ["x", "y", "z"]}) == [("f", {"x": 1, "y": "a", "z": True})]
    with pytest.raises(LiteralError, match="positional"):
        parse_calls("[f(1, 2)]", {"f": ["x"]})
    with pytest.raises(LiteralError, match="twice"):
        parse_calls("[f(1, x=2)]", {"f": ["x"]})


def test_argument_names_of_known_tools_may_be_anything():
    assert parse_calls("[f(a (b)=1, c, d='x')]", {"f": ["a (b)", "c, d"]}) == [("f", {"a (b)": 1, "c, d": "x"})]


def test_text_is_told_from_calls():
    assert looks_like_calls("[f(a=1)]") and looks_like_calls(" [Two Words(x=") and looks_like_calls("[A [b](x=1)]",
                                                                                                    ["A [b]"])
    assert (
        not looks_like_calls("[link](http://x)") and not looks_like_calls("f(a=1)") and not looks_like_calls("[1, 2]")
    )


@settings(max_examples=50, deadline=None)
@given(PLAIN)
def test_python_and_json_spellings_of_a_value_give_the_value(value):
    for text in (repr(value), json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert parse_literal(text) == value
        assert type(parse_literal(text)) is type(value)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(NAMES, st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), PLAIN, max_size=3)),
                max_size=3))
def test_rendered_calls_come_back(calls):
    text = "[" + ", ".join(f"{name}({', '.join(f'{k}={v!r}' for k, v in args.items())})" for name, args in calls) + "]"
    assert parse_calls(text) == calls


@settings(max_examples=120, deadline=None)
@given(st.text(alphabet="[](){}'\",=\\ab1.-+ \n:fruTe", max_size=40))
def test_any_text_is_a_literal_or_refused(text):
    try:
        ours = parse_literal(text)
    except LiteralError:
        return
    try:
        theirs = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return      # JSON words, leading white space inside brackets, keys of other types
    assert json.dumps(ours) == json.dumps(theirs, default=bytes.decode) or ours == theirs      # b"a" is read as "a"


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_calls_or_refused(text):
    try:
        parse_calls(text, {"f": ["a"], text[:5]: ["b"]})
    except LiteralError:
        pass


def test_a_long_literal_takes_linear_time():
    text = "[" + "'a\\\\', " * 20_000 + "]"
    assert len(parse_literal(text)) == 20_000
    assert len(parse_literal("'" + "\\'" * 200_000 + "'")) == 200_000
    assert len(parse_calls("[" + "f(a='x'), " * 10_000 + "]", {"f": ["a"]})) == 10_000
