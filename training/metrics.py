"""What a run says of its steps: metrics.jsonl, the same as metrics.csv, and TensorBoard events where that is installed.

metrics.jsonl is the record that a checkpoint vouches for. The other two are copies for spreadsheets and for
`tensorboard --logdir`: after a restart the table is written anew from it, and the events of given-up steps are purged.
"""

import csv
import importlib.util
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.files import append_record, append_to, cut_to, naming, write_text
from data.schema import read_jsonl

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

COLUMNS = ("step", "loss", "lr", "grad_norm", "loss_scale", "skipped", "tokens", "supervised_tokens", "tok_per_s",
           "peak_mem_gb", "validation_loss")


class Metrics:
    """The files of one run, open: `add` a step's record, `close` at the end."""

    def __init__(self, out: Path, step: int) -> None:
        """Go on after `step`: later lines are given up."""
        self.out, path, table = out, out / "metrics.jsonl", out / "metrics.csv"
        if path.exists():
            cut_to(path, step)
        self.records = append_to(path)
        write_text(table, csv_line(COLUMNS) + "".join(csv_row(row) for _, row in read_jsonl(path)))
        self.table = table.open("a", encoding="utf-8", newline="")
        self.events = event_writer(out / "tensorboard", step)

    def add(self, record: dict[str, Any]) -> None:
        """Note one step; after this call a kill does not lose its line of metrics.jsonl."""
        append_record(self.records, record)
        with naming(self.table.name):
            self.table.write(csv_row(record))
            self.table.flush()
        if self.events is not None:
            for name in COLUMNS[1:]:
                if record.get(name) is not None:
                    self.events.add_scalar(f"train/{name}", record[name], record["step"])

    def close(self) -> None:
        for name, file in (("metrics.jsonl", self.records), ("metrics.csv", self.table)):
            with naming(self.out / name):                   # on a full disk closing fails like the last write did
                file.close()
        if self.events is not None:
            self.events.close()


def csv_row(record: dict[str, Any]) -> str:
    """The record as a line of the table; a value that is not there is empty."""
    return csv_line([record.get(name) for name in COLUMNS])


def csv_line(values: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def event_writer(folder: Path, step: int) -> "SummaryWriter | None":
    """Events from `step` on; None where tensorboard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter
    return SummaryWriter(str(folder), purge_step=step + 1)
