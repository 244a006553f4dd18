"""What a run measured, gathered from the files that its steps left, as the plain values of report.json.

Read are run.json, STEP/eval, STEP/metrics.jsonl, round-N/ledger.json and seconds.json; what is not there yet is left
out.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.files import refuse_changed_records, whole_lines
from data.schema import dump_json, load_examples, read_json, read_jsonl, read_object, strict_json_loads
from eval.exact import OUTCOMES, verdicts_of
from eval.uncertainty import paired_bootstrap, proportion
from tooldev import PAPER_EVOLVED, STEPS, VARIANTS, Evolution, Lora, Sft, Sizes

CURVE_POINTS = 120          # of a loss curve, at most
CUT = 600                   # characters of an answer that is shown
SCORES = ("items", "outcomes", "reasons", "all", "sets", "categories", "called_when_no_tool_fits")


# ------------------------------------------------------------------------------------------------------------ gathering

def gather(run: Path) -> dict[str, Any]:
    """Everything the report says, as plain values."""
    if not (run / "run.json").is_file():
        raise FileNotFoundError(f"{run / 'run.json'}: not found; report wants the folder of a run, such as runs/demo")
    record = read_object(run / "run.json", model=str, settings=dict, evolve=dict, versions=dict, model_sha256=dict,
                         data_sha256=dict)
    settings, rows = record.get("settings", {}), row_counts(run)
    names = [name for name in [*STEPS, *round_names(run)] if (run / name).is_dir()]
    for name in names:
        refuse_changed_records(run / name)
    rounds = [read_ledger(run / name) for name in names if (run / name / "ledger.json").is_file()]
    verdicts = {name: verdicts_of(run / name / "eval") for name in names
                if (run / name / "eval" / "summary.json").is_file()}
    steps = [read_step(run, name, verdicts) for name in names]
    for name, score in validation(rounds, rows.get("validation", 0)).items():
        next(step for step in steps if step["name"] == name)["validation"] = score
    return {
        "format": "tooldev-report-1",
        "run": {"model": Path(str(record.get("model", "unknown"))).name, "rows": rows,
                **{key: settings.get(key) for key in ("preset", "seed")}, "git_commit": record.get("git_commit"),
                **{key: record.get(key, {}) for key in ("versions", "model_sha256", "data_sha256")}},
        "settings": settings_beside_paper(settings, record.get("evolve", {}) | first_round(run), rows),
        "progress": progress(settings, steps, rounds, tested=bool(verdicts or rows.get("test"))),
        "steps": steps,
        "rounds": rounds,
        "gains": gains(verdicts),
        "in_all": from_raw_to_last(steps, verdicts),
        "best": best(steps),
        "paper": {"variants": {name: {"title": variant.title, "bfcl": _bfcl(variant.paper)}
                               for name, variant in VARIANTS.items()}, "evolved": _bfcl(PAPER_EVOLVED)},
        "samples": samples(run, list(verdicts), rounds),
        "seconds": seconds(run, names),
    }


def _bfcl(scores: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("non_live", "live", "overall"), scores, strict=True))


def round_names(run: Path) -> list[str]:
    """round-1, round-2, ... as far as there are folders."""
    numbers = (path.name.removeprefix("round-") for path in run.glob("round-*"))
    return [f"round-{n}" for n in sorted(int(number) for number in numbers if number.isdigit())]


def is_round(name: str) -> bool:
    return name.startswith("round-")


def start_of(name: str) -> str:
    """The step before this one: whose weights it went on from, or at least whose model wrote a round's data.

    The base is "raw", which has none.
    """
    if name in STEPS:
        return STEPS[name][1] or ("raw" if name != "raw" else "")
    number = int(name.removeprefix("round-"))
    return "joint" if number == 1 else f"round-{number - 1}"


def read_step(run: Path, name: str, verdicts: dict[str, list[dict]]) -> dict[str, Any]:
    """One step: its scores, its difference from where it started, its training."""
    stage, start = STEPS[name][0] if name in STEPS else "evolve", start_of(name)
    complete = is_complete(run, name, bool(verdicts))
    step: dict[str, Any] = {"name": name, "stage": stage, "start": start, "complete": complete}
    if name in verdicts:
        summary = read_object(run / name / "eval" / "summary.json", *SCORES)
        step["test"] = {key: summary[key] for key in SCORES}
        if start in verdicts:
            step["against_start"] = compare(verdicts[start], verdicts[name], f"{run / start} and {run / name}")
    metrics = read_metrics(run / name / "metrics.jsonl")
    if metrics:
        step["training"] = training_of(metrics)
    return step


def is_complete(run: Path, name: str, tested: bool) -> bool:
    """A round ends with its ledger, another step with its scores (or, in a run without a test, with its marker)."""
    last = "ledger.json" if is_round(name) else "eval/summary.json" if tested else "DONE.json"
    return (run / name / last).is_file()


def compare(before: Sequence[dict], after: Sequence[dict], where: str) -> dict[str, dict]:
    """Paired differences of two steps on the same items, in all and (where there are several) by part of the test."""
    if [v["id"] for v in before] != [v["id"] for v in after]:
        raise ValueError(f"{where}: measured on different test items ({len(before)} and {len(after)} verdicts), not "
                         "on the same; remove the older eval folder and run the command again")
    parts = {"all": range(len(after))}
    names = list(dict.fromkeys(v["set"] for v in after))
    if len(names) > 1:
        parts |= {name: [i for i, v in enumerate(after) if v["set"] == name] for name in names}
    right = [[v["outcome"] == "right" for v in part] for part in (before, after)]
    return {name: paired_bootstrap(*([scores[i] for i in members] for scores in right)).to_dict()
            for name, members in parts.items()}


def gains(verdicts: dict[str, list[dict]]) -> dict[str, dict[str, dict]]:
    """Every round against the step that the rounds started from (paper, Fig. 2)."""
    if "joint" not in verdicts:
        return {}
    return {name: compare(verdicts["joint"], found, f"joint and {name}") for name, found in verdicts.items()
            if is_round(name)}


def from_raw_to_last(steps: Sequence[dict], verdicts: dict[str, list[dict]]) -> dict[str, Any] | None:
    """What the last complete step changed of the raw model's answers: "step", and the paired difference."""
    measured = [step["name"] for step in steps if step["complete"] and step["name"] in verdicts]
    if len(measured) < 2 or measured[0] != "raw":
        return None
    change = compare(verdicts["raw"], verdicts[measured[-1]], f"raw and {measured[-1]}")["all"]
    return {"step": measured[-1], **change}


def best(steps: Sequence[dict]) -> dict[str, str | None]:
    """Which round (of a run without rounds: which step) is last, best by validation, and best on the test.

    The paper reports the best of its rounds and not how it was chosen. Validation leaves the test alone; the best on
    the test is chosen by looking at what it is measured on. The earlier step wins a tie.
    """
    complete = [step for step in steps if step["complete"]]
    found = [step for step in complete if step["stage"] == "evolve"] or complete
    validated, tested = ([step for step in found if key in step] for key in ("validation", "test"))
    tops = {"last": found[-1:], "by_validation": sorted(validated, key=lambda step: -step["validation"]["value"]),
            "on_test": sorted(tested, key=lambda step: -step["test"]["all"]["value"])}
    return {name: order[0]["name"] if order else None for name, order in tops.items()}


def progress(settings: dict, steps: Sequence[dict], rounds: Sequence[dict], tested: bool) -> dict[str, Any]:
    """The steps the run was asked for, those complete, and why it stopped early where it did."""
    asked = dict.fromkeys(name for variant in settings.get("variants", ()) for name in VARIANTS[variant].steps)
    asked = {"raw": None} | asked if tested else {name: None for name in asked if name != "raw"}
    if "joint" in asked:
        asked |= dict.fromkeys(f"round-{n}" for n in range(1, settings.get("rounds", 0) + 1))
    complete = [step["name"] for step in steps if step["complete"]]
    return {"asked": list(asked), "complete": complete, "missing": [name for name in asked if name not in complete],
            "stop": rounds[-1].get("stop") if rounds else None}


OWN_PROMPT = {"native": "the model's own"}          # how a run that leaves the paper's prompt is said to ask


def settings_beside_paper(settings: dict, evolve: dict, rows: dict[str, int]) -> list[dict[str, Any]]:
    """Rows of {"name", "here", "paper"}; None where the paper does not say."""
    here = settings.get
    epochs = [here(f"{part}_epochs") for part in ("adaption", "labelled", "evolve")]
    table = [
        ("tool documents", rows.get("tools"), Sizes.tools),
        ("labelled examples", rows.get("examples"), Sizes.examples),
        ("queries a round", here("queries_per_round") or None, Sizes.queries_per_round),
        ("rounds", here("rounds"), f"{Evolution.rounds} at most"),
        ("global batch, rows", here("global_batch_size"), Sft.global_batch_size),
        ("learning rate", here("learning_rate"), Sft.learning_rate),
        ("LoRA rank, alpha", _joined([here("rank"), here("alpha")]), f"{Lora.rank}, {Lora.alpha:g}"),
        ("epochs: adaption, labelled, a round", _joined(epochs), None),
        ("longest row, tokens", here("max_length"), None),
        ("precision", here("precision"), "fp16"),
        ("samples of the calls", evolve.get("num_samples"), Evolution.num_samples),
        ("votes needed", evolve.get("min_votes"), f"most of {Evolution.num_samples}"),
        ("temperature of the tools", evolve.get("tools_temperature"), Evolution.tools_temperature),
        ("top-k of the tools", evolve.get("tools_top_k") or None, None),
        ("values held against the query", {True: "yes", False: "no"}.get(evolve.get("grounded")), "no"),
        ("weights that a round trains from", evolve.get("init"), "previous"),
        ("earlier rounds' data again", {True: "yes", False: "no"}.get(evolve.get("accumulate")), "no"),
        ("labelled examples mixed in, per answer", evolve.get("mix"), 0),
        ("learning rate of a round", here("evolve_learning_rate") or None, None),
        ("weight of generation in a round", here("evolve_generation_weight"), 1),
        ("tools a query is taught to make", {True: "called", False: "all"}.get(here("only_called")), "all"),
        ("prompt that asks for calls", OWN_PROMPT.get((here("train") or {}).get("prompt")), "the paper's"),
        ("temperature, k of the calls", _joined([evolve.get("calls_temperature"), evolve.get("calls_top_k")]), None),
    ]
    return [{"name": name, "here": value, "paper": paper} for name, value, paper in table if value is not None]


def first_round(run: Path) -> dict[str, Any]:
    """Every setting of the first round, defaults included."""
    path = run / "round-1" / "round.json"
    return read_json(path) if path.is_file() else {}


def _joined(values: Sequence[Any]) -> str | None:
    return ", ".join(f"{value:g}" for value in values) if None not in values else None


# --------------------------------------------------------------------------------------------------- files of the steps

def read_metrics(path: Path) -> list[dict]:
    """The records of a training run, also of one at work (a last line that is cut off is left out)."""
    if not path.is_file():
        return []
    try:
        return [strict_json_loads(line.decode("utf-8")) for line in whole_lines(path) if line.strip()]
    except ValueError as err:
        raise ValueError(f"{path}: {err}; expected one record per optimizer step, train the step again") from None


def training_of(metrics: Sequence[dict]) -> dict[str, Any]:
    """Steps, tokens, and the loss over them, thinned to `CURVE_POINTS` means of neighbours."""
    losses = [(record["step"], record["loss"]) for record in metrics if record["loss"] is not None]
    size = max(1, math.ceil(len(losses) / CURVE_POINTS))
    bins = [losses[i:i + size] for i in range(0, len(losses), size)]
    tail = [loss for _, loss in losses[-max(1, len(losses) // 10):]]
    return {"steps": metrics[-1]["step"], "skipped": metrics[-1]["skipped"],
            **{key: sum(record[key] for record in metrics) for key in ("tokens", "supervised_tokens")},
            "first_loss": losses[0][1] if losses else None, "last_loss": _mean(tail) if tail else None,
            "curve": [[part[-1][0], _mean([loss for _, loss in part])] for part in bins]}


def _mean(values: Sequence[float]) -> float:
    return round(math.fsum(values) / len(values), 6)


def read_ledger(folder: Path) -> dict[str, Any]:
    """The ledger without times and without the copy of the evaluation; "adds_up" says that no query got lost."""
    whole = read_object(folder / "ledger.json", "queries", "stages")
    ledger = {key: value for key, value in whole.items() if key not in ("seconds", "evaluation")}
    queries, coming, sound = ledger["queries"], ledger["queries"]["in"], True
    for stage in ledger["stages"].values():
        sound &= stage["in"] == coming and stage["passed"] + sum(stage["rejected"].values()) == coming
        coming = stage["passed"]
    sound &= coming == queries["accepted"] and queries["in"] == queries["accepted"] + queries["rejected"]
    ledger["adds_up"] = sound
    return ledger


def validation(rounds: Sequence[dict], items: int) -> dict[str, dict]:
    """Greedy exact match on the validation rows after joint training and each round, with intervals for `items` > 0."""
    scores = {start_of(f"round-{ledger['round']}"): ledger.get("validation_before") for ledger in rounds[:1]}
    scores |= {f"round-{ledger['round']}": ledger.get("validation") for ledger in rounds}
    return {name: proportion(round(score * items), items).to_dict() | {"items": items} if items else {"value": score}
            for name, score in scores.items() if score is not None}


def row_counts(run: Path) -> dict[str, int]:
    """Rows of the run's data files."""
    counts = {}
    for name in ("tools", "examples", "queries", "validation", "test"):
        path = run / "data" / f"{name}.jsonl"
        if path.is_file():
            with path.open("rb") as file:
                counts[name] = sum(1 for line in file if line.strip())
    return counts


def seconds(run: Path, names: Sequence[str]) -> dict[str, Any]:
    """Times, speeds (median tokens a second of training) and memory (GiB at most), by step."""
    spent = read_object(run / "seconds.json") if (run / "seconds.json").is_file() else {}
    table: dict[str, Any] = {}
    for name in names:
        metrics = read_metrics(run / name / "metrics.jsonl")
        speeds = sorted(record["tok_per_s"] for record in metrics)
        cell = {"all": spent.get(name)}
        if metrics:
            cell["tok_per_s"] = speeds[len(speeds) // 2]
            cell["peak_mem_gb"] = max(record["peak_mem_gb"] for record in metrics)
        if (run / name / "ledger.json").is_file():
            cell["parts"] = read_json(run / name / "ledger.json").get("seconds")
        table[name] = {key: value for key, value in cell.items() if value is not None}
    return {"steps": table, "all": round(math.fsum(spent.values()), 1)}


def samples(run: Path, measured: Sequence[str], rounds: Sequence[dict]) -> dict[str, list[dict]]:
    """Some answers of the last measured step that are not right, and a rejected text per reason of the last round."""
    found = {measured[-1]: not_right(run, run / measured[-1] / "eval")} if measured else {}
    if rounds:
        number, first = rounds[-1]["round"], {}
        for _, line in read_jsonl(run / f"round-{number}" / "rejected.jsonl"):
            why = f"{line['stage']}: {line['reason']}"
            texts = {"detail": line["detail"][:CUT], "written": line["text"][:CUT]}
            first.setdefault(why, {"id": line["id"], "why": why, **texts})
        found[f"rejected in round {number}"] = [first[why] for why in sorted(first)]
    return {name: lines for name, lines in found.items() if lines}


def not_right(run: Path, folder: Path) -> list[dict]:
    """Two answers of every outcome that is not right, with what was asked and expected."""
    if not ((run / "data" / "test.jsonl").is_file() and (folder / "answers.jsonl").is_file()):
        return []
    items = {item.id: item for item in load_examples(run / "data" / "test.jsonl")}
    texts = {record["id"]: record["text"] for _, record in read_jsonl(folder / "answers.jsonl")}
    verdicts = [verdict for verdict in verdicts_of(folder) if verdict["id"] in items and verdict["id"] in texts]
    lines = []
    for outcome in OUTCOMES[1:]:
        for verdict in [verdict for verdict in verdicts if verdict["outcome"] == outcome][:2]:
            item = items[verdict["id"]]
            expected = dump_json([call.to_dict() for call in item.calls])
            lines.append({"id": item.id, "why": verdict["reason"] or outcome, "query": item.query[:CUT],
                          "expected": expected[:CUT], "written": texts[item.id][:CUT]})
    return lines
