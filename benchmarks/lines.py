"""Lines then and now: how much of today's code does the work of a former commit, and how much serves what came later?

    python benchmarks/lines.py --since c0e2bd7

Tests and benchmarks are left out on both sides. Files that serve only what did not exist then are listed by hand
(`LATER`). In the others a function counts as of then if one of its name was there, wherever it stood: so a file that
was moved or split is followed, and a function that grew counts whole. The rest of a file (imports, tables, docstrings)
is shared out as its functions are.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
from collections import Counter
from pathlib import Path

LATER = {
    "retrieval, Seal-Tools": "data/retrieval.py data/pool.py pipeline/find.py eval/sealtools/__init__.py "
                             "eval/sealtools/benchmark.py",
    "a base shared out over processes": "model/sharding.py training/sharing.py",
    "GGUF, a small model fetched": "model/gguf.py pipeline/import_gguf.py pipeline/fetch.py",
    "more formats of corpora, layouts for other trainers":
        "data/formats/trl.py data/formats/parts.py data/formats/nulls.py data/formats/among_words.py "
        "data/formats/spelled.py data/formats/turnmarks.py data/formats/exchange.py data/formats/layouts.py "
        "data/binary.py",
    "the report's explorer": "eval/report/explorer.py eval/report/records.py eval/report/bench_items.py",
    "benchmarks inside runs, the lenient reading":
        "eval/report/measured.py eval/report/benchmarks.py pipeline/run_bench.py eval/lenient.py pipeline/guard.py",
    "other chat templates, one gate for models from outside":
        "model/templates.py model/untrained.py lora/adapter_config.py training/gate.py training/origin.py",
    "recipes, saved settings, model cards, losses by row":
        "data/augment.py pipeline/saved.py pipeline/card.py pipeline/licence.py evolution/losses.py",
    "interrupts, overflow, metrics, threads":
        "training/interrupt.py training/overflow.py training/metrics.py model/threads.py",
}


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def counted(path: str) -> bool:
    return path.endswith(".py") and not path.startswith(("tests/", "benchmarks/"))


def functions(text: str) -> list[tuple[str, int]]:
    """(name without a leading underscore, lines) of every function and method, those inside another left out."""
    found, nodes = [], list(ast.parse(text).body)
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            nodes += node.body
        elif isinstance(node, ast.FunctionDef):
            found.append((node.name.lstrip("_"), node.end_lineno - node.lineno + 1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--since", required=True, help="the former commit")
    since = parser.parse_args().since
    then = {path: git("show", f"{since}:{path}") for path in git("ls-tree", "-r", "--name-only", since).split()
            if counted(path)}
    now = {path: Path(path).read_text(encoding="utf-8") for path in git("ls-files").split() if counted(path)}
    known = {name for text in then.values() for name, _ in functions(text)}
    later = {path: what for what, paths in LATER.items() for path in paths.split()}
    table: dict[str, Counter] = {}
    for path, text in then.items():
        table.setdefault(folder(path), Counter())["then"] += text.count("\n")
    for path, text in now.items():
        row, lines = table.setdefault(folder(path), Counter()), text.count("\n")
        row["now"] += lines
        if path in later:
            row["later"] += lines
            continue
        sizes = Counter[bool]()
        for name, size in functions(text):
            sizes[name in known] += size
        same = lines if not sizes else round(lines * sizes[True] / sizes.total())
        row["same"] += same
        row["new"] += lines - same
    columns = ("then", "same", "new", "later", "now")
    print("| part | then | functions of then, now | new functions beside them | files of later features | now |\n"
          "|---|---:|---:|---:|---:|---:|")
    for name in sorted(table, key=lambda name: -table[name]["now"]):
        print(f"| {name} | " + " | ".join(f"{table[name][column]:,}" for column in columns) + " |")
    total = sum(table.values(), Counter())
    print("| all | " + " | ".join(f"{total[column]:,}" for column in columns) + " |\n")
    sums = Counter[str]()
    for path, what in later.items():
        sums[what] += now[path].count("\n")
    print("Later features:", "; ".join(f"{what} {lines:,}" for what, lines in sums.most_common()))


def folder(path: str) -> str:
    return path.partition("/")[0] if "/" in path else "the top"


if __name__ == "__main__":
    main()
