"""The paper's tables and figures with ours beside them, as `python -m eval.report.tables` (see docs/benchmarks.md).

Table 1 is from the leaderboard's CSV, Tables 2 and 3 and the data of Figures 2 to 4 from summary.json files. Ours and
the paper's are comparable only on the same data, model and prompts; each row says whether they are.
"""

import argparse
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data.files import write_json, write_text
from data.schema import read_json
from eval.bfcl.benchmark import REFUSED
from eval.bfcl.entries import LIVE, SIZES_2024
from eval.report.charts import STYLE, interval_panel
from eval.report.paper import TABLE_1, TABLE_1_COLUMNS, TABLE_2
from eval.score import run_module, subset_text
from eval.uncertainty import over_seeds
from tooldev import VARIANTS

CSV_COLUMNS = ("Non-Live Simple AST", "Non-Live Multiple AST", "Non-Live Parallel AST",
               "Non-Live Parallel Multiple AST", "Live Simple AST", "Live Multiple AST", "Live Parallel AST",
               "Live Parallel Multiple AST")
AGGREGATES = ("non_live", "live", "overall")
COLOURS = ":root{--sans:sans-serif;--ink:#222;--muted:#666;--paper:#fff;--rule:#ddd;--accent:#246;--pale:#9bd}"


@dataclass
class Table:
    """A printed table: its notes say what is comparable with what."""

    title: str
    heads: tuple[str, ...]
    rows: list[tuple] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", "| " + " | ".join(self.heads) + " |", "|" + " --- |" * len(self.heads)]
        lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in self.rows]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)]) + "\n"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


# -------------------------------------------------------------------------------------------------------------- Table 1

def leaderboard_row(row: Mapping[str, str]) -> dict[str, float]:
    """The paper's eleven columns from one CSV row, as the paper makes them.

    Non-live is the CSV's own column; live is the mean of the four printed percentages weighted by their counts; overall
    is the plain mean of the two. (Weighting exact counts instead moves live by at most 0.01.)
    """
    values = [_percent(row[name]) for name in CSV_COLUMNS]
    sizes = [SIZES_2024[name] for name in LIVE]
    non_live = _percent(row["Non-Live AST Acc"])
    live = sum(v * n for v, n in zip(values[4:], sizes)) / sum(sizes)
    return dict(zip(TABLE_1_COLUMNS, (*values, non_live, live, (non_live + live) / 2)))


def _percent(text: str) -> float:
    return float(text.rstrip("%"))


def read_leaderboard(path: str | Path) -> dict[str, dict[str, float]]:
    """Model name -> the eleven columns, for every row of the CSV.

    Raises:
        FileNotFoundError, ValueError: no such file, or not the leaderboard's columns.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the leaderboard's data_combined_Sep_20_2024.csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    missing = {"Model", "Non-Live AST Acc", *CSV_COLUMNS} - set(rows[0] if rows else ())
    if missing:
        raise ValueError(f"{path}: no column {sorted(missing)}; expected the leaderboard's CSV of 2024-09-20")
    return {row["Model"]: leaderboard_row(row) for row in rows}


def recompute_table_1(leaderboard: Mapping[str, Mapping[str, float]]) -> list[dict]:
    """For every row of the paper's Table 1: the cells whose recomputed value differs from the printed one.

    Rows without a CSV row are recomputed from the paper's own category cells and say so.
    """
    checks = []
    for name, model, printed in TABLE_1:
        cells = dict(zip(TABLE_1_COLUMNS, printed))
        if model is not None and model in leaderboard:
            found, source = leaderboard[model], "csv"
        else:
            row = {column: f"{cells[key]}%" for column, key in zip(CSV_COLUMNS, TABLE_1_COLUMNS)}
            row["Non-Live AST Acc"] = f"{sum(printed[:4]) / 4:.2f}%"
            found, source = leaderboard_row(row), "the paper's own cells: this model is not in the CSV"
        wrong = {key: (cells[key], round(found[key], 4)) for key in TABLE_1_COLUMNS
                 if abs(found[key] - cells[key]) > 0.005 + 1e-9}
        checks.append({"name": name, "source": source, "differs": wrong})
    return checks


def table_1(leaderboard: Mapping[str, Mapping[str, float]], ours: Mapping[str, Mapping] | None = None) -> Table:
    """The paper's rows, from the leaderboard where it has them, with ours (name -> summary), by the overall score."""
    ours = ours or {}
    rows: list[tuple] = []
    for name, model, printed in TABLE_1:
        values = leaderboard[model] if model in leaderboard else dict(zip(TABLE_1_COLUMNS, printed))
        rows.append((name, *(round(values[c], 2) for c in TABLE_1_COLUMNS), "CSV" if model in leaderboard else "paper"))
    notes = ["Live is the count-weighted mean of its four categories, overall the mean of non-live and live."]
    for name, summary in ours.items():
        scores = summary["scores"]
        rows.append((name, *(scores[c]["value"] if c in scores else None for c in TABLE_1_COLUMNS), "ours"))
        notes += [f"{name}: overall {_interval(scores.get('overall'))}, 95% interval; {comparable(summary)}"]
    differing = [check for check in recompute_table_1(leaderboard) if check["differs"]]
    notes.append("Every printed aggregate follows from its row to the printed digit." if not differing else
                 "Printed cells that do not follow from their row: "
                 + "; ".join(f"{c['name']} {sorted(c['differs'])}" for c in differing))
    rows.sort(key=lambda row: -(row[11] or 0.0))
    short = [c.replace("non_live", "NL").replace("live", "L").replace("_", " ") for c in TABLE_1_COLUMNS]
    return Table("Table 1: BFCL, single-turn AST, percent", ("model", *short, "from"), rows, notes)


def comparable(summary: Mapping) -> str:
    """Whether a summary may stand beside the paper's BFCL numbers, in words."""
    reasons = []
    if not str(summary.get("edition", "")).startswith("v3"):
        reasons.append(f"other data ({summary.get('edition')})")
    if summary.get("subset"):
        reasons.append(subset_text(summary["subset"]))
    elif not summary.get("complete", False) or summary.get("limited_to") or summary.get("counts", {}).get("missing"):
        reasons.append("not every entry was answered")
    if refused := summary.get("undecodable_reasons", {}).get(REFUSED):
        reasons.append(f"{refused} prompts were too long for the model")
    return "not comparable with the paper: " + ", ".join(reasons) if reasons else "same data and rules as the paper"


def _interval(score: Mapping | None) -> str:
    return "n/a" if score is None else f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


# ------------------------------------------------------------------------------------------------------- Tables 2 and 3

def table_2(ours: Mapping[str, Mapping[str, Mapping]]) -> Table:
    """API-Bank and T-Eval: the paper's rows, then ours (name -> {"apibank": summary, "teval": summary})."""
    table = Table("Table 2: API-Bank and T-Eval, percent", ("model", "API-Bank", "T-Eval", "from"))
    table.rows = [(name, row["apibank"], row["teval"], "paper") for name, row in TABLE_2.items()]
    table.notes = ["API-Bank: mean of Call and Retrieve+Call. T-Eval: mean of plan, retrieve and understand.",
                   "The paper's GPT-4-turbo T-Eval figure equals the published version 1 table; its other rows may be "
                   "version 2."]
    for name, summaries in ours.items():
        scores = {bench: summaries.get(bench, {}).get("scores", {}).get("overall") for bench in ("apibank", "teval")}
        table.rows.append((name, *(s["value"] if s else None for s in scores.values()), "ours"))
        if scores["apibank"]:
            table.notes.append(f"{name}: API-Bank {_interval(scores['apibank'])}, tool search by a lexical stand-in.")
        if scores["teval"]:
            teval = summaries["teval"]
            apart = "" if teval["comparable"]["plan"] else ": plan not comparable"
            table.notes.append(f"{name}: T-Eval {_interval(scores['teval'])}, {teval['version']} rules, "
                               f"plan similarity {teval['similarity']}{apart}")
    return table


def table_3(runs: Mapping[str, Sequence[Mapping]], variants: Mapping[str, tuple[str, Sequence[float]]]) -> Table:
    """The ablation: mean and 95% t-interval over seeds for each variant, the paper's score and the difference.

    Args:
        runs: variant -> one BFCL summary per seed.
        variants: variant -> (title, the paper's non-live, live and overall), as `tooldev.VARIANTS` has them.
    """
    columns = [f"{name} {whose}" for name in ("non-live", "live", "overall") for whose in ("ours", "paper", "diff.")]
    table = Table("Table 3: ablation of the training objectives, percent", ("model", "seeds", *columns))
    for name, summaries in runs.items():
        title, paper = variants.get(name, (name, (None, None, None)))
        cells: list = [title, len(summaries)]
        for aggregate, theirs in zip(AGGREGATES, paper):
            values = [s["scores"][aggregate]["value"] for s in summaries if aggregate in s["scores"]]
            mean = over_seeds(values) if values else None
            cells += [with_half(mean) if mean else "", theirs,
                      mean["mean"] - theirs if mean and theirs is not None else None]
        table.rows.append(tuple(cells))
        table.notes += sorted({f"{title}: {comparable(s)}" for s in summaries})
    table.notes.append("± is half of the 95% t-interval over seeds; with one seed there is none.")
    return table


def with_half(mean: Mapping) -> str:
    """A mean of `over_seeds` and half of its interval, where it has one."""
    return f"{mean['mean']:.2f}" + (f" ± {mean['high'] - mean['mean']:.2f}" if mean["std"] is not None else "")


# -------------------------------------------------------------------------------------------------------------- figures

def figure(title: str, points: Mapping[str, Sequence[Mapping]]) -> tuple[dict, str]:
    """(data, SVG) of a figure: non-live, live and overall for each label (a round, a variant, a backbone).

    One summary gives its own interval over entries, several give the interval over seeds.
    """
    series = {a: [_point(summaries, a) for summaries in points.values()] for a in AGGREGATES}
    known = [p for values in series.values() for p in values if p]
    if not known:
        raise ValueError(f"{title}: no summary has non-live, live or overall; score all categories first")
    low, high = min(p["low"] for p in known), max(p["high"] for p in known)
    x_label = "round" if all(label.startswith("round") for label in points) else "model"
    panels = [interval_panel(f"BFCL accuracy: {a.replace('_', '-')}", list(points), series[a],
                             y_label="accuracy, percent", low=low, high=high, x_label=x_label) for a in AGGREGATES]
    gains = {a: [round(p["value"] - values[0]["value"], 2) if p and values[0] else None for p in values]
             for a, values in series.items()}
    return {"title": title, "labels": list(points), "series": series, "gains_over_first": gains}, _stacked(panels)


def _point(summaries: Sequence[Mapping], aggregate: str) -> dict | None:
    scores = [s["scores"][aggregate] for s in summaries if aggregate in s["scores"]]
    if not scores:
        return None
    if len(scores) == 1:
        return dict(scores[0])
    mean = over_seeds([s["value"] for s in scores])
    return {"value": round(mean["mean"], 2), "low": round(mean["low"], 2), "high": round(mean["high"], 2)}


def _stacked(panels: Sequence[str]) -> str:
    """Panels below one another in one file that stands alone."""
    boxes = [[float(v) for v in re.search(r'viewBox="([^"]+)"', panel)[1].split()] for panel in panels]
    parts, top = [], 0.0
    for panel, (_, _, width, height) in zip(panels, boxes):
        parts.append(panel.replace("<svg ", f'<svg x="0" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" ', 1))
        top += height + 12
    width = max(box[2] for box in boxes)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {top:.0f}">'
            f"<style>{COLOURS}\n{STYLE}</style>{''.join(parts)}</svg>\n")


# --------------------------------------------------------------------------------------------------------- command line

def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, help="folder for the tables and figures")
    parser.add_argument("--csv", help="data_combined_Sep_20_2024.csv: writes Table 1")
    parser.add_argument("--figure", default="Figure 2", help="title of the figure made from --point")
    for flag, value, text in (("--row", "NAME=SUMMARY", "a row of ours in Tables 1 and 2"),
                              ("--variant", "VARIANT=SUMMARY,...", "a row of Table 3, one summary a seed"),
                              ("--point", "LABEL=SUMMARY,...", "a point of a figure, one summary a seed")):
        parser.add_argument(flag, action="append", default=[], metavar=value, help=text)


def main(args: argparse.Namespace) -> int | None:
    out, tables = Path(args.out), []
    rows = _named(args.row)
    if args.csv:
        ours = {name: s for name, group in rows.items() for s in group if s["benchmark"] == "bfcl"}
        tables.append(("table-1", table_1(read_leaderboard(args.csv), ours)))
    others = {name: {s["benchmark"]: s for s in group if s["benchmark"] != "bfcl"} for name, group in rows.items()}
    if any(others.values()):
        tables.append(("table-2", table_2({name: group for name, group in others.items() if group})))
    if args.variant:
        tables.append(("table-3", table_3(_named(args.variant), {n: (v.title, v.paper) for n, v in VARIANTS.items()})))
    for name, table in tables:
        write_text(out / f"{name}.md", table.markdown())
        write_json(out / f"{name}.json", asdict(table))
        print(table.markdown())
    if args.point:
        name = re.sub(r"[^a-z0-9]+", "-", args.figure.lower()).strip("-")
        data, picture = figure(args.figure, _named(args.point))
        write_json(out / f"{name}.json", data)
        write_text(out / f"{name}.svg", picture)
        print(f"{out / name}.svg")
    return 0


def _named(pairs: Sequence[str]) -> dict[str, list[dict]]:
    """NAME=FILE,FILE -> name: summaries."""
    named = {}
    for pair in pairs:
        name, equals, files = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r}: expected NAME=SUMMARY.json, several files separated by commas")
        named[name] = [read_json(file) for file in files.split(",")]
    return named


if __name__ == "__main__":
    sys.exit(run_module(sys.modules["__main__"]))
