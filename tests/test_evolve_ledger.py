"""Instruments and the stop rule: worked out by hand on records."""

import math

import pytest

from data.schema import Example, ToolCall
from evolution.ledger import diversity, entropy, funnel, judged_by_votes, similarity, stop_reason, vote_table
from tests.evolve_run import tool


def example(name, query, *tools, calls=1, **provenance):
    return Example(name, query, tools, tuple(ToolCall(tools[0].name, {"n": i}) for i in range(calls)),
                   provenance=provenance or None)


EXAMPLES = [example("a", "One", tool("t1"), tool("t2"), calls=2),
            example("b", "Two", tool("t1", "Other words entirely here.")),
            example("c", "Three", tool("t3"), calls=0),
            example("d", "Four", tool("t1"), tool("t9"), distractors=["t9"])]


def test_funnel_adds_up():
    rejected = [{"stage": stage, "reason": reason} for stage, reason in
                [("query", "x"), ("tools", "y"), ("tools", "y"), ("tools", "z"), ("calls", "w")]]
    stages = funnel(10, rejected)
    assert [cell["in"] for cell in stages.values()] == [10, 9, 6, 6]
    assert [cell["passed"] for cell in stages.values()] == [9, 6, 6, 5]
    assert stages["tools"]["rejected"] == {"y": 2, "z": 1}


def test_diversity_counts_made_tools_only():
    found = diversity(EXAMPLES)
    assert found["tools"] == 5
    assert found["distinct_tool_names"] == 3
    assert found["distinct_tool_name_share"] == 0.6
    assert found["distinct_argument_names"] == 1
    assert found["arguments_per_tool"] == 1.0
    assert found["distinct_descriptions"] == 2
    assert found["tool_name_entropy"] == round(-(0.6 * math.log2(0.6) + 2 * 0.2 * math.log2(0.2)), 4)
    assert found["argument_name_entropy"] == 0.0
    assert found["calls_per_answer"] == 1.0
    assert found["calls_per_answer_counts"] == {"0": 1, "1": 2, "2": 1}
    assert found["no_call_share"] == 0.25
    assert diversity([])["tools"] == 0


def test_similarity_between_rounds():
    assert similarity(EXAMPLES, []) == {"tool_names_seen": None, "tool_signatures_seen": None, "queries_seen": None}
    earlier = [example("z", "ONE!", tool("t1"))]
    assert similarity(EXAMPLES, earlier) == {"tool_names_seen": 0.6, "tool_signatures_seen": 0.6, "queries_seen": 0.25}


def test_entropy_of_known_distributions():
    assert entropy([1, 1, 1, 1]) == 2.0
    assert entropy([5]) == 0.0
    assert entropy([]) == 0.0


def test_votes_and_margins():
    records = [{"id": name, "votes": votes, "margin": margin, "decided_early": early}
               for name, votes, margin, early in [("a", 5, 5, False), ("b", 3, 1, False), ("c", 3, 3, True)]]
    assert vote_table(records, {"a", "c"}, "votes") == {"3": {"voted": 2, "accepted": 1},
                                                        "5": {"voted": 1, "accepted": 1}}
    assert set(vote_table(records, {"a"}, "margin")) == {"1", "5", "early"}


def test_precision_and_recall_by_votes():
    table = judged_by_votes([(5, {"made": 4, "said": 5, "right": 4}), (5, {"made": 1, "said": 1, "right": 0}),
                             (2, {"made": 0, "said": 2, "right": 0})])
    assert table["5"] == {"examples": 2, "made": 5, "said": 6, "right": 4, "precision": 0.8, "recall": 0.6667}
    assert table["2"]["precision"] == 0.0


def ledger(number, validation=None, share=0.5, accepted=10, no_call=0.0, before=None):
    return {"round": number, "queries": {"accepted": accepted}, "validation": validation, "validation_before": before,
            "diversity": {"distinct_tool_name_share": share, "no_call_share": no_call}}


@pytest.mark.parametrize(("ledgers", "reason"), [
    ([], None), ([ledger(1, 0.5)], None), ([ledger(1, 0.5), ledger(2, 0.4)], None),
    ([ledger(1, 0.5, before=0.6), ledger(2, 0.4)], "validation fell twice: 0.6000 -> 0.5000 -> 0.4000"),
    ([ledger(1, 0.5), ledger(2, 0.4), ledger(3, 0.3)], "validation fell twice"),
    ([ledger(1, 0.5), ledger(2, 0.4), ledger(3, 0.4)], None), ([ledger(1, 0.5), ledger(2, 0.6), ledger(3, 0.5)], None),
    ([ledger(1, 0.5), ledger(2, None), ledger(3, 0.3)], None),
    ([ledger(1, share=0.8), ledger(2, share=0.39)], "under 50% of round 1"),
    ([ledger(1, share=0.8), ledger(2, share=0.41)], None),
    ([ledger(1, no_call=0.6)], "call nothing"), ([ledger(1, accepted=0)], "round 1 accepted nothing"),
])
def test_stop_rule(ledgers, reason):
    found = stop_reason(ledgers)
    assert found == reason if reason is None else reason in found
