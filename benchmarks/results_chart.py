"""The README's chart and results table, made from committed results.

    python benchmarks/results_chart.py
    python benchmarks/results_chart.py --run runs/smollm2 --backbone SmolLM2-135M-Instruct --name smollm2

The second first writes benchmarks/real_NAME.json of a run with `--bench bfcl=DIR`: the strict scores of each step, from
RUN/STEP/bench/bfcl/summary.json.

Writes docs/results-light.svg and docs/results-dark.svg, and puts the table between the README's `results` marks. Takes
every benchmarks/real_*.json, the results of a real backbone on BFCL by step. Where there is none, it takes the first
table of benchmarks/ablation.md: the embedded model on the generated world. The form of a real_*.json:

    {"backbone": "SmolLM2-135M-Instruct", "benchmark": "BFCL single-turn", "steps": [
        {"step": "raw", "scores": {"non_live": {"value": 1.0, "low": 0.5, "high": 2.0}, "live": {...},
                                   "overall": {...}}}, ...]}

Steps are "raw", "adaption", "invocation", "invocation-adapted", "joint", "round-1", ...; values are in percent.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from eval.report.charts import ticks
from tooldev import PAPER_EVOLVED, STEPS, VARIANTS, home

SMALL_MODELS = ("Hammer2.1-0.5b", "FunctionGemma-270M")         # of eval/report/small_models.csv, which has the sources
SHORT = {"raw": ("Raw", ""), "adaption": ("Adap-", "tion"), "invocation": ("Invo.", ""),
         "invocation-adapted": ("Adap.,", "Invo."), "joint": ("Joint", "")}
BACKBONE_SCORES = {"non_live": "BFCL, non-live", "live": "BFCL, live"}
WORLD_COLUMNS = {"all": "All test items", "unlabelled": "Domains without labels"}
HERE = home("benchmarks")
WIDTH, HEIGHT, PANEL, LEFT, TOP, FLOOR = 880, 340, 440, 44, 66, 272
FONT = "-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
THEMES = {
    "light": {"paper": "#ffffff", "ink": "#1f2328", "muted": "#59636e", "rule": "#d8dee4",
              "series": ("#0969da", "#bc4c00", "#1a7f37")},
    "dark": {"paper": "#0d1117", "ink": "#e6edf3", "muted": "#9198a1", "rule": "#30363d",
             "series": ("#4493f8", "#f0883e", "#3fb950")},
}


@dataclass(frozen=True)
class Point:
    """A score in percent with its 95% interval."""

    value: float
    low: float
    high: float


Series = dict[str, dict[str, Point]]            # step -> score's name -> point


@dataclass(frozen=True)
class Results:
    """What is drawn: a series for each model, the names of the scores, and lines to compare with."""

    title: str
    scores: dict[str, str]                      # score's name -> title of its panel
    series: dict[str, Series]                   # model -> its results
    lines: dict[str, dict[str, float]]          # other model -> score's name -> value


# -------------------------------------------------------------------------------------------------------------- reading

def read_results(folder: Path = HERE) -> Results:
    """Real backbones where they are committed, else the embedded model."""
    files = sorted(folder.glob("real_*.json"))
    if not files:
        return Results("The embedded model (4.8M weights) on the generated world", WORLD_COLUMNS,
                       {"embedded model": world_series(folder / "ablation.md")}, {})
    records = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    series = {record["backbone"]: backbone_series(record, path) for record, path in zip(records, files, strict=True)}
    series = dict(sorted(series.items(), key=lambda item: -len(item[1])))       # the one with most steps leads
    return Results(f"{' and '.join(series)} on {records[0]['benchmark']}", BACKBONE_SCORES, series, small_models())


def small_models() -> dict[str, dict[str, float]]:
    """What other small models scored, by the facts that the report reads, too."""
    with home("eval", "report", "small_models.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {model: {name: float(next(row for row in rows if row["model"].startswith(model))[name])
                    for name in BACKBONE_SCORES} for model in SMALL_MODELS}


def record_of(run: Path, backbone: str) -> dict:
    """What a real_*.json holds, from a run whose steps were asked BFCL; FileNotFoundError where none was."""
    rounds = sorted((path.name for path in run.glob("round-*")), key=lambda name: (len(name), name))
    files = {step: run / step / "bench" / "bfcl" / "summary.json" for step in (*VARIANTS, *STEPS, *rounds)}
    summaries = {step: json.loads(file.read_text(encoding="utf-8")) for step, file in files.items() if file.is_file()}
    if not summaries:
        raise FileNotFoundError(f"{run}: no STEP/bench/bfcl/summary.json; run it with --bench bfcl=DIR")
    entries = {summary["limited_to"] for summary in summaries.values()}
    part = f", {max(entries):,} entries" if entries != {None} else ""
    return {"backbone": backbone, "benchmark": f"BFCL single-turn{part}", "steps": [
        {"step": step, "scores": {name: {key: summary["scores"][name][key] for key in ("value", "low", "high")}
                                  for name in ("non_live", "live", "overall")}} for step, summary in summaries.items()]}


def backbone_series(record: dict, path: Path) -> Series:
    """The steps of a real_*.json; ValueError names what is missing."""
    try:
        return {row["step"]: {name: Point(*(score[key] for key in ("value", "low", "high")))
                              for name, score in row["scores"].items()} for row in record["steps"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error} is missing; see the form in benchmarks/results_chart.py") from None


def world_series(path: Path) -> Series:
    """The first table of the ablation's file: variant, then a column for each kind of domain."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")]
            for line in path.read_text(encoding="utf-8").split("\n\nPaired")[0].splitlines() if line.startswith("|")]
    names = [cell.split(" (")[0] for cell in rows[0]]
    titles = {variant.title: step for step, variant in VARIANTS.items()}
    made = {}
    for row in rows[2:]:
        step = titles.get(row[0]) or row[0].replace("round ", "round-")
        made[step] = {name: Point(*map(float, re.findall(r"\d+\.\d+", cell)))
                      for name, cell in zip(names[1:5], row[1:5], strict=True)}
    return made


# -------------------------------------------------------------------------------------------------------------- drawing

def chart(results: Results, theme: str) -> str:
    """One SVG: a panel for each score, a line for each model."""
    colour = THEMES[theme]
    parts = [_text(16, 24, results.title, colour["ink"], 16, weight=600)]
    for place, (name, title) in enumerate(results.scores.items()):
        parts.append(_panel(results, name, title, PANEL * place, colour))
    parts += _legend(list(results.series), colour) if len(results.series) > 1 else []
    panels = "; ".join(_said(results, name) for name in results.scores)
    said = escape(f"{results.title}. {panels}. In percent, with 95% intervals.", quote=True)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" role="img" aria-label="{said}" font-family="{FONT}">\n<title>{said}</title>\n'
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{colour["paper"]}"/>\n' + "\n".join(parts)
            + "\n</svg>\n")


def _said(results: Results, name: str) -> str:
    """A panel in words, for those who do not see it."""
    models = [f"{model}: " + ", ".join(f"{_label(step)} {score[name].value:.1f}" for step, score in series.items())
              for model, series in results.series.items()]
    lines = [f"{model} {line[name]:.1f}" for model, line in results.lines.items()]
    return f"{results.scores[name]}: " + "; ".join(models + lines)


def _label(step: str) -> str:
    return VARIANTS[step].title if step in VARIANTS else step.replace("-", " ")


def _order(step: str) -> tuple[int, str]:
    """Variants as Table 3 has them, then the rounds."""
    return (list(VARIANTS).index(step), "") if step in VARIANTS else (len(VARIANTS), step)


def _panel(results: Results, name: str, title: str, left: float, colour: dict) -> str:
    """One score: axis, reference lines, error bars, points joined by a line."""
    steps = sorted({step for series in results.series.values() for step in series}, key=_order)
    points = [score[name] for series in results.series.values() for score in series.values()]
    lines = {model: line[name] for model, line in results.lines.items()}
    marks = ticks(min([p.low for p in points] + list(lines.values())),
                  max([p.high for p in points] + list(lines.values())))
    start, end = left + LEFT, left + PANEL - 16
    wide = (end - start) / len(steps)
    y = lambda value: FLOOR + (TOP - FLOOR) * (value - marks[0]) / (marks[-1] - marks[0])
    parts = [_text(left + 16, TOP - 16, f"{title}, % right", colour["ink"], 14, weight=600)]
    for mark in marks:
        parts += [f'<path d="M{start:.1f} {y(mark):.1f}H{end:.1f}" stroke="{colour["rule"]}"/>',
                  _text(start - 6, y(mark) + 4, f"{mark:g}", colour["muted"], 12, "end")]
    for model, value in lines.items():
        parts += [f'<path d="M{start:.1f} {y(value):.1f}H{end:.1f}" stroke="{colour["muted"]}" '
                  'stroke-dasharray="5 4"/>',
                  _text(start + 4, y(value) - 5, f"{model} {value:g}", colour["muted"], 12, halo=colour["paper"])]
    for place, step in enumerate(steps):
        words = SHORT.get(step, ("Round", step.removeprefix("round-")))
        parts += [_text(start + wide * (place + 0.5), FLOOR + 22 + 15 * line, word, colour["muted"], 12, "middle")
                  for line, word in enumerate(words)]
    for series, ink in zip(results.series.values(), colour["series"], strict=False):
        at = {step: start + wide * (place + 0.5) for place, step in enumerate(steps)}
        parts += _line([(at[step], series[step][name]) for step in steps if step in series], y, ink, colour)
    return "\n".join(parts)


def _line(points: Sequence[tuple[float, Point]], y, ink: str, colour: dict) -> list[str]:
    """The points of one model."""
    path = " ".join(f"{x:.1f},{y(point.value):.1f}" for x, point in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="2"/>']
    for x, point in points:
        parts += [f'<path d="M{x:.1f} {y(point.high):.1f}V{y(point.low):.1f}M{x - 4:.1f} {y(point.high):.1f}h8'
                  f'M{x - 4:.1f} {y(point.low):.1f}h8" stroke="{ink}" stroke-width="1.25"/>',
                  f'<circle cx="{x:.1f}" cy="{y(point.value):.1f}" r="4.5" fill="{ink}" stroke="{colour["paper"]}" '
                  'stroke-width="1.5"/>',
                  _text(x, y(point.high) - 6, f"{point.value:.1f}", colour["ink"], 12, "middle", halo=colour["paper"])]
    return parts


def _legend(models: Sequence[str], colour: dict) -> list[str]:
    return [part for place, (model, ink) in enumerate(zip(models, colour["series"], strict=False))
            for part in (f'<circle cx="{22 + 250 * place}" cy="{HEIGHT - 14}" r="4.5" fill="{ink}"/>',
                         _text(32 + 250 * place, HEIGHT - 10, model, colour["ink"], 12))]


def _text(x: float, y: float, text: str, ink: str, size: int, anchor: str = "start", weight: int = 400,
          halo: str = "") -> str:
    around = f' stroke="{halo}" stroke-width="3" paint-order="stroke"' if halo else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" fill="{ink}" font-size="{size}" font-weight="{weight}" '
            f'text-anchor="{anchor}"{around}>{escape(text)}</text>')


# ------------------------------------------------------------------------------------------------------------ the table

def table(results: Results) -> str:
    """The README's table: a row for each step, the last score with its interval, and the paper's."""
    real = bool(results.lines)
    heads = ["BFCL non-live", "live", "overall"] if real else ["all items", "unlabelled domains", "held-out domains"]
    names = ["non_live", "live", "overall"] if real else ["all", "unlabelled", "heldout"]
    framed = "overall" if real else "all"
    model, series = next(iter(results.series.items()))
    lines = [f"| {model}, % right | {' | '.join(heads)} | the paper's 8B, BFCL overall |", "|---|---|---|---|---|"]
    for step, score in series.items():
        cells = [f"{score[name].value:.1f}" + (f" [{score[name].low:.1f}, {score[name].high:.1f}]"
                                               if name == framed else "") for name in names]
        paper = f"{VARIANTS[step].paper[2]:.2f}" if step in VARIANTS else ""
        if step == "round-3":
            paper = f"{PAPER_EVOLVED[2]:.2f} (its best round)"
        lines.append(f"| {_label(step)} | {' | '.join(cells)} | {paper} |")
    return "\n".join(lines)


def with_table(readme: str, made: str) -> str:
    """The README with the table between its marks."""
    before, rest = readme.split("<!-- results -->\n", 1)
    return f"{before}<!-- results -->\n{made}\n<!-- /results -->{rest.split('<!-- /results -->', 1)[1]}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for flag in ("run", "backbone", "name"):
        parser.add_argument(f"--{flag}")
    args = parser.parse_args(argv)
    if args.run:
        if not args.backbone or not args.name:
            parser.error("--run wants --backbone (its name in words) and --name (that of the file)")
        record = record_of(Path(args.run), args.backbone)
        (HERE / f"real_{args.name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    results = read_results()
    for theme in THEMES:
        home("docs", f"results-{theme}.svg").write_text(chart(results, theme), encoding="utf-8")
    readme = home("README.md")
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), table(results)), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
