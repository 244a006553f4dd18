"""Speed and memory of `tooldev.py convert` on xLAM-shaped rows made here: one Markdown table.

    python benchmarks/convert_speed.py                    # 20,000 rows
    python benchmarks/convert_speed.py --megabytes 2048   # a 2 GB file: memory must not grow with it

One process, one thread. Speed is rows over the whole conversion (reading, hashing, converting, writing, fsync); memory
is the highest resident set of the process (VmHWM; Linux), for a tenth of the file and for all of it.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

WORDS = ("weather price route match invoice symptom playlist parcel museum tariff harvest orbit ledger recipe voltage "
         "translate forecast summary archive compare verify convert subscribe locate measure").split()
TYPES = ("str", "int", "float", "bool", "str, optional", "int, optional", "List[int]", "List[str]", "Dict[str, int]")


def make_row(number: int, rng: random.Random) -> str:
    """One row of about 1.6 kB, as long as those of the public set: tools and answers as JSON strings."""
    tools, answers = [], []
    for _ in range(rng.randint(1, 4)):
        names = rng.sample(WORDS, 4)
        parameters = {}
        for name in names[1:]:
            kind = rng.choice(TYPES)
            parameters[name] = {"description": f"The {name} of the {names[0]}, as {' '.join(rng.sample(WORDS, 6))}.",
                                "type": kind}
            if rng.random() < 0.5:
                parameters[name]["default"] = {"str": "none", "int": 3, "float": 0.5, "bool": True}.get(kind, "")
        tools.append({"name": f"{names[0]}_{names[1]}_{rng.randint(0, 2000)}_@",
                      "description": f"Gets the {' '.join(rng.sample(WORDS, 12))}.", "parameters": parameters})
    for tool in rng.choices(tools, k=rng.randint(1, 3)):
        answers.append({"name": tool["name"], "arguments": {name: rng.choice((7, "Ljubljana", 2.5, [1, 2]))
                                                            for name in tool["parameters"]}})
    return json.dumps({"id": number, "query": f"Please {' '.join(rng.sample(WORDS, 15))} for order {number}.",
                       "tools": json.dumps(tools), "answers": json.dumps(answers)})


def write_rows(path: Path, rows: int, megabytes: int) -> int:
    """Write the input file and return its number of rows. A large file repeats a block of rows with other tool names,
    so that a table of the tools met would grow with it."""
    rng = random.Random(0)
    block = [make_row(number, rng) for number in range(min(rows, 5000))]
    text = ("\n".join(block) + "\n").encode()
    written = 0
    with open(path, "wb") as file:
        while written < rows or file.tell() < megabytes * 2**20:
            file.write(text.replace(b"@", str(written // len(block)).encode()))
            written += len(block)
    return written


CHILD = """
import sys, time
from pathlib import Path
from data.formats.convert import Options, convert
start, cpu = time.perf_counter(), time.process_time()
manifest = convert([Path(sys.argv[1])], Path(sys.argv[2]), Options(format="xlam"))
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
assert manifest["rows"] == manifest["rows_converted"], manifest
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(manifest["rows"], seconds, cpu, int(peak) / 1024)
"""


def measure(path: Path, out: Path) -> tuple[int, float, float, float]:
    """(rows, seconds, CPU seconds, peak resident MiB) of a conversion in a process of its own."""
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", CHILD, str(path), str(out)], cwd=root, capture_output=True, text=True,
                          check=True)
    rows, seconds, cpu, peak = done.stdout.split()
    return int(rows), float(seconds), float(cpu), float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the input (default: %(default)s)")
    parser.add_argument("--megabytes", type=int, default=0, help="make the input at least this large")
    parser.add_argument("--dir", type=Path, help="where to put the files (default: a temporary folder)")
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, "
          f"{time.strftime('%Y-%m-%d')}\n")
    print("| input | rows | seconds | rows/s | rows per CPU second | peak memory |\n|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        for share in (10, 1):    # a tenth first: what memory grows by is then plain to see
            path = Path(folder) / f"rows-{share}.jsonl"
            write_rows(path, max(1, args.rows // share), args.megabytes // share)
            size = path.stat().st_size / 2**20
            rows, seconds, cpu, peak = measure(path, Path(folder) / f"out-{share}")
            print(f"| {size:,.0f} MiB | {rows:,} | {seconds:.1f} | {rows / seconds:,.0f} | {rows / cpu:,.0f} | "
                  f"{peak:.0f} MiB |", flush=True)
            path.unlink()
            for file in (Path(folder) / f"out-{share}").iterdir():
                file.unlink()


if __name__ == "__main__":
    main()
