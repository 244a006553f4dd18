"""What becomes of a query: screened, its tools read and checked, its answers voted on; accepted, or rejected and why.

Pure functions over records. Each one gives the same verdict whenever it is asked, so nothing of this is kept between
restarts: evolve.py keeps what the model wrote, and decides again.
"""

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from data.contamination import Guard, folded
from data.parse import Reason, parse_calls, parse_tools
from data.retrieval import ToolIndex, tool_text, top, words
from data.rules import check_calls, check_tools
from data.schema import Example, Query, Tool, ToolCall
from evolution.config import RoundConfig, Voting, stage_seed
from evolution.grounding import ungrounded
from sampler.consistency import Vote, majority_vote

MAX_QUERY_CHARS = 32_768
NEAR_COPY = 0.8                 # of a tool's own score: what scores higher for it may do what it does
Item = TypeVar("Item", Example, Query)


class Candidates(NamedTuple):
    """The tools offered with a query, and the names of those that were made for others."""

    tools: list[Tool]
    distractors: list[str]


@dataclass(frozen=True)
class Outcome:
    """Where one query ended: an example or a line of rejected.jsonl, and its record for calls.jsonl."""

    example: Example | None
    rejected: dict[str, Any] | None
    record: dict[str, Any]


# Of one record of tools, such as tools.jsonl has: `read_tools` on its text.
ToolsCheck = Callable[[dict[str, Any]], tuple[Tool, ...] | Reason]


def by_hash(items: Sequence[Item], *salt: str | int) -> list[Item]:
    """Items in a shuffled order that depends on their ids (of equal ones, on the queries), not on the order given."""
    return sorted(items, key=lambda item: (stage_seed(*salt, item.id), item.id, item.query))


# ---------------------------------------------------------------------------------------------------------- the queries

def choose_queries(queries: Sequence[Query], config: RoundConfig) -> list[Query]:
    """The queries of this round: all, or its part of `queries_per_round`, none of which another round gets."""
    if not config.queries_per_round:
        return list(queries)
    first = (config.round - 1) * config.queries_per_round
    chosen = by_hash(queries, config.seed, "queries")[first:first + config.queries_per_round]
    if not chosen:
        raise ValueError(f"{config.queries}: {len(queries)} queries, {config.queries_per_round} a round: none is left "
                         f"for round {config.round}; give more queries or lower --queries-per-round")
    return chosen


def screen_queries(queries: Sequence[Query], guard: Guard) -> tuple[list[Query], list[dict[str, Any]]]:
    """Queries by id, and a line for each that is too long, a repetition, or in the benchmark."""
    kept: list[Query] = []
    rejected: list[dict[str, Any]] = []
    ids: set[str] = set()
    texts: dict[str, str] = {}
    for query in sorted(queries, key=lambda query: (query.id, query.query)):
        text = folded(query.query) if len(query.query) <= MAX_QUERY_CHARS else ""
        overlap = guard.query_overlap(query.query) if text else None
        if query.id in ids:
            reason = Reason("duplicate_id", "another query has this id")
        elif not text:
            reason = Reason("query_too_long", f"{len(query.query)} characters; at most {MAX_QUERY_CHARS}")
        elif text in texts:
            reason = Reason("duplicate_query", f"the same as {texts[text]}")
        elif overlap:
            reason = Reason("contaminated_query", overlap)
        else:
            reason = None
            kept.append(query)
            texts[text] = query.id
        ids.add(query.id)
        if reason:
            rejected.append(rejection(query.id, "query", reason, query.query[:500]))
    return kept, rejected


def rejection(query_id: str, stage: str, reason: Reason, text: str) -> dict[str, Any]:
    """One line of rejected.jsonl."""
    return {"id": query_id, "stage": stage, "reason": reason.code, "detail": reason.detail, "text": text}


# --------------------------------------------------------------------------------------------- judging what was written

def read_tools(text: str, finish_reason: str, guard: Guard, rules: bool = True) -> tuple[Tool, ...] | Reason:
    """The tools of one answer if they parse, pass the rule checker and are not the benchmark's; else the reason."""
    if finish_reason != "stop":
        return _unfinished(finish_reason)
    found = parse_tools(text)
    if isinstance(found, Reason):
        return found
    for code, detail in check_tools(found) if rules else ():
        return Reason(code, detail)
    try:
        tools = tuple(Tool.from_dict(tool) for tool in found)
    except ValueError as err:
        return Reason("unusable_tool", str(err))
    for tool in tools:
        overlap = guard.tool_overlap(tool)
        if overlap:
            return Reason("contaminated_tool", overlap)
    return tools


def read_answer(text: str, finish_reason: str) -> list[ToolCall] | Reason:
    """The calls of one sample, or why it does not vote."""
    return parse_calls(text) if finish_reason == "stop" else _unfinished(finish_reason)


def _unfinished(finish_reason: str) -> Reason:
    if finish_reason == "refused":
        return Reason("prompt_too_long", "the prompt does not fit a training row")
    return Reason("cut_off", "the answer did not end within the allowed tokens")


def judge_tools(queries: Sequence[Query], records: dict[tuple[str, int], dict[str, Any]],
                check: ToolsCheck) -> tuple[dict[str, tuple[Tool, ...]], list[dict[str, Any]], list[dict[str, Any]]]:
    """The rule checker over all tries -> (tools by query id, rejected lines, lines of tools.jsonl)."""
    made: dict[str, tuple[Tool, ...]] = {}
    rejected, lines = [], []
    tries: dict[str, list[dict[str, Any]]] = {}
    for (name, _), record in sorted(records.items(), key=lambda item: item[0][1]):
        tries.setdefault(name, []).append(record)
    for query in queries:
        for record in tries[query.id]:
            verdict = check(record)
            bad = isinstance(verdict, Reason)
            lines.append({"id": query.id, "query": query.query, **record, "reason": verdict.code if bad else None,
                          "detail": verdict.detail if bad else ""})
            if not bad:
                made[query.id] = verdict
        if query.id not in made:
            rejected.append(rejection(query.id, "tools", verdict, tries[query.id][-1]["text"]))
    return made, rejected, lines


def candidates_for(query: Query, made: dict[str, tuple[Tool, ...]], config: RoundConfig,
                   pool: ToolIndex | None = None) -> Candidates:
    """The tools offered with a query: those made for it, and distractors made for others.

    `made` is in the order of the ids, so that the draw does not depend on the order of the queries. With a `pool` of
    all made tools the distractors are those most like the query's own; random ones where these are too few.
    """
    own = list(made[query.id])
    rng = random.Random(stage_seed(config.seed, config.round, "candidates", query.id))
    if config.without("choice"):
        own = [rng.choice(own)]
    if not config.distractors:
        return Candidates(own, [])
    taken = {tool.name for tool in own}
    others: dict[str, Tool] = {}
    for other in rng.sample(list(made), min(len(made), 4 * config.distractors + 1)):
        for tool in made[other] if other != query.id else ():
            if tool.name not in taken:
                others.setdefault(tool.name, tool)
    near, copies = similar(own, made[query.id], pool, config.distractors) if pool else ({}, set())
    rest = sorted(others.keys() - near.keys() - copies)
    chosen = [*near, *rng.sample(rest, min(config.distractors - len(near), len(rest)))]
    mixed = own + [(others | near)[name] for name in chosen]
    rng.shuffle(mixed)
    return Candidates(mixed, sorted(chosen))


def pool_of(made: dict[str, tuple[Tool, ...]], config: RoundConfig) -> ToolIndex | None:
    """The tools made in this round, searchable, where the distractors are to be similar ones; else None."""
    wanted = config.distractors and config.distractor_choice == "similar"
    return ToolIndex([tool for tools in made.values() for tool in tools]) if wanted else None


def similar(own: Sequence[Tool], made: Sequence[Tool], pool: ToolIndex, count: int
            ) -> tuple[dict[str, Tool], set[str]]:
    """The tools of the pool most like one of these by BM25, by name, and the names of near copies, which are left out.

    A near copy scores over NEAR_COPY of a tool's own score; names are not compared: a copy of another name is a copy.

    Args:
        own: the query's tools, each in the pool.
        made: all that were made for the query, which are left out, too.
    """
    ratios = []
    for tool in own:
        name, _, said = tool_text(tool).partition("\n")
        scores = pool.scores(said if words(said) else name)
        itself = next(at for at in pool.named(tool.name) if pool.tools[at] == tool)
        ratios.append(scores / max(float(scores[itself]), 1e-9))
    best = np.max(ratios, axis=0)
    copies = {pool.tools[position].name for position in np.flatnonzero(best > NEAR_COPY)}
    taken, near = {tool.name for tool in (*own, *made)} | copies, {}
    for position in top(best, len(best)):
        tool = pool.tools[position]
        if tool.name not in taken and len(near) < count:
            near.setdefault(tool.name, tool)
    return near, copies


def settle(query: Query, candidates: Sequence[Tool], record: dict[str, Any], voting: Voting,
           distractors: Sequence[str] = ()) -> Outcome:
    """Vote over the samples of one query, check the winner, and accept or reject (Eq. 5 and the rule checker).

    Args:
        distractors: names of the candidates that were made for other queries. An answer that calls one says that the
            tools made for this query do not serve it: a row that taught both would contradict itself.
    """
    samples = record["samples"]
    answers = [read_answer(sample["text"], sample["finish_reason"]) for sample in samples]
    vote = majority_vote([None if isinstance(answer, Reason) else answer for answer in answers], candidates,
                         [sample["logprob"] for sample in samples], voting.min_votes,
                         decided_early=record["decided_early"])
    samples = [{**sample, "reason": answer.code if isinstance(answer, Reason) else None}
               for sample, answer in zip(samples, answers, strict=True)]
    facts = {key: value for key, value in dataclasses.asdict(vote).items() if key not in ("answer", "enough")}
    record = {"id": query.id, "query": query.query, "candidates": [tool.to_dict() for tool in candidates],
              "samples": samples, **facts}
    text = samples[vote.index or 0]["text"]
    reason, stage = _vote_reason(vote, answers, voting), "vote"
    if reason is None and voting.rules:
        stage = "calls"
        reason = next((Reason(*found) for found in check_calls(vote.answer, candidates)), None)
        strange = sorted({call.name for call in vote.answer}.intersection(distractors))
        if reason is None and strange:
            reason = Reason("calls_distractor", f"{', '.join(strange)}: made for another query")
        if reason is None and voting.grounded:
            reason = ungrounded(query.query, vote.answer, candidates)
    if reason:
        return Outcome(None, rejection(query.id, stage, reason, text), record)
    provenance = {key: facts[key] for key in ("votes", "num_samples", "agreement", "margin", "decided_early")}
    if vote.decided_early:
        del provenance["margin"]                            # of a vote that was not held to its end
    example = Example(query.id, query.query, tuple(candidates), tuple(vote.answer), provenance=provenance)
    return Outcome(example, None, record)


def _vote_reason(vote: Vote, answers: Sequence[list[ToolCall] | Reason], voting: Voting) -> Reason | None:
    if vote.index is None:
        codes = [answer.code for answer in answers]
        counted = ", ".join(f"{code} {codes.count(code)}" for code in sorted(set(codes)))
        return Reason("no_answer_parsed", counted)
    if not vote.enough:
        return Reason("too_few_votes", f"{vote.votes} of {vote.num_samples}; at least {voting.min_votes}")
    if not vote.answer and not voting.keep_no_call:
        return Reason("no_call", f"{vote.votes} of {vote.num_samples} samples call nothing")
    return None
