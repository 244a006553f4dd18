"""T-Eval: cleaning, the loader, every task's score, the plan matching."""

import itertools
import json
import random

import pytest
from eval_fixtures import PLAN, real, teval_folder

from eval.answers import Answer, read_answers
from eval.score import main_score, score_answers
from eval.teval.benchmark import Benchmark, Settings, load
from eval.teval.items import Item
from eval.teval.plan import _longest_increasing, _match, plan_score, read_lines, read_steps
from eval.teval.scoring import clean_reply, load_structure, score_reply

CALL = {"name": "Map.find", "args": {"place": "Ulm", "size": 3}}


def score(task, reply, truth, **options):
    return score_reply(Item("x", task, truth, functions=("Map.find", "Map.route", "Mail.send")), reply, **options)


def test_cleaning_cuts_and_strips():
    assert clean_reply("```json\n{}\n```<eoa>rest") == "{}"
    assert clean_reply("a\nuser b") == "a" and clean_reply("  `x`  ") == "x" and clean_reply("a<|im_end|>[INST]") == "a"


def test_loader_takes_python_then_json_then_repaired_quotes():
    assert load_structure("so {'a': True,} ok", "{", "}") == {"a": True}
    assert load_structure('{"a": true}', "{", "}") == {"a": True} and load_structure("{'a': null}", "{", "}") == {
        "a": None
    }
    for text in ("{a: 1}", "{1} {2}", "nothing", "", "]["):
        with pytest.raises(ValueError, match="neither"):
            load_structure(text, "{", "}")


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("Map.find", 1.0),
        ("Use Map.find.", 1.0),
        ("Map.find, Map.find(x)", 1.0),
        ("e.g. Map.find", 0.0),
        ("Map.find 0.9", 0.0),
        ("xMap.find", 0.0),
        ("map.find", 0.0),
        ("Map.find then FinishAction", 0.0),
        ("", 0.0),
    ],
)
def test_retrieve_text_is_a_substring_with_a_veto(reply, value):
    assert score("retrieve_str", reply, {"name": "Map.find"}) == {"name": value, "parse_rate": 1.0}
    assert score("retrieve_str", "FinishActions, done", {"name": "FinishAction"})["name"] == 1.0


def test_understand_text_strips_single_then_double_quotes():
    for reply, value in (
        ("'Ulm'", 1.0),
        ('"Ulm"', 1.0),
        ("'\"Ulm\"'", 1.0),
        ("\"'Ulm'\"", 0.0),
        ("ulm", 0.0),
        ("`Ulm`", 1.0),
    ):
        assert score("understand_str", reply, {"args": "Ulm"})["args"] == value, reply
    assert score("understand_str", "Ulm", {"args": "Ulm"}, version="v1")["args"] == 1.0


def test_json_calls():
    def found(reply, truth=CALL):
        return score("rru_json", reply, truth)

    assert found(json.dumps(CALL)) == {"name": 1.0, "args": pytest.approx(2 / 2.00001), "parse_rate": 1.0}
    assert found({"name": "x", "args": {"place": "Ulm", "size": "3", "more": 1}}) == {
        "name": 0.0,
        "args": pytest.approx(2 / 2.00001),
        "parse_rate": 1.0,
    }
    assert found('{"name": "Map.find", "args": {"size": 3.0}}')["args"] == 0.0
    assert found("[1]") == found("no") == {"name": 0.0, "args": 0.0, "parse_rate": 0.0}
    empty = {"name": "FinishAction", "args": {}}
    assert (
        found(empty, empty)["args"] == 1.0 and found({"name": "FinishAction", "args": {"a": 1}}, empty)["args"] == 0.0
    )
    assert found('{"args": "text"}', empty) == {"name": 0.0, "args": 1.0, "parse_rate": 1.0}


def test_plans():
    steps = [{**step, "args": str(step["args"])} for step in PLAN]
    assert score("plan_json", json.dumps(steps), PLAN) == {
        "precision": 1.0,
        "recall": 1.0,
        "f1_score": 1.0,
        "parse_rate": 1.0,
    }
    assert score("plan_json", json.dumps(steps[::-1]), PLAN)["f1_score"] == 1.0  # ids order the steps
    assert score("plan_json", json.dumps([{"id": 0, "name": "No.where", "args": ""}]), PLAN)["recall"] == pytest.approx(
        1 / 3
    )
    assert score("plan_json", '[{"id": 0, "name": "FinishAction", "args": {}}]', PLAN)["f1_score"] == 0.0
    assert score("plan_json", json.dumps([*steps, {"name": "bad"}]), PLAN)["parse_rate"] == 0.0
    text = "1. Use Map.find to look. Then Map.route and Mail.send\nSend it: Mail.send"
    assert [s["name"] for s in read_lines(text, ["Map.find", "Map.route", "Mail.send"])] == [
        "Map.find",
        "Map.route",
        "Mail.send",
    ]
    assert score("plan_str", text, PLAN, similarity="names")["f1_score"] == 1.0
    assert score("plan_str", text, PLAN, similarity="exact")["f1_score"] == pytest.approx(1 / 3)
    assert (
        read_steps([{"id": "1", "name": "a", "args": {}}])[0]["id"] == 1
        and read_steps([{"id": "x", "name": "a", "args": 1}]) == []
    )
    assert plan_score([{"id": 0, "name": "a", "args": ""}], [], similarity=None)["f1_score"] == 0.0


def test_links_need_more_than_the_threshold():
    reply, truth = (
        [{"id": 0, "name": "a", "args": "x"}, {"id": 1, "name": "b", "args": "y"}],
        [{"id": 0, "name": "a", "args": "z"}, {"id": 1, "name": "b", "args": "y"}],
    )
    assert (
        plan_score(reply, truth, similarity=lambda p, q: 1.0 if p == q else 0.2)["precision"] == 0.5
    )  # 0.8 is not above 0.8
    assert plan_score(reply, truth, similarity=lambda p, q: 1.0 if p == q else 0.21)["precision"] == 1.0
    assert plan_score(reply, truth, similarity=lambda p, q: 1.0 if p == q else 0.2, threshold=0.7)["precision"] == 1.0


def test_matching_and_run_agree_with_brute_force():
    rng = random.Random(0)
    for _ in range(150):
        rows, columns = rng.randint(1, 4), rng.randint(1, 4)
        weights = [[rng.choice([0.0, 0.0, 0.81, 0.9, 1.0]) for _ in range(columns)] for _ in range(rows)]
        matched = _match(weights)
        total = sum(weights[i][j] for i, j in enumerate(matched) if j is not None)
        best = max(
            sum(weights[i][j] for i, j in enumerate(choice) if j < columns)
            for choice in itertools.permutations(range(columns + rows), rows)
        )
        assert total == pytest.approx(best)
        assert len({j for j in matched if j is not None}) == sum(j is not None for j in matched)
        values = [rng.randint(0, 9) for _ in range(7)]
        longest = max(len(c) for n in range(8) for c in itertools.combinations(values, n) if list(c) == sorted(set(c)))
        assert _longest_increasing(values) == longest


def test_summary_averages_files_then_abilities(tmp_path):
    benchmark = load(teval_folder(tmp_path))
    answers = [
        Answer({"id": "q1", "task": "plan_json", "reply": json.dumps(PLAN)}),
        Answer({"id": "q1", "task": "plan_str", "reply": "no"}),
        Answer({"id": "q1", "task": "retrieve_str", "reply": "Map.find"}),
        Answer({"id": "q1", "task": "understand_str", "reply": "Ulm"}),
        Answer({"id": "q1", "task": "rru_json", "reply": "{}"}),
        Answer({"id": "q2", "task": "rru_json", "reply": "{}"}),
        Answer({"id": "q2", "task": "retrieve_str", "reply": "a", "ground_truth": {"name": "a"}}),
    ]
    verdicts, summary = score_answers(benchmark, answers)
    assert {name: s["value"] for name, s in summary["scores"].items()} == {
        "plan": 50.0,
        "retrieve": 50.0,
        "understand": 50.0,
        "overall": 50.0,
    }
    assert summary["complete"] and summary["comparable"] == {"plan": False, "retrieve": True, "understand": True}
    assert [v["outcome"] for v in verdicts] == [
        "right",
        "undecodable",
        "right",
        "right",
        "wrong",
        "unknown_entry",
        "right",
    ]
    assert (
        "not comparable" in summary["note"] and summary["files"]["plan_json"]["f1_score_names_only"]["value"] == 100.0
    )


def test_every_judged_reply_agrees_under_both_similarities():
    folder = real("teval")
    rows = list(read_answers(folder / "verdicts_dev.jsonl"))
    assert len(rows) == 151
    for similarity in ("exact", "bow"):
        verdicts, _ = score_answers(load(folder, Settings(similarity)), rows)
        for verdict, row in zip(verdicts, rows):
            wanted = row.record.get("score") or row.record[f"score_{similarity}"]
            assert verdict["score"] == pytest.approx(wanted, abs=2e-6), row.record


def test_gold_plans_score_one():
    benchmark = load(real("teval"))
    answers = [
        Answer({"id": i.id, "task": i.task, "reply": i.truth})
        for i in benchmark.entries.values()
        if i.task == "plan_json"
    ]
    verdicts, _ = score_answers(benchmark, answers)
    assert len(verdicts) == 553 and all(v["score"]["f1_score"] == 1.0 for v in verdicts)


def test_no_reply_is_never_right():
    board = Benchmark("", {}, {})
    for task, truth in (
        ("understand_str", {"args": ""}),
        ("retrieve_str", {"name": ""}),
        ("rru_json", {"name": "", "args": {}}),
    ):
        record = {"id": "x", "task": task, "ground_truth": truth}
        for answer in (
            Answer(record),
            Answer(record | {"reply": "x" * 1_000_001}),
            Answer(record | {"reply": ""}, "not_json"),
        ):
            assert main_score(score_answers(board, [answer])[0][0]) == 0.0


def test_a_plan_of_nothing_but_the_end_scores_zero_and_says_so():
    record = {
        "id": "x",
        "task": "plan_json",
        "ground_truth": PLAN,
        "reply": '[{"id": 0, "name": "FinishAction", "args": {}}]',
    }
    verdicts, _ = score_answers(Benchmark("", {}, {}), [Answer(record)])
    assert verdicts[0]["score"]["f1_score"] == 0.0 and verdicts[0]["reason"] == "only_finish_action"
