"""One round of self-evolution: new queries in, a better adapter out, with nothing but the model (paper, section 3.4).

    python evolve.py --round 4 --queries more.jsonl  # a fourth round of the newest run under runs/, on new queries
    torchrun --nproc-per-node 8 evolve.py --round 2 --run runs/a --queries more.jsonl

    queries -> candidate tools (Eq. 4) -> rule checker -> samples of the calls (Eq. 5) -> majority vote -> rule checker
            -> joint training on both objectives (Eq. 6) -> measurements -> ledger -> marker

A query is settled on its own, from (seed, round, id): not from its neighbours, their order, a restart or the number of
processes. Every one ends in accepted.jsonl or in rejected.jsonl with a stage and a reason. `evolve` is the whole story.
Its parts are in evolution/: inputs, generate (sampling), decide (verdicts), rows (what is trained on), probe, ledger;
and around it: config and flags, plan, state (files, restarts), trace.
"""

import dataclasses
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    from tooldev import fit_threads, hush_interrupts

    fit_threads()
    hush_interrupts()

from data.files import held, write_json, write_jsonl
from data.parse import Reason
from data.schema import Tool, read_json
from data.tasks import Row
from evolution.config import RoundConfig
from evolution.decide import by_hash, candidates_for, judge_tools, pool_of, read_tools, settle
from evolution.flags import make_parser, round_config
from evolution.generate import Writer, make_calls, make_tools
from evolution.inputs import Inputs, read_inputs
from evolution.ledger import Evolved, Judge, count_data, counts, stop_reason, summary
from evolution.plan import plan_lines, plan_round
from evolution.probe import Measure, measured_before
from evolution.rows import signed, training_examples, training_rows, training_settings
from evolution.state import Place, earlier_examples, refuse_stopped, require_start, round_is_done, wait_until
from sampler.shards import place_in_world
from tooldev import one_line
from training.base import load_base
from training.config import TrainConfig
from training.gate import check_model
from training.origin import check_base
from training.processes import LostProcess, Processes, hush, tell
from training.prompt import FILE, check_trainable
from training.sharing import sharing

if TYPE_CHECKING:
    from model import Tokenizer, Transformer

Evaluate = Callable[["Transformer", "Tokenizer"], dict[str, Any]]
ROUND_FILES = ("round.json", "tools.jsonl", "calls.jsonl", "accepted.jsonl", "rejected.jsonl", "refused_rows.jsonl",
               "overlaps.jsonl", "ledger.json")


@dataclass(frozen=True)
class Round:
    """One round at work in one process: its settings, its inputs, the model that writes, and where."""

    config: RoundConfig
    train: TrainConfig              # of Eq. 6
    inputs: Inputs
    writer: Writer
    place: Place
    seconds: dict[str, float] = field(default_factory=dict)             # of each phase, for the ledger

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Note how long a phase takes."""
        began = time.monotonic()
        yield
        self.seconds[phase] = time.monotonic() - began


# ------------------------------------------------------------------------------------------------------------ the story

def evolve(work: Round, evaluate: Evaluate | None, judge: Judge | None) -> dict[str, Any]:
    """The round itself, once everything is in place: data, training, measurements, ledger, marker -> the ledger."""
    config, inputs, writer, place = work.config, work.inputs, work.writer, work.place
    ledgers = [read_json(place.folder.parent / f"round-{n}" / "ledger.json") for n in range(1, config.round)]
    probed = by_hash(inputs.labelled, "probe")[:config.probe]
    measure = Measure(writer, probed, config.probe_draws(), inputs.validation, config.validation_draws())
    with writer.in_step():
        before = measured_before(place, ledgers, measure)

    data = Evolved(overlaps=inputs.overlaps) if config.without("data") else evolve_data(work)       # Eq. 4 and 5
    if place.first:
        data.write(place.folder)
    place.leave_progress()
    examples, sources = training_examples(data.accepted, inputs, config)
    rows, refused = training_rows(examples, writer.tokenizer, work.train)
    if place.first:
        write_jsonl(place.folder / "refused_rows.jsonl", [dataclasses.asdict(row) for row in refused])
    training = train_round(work, rows)                                                              # Eq. 6
    with writer.in_step():              # the first process measures; a sharded base needs the others in its passes
        after = {"probe": measure.probe(), "validation": measure.validate()} if place.first else {}
        evaluation = evaluate(writer.model, writer.tokenizer) if evaluate and place.first else None
    if not place.first:
        wait_until(lambda: round_is_done(place.folder))
        return read_json(place.folder / "ledger.json")

    asked = len(inputs.queries) + len(inputs.screened)
    ledger = {"round": config.round, "control": config.control, "seed": config.seed, "model_sha": inputs.model_sha,
              **count_data(data, asked, config.samples, earlier_examples(Path(config.run), config.round), judge),
              "examples": sources,
              "rows": {**counts(row.objective for row in rows), "refused": counts(row.reason for row in refused)},
              "training": training, "probe": {"before": before["probe"], "after": after["probe"]},
              "validation_before": before["validation"], "validation": after["validation"],
              "evaluation": evaluation}
    ledger["stop"] = stop_reason([*ledgers, ledger])
    ledger["seconds"] = {name: round(value, 2) for name, value in work.seconds.items()}
    write_json(place.folder / "ledger.json", ledger)
    place.mark_round([*ROUND_FILES, "adapter/adapter_model.safetensors"], round=config.round)
    place.clear_progress()
    writer.say(summary(ledger))
    return ledger


def evolve_data(work: Round) -> Evolved:
    """Equations 4 and 5 for every query: what the model wrote, and what became of it."""
    config, inputs, writer, place, queries = work.config, work.inputs, work.writer, work.place, work.inputs.queries

    def check(record: dict[str, Any]) -> tuple[Tool, ...] | Reason:
        return read_tools(record["text"], record["finish_reason"], inputs.barred, rules=config.voting.rules)

    with work.timed("tools"):
        tries = make_tools(writer, place, queries, config, check)                       # Eq. 4: T~ = f(x_q; Theta_i)
        made, rejected, tool_lines = judge_tools(queries, tries, check)                 # rule checker
    pool = pool_of(made, config)
    offered = {query.id: candidates_for(query, made, config, pool) for query in queries if query.id in made}
    with work.timed("calls"):
        samples = make_calls(writer, place, queries, offered, config)                   # Eq. 5: f_sampling(q, T~)

    texts = {line["id"]: line["text"] for line in tool_lines}               # the last try is the one that passed
    accepted, call_lines = [], []
    for query in (query for query in queries if query.id in offered):
        candidates = offered[query.id]
        outcome = settle(query, candidates.tools, samples[query.id], config.voting,     # majority vote, rule checker
                         candidates.distractors)
        call_lines.append(outcome.record)
        if outcome.example is None:
            rejected.append(outcome.rejected)
        else:
            accepted.append(signed(outcome.example, config, inputs.model_sha, texts[query.id], candidates.distractors))
    rejected = sorted(inputs.screened + rejected, key=lambda line: (line["id"], line["stage"], line["text"]))
    return Evolved(tool_lines, call_lines, accepted, rejected, inputs.all_overlaps(accepted, rejected))


def train_round(work: Round, rows: list[Row]) -> dict[str, Any]:
    """Eq. 6: joint training from Theta_i (or --init) -> Theta_{i+1} on the model, and in the folder `adapter`."""
    from lora import load_adapter, reset_adapter
    from train import run_training

    model, folder, say = work.writer.model, work.place.folder, work.writer.say
    if not rows:
        say("no row to train on: the adapter stays as it is")
        if work.place.first:
            shutil.copytree(work.inputs.start, folder / "adapter", dirs_exist_ok=True)
        return {"steps": 0, "final_loss": None, "skipped": 0, "tokens": 0}
    with work.timed("train"):
        if work.config.init == "base":
            reset_adapter(model, work.train.seed)
        result = run_training(work.train, rows=rows, model=model, tokenizer=work.writer.tokenizer,
                              progress=say is not hush)
        load_adapter(model, folder / "adapter")
        model.eval()
    return {"steps": result.steps, "final_loss": result.final_loss, "skipped": result.skipped, "tokens": result.tokens}


# ------------------------------------------------------------------------------------------------------- run one round

def run_round(config: RoundConfig, model: "Transformer | None" = None, tokenizer: "Tokenizer | None" = None, *,
              generate: Callable[..., Any] | None = None, evaluate: Evaluate | None = None, judge: Judge | None = None,
              progress: bool = True, plan_only: bool = False) -> dict[str, Any]:
    """Run (or finish, or just read) one round -> its ledger, which is also in ledger.json.

    Args:
        model, tokenizer: already loaded ones; the adapter of Theta_i is put on the model. None loads `config.model`.
        generate: what samples, with the signature of sampler.generate (the default).
        evaluate: called with the trained model and the tokenizer; its dict becomes the ledger's "evaluation".
        judge: {"made", "said", "right"} for an accepted example, where the truth is known: the values in its calls,
            those that the query named, and those that are both; None where it cannot tell.
        progress: tell on stderr, the plan first.
        plan_only: print the plan and return {}; nothing is written, so any settings may follow.

    Raises:
        ValueError: the round before is not complete, or the folder holds a round begun with something else.
    """
    run = Path(config.run)
    start = require_start(run, config.round)
    if config.stop_when:
        refuse_stopped(run, config.round)
    place = Place(run / f"round-{config.round}", *place_in_world())
    say = tell if progress and place.first else hush
    if model is None and tokenizer is None:
        tokenizer = check_model(config.model, start, say=say)
    elif model is None:
        refuse_damaged(config.model, start, say)
    inputs, train = read_inputs(config), training_settings(config, start, place.folder)

    def ready() -> Round:
        writer = make_writer(config, train, start, model, tokenizer, generate, say, processes)
        return Round(config, train, inputs, writer, place)

    alone = nullcontext() if plan_only else held(place.folder, "evolve", place.dist_rank)
    with sharing(train.shard, train.timeout_minutes) as processes, alone:
        if plan_only:
            say("\n".join(plan(ready())))
            return {}
        place.claim(inputs.identity)
        if round_is_done(place.folder):
            say(f"{place.folder} is complete; nothing to do")
            place.clear_progress()
            return read_json(place.folder / "ledger.json")
        work = ready()
        if say is not hush:
            say("\n".join(plan(work)))
        return evolve(work, evaluate, judge)


def refuse_damaged(base: str, adapter: Path, say: Callable[[str], None]) -> None:
    """Check a base by its files, and the adapter on it: a damaged one leaves no folder of a round behind."""
    from lora import load_adapter
    from model import load_model

    load_adapter(load_model(base, device="meta"), adapter)
    if note := check_base(base, adapter):
        say(note)


def make_writer(config: RoundConfig, train: TrainConfig, start: Path, model: "Transformer | None",
                tokenizer: "Tokenizer | None", generate: Callable[..., Any] | None,
                say: Callable[[str], None], processes: Processes | None) -> Writer:
    """Theta_i, ready to write: what was not handed in is loaded, and the adapter put on the model."""
    from lora import load_adapter
    from model import load_tokenizer
    from model.sharding import in_step
    from sampler.packing import packing_note

    if generate is None:
        from sampler import generate
    tokenizer = load_tokenizer(config.model) if tokenizer is None else tokenizer
    model = load_base(config.model, train.precision, processes, train.shard, say) if model is None else model
    load_adapter(model, start)
    model.eval()
    if config.pack_weights and packing_note(model):
        say(packing_note(model))
    together = partial(in_step, model, processes.joint_pass) if processes else nullcontext
    check_trainable(train.prompt, tokenizer, str(start / FILE))
    return Writer(model, tokenizer, generate, config.pace(train.max_length), say, say is not hush, train.prompt,
                  together)


def plan(work: Round) -> list[str]:
    """What the round will cost."""
    inputs, writer = work.inputs, work.writer
    cost = plan_round(work.config, work.train, inputs.queries, inputs.labelled, writer.tokenizer, len(inputs.earlier))
    return plan_lines(cost, work.config, work.train, writer.model, work.place.world_size)


# --------------------------------------------------------------------------------------------------------- command line

def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python evolve.py` and `torchrun evolve.py`.

    Exit code 2 for what the user can mend, 1 for a lost process, 130 after Ctrl-C, 143 after SIGTERM.
    """
    args = make_parser((__doc__ or "").partition("\n")[0]).parse_args(argv)
    try:
        run_round(round_config(args), plan_only=args.plan)
    except KeyboardInterrupt as stop:
        tell(f"\n{stop if str(stop) else 'interrupted; the same command goes on with what was finished'}")
        return getattr(stop, "code", 130)
    except (ValueError, OSError) as error:
        tell(f"error: {one_line(error)}")
        return 2
    except LostProcess as error:
        tell(f"error: {error}; the same command resumes")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
