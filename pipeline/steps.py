"""The method from end to end: raw model -> adaption -> joint training -> rounds of self-evolution, each measured.

`run_pipeline` is the whole story. Each step is a folder with its own marker; what is complete is read and not repeated,
so the same call after any interruption goes on where it stopped. The other variants of Table 3 are further steps of the
same kind.
"""

import dataclasses
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.files import BEGUN, begun_marker, held, refuse_foreign, writable, write_json
from data.schema import Example, load_examples, load_queries, load_tools, read_json
from data.world import value_match
from eval.exact import evaluate
from eval.report import write_report
from evolution.config import RoundConfig
from evolution.losses import FILE as LOSSES
from evolution.losses import measure_losses
from evolution.state import wait_until
from pipeline.estimate import estimate
from pipeline.settings import RunSettings, claim, refuse_edited, refuse_other_settings, round_settings, run_record
from tooldev import STEPS, VARIANTS
from training.processes import Processes
from training.processes import tell_first as say

if TYPE_CHECKING:
    from pipeline.run_bench import Benchmarks


@dataclass(frozen=True)
class Step:
    """One thing to do: `stage` "" only measures; `start` is the step whose adapter it goes on from, "" the base."""

    name: str
    stage: str
    start: str
    round: int = 0


def plan_steps(settings: RunSettings) -> list[Step]:
    """The steps of the wanted variants, each once, then the rounds (which start from the variant "joint")."""
    steps: dict[str, Step] = {}
    for variant in ("raw", *settings.variants):
        for name in VARIANTS[variant].steps:
            steps.setdefault(name, Step(name, *STEPS[name]))
    if "joint" in settings.variants:
        for number in range(1, settings.rounds + 1):
            before = "joint" if number == 1 else f"round-{number - 1}"
            steps[f"round-{number}"] = Step(f"round-{number}", "evolve", before, number)
    return list(steps.values())


class Run:
    """A run at work: its folder, settings, data, and the model under training.

    With a sharded base there are several processes. All take the same steps; files are the first one's.
    """

    def __init__(self, settings: RunSettings, out: Path, truth: dict[str, list[dict]] | None = None,
                 processes: Processes | None = None) -> None:
        from model import load_tokenizer

        self.processes, self.first = processes, processes is None or processes.dist_rank == 0
        self.settings, self.out, self.data, self.truth = settings, out, out / "data", truth
        self.tokenizer = load_tokenizer(settings.model)
        test = self.data / "test.jsonl"
        self.test: list[Example] = load_examples(test) if test.is_file() else []
        self.seconds: dict[str, float] = read_json(out / "seconds.json") if (out / "seconds.json").is_file() else {}

    def model(self, start: str = "") -> Any:
        """A fresh copy of the base, with the adapter of a step on it."""
        from lora import load_adapter
        from training.base import load_base

        shard = self.settings.train.get("shard", "off")
        model = load_base(self.settings.model, self.settings.precision, self.processes, shard, say)
        if start:
            load_adapter(model, self.out / start / "adapter")
        return model.eval()

    def do(self, step: Step) -> None:
        """Train (or evolve) one step and measure it."""
        began = time.monotonic()
        if step.round:
            self.evolve(step)
        elif step.stage:
            self.train(step)
        if not self.all_measured([step]):                       # a round measures itself
            self.measure(step.name, None)
        alone = self.processes is None                          # a shared-out base is too large for one process
        if step.round and alone and not (self.out / step.name / LOSSES).is_file():
            measure_losses(self.out / step.name, say=say)
        spent = time.monotonic() - began
        if self.first and spent > self.seconds.get(step.name, 0.0):     # a call that only reads takes no time to note
            self.seconds[step.name] = round(spent, 1)
            write_json(self.out / "seconds.json", self.seconds)

    def all_measured(self, steps: list[Step]) -> bool:
        """Whether the first process finds every step measured: the others may look after it has gone on."""
        found = all((self.out / step.name / "eval" / "summary.json").is_file() for step in steps)
        return found if self.processes is None else self.processes.first_says(found, "looking for measurements")

    def train(self, step: Step) -> None:
        from train import TrainConfig, run_training

        source = self.data / ("tools.jsonl" if step.stage == "adaption" else "examples.jsonl")
        adapter = str(self.out / step.start / "adapter") if step.start else ""
        run_training(TrainConfig(stage=step.stage, model=self.settings.model, adapter=adapter, data=str(source),
                                 out=str(self.out / step.name), **self.settings.training(step.stage)))

    def measure(self, name: str, model: Any, home: Path | None = None) -> dict[str, Any]:
        """Answer the test items with the model of a step; kept in its eval folder under `home` (default: the run's).

        With a model given this is the first process's, while the others are in step; else all of them come here. Where
        each has a base of its own they wait for its file, however long: what comes next is a meeting with a timeout.
        """
        from model.sharding import in_step, is_sharded

        if not self.test:
            return {}
        if model is not None:
            return self.answer(name, model, home)
        model = self.model("" if name == "raw" else name)
        with in_step(model, self.processes.joint_pass) if self.processes else nullcontext():
            summary = self.answer(name, model, home) if self.first else {}
        if not (self.first or is_sharded(model)):
            wait_until((self.out / name / "eval" / "summary.json").is_file)
        return summary

    def answer(self, name: str, model: Any, home: Path | None) -> dict[str, Any]:
        """The same on one process, in step with the others or alone."""
        from model.chat import render
        from sampler import generate

        given = self.settings.evolve
        pace = {option: given[option] for option in ("cache_gb", "max_rows") if option in given}
        pace["pack_weights"] = given.get("pack_weights")
        summary = evaluate(self.test, model, self.tokenizer, partial(generate, **pace), render,
                           (home or self.out) / name / "eval", max_new_tokens=self.settings.max_calls_tokens,
                           prompt=self.settings.prompt)
        shares = " | ".join(f"{part} {100 * cell['value']:.1f}%" for part, cell in summary["sets"].items())
        say(f"  {name}: exact match {100 * summary['all']['value']:.1f}% of {summary['items']} ({shares})")
        return summary

    def evolve(self, step: Step, home: Path | None = None, **changes: Any) -> dict[str, Any]:
        """Run one round in `home` (default: the run's folder) with its settings and these changes; the ledger."""
        from evolve import run_round

        where = {"run": str(home or self.out), "round": step.round}
        config = RoundConfig.from_dict({**round_settings(self.settings, self.data), **changes, **where})
        return run_round(config, None, self.tokenizer, judge=self.judge if self.truth else None,
                         evaluate=lambda model, _: self.measure(step.name, model.eval(), home))

    def judge(self, example: Example) -> dict[str, int] | None:
        """How many values of an accepted answer are those that the query named (the embedded world knows)."""
        if example.id not in self.truth:
            return None
        right, made, said = value_match(example.calls, self.truth[example.id])
        return {"right": right, "made": made, "said": said}


def check_data(data: Path, settings: RunSettings) -> dict[str, int]:
    """Read every input once, so that a bad row stops the run before any work; the number of rows of each."""
    counts = {"tools": len(load_tools(data / "tools.jsonl")), "examples": len(load_examples(data / "examples.jsonl")),
              "queries": len(load_queries(data / "queries.jsonl"))}
    for name in ("validation", "test"):
        if (data / f"{name}.jsonl").is_file():
            counts[name] = len(load_examples(data / f"{name}.jsonl"))
    for name, count in counts.items():
        if count == 0:
            raise ValueError(f"{data / name}.jsonl has no rows; every input of a run needs at least one")
    wanted = settings.rounds * settings.queries_per_round
    if counts["queries"] < wanted:
        raise ValueError(f"{counts['queries']} queries are fewer than {settings.rounds} rounds x "
                         f"{settings.queries_per_round}; give more queries or lower --queries-per-round")
    return counts


def print_plan(run: Run, steps: list[Step], counts: dict[str, int], benched: tuple[int, float]) -> None:
    """Stages, rows, tokens, steps and minutes, before anything is done. Minutes come from one timed pass here."""
    lines = estimate(run, steps, counts, benched)
    say("\n".join(["plan", *("  " + line for line in lines)]))


def run_pipeline(settings: RunSettings, out: str | Path,
                 prepare: Callable[[Path], dict[str, list[dict]] | None],
                 processes: Processes | None = None,
                 benchmarks: "Benchmarks | None" = None) -> dict[str, Any]:
    """Run (or finish) the method in the folder `out`; returns the report, which is also in report.{html,md,json}.

    Args:
        prepare: writes tools, examples, queries and, where there are any, validation and test rows as JSONL into the
            folder it is given, the same every time; returns what the queries really ask for, by id, where known.
        processes: those that share a sharded base out; all call this, and the first one writes.
        benchmarks: what every step is asked once it is complete, and not twice.

    Raises:
        ValueError: an input row is bad (file and line are named), or `out` holds a run with other settings, or another
            process is at work in it.
    """
    out = Path(out)
    if processes is not None and processes.dist_rank > 0:
        return work_through(settings, out, prepare, processes, benchmarks)
    writable(out)
    with held(out, "run"):
        return work_through(settings, out, prepare, processes, benchmarks)


def work_through(settings: RunSettings, out: Path, prepare: Callable[[Path], dict[str, list[dict]] | None],
                 processes: Processes | None, benchmarks: "Benchmarks | None") -> dict[str, Any]:
    """All steps that are not complete, on one process of the run; the first one writes the report and returns it."""
    first = processes is None or processes.dist_rank == 0
    truth = begin(settings, out, prepare) if first else None
    if processes is not None:
        processes.wait("the data of the run")
    run, steps = Run(settings, out, truth, processes), plan_steps(settings)
    if run.all_measured(steps):
        say(f"{out}: every step is complete; writing the report")
    else:
        print_plan(run, steps, check_data(run.data, settings), benchmarks.size(run) if benchmarks else (0, 0.0))
    for number, step in enumerate(steps, start=1):
        say(f"[{number}/{len(steps)}] {step.name}")
        run.do(step)
        if benchmarks:
            benchmarks.ask(run, step)
        if step.round and _stopped(run, step):
            say(f"  stopping after round {step.round}: {_stopped(run, step)}")
            break
    if not first:
        return {}
    report = write_report(out)
    say(f"report: {out / 'report.html'}")
    return report


def begin(settings: RunSettings, out: Path,
          prepare: Callable[[Path], dict[str, list[dict]] | None]) -> dict[str, list[dict]] | None:
    """Check the folder of the run and write its data and its run.json, or find them as they would be written."""
    data = out / "data"
    refuse_foreign(out, "run.json", *begun_marker(out, "tooldev.py run"))
    refuse_other_settings(out, {"settings": dataclasses.asdict(settings)})     # before the folder's data is touched
    refuse_edited(out)
    if not (out / "run.json").is_file():
        write_json(out / BEGUN, {"made_by": "tooldev.py run"})          # vouches for data/ until run.json does
    data.mkdir(exist_ok=True)
    truth = prepare(data)
    check_data(data, settings)
    claim(out, run_record(settings, data))
    (out / BEGUN).unlink(missing_ok=True)
    return truth


def _stopped(run: Run, step: Step) -> str | None:
    """Why no further round should follow (only where --stop-when asked for it)."""
    if not run.settings.evolve.get("stop_when"):
        return None
    return read_json(run.out / step.name / "ledger.json").get("stop")
