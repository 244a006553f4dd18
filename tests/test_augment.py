"""Recipes beside the paper: what they change in the candidates, and that labels stay right and off means off."""

import dataclasses
import random

import pytest

from data.augment import Recipe, fillers, invocation_examples, mask_names, tool_pool, without_called
from data.rules import check_calls
from data.schema import Example, Tool, ToolCall
from data.tasks import rows_for_stage
from training.config import TrainConfig


def tool(name, *arguments):
    return Tool(name, f"Does {name}.", {"type": "dict", "required": list(arguments[:1]), "properties": {
        a: {"type": "string", "description": f"The {a}."} for a in arguments}})


WEATHER, TRAIN, PIZZA = tool("get_weather", "city", "unit"), tool("book_train", "to"), tool("order_pizza", "size")
EXAMPLES = [
    Example("a", "Weather in Rome?", (WEATHER, TRAIN), (ToolCall("get_weather", {"city": "Rome"}),)),
    Example("b", "A pizza.", (PIZZA,), (ToolCall("order_pizza", {"size": "big"}),)),
    Example("c", "Hello.", (TRAIN,), ()),
]


def encode(messages, tokenizer):
    text = str(messages)
    return [*text.encode()], [*text.encode()]


def test_the_defaults_change_nothing():
    assert invocation_examples(EXAMPLES, Recipe(seed=5)) == [[e] for e in EXAMPLES]
    plain, changed = (rows_for_stage("joint", EXAMPLES, None, encode, 10**6, recipe=r)[0] for r in (
        Recipe(), Recipe(seed=3)))
    assert plain == changed
    assert not TrainConfig().recipe.active


def test_irrelevance_takes_the_called_tool_away():
    found = invocation_examples(EXAMPLES, Recipe(irrelevance=1.0))
    assert [len(versions) for versions in found] == [2, 2, 1]           # an example without calls gets no second row
    kept, added = found[0]
    assert kept == EXAMPLES[0]
    assert added.calls == ()
    assert added.tools == (TRAIN,)
    assert added.query == EXAMPLES[0].query
    assert added.id != kept.id
    alone = found[1][1]
    assert alone.calls == ()
    assert len(alone.tools) == 1
    assert alone.tools[0].name != "order_pizza"


def test_nothing_near_the_called_tool_stands_in_for_it():
    near = tool("OrderPizzaNow", "size")
    pool = tool_pool([*EXAMPLES, dataclasses.replace(EXAMPLES[1], tools=(near,))])
    for seed in range(20):
        [stand_in] = without_called(EXAMPLES[1], pool, random.Random(seed)).tools
        assert stand_in.name not in ("OrderPizzaNow", "order_pizza")
    assert fillers(EXAMPLES[1], [near, PIZZA], 2, random.Random(0)) == ()


def test_candidates_are_filled_up_and_shuffled():
    recipe = Recipe(candidates=3, shuffle_tools=True, seed=1)
    [found] = invocation_examples(EXAMPLES, recipe)[0]
    assert {t.name for t in found.tools} == {"get_weather", "book_train", "order_pizza"}
    assert found.calls == EXAMPLES[0].calls
    orders = {tuple(t.name for t in invocation_examples(EXAMPLES, dataclasses.replace(recipe, seed=s))[0][0].tools)
              for s in range(20)}
    assert len(orders) > 2


def test_masked_names_are_the_same_in_documents_and_calls():
    masked = mask_names(EXAMPLES[0], random.Random(0))
    weather, train = masked.tools
    assert {weather.name, train.name}.isdisjoint({"get_weather", "book_train"})
    assert weather.name != train.name
    assert masked.calls[0].name == weather.name
    [(argument, value)] = masked.calls[0].arguments.items()
    assert value == "Rome"
    assert weather.parameters["required"] == [argument]
    assert weather.parameters["properties"][argument] == WEATHER.parameters["properties"]["city"]
    assert weather.description == WEATHER.description
    assert check_calls(masked.calls, masked.tools) == []


def test_an_example_is_the_same_wherever_it_stands():
    recipe = Recipe(irrelevance=0.5, mask_names=0.5, shuffle_tools=True, candidates=3)
    many = [dataclasses.replace(EXAMPLES[i % 3], id=f"{i}") for i in range(60)]
    there = {versions[0].id: versions for versions in invocation_examples(many, recipe)}
    back = {versions[0].id: versions for versions in invocation_examples(many[::-1], recipe)}
    assert there == back
    assert 0 < sum(len(versions) - 1 for versions in there.values()) < 40
    assert there != {v[0].id: v for v in invocation_examples(many, dataclasses.replace(recipe, seed=1))}


def test_generation_rows_know_no_recipe():
    recipe = Recipe(irrelevance=1.0, mask_names=1.0, shuffle_tools=True, candidates=3)
    made = [[row for row in rows_for_stage("joint", EXAMPLES, None, encode, 10**6, recipe=r)[0]
             if row.objective == "generation"] for r in (Recipe(), recipe)]
    assert made[0] == made[1]


@pytest.mark.parametrize("given", [{"irrelevance": 1.5}, {"mask_names": 2.0}])
def test_a_share_above_one_is_refused(given):
    with pytest.raises(ValueError, match="share of 0 to 1"):
        TrainConfig(**given)


def test_a_recipe_does_nothing_in_adaption_and_says_so():
    config = TrainConfig(stage="adaption", irrelevance=0.1, candidates=4)
    assert any("irrelevance" in line and "candidates" in line for line in config.without_effect())
