"""Does a value fit its schema? `jsonschema` judges (Draft 2020-12), within a budget, and each verdict has a code.

Ours beside the library: `true` is not 1 and 5.0 is no integer; 5 equals 5.0 only where the schema says number (`enum`,
`const`, `uniqueItems` compare canonical values); `multipleOf` reckons with decimals, so that 0.3 is a multiple of 0.1.
Every keyword that the library looks at is counted, and so is what it loops over and the length of its messages.

Each code stands beside the schema, the value that trips it and one that passes; the tests run them all.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator, TypeChecker, ValidationError
from jsonschema.validators import extend

from data.budget import budget, spend
from data.canonical import canonical_value, type_words
from data.findings import MAX_FINDINGS, Finding, show
from data.json_schema import Schema, is_number, schemas_under

# ---------------------------------------------------------------------------------------------------------------- types

IS_TYPE: dict[str, Callable[[Any], bool]] = {
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),             # 5.0 is not an integer
    "number": is_number,                                                             # true is not 1
    "boolean": lambda v: isinstance(v, bool),
    "array": lambda v: isinstance(v, list),
    "dict": lambda v: isinstance(v, dict),
    "null": lambda v: v is None,
    "any": lambda v: True,
}


def type_tests(schema: Any) -> list[Callable[[Any], bool]]:
    """A test per type that `schema` names; [] where it names none, so that anything goes."""
    return [IS_TYPE[word] for word in dict.fromkeys(type_words(schema))]


def has_type(value: Any, schema: Any) -> bool:
    """True if `value` has one of the types that `schema` names, or it names none."""
    tests = type_tests(schema)
    return not tests or any(test(value) for test in tests)


_TESTS = {**IS_TYPE, "object": IS_TYPE["dict"]}             # the library's own functions ask for "object"
_TYPES = TypeChecker({word: lambda checker, value, test=test: test(value) for word, test in _TESTS.items()})


# ---------------------------------------------------------------------- keywords that judge by our own idea of equality

Errors = Iterator[ValidationError]


def _canonical(value: Any, schema: Any) -> str:
    text = json.dumps(canonical_value(value, schema, budget().shapes))
    spend(1 + len(text) // 16)
    return text


def _enum(validator: Any, allowed: list, value: Any, schema: dict) -> Errors:
    known = budget().enums
    if id(allowed) not in known:
        known[id(allowed)] = {_canonical(choice, schema) for choice in allowed}
        budget().kept.append(allowed)
    if _canonical(value, schema) not in known[id(allowed)]:
        yield ValidationError("not in the enum")


def _const(validator: Any, constant: Any, value: Any, schema: dict) -> Errors:
    if _canonical(value, schema) != _canonical(constant, schema):
        yield ValidationError("not the constant")


def _unique_items(validator: Any, unique: bool, value: Any, schema: dict) -> Errors:
    seen: set[str] = set()
    for index, item in enumerate(value if unique and isinstance(value, list) else ()):
        text = _canonical(item, schema.get("items"))
        if text in seen:
            yield ValidationError("a repeated item", path=[index])
            return
        seen.add(text)


def _multiple_of(validator: Any, divisor: float, value: Any, schema: dict) -> Errors:
    if is_number(value) and Fraction(repr(value)) % Fraction(repr(divisor)):
        yield from Draft202012Validator.VALIDATORS["multipleOf"](validator, divisor, value, schema)


def _declared(validator: Any, names: frozenset[str], value: Any, schema: dict) -> Errors:
    for key in value if isinstance(value, dict) else ():
        if key not in names:
            yield ValidationError("an undeclared name", path=[key])


def _property_names(validator: Any, names: Any, value: Any, schema: dict) -> Errors:
    judge = validator.evolve(schema=names)
    for key in value if isinstance(value, dict) else ():
        if not judge.is_valid(key):
            yield ValidationError("a name that does not fit", path=[key])


# ------------------------------------------------------------------------------------------------------------ the judge

_OURS = {"enum": _enum, "const": _const, "uniqueItems": _unique_items, "multipleOf": _multiple_of,
         "declared": _declared, "propertyNames": _property_names}
_OWN_COUNT = ("enum", "const", "uniqueItems")
_REACHING_OUT = ("$ref", "$dynamicRef", "pattern", "patternProperties", "format")       # json_schema drops them, too


def _size(value: Any) -> int:
    return len(value) if isinstance(value, dict | list) else 0


def _branches(schema: Any) -> int:
    """How many schemas apply to the same value as `schema` does, itself included."""
    words = ("allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas")
    parts = [part for word in words for part in schemas_under(schema, word)] if isinstance(schema, dict) else []
    spend(1)
    return 1 + sum(map(_branches, parts))


def _work(keyword: str, expected: Any, value: Any, schema: dict) -> int:
    """The steps that one keyword takes by itself: what it loops over, without the schemas that it hands parts on to."""
    if keyword in _OWN_COUNT:
        return 1
    if keyword == "multipleOf":
        return 4                            # fractions of up to 600 digits
    loops = _size(expected) + _size(value)
    if keyword == "dependentRequired":
        loops += sum(map(len, expected.values()))
    if keyword == "unevaluatedProperties":
        loops += _branches(schema) * (16 + _size(value))
    if keyword == "unevaluatedItems":
        loops += _branches(schema) * (16 + _size(value)) * (1 + _size(value) // 16)
    return 1 + loops // 16


def _counted(keyword: str, judge: Callable[..., Any]) -> Callable[..., Errors]:
    def check(validator: Any, expected: Any, value: Any, schema: dict) -> Errors:
        spend(_work(keyword, expected, value, schema))
        for error in judge(validator, expected, value, schema) or ():
            spend(4 + len(error.message) // 256)
            yield error
    return check


_JUDGED = {word: _counted(word, judge) for word, judge in {**Draft202012Validator.VALIDATORS, **_OURS}.items()
           if word not in _REACHING_OUT}
_Judge = extend(Draft202012Validator, _JUDGED, type_checker=_TYPES)


def value_faults(value: Any, schema: Schema, where: str = "") -> list[Finding]:
    """What is wrong with `value` (strict JSON) under `schema` (from `json_schema`), [] when it fits.

    At most MAX_FINDINGS. `where` names the value in the details; without it the value is the arguments of a call.
    Raises OverBudget.
    """
    budget().kept.append(schema)
    findings: list[Finding] = []
    mistyped: set[tuple] = set()            # a value of another type breaks other keywords as well: nothing new
    for error in islice(_Judge(schema).iter_errors(value), MAX_FINDINGS):
        if tuple(error.path) in mistyped:
            continue
        if error.validator == "type":
            mistyped.add(tuple(error.path))
        twice = error.validator == "oneOf" and not error.context        # it fits several branches
        rule = _RULE_OF["oneOf twice" if twice else error.validator]
        findings.append((rule.code, rule.tell(error, _place(error, where))))
    return findings


def _place(error: ValidationError, where: str) -> str:
    path = list(error.path)
    if not where and path:
        where = f"argument {path.pop(0)[:80]!r}"
    for part in path:
        where += f"[{part}]" if isinstance(part, int) else f".{part[:80]}"
    return where[-200:] or "the call"


# ------------------------------------------------------------------------------------------------------------ the codes

@dataclass(frozen=True)
class ValueRule:
    """What errors of these keywords are called and how they are told; under `schema` the value `trips` is one."""

    code: str
    keywords: tuple[str | None, ...]
    schema: dict[str, Any]
    trips: Any
    passes: Any
    tell: Callable[[ValidationError, str], str]


def _told(error: ValidationError, place: str) -> str:
    return f"{place}: {error.message}"


def _limit(error: ValidationError, place: str) -> str:
    return f"{place} is {show(error.instance)}; expected {error.validator} {show(error.validator_value)}"


def _wrong_type(error: ValidationError, place: str) -> str:
    words = error.validator_value
    return f"{place} is {show(error.instance)}; expected {show(words[0] if len(words) == 1 else words)}"


VALUE_RULES = [
    ValueRule("unknown_argument", ("declared", "propertyNames"),
              {"type": "dict", "properties": {"city": {"type": "string"}}}, {"town": "Rome"}, {"city": "Rome"},
              lambda error, place: f"{place} is not an argument; known: "
                                   f"{show(list(islice(error.schema.get('properties', {}), 8)))}"),
    ValueRule("unknown_argument", ("unevaluatedProperties",),
              {"allOf": [{"properties": {"city": {"type": "string"}}}], "unevaluatedProperties": False},
              {"town": "Rome"}, {"city": "Rome"}, _told),
    ValueRule("missing_required", ("required",), {"type": "dict", "required": ["city"]}, {}, {"city": "Rome"},
              lambda error, place: f"{place} lacks {error.message.removesuffix(' is a required property')}"),
    ValueRule("missing_required", ("dependentRequired",), {"dependentRequired": {"city": ["country"]}},
              {"city": "Rome"}, {"country": "Italy"}, _told),
    ValueRule("wrong_type", ("type",), {"type": "number"}, "5", 5.5, _wrong_type),
    ValueRule("wrong_type", ("anyOf", "oneOf"), {"anyOf": [{"type": "integer"}, {"type": "string"}]}, 1.5, 1,
              lambda error, place: f"{place} is {show(error.instance)}, which fits no branch of {error.validator}"),
    ValueRule("not_in_enum", ("enum",), {"type": "string", "enum": ["EUR", "USD"]}, "eur", "EUR",
              lambda error, place: f"{place} is {show(error.instance)}; expected one of {show(error.validator_value)}"),
    ValueRule("not_in_enum", ("const",), {"const": 1}, True, 1,
              lambda error, place: f"{place} is {show(error.instance)}; expected {show(error.validator_value)}"),
    ValueRule("out_of_range", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
              {"type": "integer", "minimum": 1}, 0, 1, _limit),
    ValueRule("not_a_multiple", ("multipleOf",), {"type": "number", "multipleOf": 0.01}, 0.305, 19.99, _limit),
    ValueRule("wrong_length", ("minLength", "maxLength"), {"type": "string", "maxLength": 3}, "Rome", "ROM", _limit),
    ValueRule("wrong_size", ("minItems", "maxItems", "minProperties", "maxProperties", "contains", "minContains",
                             "maxContains"), {"type": "array", "minItems": 1}, [], ["Rome"], _limit),
    ValueRule("wrong_size", ("items", "unevaluatedItems"), {"prefixItems": [{"type": "integer"}], "items": False},
              [1, 2], [1],
              lambda error, place: f"{place} is {show(error.instance)}, with more items than its schema allows"),
    ValueRule("repeated_items", ("uniqueItems",), {"type": "array", "uniqueItems": True}, [1, 1], [1, 1.0],
              lambda error, place: f"{place} repeats an item; expected different ones"),
    ValueRule("several_branches", ("oneOf twice",), {"oneOf": [{"minimum": 0}, {"minimum": 5}]}, 7, 3,
              lambda error, place: f"{place} is {show(error.instance)}, which fits several branches of oneOf; expected "
                                   "one"),
    ValueRule("forbidden_value", ("not",), {"type": "integer", "not": {"const": 0}}, 0, 1,
              lambda error, place: f"{place} is {show(error.instance)}, which its schema rules out"),
]
_RULE_OF: dict[str | None, ValueRule] = {keyword: rule for rule in VALUE_RULES for keyword in rule.keywords}
_RULE_OF[None] = _RULE_OF["not"]                     # the schema `false`
