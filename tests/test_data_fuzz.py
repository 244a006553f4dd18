"""Fuzz of the parser and the rule checker: mutants of answers and schemas never raise, cost little and get a code."""

import copy
import json
import os
import random
import time
from pathlib import Path

import pytest
from timing import cpu_seconds

from data.parse import Reason, parse_calls, parse_tools
from data.prompts import NO_CALL_TEXT, calls_answer, pieces_text, tools_answer
from data.rules import check_calls, check_tool, check_tools
from data.schema import JsonError, Tool, ToolCall, strict_json_loads
from data.tool_rules import EXAMPLE_TOOL
from sampler.consistency import majority_vote

LIMIT_SECONDS = 0.05            # of CPU time, for one call
MAX_BYTES = 65_536

SEEDS_TOOLS = [
    EXAMPLE_TOOL,
    {"name": "book", "description": "Book a table", "arguments": {"type": "dict", "required": ["where"], "properties": {
        "where": {"type": "dict", "description": "Place.", "required": ["city"],
                  "properties": {"city": {"type": "string"}, "zip": {"type": "integer"}}},
        "guests": {"type": "array", "description": "Names.", "items": {"type": "string", "enum": ["a", "b"]}},
        "price": {"anyOf": [{"type": "number"}, {"type": "null"}], "description": "Money.", "default": None}}}},
    {"name": "order", "description": "Order goods.", "arguments": {"type": "dict", "properties": {
        "amount": {"type": "integer", "description": "How many.", "minimum": 1, "maximum": 99, "multipleOf": 1,
                   "default": 1},
        "code": {"type": "string", "description": "A code.", "minLength": 1, "maxLength": 4, "not": {"const": "none"}},
        "sizes": {"type": "array", "description": "Sizes.", "items": {"type": "number", "exclusiveMinimum": 0},
                  "uniqueItems": True, "minItems": 1, "maxItems": 3, "contains": {"const": 5}, "maxContains": 2},
        "to": {"type": "dict", "description": "Where to.", "properties": {"city": {"type": "string"}, "zip": {}},
               "dependentRequired": {"city": ["zip"]}, "minProperties": 1, "unevaluatedProperties": False,
               "if": {"required": ["zip"]}, "then": {"properties": {"zip": {"minimum": 1}}},
               "else": {"maxProperties": 1},
               "dependentSchemas": {"zip": {"required": ["city"]}}, "propertyNames": {"maxLength": 4}},
        "pay": {"oneOf": [{"type": "integer"}, {"type": "string", "enum": ["cash"]}], "description": "How."},
        "pair": {"type": "tuple", "description": "Two.", "prefixItems": [{"type": "int"}, {"type": "str"}],
                 "items": False, "unevaluatedItems": False}}}},
    {"name": "空", "description": "é\u0301", "parameters": {"type": "object", "properties": {}},
     "results": {"type": "dict"}},
]
SEEDS_CALLS = [("convert", {"amount": 5, "to": "EUR"}),
               ("book", {"where": {"city": "Rome", "zip": 1}, "guests": ["a"]}),
               ("book", {"where": {"city": "</tool_call>"}, "price": 1.5}),
               ("order", {"amount": 2, "code": "A1", "sizes": [5, 1.5], "to": {"city": "Rome", "zip": 1}, "pay": "cash",
                          "pair": [1, "a"]})]
PIECES = ["<tool_call>", "</tool_call>", "<tools>", "</tools>", "{", "}", "[", "]", '"', ":", ",", "\\", "\\u",
          "\\ud800", "NaN", "-Infinity", "1e999", "9" * 400, "true", "null", "\x00", "\u202e", "\ud7ff", NO_CALL_TEXT,
          '{"name": "convert"}', "\n"]
WORDS = ["type", "properties", "required", "enum", "items", "anyOf", "allOf", "$ref", "default", "pattern",
         "const", "name", "additionalProperties", "description", "arguments", "parameters", "results", "format",
         "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
         "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "oneOf", "not", "if", "then",
         "else", "contains", "minContains", "maxContains", "propertyNames", "patternProperties", "prefixItems",
         "dependentRequired", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties", "$schema", "$id",
         "$defs", "$dynamicRef", "$anchor", "declared"]
VALUES = [0, 2, 0.1, 5e-324, 1e308, 10 ** 299, -10 ** 299, False, {"const": 1}, ["x", "y"], {"x": ["y"]},
          [{"type": "integer"}, {"minimum": 3}], {"x": {"required": ["y"]}},
          "string", "dict", "integer", "object", "city",
          "", None, True, -1, 1.5, float("nan"), float("inf"), 10 ** 400, "\ud800", [],
          {}, [[]], {"type": "string"}, ["string", "null"], "(a+)+$", "#/x", "http://127.0.0.1:1/", {"$ref": "#"}]


def mutated_text(rng: random.Random, text: str) -> str:
    """The text with a few random cuts, repetitions and insertions, up to MAX_BYTES characters."""
    for _ in range(rng.randrange(1, 5)):
        at, length = rng.randrange(len(text) + 1), rng.choice([1, 2, 5, 20])
        kind = rng.randrange(5)
        if kind == 0:
            text = text[:at] + text[at + length:]
        elif kind == 1:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind == 2:
            text = text[:at] + text[at:at + length] * rng.choice([2, 3, 50]) + text[at:]
        elif kind == 3:
            text = text[:at] + chr(rng.choice([rng.randrange(32, 127), rng.randrange(0xD7FF), 0x1F600])) + text[at + 1:]
        elif rng.random() < 0.2:
            piece = rng.choice([*PIECES, text[at:at + length] or "x"])
            text = text[:at] + piece * (rng.choice([2_000, 20_000, 30_000, MAX_BYTES]) // len(piece)) + text[at:]
    return text[:MAX_BYTES]


def mutated_value(rng: random.Random, value):
    """A copy of a JSON value with one node replaced, removed, repeated, wrapped or renamed."""
    value = copy.deepcopy(value)
    holder, key, node = None, None, value
    while isinstance(node, dict | list) and node and rng.random() < 0.75:
        holder, key = node, rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        node = node[key]
    new = rng.choice(VALUES) if rng.random() < 0.6 else {rng.choice(WORDS): node}
    if rng.random() < 0.04:
        target = rng.choice([1_000, 8_000, 30_000, MAX_BYTES])
        size = target // (8 + len(str(node)))
        new = rng.choice([[node] * size, {f"k{i}": node for i in range(size)}, "x" * target, nest(node, min(size, 40)),
                          {"enum": [f"{i}" for i in range(target // 8)], "type": "string"},
                          {rng.choice(["anyOf", "oneOf", "allOf", "prefixItems"]): [node] * min(size, 400)},
                          tree(rng.choice(["anyOf", "oneOf", "allOf"]), node), chain(rng, node),
                          {"required": [f"{i}" for i in range(target // 8)], "properties": {}}])
    if holder is None:
        return new
    if rng.random() < 0.15:
        del holder[key]
    elif isinstance(holder, dict) and rng.random() < 0.2:
        holder[rng.choice(WORDS)] = holder.pop(key)
    else:
        holder[key] = new
    return value


def nest(value, depth: int):
    for _ in range(depth):
        value = {"type": "dict", "properties": {"x": value}}
    return value


def tree(word: str, value):
    """A schema with 2 ** 6 branches."""
    for _ in range(6):
        value = {word: [value, value]}
    return value


def chain(rng: random.Random, value):
    """Ten schemas inside each other, each applied by another keyword."""
    for _ in range(10):
        word = rng.choice(["not", "if", "contains", "items", "unevaluatedProperties", "unevaluatedItems", "allOf",
                           "oneOf"])
        part = [value, {"minProperties": 1}] if word in ("allOf", "oneOf") else value
        value = {"unevaluatedProperties": {}, word: part}
    return value


class Watch:
    """Runs a function under the CPU limit and keeps the slowest case."""

    def __init__(self) -> None:
        self.slowest, self.case, self.calls = 0.0, "", 0

    def __call__(self, function, *arguments):
        start = time.process_time()
        result = function(*arguments)
        spent = time.process_time() - start
        if spent > LIMIT_SECONDS:           # again, by the machine's own pace: what interrupts it is not the code
            spent = min(spent, cpu_seconds(function, *arguments))
        self.calls += 1
        if spent > self.slowest:
            self.slowest, self.case = spent, f"{function.__name__}{repr(arguments)[:300]}"
        assert spent < LIMIT_SECONDS, f"{spent:.3f} s: {self.case}"
        return result


def fuzz_texts(rng: random.Random, watch: Watch) -> None:
    """One mutated answer through both parsers, and what comes out through the rule checker."""
    tools = [EXAMPLE_TOOL, SEEDS_TOOLS[1]]
    chosen = [ToolCall(*call) for call in rng.sample(SEEDS_CALLS, rng.randrange(4))]
    text = mutated_text(rng, pieces_text(calls_answer(chosen)))
    found = watch(parse_calls, text)
    if isinstance(found, Reason):
        assert found.code
    else:
        assert all(code for code, _ in watch(check_calls, found, tools))
        majority_vote([found, None, found], [Tool.from_dict(tool) for tool in tools], [-1.0] * 3)
    text = mutated_text(rng, pieces_text(tools_answer([Tool.from_dict(tool) for tool in rng.sample(SEEDS_TOOLS, 2)])))
    found = watch(parse_tools, text)
    if isinstance(found, Reason):
        assert found.code
    else:
        assert all(code for code, _ in watch(check_tools, found))


def fuzz_values(rng: random.Random, watch: Watch) -> None:
    """One mutated tool and one mutated call; where the checker finds a tool good, it must be a Tool and be usable."""
    tool = rng.choice(SEEDS_TOOLS)
    for _ in range(rng.randrange(1, 4)):
        tool = mutated_value(rng, tool)
    findings = watch(check_tool, tool)
    assert all(code for code, _ in findings)
    if not findings:
        assert check_tool(Tool.from_dict(tool)) == []
    name, arguments = rng.choice(SEEDS_CALLS)
    call = mutated_value(rng, {"name": name, "arguments": arguments})
    assert all(code for code, _ in watch(check_calls, [call], [tool, EXAMPLE_TOOL]))
    call = {"name": "x", "arguments": {"x": call.get("arguments") if isinstance(call, dict) else call}}
    schema = tool.get("arguments") if isinstance(tool, dict) else tool          # of one argument, judged in full
    tool = {"name": "x", "description": "d", "arguments": {"type": "dict", "properties": {"x": schema}}}
    assert all(code for code, _ in watch(check_calls, [call], [tool]))


def fuzz(count: int, seed: int) -> Watch:
    rng, watch = random.Random(seed), Watch()
    for _ in range(count // 4):
        fuzz_texts(rng, watch)
        fuzz_values(rng, watch)
    return watch


def test_a_thousand_mutants():
    assert fuzz(2_000, seed=0).calls >= 2_000


@pytest.mark.slow
def test_two_hundred_thousand_mutants():
    watch = fuzz(200_000, seed=int(os.environ.get("TOOLDEV_FUZZ_SEED", "1")))
    print(f"{watch.calls} calls, slowest {1000 * watch.slowest:.1f} ms: {watch.case}")
    assert watch.calls >= 200_000


@pytest.mark.slow
def test_real_tools_of_the_corpora_never_raise():
    if "TOOLDEV_DATA" not in os.environ:
        pytest.skip("TOOLDEV_DATA is not set: the folder with corpora/")
    watch, seen = Watch(), 0
    for path in sorted((Path(os.environ["TOOLDEV_DATA"]) / "corpora").rglob("*.json*")):
        if path.suffix not in (".json", ".jsonl"):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for line in (text.splitlines() if path.suffix == ".jsonl" else [text])[:3_000]:
            try:
                record = strict_json_loads(line)
            except JsonError:
                continue
            for item in record[:500] if isinstance(record, list) else [record]:
                for tool in (item, *(item.get("tools") or ())) if isinstance(item, dict) else ():
                    assert all(code for code, _ in watch(check_tool, tool))
                    seen += 1
    assert seen > 10_000
    print(f"{seen} real records, slowest {1000 * watch.slowest:.1f} ms")


@pytest.mark.parametrize("text", [
    "[" * 70_000, "<tool_call>" * 3_000, "<tool_call>" + "[" * 30_000, "<tools>" + "{\"a\":" * 5_000,
    "<tools>" + "1 " * 15_000, "<tools>" + "{}" * 16_000, "<tool_call>" + "[1," * 10_000,
    "<tool_call>\"" + "\\u00e9" * 5_000,
    "<tool_call>{\"name\": \"x\", \"arguments\": [" + "1," * 15_000 + "1]}</tool_call>"])
def test_long_answers_are_read_in_milliseconds(text):
    watch = Watch()
    watch(parse_calls, text)
    watch(parse_tools, text)


def test_parse_reverses_the_prompt_s_answers():
    rng = random.Random(3)
    for _ in range(200):
        chosen = rng.sample(SEEDS_CALLS, rng.randrange(4))
        calls = [ToolCall(name, mutated_json(rng, arguments)) for name, arguments in chosen]
        assert parse_calls(pieces_text(calls_answer(calls))) == calls
        tools = [Tool.from_dict(tool) for tool in rng.sample(SEEDS_TOOLS, 2)]
        assert parse_tools(pieces_text(tools_answer(tools))) == [tool.to_dict() for tool in tools]


def mutated_json(rng: random.Random, arguments: dict) -> dict:
    """Arguments with a value that is awkward to print."""
    awkward = ["</tool_call>", "<tools>", 'quote " and \\ back', "line\nbreak", "\u2028", "é\u0301", "😀", 1e-7, -0.0,
               10 ** 30, "", None]
    return {**arguments, "extra": rng.choice(awkward)}


def test_results_are_plain_json():
    assert json.dumps([check_tool({"name": "x"}), check_calls([("x",)], [])])
