"""The benchmarks' part of a report as blocks: the paper's Tables 1 to 3 and Figures 2 and 3 for the steps of a run.

Everything of ours is given twice, by the strict and by the lenient reading of the same answers (eval/lenient.py). What
others published stands beside it: the paper's rows (paper.py) and small models (small_models.csv, facts with their
sources).
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.bfcl.entries import IRRELEVANCE
from eval.lenient import LENIENT, READINGS, STRICT
from eval.report import charts
from eval.report.gather import is_round
from eval.report.markup import Block, Cell
from eval.report.measured import BENCHMARKS, NATIVE
from eval.report.page import comparison, gain_panels, number, short, title_of
from eval.report.paper import TABLE_1, TABLE_1_COLUMNS, TABLE_2
from tooldev import PAPER_EVOLVED, STEPS, VARIANTS

AGGREGATES = ("non_live", "live", "overall")
PAPER_ROWS = ("ToolDev (FC)", "ToolACE-8B (FC)", "xLAM-7b-fc-r (FC)")
FACTS = Path(__file__).with_name("small_models.csv")
TWICE = ("Every answer is read twice. Strict: the paper's <tool_call> tags, or the benchmark's own form, and nothing "
         "else. Lenient: where the strict reading finds nothing, also JSON objects and lists, bare or fenced, and "
         "pythonic calls, words around them ignored; broken JSON is never mended. Where a call is wanted, the lenient "
         "score is never the lower one; where none fits, it sees calls that the strict reading does not.")
PUBLISHED = ("Published rows are other models, asked and read by others' programs; they stand in the strict columns. "
             "“Leaderboard” and a date: the table on its site then (gh-pages of ShishirPatil/gorilla: 2025-12-16 "
             "is ea03bc8d, 2025-04-25 d439d555, 2024-12-06 0312a525), on data that changed between the tables. The "
             "same model moves by 3 to 7 points from table to table; differences under 3 points say nothing.")
OTHERS = "ToolRL: arXiv 2504.13958. Tool-R0: arXiv 2602.21320. The paper: arXiv 2505.07512."
STAND_IN = ("T-Eval's plans are judged by a stand-in for the released sentence encoder: that third of its overall is "
            "not comparable with published ones.")
PAPERS_MODEL = "The paper's model is Llama-3.1-8B-Instruct: the directions can be compared, the numbers cannot."
NO_FUNCTION_FITS = ", where no function fits"
PAIRED = ("Paired on the same entries, those that want a call, each counting alike (the aggregates weigh categories). "
          "Entries that no function fits have lines of their own; there no call is right. In points of 100 with a 95% "
          "bootstrap interval, and McNemar's exact p where scores are right or wrong; “inside the noise” where the "
          "interval holds zero or p is 0.05 or more. {tests} comparisons stand here, uncorrected.")
SECTION_4_5 = ("Section 4.5 of the paper: after tool documentation adaption alone, small models tend to write tools "
               "instead of calling them; it gives no count. “Tools instead” counts that here.")
WRITTEN = {"calls": "calls", "no_call": "the no-call sentence", "wrote_tools_instead": "tools instead",
           "no_call_text": "other text"}


def contents(found: Mapping[str, Any]) -> list[Block]:
    """All blocks of what `measured` gathered; what was not measured leaves none."""
    steps = found["steps"]
    if not steps:
        return []
    told = dict.fromkeys(f"{BENCHMARKS[bench]} {cell['subset']['entries']:,} of {cell['subset']['of']:,} entries"
                         for cells in steps.values() for bench, cell in cells.items() if cell["subset"])
    blocks: list[Block] = [("h", "Benchmarks"), ("p", TWICE)]
    if told:
        blocks.append(("p", "Not the whole benchmarks, but of each a fixed subset by hash, the categories in "
                            f"proportion: {'; '.join(told)}."))
    own = [name_of(label) for label, cells in found["steps"].items()
           if not label.endswith(NATIVE) and any(cell["prompt"] == "native" for cell in cells.values())]
    if own:
        blocks.append(("p", f"Trained and asked by the model's own tool prompt: {', '.join(own)}."))
    for make in (table_1, all_columns, irrelevance, table_2, seal_tools, table_3, variants_figure, rounds_figure,
                 kinds_of_answers):
        blocks += make(found)
    return blocks + differences(found["comparisons"])


def of_bench(found: Mapping[str, Any], bench: str) -> dict[str, dict[str, Any]]:
    """Label -> its cell of one benchmark."""
    return {label: cells[bench] for label, cells in found["steps"].items() if bench in cells}


def name_of(label: str) -> str:
    """A label in words."""
    base = label.removesuffix(NATIVE)
    if base == label:
        return title_of(label)
    return f"{title_of(base)}, by its own tool prompt"


def small_models() -> list[dict[str, Any]]:
    """The published facts about small models: numbers as numbers, gaps as None."""
    with FACTS.open(encoding="utf-8", newline="") as file:
        return [{key: value if key in ("model", "source") else float(value) if value else None
                 for key, value in row.items()} for row in csv.DictReader(file)]


def shown(score: Mapping[str, float] | None) -> str:
    """A score in percent with its interval."""
    return "–" if score is None else f"{score['value']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"


def plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def twice(names: Sequence[str]) -> list[str]:
    """A head for each reading of each name."""
    return [f"{name.replace('_', '-')} {reading}" for name in names for reading in READINGS]


def both(cell: Mapping[str, Any], name: str, show: Callable[[Any], str] = shown) -> list[str]:
    return [show(cell["scores"][reading].get(name)) for reading in READINGS]


# ------------------------------------------------------------------------------------------------------ Tables 1, 2, 3

def table_1(found: Mapping[str, Any]) -> list[Block]:
    """The three aggregates of BFCL, with the paper's row and the small models."""
    ours = of_bench(found, "bfcl")
    if not ours:
        return []
    rows = [[name_of(label), *(text for name in AGGREGATES for text in both(cell, name)), "here"]
            for label, cell in ours.items()]
    published = [(name, *values[8:], "the paper, Table 1") for name, _, values in TABLE_1 if name in PAPER_ROWS]
    published += [(row["model"], row["non_live"], row["live"], None if row["live"] is None else
                   (row["non_live"] + row["live"]) / 2, row["source"])
                  for row in small_models() if row["non_live"] is not None]
    rows += [[name, *(text for value in values for text in (plain(value), "–")), source]
             for name, *values, source in published]
    return [("p", PUBLISHED), ("table", "Table 1: BFCL, single-turn AST, % [95% interval]",
                               ["model", *twice(AGGREGATES), "from"], rows)]


def all_columns(found: Mapping[str, Any]) -> list[Block]:
    """The eight categories of Table 1; of ours strict / lenient."""
    ours, columns = of_bench(found, "bfcl"), TABLE_1_COLUMNS[:8]
    if not ours:
        return []
    rows = [[name_of(label), *(" / ".join(both(cell, name, _value)) for name in columns)]
            for label, cell in ours.items()]
    rows += [[name, *map(plain, values[:8])] for name, _, values in TABLE_1 if name in PAPER_ROWS]
    rows += [[row["model"], *(plain(row[name]) for name in columns)] for row in small_models()
             if row["non_live_simple"] is not None]
    heads = [name.replace("non_live", "non-live").replace("_", " ") for name in columns]
    return [("table", "Table 1, its categories, % (of ours strict / lenient)", ["model", *heads], rows)]


def _value(score: Mapping[str, float] | None) -> str:
    return plain(score and score["value"])


def irrelevance(found: Mapping[str, Any]) -> list[Block]:
    """How often no call was made where no function fits."""
    ours = {label: cell for label, cell in of_bench(found, "bfcl").items() if cell["irrelevance"][STRICT]}
    if not ours:
        return []
    rows = [[name_of(label), *(shown(cell["irrelevance"][reading].get(name)) for name in IRRELEVANCE
                               for reading in READINGS), "here"] for label, cell in ours.items()]
    rows += [[row["model"], *(text for name in IRRELEVANCE for text in (plain(row[name]), "–")), row["source"]]
             for row in small_models() if row["irrelevance"] is not None]
    return [("p", "Where no function fits, the right answer is no call. A model that writes nothing readable is right "
             "here by default, above all by the strict reading: read it beside the table above."),
            ("table", "Irrelevance: entries without a call, % [95% interval]", ["model", *twice(IRRELEVANCE), "from"],
             rows)]


def table_2(found: Mapping[str, Any]) -> list[Block]:
    """API-Bank and T-Eval, overall."""
    benches = [bench for bench in ("apibank", "teval") if of_bench(found, bench)]
    if not benches:
        return []
    rows: list[list[str]] = []
    for label, cells in found["steps"].items():
        if any(bench in cells for bench in benches):
            texts = [both(cells[bench], "overall") if bench in cells else ["–", "–"] for bench in benches]
            rows.append([name_of(label), *(text for pair in texts for text in pair), "here"])
    published = [(name, row, "the paper, Table 2") for name, row in TABLE_2.items()]
    published += [(row["model"], row, row["source"]) for row in small_models() if row["apibank"] is not None]
    rows += [[name, *(text for bench in benches for text in (plain(row.get(bench)), "–")), source]
             for name, row, source in published if any(row.get(bench) is not None for bench in benches)]
    notes = [("p", OTHERS + (" " + STAND_IN if "teval" in benches else ""))]
    heads = [f"{BENCHMARKS[bench]} {reading}" for bench in benches for reading in READINGS]
    return [*notes, ("table", "Table 2: API-Bank and T-Eval, % [95% interval]", ["model", *heads, "from"], rows)]


def seal_tools(found: Mapping[str, Any]) -> list[Block]:
    """Seal-Tools by split, which the paper does not have."""
    ours = of_bench(found, "sealtools")
    names = list(dict.fromkeys(name for cell in ours.values() for name in cell["scores"][STRICT]))
    if not names:
        return []
    rows = [[name_of(label), *(text for name in names for text in both(cell, name))] for label, cell in ours.items()]
    return [("table", "Seal-Tools, % [95% interval]", ["model", *twice(names)], rows)]


def table_3(found: Mapping[str, Any]) -> list[Block]:
    """The variants beside the paper's, as scores and as gains over the raw model."""
    ours = {name: cell for name, cell in of_bench(found, "bfcl").items() if name in VARIANTS or is_round(name)}
    if "raw" not in ours or len(ours) < 2:
        return []
    rows = []
    for name, cell in ours.items():
        paper = VARIANTS[name].paper if name in VARIANTS else None
        if name == list(ours)[-1] and is_round(name):
            paper = PAPER_EVOLVED
        title = VARIANTS[name].title if name in VARIANTS else title_of(name)
        gain = [] if name == "raw" else [_gain(cell, ours["raw"], reading) for reading in READINGS]
        theirs = None if paper is None or name == "raw" else paper[2] - VARIANTS["raw"].paper[2]
        rows.append([title, *(text for aggregate in AGGREGATES for text in both(cell, aggregate, _value)),
                     *(map(signed, gain) if gain else ("–", "–")), *(map(plain, paper or (None, None, None))),
                     signed(theirs)])
    heads = [*twice(AGGREGATES), *twice(["gain"]), *(f"paper {name.replace('_', '-')}" for name in AGGREGATES),
             "paper gain"]
    return [("p", PAPERS_MODEL + " Gains are those of the overall score over the raw model; the paper's last row is "
             "its best round, ours the last."),
            ("table", "Table 3: the training objectives, BFCL, %", ["variant", *heads], rows)]


def _gain(cell: Mapping[str, Any], raw: Mapping[str, Any], reading: str) -> float | None:
    scores = [part["scores"][reading].get("overall") for part in (cell, raw)]
    return None if None in scores else scores[0]["value"] - scores[1]["value"]


def signed(value: float | None) -> str:
    return "–" if value is None else charts.minus(f"{value:+.1f}")


# --------------------------------------------------------------------------------------------------------- Figures 2, 3

def variants_figure(found: Mapping[str, Any]) -> list[Block]:
    """Figure 3: every step's aggregates of BFCL, by both readings."""
    ours = {name: cell for name, cell in of_bench(found, "bfcl").items() if name in STEPS or is_round(name)}
    points = {(name, reading): [cell["scores"][reading].get(name) for cell in ours.values()]
              for name in ("non_live", "live") for reading in READINGS}
    known = [point["high"] for column in points.values() for point in column if point]
    if len(ours) < 2 or not known:
        return []
    panels = [charts.interval_panel(f"BFCL accuracy: {name.replace('_', '-')}, {reading} reading",
                                    list(map(short, ours)), column, y_label="accuracy, percent", low=0,
                                    high=max(known), joined=[False] * len(ours))
              for (name, reading), column in points.items()]
    return [("figure", "The variants and rounds on BFCL, in percent (the paper's Fig. 3 shows the variants); the bars "
             "are 95% intervals.", panels)]


def rounds_figure(found: Mapping[str, Any]) -> list[Block]:
    """Figure 2: what every round gained over joint training on BFCL, on the same entries."""
    gains = {pair["after"]: pair for pair in found["comparisons"]
             if pair["before"] == "joint" and is_round(pair["after"]) and pair["benchmark"] == "bfcl"}
    if not gains:
        return []
    panels = gain_panels(gains, {word: f"BFCL gain over joint training: {word} reading" for word in READINGS},
                         "gain, points of the entries")
    return [("figure", "Gain of every round over joint training on BFCL, in points of its entries (the paper's Fig. 2 "
             "shows such gains); the bars are 95% intervals.", panels)]


# ------------------------------------------------------------------------------------------------- answers, differences

def kinds_of_answers(found: Mapping[str, Any]) -> list[Block]:
    """What the answers are in the paper's format, and how many neither reading understands."""
    rows: list[list[str]] = []
    for bench in ("bfcl", "apibank"):
        for label, cell in of_bench(found, bench).items():
            written = cell["written"]
            broken = sum(count for form, count in written.items() if form not in WRITTEN)
            undecodable = [sum(cell["outcomes"][reading].get(word, 0) for word in ("undecodable", "no_call"))
                           for reading in READINGS]
            rows.append([f"{name_of(label)}, {BENCHMARKS[bench]}", number(sum(written.values())),
                         *(number(written.get(form, 0)) for form in WRITTEN), number(broken), number(cell["cut_off"]),
                         *map(number, undecodable)])
    if not rows:
        return []
    heads = ["step", "answers", *WRITTEN.values(), "broken", "cut off", *(f"undecodable {word}" for word in READINGS)]
    return [("p", SECTION_4_5), ("table", "What the answers were, in the paper's format", heads, rows)]


def differences(compared: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The paired tests between steps."""
    if not compared:
        return []
    rows: list[list[Cell]] = []
    tests = [(BENCHMARKS[pair["benchmark"]] + part, pair, cells) for pair in compared
             for part, cells in (("", pair), (NO_FUNCTION_FITS, pair.get("silence"))) if cells]
    for where, pair, of in tests:
        title = f"{where}: {name_of(pair['after'])} against {name_of(pair['before'])}"
        cells = [cell for reading in READINGS for cell in comparison(of[reading])]
        rows.append([title, number(of[STRICT]["n"]), *cells])
    heads = [f"{word}, {reading}" for reading in READINGS for word in ("difference", "p", "newly right", "newly wrong")]
    said = PAIRED.format(tests=2 * len(rows))
    apart = max(of[reading]["left_out"] for *_, of in tests for reading in (STRICT, LENIENT))
    said += f" Entries that only one side answered are left out, {apart:,} at most." if apart else ""
    return [("p", said), ("table", "Steps against one another, points [95% interval]", ["steps", "entries", *heads],
                          rows)]
