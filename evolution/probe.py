"""How sure and how right is the model on labelled examples? A fixed set, the same draws in every round.

The paper (section 4.3) says that rounds raise the model's confidence: the probe follows agreement and log-probability.
Validation is the share of greedy answers that are right. `work` is evolve.Round.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data.canonical import canonical_answer
from data.parse import Reason
from data.prompts import invocation_messages
from data.schema import Example, ToolCall, read_json, write_json
from evolution.config import RoundConfig
from evolution.decide import read_answer, stage_seed
from evolution.state import content_sha
from sampler.consistency import majority_vote

Samples = list[list[dict[str, Any]]]            # of each example
Write = Callable[..., None]                     # evolve.Round.write


def answers_to(write: Write, examples: Sequence[Example], config: RoundConfig, stage: str, **options: Any) -> Samples:
    """Samples of the calls for labelled examples, whose ids may be equal: people's files are like that."""
    seen: Counter = Counter()
    names: list[str] = []
    for example in examples:
        names.append(f"{example.id}\n{seen[example.id]}" if seen[example.id] else example.id)
        seen[example.id] += 1
    found: dict[str, list[dict[str, Any]]] = {}
    write([(name, invocation_messages(e.query, e.tools)) for name, e in zip(names, examples, strict=True)],
          done=found.__setitem__, max_new_tokens=config.max_calls_tokens, seed=stage_seed(config.seed, stage), **options)
    return [found[name] for name in names]


def same_answer(calls: Sequence[ToolCall], example: Example) -> bool:
    """True if the calls are those of the example, in canonical form."""
    return canonical_answer(calls, example.tools) == canonical_answer(example.calls, example.tools)


def probe(write: Write, examples: Sequence[Example], config: RoundConfig) -> dict[str, Any] | None:
    """Agreement, log-probability (nats per token) and right votes of full samples; None without examples."""
    if not examples:
        return None
    found = answers_to(write, examples, config, "probe", num_samples=config.num_samples, top_k=config.calls_top_k,
                       temperature=config.calls_temperature)
    votes, right, codes = [], 0, []
    for example, samples in zip(examples, found, strict=True):
        answers = [read_answer(sample["text"], sample["finish_reason"]) for sample in samples]
        codes += [answer.code for answer in answers if isinstance(answer, Reason)]
        vote = majority_vote([None if isinstance(answer, Reason) else answer for answer in answers], example.tools,
                             [sample["logprob"] for sample in samples])
        votes.append(vote)
        right += vote.answer is not None and same_answer(vote.answer, example)
    logprobs = [sample["logprob"] for samples in found for sample in samples]
    return {"examples": len(examples), "set_sha": content_sha(e.to_dict() for e in examples),
            "agreement": round(sum(vote.agreement for vote in votes) / len(votes), 4),
            "logprob": round(sum(logprobs) / len(logprobs), 4), "right": round(right / len(votes), 4),
            "unparsed": round(len(codes) / len(logprobs), 4), "wrote_tools_instead": codes.count("wrote_tools_instead")}


def validate(write: Write, examples: Sequence[Example], config: RoundConfig) -> float | None:
    """Share of examples whose greedy answer equals the label; None without examples."""
    if not examples:
        return None
    found = answers_to(write, examples, config, "validation", num_samples=1, temperature=0.0, top_k=0)
    answers = [read_answer(sample["text"], sample["finish_reason"]) for sample, in found]
    right = sum(not isinstance(answer, Reason) and same_answer(answer, e) for e, answer in zip(examples, answers, strict=True))
    return round(right / len(examples), 4)


def measured_before(work: Any, earlier: list[dict[str, Any]], validation: Sequence[Example]) -> dict[str, Any]:
    """Probe and validation of Theta_i: what the round before found, or measured now and kept for a restart."""
    if work.dist_rank != 0:
        return {}
    if earlier and _asked_alike(work.folder, work.folder.parent / f"round-{work.config.round - 1}"):
        return {"probe": earlier[-1]["probe"]["after"], "validation": earlier[-1]["validation"]}
    kept = work.folder / "progress" / "before.json"
    if not kept.exists():
        write_json(kept, {"probe": work.probe(), "validation": validate(work.write, validation, work.config)})
    return read_json(kept)


def _asked_alike(*folders: Path) -> bool:
    """True if these rounds measure on the same examples with the same draws, as their round.json say."""
    asked = ("seed", "probe", "num_samples", "calls_temperature", "calls_top_k", "max_calls_tokens", "overlaps",
             "labelled_sha", "validation_sha", "guard_sha")
    first, *others = (read_json(folder / "round.json") for folder in folders)
    return all(other.get(name) == first.get(name) for other in others for name in asked)
