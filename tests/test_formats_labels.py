"""A label that is right under its source's schema is right after conversion.

The source's schema is judged by the `jsonschema` library (schema_oracle.py), the converted one by the rule checker.
Over the real corpora: their own labels, and calls made to fit their tools. Over generated schemas: calls made to fit.
"""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from schema_oracle import calls_for, is_right, mapped, source_schema

from data.formats.convert import _files
from data.formats.items import RowError, read_call
from data.formats.job import FileJob, Options
from data.formats.lines import Lines
from data.formats.nulls import without_nulls
from data.formats.output import Outputs, Seen
from data.formats.tooldocs import read_tool
from data.rules import check_calls

CAPS = {"unusable_tool", "too_large", "too_deep"}      # the rule checker refuses to look: no verdict on the label


class Collector(Lines):
    """Keeps the samples and tool documents of a file as their reader gave them, and writes none."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.samples, self.documents = [], []

    def _sample(self, item):
        self.samples.append(item)

    def _document(self, item):
        self.documents.append(item.tool)

    def _ask(self, item):
        self.documents += item.tools


def collect(path, folder):
    with Outputs(folder) as outputs:
        job = FileJob(path, path.name, Options(), outputs, Seen(), explicit=False)
        job.lines = found = Collector(job.name, path.name, outputs, Seen())
        job.run()
    return found


def verdict(call, record):
    """The rule checker's reasons for one call of one tool."""
    return {code for code, _ in check_calls([call], [record])}


def judge_labels(samples, counts, wrong):
    for sample in samples:
        try:
            docs = [read_tool(tool) for tool in sample.tools]
            labels = [read_call(call) for call in sample.calls]
        except RowError:
            counts["row rejected with a reason"] += 1
            continue
        by_name = {doc.record["name"]: (raw, doc) for raw, doc in reversed(list(zip(sample.tools, docs, strict=True)))}
        calls = without_nulls(labels, [(doc.record, doc.changes.get("nulls", ())) for doc in docs])
        for label, call in zip(labels, calls, strict=True):
            if label["name"] not in by_name:
                counts["unknown tool"] += 1
                continue
            raw, doc = by_name[label["name"]]
            schema = source_schema(raw)
            right = is_right(schema, label["arguments"]) if schema is not None else None
            if not right:
                counts["not judged" if right is None else "wrong in the source"] += 1
                continue
            reasons = verdict(call, doc.record)
            counts["over a cap" if reasons & CAPS else "right"] += 1
            if reasons - CAPS:
                wrong.append((sorted(reasons), raw, label, doc.record["arguments"]))


def judge_made(documents, counts, wrong, count):
    for number, raw in enumerate(documents):
        try:
            record = read_tool(raw).record
        except RowError:
            counts["tool rejected with a reason"] += 1
            continue
        schema = source_schema(raw)
        if schema is None:
            counts["tool whose document is malformed"] += 1
            continue
        made = calls_for(schema, number, count)
        counts["tool" if made else "tool without a made call"] += 1
        for arguments in made:
            reasons = verdict({"name": record["name"], "arguments": arguments}, record)
            counts["over a cap" if reasons & CAPS else "made"] += 1
            if reasons - CAPS:
                wrong.append((sorted(reasons), raw, arguments, record["arguments"]))


def corpora():
    data = os.environ.get("TOOLDEV_DATA")
    if not data:
        pytest.skip("set TOOLDEV_DATA to a folder with corpora/")
    return Path(data) / "corpora"


def judge_corpora(files, tmp_path, step, count):
    """(counts, wrong) over every `step`-th sample and tool of the files."""
    counts, wrong = Counter(), []
    for number, path in enumerate(files):
        job = collect(path, tmp_path / str(number))
        judge_labels(job.samples[::step], counts, wrong)
        tools = job.documents[::step * 4] + [tool for sample in job.samples[::step] for tool in sample.tools]
        judge_made(tools, counts, wrong, count)
    return counts, wrong


def test_labels_of_a_sample_of_the_corpora_stay_right(tmp_path):
    small = [path for path in _files([corpora()], tmp_path) if path.stat().st_size < 300_000]
    skipped = ("snips", "solvable", "metatool", "user_requests", "FunctionChat")        # lists of queries, few tools
    files = [path for path in small if not any(word in str(path) for word in skipped)]
    counts, wrong = judge_corpora(files, tmp_path, step=15, count=1)
    assert not wrong, wrong[0]
    assert counts["right"] > 40 and counts["made"] > 200, counts
    assert counts["tool without a made call"] < 0.02 * counts["tool"], counts
    assert counts["wrong in the source"] < 0.2 * counts["right"], counts


@pytest.mark.slow
def test_labels_of_all_corpora_stay_right(tmp_path):
    counts, wrong = judge_corpora(_files([corpora()], tmp_path), tmp_path, step=1, count=2)
    print(dict(counts))
    assert not wrong, wrong[0]
    assert counts["tool without a made call"] < 0.02 * counts["tool"], counts
    assert counts["over a cap"] < 0.01 * counts["made"], counts


# ------------------------------------------------------------------------------------------------------ made-up schemas

NAMES = ("a", "b", "type", "required", "items", "properties", "not", "enum", "name")
SCALARS = st.sampled_from([
    {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}, {},
    {"const": "x"}, {"const": None}, {"const": 4}, {"enum": ["x", "y", None]}, {"enum": [1, "x"]},
    {"type": ["string", "null"]},
    {"type": ["integer", "string"]}, {"type": ["null", "number", "string"]}, {"type": "string", "nullable": True},
    {"type": "string", "enum": ["x", "y"], "nullable": True}, {"type": ["string", "null"], "enum": ["x", "y"]},
    {"type": "integer", "minimum": 2, "maximum": 9}, {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5},
    {"type": "string", "minLength": 2, "maxLength": 4}, {"type": "string", "default": "x"}, {"default": "x"},
    {"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "array", "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, {"type": "object"},
    {"type": "array", "prefixItems": [{"type": "string"}, {}], "items": False},
    {"type": "array", "items": [{"type": "string"}], "additionalItems": {"type": ["integer", "null"]}},
    {"type": "object", "additionalProperties": {"type": "integer"}}, {"type": "object", "additionalProperties": True},
    {"type": "object", "patternProperties": {"^x": {"type": "string"}}, "additionalProperties": False},
    {"type": "object", "patternProperties": {"^x": {"type": "string"}}}, {"$ref": "#/$defs/D"}])


def objects(parts):
    listed = st.dictionaries(st.sampled_from(NAMES), parts, min_size=1, max_size=3)

    def whole(properties):
        return st.fixed_dictionaries({
            "type": st.sampled_from(["object", ["object", "null"]]), "properties": st.just(properties)}, optional={
            "required": st.lists(st.sampled_from(sorted(properties)), unique=True), "minProperties": st.just(1),
            "additionalProperties": st.sampled_from([True, False, {"type": "string"}]),
            "anyOf": st.just([{"required": [name]} for name in properties]),
            "allOf": st.lists(st.builds(lambda part: {"properties": {"c": part}}, parts), min_size=1, max_size=2),
            "if": st.just({"properties": {"a": {"const": "x"}}}),
            "then": st.builds(lambda part: {"properties": {"d": part}}, parts),
            "oneOf": st.just([{"properties": {"e": {"type": "string"}}, "required": ["e"]},
                              {"properties": {"e": {"type": "integer"}}}])})
    return listed.flatmap(whole)


def composed(parts):
    unions = st.builds(lambda word, members: {word: members}, st.sampled_from(["anyOf", "oneOf", "allOf"]),
                       st.lists(parts, min_size=1, max_size=3))
    arrays = st.builds(lambda part: {"type": "array", "items": part}, parts)
    records = st.builds(lambda part: {"type": "object", "additionalProperties": part}, parts)
    return unions | arrays | records | objects(parts)


SCHEMAS = objects(st.recursive(SCALARS, composed, max_leaves=6))
DEFINITIONS = {"D": {"type": ["object", "null"],
                     "properties": {"x": {"type": "string"}, "next": {"$ref": "#/$defs/D"}}}}


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(schema=SCHEMAS, seed=st.integers(0, 1000))
def test_calls_that_fit_a_made_up_schema_fit_the_converted_one(schema, seed):
    schema = {**schema, "$defs": DEFINITIONS}
    record = read_tool({"name": "t", "description": "T.", "inputSchema": schema}).record
    made = calls_for(mapped(schema, schema), seed, 4)
    assume(made)                            # two schemas of three
    for arguments in made:
        assert not verdict({"name": "t", "arguments": arguments}, record) - CAPS, (arguments, record["arguments"])
