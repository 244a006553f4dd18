"""The ablation's table on verdicts made by hand: differences, signs, and the three intervals of a line."""

import argparse
import dataclasses
import json

import pytest
from eval_fixtures import bfcl_folder

import eval.score
from data.files import write_json, write_jsonl
from data.schema import Example, Tool, ToolCall
from eval.score import run_module
from experiments import ablation
from pipeline import run_bench
from pipeline.demo import QUICK, world_settings

TOOLS = [Tool.from_dict({"name": f"t{i}", "description": "Does it.",
                         "arguments": {"type": "dict", "properties": {}, "required": []}}) for i in range(4)]
# items of tool t3 that round 1 answers rightly and joint training does not
GAINED = {5: 10, 6: 4}


def item(group: str, seed: int, number: int) -> Example:
    tool = TOOLS[number % 4]                    # the tools take turns, so an order by tool is another one
    return Example(f"{group}-test-{seed}-{number:05d}", f"{group} {seed} {number}", (tool,), (ToolCall(tool.name, {}),),
                   source="world/shop/simple")


def fresh(n_labelled: int, count: int, n_heldout: int, *, seed: int) -> list[Example]:
    """`count` further items, one of which asks what the run's own test asks."""
    made = [item("unlabelled", seed, 100 + i) for i in range(count)]
    return [*made[:-1], dataclasses.replace(made[-1], query=item("unlabelled", seed - ablation.FRESH_SEEDS, 7).query)]


def write_eval(folder, items, right) -> None:
    (folder / "eval").mkdir(parents=True)
    write_jsonl(folder / "eval" / "verdicts.jsonl", [
        {"id": it.id, "set": it.id.split("-")[0], "category": "simple", "outcome": "right" if right(it, n) else "wrong",
         "reason": "", "called": True}
        for n, it in enumerate(items)])


@pytest.fixture
def table(tmp_path, monkeypatch) -> tuple[str, dict]:
    monkeypatch.setattr(ablation.world, "test_items", fresh)
    settings = dataclasses.asdict(world_settings("base", QUICK, 5, variants=("joint",)))
    for seed, gained in GAINED.items():
        out = tmp_path / f"seed-{seed}"
        unlabelled, labelled = ([item(group, seed, i) for i in range(count)]
                                for group, count in (("unlabelled", 40), ("labelled", 10)))
        test = labelled + unlabelled
        (out / "data").mkdir(parents=True)
        write_jsonl(out / "data" / "test.jsonl", [it.to_dict() for it in test])
        write_json(out / "run.json", {"settings": settings})
        better = {it.id for it in [it for it in unlabelled if it.calls[0].name == "t3"][:gained]}
        rights = {"raw": lambda it, n: False, "adaption": lambda it, n: n == 10, "joint": lambda it, n: n < 10,
                  "round-1": lambda it, n, better=better: n < 9 or it.id in better}
        for step, right in rights.items():
            write_eval(out / step, test, right)
        further = ablation.fresh_items(test, seed, 6)
        assert len(further) == 5                                    # the sixth was asked before
        for step, count in (("joint", 0), ("round-1", {5: 2, 6: 1}[seed])):
            write_eval(out / "fresh-6" / step, further, lambda it, n, count=count: n < count)
        write_json(out / "round-1" / "ledger.json", {"queries": {"in": 20, "accepted": 4}, "training": {"steps": 3},
                                                     "stages": {"vote": {"rejected": {"too_few_votes": 16}}},
                                                     "judged": {"5": {"examples": 4, "made": 10, "said": 8,
                                                                      "right": 6}}})
    return ablation.collect(tmp_path, list(GAINED), fresh=6), json.loads((tmp_path / "ablation.json").read_text())


def test_a_line_has_the_difference_and_what_items_tools_and_seeds_would_change(table):
    text, record = table
    line = next(line for line in text.splitlines() if line.startswith("- unlabelled: round-1 minus joint"))
    assert "+17.50 points [" in line and "p = 0.000" in line                        # 14 of 80
    # one tool has it all: none to three of four drawn
    assert "; over 4 tools [+0.0, +52.5]" in line
    assert line.endswith("; over 2 seeds [-77.8, +112.8]")                          # +25 and +10: 17.5 +- 12.706 * 7.5
    found = record["comparisons"]["joint -> last"]["unlabelled"]
    assert (found["only_a"], found["only_b"], found["over_seeds"]["values"]) == (0, 14, [0.25, 0.1])
    assert "- labelled: round-1 minus joint: -10.00 points" in text and "- all: joint minus raw: +20.00 points" in text
    assert "- unlabelled: adaption minus raw: +2.50 points" in text
    assert (
        "| round 1 | 32.0 [" in text
        and "| 17.5 [" in text
        and "| round 1 | 40 | 8 | 6 | 60.0 | 75.0 | 0 | too_few_votes 32 |" in text
    )


def test_further_items_are_compared_alone_and_with_the_test_s(table):
    text, record = table
    alone, both = text[text.index("| 10 items |"):].split("| 90 items, the test's")
    # t0 2 of 4, t1 1 of 2
    assert "round-1 minus joint: +30.00 points" in alone and "; over 4 tools [+0.0, +50.0]" in alone
    assert "round-1 minus joint: +18.89 points" in both  # 17 of 90
    assert record["fresh"]["further"]["comparisons"]["joint -> round-1"]["over_seeds"]["values"] == pytest.approx(
        [0.4, 0.2]
    )


def test_benchmarks_are_a_table_over_seeds_in_both_readings(tmp_path):
    data = bfcl_folder(tmp_path / "bfcl")
    for seed in (1, 2):
        answers = tmp_path / f"{seed}.jsonl"
        answers.write_text("".join(json.dumps({"id": f"live_simple_{n}", "text": "```json\n" + json.dumps(
            {"name": "lamp.set", "arguments": {"room": "hall", "level": 40}}) + "\n```"}) + "\n" for n in range(seed)))
        out = tmp_path / f"seed-{seed}" / "joint" / "bench" / "bfcl"
        assert run_module(eval.score, ["--bench", "bfcl", "--data", str(data), "--answers", str(answers), "--out",
                                       str(out)]) == 0
    lines = ablation.benchmark_lines(tmp_path, (1, 2))
    assert lines[-1].startswith("| BFCL | joint training | 0.00 ± 0.00 | ") and len(lines) == 6
    assert ablation.benchmark_lines(tmp_path, (3,)) == []


def test_other_processes_are_asked_for_the_same_benchmarks():
    parser = argparse.ArgumentParser()
    ablation.add_arguments(parser)
    given = parser.parse_args(["--bench", "bfcl=a", "teval=b", "--bench-limit", "20"])
    again = parser.parse_args(run_bench.flags(given))
    assert (again.bench, again.bench_limit, again.bench_tokens) == (["bfcl=a", "teval=b"], 20, 512)
    assert run_bench.flags(parser.parse_args([])) == []
