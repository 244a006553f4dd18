"""What a round will cost, before it starts: tokens read, written and trained on, steps, and an estimate of the hours.

Lengths come from the first queries and labelled examples, tokenised; hours from what a product and a copy take here
(training/costs.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from data.prompts import calls_answer, generation_messages, invocation_messages, pieces_text, tools_answer
from data.schema import Example, Query
from evolution.config import RoundConfig
from training.config import TrainConfig
from training.costs import Rates

if TYPE_CHECKING:
    from model.tokenizer import Tokenizer

SAMPLE = 64             # queries and labelled examples that are tokenised


@dataclass(frozen=True)
class RoundPlan:
    """Tokens of the whole round, over all processes, if every query is accepted at its first try."""

    queries: int
    read: int               # prompt tokens of both generations; a prompt is read once for all its samples
    written_tools: int
    written_calls: int
    trained: int
    rows: int
    steps: int
    assumed: str            # where the lengths of answers come from

    @property
    def written(self) -> int:
        return self.written_tools + self.written_calls


def plan_round(config: RoundConfig, train: TrainConfig, queries: Sequence[Query], labelled: Sequence[Example],
               tokenizer: "Tokenizer", earlier: int = 0) -> RoundPlan:
    """Count the tokens of a round; `train` holds its training settings, `earlier` is what --accumulate adds."""
    from model.chat import render

    def prompt_tokens(messages: list) -> int:
        return len(render(messages, tokenizer)[0])

    def mean(values: Sequence[float], default: float) -> float:
        return sum(values) / len(values) if values else default

    known = [example for example in labelled[:SAMPLE] if example.calls and example.tools]
    asked = queries[:SAMPLE] or known
    tools_texts = [pieces_text(tools_answer(example.tools)) for example in known]
    call_texts = [pieces_text(calls_answer(example.calls)) for example in known]
    tools_tokens = mean([len(tokenizer.encode(text)) for text in tools_texts], config.max_tools_tokens / 4)
    call_tokens = mean([len(tokenizer.encode(text)) for text in call_texts], config.max_calls_tokens / 4)
    make = mean([prompt_tokens(generation_messages(query.query)) for query in asked], 0)
    call = mean([prompt_tokens(invocation_messages(query.query, [], train.prompt)) for query in asked], 0)
    call += tools_tokens * (1 + config.distractors / max(1.0, mean([len(e.tools) for e in known], 1)))
    n = len(queries)
    mixed = len(labelled) if config.without("data") else min(round(config.mix * (n + earlier)), len(labelled))
    rows = 2 * (n + earlier + mixed)
    steps = train.max_steps or max(1, round(train.epochs * -(-rows // train.global_batch_size)))
    row = (make + tools_tokens + call + call_tokens) / 2
    per_epoch = -(-rows // train.global_batch_size)
    batch = rows / per_epoch if rows else train.global_batch_size       # an epoch's last step may be short
    return RoundPlan(n, round(n * (make + call)), round(n * tools_tokens), round(n * config.samples * call_tokens),
                     round(row * batch * steps), rows, steps,
                     f"of {len(known)} labelled examples" if known else "assumed a quarter of what is allowed")


def plan_lines(plan: RoundPlan, config: RoundConfig, train: TrainConfig, model: nn.Module,
               world_size: int) -> list[str]:
    """The plan as it is printed."""
    head = model.lm_head.weight
    rates = Rates.assumed(train, model.config, head.dtype, head.device, config.max_rows)
    hours = [seconds / (3600 * world_size) for seconds in (
        rates.seconds(read=plan.read), rates.seconds(written=plan.written), rates.seconds(trained=plan.trained))]
    answers = f"{plan.written_tools:,} of tools and {plan.written_calls:,} of calls"
    return [f"plan of round {config.round}: {plan.queries:,} queries over {world_size} processes, "
            "if each is accepted at once",
            f"  read {plan.read:,} tokens of prompts, write {answers} ({config.samples} samples; "
            f"lengths {plan.assumed})",
            f"  train on {plan.rows:,} rows, {plan.trained:,} tokens, {plan.steps:,} steps",
            f"  time, estimated: {sum(hours):.2f} h = reading {hours[0]:.2f} + writing {hours[1]:.2f} + "
            f"training {hours[2]:.2f}"]
