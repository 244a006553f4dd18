"""One round of self-evolution: new queries in, a better adapter out, with nothing but the model (paper, section 3.4).

    python evolve.py --round 4 --queries more.jsonl  # a fourth round of the newest run under runs/, on new queries
    torchrun --nproc-per-node 8 evolve.py --round 2 --run runs/a --queries more.jsonl

    queries -> candidate tools (Eq. 4) -> rule checker -> samples of the calls (Eq. 5) -> majority vote -> rule checker
            -> joint training on both objectives (Eq. 6) -> measurements -> ledger -> marker

A query is settled on its own, from (seed, round, id): not from its neighbours, their order, a restart or the number of
processes. Every one ends in accepted.jsonl or in rejected.jsonl with a stage and a reason. `run_round` is the whole
story; `Round` holds its steps in order. Settings and flags, files, decisions and measurements: evolution/.
"""

import dataclasses
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from data.contamination import Guard, load_guard
from data.decoding import never_sampled
from data.parse import Reason
from data.prompts import Message, generation_messages, invocation_messages
from data.schema import (
    Example,
    Query,
    Tool,
    ToolCall,
    load_examples,
    load_queries,
    read_json,
    read_jsonl,
    sha256_text,
    write_json,
    write_jsonl,
)
from data.tasks import Row, rows_for_stage
from evolution.config import RoundConfig
from evolution.decide import (
    by_hash,
    candidates_for,
    choose_queries,
    read_answer,
    read_tools,
    rejection,
    screen_queries,
    settle,
    stage_seed,
)
from evolution.flags import make_parser, round_config
from evolution.ledger import make_ledger, stop_reason, summary
from evolution.probe import measured_before, probe, validate
from evolution.state import (
    Progress,
    claim,
    clear_progress,
    content_sha,
    earlier_examples,
    held,
    leave_progress,
    mark_round,
    model_sha,
    refuse_stopped,
    require_start,
    round_is_done,
    wait_until,
)
from sampler.consistency import early_decision
from tooldev import one_line
from training.base import load_base
from training.config import TrainConfig
from training.processes import LostProcess, hush, tell

ROUND_FILES = ("round.json", "tools.jsonl", "calls.jsonl", "accepted.jsonl", "rejected.jsonl", "refused_rows.jsonl",
               "overlaps.jsonl", "ledger.json")


# ------------------------------------------------------------------------------------------------------------- the round

@dataclass
class Round:
    """One round at work in one process."""

    config: RoundConfig
    folder: Path
    start: Path                                     # adapter folder of Theta_i
    model: Any
    tokenizer: Any
    generate: Callable[..., Any]
    say: Callable[[str], None]
    dist_rank: int = 0
    world_size: int = 1
    sha: str = ""
    guard: Guard = field(default_factory=Guard)
    queries: list[Query] = field(default_factory=list)
    screened: list[dict[str, Any]] = field(default_factory=list)      # rejected before anything was generated
    labelled: list[Example] = field(default_factory=list)
    earlier: list[Example] = field(default_factory=list)              # accepted by rounds before, for --accumulate
    overlaps: list[dict[str, str]] = field(default_factory=list)      # what repeats the benchmark
    seconds: dict[str, float] = field(default_factory=dict)
    passed: list[bool] = field(default_factory=list)                  # of this phase's items so far, for the progress line

    @property
    def max_length(self) -> int:
        return self.config.train.get("max_length", TrainConfig.max_length)

    def share(self) -> list[Query]:
        """This process's queries: by index, none twice, none padded."""
        return self.queries[self.dist_rank::self.world_size]

    def parts(self, queries: list[Query], done: set[str]) -> list[list[Query]]:
        """What is left to generate, one list per call of the sampler (see RoundConfig.chunk)."""
        if self.model.lm_head.weight.dtype.itemsize >= 4:
            return [[query for query in queries if query.id not in done]]
        size = self.config.chunk
        chunks = [queries[first:first + size] for first in range(0, len(queries), size)]
        return [chunk for chunk in chunks if any(query.id not in done for query in chunk)]

    def write(self, items: Sequence[tuple[str, list[Message]]], *, num_samples: int, max_new_tokens: int,
              temperature: float, top_k: int, seed: int, done: Callable[[str, list[dict[str, Any]]], None],
              decided: Callable[[str, int, str, str], bool] | None = None, words: Callable[[], str] | None = None) -> None:
        """Let the model answer the messages of every item; `done(id, samples)` as soon as one is complete.

        `decided(id, sample index, text, finish_reason)`, called when a sample ends, may cancel the item's others.
        `words` adds to the progress line.
        """
        from model.chat import render

        prompts = [render(messages, self.tokenizer)[0] for _, messages in items]

        def sample_ended(item: int, index: int, ids: list[int]) -> bool:
            reason = "length" if len(ids) >= max_new_tokens else "stop"
            return decided(items[item][0], index, self.tokenizer.decode(ids), reason)

        def item_ended(item: int, completions: Sequence[Any]) -> None:
            done(items[item][0], [{"text": self.tokenizer.decode(c.ids), "tokens": len(c.ids),
                                   "logprob": round(c.logprob, 6), "finish_reason": c.finish_reason}
                                  for c in completions])

        early = {"on_sample": sample_ended, "first_samples": num_samples // 2 + 1} if decided else {}
        if prompts:
            self.generate(self.model, prompts, num_samples=num_samples, max_new_tokens=max_new_tokens,
                          temperature=temperature, top_k=top_k, seed=seed, eos_ids=self.tokenizer.eos_ids,
                          item_ids=[name for name, _ in items], vocab_size=self.tokenizer.vocab_size,
                          banned_ids=never_sampled(self.tokenizer), on_item=item_ended, max_prompt_tokens=self.max_length,
                          cache_gb=self.config.cache_gb or None, max_rows=self.config.max_rows,
                          pack_weights=self.config.pack_weights, compile_decode=self.config.compile_decode,
                          progress=self.say is not hush and (words or True), **early)

    def words(self, part: int, parts: int) -> str:
        """What the progress line says of a phase: which call of the sampler, and the share that passed so far."""
        share = f"accepted {sum(self.passed) / len(self.passed):.0%}" if self.passed else ""
        return " | ".join(filter(None, [f"part {part} of {parts}" if parts > 1 else "", share]))

    # -- candidate tools (Eq. 4) --

    def read(self, record: dict[str, Any]) -> tuple[Tool, ...] | Reason:
        guard = self.guard if self.config.overlaps == "drop" else Guard()
        return read_tools(record["text"], record["finish_reason"], guard, rules=self.config.control != "no_rules")

    def make_tools(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Generate tools for every query, again where the rule checker rejects them -> records by (id, attempt)."""
        config, progress = self.config, Progress(self.folder / "progress", "tools", lambda r: (r["id"], r["attempt"]),
                                                 self.dist_rank, self.world_size)
        for attempt in range(config.retries + 1):
            records = progress.records()
            failed = {name for (name, n), record in records.items()
                      if n == attempt - 1 and isinstance(self.read(record), Reason)}
            wanted = [query for query in self.share() if attempt == 0 or query.id in failed]
            self.say(f"tools, try {attempt + 1}: {len(wanted)} queries")
            self.passed = []

            def done(name: str, samples: list[dict[str, Any]], attempt: int = attempt) -> None:
                record = {"id": name, "attempt": attempt, **samples[0]}
                progress.append(record)
                self.passed.append(not isinstance(self.read(record), Reason))

            parts = self.parts(wanted, {name for name, n in records if n == attempt})
            for number, part in enumerate(parts, start=1):
                self.write([(query.id, generation_messages(query.query)) for query in part], num_samples=1,
                           max_new_tokens=config.max_tools_tokens, temperature=config.tools_temperature,
                           top_k=config.tools_top_k, seed=stage_seed(config.seed, config.round, "tools", attempt),
                           done=done, words=partial(self.words, number, len(parts)))
        progress.finish()
        return progress.records()

    # -- tool invocation (Eq. 5) --

    def make_calls(self, candidates: dict[str, list[Tool]]) -> dict[str, dict[str, Any]]:
        """Sample the calls for every query that has tools -> records by id."""
        config = self.config
        progress = Progress(self.folder / "progress", "calls", lambda r: r["id"], self.dist_rank, self.world_size)
        wanted = [query for query in self.share() if query.id in candidates]
        self.say(f"calls: {len(wanted)} queries x {config.samples} samples")
        ended: dict[str, dict[int, list[ToolCall] | None]] = {}
        queries, self.passed = {query.id: query for query in wanted}, []

        def prefix(name: str) -> int | None:
            """Length of the shortest deciding prefix of the samples that have ended without a gap."""
            answers, known_here = [], ended.get(name, {})
            while len(answers) in known_here:
                answers.append(known_here[len(answers)])
            return early_decision(answers, candidates[name], config.samples, config.min_votes)

        def decided(name: str, index: int, text: str, finish_reason: str) -> bool:
            answer = read_answer(text, finish_reason)
            ended.setdefault(name, {})[index] = None if isinstance(answer, Reason) else answer
            return prefix(name) is not None

        def done(name: str, samples: list[dict[str, Any]]) -> None:
            length = (prefix(name) if config.early else None) or len(samples)
            ended.pop(name, None)
            record = {"id": name, "samples": samples[:length], "decided_early": length < len(samples)}
            progress.append(record)
            self.passed.append(settle(queries[name], candidates[name], record, config).rejected is None)

        parts = self.parts(wanted, set(progress.records()))
        for number, part in enumerate(parts, start=1):
            self.write([(query.id, invocation_messages(query.query, candidates[query.id])) for query in part],
                       num_samples=config.samples, max_new_tokens=config.max_calls_tokens,
                       temperature=config.calls_temperature, top_k=config.calls_top_k, done=done,
                       seed=stage_seed(config.seed, config.round, "calls"), decided=decided if config.early else None,
                       words=partial(self.words, number, len(parts)))
        progress.finish()
        return progress.records()

    # -- decisions --

    def evolve_data(self) -> dict[str, Any]:
        """Equations 4 and 5 for every query; process 0 writes the round's data files -> what the ledger needs."""
        config, began = self.config, time.monotonic()
        attempts = self.make_tools()
        made, rejected, tool_lines = self.judge_tools(attempts)
        texts = {line["id"]: line["text"] for line in tool_lines}              # the last try is the one that passed
        self.seconds["tools"] = time.monotonic() - began
        offered = {query.id: candidates_for(query, made, config) for query in self.queries if query.id in made}
        began = time.monotonic()
        records = self.make_calls({name: tools for name, (tools, _) in offered.items()})
        self.seconds["calls"] = time.monotonic() - began
        accepted, call_lines = [], []
        for query in self.queries:
            if query.id not in offered:
                continue
            candidates, distractors = offered[query.id]
            outcome = settle(query, candidates, records[query.id], config)
            call_lines.append(outcome.record)
            if outcome.rejected:
                rejected.append(outcome.rejected)
            else:
                accepted.append(self.signed(outcome.example, distractors, texts[query.id]))
        rejected = sorted(self.screened + rejected, key=lambda line: (line["id"], line["stage"], line["text"]))
        if self.dist_rank == 0:
            for name, rows in (("tools", tool_lines), ("calls", call_lines), ("accepted", accepted),
                               ("rejected", rejected), ("overlaps", self.list_overlaps(accepted, rejected))):
                write_jsonl(self.folder / f"{name}.jsonl", rows)
        return {"accepted": accepted, "rejected": rejected, "tools": tool_lines, "calls": call_lines}

    def judge_tools(self, attempts: dict) -> tuple[dict[str, tuple[Tool, ...]], list[dict], list[dict]]:
        """The rule checker over all tries -> (tools by query id, rejected lines, lines of tools.jsonl)."""
        made: dict[str, tuple[Tool, ...]] = {}
        rejected, lines = [], []
        for query in self.queries:
            tries = [attempts[query.id, n] for n in range(self.config.retries + 1) if (query.id, n) in attempts]
            for record in tries:
                verdict = self.read(record)
                bad = isinstance(verdict, Reason)
                lines.append({"id": query.id, "query": query.query, **record, "reason": verdict.code if bad else None, "detail": verdict.detail if bad else ""})
                if not bad:
                    made[query.id] = verdict
            if query.id not in made:
                rejected.append(rejection(query.id, "tools", verdict, tries[-1]["text"]))
        return made, rejected, lines

    def signed(self, example: Example, distractors: list[str], tools_text: str) -> Example:
        """The example with where it comes from."""
        origin = {"round": self.config.round, "model_sha": self.sha, "seed": self.config.seed, **example.provenance,
                  "tools_text_sha": sha256_text(tools_text)}
        if distractors:
            origin["distractors"] = distractors
        return dataclasses.replace(example, source="self", provenance=origin)

    def list_overlaps(self, accepted: list[Example], rejected: list[dict[str, Any]]) -> list[dict[str, str]]:
        """Everything that repeats the benchmark: dropped, or (--overlaps list) kept and told."""
        dropped = [{"id": line["id"], "in": line["stage"], "reason": line["reason"], "detail": line["detail"]}
                   for line in rejected if line["reason"].startswith("contaminated")]
        return [*self.overlaps, *dropped, *self.guard.compare("accepted", accepted)[1]]

    # -- training (Eq. 6) --

    def training_examples(self, accepted: list[Example]) -> tuple[list[Example], dict[str, int]]:
        """What the round trains on, in an order that depends on ids only, and how much of it comes from where."""
        config = self.config
        wanted = round(config.mix * (len(accepted) + len(self.earlier)))
        if config.control == "labelled_only":
            wanted = len(self.labelled)
        mixed = by_hash(self.labelled, config.seed, config.round, "mix")[:wanted]
        counts = {"evolved": len(accepted), "accumulated": len(self.earlier), "labelled": len(mixed)}
        return [*accepted, *self.earlier, *mixed], counts

    def rows(self, examples: list[Example]) -> list[Row]:
        """Training rows of the examples; what is too long is listed in refused_rows.jsonl."""
        from model.chat import encode_chat

        only_called = self.config.train.get("only_called", TrainConfig.only_called)
        rows, refused = rows_for_stage("evolve", examples, self.tokenizer, encode_chat, self.max_length, only_called)
        if self.dist_rank == 0:
            write_jsonl(self.folder / "refused_rows.jsonl", [dataclasses.asdict(row) for row in refused])
        return rows

    def training_settings(self) -> TrainConfig:
        """The settings of the joint training: the run's, over the start adapter's shape and (where the run gives none) a seed of the round."""
        from lora.adapter import read_config

        config, shape = self.config, read_config(self.start)
        start = {"previous": self.start, "joint": self.folder.parent / "joint" / "adapter", "base": ""}[config.init]
        ours = {"seed": stage_seed(config.seed, config.round, "train") % 2**31, "rank": shape["r"],
                "alpha": float(shape["lora_alpha"]), "targets": ",".join(shape["target_modules"])}
        return TrainConfig(stage="evolve", model=config.model, adapter=str(start), out=str(self.folder),
                           data=str(self.folder / "accepted.jsonl"), **{**ours, **config.train})

    def plan(self) -> list[str]:
        """What the round will cost."""
        from evolution.plan import plan_lines, plan_round

        train, weight = self.training_settings(), self.model.lm_head.weight
        plan = plan_round(self.config, train, self.queries, self.labelled, self.tokenizer, len(self.earlier))
        return plan_lines(plan, self.config, train, self.model.config, weight.device, weight.dtype, self.world_size)

    def train(self, rows: list[Row]) -> dict[str, Any]:
        """Joint training from Theta_i (or --init) -> Theta_{i+1} in the folder `adapter`."""
        from lora import load_adapter, reset_adapter
        from train import run_training

        config, began = self.config, time.monotonic()
        if not rows:
            self.say("no row to train on: the adapter stays as it is")
            if self.dist_rank == 0:
                shutil.copytree(self.start, self.folder / "adapter", dirs_exist_ok=True)
            return {"steps": 0, "final_loss": None, "skipped": 0, "tokens": 0}
        settings = self.training_settings()
        if config.init == "base":
            reset_adapter(self.model, settings.seed)
        result = run_training(settings, rows=rows, model=self.model, tokenizer=self.tokenizer,
                              progress=self.say is not hush)
        load_adapter(self.model, self.folder / "adapter")
        self.model.eval()
        self.seconds["train"] = time.monotonic() - began
        return {"steps": result.steps, "final_loss": result.final_loss, "skipped": result.skipped,
                "tokens": result.tokens}

    def probe(self) -> dict[str, Any] | None:
        """The fixed probe set under the weights that the model has now."""
        return probe(self.write, by_hash(self.labelled, "probe")[:self.config.probe], self.config)


# ------------------------------------------------------------------------------------------------------- run one round

def run_round(config: RoundConfig, model: Any = None, tokenizer: Any = None, *, generate: Callable[..., Any] | None = None,
              evaluate: Callable[[Any, Any], dict[str, Any]] | None = None,
              judge: Callable[[Example], dict[str, int] | None] | None = None, progress: bool = True,
              plan_only: bool = False) -> dict[str, Any]:
    """Run (or finish, or just read) one round -> its ledger, which is also in ledger.json.

    Args:
        model, tokenizer: already loaded ones; the adapter of Theta_i is put on the model. None loads `config.model`.
        generate: what samples, with the signature of sampler.generate (the default).
        evaluate: called with the trained model and the tokenizer; its dict becomes the ledger's "evaluation".
        judge: {"made", "said", "right"} for an accepted example, where the truth is known: the values in its calls, those
            that the query named, and those that are both; None where it cannot tell.
        progress: tell on stderr, the plan first.
        plan_only: print the plan and return {}; nothing is written, so any settings may follow.

    Raises:
        ValueError: the round before is not complete, or the folder holds a round begun with something else.
    """
    rank = int(os.environ.get("RANK", "0"))
    require_start(Path(config.run), config.round)
    if config.stop_when:
        refuse_stopped(Path(config.run), config.round)
    work, identity = open_round(config, model, tokenizer, generate, progress)
    if plan_only:
        work.say("\n".join(seat_model(work).plan()))
        return {}
    with held(work.folder, rank):
        claim(work.folder, identity, rank)
        if round_is_done(work.folder):
            work.say(f"{work.folder} is complete; nothing to do")
            clear_progress(work.folder)
            return read_json(work.folder / "ledger.json")
        seat_model(work)
        if work.say is not hush:
            work.say("\n".join(work.plan()))
        return finish_round(work, evaluate, judge)


def finish_round(work: Round, evaluate: Callable[[Any, Any], dict[str, Any]] | None,
                 judge: Callable[[Example], dict[str, int] | None] | None) -> dict[str, Any]:
    """The round itself, once everything is in place: data, training, measurements, ledger, marker."""
    config = work.config
    earlier = [read_json(work.folder.parent / f"round-{n}" / "ledger.json") for n in range(1, config.round)]
    validation = load_examples(config.validation) if config.validation else []
    before = measured_before(work, earlier, validation)
    data = {"accepted": [], "rejected": [], "tools": [], "calls": []}
    if config.control != "labelled_only":
        data = work.evolve_data()
    elif work.dist_rank == 0:
        for name in data:
            write_jsonl(work.folder / f"{name}.jsonl", [])
        write_jsonl(work.folder / "overlaps.jsonl", work.overlaps)
    leave_progress(work.folder, work.dist_rank, work.world_size)
    examples, sources = work.training_examples(data["accepted"])
    rows = work.rows(examples)
    training = work.train(rows)
    if work.dist_rank != 0:
        wait_until(lambda: round_is_done(work.folder))
        return read_json(work.folder / "ledger.json")
    ledger = make_ledger(work, data, before, training, sources, rows, judge)
    ledger["probe"]["after"], ledger["validation"] = work.probe(), validate(work.write, validation, config)
    ledger["evaluation"] = evaluate(work.model, work.tokenizer) if evaluate else None
    ledger["stop"] = stop_reason([*earlier, ledger])
    ledger["seconds"] = {name: round(value, 2) for name, value in work.seconds.items()}
    write_json(work.folder / "ledger.json", ledger)
    mark_round(work.folder, [*ROUND_FILES, "adapter/adapter_model.safetensors"], round=config.round)
    clear_progress(work.folder)
    work.say(summary(ledger))
    return ledger


def open_round(config: RoundConfig, model: Any, tokenizer: Any, generate: Any,
               progress: bool) -> tuple[Round, dict[str, Any]]:
    """Check the inputs and lay out the work -> (the round, what makes it this one); nothing is generated or written.

    A base that is not handed in is checked by its files, and so is the adapter on it: a damaged one leaves no folder behind.
    """
    run, rank, size = Path(config.run), int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    start = require_start(run, config.round)
    if model is None:
        from lora import load_adapter
        from model import load_model
        load_adapter(load_model(config.model, device="meta"), start)
    folder = run / f"round-{config.round}"
    guard = load_guard(config.guard)
    queries = choose_queries(load_queries(config.queries), config) if config.control != "labelled_only" else []
    kept, screened = screen_queries(queries, guard if config.overlaps == "drop" else Guard())
    labelled, validation = (load_examples(path) if path else [] for path in (config.labelled, config.validation))
    earlier = earlier_examples(run, config.round) if config.accumulate else []
    clean, overlaps = guard.compare("labelled", labelled)
    clean_earlier, more = guard.compare("accumulated", earlier)          # the guard may be newer than those rounds
    if config.overlaps == "list":
        clean, clean_earlier = labelled, earlier
    if generate is None:
        from sampler import generate
    work = Round(config, folder, start, model, tokenizer, generate, tell if progress and rank == 0 else hush, rank, size,
                 model_sha(config.model, start), guard, kept, screened, clean, clean_earlier, overlaps + more)
    free = {spec.name for spec in dataclasses.fields(TrainConfig) if spec.metadata.get("free")}
    settings = {key: value for key, value in config.train.items() if key not in free}
    return work, {**config.identity(), "train": settings, "model_sha": work.sha,
                  "queries_sha": content_sha(query.to_dict() for query in queries),
                  "labelled_sha": content_sha(example.to_dict() for example in labelled),
                  "validation_sha": content_sha(example.to_dict() for example in validation),
                  "guard_sha": content_sha(record for path in config.guard for _, record in read_jsonl(path))}


def seat_model(work: Round) -> Round:
    """Load what was not handed in, and put the adapter of Theta_i on the model."""
    from lora import load_adapter

    if work.tokenizer is None:
        from model import load_tokenizer
        work.tokenizer = load_tokenizer(work.config.model)
    if work.model is None:
        work.model = load_base(work.config.model, work.config.train.get("precision", "auto"))
    load_adapter(work.model, work.start)
    work.model.eval()
    return work


# ---------------------------------------------------------------------------------------------------------- command line

def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python evolve.py` and `torchrun evolve.py`."""
    args = make_parser(__doc__.splitlines()[0]).parse_args(argv)
    try:
        run_round(round_config(args), plan_only=args.plan)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except (ValueError, OSError, LostProcess) as err:
        print(f"error: {one_line(err)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
