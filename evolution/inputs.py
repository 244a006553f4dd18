"""What a round reads, checked and screened before anything is generated or written, and what makes it this round."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.contamination import Guard, load_guard
from data.schema import Example, Query, load_examples, load_queries, read_jsonl
from evolution.config import RoundConfig
from evolution.decide import choose_queries, screen_queries
from evolution.state import content_sha, earlier_examples, model_sha, require_start
from training.config import lasting


@dataclass(frozen=True)
class Inputs:
    """The inputs of one round; what repeats the benchmark is left out already, or (--overlaps list) only listed."""

    start: Path                             # adapter folder of Theta_i
    model_sha: str                          # of base and adapter: who writes the answers
    queries: list[Query]
    screened: list[dict[str, Any]]          # lines of rejected.jsonl: before anything was generated
    labelled: list[Example]
    earlier: list[Example]                  # accepted by the rounds before, for --accumulate
    validation: list[Example]
    overlaps: list[dict[str, str]]          # labelled and earlier examples that repeat the benchmark
    guard: Guard                            # the benchmark, to list what repeats it
    barred: Guard                           # the benchmark where what repeats it is dropped, else an empty one
    identity: dict[str, Any]                # what must be equal for two starts to be halves of one round

    def all_overlaps(self, accepted: list[Example], rejected: list[dict[str, Any]]) -> list[dict[str, str]]:
        """Everything that repeats the benchmark: dropped, or (--overlaps list) kept and told."""
        dropped = [{"id": line["id"], "in": line["stage"], "reason": line["reason"], "detail": line["detail"]}
                   for line in rejected if line["reason"].startswith("contaminated")]
        return [*self.overlaps, *dropped, *self.guard.compare("accepted", accepted)[1]]


def read_inputs(config: RoundConfig) -> Inputs:
    """Read everything a round needs, apart from the weights.

    Raises:
        ValueError: the step before is not complete, a file is damaged, or no query is left for this round.
    """
    run = Path(config.run)
    start = require_start(run, config.round)
    guard = load_guard(config.guard)
    drop = config.overlaps == "drop"
    barred = guard if drop else Guard()
    queries = [] if config.without("data") else choose_queries(load_queries(config.queries), config)
    kept, screened = screen_queries(queries, barred)
    labelled, validation = (load_examples(path) if path else [] for path in (config.labelled, config.validation))
    earlier = earlier_examples(run, config.round) if config.accumulate else []
    clean, overlaps = guard.compare("labelled", labelled)
    clean_earlier, more = guard.compare("accumulated", earlier)         # the guard may be newer than those rounds
    sha = model_sha(config.model, start)
    identity = {**config.identity(), "train": lasting(config.train), "model_sha": sha,
                "queries_sha": content_sha(query.to_dict() for query in queries),
                "labelled_sha": content_sha(example.to_dict() for example in labelled),
                "validation_sha": content_sha(example.to_dict() for example in validation),
                "guard_sha": content_sha(record for path in config.guard for _, record in read_jsonl(path))}
    return Inputs(start, sha, kept, screened, clean if drop else labelled, clean_earlier if drop else earlier,
                  validation, overlaps + more, guard, barred, identity)
