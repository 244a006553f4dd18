"""Verdict over decoded calls: the abstract-syntax match of the Berkeley Function-Calling Leaderboard, quirks included.

A call is `{function_name: {argument: value}}`; the expected answer lists, per argument, every value that counts as
right ("" among them: it may be left out). The rules and their error types are those of the leaderboard's checker
of 2024-09-20 (Yan et al. 2024), where Python equality decides (`1 == 1.0 == True`) unless a class is asked for.
Nothing here runs model output, and no output makes it raise: where the official code would stop with an exception,
the verdict is `checker_crash`. Decoding text into calls is in decode.py, Java and JavaScript values in java_js.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from eval.bfcl.java_js import JAVA_CLASSES, JAVASCRIPT_CLASSES, convert_java, convert_javascript

CRASH = "checker_crash"
PYTHON_CLASSES = {"string": str, "integer": int, "float": float, "boolean": bool, "array": list, "tuple": list,
                  "dict": dict, "any": str}
CLASSES = {"python": PYTHON_CLASSES, "java": JAVA_CLASSES, "javascript": JAVASCRIPT_CLASSES}
CONVERTERS = {"java": (convert_java, "type_error:java"), "javascript": (convert_javascript, "type_error:js")}
WITH_ELEMENTS = {"python": ("array", "tuple"), "java": ("Array", "ArrayList"), "javascript": ("array",)}
IGNORED = " ,./-_*^"
# What the official code would raise on strange output: wrong classes, unknown keys, numbers or nesting out of range.
CRASHES = (TypeError, AttributeError, KeyError, IndexError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Verdict:
    """Whether the calls are right; if not, the error type of the first rule that failed."""

    valid: bool
    error_type: str | None = None


RIGHT = Verdict(True)


def ast_check(calls: Sequence[Any], possible_answer: Sequence[Mapping], functions: Sequence[Mapping],
              language: str = "python", *, rule: str | None = None, underscore_names: bool = False) -> Verdict:
    """Compare calls with the expected ones.

    Args:
        calls: decoded output, each item `{name: arguments}` or an object with `.name` and `.arguments`.
        possible_answer: expected calls, each `{name: {argument: [allowed values]}}`.
        functions: documentation: name, parameters {properties, required}.
        language: python, java or javascript: how argument values are written.
        rule: simple, multiple or parallel; left out, it follows from the number of expected calls and of functions.
        underscore_names: the model was shown names with every "." replaced by "_".
    """
    items = [call if isinstance(call, Mapping) else {call.name: call.arguments} for call in calls]
    if rule is None:
        rule = "parallel" if len(possible_answer) > 1 else "multiple" if len(functions) > 1 else "simple"
    try:
        check = partial(check_call, language=language, underscore_names=underscore_names)
        error = _check(items, possible_answer, functions, rule, check)
    except CRASHES:
        error = CRASH
    return Verdict(False, error) if error else RIGHT


def _check(items: list, expected: Sequence[Mapping], functions: Sequence[Mapping], rule: str,
           check: Callable[..., str | None]) -> str | None:
    if rule == "parallel":
        return _match_unordered(items, expected, functions, check)
    if len(items) != 1:
        return f"{rule}_function_checker:wrong_count"
    document = _document(functions, next(iter(expected[0]))) if rule == "multiple" else functions[0]
    return check(document, items[0], expected[0])


def _match_unordered(items: list, expected: Sequence[Mapping], functions: Sequence[Mapping],
                     check: Callable[..., str | None]) -> str | None:
    """First fit without backtracking: each expected call takes the first unused output call that passes."""
    if len(items) != len(expected):
        return "parallel_function_checker_no_order:wrong_count"
    unused = list(items)
    for wanted in expected:
        document = _document(functions, next(iter(wanted)))
        for index, item in enumerate(unused):
            if check(document, item, wanted) is None:
                del unused[index]
                break
        else:
            return "parallel_function_checker_no_order:cannot_find_match"
    return None


def _document(functions: Sequence[Mapping], name: str) -> Mapping:
    """The documentation of `name`; KeyError (so a crash verdict) where there is none."""
    for function in functions:
        if function["name"] == name:
            return function
    raise KeyError(name)


def check_call(document: Mapping, item: Mapping, expected: Mapping, language: str = "python",
               underscore_names: bool = False) -> str | None:
    """Error type of one output call against one expected call, None when right. May raise one of CRASHES."""
    allowed = next(iter(expected.values()))
    properties, required = document["parameters"]["properties"], document["parameters"].get("required", [])
    name = document["name"].replace(".", "_") if underscore_names else document["name"]
    if name not in item:
        return "simple_function_checker:wrong_func_name"
    arguments = item[name]
    if any(argument not in arguments for argument in required):
        return "simple_function_checker:missing_required"
    for argument, value in arguments.items():
        if argument not in properties or argument not in allowed:
            return "simple_function_checker:unexpected_param"
        error = check_value(value, properties[argument], allowed[argument], language)
        if error:
            return error
    if any(argument not in arguments and "" not in values for argument, values in allowed.items()):
        return "simple_function_checker:missing_optional"
    return None


def check_value(value: Any, schema: Mapping, allowed: Sequence, language: str = "python") -> str | None:
    """Error type of one argument value, None when right; `schema` is its documentation. May raise one of CRASHES."""
    declared = schema["type"]
    expected_class = CLASSES[language][declared]
    element_type = schema["items"]["type"] if declared in WITH_ELEMENTS[language] else None
    element_class = CLASSES[language][element_type] if element_type is not None else None
    if language in CONVERTERS:
        convert, not_a_string = CONVERTERS[language]
        if type(value) is not str:
            return not_a_string
        value = convert(value, declared, element_type)
    elif declared == "tuple" and type(value) is tuple:
        value = list(value)
    elif declared == "float" and type(value) is int:
        value = float(value)
    error, loose = _check_class(value, expected_class, element_class, allowed)
    if error:
        return error
    if not loose:
        if expected_class is dict:
            return _check_dict(value, allowed)
        if expected_class is list and element_class is dict:
            return _check_dicts(value, allowed)
        if expected_class is str:
            return _check_string(value, allowed)
        if expected_class is list:
            return _check_list(value, allowed)
    return None if value in allowed else "value_error:others"


def _first_class(allowed: Sequence) -> type | None:
    """Class of the first allowed value that is not the mark for "may be left out"."""
    return next((type(value) for value in allowed if value != ""), None)


def _check_class(value: Any, expected: type, element: type | None, allowed: Sequence) -> tuple[str | None, bool]:
    """(error type or None, loose): loose when the answer stores another class, such as a variable's name."""
    stored = _first_class(allowed)
    if type(value) is not expected:
        return (None, True) if stored is not None and type(value) is stored else ("type_error:simple", False)
    if element is None or any(_elements_fit(value, element, entry) for entry in allowed):
        return None, stored is not None and stored is not expected
    return ("type_error:nested" if len(allowed) else "type_error:simple"), False


def _elements_fit(value: list, element: type, entry: Any) -> bool:
    """Whether every element has the declared class or that of the entry's first element; one level deep only."""
    if type(entry) is not list:
        return True
    stored = _first_class(entry)
    return all(type(v) is element or (stored is not None and type(v) is stored) for v in value)


def normalise(text: str) -> str:
    """Drop blanks and ,./-_*^ , lower-case, and make every apostrophe a double quote."""
    for character in IGNORED:
        text = text.replace(character, "")
    return text.lower().replace("'", '"')


def _normalised(value: Any) -> Any:
    return normalise(value) if type(value) is str else value


def _check_string(value: str, allowed: Sequence) -> str | None:
    wanted = [normalise(entry) for entry in allowed if type(entry) is str]
    return None if normalise(value) in wanted else "value_error:string"


def _check_list(value: list, allowed: Sequence) -> str | None:
    """Order and length matter; an entry "" reads as the empty list (its characters, to be exact)."""
    given = [_normalised(v) for v in value]
    return None if given in [[_normalised(v) for v in entry] for entry in allowed] else "value_error:list/tuple"


def _check_dict(value: Mapping, allowed: Sequence) -> str | None:
    error: str | None = "dict_checker:unclear"
    for entry in allowed:
        if entry == "":
            continue
        error = _dict_error(value, entry)
        if error is None:
            return None
    return error


def _dict_error(value: Mapping, entry: Mapping) -> str | None:
    error = None
    for key, given in value.items():
        if key not in entry:
            error = "value_error:dict_key"
        elif _normalised(given) not in [_normalised(entry[key][i]) for i in range(len(entry[key]))]:
            error = "value_error:dict_value"
        if error:
            break
    if any(key not in value and "" not in values for key, values in entry.items()):
        return "value_error:dict_key"                    # overrides a wrong value found above
    return error


def _check_dicts(value: list, allowed: Sequence) -> str | None:
    error: str | None = "list_dict_checker:unclear"
    for entry in allowed:
        if len(value) != len(entry):
            error = "value_error:list_dict_count"
            continue
        error = next(filter(None, (_check_dict(v, [entry[i]]) for i, v in enumerate(value))), None)
        if error is None:
            return None
    return error
