"""The AST checker, rule by rule, on documentation of our own; and Java and JavaScript values."""

import pytest
from eval_fixtures import LAMP, OVEN, function

from data.schema import ToolCall
from eval.bfcl.checker import ast_check, normalise
from eval.bfcl.java_js import convert_java, convert_javascript


def verdict(arguments, allowed, properties, required=(), language="python", **options):
    """Error type of one call of `f`, None when right."""
    doc = function("f", properties, list(required))
    return ast_check([{"f": arguments}], [{"f": allowed}], [doc], language, **options).error_type


def one(value, allowed, declared, language="python", **extra):
    """Error type of one argument value."""
    return verdict({"x": value}, {"x": allowed}, {"x": {"type": declared, **extra}}, language=language)


def test_the_first_failing_line_decides():
    properties = {"a": {"type": "integer"}, "b": {"type": "string"}}
    assert (
        ast_check([{"g": {}}], [{"f": {}}], [function("f", {}, [])]).error_type
        == "simple_function_checker:wrong_func_name"
    )
    assert verdict({}, {"a": [1], "b": ["", "x"]}, properties, ["a"]) == "simple_function_checker:missing_required"
    assert (
        verdict({"a": 1, "c": 2}, {"a": [1], "b": [""]}, properties, ["a"])
        == "simple_function_checker:unexpected_param"
    )
    assert verdict({"a": 1}, {"a": [1], "b": ["x"]}, properties, ["a"]) == "simple_function_checker:missing_optional"
    assert verdict({"a": 1}, {"a": [1], "b": ["x", ""]}, properties, ["a"]) is None


@pytest.mark.parametrize(
    ("value", "allowed", "declared", "error"),
    [
        (5, [5], "integer", None),
        (5.0, [5], "integer", "type_error:simple"),
        (True, [1], "integer", "type_error:simple"),
        (5, [5.0], "float", None),
        ("5", [5], "integer", "type_error:simple"),
        (True, [True], "boolean", None),
        (1, [True], "boolean", "type_error:simple"),
        (None, [None, 3], "integer", None),
        ("New-York,  ", ["new york"], "string", None),
        ("it's", ['it"s'], "string", None),
        ("a\tb", ["ab"], "string", "value_error:string"),
        ("-", ["", "x"], "string", None),
        ("var", ["var"], "integer", None),
        ("Var", ["var"], "integer", "value_error:others"),
        ((1, 2), [[1, 2]], "tuple", None),
        (7, [8], "integer", "value_error:others"),
    ],
)
def test_class_and_value_of_plain_types(value, allowed, declared, error):
    extra = {"items": {"type": "integer"}} if declared == "tuple" else {}
    assert one(value, allowed, declared, **extra) == error


@pytest.mark.parametrize(
    ("value", "allowed", "error"),
    [
        (["A b", "c"], [["ab", "C."]], None),
        (["c", "ab"], [["ab", "c"]], "value_error:list/tuple"),
        ([], [["a"], ""], None),
        ([1], [["a"]], "type_error:nested"),
        ([1], [["a"], ""], "value_error:list/tuple"),
        ("a", [["a"]], "type_error:simple"),
        ([["a b"]], [[["ab"]]], "value_error:list/tuple"),
        ([], [], "type_error:simple"),
    ],
)
def test_lists_of_strings(value, allowed, error):
    assert one(value, allowed, "array", items={"type": "string"}) == error


def test_dicts_and_lists_of_dicts():
    allowed = [{"k": ["A b", 2], "o": ["", 1]}]
    assert one({"k": "ab"}, allowed, "dict") is None
    assert one({"k": 2.0, "o": True}, allowed, "dict") is None
    assert one({"k": "x"}, allowed, "dict") == "value_error:dict_value"
    assert one({"z": 1}, allowed, "dict") == "value_error:dict_key"
    assert one({"o": 5}, allowed, "dict") == "value_error:dict_key"  # the missing key overrides the wrong value
    assert one({}, [""], "dict") == "dict_checker:unclear"
    items = {"type": "dict"}
    assert one([{"k": 2}], [allowed], "array", items=items) is None
    assert one([], [allowed], "array", items=items) == "value_error:list_dict_count"
    assert one([], [allowed, ""], "array", items=items) is None
    assert one(["x"], [["y"]], "array", items=items) == "checker_crash"


def test_parallel_is_first_fit_without_backtracking():
    expected = [
        {"lamp.set": {"room": ["hall"], "level": [1, 2], "warm": [""]}},
        {"lamp.set": {"room": ["hall"], "level": [1], "warm": [""]}},
    ]
    calls = [{"lamp.set": {"room": "hall", "level": level}} for level in (1, 2)]
    assert ast_check(calls, expected, [LAMP]).error_type == "parallel_function_checker_no_order:cannot_find_match"
    assert ast_check(calls, expected[::-1], [LAMP]).valid
    assert ast_check(calls[:1], expected, [LAMP]).error_type == "parallel_function_checker_no_order:wrong_count"


def test_rules_choose_the_document_and_calls_may_be_records():
    expected = [{"oven_heat": {"degrees": [100.0]}}]
    assert ast_check([ToolCall("oven_heat", {"degrees": 100})], expected, [LAMP, OVEN]).valid
    assert ast_check([], expected, [LAMP, OVEN]).error_type == "multiple_function_checker:wrong_count"
    assert ast_check([{"lamp.set": {}}], [{"other": {}}], [LAMP], rule="simple").error_type.endswith("missing_required")
    assert ast_check([{"x": {}}], [{"lost": {}}], [LAMP, OVEN]).error_type == "checker_crash"
    under = [{"lamp_set": {"room": "hall", "level": 1}}]
    wanted = [{"lamp.set": {"room": ["hall"], "level": [1], "warm": [""]}}]
    assert ast_check(under, wanted, [LAMP], underscore_names=True).valid and not ast_check(under, wanted, [LAMP]).valid


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "simple_function_checker:missing_required"),
        ("", "simple_function_checker:missing_required"),
        (0, "checker_crash"),
        (None, "checker_crash"),
        (["room", "level"], "checker_crash"),
    ],
)
def test_an_argument_container_of_another_class(arguments, error):
    assert ast_check([{"lamp.set": arguments}], [{"lamp.set": {}}], [LAMP]).error_type == error


def test_normalise_drops_exactly_eight_characters():
    assert normalise(" ,./-_*^AbC'") == 'abc"'
    assert normalise("\t\n:;&+%$#\\()[]\u00a0") == "\t\n:;&+%$#\\()[]\u00a0"


@pytest.mark.parametrize(
    ("text", "declared", "element", "value"),
    [
        ("5", "integer", None, 5),
        ("5\n", "integer", None, 5),
        ("+5", "integer", None, "+5"),
        ("5", "long", None, "5"),
        ("5L", "long", None, 5),
        ("1.5f", "float", None, 1.5),
        ("1.5", "float", None, "1.5"),
        ("2", "double", None, 2.0),
        ("true", "boolean", None, True),
        ("True", "boolean", None, "True"),
        ('"a"', "String", None, '"a"'),
        ('new ArrayList<String>(Arrays.asList("a", "b"))', "ArrayList", "String", ["a", "b"]),
        ("new ArrayList<>(Arrays.asList())", "ArrayList", "String", "new ArrayList<>(Arrays.asList())"),
        ("new ArrayList<Integer>() {{ add(1); add(2); }}", "ArrayList", "integer", [1, 2]),
        ("new ArrayList<>()", "ArrayList", "String", []),
        ("new int[]{1, 2,}", "Array", "integer", [1, 2]),
        ('new String[] {"a", b}', "Array", "String", ['"a"', "b"]),
        ("{1, 2}", "Array", "integer", "{1, 2}"),
        ('new HashMap<String, Integer>() {{ put("a", 1); put("b", "x y"); }}', "HashMap", None, {"a": 1, "b": "x y"}),
        ("new HashMap<>()", "HashMap", None, {}),
        ("new HashMap<>() {{}}", "HashMap", None, {}),
        ("map", "HashMap", None, "map"),
        ('new HashMap<>() {{ put("a", f(1)); }}', "HashMap", None, {"a": "f(1"}),
    ],
)
def test_java_values(text, declared, element, value):
    found = convert_java(text, declared, element)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "declared", "element", "value"),
    [
        ("'a'", "String", None, "a"),
        ("a", "String", None, "a"),
        ("'a'", "any", None, "'a'"),
        ("5.", "float", None, "5."),
        ("5", "float", None, 5.0),
        ("12n", "Bigint", None, 12),
        ("true", "Boolean", None, True),
        ("['a', \"b\",]", "array", "String", ["a", "b", ""]),
        ("[1, x] tail", "array", None, [1, "x"]),
        ("[]", "array", "integer", []),
        ("new Array(1, 2)", "array", "integer", [1, 2]),
        ("[[1, 'a'], []]", "array", "array", [[1, "a"], [""]]),
        ("new Array([1], [2])", "array", None, [[1], [2]]),
        ("x[1]", "array", None, "x[1]"),
        ("{}", "dict", None, {}),
        ("{a: 1, 'b': 'true', c: x, y}", "dict", None, {"a": 1, "b": True, "c": "x, y"}),
        ("{a: [1, 2], b: {c: 1}}", "dict", None, {"a": [1, 2], "b": "{c: 1"}),
        ("{a}", "dict", None, {}),
        ("a", "dict", None, "a"),
    ],
)
def test_javascript_values(text, declared, element, value):
    found = convert_javascript(text, declared, element)
    assert found == value and type(found) is type(value)


def test_foreign_values_must_be_text():
    assert one(5, [5], "integer", "java") == "type_error:java"
    assert one(5, [5], "integer", "javascript") == "type_error:js"
    assert one("5", [5], "integer", "java") is None
    assert one("names", ["names"], "Array", "java", items={"type": "String"}) is None  # a variable, stored as text
