"""The story of one query: every step of the round is in it, for accepted and for rejected queries."""

import pytest

import tooldev
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
                 "**Accepted**", '"votes": 4', "| generation |", "| invocation |"):
        assert part in story, part
    losses = next(line.split(" | ")[-2:] for line in story.splitlines() if line.startswith("| invocation"))
    assert float(losses[0]) > float(losses[1].strip(" |")) > 0
    story = told(config, "--id", "q12", "--no-loss", capsys=capsys)
    assert story.count("does not vote, wrote_tools_instead") == 3
    assert "not measured" in story
    story = told(config, "--id", "q02", capsys=capsys)
    assert "Try 3" in story
    assert "**Rejected** at the stage `tools`, missing_description" in story
    assert "before anything was generated" in told(config, "--id", "q10", capsys=capsys)
    assert "No generation row" in told(config, "--id", "q08", "--no-loss", capsys=capsys)
    assert "# Query q01 in round-1" in told(config, "--no-loss", capsys=capsys)          # the first that was not unanimous


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
