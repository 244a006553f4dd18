"""What a run will cost, before it starts: rows, tokens, steps and minutes of every step, from one timed pass here.

Rows are measured on a sample of the data, generated text is assumed as long as the labelled examples' own, and decoding
is counted as several times dearer per token than a forward pass. So minutes are estimates, and are called that. A round
is planned as if it accepted, and so trained on, every query.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING

from data.schema import load_examples, load_tools
from data.tasks import IGNORE_INDEX, RowError, adaption_row, generation_row, invocation_row
from evolution.config import RoundConfig
from pipeline.settings import RunSettings

if TYPE_CHECKING:
    from pipeline.steps import Run, Step

SAMPLE = 64                 # rows of each kind that are tokenised to learn their length
DECODE_COST = 4.0           # a decoded token in forward tokens: small matrices use the machine worse
MINUTE = 60.0


def estimate(run: Run, steps: Sequence[Step], counts: dict[str, int]) -> list[str]:
    """Lines to print: one per step and the total."""
    lengths = _lengths(run)
    forward, training = _tokens_per_second(run, int(lengths["invocation"]))
    lines, total = [], 0.0
    for step in steps:
        facts, seconds = _step(run.settings, step, counts, lengths, forward, training)
        seconds += counts.get("test", 0) * (lengths["prompt"] + DECODE_COST * lengths["answer"]) / forward
        total += seconds
        lines.append(f"{step.name:20} {facts:72} about {seconds / MINUTE:6.1f} min")
    lines.append(f"{'together':20} {counts.get('test', 0)} test items after every step; {training:,.0f} tokens/s in "
                 f"training, {forward:,.0f} forward, measured now: about {total / MINUTE:.1f} "
                 f"min{', less where rounds reject queries' * any(step.round for step in steps)}")
    return lines


def _step(settings: RunSettings, step: Step, counts: dict[str, int], lengths: dict[str, float], forward: float,
          training: float) -> tuple[str, float]:
    """(what the step does, its seconds without the test)."""
    if not step.stage:
        return "no training", 0.0
    if step.round:
        queries = settings.queries_per_round or counts["queries"]
        samples = settings.evolve.get("num_samples", RoundConfig.num_samples)
        written = queries * (lengths["generation_answer"] + samples * lengths["answer"])
        read = queries * (lengths["generation"] - lengths["generation_answer"] + lengths["prompt"])
        answers = queries * (step.round if settings.evolve.get("accumulate") else 1)
        trained = answers + min(round(settings.evolve.get("mix", 0.0) * answers), counts["examples"])
        training_facts, tokens = _training(settings, 2 * trained, settings.evolve_epochs,
                                           (lengths["generation"] + lengths["invocation"]) / 2)
        facts = f"{queries:,} queries, {written:,.0f} tokens written, then {training_facts}"
        return facts, (read + DECODE_COST * written) / forward + tokens / training
    rows = counts["tools"] if step.stage == "adaption" else counts["examples"] * (2 if step.stage == "joint" else 1)
    epochs = settings.adaption_epochs if step.stage == "adaption" else settings.labelled_epochs
    length = {"adaption": lengths["adaption"], "invocation": lengths["invocation"],
              "joint": (lengths["invocation"] + lengths["generation"]) / 2}[step.stage]
    facts, tokens = _training(settings, rows, epochs, length)
    return facts, tokens / training


def _training(settings: RunSettings, rows: int, epochs: float, length: float) -> tuple[str, float]:
    """(rows, tokens and steps in words, tokens) of a training; `--train max_steps=N` goes before the epochs."""
    per_epoch = -(-rows // settings.global_batch_size)
    steps = settings.train.get("max_steps") or max(1, round(epochs * per_epoch))
    tokens = rows * length * steps / per_epoch
    return f"{rows:,} rows x {steps / per_epoch:.3g}, {tokens:,.0f} tokens, {steps:,} steps", tokens


def _lengths(run: Run) -> dict[str, float]:
    """Mean tokens of rows, prompts and answers over the first rows of the data."""
    from model.chat import encode_chat

    def rows(build, items):
        for item in items:
            try:
                yield build(item, run.tokenizer, encode_chat, run.settings.max_length)
            except RowError:
                continue                                   # refused rows are counted when the stage makes its rows

    examples = list(islice(load_examples(run.data / "examples.jsonl"), SAMPLE))
    made = {"adaption": list(rows(adaption_row, islice(load_tools(run.data / "tools.jsonl"), SAMPLE))),
            "invocation": list(rows(invocation_row, examples)), "generation": list(rows(generation_row, examples))}
    for name, found in made.items():
        if not found and name != "generation":
            raise ValueError(f"none of the first {SAMPLE} {name} rows fits --max-length {run.settings.max_length}; "
                             "raise it, or see `tooldev.py stats`")
    made["generation"] = made["generation"] or made["adaption"]

    def supervised(found) -> float:
        return fmean(sum(label != IGNORE_INDEX for label in row.labels) for row in found)

    lengths = {name: fmean(len(row.ids) for row in found) for name, found in made.items()}
    answer = supervised(made["invocation"])
    return lengths | {"answer": answer, "prompt": lengths["invocation"] - answer,
                      "generation_answer": supervised(made["generation"])}


def _tokens_per_second(run: Run, length: int) -> tuple[float, float]:
    """(forward, forward and backward with LoRA) tokens per second, each from the second of two passes."""
    import torch

    from lora import apply_lora

    model = run.model()
    apply_lora(model, run.settings.rank, run.settings.alpha)
    rows = max(1, min(run.settings.micro_batch_tokens, 1024) // max(length, 1))
    ids = torch.randint(0, run.tokenizer.vocab_size, (1, rows * length), device=model.lm_head.weight.device)
    speeds = []
    for train in (False, True):
        model.train(train)
        for _ in range(2):
            began = time.perf_counter()
            with torch.set_grad_enabled(train):
                hidden = model.hidden_states(ids, lengths=[length] * rows)
                if train:
                    hidden.float().square().mean().backward()
            if ids.device.type == "cuda":
                torch.cuda.synchronize()
            spent = time.perf_counter() - began
        speeds.append(ids.numel() / spent)
    return speeds[0], speeds[1]
