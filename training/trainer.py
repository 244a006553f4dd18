"""What one step touches: the model and its trained weights, the rows, the optimizer, the loss scale, the counters."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import nn

from data.batching import MicroBatch, deal, pack
from data.tasks import OBJECTIVES, Row
from model.sharding import is_sharded
from training.config import TrainConfig
from training.flat import FlatWeights
from training.interrupt import Interrupt
from training.optimizer import Muon
from training.processes import Processes


class LossScale:
    """Dynamic loss scale of fp16 (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2); 1 for other types.

    Halved when a gradient is not finite (the step is then skipped), doubled after `growth_interval` good steps in a
    row.
    """

    def __init__(self, enabled: bool, scale: float = 65536.0, growth_interval: int = 2000) -> None:
        self.enabled, self.scale, self.growth_interval = enabled, scale if enabled else 1.0, growth_interval
        self.good_steps = 0

    def update(self, finite: bool) -> None:
        """Learn from one step."""
        self.good_steps = self.good_steps + 1 if finite else 0
        if self.enabled and not finite:
            self.scale /= 2
        elif self.enabled and self.good_steps == self.growth_interval:
            self.scale, self.good_steps = min(self.scale * 2, 2.0**24), 0


@dataclass
class Trainer:
    """Everything that one step touches."""

    config: TrainConfig
    processes: Processes
    model: nn.Module
    rows: Sequence[Row]
    validation: Sequence[Row]
    flat: FlatWeights
    optimizer: torch.optim.AdamW | Muon
    loss_scale: LossScale
    total_steps: int
    say: Callable[[str], None]
    rows_sha256: str
    data_sha256: str | None         # of the file --data, where the rows were read from it
    base: dict[str, str]            # some of the frozen weights at the start; {} where there are none in a folder
    step: int = 0                   # global batches used
    skipped: int = 0                # of them, those whose gradient was not finite: no update, and the schedule waits
    skips_in_a_row: int = 0
    tokens: int = 0
    interrupt: Interrupt = field(default_factory=Interrupt)

    def micro_batches(self, rows: Sequence[Row]) -> list[MicroBatch]:
        """Rows, packed as this run packs them."""
        c = self.config
        return pack(rows, c.micro_batch_tokens, OBJECTIVES, max_rows=c.micro_batch_size, packed=c.packing)

    @property
    def sharded(self) -> bool:
        """Whether every pass is a meeting of the processes, so that all must run equally many."""
        return is_sharded(self.model)

    def dealt(self, batches: Sequence[MicroBatch]) -> Iterator[tuple[int, MicroBatch]]:
        """(index, micro-batch on the device) of this process; idle ones, too, where the base is sharded."""
        processes = self.processes
        for index, batch in deal(batches, processes.dist_rank, processes.world_size, equal=self.sharded):
            yield index, batch.to(processes.device)

    def meeting(self, what: str) -> AbstractContextManager[None]:
        """Around a pass: where it is a meeting, a report of a missing process says `what` it was missed in."""
        return self.processes.meeting(f"step {self.step + 1}, {what}") if self.sharded else nullcontext()

    @property
    def loss_chunk(self) -> int:
        """Supervised tokens whose logits exist at one time."""
        return self.config.loss_chunk_for(self.model.config.vocab_size)
