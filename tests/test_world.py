"""The generated tool world: frozen, right by construction, and its test part kept out of every training text."""

import json
import re
from itertools import chain

import pytest

from data import prompts, world, world_lexicon, world_text
from data.rules import check_calls, check_tools

FROZEN = "66467da85ebd3ab47bdfde964683aad6274831088030db033ad9908e5caf40f6"


@pytest.fixture(scope="module", params=[5, pytest.param(1, marks=pytest.mark.slow)])
def training_text(request) -> str:
    """All kinds of text that training ever sees, as one string; every day a fifth of it."""
    part = request.param
    # nothing made up; mostly made up
    texts = [world_text.curriculum(0, list(range(4000 // part)), plain_rows) for plain_rows in (4000 // part, 0)]
    parts = [prompts.pieces_text(m["content"]) for messages in chain(*texts) for m in messages]
    parts += [json.dumps(tool.to_dict()) for tool in world.tool_documents(10_000 // part, seed=0)]
    examples = world.examples(3000 // part, group="labelled", split="train", seed=0)
    parts += [json.dumps(example.to_dict()) for example in examples]
    parts += [query.query for query in world.queries(2000 // part, seed=0)[0]]
    return "\n".join(parts)


def test_the_world_is_frozen():
    assert world.fingerprint() == FROZEN


def test_it_is_as_large_as_promised():
    assert len(world_lexicon.DOMAINS) >= 20
    assert len(world.JSON_TYPES) >= 12
    assert set(world.JSON_TYPES.values()) >= {"string", "integer", "number", "boolean", "array", "dict"}
    assert {e.source.rsplit("/", 1)[1] for e in world.test_items(100, 100, 40, seed=0)} == set(world.CATEGORIES)


def test_test_tools_never_occur_in_training_text(training_text):
    for group in world.GROUPS:
        for text in {text for tool in world.world_tools(group, "test")
                     for text in (tool.tool.name, tool.tool.description)}:
            assert text not in training_text or not re.search(rf"(?<!\w){re.escape(text)}(?!\w)", training_text), text


def test_heldout_domains_never_occur_in_training_text(training_text):
    objects = [o[0] for d in world.domains("heldout") for o in world.domain_objects(d)]
    assert not [name for name in objects if name in training_text and re.search(rf"\b{name}\b", training_text)]


def test_test_values_never_occur_in_training_text(training_text):
    found, runs = set(), set(re.findall(r"[\w-]+", training_text))
    for item in world.test_items(400, 400, 150, seed=0):
        choices = {value for tool in item.tools for p in tool.parameters["properties"].values()
                   for value in p.get("enum", ())}
        for call in item.calls:
            for leaf in world.typed_leaves(call.arguments):
                value = json.loads(leaf)
                if (
                    isinstance(value, str)
                    and value not in choices
                    and runs.issuperset(re.findall(r"[\w-]+", value))       # else it cannot stand there
                    and value in training_text
                    and re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", training_text)
                ):
                    found.add(value)
    assert not found


def test_numbers_of_tests_and_training_are_disjoint():
    def numbers(items):
        return {json.loads(leaf) for e in items for c in e.calls
                for leaf in world.typed_leaves(c.arguments) if isinstance(json.loads(leaf), float)}

    tests, training = numbers(world.test_items(300, 300, 100, seed=1)), numbers(world.examples(2000, group="labelled",
                                                                                               split="train", seed=1))
    assert tests and training and not tests & training


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    draw = lambda seed: [e.to_dict() for e in world.examples(50, group="labelled", split="train", seed=seed)]
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_every_tool_and_call_passes_the_rule_checker():
    for e in [*world.test_items(150, 150, 60, seed=2), *world.examples(300, group="labelled", split="train", seed=2)]:
        assert check_tools([t.to_dict() for t in e.tools]) == []
        assert check_calls(list(e.calls), list(e.tools)) == []


def test_no_offered_tool_serves_an_irrelevant_request():
    for e in world.test_items(300, 0, 0, seed=5):
        if e.source.endswith("irrelevance"):
            assert e.calls == () and e.tools


def test_value_match_counts_values_as_multisets():
    from data.schema import ToolCall

    truth = [{"name": "a", "arguments": {"x": "Ann", "n": 4}}, {"name": "a", "arguments": {"x": "Bob"}}]
    made = [ToolCall("other", {"who": "Ann", "how_many": 4.0, "extra": True})]
    assert world.value_match(made, truth) == (2, 3, 3)
