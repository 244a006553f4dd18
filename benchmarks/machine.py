"""What stands above every table of measurements: processor, versions, commit, date and command."""

import os
import platform
import shlex
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from pipeline.settings import git_commit
from training.base import native_bf16

ROOT = Path(__file__).resolve().parents[1]
NO_BF16 = ("**This processor has no native bf16**: it emulates bf16 products, on both sides. Nothing that is in bf16 "
           "below says how a machine with AVX512-BF16 or AMX compares; do not hold it against a bar.")


def describe(*packages: str, device: str = "cpu", threads: int | None = None) -> str:
    """The lines above a table; `packages` are named with their versions, or as missing."""
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    memory = (torch.cuda.get_device_properties(0).total_memory if device == "cuda"
              else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    lines = [f"{name}, {os.cpu_count()} CPU cores, {threads or torch.get_num_threads()} threads, {memory / 2**30:.0f} "
             f"GiB; Python {platform.python_version()}, {', '.join(map(with_version, ('torch', *packages)))}; commit "
             f"{git_commit()}; {time.strftime('%Y-%m-%d')}",
             f"`python {shlex.join([script_name(sys.argv[0]), *sys.argv[1:]])}`"]
    return "\n\n".join(lines + ([] if device == "cuda" or native_bf16() else [NO_BF16])) + "\n"


def script_name(path: str) -> str:
    """A script as it is called from the repository's folder, wherever it was called from."""
    script = Path(path).resolve()
    return str(script.relative_to(ROOT)) if script.is_relative_to(ROOT) else script.name


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def with_version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"
