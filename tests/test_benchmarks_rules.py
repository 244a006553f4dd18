"""The benchmarks that judge answers on development data: which rule accepts what, who stays silent, what is taught."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.answer_rules import RULES, Rule, own_tools, reach, rounds_of, row, thrown_out, votes
from benchmarks.round_choices import accepted, judged_right, margins
from benchmarks.round_choices import pairs_of as preferences_of
from benchmarks.silence import cells, pairs_of
from data.files import write_jsonl
from data.schema import Example, ToolCall
from model import load_model, load_tokenizer
from tests.evolve_run import calls, labelled, tool, tools

TINY = Path(__file__).resolve().parent.parent / "model" / "tiny"
ADD, LIST = tool("add"), tool("list_all")
RIGHT, WRONG = calls(("add", {"n": 5})), calls(("add", {"n": 7}))


def run_of(tmp_path, *answers):
    """A run of one round, a query for each list of five answers; all ask to add five."""
    names = [f"q{number}" for number in range(len(answers))]
    write_jsonl(tmp_path / "data" / "truth.jsonl",
                [{"id": name, "calls": [{"name": "add", "arguments": {"n": 5}, "argument_slots": {"n": 5}}]}
                 for name in names])
    write_jsonl(tmp_path / "round-1" / "tools.jsonl", [
        line for name in names for line in ({"id": name, "reason": "not_json", "text": ""},
                                            {"id": name, "reason": None, "text": tools(ADD)})])
    write_jsonl(tmp_path / "round-1" / "calls.jsonl", [
        {"id": name, "query": "Please add 5.", "candidates": [ADD.to_dict(), LIST.to_dict()], "decided_early": False,
         "samples": [{"text": text, "logprob": -1.0, "finish_reason": "stop"} for text in texts]}
        for name, texts in zip(names, answers, strict=True)])
    return tmp_path


def test_each_rule_settles_the_kept_answers_anew(tmp_path):
    run = run_of(tmp_path, [RIGHT] * 5, [WRONG] * 5, [RIGHT] * 2 + [WRONG, "hm", "hm"])
    assert own_tools(run / "round-1" / "tools.jsonl") == {f"q{n}": {"add"} for n in range(3)}
    voted = list(rounds_of(run))
    assert [one.distractors for one in voted] == [("list_all",)] * 3
    accepted = {rule.name: row(rule, voted)[1] for rule in RULES}
    assert (accepted["most votes (the paper's)"], accepted["3 votes"], accepted["5 votes"]) == ("3", "2", "2")
    assert (accepted["most votes, values of the query"], accepted["3 votes, values of the query"]) == ("2", "1")
    assert accepted["3 votes, 3 more than the next answer"] == "2"
    none = Rule("none", votes(1), lambda example: False)
    assert row(none, voted)[1:4] == ["0", "-", "-"]


def test_a_right_answer_that_lost_the_vote_was_drawn_all_the_same(tmp_path):
    run = run_of(tmp_path, [RIGHT] * 5, [WRONG] * 4 + [RIGHT], [WRONG] * 5)
    assert reach(list(rounds_of(run)))[2:] == ["| 1 | 3 | 2 (66.7%) | 1 | 1 |"]


def test_right_labels_that_the_check_of_values_would_throw_out_are_counted_by_reason():
    examples = [*labelled(2), Example("x", "Please add five to the list.", (ADD,), (ToolCall("add", {"n": 8}),)),
                Example("y", "Thanks!", (ADD,), ())]
    told = thrown_out(examples)
    assert told.startswith("Of 3 labelled answers that call, 2 (66.7%) pass") and "value_not_in_query 1" in told


def test_every_example_that_calls_is_asked_without_its_tools_and_as_it_is():
    examples = [*labelled(3), Example("quiet", "Thanks!", (LIST,), ())]
    idle, useful = pairs_of(examples)
    assert useful == examples[:3] and all(not one.calls for one in idle)
    assert all(one.tools and one.tools[0].name not in {c.name for c in whole.calls}
               for one, whole in zip(idle, useful, strict=True))
    assert (idle, useful) == pairs_of(examples)
    assert cells("a", Counter(right=2, called=1, undecodable=1), Counter(right=3, called=1)) == [
        "a", "2 of 4 [15%, 85%]", "1", "1", "3 of 4"]


# ------------------------------------------------------------------------------------------- choices of what is taught

def test_the_winner_is_preferred_to_each_other_answer_that_ended(tmp_path):
    run = run_of(tmp_path, [RIGHT] * 5, [RIGHT] * 3 + [WRONG, "hm"], [WRONG] * 3 + [RIGHT] * 2)
    voted, told = list(rounds_of(run)), SimpleNamespace(tokenizer=load_tokenizer(TINY),
                                                        settings=SimpleNamespace(prompt="paper"))
    pairs = preferences_of(voted, told)
    answers = [[told.tokenizer.decode([token for token in one.labels if token >= 0]) for one in pair] for pair in pairs]
    assert answers == [[RIGHT, WRONG], [RIGHT, "hm"]]       # the third query's winner has a value that it does not say
    assert [judged_right(one, voted[1].truth, told) for one in pairs[0]] == [True, False]
    assert [example.id for example in accepted(voted)] == ["q0", "q1"]
    assert [example.id for example in accepted(voted, 2, 3)] == ["q1"]


def test_a_margin_is_the_difference_of_the_two_answers_log_probabilities(tmp_path):
    run = run_of(tmp_path, [RIGHT] * 3 + [WRONG, "hm"])
    told = SimpleNamespace(tokenizer=load_tokenizer(TINY), settings=SimpleNamespace(prompt="paper"))
    pairs, model = preferences_of(list(rounds_of(run)), told), load_model(TINY, dtype=torch.float32)
    for pair, found in zip(pairs, margins(model, pairs).tolist(), strict=True):
        alone = []
        for one in pair:
            logits = model(torch.tensor([one.ids]))[0].log_softmax(-1)
            alone.append(sum(logits[i - 1, label].item() for i, label in enumerate(one.labels) if label >= 0))
        assert found == pytest.approx(alone[0] - alone[1], abs=1e-3)
