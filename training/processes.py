"""The processes of a run: torchrun's environment, the device, collectives that say which is missing, the printing."""

import datetime
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

import torch
import torch.distributed as dist
from torch import Tensor


class Processes(AbstractContextManager):
    """This process among the others. Without torchrun: one process, and every collective is free.

    Before each collective a process notes where it is in torchrun's store, and every second that it lives. One that
    waits longer than `timeout_seconds` reads the notes of all, says which processes are missing and where they were
    last, and ends this run.
    """

    _count = 0                      # meetings so far, of all objects of this class: the store outlives them

    def __init__(self, timeout_seconds: float = 1800.0) -> None:
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self.dist_rank = int(os.environ.get("RANK", "0"))
        self.device = torch.device("cpu")
        if torch.cuda.is_available():
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)
            check_kernels(torch.cuda.get_device_capability(self.device), torch.cuda.get_arch_list())
        self.timeout_seconds, self._waiting_since, self._closed = timeout_seconds, None, False
        self._beat = min(1.0, timeout_seconds / 4)          # seconds between two signs of life
        self._ours = not dist.is_initialized()              # a caller's group is the caller's to end
        self.voters: dist.ProcessGroup | None = None        # those that share a base with this one; None: all
        if self.world_size > 1:
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            # The library's own limit is longer, so that this class reports first.
            limit = datetime.timedelta(seconds=2 * timeout_seconds + 60)
            if self._ours:
                dist.init_process_group(backend, timeout=limit)
            self._store = dist.distributed_c10d._get_default_store()
            threading.Thread(target=self._watch, daemon=True).start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)

    def all_reduce(self, tensor: Tensor, where: str) -> Tensor:
        """Sum over processes, in place; `where` is what a report of a missing process would say."""
        if self.world_size > 1:
            self._collective(where, lambda: dist.all_reduce(tensor))
        return tensor

    def broadcast(self, tensor: Tensor, where: str) -> Tensor:
        """The first process's values, in place."""
        if self.world_size > 1:
            self._collective(where, lambda: dist.broadcast(tensor, src=0))
        return tensor

    def first_says(self, answer: bool, where: str) -> bool:
        """The first process's answer, on all."""
        return bool(self.broadcast(torch.tensor([float(answer)], device=self.device), where))

    def wait(self, where: str) -> None:
        """Until every process is here."""
        self.all_reduce(torch.zeros(1, device=self.device), where)

    def same(self, number: int, what: str) -> bool:
        """Whether every process holds this 63-bit number; `what` it stands for."""
        value = torch.tensor([number, -number], dtype=torch.int64, device=self.device)
        if self.world_size > 1:
            self._collective(f"comparing {what}", lambda: dist.all_reduce(value, dist.ReduceOp.MAX))
        return bool(value[0] == -value[1])

    @contextmanager
    def joint_pass(self, here: bool) -> Iterator[bool]:
        """Around a pass: whether this process or any other that shares the base with it has one to run."""
        with self.meeting("a pass while sampling"):
            vote = torch.tensor([int(here)])
            if self.world_size > 1:
                dist.all_reduce(vote, dist.ReduceOp.MAX, group=self.voters)
            yield bool(vote)

    def any_over(self, bytes_needed: float, available: int) -> bool:
        """Whether any process needs more than it has."""
        over = torch.tensor([float(bytes_needed > available)], device=self.device)
        return bool(self.all_reduce(over, "comparing memory"))

    def close(self, failed: bool = False) -> None:
        """Leave the group, if it was made here, so that the interpreter ends without a complaint.

        Not after a failure on a GPU: NCCL's own end waits for collectives that the others are in, and the error would
        never be told (pytorch/torchtitan#1342).
        """
        self._closed = True
        if self._ours and dist.is_initialized() and not (failed and self.device.type == "cuda"):
            dist.destroy_process_group()

    def _collective(self, where: str, run: Callable[[], object]) -> None:
        with self.meeting(where, lambda error: True):
            run()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

    @contextmanager
    def meeting(self, where: str, lost: Callable[[RuntimeError], bool] | None = None) -> Iterator[None]:
        """Work that waits for the other processes somewhere inside, as a pass of a sharded model does; free for one.

        Args:
            lost: whether an error means that a process is gone; None: those of the collectives do.
        """
        if self.world_size == 1:
            yield
            return
        Processes._count += 1
        self._where, self._waiting_since = where, time.monotonic()
        try:
            self._store.set(f"at/{self.dist_rank}", f"{self._count} {where}")
            yield
        except RuntimeError as error:
            if not (lost or of_a_collective)(error):
                raise
            why = str(error).partition("\n")[0]             # a store's error goes on with the frames of its C++
            told = f"process {self.dist_rank} lost the others at {where}: {self.missing()} ({why})"
            raise LostProcess(told) from error
        finally:
            self._waiting_since = None

    def missing(self) -> str:
        """Which processes are behind this one, by their last note; else those that give no sign of life any more."""
        others = [number for number in range(self.world_size) if number != self.dist_rank]
        try:
            notes = [self._noted(f"at/{other}", "0 start").split(" ", 1) for other in others]
            gone = [int(count) < self._count for count, _ in notes]
            if not any(gone):                               # all have come; one may have died in here
                before = [self._noted(f"alive/{other}", "") for other in others]
                time.sleep(3 * self._beat)
                gone = [self._noted(f"alive/{other}", "") == beat for other, beat in zip(others, before, strict=True)]
        except RuntimeError:                                # the store went with the process that held it
            return "the store of the run is gone, so the process that held it (0) is"
        told = [f"process {other} was last seen at {where}"
                for other, (_, where), away in zip(others, notes, gone, strict=True) if away]
        return "; ".join(told) or "all processes had arrived"

    def _noted(self, key: str, otherwise: str) -> str:
        return self._store.get(key).decode() if self._store.check([key]) else otherwise

    def _watch(self) -> None:
        while not self._closed:
            time.sleep(self._beat)
            with suppress(RuntimeError):                    # a store that is gone is told of by who needs it
                self._store.set(f"alive/{self.dist_rank}", str(time.time()))
            since = self._waiting_since
            if since is not None and time.monotonic() - since > self.timeout_seconds:
                print(f"error: process {self.dist_rank} waited {self.timeout_seconds:.0f} s at {self._where}: "
                      f"{self.missing()}; the run stops, the same command resumes it", file=sys.stderr, flush=True)
                os._exit(1)                                 # the main thread is stuck in the collective


class LostProcess(RuntimeError):
    """A process of the run died or cannot be reached; the others stop and the same command resumes."""


def of_a_collective(error: RuntimeError) -> bool:
    """Whether an error came from the talk between processes, and not from what they compute."""
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "onnection" in str(error)


def check_kernels(capability: tuple[int, int], built_for: Sequence[str]) -> None:
    """Refuse a GPU that the installed torch has no kernels for (pytorch/pytorch#172352: Volta left the newer builds).

    Args:
        capability: of the device, (7, 0) for a V100.
        built_for: torch.cuda.get_arch_list(), such as ["sm_70", "sm_80", "compute_90"].
    """
    major, minor = capability
    for name in built_for:
        kind, _, digits = name.partition("_")
        if kind not in ("sm", "compute"):                                   # ROCm's names: nothing to compare with
            return
        digits = digits.rstrip("af")
        built = (int(digits[:-1]), int(digits[-1]))
        if kind == "sm" and built[0] == major and built[1] <= minor:        # binaries serve later minors of their major
            return
        if kind == "compute" and built <= capability:                       # PTX is compiled for any later device
            return
    old = "for a V100 or T4 install PyTorch's CUDA 12.6 build (cu126)"
    hint = old if major <= 7 else "install a build of torch that lists it"
    raise ValueError(f"this torch has no kernels for sm_{major}{minor}: it was built for "
                     f"{', '.join(built_for) or 'none'}; {hint}")


# ------------------------------------------------------------------------------------------------------ what they print

def tell(line: str) -> None:
    """One line to stderr, at once."""
    print(line, file=sys.stderr, flush=True)


def tell_first(line: str) -> None:
    """The same from the first process alone, wherever the run stands: torchrun's environment says which one that is."""
    if os.environ.get("RANK", "0") == "0":
        tell(line)


def tell_error(line: str, patience: float = 5.0) -> None:
    """An error of this process. Where all fail alike the first says it and torchrun ends the others.

    One that fails alone is heard, too: after a while.
    """
    number = os.environ.get("RANK", "0")
    if number != "0":
        time.sleep(patience)
        line = f"process {number}: {line}"
    tell(line)


def hush(line: str) -> None:
    """Progress is off, or this is not the first process."""


def progress_line(record: dict, total_steps: int, tok_per_s: float, seconds_per_step: float) -> str:
    """One step in fixed fields; the rate is a mean since the start of this process."""
    left = int((total_steps - record["step"]) * seconds_per_step)
    loss, grad = (format(record[k], ".4f") if record[k] is not None else "n/a" for k in ("loss", "grad_norm"))
    line = (f"step {record['step']:05d}/{total_steps:05d} | loss {loss} | lr {record['lr']:.2e} | grad {grad} | "
            f"{tok_per_s:,.0f} tok/s | mem {record['peak_mem_gb']:.1f} GB | "
            f"eta {left // 3600:02d}:{left // 60 % 60:02d}:{left % 60:02d}")
    line += f" | scale {record['loss_scale']:g} | skipped {record['skipped']}" if record["loss_scale"] != 1.0 else ""
    return line + (f" | validation {record['validation_loss']:.4f}" if "validation_loss" in record else "")
