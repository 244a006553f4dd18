"""How well and how fast tools are found in large pools: Seal-Tools, ToolBench, AnyToolBench and MetaTool.

    export TOOLDEV_DATA=/path/to/data
    python benchmarks/retrieval.py tables [--out curves.json]       # one Markdown table a set
    python benchmarks/retrieval.py parity                       # beside bm25s (requirements-reference.txt)
    python benchmarks/retrieval.py scaling [--sizes 3872 44371 443710] [--out F]   # time and memory, to be run alone
    python benchmarks/retrieval.py missed "ToolBench G2" [--count 50]              # queries to read, and what was found

R@k: share of the tools that a query needs among the first k; C@k: all of them (COMP@k in COLT, arXiv:2405.16089);
N@k: NDCG with relevance 0 or 1. The intervals are 95% bootstraps over queries.
"""

import argparse
import dataclasses
import json
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.machine import describe
from benchmarks.retrieval_sets import POOLS, Asked
from data.retrieval import K1, B, ToolIndex, tool_text, top, words

DEEPEST = 50
COLUMNS = ("R@1", "R@5", "R@10", "R@20", "C@5", "C@8", "C@10", "C@20", "N@5", "N@10")
Ranking = Callable[[str], list[int]]


def measures(found: list[int], needed: set[int]) -> dict[str, float]:
    """R@k and C@k for k from 1 to DEEPEST, and N@5 and N@10, of one query."""
    hits = np.array([position in needed for position in found[:DEEPEST]] + [False] * (DEEPEST - len(found)), float)
    total = np.cumsum(hits)
    gains = 1 / np.log2(np.arange(2, DEEPEST + 2))
    ideal = np.cumsum(gains[:min(len(needed), DEEPEST)])
    out = {f"R@{k}": total[k - 1] / len(needed) for k in range(1, DEEPEST + 1)}
    out |= {f"C@{k}": float(total[k - 1] == len(needed)) for k in range(1, DEEPEST + 1)}
    return out | {f"N@{k}": (hits[:k] @ gains[:k]) / ideal[min(k, len(ideal)) - 1] for k in (5, 10)}


def measured(rank: Ranking, asked: Asked) -> dict[str, np.ndarray]:
    """Measure -> its value for each query, in percent."""
    rows = [measures(rank(query), needed) for query, needed in asked]
    return {name: 100 * np.array([row[name] for row in rows]) for name in rows[0]}


def interval(values: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """95% percentile interval of the mean over resampled queries."""
    picked = np.random.default_rng(0).integers(len(values), size=(draws, len(values)), dtype=np.int32)
    return tuple(np.quantile([values[row].mean() for row in picked], (0.025, 0.975)))


def rankings(index: ToolIndex) -> dict[str, Ranking]:
    """The ways of searching that are compared, over the same fields and terms."""
    def plain(query: str) -> list[int]:
        times = Counter(words(query))
        return top(index.postings.scores(times, times.__getitem__), DEEPEST)
    return {"BM25, each word as often as the query says it": plain,
            "BM25, each word once": lambda query: top(index.scores(query), DEEPEST),
            "with sentences (ToolDev's search)": lambda query: [one.position for one in index.search(query, DEEPEST)]}


def tables(args: argparse.Namespace) -> None:
    """Print a table for each set, and keep the curves of recall."""
    curves = {}
    for make in POOLS.values():
        tools, sets = make()
        index = ToolIndex(tools)
        for name, asked in sets.items():
            print(f"\n### {name}: {len(asked):,} queries, {len(tools):,} tools\n\n| search | {' | '.join(COLUMNS)} | "
                  f"95% of R@10 | 95% of C@10 |\n|---|{'---|' * (len(COLUMNS) + 2)}")
            for how, rank in rankings(index).items():
                values = measured(rank, asked)
                cells = [f"{values[column].mean():.1f}" for column in COLUMNS]
                cells += ["[{:.1f}, {:.1f}]".format(*interval(values[column])) for column in ("R@10", "C@10")]
                print(f"| {how} | {' | '.join(cells)} |", flush=True)
            curves[name] = [float(values[f"R@{k}"].mean()) for k in range(1, DEEPEST + 1)]
    if args.out:
        Path(args.out).write_text(json.dumps(curves), encoding="utf-8")


def parity(index: ToolIndex, asked: Asked) -> dict:
    """Our scores beside those of bm25s on the same terms: the largest difference, and R@10 and C@10 of both."""
    import bm25s
    peer = bm25s.BM25(method="lucene", k1=K1, b=B)
    peer.index([words(tool_text(tool)) for tool in index.tools], show_progress=False)
    worst, rows = 0.0, []
    for query, needed in asked:
        ours = index.scores(query)
        terms = [term for term in dict.fromkeys(words(query)) if term in index.postings.vocabulary]
        theirs = peer.get_scores(terms) if terms else np.zeros_like(ours)
        worst = max(worst, float(np.abs(ours - theirs).max()))
        rows.append([measures(top(scores, 10), needed) for scores in (ours, theirs)])
    return {"queries": len(asked), "largest difference": worst,
            **{name: [100 * float(np.mean([pair[side][name] for pair in rows])) for side in (0, 1)]
               for name in ("R@10", "C@10")}}


def compare(args: argparse.Namespace) -> None:
    """Print the parity with bm25s on every set, of MetaTool's single queries every tenth."""
    print("| set | queries | largest difference of a score | R@10, ours / bm25s | C@10, ours / bm25s |\n"
          "|---|---|---|---|---|")
    for make in POOLS.values():
        tools, sets = make()
        index = ToolIndex(tools)
        for name, asked in sets.items():
            result = parity(index, asked if len(asked) < 5000 else asked[::10])
            print(f"| {name} | {result['queries']:,} | {result['largest difference']:.1e} | "
                  f"{' | '.join('{:.2f} / {:.2f}'.format(*result[m]) for m in ('R@10', 'C@10'))} |", flush=True)


def copied(tools: list, size: int) -> list:
    """A pool of that size: the tools, then copies of them with a fifth of the words replaced by others'."""
    rng = random.Random(0)
    spare = [word for tool in tools[:5000] for word in tool.description.split()]
    out = list(tools[:size])
    while len(out) < size:
        tool = tools[len(out) % len(tools)]
        said = [word if rng.random() < 0.8 else rng.choice(spare) for word in tool.description.split()]
        out.append(dataclasses.replace(tool, description=" ".join(said)))
    return out


def one_size(args: argparse.Namespace) -> None:
    """Print what one size costs, as JSON: processor seconds of this process, and its memory."""
    tools, sets = POOLS["sealtools" if args.size <= 4000 else "toolbench"]()
    queries = [query for query, _ in next(iter(sets.values()))][:300]
    tools = copied(tools, args.size)
    before, began = rss(), time.process_time()
    index = ToolIndex(tools)
    built, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    took = []
    for query in queries:
        began = time.process_time()
        index.search(query, 10)
        took.append(1000 * (time.process_time() - began))
    arrays = (index.postings.documents, index.postings.counts, index.postings.starts)
    print(json.dumps({"documents": len(tools), "build s": built, "index MiB": sum(a.nbytes for a in arrays) / 2**20,
                      "RSS +MiB": rss() - before, "peak +MiB": max(0.0, peak - before), "ms a query": np.mean(took),
                      "p50": np.median(took), "p95": np.quantile(took, 0.95)}))


def rss() -> float:
    """Resident memory in MiB."""
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def scaling(args: argparse.Namespace) -> None:
    """Run each size in a process of its own and print the table."""
    print(describe() + "\nProcessor seconds of one thread; 300 queries, k 10.\n")
    rows = []
    for size in args.sizes:
        done = subprocess.run([sys.executable, __file__, "one-size", str(size)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        rows.append(json.loads(done.stdout))
        if size == args.sizes[0]:
            print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
        cells = [f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" for value in rows[-1].values()]
        print(f"| {' | '.join(cells)} |", flush=True)
    if args.out:
        Path(args.out).write_text(json.dumps(rows), encoding="utf-8")


def missed(args: argparse.Namespace) -> None:
    """Print queries of a set that lack a tool among the first ten: what is missing, at which place it stands, and what
    came first."""
    tools, sets = next((tools, sets) for tools, sets in (make() for make in POOLS.values()) if args.set in sets)
    index, asked = ToolIndex(tools), sets[args.set]
    shown = 0
    for number in random.Random(0).sample(range(len(asked)), len(asked)):
        query, needed = asked[number]
        found = [one.position for one in index.search(query, 1000)]
        for position in sorted(needed - set(found[:10]))[:1]:
            place = found.index(position) + 1 if position in found else "over 1000"
            print(f"{number}. {query[:700]!r}\n   needs, at {place}: {shortly(tools[position])}\n   first: "
                  + "; ".join(shortly(tools[one]) for one in found[:3]))
            shown += 1
        if shown >= args.count:
            return


def shortly(tool) -> str:
    """A tool in a few words."""
    group = (tool.group or "").partition("\n")[0]
    return f"{group + ' / ' if group else ''}{tool.name}: {tool.description[:110]!r}"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in {"tables": tables, "parity": compare, "scaling": scaling, "one-size": one_size,
                      "missed": missed}.items():
        commands.add_parser(name).set_defaults(run=run)
    for name in ("tables", "scaling"):
        commands.choices[name].add_argument("--out", help="keep the numbers in this JSON file, for `plot`")
    commands.choices["scaling"].add_argument("--sizes", type=int, nargs="+", default=[3872, 44371, 443710])
    commands.choices["one-size"].add_argument("size", type=int)
    commands.choices["missed"].add_argument("set")
    commands.choices["missed"].add_argument("--count", type=int, default=50)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
