"""Choices of a round's training, tried on development items of the generated world.

    python tooldev.py ablate --first-seed 11 --seeds 2 --out runs/ablation
    python benchmarks/round_choices.py runs/ablation/seed-11 runs/ablation/seed-12 --out runs/choices

Nothing is sampled again: each choice trains on what the run's rounds wrote, and answers items that no run is tested on
(`data.world.test_items`, --items of them of unlabelled domains, a third as many of labelled ones, by a seed of their
own). Against joint training and the method's own last round:

    rate_half, rate_fifth   the method's last round again, at a half and a fifth of its learning rate
    unsure                  only queries whose answer won two or three of five votes, as Tool-R0 chooses its tasks
    any                     as many of the method's accepted answers, drawn by hash, for as many steps
    prefer_*                preferences: from the method's last round on, the vote's winner against the samples that
                            lost (DPO, Rafailov et al. 2023, arXiv:2305.18290, eq. 7), at the learning rate named

An arm that has its answers in --out is not repeated.
"""

import argparse
import dataclasses
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.answer_rules import Voted, rounds_of, votes
from benchmarks.machine import describe
from data.batching import collate
from data.canonical import canonical_answer
from data.parse import Reason
from data.prompts import invocation_messages
from data.schema import Example, load_examples
from data.tasks import IGNORE_INDEX, Row
from data.world import test_items, wholly_right
from eval.exact import evaluate, verdicts_of
from eval.report.page import interval
from eval.uncertainty import paired_bootstrap, proportion
from evolution.config import RoundConfig
from evolution.decide import by_hash, read_answer, settle
from evolution.rows import training_rows, training_settings
from lora import load_adapter, save_adapter
from model import Transformer
from model.chat import encode_chat, render
from pipeline.settings import RunSettings, round_settings
from pipeline.steps import Run
from sampler import generate
from train import run_training

DEVELOPMENT_SEED = 7777
RATES = {"rate_half": 0.5, "rate_fifth": 0.2}
PREFER = {"prefer_1e-4": 1e-4, "prefer_5e-4": 5e-4}
BETA = 0.1                          # how far from the start a preference may lead
PAIRS = 8                           # of one step
PASSES = 2
ARMS = ("joint", "method", *RATES, "unsure", "any", *PREFER)


# ----------------------------------------------------------------------------------------------- answers by their votes

def accepted(voted: Sequence[Voted], least: int = 3, most: int = 5) -> list[Example]:
    """What the rounds' rule accepts of the queries whose winner had so many votes."""
    found = (settled(one, least) for one in voted)
    return [example for example in found if example is not None and example.provenance["votes"] <= most]


def settled(one: Voted, least: int = 3) -> Example | None:
    """The example that a query gives where its winner has so many votes and the values of the query."""
    return settle(one.query, one.candidates, one.record, votes(least, grounded=True), one.distractors).example


def with_labelled(taught: Sequence[Example], run: Run) -> list[Example]:
    """The answers and as many labelled examples, as in a round."""
    labelled = by_hash(load_examples(run.data / "examples.jsonl"), run.settings.seed, run.settings.rounds, "mix")
    return [*taught, *labelled[:len(taught)]]


def train_on(taught: Sequence[Example], run: Run, out: Path, factor: float = 1.0) -> None:
    """The last round's training, on these examples and at this part of its rate."""
    config = RoundConfig.from_dict({**round_settings(run.settings, run.data), "round": run.settings.rounds,
                                    "run": str(run.out)})
    settings = training_settings(config, run.out / "joint" / "adapter", out)
    settings = dataclasses.replace(settings, adapter=str(run.out / "joint" / "adapter"),
                                   learning_rate=factor * settings.learning_rate)
    rows, _ = training_rows(with_labelled(taught, run), run.tokenizer, settings)
    run_training(settings, rows)


# --------------------------------------------------------------------------------------------------------- preferences

def pairs_of(voted: Sequence[Voted], run: Run) -> list[tuple[Row, Row]]:
    """(winner, loser): each accepted answer as it was sampled, against each other answer to the same prompt."""
    pairs = []
    for one in voted:
        example = settled(one)
        if example is None:
            continue
        winner, losers = "", []
        for sample in one.record["samples"]:
            calls = read_answer(sample["text"], sample["finish_reason"])
            if not isinstance(calls, Reason) and \
                    canonical_answer(calls, one.candidates) == canonical_answer(example.calls, one.candidates):
                winner = winner or sample["text"]
            elif sample["finish_reason"] == "stop":
                losers.append(sample["text"])
        messages = invocation_messages(one.query.query, one.candidates, run.settings.prompt)
        pairs += [tuple(Row(one.query.id, "invocation", *encode_chat(
            [*messages, {"role": "assistant", "content": text}], run.tokenizer)) for text in (winner, loser))
            for loser in dict.fromkeys(losers)]
    return pairs


def answer_logprobs(model: Transformer, rows: Sequence[Row]) -> Tensor:
    """(rows,) log-probability of each row's answer, in float32."""
    batch = collate(rows)
    hidden = model.hidden_states(batch.input_ids, lengths=batch.lengths).flatten(0, 1)
    at = torch.nonzero(batch.labels != IGNORE_INDEX).squeeze(1)
    logits = (hidden[at] @ model.lm_head.weight.t()).float()
    token = -F.cross_entropy(logits, batch.labels[at], reduction="none")
    row_of = torch.arange(len(rows)).repeat_interleave(torch.tensor(batch.lengths))[at]
    return torch.zeros(len(rows)).index_add(0, row_of, token)


def margins(model: Transformer, pairs: Sequence[tuple[Row, Row]]) -> Tensor:
    """(pairs,) log-probability of the winners minus that of the losers."""
    wins, losses = answer_logprobs(model, [row for pair in pairs for row in pair]).view(-1, 2).unbind(1)
    return wins - losses


def prefer(pairs: Sequence[tuple[Row, Row]], run: Run, out: Path, rate: float) -> None:
    """DPO from the method's last round on, whose model is the reference; linearly decaying rate, AdamW, no clipping."""
    model = run.model(f"round-{run.settings.rounds}")
    with torch.no_grad():
        reference = torch.cat([margins(model, pairs[i:i + PAIRS]) for i in range(0, len(pairs), PAIRS)])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    order = [i for turn in range(PASSES) for i in random.Random(turn).sample(range(len(pairs)), len(pairs))]
    batches = [order[i:i + PAIRS] for i in range(0, len(order), PAIRS)]
    for number, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - number / len(batches))
        loss = -F.logsigmoid(BETA * (margins(model, [pairs[i] for i in batch]) - reference[batch])).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if number % 10 == 0:
            print(f"  {out.name}: step {number + 1} of {len(batches)}, loss {loss.item():.4f}", flush=True)
    save_adapter(model, out / "adapter", base_model=run.settings.model)


# ------------------------------------------------------------------------------------------------------------- the arms

def arm(name: str, run: Run, out: Path) -> Path:
    """The folder with the adapter of an arm, trained where it is not there yet."""
    if name in ("joint", "method"):
        return run.out / ("joint" if name == "joint" else f"round-{run.settings.rounds}")
    if (out / "adapter").is_dir():
        return out
    voted = list(rounds_of(run.out))
    if name in PREFER:
        prefer(pairs_of(voted, run), run, out, PREFER[name])
    else:
        taught = accepted(voted)
        if name in ("unsure", "any"):
            unsure = accepted(voted, 2, 3)
            taught = unsure if name == "unsure" else by_hash(taught, run.settings.seed, "any")[:len(unsure)]
        train_on(taught, run, out, RATES.get(name, 1.0))
    return out


def measure(name: str, run: Run, items: Sequence[Example], out: Path) -> None:
    """Train an arm and ask it the items; kept in its eval folder."""
    if (out / "eval" / "summary.json").is_file():
        return
    folder, model = arm(name, run, out), run.model()
    load_adapter(model, folder / "adapter")
    found = evaluate(items, model.eval(), run.tokenizer, partial(generate, pack_weights=None), render, out / "eval",
                     max_new_tokens=run.settings.max_calls_tokens, prompt=run.settings.prompt)
    print(f"{run.out.name} {name}: {100 * found['all']['value']:.1f}%", flush=True)


def counted(run: Run) -> Iterator[str]:
    """What the choices of answers have to choose from, in words."""
    voted = list(rounds_of(run.out))
    truth = {one.query.id: one.truth for one in voted}
    for name, taught in (("accepted", accepted(voted)), ("unsure", accepted(voted, 2, 3))):
        right = sum(wholly_right(example.calls, truth[example.id]) for example in taught)
        yield f"{name} {len(taught)}, {right} of them wholly right"
    pairs = pairs_of(voted, run)
    judged = Counter(tuple(judged_right(row, truth[row.id], run) for row in pair) for pair in pairs)
    yield (f"{len(pairs)} pairs of winner and loser, of {len({win.id for win, _ in pairs})} queries; both right "
           f"{judged[True, True]}, the winner alone {judged[True, False]}, the loser alone {judged[False, True]}, "
           f"neither {judged[False, False]}")


def judged_right(row: Row, truth: list[dict], run: Run) -> bool:
    """Whether a sampled answer has the values that the query asks for."""
    calls = read_answer(run.tokenizer.decode([token for token in row.labels if token != IGNORE_INDEX]), "stop")
    return not isinstance(calls, Reason) and wholly_right(calls, truth)


def table(out: Path, runs: Sequence[Run], arms: Sequence[str]) -> list[str]:
    """Pooled scores, and each arm against the method and against joint training, paired."""
    found = {name: [one for run in runs for one in verdicts_of(out / run.out.name / name / "eval")] for name in arms}
    right = {part: {name: [one["outcome"] == "right" for one in rows if one["set"] == part]
                    for name, rows in found.items()} for part in ("unlabelled", "labelled")}
    lines = ["| arm | unlabelled domains | minus joint training | minus the method | labelled domains |",
             "|---|---|---|---|---|"]
    for name in arms:
        own = right["unlabelled"][name]
        lines.append("| " + " | ".join([
            name, share(own), *(difference(right["unlabelled"][other], own) if other != name else ""
                                for other in ("joint", "method")), share(right["labelled"][name])]) + " |")
    return lines


def share(right: Sequence[bool]) -> str:
    return interval(proportion(sum(right), len(right)).to_dict())


def difference(before: Sequence[bool], after: Sequence[bool]) -> str:
    found = paired_bootstrap([float(x) for x in before], [float(x) for x in after])
    return f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="seeds of a finished `ablate`")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--items", type=int, default=600, help="development items of unlabelled domains")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    args = parser.parse_args()
    items = test_items(args.items // 3, args.items, 0, seed=DEVELOPMENT_SEED)
    runs = [Run(RunSettings.of_run(folder), folder) for folder in args.runs]
    for run in runs:
        for name in args.arms:
            measure(name, run, items, args.out / run.out.name / name)
    print(describe())
    for run in runs:
        print(f"{run.out.name}: {'; '.join(counted(run))}.")
    print()
    print("\n".join(table(args.out, runs, args.arms)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
