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
    """One forward pass: a pack (B = 1, rows end to end, `lengths` says where) or padded rows (`lengths` None).

    Padding lies at the end of a row and is never supervised, so plain causal attention keeps it out of the loss.
    """

    input_ids: Tensor               # (B, S) int64
    lengths: list[int] | None       # of the rows of a pack; they sum to S
    labels: Tensor                  # (B * S,) int64, shifted: the token after each input id, or IGNORE_INDEX
    objectives: Tensor              # (B * S,) int64: index of the row's objective in the list given to `pack`

    @property
    def tokens(self) -> int:
        """Tokens computed, padding included."""
        return self.labels.numel()

    def to(self, device: torch.device) -> "MicroBatch":
        """The same micro-batch on a device."""
        return MicroBatch(self.input_ids.to(device), self.lengths, self.labels.to(device), self.objectives.to(device))


def step_rows(num_rows: int, global_batch_size: int, step: int, seed: int) -> list[int]:
    """Indices of the rows of optimizer step `step` (from 0): the epoch's permutation, cut; its last may be short.

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


def pack(rows: Sequence[Row], micro_batch_tokens: int, objectives: Sequence[str] = (), *, max_rows: int = 0,
         packed: bool = True) -> list[MicroBatch]:
    """Split rows into micro-batches of at most `micro_batch_tokens` tokens, padding included (a longer row goes alone).

    Args:
        objectives: names that `MicroBatch.objectives` points into.
        max_rows: most rows in one micro-batch; 0 for no limit.
        packed: rows end to end without padding; otherwise padded rows, sorted so that neighbours have similar lengths.
    """
    lengths = [len(row.ids) for row in rows]
    groups = (bins if packed else padded_groups)(lengths, micro_batch_tokens, max_rows or len(rows))
    return [(collate if packed else pad)([rows[i] for i in group], objectives) for group in groups]


def bins(lengths: Sequence[int], capacity: int, max_rows: int) -> list[list[int]]:
    """First-fit-decreasing bin packing: positions of `lengths`, each group summing to `capacity` or less.

    Deterministic (ties by position). A length above the capacity gets a group of its own.
    """
    groups: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fit = next((g for g, free in enumerate(room) if free >= lengths[i] and len(groups[g]) < max_rows), None)
        if fit is None:
            groups.append([i])
            room.append(capacity - lengths[i])
        else:
            groups[fit].append(i)
            room[fit] -= lengths[i]
    return groups


def padded_groups(lengths: Sequence[int], capacity: int, max_rows: int) -> list[list[int]]:
    """Longest first: a group closes when one more row, padded to its longest, would go over the capacity."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if groups and len(groups[-1]) < max_rows and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= capacity:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def shifted(row: Row) -> Tensor:
    """Labels one to the left inside the row: its last token predicts nothing, so no row predicts the next."""
    return torch.cat((torch.as_tensor(row.labels, dtype=torch.int64)[1:], torch.full((1,), IGNORE_INDEX)))


def collate(rows: Sequence[Row], objectives: Sequence[str] = ()) -> MicroBatch:
    """Rows end to end."""
    lengths = [len(row.ids) for row in rows]
    ids = torch.cat([torch.as_tensor(row.ids, dtype=torch.int64) for row in rows])
    kinds = _kinds(rows, objectives).repeat_interleave(torch.tensor(lengths))
    return MicroBatch(ids[None], lengths, torch.cat([shifted(row) for row in rows]), kinds)


def pad(rows: Sequence[Row], objectives: Sequence[str] = ()) -> MicroBatch:
    """Rows one above the other, padded at their ends with token 0."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.int64)
    labels = torch.full((len(rows), longest), IGNORE_INDEX)
    for i, row in enumerate(rows):
        ids[i, :len(row.ids)] = torch.as_tensor(row.ids, dtype=torch.int64)
        labels[i, :len(row.ids)] = shifted(row)
    return MicroBatch(ids, None, labels.flatten(), _kinds(rows, objectives).repeat_interleave(longest))


def _kinds(rows: Sequence[Row], objectives: Sequence[str]) -> Tensor:
    return torch.tensor([objectives.index(row.objective) if objectives else 0 for row in rows])


def packing_efficiency(lengths: Sequence[int], capacity: int, max_rows: int = 0, packed: bool = True) -> float:
    """Fraction of the offered tokens that are real: of packs as long as the longest if packed, else of padded rows."""
    groups = (bins if packed else padded_groups)(lengths, capacity, max_rows or len(lengths))
    longest = max(sum(lengths[i] for i in group) for group in groups)
    offered = len(groups) * longest if packed else sum(len(group) * lengths[group[0]] for group in groups)
    return sum(lengths) / offered


def deal(micro_batches: Sequence[MicroBatch], dist_rank: int, world_size: int, *,
         equal: bool = False) -> list[tuple[int, MicroBatch]]:
    """(index, micro-batch) of one process: longest first, each to the process with the least work so far.

    The dealing depends on the lengths alone, so every process knows what the others have. `equal`: all get as many,
    filled up with idle ones, whose index is the number of real ones.
    """
    work, dealt = [0] * world_size, [0] * world_size
    mine: list[tuple[int, MicroBatch]] = []
    for index, batch in sorted(enumerate(micro_batches), key=lambda pair: -pair[1].tokens):
        to = work.index(min(work))
        work[to] += batch.tokens
        dealt[to] += 1
        if to == dist_rank:
            mine.append((index, batch))
    missing = max(dealt) - len(mine) if equal else 0
    return mine + [(len(micro_batches), idle(micro_batches[0]))] * missing


def idle(batch: MicroBatch) -> MicroBatch:
    """A micro-batch of one token, the first of `batch`, that is not supervised."""
    return MicroBatch(batch.input_ids[:1, :1], [1], torch.full((1,), IGNORE_INDEX), batch.objectives[:1])
