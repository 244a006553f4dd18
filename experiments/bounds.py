"""Bounds of a round: what it could teach if a part of it were as good as the generated world knows it to be.

A bound of `tooldev.py controls` trains on queries that the method's rounds asked, from the joint model and for as many
steps, with as many labelled examples mixed in. What it takes from the world instead of from the model:

    true_labels      tools and calls, of every query
    true_accepted    tools and calls, of the queries that the method accepted
    right_accepted   the verdict: of what the method accepted, that whose values are wholly right
    true_tools       the tools; the model's own calls to them, voted on and checked as in a round
    documents        nothing: four tool documents that retrieval finds for the query stand in for tools that it makes

The last is a method that a user could take; the others need the truth.
"""

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

from data import world
from data.decoding import never_sampled
from data.files import write_jsonl
from data.prompts import invocation_messages
from data.retrieval import ToolIndex
from data.schema import Example, Query, load_examples, load_queries, load_tools
from evolution.config import RoundConfig
from evolution.decide import by_hash, choose_queries, settle
from pipeline.settings import round_settings
from pipeline.steps import Run

BOUNDS = ("true_labels", "true_accepted", "right_accepted", "true_tools", "documents")
DOCUMENTS = 4                   # found for a query: as many as the world offers at most


def write_taught(kind: str, run: Run, folder: Path, number: int) -> Path:
    """The file that a bound's round trains on: examples of the queries up to this round, and labelled ones mixed in.

    Args:
        run: the method's own run on the world; its folder has the rounds.

    Raises:
        ValueError: the run's queries are not those that the world gives today.
    """
    rounds = [RoundConfig.from_dict({**round_settings(run.settings, run.data), "round": n, "run": str(run.out)})
              for n in range(1, number + 1)]
    asked = asked_with_labels(run, rounds)
    accepted = {example.id: example for config in rounds
                for example in load_examples(run.out / f"round-{config.round}" / "accepted.jsonl")}
    if kind == "true_labels":
        taught = asked
    elif kind == "true_accepted":
        taught = [example for example in asked if example.id in accepted]
    elif kind == "right_accepted":
        taught = [accepted[example.id] for example in asked if example.id in accepted
                  and world.wholly_right(accepted[example.id].calls, [call.to_dict() for call in example.calls])]
    elif kind == "true_tools":
        taught = answered(run, asked, rounds[-1])
    else:
        taught = answered(run, with_documents(asked, ToolIndex(load_tools(run.data / "tools.jsonl"))), rounds[-1])
    labelled = by_hash(load_examples(run.data / "examples.jsonl"), run.settings.seed, number, "mix")
    path = folder / f"taught-{number}.jsonl"
    write_jsonl(path, [example.to_dict() for example in (*taught, *labelled[:round(rounds[-1].mix * len(taught))])])
    return path


def asked_with_labels(run: Run, rounds: Sequence[RoundConfig]) -> list[Example]:
    """The queries of these rounds with the world's own tools and right calls."""
    queries = load_queries(run.data / "queries.jsonl")
    known = {example.id: example for example in world.labelled_queries(len(queries), seed=run.settings.seed)}
    for query in queries:
        if query.id not in known or known[query.id].query != query.query:
            raise ValueError(f"{run.data / 'queries.jsonl'}: {query.id} is not a query of today's tool world, so its "
                             "label is not known; ablate again with this code")
    return [known[query.id] for config in rounds for query in choose_queries(queries, config)]


def with_documents(examples: Sequence[Example], index: ToolIndex) -> list[Example]:
    """Each query with the documents found for it as candidates, in an order of its own; without any it is left out."""
    found = []
    for example in examples:
        tools = [hit.tool for hit in index.search(example.query, DOCUMENTS)]
        random.Random(example.id).shuffle(tools)
        if tools:
            found.append(dataclasses.replace(example, tools=tuple(tools)))
    return found


def answered(run: Run, asked: Sequence[Example], config: RoundConfig) -> list[Example]:
    """What the joint model answers, given these candidates: sampled, voted on and checked as in a round."""
    from model.chat import render
    from sampler import generate

    tokenizer = run.tokenizer
    prompts = [render(invocation_messages(example.query, example.tools, run.settings.prompt), tokenizer)[0]
               for example in asked]
    drawn = generate(run.model("joint"), prompts, **vars(config.calls_draws()), eos_ids=tokenizer.eos_ids,
                     item_ids=[example.id for example in asked], vocab_size=tokenizer.vocab_size,
                     banned_ids=never_sampled(tokenizer), max_rows=config.max_rows, pack_weights=config.pack_weights)
    accepted = []
    for example, completions in zip(asked, drawn, strict=True):
        samples = [{"text": tokenizer.decode(one.ids), "logprob": one.logprob, "finish_reason": one.finish_reason}
                   for one in completions]
        outcome = settle(Query(example.id, example.query), example.tools, {"samples": samples, "decided_early": False},
                         config.voting)
        accepted += [outcome.example] if outcome.example else []
    return accepted
