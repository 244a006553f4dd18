"""Self-consistency over tool calls: the answer that most samples agree on (Wang et al. 2022, arXiv:2203.11171).

Answers are compared in canonical form (data/canonical.py), so neither the order of calls nor that of arguments splits
the vote. A sample that did not parse takes part in the count of samples but never votes; the answer "no call" may win.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from data.canonical import canonical_answer
from data.schema import Tool, ToolCall

__all__ = ["Vote", "canonical_answer", "early_decision", "majority_vote", "votes_needed"]


@dataclass(frozen=True)
class Vote:
    """The outcome of one vote; `index` and `answer` are None when no sample parsed."""

    index: int | None               # the first sample that gave the winning answer
    answer: list[ToolCall] | None
    votes: int                      # samples with the winning answer
    num_samples: int                # samples counted, the unparsable ones included
    agreement: float                # votes / num_samples
    margin: int                     # votes minus those of the best other answer
    distinct: int                   # different answers that parsed
    unparsed: int
    tie: str                        # what chose among equals: "none" | "logprob" | "index"
    decided_early: bool
    enough: bool                    # votes reached min_votes

    @property
    def decided(self) -> bool:
        """True if there is an answer with enough votes."""
        return self.index is not None and self.enough


def votes_needed(num_samples: int, min_votes: int = 1) -> int:
    """Votes after which no other answer can win any more: a strict majority of all samples, or min_votes if more."""
    return max(num_samples // 2 + 1, min_votes)


def early_decision(answers: Sequence[list[ToolCall] | None], tools: Sequence[Tool], num_samples: int,
                   min_votes: int = 1) -> int | None:
    """The length of the shortest prefix, in sample order, that decides the vote; None if these samples do not.

    Args:
        answers: the answers of samples 0, 1, 2, ... as far as they are known without a gap; None did not parse.
        tools: the candidate tools.
        num_samples: how many samples the full vote would have.
        min_votes: votes that the winner must have.
    """
    needed, votes = votes_needed(num_samples, min_votes), {}
    for length, answer in enumerate(answers, start=1):
        if answer is not None:
            key = canonical_answer(answer, tools)
            votes[key] = votes.get(key, 0) + 1
            if votes[key] >= needed:
                return length
    return None


def majority_vote(answers: Sequence[list[ToolCall] | None], tools: Sequence[Tool], logprobs: Sequence[float],
                  min_votes: int = 1, *, decided_early: bool = False) -> Vote:
    """Return the answer most samples agree on, with its votes.

    Ties go to the answer with the higher mean token log-probability (the mean over its samples), then to the one that
    comes first in sample order. The winner is told by its first sample, so deciding early does not change the record.

    Args:
        answers: one parsed answer per completion, in sample order; [] means "no call", None did not parse.
        tools: the candidate tools, whose schemas decide when 5 and 5.0 are the same value.
        logprobs: mean log-probability per token of each completion, in nats.
        min_votes: fewer votes leave the winner with `enough` false.
        decided_early: `answers` is the prefix that `early_decision` found; only noted in the result.

    Raises:
        ValueError: `answers` is empty, its length differs from that of `logprobs`, or min_votes is below 1.
    """
    if not answers or len(answers) != len(logprobs) or min_votes < 1:
        raise ValueError(f"a vote over {len(answers)} answers, {len(logprobs)} log-probabilities and min_votes "
                         f"{min_votes}; expected as many of one as of the other, at least one, and min_votes >= 1")
    groups: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        if answer is not None:
            groups.setdefault(canonical_answer(answer, tools), []).append(index)
    unparsed = sum(answer is None for answer in answers)
    if not groups:
        return Vote(None, None, 0, len(answers), 0.0, 0, 0, unparsed, "none", decided_early, enough=False)

    def strength(members: list[int]) -> tuple[int, float, int]:
        mean = math.fsum(logprobs[i] for i in members) / len(members)       # fsum: the same in every order
        return len(members), mean if math.isfinite(mean) else -math.inf, -members[0]

    ranked = sorted((strength(members) for members in groups.values()), reverse=True)
    best, votes = -ranked[0][2], ranked[0][0]
    second = ranked[1] if len(ranked) > 1 else (0, -math.inf, 0)
    tied = second[0] == votes
    tie = "none" if not tied else "logprob" if second[1] != ranked[0][1] else "index"
    return Vote(best, answers[best], votes, len(answers), votes / len(answers), votes - second[0], len(groups),
                unparsed, tie, decided_early, enough=votes >= min_votes)
