"""What stands above a table of measurements."""

import torch

import benchmarks.machine
from benchmarks.machine import NO_BF16, describe


def test_the_header_names_versions_command_and_a_processor_without_native_bf16(monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmarks/x.py", "--data", "a folder"])
    for native in (True, False):
        monkeypatch.setattr(benchmarks.machine, "native_bf16", lambda native=native: native)
        text = describe("no-such-package", threads=2)
        assert f"torch {torch.__version__}" in text and "no-such-package not installed" in text and "2 threads" in text
        assert "`python benchmarks/x.py --data 'a folder'`" in text and (NO_BF16 in text) is not native
