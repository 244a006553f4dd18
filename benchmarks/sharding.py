"""What --shard promises beside the tests and measurements that show it: two Markdown tables, in some half hour.

    python benchmarks/sharding.py --cuda-python CUDAVENV/bin/python > benchmarks/sharding.md

Needs 14 GB of free memory. The figures of training steps are shard_memory.py's, those of whole nodes shard_plan.py's.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe

ROOT = Path(__file__).resolve().parents[1]
PROMISES = {        # a test's name without its parameters -> what it holds
    "test_gradients_of_a_sharded_base_are_those_of_a_whole_one_bit_for_bit":
        "gradients of two passes equal bit for bit on 2, 3 and 4 processes (the first case: float32 alone): float32, "
        "bfloat16, float16, checkpointed or not, tied or not",
    "test_a_sharded_run_ends_with_the_bytes_of_a_whole_one_and_so_does_a_killed_one":
        "whole float16 run, validation, SIGKILL and resume on 2 processes: the same bytes and metrics",
    "test_each_process_reads_its_rows_and_all_refuse_what_one_of_them_found":
        "loading by slices on 2 and 3 processes; damaged files refused by all; a process killed meanwhile is named",
    "test_uneven_sampling_equals_that_of_a_whole_base_and_training_follows":
        "no items, a third, the rest: float32 completions and gradients after them equal, twice; a process killed "
        "before or inside of a pass is named in one line",
    "test_a_round_of_a_sharded_base_is_that_of_two_whole_ones":
        "a round of 2 processes: the same files and adapter",
    "test_auto_shards_where_the_plan_says_that_a_whole_base_does_not_fit": "--shard auto, training and sampling",
    "test_two_launchers_share_one_base_as_two_machines_do": "two torchrun launchers: the adapter of one launcher",
    "test_machines_that_run_different_numbers_of_processes_are_refused_by_all": "unequal machines refused by all",
    "test_planned_bytes_of_a_sharded_step_are_within_a_tenth_of_those_counted":
        "planned bytes within 10% of counted ones, three shapes, shared by 2 and 4",
    "test_the_plan_says_what_fits_which_cards":
        "14B and 32B fit 8 x 32 GB at 4,096 tokens; 32B is tight on 4, refused on 8 x 16 GB",
}
FOLDER = "8b"           # of shard_memory.py
FAKE = "GPU path on fake CUDA tensors: training, sampling, validation, a sharded base of one process"


def run_tests(python: str, *arguments: str) -> dict[str, list[tuple[bool, float]]]:
    """(passed, seconds) of every case, by the test's name; one that was skipped has not passed."""
    found = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        options = ["-o", "addopts=-q --strict-markers", f"--junitxml={report}"]
        subprocess.run([python, "-m", "pytest", *options, *arguments],
                       cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=sys.stderr, check=False)
        for case in ElementTree.parse(report).iter("testcase"):
            found[case.get("name").split("[")[0]].append((len(case) == 0, float(case.get("time"))))
    return found


def row(promise: str, cases: list[tuple[bool, float]]) -> str:
    """One line of the table of tests."""
    passed = sum(well for well, _ in cases)
    return f"| {promise} | {passed} of {len(cases)} | {sum(seconds for _, seconds in cases):.0f} |"


def loading_rows() -> list[str]:
    """The table of an 8B-shaped folder: its heading once, a row a measurement."""
    lines: list[str] = []
    for more in ([], ["--layers", "8"], ["--layers", "8", "--together"]):
        command = [sys.executable, "benchmarks/shard_memory.py", "--load", FOLDER, "--sharing", "4", *more]
        said = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True,
                              text=True, check=True).stdout.splitlines()
        lines += said[-1:] if lines else said[-3:]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda-python", help="a Python with a CUDA build of torch, for tests/test_fake_cuda.py")
    arguments = parser.parse_args()
    print(f"# What --shard promises, and what shows it\n\n{describe(threads=1)}")
    print("## Tests\n\n`pytest -m 'slow or not slow' tests/test_sharding.py`; toy models over gloo, one thread a "
          "process; seconds of wall time, all cases together.\n")
    print("| promise | cases passed | s |\n|---|---|---|", flush=True)
    found = run_tests(sys.executable, "-m", "slow or not slow", "tests/test_sharding.py")
    for name, promise in PROMISES.items():
        print(row(promise, found[name]))
    if arguments.cuda_python:
        version = subprocess.run([arguments.cuda_python, "-c", "import torch; print(torch.__version__)"],
                                 capture_output=True, text=True, check=True).stdout.strip()
        cases = run_tests(arguments.cuda_python, "-m", "cuda_build", "tests/test_fake_cuda.py")
        print(row(f"{FAKE} (torch {version}, no GPU)", sum(cases.values(), [])))
    print("\n## Loading an 8B-shaped folder on 4 processes, bfloat16\n\nAnonymous memory in 1e9 bytes, beyond what the "
          "process had before. Four whole shares (22.4) do not fit this machine beside anything else. So the first "
          "process is measured alone at all 32 layers; and at 8 layers alone and among all four, which should agree.\n")
    print("\n".join(loading_rows()))


if __name__ == "__main__":
    main()
