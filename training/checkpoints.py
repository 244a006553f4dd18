"""How a run survives a kill: checkpoints written aside, flushed, renamed; a marker with hashes, last.

Leaves out: what is in a checkpoint (resume.snapshot).
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from data.files import fault, flush, mark_done, naming, write_json


class Checkpoints:
    """The last `keep` checkpoints of a run: checkpoint/step-NNNNNN/{state.safetensors, state.json, DONE.json}."""

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory, self.keep = directory, keep

    def save(self, step: int, tensors: dict[str, Tensor], state: dict) -> None:
        """Write one checkpoint; drop the oldest, and any of a later step, which was damaged when this run began.

        Call on one process: every process holds the same weights.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        final = self.directory / f"step-{step:06d}"
        aside = self.directory / f".step-{step:06d}.tmp"
        for stale in self.directory.glob(".step-*.tmp"):        # of a run that was killed while it wrote
            shutil.rmtree(stale, ignore_errors=True)
        aside.mkdir()
        try:
            with naming(final):
                save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                          aside / "state.safetensors")
            write_json(aside / "state.json", state)
            mark_done(aside, ["state.safetensors", "state.json"], step=step)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)            # a full disk wants its room back
            raise
        shutil.rmtree(final, ignore_errors=True)
        os.replace(aside, final)
        flush(self.directory)
        steps = self.steps()
        own = steps.index(final)
        for old in (*steps[:max(0, own + 1 - self.keep)], *steps[own + 1:]):
            shutil.rmtree(old, ignore_errors=True)

    def steps(self) -> list[Path]:
        """Checkpoints, oldest first, damaged ones included."""
        return sorted(path for path in self.directory.glob("step-*") if path.is_dir())

    def newest_step(self) -> int | None:
        """The step of the newest checkpoint with a marker; what its hashes vouch for, `newest` asks."""
        marked = [path for path in self.steps() if (path / "DONE.json").is_file()]
        return int(marked[-1].name.removeprefix("step-")) if marked else None

    def newest(self, say: Callable[[str], None]) -> tuple[dict[str, Tensor], dict] | None:
        """The newest checkpoint that its hashes vouch for; a damaged one is named and passed over."""
        paths = self.steps()
        for path in reversed(paths):
            reason = fault(path)
            if reason is None:
                return (load_file(path / "state.safetensors"),
                        json.loads((path / "state.json").read_text(encoding="utf-8")))
            before = "using the one" if path != paths[0] else "the run begins anew: there is none"
            say(f"checkpoint {path} is damaged ({reason}); {before} before it")
        return None

    def clear(self) -> None:
        """The run is complete: drop every checkpoint."""
        shutil.rmtree(self.directory, ignore_errors=True)


def kept(out: Path) -> str:
    """What a run that was interrupted has on disk, in words that promise no more than that."""
    if (out / "DONE.json").is_file():
        return f"interrupted; the training in {out} is complete, the same command goes on after it"
    step = Checkpoints(out / "checkpoint", 1).newest_step()
    if step is None:
        return f"interrupted; {out} has no checkpoint yet, so the same command begins anew"
    return f"interrupted; {step} steps are kept in {out / 'checkpoint'}, the same command goes on from there"
