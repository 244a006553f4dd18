"""The vote: cases worked out by hand, and its properties under hypothesis."""

import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data.schema import Tool, ToolCall
from sampler.consistency import canonical_answer, early_decision, majority_vote

TOOL = Tool.from_dict({"name": "t", "description": "d", "arguments": {"type": "dict", "properties": {
    "n": {"type": "number"}, "i": {"type": "integer"}, "s": {"type": "string"}, "x": {"type": "any"},
    "list": {"type": "array", "items": {"type": "number"}}, "u": {"anyOf": [{"type": "number"}, {"type": "string"}]},
    "d": {"type": "dict", "properties": {"n": {"type": "float"}}},
    "map": {"type": "dict", "additionalProperties": {"type": "number"}},
    "maybe": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}]},
    "one": {"oneOf": [{"type": "dict", "properties": {"n": {"type": "number"}}}, {"type": "string"}]}},
    "required": []}})
OTHER = Tool.from_dict({"name": "other", "description": "d", "arguments": {"type": "dict", "properties": {}}})
TOOLS = [TOOL, OTHER]


def answer(**arguments):
    return [ToolCall("t", arguments)]


def same(a, b):
    return canonical_answer(a, TOOLS) == canonical_answer(b, TOOLS)


# ----------------------------------------------------------------------------------------------------- canonical answer

@pytest.mark.parametrize(("a", "b", "equal"), [
    (answer(n=1), answer(n=1.0), True), (answer(i=1), answer(i=1.0), False), (answer(x=1), answer(x=1.0), False),
    (answer(zzz=1), answer(zzz=1.0), False), (answer(n=1), answer(n=True), False), (answer(n=1), answer(n="1"), False),
    (answer(x=0), answer(x=False), False), (answer(x=None), answer(x=False), False), (answer(x=None), answer(), False),
    (answer(list=[1, 2.0]), answer(list=[1.0, 2]), True), (answer(list=[1, 2]), answer(list=[2, 1]), False),
    (answer(d={"n": 3}), answer(d={"n": 3.0}), True), (answer(u=3), answer(u=3.0), True),
    (answer(map={"k": 1}), answer(map={"k": 1.0}), True), (answer(maybe=[1]), answer(maybe=[1.0]), True),
    (answer(one={"n": 1}), answer(one={"n": 1.0}), True), (answer(one={"z": 1}), answer(one={"z": 1.0}), False),
    (answer(n=-0.0), answer(n=0), True), (answer(n=1e20), answer(n=10 ** 20), True),
    (answer(n=2 ** 53), answer(n=2 ** 53 + 1), False),
    (answer(s="cafe\u0301"), answer(s="caf\u00e9"), True), (answer(s="a"), answer(s="A"), False),
    (answer(s="a b"), answer(s="a  b"), False), (answer(s="ﬁ"), answer(s="fi"), False),
    (answer(s="x") + answer(i=1), answer(i=1) + answer(s="x"), True), (answer(i=1) * 2, answer(i=1), False),
    (answer(s="1"), [ToolCall("other", {"s": "1"})], False), ([], answer(), False),
])
def test_which_answers_are_the_same(a, b, equal):
    assert same(a, b) is equal


def test_key_order_is_folded_and_nesting_is_not():
    assert same([ToolCall("t", {"s": "a", "i": 1})], [ToolCall("t", {"i": 1, "s": "a"})])
    assert same(answer(x={"a": 1, "b": [{"c": 1, "d": 2}]}), answer(x={"b": [{"d": 2, "c": 1}], "a": 1}))
    assert not same(answer(x={"a": {"b": 1}}), answer(x={"a.b": 1}))


# ----------------------------------------------------------------------------------------------------------------- vote

A, B, C = answer(i=1), answer(i=2), answer(i=3)


def vote(answers, logprobs=None, **options):
    return majority_vote(answers, TOOLS, logprobs or [-1.0] * len(answers), **options)


def test_most_votes_win_and_the_margin_is_stored():
    result = vote([A, B, A, None, A])
    assert (result.index, result.answer, result.votes, result.num_samples) == (0, A, 3, 5)
    assert (result.agreement, result.margin, result.distinct, result.unparsed, result.tie) == (0.6, 2, 2, 1, "none")


def test_no_call_may_win():
    assert vote([A, [], [], None, []]).answer == []


def test_unparsable_samples_never_win_and_none_parsed_is_no_answer():
    assert vote([None, None, None, None, B]).answer == B
    result = vote([None] * 5)
    assert (result.index, result.answer, result.votes, result.decided) == (None, None, 0, False)


def test_tie_goes_to_the_higher_mean_logprob_then_to_the_first():
    result = vote([A, A, B, B, C], [-1.0, -3.0, -1.5, -1.5, 0.0])
    assert (result.answer, result.tie, result.margin) == (B, "logprob", 0)
    result = vote([C, A, A, B, B])
    assert (result.answer, result.tie) == (A, "index")
    assert vote([A, B], [float("nan"), -9.0]).answer == B


def test_the_first_sample_of_the_winner_tells_it():
    two = [ToolCall("t", {"i": 1}), ToolCall("t", {"i": 2})]
    result = vote([B, two, two[::-1], two[::-1], A])
    assert (result.index, result.answer, result.votes) == (1, two, 3)


def test_minimum_votes():
    assert not vote([A, A, B, C, None], min_votes=3).decided
    assert vote([A, A, A, C, None], min_votes=3).decided


def test_bad_input_is_refused():
    for answers, logprobs, minimum in (([], [], 1), ([A], [], 1), ([A], [0.0], 0)):
        with pytest.raises(ValueError, match="min_votes"):
            majority_vote(answers, TOOLS, logprobs, minimum)


def test_early_decision_is_the_shortest_prefix_with_a_strict_majority():
    assert early_decision([A, A, A], TOOLS, 5) == 3
    assert early_decision([A, B, A, A, C], TOOLS, 5) == 4
    assert early_decision([A, None, A], TOOLS, 5) is None
    assert early_decision([A, A, B, B, C], TOOLS, 5) is None
    assert early_decision([A] * 5, TOOLS, 5, min_votes=4) == 4
    assert early_decision([A, A], TOOLS, 4) is None
    assert early_decision([A], TOOLS, 1) == 1


# ----------------------------------------------------------------------------------------------------------- properties

VALUES = st.recursive(
    st.one_of(st.booleans(), st.none(), st.integers(-2, 2), st.sampled_from([1.0, 2.0, 0.5, -0.0]),
              st.sampled_from(["1", "true", "a", "e\u0301", "\u00e9"])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abn"), inner, max_size=2)),
    max_leaves=3)
CALLS = st.builds(ToolCall, st.sampled_from(["t", "other"]),
                  st.dictionaries(st.sampled_from(["n", "i", "s", "x", "d"]), VALUES, max_size=2))
FEW = st.one_of(st.none(), st.sampled_from([[], A, B, A + B, B + A]), st.lists(CALLS, max_size=2))
BALLOTS = st.lists(FEW, min_size=1, max_size=7)


def reordered(value, rng):
    """The same JSON value with the keys of every object in another order."""
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: reordered(value[key], rng) for key in keys}
    return [reordered(item, rng) for item in value] if isinstance(value, list) else value


@settings(max_examples=300, deadline=None)
@given(BALLOTS, st.randoms(use_true_random=False))
def test_neither_the_order_of_calls_nor_that_of_keys_matters(answers, rng):
    def shuffled(calls):
        calls = [ToolCall(call.name, reordered(call.arguments, rng)) for call in calls]
        rng.shuffle(calls)
        return calls

    logprobs = [-rng.random() for _ in answers]
    before = majority_vote(answers, TOOLS, logprobs)
    after = majority_vote([None if calls is None else shuffled(calls) for calls in answers], TOOLS, logprobs)
    assert (after.index, after.votes, after.margin, after.tie) == (before.index, before.votes, before.margin,
                                                                   before.tie)


@settings(max_examples=300, deadline=None)
@given(BALLOTS, st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(answers, rng):
    logprobs = [-rng.random() for _ in answers]
    order = list(range(len(answers)))
    rng.shuffle(order)
    before = majority_vote(answers, TOOLS, logprobs)
    after = majority_vote([answers[i] for i in order], TOOLS, [logprobs[i] for i in order])
    assume(before.tie != "index")                           # exactly equal in votes and log-probability
    assert (after.votes, after.margin, after.distinct, after.agreement) == (
        before.votes, before.margin, before.distinct, before.agreement)
    if before.answer is not None:
        assert same(after.answer, before.answer)


@settings(max_examples=400, deadline=None)
@given(BALLOTS, st.integers(1, 4), st.randoms(use_true_random=False))
def test_deciding_early_never_changes_the_winner(answers, min_votes, rng):
    logprobs = [-rng.random() for _ in answers]
    length = early_decision(answers, TOOLS, len(answers), min_votes)
    full = majority_vote(answers, TOOLS, logprobs, min_votes)
    if length is None:
        assert full.votes < max(len(answers) // 2 + 1, min_votes)
    else:
        early = majority_vote(answers[:length], TOOLS, logprobs[:length], min_votes, decided_early=True)
        assert (early.index, early.answer, early.decided) == (full.index, full.answer, True)


@settings(max_examples=300, deadline=None)
@given(BALLOTS)
def test_the_winner_parsed_and_the_counts_add_up(answers):
    result = majority_vote(answers, TOOLS, [-1.0] * len(answers))
    parsed = [calls for calls in answers if calls is not None]
    assert result.num_samples == len(answers) == len(parsed) + result.unparsed
    assert (result.index is None) == (not parsed)
    if parsed:
        assert answers[result.index] is not None
        assert result.votes == sum(same(calls, result.answer) for calls in parsed)
        assert result.votes >= max(sum(same(a, b) for b in parsed) for a in parsed)


def plain(value):
    """The value with its strings in NFC."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {plain(key): plain(item) for key, item in value.items()} if isinstance(value, dict) else value


@settings(max_examples=300, deadline=None)
@given(VALUES, VALUES)
def test_canonically_equal_values_are_equal_in_python_and_of_one_type(a, b):
    if same(answer(x=a), answer(x=b)):
        assert plain(a) == plain(b)
        assert type(a) is type(b)
