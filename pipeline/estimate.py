"""What a run will cost, before it starts: rows, tokens, steps and minutes of every step, from a few timed passes here.

Rows are made from a sample of the data as the stages will make them, those too long left out. Generated text is assumed
as long as the labelled examples' own, and rates are those of training/costs.py. So minutes are estimates, and are
called that. A round is planned as if it accepted, and so trained on, every query.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from data.schema import load_examples, load_tools
from data.tasks import IGNORE_INDEX, Row, rows_for_stage
from evolution.config import RoundConfig
from pipeline.settings import RunSettings
from training.costs import Rates, duration

if TYPE_CHECKING:
    from pipeline.steps import Run, Step

SAMPLE = 128                # tools and examples whose rows are made to learn their number and length


def estimate(run: "Run", steps: "Sequence[Step]", counts: dict[str, int],
             benched: tuple[int, float] = (0, 0.0)) -> list[str]:
    """Lines to print: one per step and the total; `benched`: entries of benchmarks and the tokens of their prompts."""
    lengths = _lengths(run, [step.stage for step in steps if step.stage])
    rates = _rates(run, int(lengths["invocation"]))
    entries, prompts = benched
    tested = _asked(counts.get("test", 0), lengths)
    tested = {"read": tested["read"] + prompts, "written": tested["written"] + entries * lengths["answer"]}
    lines, total = [], 0.0
    for step in steps:
        facts, tokens = _step(run.settings, step, counts, lengths)
        seconds = rates.seconds(**tokens) + rates.seconds(**tested)
        total += seconds
        lines.append(f"{step.name:20} {facts:72} about {duration(seconds):>9}")
    after = f"{counts.get('test', 0)} test items{f' and {entries:,} entries of benchmarks' * bool(entries)}"
    lines.append(f"{'together':20} {after} after every step; {rates.trained:,.0f} tokens/s "
                 f"in training, {rates.read:,.0f} forward, measured now: about {duration(total)}"
                 f"{', less where rounds reject queries' * any(step.round for step in steps)}")
    return lines


def _asked(count: int, lengths: dict[str, float], samples: int = 1) -> dict[str, float]:
    """Tokens of so many prompts for calls, each answered `samples` times."""
    return {"read": count * lengths["prompt"], "written": count * samples * lengths["answer"]}


def _step(settings: RunSettings, step: "Step", counts: dict[str, int],
          lengths: dict[str, float]) -> tuple[str, dict[str, float]]:
    """(what the step does, its tokens without the test)."""
    if not step.stage:
        return "no training", {}
    if step.round:
        return _round(settings, step, counts, lengths)
    items = counts["tools" if step.stage == "adaption" else "examples"]
    epochs = settings.adaption_epochs if step.stage == "adaption" else settings.labelled_epochs
    facts, tokens = _training(settings, step.stage, items, epochs, lengths)
    return facts, {"trained": tokens}


def _round(settings: RunSettings, step: "Step", counts: dict[str, int],
           lengths: dict[str, float]) -> tuple[str, dict[str, float]]:
    """(what a round does, its tokens): probe and validation before the first and after each belong to it."""
    queries = settings.queries_per_round or counts["queries"]
    samples = settings.evolve.get("num_samples", RoundConfig.num_samples)
    calls = _asked(queries, lengths, samples)
    written = queries * lengths["generation_answer"] + calls["written"]
    answers = queries * (step.round if settings.evolve.get("accumulate") else 1)
    trained = answers + min(round(settings.evolve.get("mix", 0.0) * answers), counts["examples"])
    training_facts, tokens = _training(settings, "evolve", trained, settings.evolve_epochs, lengths)
    times = 2 if step.round == 1 else 1
    probed = _asked(times * min(settings.probe, counts["examples"]), lengths, samples)
    validated = _asked(times * counts.get("validation", 0), lengths)
    made = queries * (lengths["generation"] - lengths["generation_answer"])
    return (f"{queries:,} queries, {written:,.0f} tokens written, then {training_facts}",
            {"read": made + calls["read"] + probed["read"] + validated["read"],
             "written": written + probed["written"] + validated["written"], "trained": tokens})


def _training(settings: RunSettings, stage: str, items: int, epochs: float,
              lengths: dict[str, float]) -> tuple[str, float]:
    """(rows, tokens and steps in words, tokens) of a training; `--train max_steps=N` goes before the epochs."""
    rows = round(items * lengths[f"{stage} rows"])
    per_epoch = max(1, -(-rows // settings.global_batch_size))
    steps = settings.train.get("max_steps") or max(1, round(epochs * per_epoch))
    tokens = items * lengths[f"{stage} tokens"] * steps / per_epoch
    return f"{rows:,} rows x {steps / per_epoch:.3g}, {tokens:,.0f} tokens, {steps:,} steps", tokens


def _lengths(run: "Run", stages: Sequence[str]) -> dict[str, float]:
    """Of each stage its rows and their tokens, per tool or example; the mean tokens of rows, prompts and answers."""
    lengths: dict[str, float] = {}
    made: dict[str, list[Row]] = {}
    examples = _spread(load_examples(run.data / "examples.jsonl"))
    for stage in dict.fromkeys(("invocation", "evolve", *stages)):
        sample = _spread(load_tools(run.data / "tools.jsonl")) if stage == "adaption" else examples
        rows = _rows(run, stage, sample)
        if not rows:
            raise ValueError(f"none of the rows of {len(sample)} {stage} inputs fits --max-length "
                             f"{run.settings.max_length}; raise it, or see `tooldev.py stats`")
        lengths[f"{stage} rows"] = len(rows) / len(sample)
        lengths[f"{stage} tokens"] = sum(len(row.ids) for row in rows) / len(sample)
        for row in rows:
            made.setdefault(row.objective, []).append(row)
    made["generation"] = made.get("generation") or made["invocation"]

    def supervised(found: Sequence[Row]) -> float:
        return fmean(sum(label != IGNORE_INDEX for label in row.labels) for row in found)

    lengths |= {name: fmean(len(row.ids) for row in found) for name, found in made.items()}
    answer = supervised(made["invocation"])
    return lengths | {"answer": answer, "prompt": lengths["invocation"] - answer,
                      "generation_answer": supervised(made["generation"])}


def _spread(items: Sequence) -> Sequence:
    """Some from all over the data."""
    return items[::max(1, len(items) // SAMPLE)]


def _rows(run: "Run", stage: str, sample: Sequence) -> list[Row]:
    """The rows that the stage makes of these tools or examples."""
    from model.chat import encode_chat
    from training.config import TrainConfig
    from training.rows import fit

    config = TrainConfig(stage=stage, model=run.settings.model, **run.settings.training(stage))
    longest = config.max_length if config.too_long == "refuse" else 2**31
    rows, _ = rows_for_stage(stage, sample, run.tokenizer, encode_chat, longest, config.only_called, config.recipe,
                             config.prompt)
    return fit(rows, config.max_length, config.too_long)[0]


def _rates(run: "Run", length: int) -> Rates:
    """Of the base with fresh adapters, on rows of about that length."""
    from lora import apply_lora

    model = run.model()
    apply_lora(model, run.settings.rank, run.settings.alpha)
    return Rates.timed(model, length)
