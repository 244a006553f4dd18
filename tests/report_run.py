"""A run directory for tests of the report: the files that a run leaves, with invented numbers drawn from a seed."""

import json
import random
from pathlib import Path

from data.files import write_json, write_jsonl
from eval.exact import summarise

PARTS = {"labelled": 60, "unlabelled": 120, "heldout": 30}
CATEGORIES = ("simple", "multiple", "parallel", "irrelevance")
SKILL = {
    "raw": 0.08,
    "adaption": 0.11,
    "invocation": 0.5,
    "invocation-adapted": 0.53,
    "joint": 0.56,
    "round-1": 0.62,
    "round-2": 0.65,
    "round-3": 0.64,
}
STAGES = {"joint": "joint", "adaption": "adaption", "invocation": "invocation", "invocation-adapted": "invocation"}


def make_run(
    path: Path,
    *,
    steps=("raw", "adaption", "joint", "round-1", "round-2", "round-3"),
    parts=None,
    seed=0,
    pace=1.0,
    model="/some/where/tiny",
    variants=("adaption", "joint"),
    tested=True,
) -> Path:
    """Write a run; `pace` changes times, speeds and memory only."""
    parts, rng = PARTS if parts is None else parts, random.Random(seed)
    settings = {
        "model": model,
        "preset": "tiny",
        "seed": seed,
        "rounds": 3,
        "variants": list(variants),
        "queries_per_round": 400,
        "learning_rate": 1e-3,
        "global_batch_size": 16,
        "adaption_epochs": 1.0,
        "labelled_epochs": 2.0,
        "evolve_epochs": 1.0,
        "max_length": 1024,
        "rank": 16,
        "alpha": 32.0,
        "precision": "auto",
    }
    write_json(
        path / "run.json",
        {
            "model": model,
            "queries": str(path / "data" / "queries.jsonl"),
            "settings": settings,
            "evolve": {"min_votes": 2, "queries": str(path / "data" / "queries.jsonl")},
            "model_sha256": {"model.safetensors": "5e" * 32},
            "data_sha256": {"tools": "ab" * 32},
            "versions": {"python": "3.11.2", "torch": "2.13.0"},
            "git_commit": "0123456789ab",
        },
    )
    write_jsonl(path / "data" / "validation.jsonl", [{"id": f"v{n}", "query": "q"} for n in range(100)])
    ease = [rng.random() for _ in range(sum(parts.values()))]
    for name in steps:
        if tested:
            measured(path / name / "eval", name, parts, ease, rng)
        else:
            write_json(path / name / "DONE.json", {})
        if name != "raw":
            write_jsonl(path / name / "metrics.jsonl", metrics(rng, pace))
        if name.startswith("round-"):
            write_json(path / name / "ledger.json", ledger(int(name[-1]), rng, pace))
            write_jsonl(
                path / name / "rejected.jsonl",
                [
                    {
                        "id": "q7",
                        "stage": "tools",
                        "reason": "no_tools_block",
                        "detail": "no <tools>",
                        "text": "I would <b>call</b> & stop",
                    }
                ],
            )
    write_json(path / "seconds.json", {name: round(pace * 60 * (n + 1), 1) for n, name in enumerate(steps)})
    return path


def measured(folder: Path, name: str, parts: dict[str, int], ease: list[float], rng: random.Random) -> None:
    names = [part for part, size in parts.items() for _ in range(size)]
    verdicts = []
    for i, part in enumerate(names):
        good = ease[i] * 0.8 + rng.random() * 0.2 < SKILL[name] - (0.15 if part == "heldout" else 0.0)
        category = CATEGORIES[i % 4]
        outcome = "right" if good else rng.choice(("wrong", "wrong", "wrong", "undecodable", "wrote_tools_instead"))
        verdicts.append(
            {
                "id": f"{part}-{i}",
                "set": part,
                "category": category,
                "outcome": outcome,
                "reason": "" if outcome in ("right", "wrong") else "no_call_text",
                "called": not good and outcome == "wrong",
            }
        )
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    write_json(folder / "summary.json", summarise(verdicts))


def wrote(folder: Path, *, queries: int = 40, words: str = "Book a table for", description: str = "Books a table.",
          lines: int | None = None) -> None:
    """What a round leaves of its queries: every third accepted, every third without agreement, the rest without tools.

    `lines`: how many of the queries carry the long `description`; all, if None.
    """
    number, tries, calls, accepted, rejected = int(folder.name[-1]), [], [], [], []
    for n in range(queries):
        name, query = f"ask-{number}-{n:05}", f"{words} {n}."
        long = lines is None or n < lines
        tool = {"name": f"book_{n}", "description": description if long else "Books a table.", "arguments": {
            "type": "dict", "properties": {"n": {"type": "integer", "description": "How many."}}, "required": ["n"]}}
        text = f"<tools>\n{json.dumps(tool, ensure_ascii=False)}\n</tools>"
        reason = "no_description" if n % 3 == 2 else None
        tries.append({"id": name, "query": query, "attempt": 0, "text": text, "tokens": 40, "logprob": -0.25,
                      "finish_reason": "stop", "reason": reason, "detail": "tool 0 has none" if reason else ""})
        if reason:
            rejected.append({"id": name, "stage": "tools", "reason": reason, "detail": "tool 0 has none", "text": text})
            continue
        said = [[n] * 5, [n, n, 7_000, 8_000, 9_000]][n % 3]
        shown = [json.dumps({"name": tool["name"], "arguments": {"n": value}}) for value in said]
        answers = [f"<tool_call>\n{one}\n</tool_call>" for one in shown]
        votes = said.count(n)
        calls.append({"id": name, "query": query, "candidates": [tool], "index": 0, "votes": votes, "num_samples": 5,
                      "agreement": votes / 5, "margin": 5 if votes == 5 else 1, "tie": "none", "decided_early": False,
                      "samples": [{"text": one, "tokens": 9, "logprob": -0.1, "finish_reason": "stop", "reason": None}
                                  for one in answers]})
        if votes == 5:
            accepted.append({"id": name, "query": query, "tools": [tool], "source": "self", "calls": [
                {"name": f"book_{n}", "arguments": {"n": n}}], "provenance": {"round": number, "votes": 5}})
        else:
            rejected.append({"id": name, "stage": "vote", "reason": "too_few_votes", "detail": "2 of 5; at least 3",
                             "text": answers[0]})
    for name, rows in (("tools", tries), ("calls", calls), ("accepted", accepted), ("rejected", rejected)):
        write_jsonl(folder / f"{name}.jsonl", rows)


def metrics(rng: random.Random, pace: float) -> list[dict]:
    return [
        {
            "step": n + 1,
            "loss": 0.4 + 2.2 / (1 + n / 8) + rng.gauss(0, 0.05),
            "lr": 1e-3,
            "grad_norm": 1.0,
            "loss_scale": 1.0,
            "skipped": 0,
            "tokens": 3000,
            "supervised_tokens": 900,
            "tok_per_s": 5000.0 / pace,
            "peak_mem_gb": 1.5 * pace,
        }
        for n in range(150)
    ]


def ledger(number: int, rng: random.Random, pace: float) -> dict:
    tools, vote, calls, query = rng.randint(20, 60), rng.randint(20, 40), rng.randint(1, 9), rng.randint(0, 4)
    passed = 400 - query - tools
    voted = {str(n): passed // 5 for n in range(1, 5)} | {"5": passed - 4 * (passed // 5)}
    probe = {
        "examples": 64,
        "set_sha": "x",
        "agreement": 0.7 + 0.05 * number,
        "logprob": -0.3 + 0.05 * number,
        "right": 0.6,
        "unparsed": 0.02,
        "wrote_tools_instead": 3,
    }
    return {
        "round": number,
        "control": "none",
        "seed": 0,
        "model_sha": "ab" * 32,
        "queries": {"in": 400, "accepted": passed - vote - calls, "rejected": query + tools + vote + calls},
        "stages": {
            "query": {"in": 400, "passed": 400 - query, "rejected": {"duplicate_query": query}},
            "tools": {
                "in": 400 - query,
                "passed": passed,
                "rejected": {"no_tools_block": tools - 8, "missing_description": 8},
            },
            "vote": {"in": passed, "passed": passed - vote, "rejected": {"too_few_votes": vote}},
            "calls": {"in": passed - vote, "passed": passed - vote - calls, "rejected": {"not_in_enum": calls}},
        },
        "attempts": {"0": {"tried": 400, "passed": 330}},
        "votes": {n: {"voted": v, "accepted": v - (vote if n == "1" else 0)} for n, v in voted.items()},
        "margins": {"1": {"voted": 60, "accepted": 50}, "5": {"voted": 200, "accepted": 199}},
        "ties": {"none": 300},
        "samples": {"drawn": 5 * passed, "unparsed": {"cut_off": 12}, "decided_early": 0},
        "wrote_tools_instead": 9,
        "tokens_written": 123456,
        "diversity": {
            "tools": 900,
            "distinct_tool_names": 300 - number,
            "distinct_tool_name_share": 0.33,
            "tool_name_entropy": 7.5,
            "calls_per_answer": 1.3,
            "calls_per_answer_counts": {"1": 200},
            "no_call_share": 0.08,
        },
        "similarity": dict.fromkeys(("tool_names_seen", "queries_seen"), None if number == 1 else 0.4),
        "contamination": {"labelled": 0},
        "judged": {
            str(n): {
                "examples": 60,
                "right": 50 + n,
                "made": 60,
                "said": 62,
                "precision": 0.7 + n / 20,
                "recall": 0.68 + n / 20,
            }
            for n in range(2, 6)
        },
        "examples": {"evolved": 300, "accumulated": 0, "labelled": 0},
        "rows": {"generation": 300, "invocation": 300, "refused": {}},
        "training": {"steps": 150, "final_loss": 0.4, "skipped": 0, "tokens": 450000},
        "probe": {"before": {**probe, "agreement": 0.7 + 0.05 * (number - 1)}, "after": probe},
        "validation_before": 0.5,
        "validation": 0.55 + 0.01 * number,
        "evaluation": None,
        "stop": None,
        "seconds": {"tools": 12.3 * pace, "calls": 20.0 * pace},
    }
