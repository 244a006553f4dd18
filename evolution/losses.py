"""What a round did to the loss of the rows that it trained on: before and after, row by row.

`losses.jsonl` of a round's folder holds them for some of its accepted examples, for the report: {"id", "objective",
"before", "after", "supervised"}, losses a supervised token in nats. Training does not read it. The rows are those of
the example as it was accepted: what a recipe (data/augment.py) made of it depends on all that the round trained on.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.files import write_jsonl
from data.prompts import PAPER_PROMPT
from data.schema import Example, load_examples, read_json
from data.tasks import Refused, Row, rows_for_stage
from evolution.decide import by_hash
from evolution.state import require_start, round_is_done

if TYPE_CHECKING:
    from model import Tokenizer, Transformer

FILE = "losses.jsonl"
SOME = 40                   # examples of a round, where nobody asks for another number


def measure_losses(folder: Path, most: int = SOME, *, say: Callable[[str], None]) -> int:
    """Measure the rows of up to `most` accepted examples of a complete round, chosen by the hash of their ids -> rows.

    Raises:
        ValueError: the round is not complete, or the base or an adapter cannot be read.
    """
    from model import load_tokenizer
    from training.base import load_base

    if not round_is_done(folder):
        raise ValueError(f"{folder}: not a complete round; finish it first (python evolve.py --round N)")
    settings = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    chosen = by_hash(load_examples(folder / "accepted.jsonl"), "losses")[:most]
    if not (settings and chosen):                           # a round that accepted nothing has not trained
        write_jsonl(folder / FILE, [])
        return 0
    tokenizer = load_tokenizer(settings["model"])
    rows = {example.id: own_rows(example, settings, tokenizer)[0] for example in chosen}
    say(f"  {folder.name}: loss before and after of the rows of {len(chosen):,} accepted examples")
    model = load_base(settings["model"], settings.get("precision", "auto"))
    told = row_losses(model, began_with(folder, settings), folder / "adapter",
                      [row for found in rows.values() for row in found])
    write_jsonl(folder / FILE, [
        {"id": name, "objective": row.objective, "before": round(told[row.id][0], 6),
         "after": round(told[row.id][1], 6), "supervised": sum(label >= 0 for label in row.labels)}
        for name, found in rows.items() for row in found])
    return len(told)


def own_rows(example: Example, settings: dict[str, Any], tokenizer: "Tokenizer") -> tuple[list[Row], list[Refused]]:
    """The rows of one accepted example without a recipe, and those refused; `settings`: of the round's training."""
    from model.chat import encode_chat

    return rows_for_stage("evolve", [example], tokenizer, encode_chat, settings["max_length"],
                          settings.get("only_called", False), prompt=settings.get("prompt", PAPER_PROMPT))


def began_with(folder: Path, settings: dict[str, Any]) -> Path:
    """The adapter that a round's training began with: under `--init joint` that one, else the step before's."""
    step = Path(settings.get("adapter") or "none").parent.name
    named = folder.parent / step / "adapter"                                # the run may have been moved
    return named if named.is_dir() else require_start(folder.parent, int(folder.name.removeprefix("round-")))


def row_losses(model: "Transformer", before: Path, after: Path, rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """Mean loss per supervised token of every row, in nats, under the adapters `before` and `after`."""
    import torch
    import torch.nn.functional as F

    from lora import load_adapter

    found: dict[str, list[float]] = {row.id: [] for row in rows}
    device = model.lm_head.weight.device
    for adapter in (before, after):
        load_adapter(model, adapter)
        model.eval()
        for row in rows:
            ids, labels = (torch.tensor([values], device=device) for values in (row.ids, row.labels))
            with torch.inference_mode():
                found[row.id].append(F.cross_entropy(model(ids)[0, :-1].float(), labels[0, 1:]).item())
    return {name: tuple(values) for name, values in found.items()}
