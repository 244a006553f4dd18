"""The story of one query: every step of the round is in it, for accepted and for rejected queries."""

from pathlib import Path

import pytest

import tooldev
from data.files import write_json, write_jsonl
from data.schema import read_json, read_jsonl
from tests.test_evolve_round import QUERIES, config, run

__all__ = ["config"]


def told(config, *options, capsys):
    assert tooldev.main(["trace", config.run, *options]) == 0
    return capsys.readouterr().out


def test_stories_of_accepted_and_rejected_queries(config, capsys):
    run(config)
    story = told(config, "--id", "q13", capsys=capsys)
    for part in (QUERIES["q13"], "(Eq. 4)", "(Eq. 5)", "(Eq. 6)", "Generate tools to solve the query", "Try 1",
                 "votes 4 (samples 0, 1, 2, 3), 1 (samples 4)", "Winner: sample 0 with 4 of 5, margin 3",
                 "**Accepted**", '"votes": 4', "What the generation row is trained to write",
                 "What the invocation row is trained to write",
                 '    {"name": "double", "arguments": {"n": 1}}\n    </tool_call>\n    <tool_call>\n'
                 '    {"name": "half"',
                 "| generation |", "| invocation |"):
        assert part in story, part
    losses = next(line.split(" | ")[-2:] for line in story.splitlines() if line.startswith("| invocation"))
    assert float(losses[0]) > float(losses[1].strip(" |")) > 0
    story = told(config, "--id", "q12", "--no-loss", capsys=capsys)
    assert story.count("does not vote, wrote_tools_instead: \"<tools>") == 3
    assert "not measured" in story
    story = told(config, "--id", "q02", capsys=capsys)
    assert "Try 3" in story
    assert "**Rejected** at the stage `tools`, missing_description" in story
    assert "before anything was generated" in told(config, "--id", "q10", capsys=capsys)
    assert "No generation row" in told(config, "--id", "q08", "--no-loss", capsys=capsys)
    assert "# Query q01 in round-1" in told(config, "--no-loss", capsys=capsys)         # the first not unanimous


def test_a_query_whose_id_another_one_has_keeps_its_own_verdict(config, capsys):
    queries = [row for _, row in read_jsonl(config.queries)]
    write_jsonl(config.queries, [*queries, {"id": "q14", "query": "The wrong id, too."}])
    run(config)
    story = told(config, "--id", "q14", capsys=capsys)
    assert "**Rejected** at the stage `calls`, wrong_type" in story
    assert 'duplicate_id: another query has this id: "The wrong type of value."' in story


def test_a_recipe_is_told_beside_the_rows_that_are_shown_without_it(config, capsys):
    run(config)
    assert "changed what" not in told(config, "--id", "q13", "--no-loss", capsys=capsys)
    settings = Path(config.run, "round-1", "config.json")
    write_json(settings, read_json(settings) | {"mask_names": 0.25, "shuffle_tools": True})
    story = told(config, "--id", "q13", "--no-loss", capsys=capsys)
    assert "invocation rows offer (mask_names 0.25, shuffle_tools True); shown is the example as accepted." in story


def test_losses_of_the_accepted_examples_are_kept_for_the_report(config, capsys):
    run(config)
    shown = told(config, "--losses", "2", capsys=capsys)
    rows = [row for _, row in read_jsonl(Path(config.run, "round-1", "losses.jsonl"))]
    assert f"{len(rows)} rows" in shown and len({row["id"] for row in rows}) == 2
    assert {row["objective"] for row in rows} <= {"generation", "invocation"}
    assert all(row["before"] > 0 and row["after"] > 0 and row["supervised"] > 0 for row in rows)
    assert any(row["before"] > row["after"] for row in rows)
    assert tooldev.main(["trace", config.run, "--losses", "0"]) == 2
    assert "--losses is 0" in capsys.readouterr().err


def test_no_winner_is_called_none(config, capsys):
    run(config)
    assert "0 different answers; votes none. Winner: none." in told(config, "--id", "q05", capsys=capsys)


def test_an_unknown_query_is_one_line(config, capsys):
    assert tooldev.main(["trace", config.run, "--id", "q01"]) == 2
    assert "finish a round first" in capsys.readouterr().err
    run(config)
    assert tooldev.main(["trace", config.run, "--id", "nobody"]) == 2
    assert "no query 'nobody' in round-1" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--full"], []])
def test_prompts_are_cut_unless_full(config, capsys, options):
    run(config)
    story = told(config, "--id", "q01", "--no-loss", *options, capsys=capsys)
    assert ("--full shows them" in story) == (not options)
