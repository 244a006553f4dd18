"""What the model writes in a round: candidate tools (Eq. 4) and samples of the calls (Eq. 5), kept record by record.

A record is on disk as soon as its item is done (state.Progress); what it is worth is decided elsewhere, at every start.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from data.decoding import never_sampled
from data.parse import Reason
from data.prompts import PAPER_PROMPT, Message, generation_messages, invocation_messages
from data.schema import Query, Tool, ToolCall
from evolution.config import Draws, Pace, RoundConfig
from evolution.decide import Candidates, ToolsCheck, read_answer, settle
from evolution.state import Place, Progress
from sampler import Completion
from sampler.consistency import early_decision

if TYPE_CHECKING:
    from model.tokenizer import Tokenizer

Samples = list[dict[str, Any]]              # of one item: text, tokens, logprob, finish_reason
Decided = Callable[[str, int, str, str], bool]


@dataclass(frozen=True)
class Writer:
    """A model that answers prompts: itself, its tokenizer, what samples (sampler.generate), and at what pace."""

    model: nn.Module
    tokenizer: "Tokenizer"
    generate: Callable[..., Any]
    pace: Pace
    say: Callable[[str], None]
    shown: bool                             # whether the sampler shows its progress
    prompt: str = PAPER_PROMPT              # how it is asked to call tools
    # Around passes: with a sharded base every process runs as many (model.sharding.in_step).
    in_step: Callable[[], AbstractContextManager[None]] = nullcontext

    def calling(self, query: str, tools: Sequence[Tool]) -> list[Message]:
        """How it is asked to call these tools."""
        return invocation_messages(query, tools, self.prompt)

    def write(self, items: Sequence[tuple[str, list[Message]]], draws: Draws, done: Callable[[str, Samples], None],
              decided: Decided | None = None, words: Callable[[], str] | None = None) -> None:
        """Let the model answer the messages of every item; `done(id, samples)` as soon as one is complete.

        `decided(id, sample index, text, finish_reason)`, called when a sample ends, may cancel the item's others.
        `words` adds to the progress line.
        """
        from model.chat import render

        tokenizer, pace = self.tokenizer, self.pace
        prompts = [render(messages, tokenizer)[0] for _, messages in items]

        def sample_ended(item: int, index: int, ids: list[int]) -> bool:
            reason = "length" if len(ids) >= draws.max_new_tokens else "stop"
            return decided(items[item][0], index, tokenizer.decode(ids), reason)

        def item_ended(item: int, completions: Sequence[Completion]) -> None:
            done(items[item][0], [{"text": tokenizer.decode(c.ids), "tokens": len(c.ids),
                                   "logprob": round(c.logprob, 6), "finish_reason": c.finish_reason}
                                  for c in completions])

        early = {"on_sample": sample_ended, "first_samples": draws.num_samples // 2 + 1} if decided else {}
        if prompts:
            self.generate(self.model, prompts, **vars(draws), eos_ids=tokenizer.eos_ids,
                          item_ids=[name for name, _ in items], vocab_size=tokenizer.vocab_size,
                          banned_ids=never_sampled(tokenizer), on_item=item_ended,
                          max_prompt_tokens=pace.max_prompt_tokens, cache_gb=pace.cache_gb, max_rows=pace.max_rows,
                          pack_weights=pace.pack_weights, compile_decode=pace.compile_decode,
                          progress=self.shown and (words or True), **early)

    def parts(self, queries: list[Query], done: set[str]) -> list[list[Query]]:
        """What is left to generate, one list per call of the sampler (see RoundConfig.chunk)."""
        if self.model.lm_head.weight.dtype.itemsize >= 4:
            return [[query for query in queries if query.id not in done]]
        size = self.pace.chunk
        chunks = [queries[first:first + size] for first in range(0, len(queries), size)]
        return [chunk for chunk in chunks if any(query.id not in done for query in chunk)]


class Tally:
    """What the progress line says of a phase: which call of the sampler it is in, and how many passed so far."""

    def __init__(self, parts: Sequence[list[Query]]) -> None:
        self.parts, self.number, self.passed = parts, 0, []

    def __iter__(self) -> Iterator[list[Query]]:
        for part in self.parts:
            self.number += 1
            yield part

    def words(self) -> str:
        """In words, for the sampler to show."""
        passed = f"accepted {sum(self.passed) / len(self.passed):.0%}" if self.passed else ""
        parts = f"part {self.number} of {len(self.parts)}" if len(self.parts) > 1 else ""
        return " | ".join(filter(None, [parts, passed]))


# --------------------------------------------------------------------------------------------- candidate tools (Eq. 4)

def make_tools(writer: Writer, place: Place, queries: Sequence[Query], config: RoundConfig,
               check: ToolsCheck) -> dict[tuple[str, int], dict[str, Any]]:
    """Generate tools for every query, again where `check` rejects them -> records by (id, attempt)."""
    progress = Progress(place, "tools", lambda record: (record["id"], record["attempt"]))
    with writer.in_step():
        try_tools(writer, place, queries, config, check, progress)
    progress.finish()
    return progress.records()


def try_tools(writer: Writer, place: Place, queries: Sequence[Query], config: RoundConfig, check: ToolsCheck,
              progress: Progress) -> None:
    """This process's queries, and again those whose tools `check` rejects."""
    for attempt in range(config.retries + 1):
        records = progress.records()
        failed = {name for (name, n), record in records.items()
                  if n == attempt - 1 and isinstance(check(record), Reason)}
        wanted = [query for query in place.dealt(queries) if attempt == 0 or query.id in failed]
        writer.say(f"tools, try {attempt + 1}: {len(wanted)} queries")
        tally = Tally(writer.parts(wanted, {name for name, n in records if n == attempt}))

        def done(name: str, samples: Samples, attempt: int = attempt, tally: Tally = tally) -> None:
            record = {"id": name, "attempt": attempt, **samples[0]}
            progress.append(record)
            tally.passed.append(not isinstance(check(record), Reason))

        for part in tally:
            writer.write([(query.id, generation_messages(query.query)) for query in part], config.tools_draws(attempt),
                         done, words=tally.words)


# ----------------------------------------------------------------------------------------- samples of the calls (Eq. 5)

def make_calls(writer: Writer, place: Place, queries: Sequence[Query], offered: dict[str, Candidates],
               config: RoundConfig) -> dict[str, dict[str, Any]]:
    """Sample the calls for every query that has tools -> records by id."""
    progress = Progress(place, "calls", lambda record: record["id"])
    wanted = [query for query in place.dealt(queries) if query.id in offered]
    by_id = {query.id: query for query in wanted}
    writer.say(f"calls: {len(wanted)} queries x {config.samples} samples")
    tally = Tally(writer.parts(wanted, set(progress.records())))
    prefixes = Prefixes(offered, config.samples, config.min_votes)

    def done(name: str, samples: Samples) -> None:
        length = (prefixes.deciding(name) if config.early else None) or len(samples)
        prefixes.forget(name)
        record = {"id": name, "samples": samples[:length], "decided_early": length < len(samples)}
        progress.append(record)
        tally.passed.append(settle(by_id[name], offered[name].tools, record, config.voting,
                                   offered[name].distractors).rejected is None)

    with writer.in_step():
        for part in tally:
            items = [(query.id, writer.calling(query.query, offered[query.id].tools)) for query in part]
            writer.write(items, config.calls_draws(), done, prefixes.decided if config.early else None, tally.words)
    progress.finish()
    return progress.records()


class Prefixes:
    """The samples that have ended, per query: whether an answer is decided by a prefix of them in sample order."""

    def __init__(self, offered: dict[str, Candidates], num_samples: int, min_votes: int) -> None:
        self.offered, self.num_samples, self.min_votes = offered, num_samples, min_votes
        self.ended: dict[str, dict[int, list[ToolCall] | None]] = {}

    def decided(self, name: str, index: int, text: str, finish_reason: str) -> bool:
        """A sample ended; True if the others need not be drawn."""
        answer = read_answer(text, finish_reason)
        self.ended.setdefault(name, {})[index] = None if isinstance(answer, Reason) else answer
        return self.deciding(name) is not None

    def deciding(self, name: str) -> int | None:
        """Length of the shortest deciding prefix of the samples that have ended without a gap."""
        answers, known_here = [], self.ended.get(name, {})
        while len(answers) in known_here:
            answers.append(known_here[len(answers)])
        tools: Sequence[Tool] = self.offered[name].tools
        return early_decision(answers, tools, self.num_samples, self.min_votes)

    def forget(self, name: str) -> None:
        """The item is done."""
        self.ended.pop(name, None)
