"""Rows to batches: which rows make a step, how they are packed, and what each process computes.

The global batch is a number of rows, drawn first, in an order that depends on the seed alone; only then is it packed
and split over processes. So the same rows make the same step whatever the number of processes or the packing.
Leaves out: how rows are made (tasks.py), and attention inside a pack (model/).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.tasks import IGNORE_INDEX, Row


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass: `lengths[i]` tokens of row i, one after another, no padding."""

    input_ids: Tensor       # (1, S) int64
    lengths: list[int]      # sums to S
    labels: Tensor          # (S,) int64, shifted: labels[t] is the token after input_ids[t], or IGNORE_INDEX
    objectives: Tensor      # (S,) int64: index of the row's objective in the list that was given to `pack`

    @property
    def tokens(self) -> int:
        return self.labels.numel()

    def to(self, device: torch.device) -> "MicroBatch":
        """The same micro-batch on a device."""
        return MicroBatch(self.input_ids.to(device), self.lengths, self.labels.to(device), self.objectives.to(device))


def step_rows(num_rows: int, global_batch_size: int, step: int, seed: int) -> list[int]:
    """Indices of the rows of optimizer step `step` (from 0): the epoch's permutation, cut; an epoch's last may be short.

    Nothing is carried from step to step, so a run resumes at any step without replaying the ones before.
    """
    steps_per_epoch = -(-num_rows // global_batch_size)
    epoch, within = divmod(step, steps_per_epoch)
    order = epoch_order(num_rows, epoch, seed)
    return order[within * global_batch_size:(within + 1) * global_batch_size]


_last_order: tuple[tuple[int, int, int], list[int]] | None = None


def epoch_order(num_rows: int, epoch: int, seed: int) -> list[int]:
    """The permutation of one epoch, from (seed, epoch) alone; the last one asked for is kept."""
    global _last_order
    key = (num_rows, epoch, seed)
    if _last_order is None or _last_order[0] != key:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        _last_order = (key, torch.randperm(num_rows, generator=generator).tolist())
    return _last_order[1]


def bins(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """First-fit-decreasing bin packing: positions of `lengths` grouped so that each group sums to `capacity` or less.

    Deterministic (ties by position). A length above the capacity gets a group of its own.
    """
    groups: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fit = next((g for g, free in enumerate(room) if free >= lengths[i]), None)
        if fit is None:
            groups.append([i])
            room.append(capacity - lengths[i])
        else:
            groups[fit].append(i)
            room[fit] -= lengths[i]
    return groups


def pack(rows: Sequence[Row], micro_batch_tokens: int, objectives: Sequence[str] = ()) -> list[MicroBatch]:
    """Pack rows (data.tasks.Row) into micro-batches of at most `micro_batch_tokens` tokens (a longer row goes alone).

    Labels are shifted here, inside each row: the last token of a row predicts nothing, so no row predicts the next.
    """
    groups = bins([len(row.ids) for row in rows], micro_batch_tokens)
    return [collate([rows[i] for i in group], objectives) for group in groups]


def collate(rows: Sequence[Row], objectives: Sequence[str] = ()) -> MicroBatch:
    """Put rows one after another into one micro-batch."""
    index = {name: i for i, name in enumerate(objectives)}
    ids = torch.cat([torch.as_tensor(row.ids, dtype=torch.int64) for row in rows])
    end = torch.full((1,), IGNORE_INDEX)
    labels = torch.cat([part for row in rows for part in (torch.as_tensor(row.labels, dtype=torch.int64)[1:], end)])
    lengths = [len(row.ids) for row in rows]
    kinds = torch.tensor([index.get(row.objective, 0) for row in rows])
    return MicroBatch(ids[None], lengths, labels, kinds.repeat_interleave(torch.tensor(lengths)))


def share(micro_batches: Sequence[MicroBatch], dist_rank: int, world_size: int) -> list[MicroBatch]:
    """The micro-batches of one process: longest first, each to the process with the least work so far.

    The dealing depends on the lengths alone, so every process can work out the share of every other.
    """
    work = [0] * world_size
    mine: list[MicroBatch] = []
    for batch in sorted(micro_batches, key=lambda batch: -batch.tokens):
        to = work.index(min(work))
        work[to] += batch.tokens
        if to == dist_rank:
            mine.append(batch)
    return mine
