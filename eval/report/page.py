"""The words and tables of a run's report: report.json's values as blocks, which eval/report/markup.py prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.report import charts
from eval.report.gather import is_round
from eval.report.markup import Block, Cell
from eval.report.measured import changes

TITLES = {"invocation-adapted": "adaption + invocation", "joint": "joint training"}
SHORT = {"adaption": "adapt.", "invocation": "invo.", "invocation-adapted": "a. + i."}
PARTS = {"heldout": "held out"}
PARTS_MEAN = (" Labelled: domains with labelled examples. Unlabelled: domains that training met as tool "
              "documents and as queries without labels. Held out: domains in no training text. In all three, the "
              "tools and the values of the test occur in no training text.")
PAIRED = ("Paired on the same test items: points of 100 with a 95% bootstrap interval, and McNemar's exact p; "
          "“inside the noise” where the interval holds zero or p is 0.05 or more. {tests} comparisons stand here, "
          "uncorrected: about {chance} of them would look real by chance alone. The intervals speak of the test "
          "items; another seed moves the numbers, too.")
CHOICE = ("The paper reports the best of its rounds and not how it was chosen. Validation rows are labelled and "
          "never trained on, so the best by validation is a fair choice. The best on the test is chosen by looking "
          "at the test itself, and flatters.")
JUDGED = ("The generated world knows what each query asked for. Precision: the share of values in accepted calls "
          "that the query named. Recall: the share of the values it named that are in the calls. In percent; the "
          "number of answers in brackets.")
NOISE = ", inside the noise"
UNSHOWN = "So this run does not show whether self-evolution helps: a change inside the noise may be chance."
PROBE = ("The probe asks the same {examples} labelled examples before and after every round, with full samples. "
         "Section 4.3 of the paper expects rounds to raise the model's confidence: agreement and log-probability "
         "rise. Where the share of right votes does not rise with them, the confidence is empty.")
PAPER = ("The paper's numbers are BFCL accuracies of Llama-3.1-8B-Instruct (Tables 1 and 3); this run's are exact "
         "matches on its own test items, with the model and the sizes named on this page. The settings are not "
         "comparable, only the direction of the differences is.")


def contents(report: dict[str, Any], dates: str = "", explored: dict[str, Any] | None = None,
             benchmarked: Sequence[Block] = ()) -> list[Block]:
    """The report as blocks, in reading order; what was not measured leaves no block.

    Args:
        explored: the explorer's data.
        benchmarked: the blocks of the benchmarks.
    """
    steps = [step for step in report["steps"] if "test" in step]
    blocks = [*head(report, dates), *benchmarked]           # what others measured, too, before this run's own items
    if steps:
        blocks += accuracy(steps) + differences(steps) + round_gains(report["gains"])
    if explored:
        blocks.append(("explorer", "Explore", explored))
    if steps:
        blocks += categories(steps)
    blocks += which_is_best(report)
    if report["rounds"]:
        blocks += funnel(report["rounds"]) + votes(report["rounds"]) + instruments(report["rounds"])
    blocks += training(report)
    if steps:
        blocks += beside_paper(report, {step["name"]: step for step in steps})
    return blocks + writings(report["samples"]) + record(report)


# ------------------------------------------------------------------------------------------------------------- in short

def headline(report: dict[str, Any], name: str) -> str:
    """What was done on which model, and by how much, in one line; the run's name where nothing is measured yet.

    The first benchmark that was asked, then the run's own test items.
    """
    said = [on_benchmark(cell) for cell in benchmark_changes(report)[:1]] + on_test_items(report)
    if not said:
        return f"Run {name}"
    if len(said) == 2 and said[0][1] == said[1][1]:
        said[0] = said[0][0], ""
    return f"{report['run']['model']}: " + "; ".join(map("".join, said))


def benchmark_changes(report: dict[str, Any]) -> list[dict[str, Any]]:
    return changes(report["benchmarks"]) if "benchmarks" in report else []


def on_benchmark(cell: dict[str, Any]) -> tuple[str, str]:
    """("BFCL overall 10.0% → 20.0% (...)", by what) of one cell of `measured.changes`."""
    part = cell["subset"]["entries"] if cell["subset"] else cell["limited_to"]
    name = f"{cell['benchmark']} overall" + (f" on a subset of {part:,} entries" if part else "")
    if "paired" not in cell:
        return f"{name} {cell['after']['value']:.1f}% (strict reading)", f", {title_of(cell['step'])} alone"
    before, after = cell["before"]["value"], cell["after"]["value"]
    change = charts.minus(f"{after - before:+.1f} points") + NOISE * cell["paired"]["inside_noise"]
    native = f"; raw by its own tool prompt {cell['native']['value']:.1f}%" if "native" in cell else ""
    return f"{name} {before:.1f}% → {after:.1f}% (strict reading, {change}{native})", by(cell["step"])


def on_test_items(report: dict[str, Any]) -> list[tuple[str, str]]:
    """("10.0% → 20.0% of 30 test items right (...)", by what), where test items were asked."""
    tested, whole = tests_of(report), report["in_all"]
    if whole is None:
        return [(f"{share(cell['all'])} of {cell['items']:,} test items right", f", {title_of(last)} alone")
                for last, cell in list(tested.items())[-1:]]
    done = whole["step"]
    return [(f"{share(tested['raw']['all'])} → {share(tested[done]['all'])} of {tested[done]['items']:,} test items "
             f"right ({points(whole)}{NOISE * whole['inside_noise']})", by(done))]


def by(step: str) -> str:
    number = step.removeprefix("round-")
    return " by " + (title_of(step) if number == step else f"joint training and {count(int(number), 'round').lower()}")


def tests_of(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Step -> what it scored on the test items."""
    return {step["name"]: step["test"] for step in report["steps"] if "test" in step}


def head(report: dict[str, Any], dates: str) -> list[Block]:
    run, done = report["run"], report["progress"]
    known = {"model": run["model"], "seed": run["seed"], "preset": run["preset"], "commit": run["git_commit"]}
    what = [*(f"{name} {value}" for name, value in known.items() if value is not None), *([dates] if dates else [])]
    blocks: list[Block] = [("p", " · ".join(what)), ("lead", in_short(report))]
    if done["missing"]:
        why = f"It stopped: {done['stop']}." if done["stop"] else "The command that began the run goes on from here."
        here = f"{len(done['complete'])} of {len(done['asked'])} steps are complete"
        blocks.append(("p", f"Not finished: {here}; missing: {', '.join(map(title_of, done['missing']))}. {why}"))
    return blocks


def in_short(report: dict[str, Any]) -> str:
    """The result in a few sentences: the benchmarks, then the run's own items."""
    tested = tests_of(report)
    validated = {step["name"]: step["validation"] for step in report["steps"] if "validation" in step}
    said, last = [in_a_sentence(cell) for cell in benchmark_changes(report)], report["best"]["last"]
    if tested:
        name = "joint" if "joint" in tested else list(tested)[-1]
        who = "The raw model" if name == "raw" else f"After {title_of(name)} the model"
        said.append(f"{who} answers {share(tested[name]['all'])} of {tested[name]['items']:,} test items exactly right"
                    + (f"; the raw model answered {share(tested['raw']['all'])}." if {"raw"} < set(tested) else "."))
    elif validated:
        said.append("This run has no test items. Exact match on its validation rows, in percent: "
                    + ", ".join(f"{title_of(name)} {interval(cell)}" for name, cell in validated.items()) + ".")
    if last in report["gains"]:
        asked, change = sum(ledger["queries"]["in"] for ledger in report["rounds"]), report["gains"][last]
        said.append(f"{count(len(report['gains']), 'round')} of self-evolution on {asked:,} queries without labels "
                    f"changed that by {in_words(change['all'])}.")
        if "unlabelled" in change:
            said.append(f"On the domains that had no labels the change is {in_words(change['unlabelled'])}.")
        if change["all"]["inside_noise"]:
            said.append(UNSHOWN)
    if report["in_all"] and report["in_all"]["step"] == last:
        said.append(f"In all, from the raw model on, that is {in_words(report['in_all'])}.")
    return " ".join(said) or "Nothing has been measured yet."


def in_a_sentence(cell: dict[str, Any]) -> str:
    """One cell of `measured.changes`: scores with their intervals, and the paired tests where there are any."""
    before, after, native = (f"{score['value']:.1f}% [{score['low']:.1f}, {score['high']:.1f}]" if score else ""
                             for score in (cell.get("before"), cell["after"], cell.get("native")))
    who = "The raw model" if cell["step"] == "raw" else f"After {title_of(cell['step'])} the model"
    text = f"{who} scores {after} on {cell['benchmark']}, overall, by the strict reading"
    if before:
        text += f"; the raw model scores {before}. Paired over the same entries: {in_words(cell['paired'])}"
    if native:
        text += (f". By its own tool prompt the raw model scores {native}; against that the step is "
                 f"{in_words(cell['paired_native'])}")
    return text + "."


# ------------------------------------------------------------------------------------------------------------- accuracy

def accuracy(steps: Sequence[dict]) -> list[Block]:
    parts = parts_of(steps)
    points = {part: [percent(cell_of(step, part)) for step in steps] for part in parts}
    top = max(point["high"] for cells in points.values() for point in cells if point)
    labels = [short(step["name"]) for step in steps]
    joined = [i > 0 and step["start"] == steps[i - 1]["name"] for i, step in enumerate(steps)]
    panels = [charts.interval_panel(f"Exact match: {part_title(part)}", labels, points[part],
                                    y_label="exact match, percent", low=0, high=top, joined=joined) for part in parts]
    sizes = {part: max(cell["items"] for step in steps for cell in [cell_of(step, part)] if cell) for part in parts}
    return [
        ("h", "Exact match after each step"),
        ("p", "Share of test items whose greedy answer equals the right calls, in percent, with 95% Wilson intervals."
         + (PARTS_MEAN if {"labelled", "unlabelled"} <= set(parts) else "")),
        ("figure", "Exact match in percent; the bars are 95% intervals.", panels),
        ("table", "Exact match, % [95% interval]", ["step", *(f"{part_name(part)} ({sizes[part]})" for part in parts)],
         [[title_of(step["name"]), *(interval(cell_of(step, part)) for part in parts)] for step in steps]),
        ("table", "What the answers were",
         ["step", "right", "wrong", "undecodable", "wrote tools instead", "called where no tool fits"],
         [[title_of(step["name"]), *map(number, step["test"]["outcomes"].values()), called(step)] for step in steps])]


def differences(steps: Sequence[dict]) -> list[Block]:
    """Every step against the one before it, whose weights it went on from.

    In a round that trains from joint: whose model wrote its data.
    """
    changed = [step for step in steps if "against_start" in step]
    if not changed:
        return []
    parts = [part for part in parts_of(steps) if part != "all"]
    rows = [[f"{title_of(step['name'])} against {title_of(step['start'])}", *comparison(step["against_start"]["all"]),
             *(difference(step["against_start"].get(part)) for part in parts)] for step in changed]
    tests = len(rows) * (1 + len(parts))
    return [("h", "What each step changed"), ("p", PAIRED.format(tests=tests, chance=max(1, round(0.05 * tests)))),
            ("table", "Each step against the one before it, points [95% interval]",
             ["step", "all", "p", "newly right", "newly wrong", *map(part_name, parts)], rows)]


def round_gains(gains: dict[str, dict[str, dict]]) -> list[Block]:
    """Every round against the step before the rounds."""
    if not gains:
        return []
    parts = list(next(iter(gains.values())))
    panels = gain_panels(gains, {part: f"Gain over joint training: {part_title(part)}" for part in parts},
                         "gain in exact match, points")
    return [("figure", "Gain of every round over joint training, in points (the paper's Fig. 2 shows this for BFCL); "
             "the bars are 95% intervals.", panels),
            ("table", "Each round against joint training, points [95% interval]", ["round", *map(part_name, parts)],
             [[title_of(name), *(difference(gain[part]) for part in parts)] for name, gain in gains.items()])]


def gain_panels(gains: Mapping[str, Mapping[str, dict]], titles: Mapping[str, str], y_label: str) -> list[str]:
    """A panel for each title, by part: the paired differences of every round, on one scale."""
    points = {part: [percent(gain[part], "difference") for gain in gains.values()] for part in titles}
    ends = [point[end] for column in points.values() for point in column for end in ("low", "high")]
    return [charts.interval_panel(title, list(map(title_of, gains)), points[part], y_label=y_label, low=min(0, *ends),
                                  high=max(0, *ends), signed=True, x_label="round") for part, title in titles.items()]


def categories(steps: Sequence[dict]) -> list[Block]:
    found: dict[str, int] = {}
    for step in steps:
        found |= {name: cell["items"] for name, cell in step["test"]["categories"].items()}
    rows = [[name.replace("_", " "), number(items), *(interval(step["test"]["categories"].get(name)) for step in steps)]
            for name, items in found.items()]
    return [("h", "By category"), ("table", "Exact match by category, % [95% interval]",
                                   ["category", "items", *(title_of(step["name"]) for step in steps)], rows)]


def which_is_best(report: dict[str, Any]) -> list[Block]:
    best = report["best"]
    what = "round" if is_round(str(best["last"])) else "step"
    words = {"last": f"last {what}", "by_validation": f"best {what} by validation",
             "on_test": f"best {what} on the test"}
    shown = [step for step in report["steps"] if "validation" in step or step["name"] in best.values()
             or step["stage"] == "evolve" and "test" in step]
    shown = [step for step in shown if "validation" in step or "test" in step]
    if not shown:
        return []
    blocks: list[Block] = [("h", "Which step to use"), ("p", CHOICE)]
    scored = [step for step in shown if "validation" in step]
    if scored:
        cells = [percent(step["validation"]) for step in scored]
        panel = charts.interval_panel("Exact match: validation rows", [short(step["name"]) for step in scored], cells,
                                      y_label="exact match, percent", low=0, high=max(cell["high"] for cell in cells))
        blocks.append(("figure", "Exact match on the validation rows, in percent.", [panel]))
    rows = [[title_of(step["name"]), interval(step.get("validation")), interval(step.get("test", {}).get("all")),
             ", ".join(text for key, text in words.items() if best[key] == step["name"]) or "–"] for step in shown]
    blocks.append(("table", "Exact match on validation and test, %", ["step", "validation", "test", "is"], rows))
    chosen = next((step for step in scored if step["name"] == best["by_validation"]), None)
    above = [title_of(step["name"]) for step in scored
             if chosen and step["validation"]["value"] > chosen["validation"]["value"]]
    if above:
        blocks.append(("p", f"Higher on validation than every round: {', '.join(above)}. By validation no round is the "
                       "step to use."))
    return blocks


# ------------------------------------------------------------------------------------------------------- self-evolution

def funnel(rounds: Sequence[dict]) -> list[Block]:
    sums = [f"round {r['round']}: {q['in']:,} queries = {q['accepted']:,} accepted + {q['rejected']:,} rejected"
            + ("" if r["adds_up"] else " (these counts DO NOT add up)") for r in rounds for q in [r["queries"]]]
    panels = [charts.funnel_panel(f"Queries that passed each stage: round {r['round']}",
                                  [(stage, cell["in"], cell["passed"]) for stage, cell in r["stages"].items()])
              for r in rounds]
    rows = [["queries in", *(number(r["queries"]["in"]) for r in rounds)]]
    for stage in rounds[0]["stages"]:
        cells = [r["stages"][stage] for r in rounds]
        reasons = sorted({reason for cell in cells for reason in cell["rejected"]},
                         key=lambda reason: (-sum(cell["rejected"].get(reason, 0) for cell in cells), reason))
        rows += [[f"{stage}: {reason}", *(number(cell["rejected"].get(reason, 0)) for cell in cells)]
                 for reason in reasons]
        rows.append([f"passed {stage}", *(number(cell["passed"]) for cell in cells)])
    rows += [[word, *(number(r["queries"][word]) for r in rounds)] for word in ("accepted", "rejected")]
    return [("h", "What became of the queries"),
            ("p", "Every query ends accepted, or rejected with a stage and a reason: " + "; ".join(sums) + "."),
            ("figure", "Dark: passed the stage. Pale: rejected there.", panels),
            ("table", "Rejections by stage and reason", ["", *heads(rounds)], rows)]


def votes(rounds: Sequence[dict]) -> list[Block]:
    blocks: list[Block] = []
    high = max((cell["voted"] for r in rounds for cell in r["votes"].values()), default=1)
    panels = [charts.histogram_panel(f"Queries by votes: round {r['round']}",
                                     [(n, cell["voted"], cell["accepted"]) for n, cell in by_number(r["votes"])],
                                     x_label="votes for the winning answer", y_label="queries", part="accepted",
                                     high=max(high, 1))
              for r in rounds if r["votes"]]
    if panels:
        rows = [["decided early" if n == "early" else f"{word} {n}", *(accepted_of(r[key].get(n)) for r in rounds)]
                for key, word in (("votes", "votes"), ("margins", "margin")) for n in keys_of(rounds, key)]
        blocks += [("figure", "Queries by the votes of their winning answer; dark: accepted.", panels),
                   ("table", "Accepted of voted, by votes and by margin over the second answer", ["", *heads(rounds)],
                    rows)]
    if any(r.get("judged") for r in rounds):
        rows = [[n, *(judged((r.get("judged") or {}).get(n)) for r in rounds)] for n in keys_of(rounds, "judged")]
        blocks += [("p", JUDGED), ("table", "Values of accepted answers by votes: precision / recall (answers)",
                                   ["votes", *heads(rounds)], rows)]
    return [("h", "The vote"), *blocks] if blocks else []


def instruments(rounds: Sequence[dict]) -> list[Block]:
    """Signs of a collapse: diversity, repetition of earlier rounds, the probe."""
    first = rounds[0]
    rows = [[key.replace("_", " "), *(number(r["diversity"].get(key)) for r in rounds)]
            for key, value in first["diversity"].items() if not isinstance(value, dict)]
    rows += [[f"{key.replace('_', ' ')} in earlier rounds", *(number(r["similarity"].get(key)) for r in rounds)]
             for key in first["similarity"]]
    rows += [["tokens written", *(number(r["tokens_written"]) for r in rounds)],
             ["samples that wrote tools instead", *(number(r["wrote_tools_instead"]) for r in rounds)]]
    blocks: list[Block] = [("h", "Signs of collapse, and of confidence"),
                           ("table", "Variety of what was accepted (entropies in bits)", ["", *heads(rounds)], rows)]
    named = [(f"before round {first['round']}", first["probe"].get("before")),
             *((f"after round {r['round']}", r["probe"].get("after")) for r in rounds)]
    probes = [(name, probe) for name, probe in named if probe]
    if probes:
        scores = ("agreement", "logprob", "right", "unparsed")
        blocks += [("p", PROBE.format(examples=probes[0][1]["examples"])),
                   ("table", "Probe",
                    ["", "agreement", "log-probability a token", "right", "unparsed", "wrote tools instead"],
                    [[name, *(charts.minus(f"{probe[key]:.3f}") for key in scores),
                      number(probe["wrote_tools_instead"])] for name, probe in probes])]
    return blocks


# -------------------------------------------------------------------------------------- training, paper, and the record

def training(report: dict[str, Any]) -> list[Block]:
    trained = [(step["name"], step["training"]) for step in report["steps"] if "training" in step]
    if not trained:
        return []
    spent, rows = report["seconds"]["steps"], []
    for name, cell in trained:
        pace = spent.get(name, {})
        time = f"{pace['all'] / 60:.1f}" if "all" in pace else "–"
        facts = [cell[key] for key in ("steps", "tokens", "supervised_tokens", "skipped", "first_loss", "last_loss")]
        rows.append([title_of(name), *map(number, facts), time, number(pace.get("tok_per_s")),
                     number(pace.get("peak_mem_gb"))])
    panels = [charts.loss_panel(f"Training loss: {title_of(name)}", cell["curve"])
              for name, cell in trained if cell["curve"]]
    return [("h", "Training"), ("figure", "Loss a token, in nats, over optimizer steps; dark: running mean.", panels),
            ("table", "Training; minutes are those of the whole step with its sampling and evaluation",
             ["step", "steps", "tokens", "supervised", "skipped", "first loss", "last loss", "minutes", "tokens/s",
              "GiB at most"], rows)]


def beside_paper(report: dict[str, Any], steps: dict[str, dict]) -> list[Block]:
    parts, best, paper = parts_of(list(steps.values())), report["best"], report["paper"]
    lines = [(cell["title"], cell["bfcl"], steps.get(name)) for name, cell in paper["variants"].items()]
    chosen = best["by_validation"] or best["last"] or ""
    if is_round(chosen):
        lines.append((f"after the rounds (here: {title_of(chosen)})", paper["evolved"], steps.get(chosen)))
    rows = [[name, *(f"{value:.2f}" for value in bfcl.values()),
             *(interval(step and cell_of(step, part)) for part in parts)] for name, bfcl, step in lines]
    return [("h", "Beside the paper"), ("p", PAPER),
            ("table", "The paper's BFCL accuracy and this run's exact match, %",
             ["variant", "paper: non-live", "live", "overall", *(f"here: {part_name(part)}" for part in parts)], rows)]


def writings(samples: dict[str, list[dict]]) -> list[Block]:
    folds: list[Block] = []
    for name, found in samples.items():
        known = "expected" in found[0]
        heading = f"After {title_of(name)}: answers that are not right" if known else name.capitalize()
        columns = ["id", "why", "query", "expected", "written"] if known else ["id", "why", "detail", "written"]
        rows = [[one[column] for column in columns] for one in found]
        folds.append(("fold", f"{heading} ({len(found)})", [("table", heading, columns, rows)]))
    return [("h", "Some of what it wrote"), *folds] if folds else []


def record(report: dict[str, Any]) -> list[Block]:
    run = report["run"]
    rows = [[row["name"], number(row["here"]), "not stated" if row["paper"] is None else number(row["paper"])]
            for row in report["settings"]]
    facts = [[name, str(value)] for name, value in run["versions"].items()]
    facts += [[f"rows of {name}", number(value)] for name, value in run["rows"].items()]
    facts += [[f"sha256 of {name}", digest[:16]]
              for kind in ("model", "data") for name, digest in run[f"{kind}_sha256"].items()]
    blocks: list[Block] = [("h", "Settings"),
                           ("table", "This run beside the paper", ["setting", "here", "paper"], rows)]
    more = ("fold", "Versions, data and hashes", [("table", "What a repetition needs", ["what", "here"], facts)])
    return [*blocks, more] if facts else blocks


# ------------------------------------------------------------------------------------------------------- values as text

def title_of(name: str) -> str:
    return TITLES.get(name, name.replace("round-", "round "))


def short(name: str) -> str:
    return SHORT.get(name, name.replace("round-", "r"))


def heads(rounds: Sequence[dict]) -> list[str]:
    return [f"round {r['round']}" for r in rounds]


def parts_of(steps: Sequence[dict]) -> list[str]:
    """"all", and the parts of the test where there are several."""
    sets = list(dict.fromkeys(name for step in steps for name in step["test"]["sets"]))
    return ["all", *sets] if len(sets) > 1 else ["all"]


def part_name(part: str) -> str:
    return PARTS.get(part, part)


def part_title(part: str) -> str:
    return "all test items" if part == "all" else part_name(part)


def cell_of(step: dict, part: str) -> dict | None:
    return step["test"]["all"] if part == "all" else step["test"]["sets"].get(part)


def percent(cell: dict | None, key: str = "value") -> dict | None:
    """A score on the scale 0..1 as a point for a chart; without an interval its bar has no length."""
    return cell and {name: 100 * cell.get(name, cell[key]) for name in ("low", "high")} | {"value": 100 * cell[key]}


def count(n: int, noun: str) -> str:
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six")
    return f"{words[n] if n < len(words) else n} {noun}{'' if n == 1 else 's'}"


def share(cell: dict) -> str:
    return f"{100 * cell['value']:.1f}%"


def interval(cell: dict | None) -> str:
    if cell is None:
        return "–"
    text = f"{100 * cell['value']:.1f}"
    return f"{text} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]" if "low" in cell else text


def difference(cell: dict | None) -> Cell:
    if cell is None:
        return "–"
    text = charts.minus(f"{100 * cell['difference']:+.1f} [{100 * cell['low']:+.1f}, {100 * cell['high']:+.1f}]")
    return (text, "inside the noise") if cell["inside_noise"] else text


def points(cell: dict) -> str:
    return charts.minus(f"{100 * cell['difference']:+.1f} points")


def in_words(cell: dict) -> str:
    text = charts.minus(f"{100 * cell['difference']:+.1f} points [{100 * cell['low']:+.1f}, {100 * cell['high']:+.1f}]")
    apart = cell["low"] > 0 or cell["high"] < 0             # then it is p that says so: a reader of the interval asks
    p = f" (p = {cell['p_value']:.3f})" if apart and cell["inside_noise"] and "p_value" in cell else ""
    return text + p + NOISE * cell["inside_noise"]


def comparison(cell: dict) -> list[Cell]:
    p = "< 0.001" if cell["p_value"] < 0.001 else f"{cell['p_value']:.3f}"
    return [difference(cell), p, number(cell.get("only_b")), number(cell.get("only_a"))]


def called(step: dict) -> str:
    cell = step["test"]["called_when_no_tool_fits"]
    return f"{round(cell['value'] * cell['items'])} of {cell['items']}" if cell["items"] else "–"


def number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return charts.minus(f"{value:,}")
    if isinstance(value, float):
        return charts.minus(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}")
    return str(value)


def by_number(table: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(table.items(), key=lambda item: (not item[0].isdigit(), int(item[0]) if item[0].isdigit() else 0))


def keys_of(rounds: Sequence[dict], key: str) -> list[str]:
    return [name for name, _ in by_number({name: None for r in rounds for name in r.get(key) or {}})]


def accepted_of(cell: dict | None) -> str:
    return f"{cell['accepted']:,} of {cell['voted']:,}" if cell else "–"


def judged(cell: dict | None) -> str:
    return f"{100 * cell['precision']:.1f} / {100 * cell['recall']:.1f} ({cell['examples']:,})" if cell else "–"
