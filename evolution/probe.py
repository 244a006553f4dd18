"""How sure and how right is the model on labelled examples? A fixed set, the same draws in every round.

The paper (section 4.3) says that rounds raise the model's confidence: the probe follows agreement and log-probability.
Validation is the fraction of greedy answers that are right.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.canonical import canonical_answer
from data.files import write_json
from data.parse import Reason
from data.schema import Example, ToolCall, read_json
from evolution.config import Draws
from evolution.decide import read_answer
from evolution.generate import Samples, Writer
from evolution.state import Place, content_sha
from sampler.consistency import majority_vote


def answers_to(writer: Writer, examples: Sequence[Example], draws: Draws) -> list[Samples]:
    """Samples of the calls for labelled examples, whose ids may be equal: people's files are like that."""
    seen: Counter = Counter()
    names: list[str] = []
    for example in examples:
        names.append(f"{example.id}\n{seen[example.id]}" if seen[example.id] else example.id)
        seen[example.id] += 1
    found: dict[str, Samples] = {}
    items = [(name, writer.calling(e.query, e.tools)) for name, e in zip(names, examples, strict=True)]
    writer.write(items, draws, found.__setitem__)
    return [found[name] for name in names]


def same_answer(calls: Sequence[ToolCall], example: Example) -> bool:
    """True if the calls are those of the example, in canonical form."""
    return canonical_answer(calls, example.tools) == canonical_answer(example.calls, example.tools)


@dataclass(frozen=True)
class Measure:
    """What a round is measured on, the same before and after its training."""

    writer: Writer
    probed: list[Example]
    probe_draws: Draws
    validation: list[Example]
    validation_draws: Draws

    def probe(self) -> dict[str, Any] | None:
        """Agreement, log-probability (nats per token) and right votes of full samples of the fixed probe set, under the
        weights that the model has now; None without examples."""
        if not self.probed:
            return None
        found = answers_to(self.writer, self.probed, self.probe_draws)
        votes, right, codes = [], 0, []
        for example, samples in zip(self.probed, found, strict=True):
            answers = [read_answer(sample["text"], sample["finish_reason"]) for sample in samples]
            codes += [answer.code for answer in answers if isinstance(answer, Reason)]
            vote = majority_vote([None if isinstance(answer, Reason) else answer for answer in answers], example.tools,
                                 [sample["logprob"] for sample in samples])
            votes.append(vote)
            right += vote.answer is not None and same_answer(vote.answer, example)
        logprobs = [sample["logprob"] for samples in found for sample in samples]
        return {"examples": len(self.probed), "set_sha": content_sha(e.to_dict() for e in self.probed),
                "agreement": round(sum(vote.agreement for vote in votes) / len(votes), 4),
                "logprob": round(sum(logprobs) / len(logprobs), 4), "right": round(right / len(votes), 4),
                "unparsed": round(len(codes) / len(logprobs), 4),
                "wrote_tools_instead": codes.count("wrote_tools_instead")}

    def validate(self) -> float | None:
        """Fraction of the validation examples whose greedy answer equals the label; None without examples."""
        if not self.validation:
            return None
        found = answers_to(self.writer, self.validation, self.validation_draws)
        answers = [read_answer(sample["text"], sample["finish_reason"]) for sample, in found]
        right = sum(not isinstance(answer, Reason) and same_answer(answer, example)
                    for example, answer in zip(self.validation, answers, strict=True))
        return round(right / len(self.validation), 4)


def measured_before(place: Place, earlier: list[dict[str, Any]], measure: Measure) -> dict[str, Any]:
    """Probe and validation of Theta_i: what the round before found, or measured now and kept for a restart.

    Args:
        earlier: the ledgers of the rounds before, in order.
    """
    if not place.first:
        return {"probe": None, "validation": None}
    if earlier and _asked_alike(place.folder, place.folder.parent / f"round-{len(earlier)}"):
        return {"probe": earlier[-1]["probe"]["after"], "validation": earlier[-1]["validation"]}
    kept = place.progress / "before.json"
    if not kept.exists():
        write_json(kept, {"probe": measure.probe(), "validation": measure.validate()})
    return read_json(kept)


def _asked_alike(*folders: Path) -> bool:
    """True if these rounds measure on the same examples with the same draws, as their round.json say."""
    asked = ("seed", "probe", "num_samples", "calls_temperature", "calls_top_k", "max_calls_tokens", "overlaps",
             "labelled_sha", "validation_sha", "guard_sha")
    first, *others = (read_json(folder / "round.json") for folder in folders)
    return all(other.get(name) == first.get(name) for other in others for name in asked)
