"""The charts of measured steps, and the README's results table, made from committed results.

    python benchmarks/results_chart.py

Writes docs/results-light.svg and docs/results-dark.svg, and the table between the README's `results` marks, from every
benchmarks/real_*.json: the scores of a real backbone on BFCL by step, which benchmarks/real_table.py writes beside its
page; drawn are those of the strict reading. Writes docs/world-light.svg and docs/world-dark.svg from the first table of
benchmarks/ablation.md: the embedded model on the generated world. The form of a real_*.json (values in percent; "of" is
left out where all were asked; "gains": rounds against joint training on the same entries, in points):

    {"backbone": "SmolLM2-135M-Instruct", "benchmark": "BFCL, single-turn", "entries": 80, "of": 3600,
     "want_a_call": 55, "steps": [
        {"step": "raw", "scores": {"non_live": {"value": 1.0, "low": 0.5, "high": 2.0}, "live": {...},
                                   "overall": {...}}, "lenient": {...}, "no_tool_fits": {"n": 25, "called": 3}}, ...],
     "gains": {"round-1": {"value": 1.0, "low": -2.0, "high": 4.0}}}

Writes docs/rounds-light.svg and docs/rounds-dark.svg from both: what rounds add to joint training, by size of the model
(the paper's Fig. 4).
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from eval.report.benchmarks import name_of, small_models
from eval.report.charts import ticks
from eval.report.measured import NATIVE
from tooldev import PAPER_EVOLVED, VARIANTS, home

SMALL_MODELS = ("Hammer2.1-0.5b", "FunctionGemma-270M")         # of eval/report/small_models.csv, which has the sources
SHORT = {"adaption": "adap- tion", "invocation": "invo.", "invocation-adapted": "adap., invo.", "joint": "joint"}
BACKBONE_SCORES = {"non_live": "BFCL, non-live", "live": "BFCL, live"}
WORLD_COLUMNS = {"all": "All test items", "unlabelled": "Domains without labels"}
HERE = home("benchmarks")
WIDTH, HEIGHT, LEFT, TOP, FLOOR = 880, 378, 44, 88, 284
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
    note: str                                   # how much was asked, and what the bars are
    scores: dict[str, str]                      # score's name -> title of its panel
    series: dict[str, Series]                   # model -> its results
    lines: dict[str, dict[str, float]]          # other model -> score's name -> value
    unit: str = ", % right"                     # behind a panel's title
    signed: bool = False                        # values are differences


# -------------------------------------------------------------------------------------------------------------- reading

def read_records(folder: Path = HERE) -> dict[Path, dict]:
    """The real_*.json by file, that with most steps first; FileNotFoundError where none is committed."""
    files = sorted(folder.glob("real_*.json"))
    if not files:
        raise FileNotFoundError(f"{folder}: no real_*.json; benchmarks/real_table.py writes one")
    found = {path: json.loads(path.read_text(encoding="utf-8")) for path in files}
    return dict(sorted(found.items(), key=lambda item: -len(item[1]["steps"])))


def backbones(folder: Path = HERE) -> Results:
    """The real backbones, that with most steps first."""
    records = read_records(folder)
    series = {record["backbone"]: backbone_series(record, path) for path, record in records.items()}
    records = list(records.values())
    asked = asked_of_all(records)
    return Results(f"{' and '.join(series)} on {records[0]['benchmark']}",
                   f"{asked}. Bars: 95% intervals. Dashed: other small models, whole benchmark.",
                   BACKBONE_SCORES, series, {model: published(model) for model in SMALL_MODELS})


def asked_of(record: dict) -> str:
    """How many entries were asked, in words."""
    part = f" of {record['of']:,} entries, chosen by hash" if "of" in record else " entries"
    return f"{record['entries']:,}{part}; {record['want_a_call']:,} of them want a call"


def asked_of_all(records: Sequence[dict]) -> str:
    """The same of several records: once where they were asked the same, else their numbers one after the other."""
    texts = list(dict.fromkeys(map(asked_of, records)))
    if len(texts) > 1 and len({record.get("of") for record in records}) == 1:
        both = [" and ".join(f"{record[key]:,}" for record in records) for key in ("entries", "want_a_call")]
        part = f" of {records[0]['of']:,} entries, chosen by hash" if "of" in records[0] else " entries"
        return f"{both[0]}{part}; {both[1]} of them want a call"
    return "; ".join(texts)


def published(model: str) -> dict[str, float]:
    """What a small model scored elsewhere, by the facts that the report reads, too."""
    row = next(row for row in small_models() if row["model"].startswith(model))
    return {name: row[name] for name in BACKBONE_SCORES}


def backbone_series(record: dict, path: Path) -> Series:
    """The steps of a real_*.json; ValueError names what is missing."""
    with naming_what_is_missing(path):
        return {row["step"]: {name: point(score) for name, score in row["scores"].items()} for row in record["steps"]}


def point(score: dict[str, float]) -> Point:
    return Point(*(score[key] for key in ("value", "low", "high")))


@contextmanager
def naming_what_is_missing(path: Path) -> Iterator[None]:
    """A key that a file does not have is a ValueError that names both."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error} is missing; see the form in benchmarks/results_chart.py") from None


def world(path: Path = HERE / "ablation.md") -> Results:
    """The embedded model."""
    return Results("The embedded model (4.8M weights) on the generated world", "Six seeds. Bars: 95% intervals.",
                   WORLD_COLUMNS, {"embedded model": world_series(path)}, {})


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


def rounds(folder: Path = HERE) -> Results:
    """What rounds add to joint training, by the number of weights: a panel for each model."""
    added = {"4.8M weights, generated world": world_gains(folder / "ablation.md")}
    records = sorted(read_records(folder).items(), key=lambda item: weights_of(item[1]["backbone"]))
    for path, record in records:
        if record.get("gains"):
            with naming_what_is_missing(path):
                added[f"{weights_of(record['backbone']):.0f}M weights, BFCL"] = {
                    step: point(gain) for step, gain in record["gains"].items()}
    steps = sorted({step for gains in added.values() for step in gains}, key=lambda step: (len(step), step))
    series = {step: {panel: gains[step] for panel, gains in added.items() if step in gains} for step in steps}
    asked = asked_of_all([record for _, record in records if record.get("gains")])
    return Results("What rounds add to joint training, by size of the model",
                   f"Points over joint training, on the same items. Bars: 95% intervals. BFCL: {asked}.",
                   {panel: panel for panel in added}, {"gain": series}, {}, unit="", signed=True)


def weights_of(backbone: str) -> float:
    """Millions of weights: SmolLM2-135M-Instruct, Qwen2.5-Coder-0.5B-Instruct (494M, its config says)."""
    number, unit = re.search(r"-(\d+(?:\.\d+)?)([MB])\b", backbone).groups()
    return {"0.5B": 494.0}.get(number + unit, float(number) * {"M": 1, "B": 1000}[unit])


def world_gains(path: Path) -> dict[str, Point]:
    """The paired lines of the ablation's first part, over all items."""
    part = path.read_text(encoding="utf-8").split("\n## ")[1]
    found = re.findall(r"^- all: (round-\d+) minus joint: (\S+) points \[(\S+), (\S+)\]", part, re.MULTILINE)
    return {step: Point(*map(float, numbers)) for step, *numbers in sorted(found)}


# -------------------------------------------------------------------------------------------------------------- drawing

def chart(results: Results, theme: str) -> str:
    """One SVG: a panel for each score, a line for each model."""
    colour = THEMES[theme]
    marks, steps = _scale(results), _order(list(results.series.values()))
    parts = [_text(16, 26, results.title, colour["ink"], 16, weight=600),
             _text(16, 46, results.note, colour["muted"], 12)]
    for place, (name, title) in enumerate(results.scores.items()):
        parts.append(_panel(results, (name, title), place, marks, steps, colour))
    parts += _legend(list(results.series), colour) if len(results.series) > 1 else []
    if natives := sorted({step for series in results.series.values() for step in series if step.endswith(NATIVE)}):
        parts += [f'<circle cx="{22 + 250 * len(results.series)}" cy="{HEIGHT - 14}" r="4.5" fill="none" '
                  f'stroke="{colour["muted"]}" stroke-width="2"/>',
                  _text(32 + 250 * len(results.series), HEIGHT - 10, "ring: " + "; ".join(map(name_of, natives)),
                        colour["ink"], 12)]
    panels = "; ".join(_said(results, name) for name in results.scores)
    said = escape(f"{results.title}. {results.note} In percent: {panels}.", quote=True)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" role="img" aria-label="{said}" font-family="{FONT}">\n<title>{said}</title>\n'
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{colour["paper"]}"/>\n' + "\n".join(parts)
            + "\n</svg>\n")


def _said(results: Results, name: str) -> str:
    """A panel in words, for those who do not see it."""
    models = [f"{model}: " + ", ".join(f"{name_of(step)} {shown(results, score[name])}"
                                      for step, score in series.items() if name in score)
              for model, series in results.series.items()]
    lines = [f"{model} {line[name]:.1f}" for model, line in results.lines.items()]
    return f"{results.scores[name]}: " + "; ".join(models + lines)


def _order(series: Sequence[Series]) -> list[str]:
    """All steps: variants as Table 3 has them, then the others as they were given.

    A model asked by its own tool prompt is no step: it stands beside the same model asked by the paper's.
    """
    steps = dict.fromkeys(step for one in series for step in one if not step.endswith(NATIVE))
    return sorted(steps, key=lambda step: list(VARIANTS).index(step) if step in VARIANTS else len(VARIANTS))


def _scale(results: Results) -> list[float]:
    """The marks of the value axis, one for all panels: they stand side by side."""
    points = [point for series in results.series.values() for score in series.values()
              for name, point in score.items() if name in results.scores]
    lines = [line[name] for line in results.lines.values() for name in results.scores]
    return ticks(min([point.low for point in points] + lines), max([point.high for point in points] + lines))


def shown(results: Results, point: Point) -> str:
    """The value of a point as it is written beside it."""
    return f"{point.value:+.1f}" if results.signed else f"{point.value:.1f}"


def _panel(results: Results, score: tuple[str, str], panel: int, marks: Sequence[float], steps: Sequence[str],
           colour: dict) -> str:
    """One score (its name and title): axes, lines of other models, error bars, points joined by a line."""
    name, title = score
    room = WIDTH / len(results.scores)
    left = room * panel
    start, end = left + LEFT, left + room - 16
    wide = (end - start) / len(steps)
    y = lambda value: FLOOR + (TOP - FLOOR) * (value - marks[0]) / (marks[-1] - marks[0])
    parts = [_text(left + 16, TOP - 16, title + results.unit, colour["ink"], 14, weight=600),
             _text((start + end) / 2, FLOOR + 56, "after this step", colour["muted"], 12, "middle")]
    for mark in marks:
        ink = colour["muted" if results.signed and mark == 0 else "rule"]
        parts += [f'<path d="M{start:.1f} {y(mark):.1f}H{end:.1f}" stroke="{ink}"/>',
                  _text(start - 6, y(mark) + 4, f"{mark:g}", colour["muted"], 12, "end")]
    for model, value in ((model, line[name]) for model, line in results.lines.items()):
        parts += [f'<path d="M{start:.1f} {y(value):.1f}H{end:.1f}" stroke="{colour["muted"]}" '
                  'stroke-dasharray="5 4"/>',
                  _text(start + 1.2 * wide, y(value) + 14, f"{model} {value:.1f}", colour["muted"], 12,
                        halo=colour["paper"])]
    for place, step in enumerate(steps):
        words = textwrap.wrap(SHORT.get(step, name_of(step)) if wide < 90 else name_of(step), max(6, int(wide / 7)))
        parts += [_text(start + wide * (place + 0.5), FLOOR + 22 + 15 * line, word, colour["muted"], 12, "middle")
                  for line, word in enumerate(words)]
    for series, ink in zip(results.series.values(), colour["series"], strict=False):
        at = {step: start + wide * (place + 0.5) for place, step in enumerate(steps)}
        points = [(at[step], series[step][name]) for step in steps if name in series.get(step, {})]
        parts += _line(points, y, ink, colour, partial(shown, results))
        parts += [mark for step in steps if name in (native := series.get(step + NATIVE, {}))
                  for mark in _ring(at[step], y(native[name].value), ink, shown(results, native[name]), colour)]
    return "\n".join(parts)


def _line(points: Sequence[tuple[float, Point]], y: Callable[[float], float], ink: str, colour: dict,
          shown: Callable[[Point], str]) -> list[str]:
    """The points of one model."""
    path = " ".join(f"{x:.1f},{y(point.value):.1f}" for x, point in points)
    parts, labels = [f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="2"/>'], []
    for (x, point), (_, after) in zip(points, [*points[1:], points[-1]], strict=True):
        parts += [f'<path d="M{x:.1f} {y(point.high):.1f}V{y(point.low):.1f}M{x - 4:.1f} {y(point.high):.1f}h8'
                  f'M{x - 4:.1f} {y(point.low):.1f}h8" stroke="{ink}" stroke-width="1.25"/>',
                  f'<circle cx="{x:.1f}" cy="{y(point.value):.1f}" r="4.5" fill="{ink}" stroke="{colour["paper"]}" '
                  'stroke-width="1.5"/>']
        labels.append(_label(x, y(point.value), shown(point), colour, rises=after.value > point.value))
    return parts + labels


def _ring(x: float, y: float, ink: str, text: str, colour: dict) -> list[str]:
    """A score that is on no line: a step's model asked in another way."""
    return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour["paper"]}" stroke="{ink}" stroke-width="2"/>',
            _text(x + 7, y - 5, text, colour["ink"], 12, halo=colour["paper"])]


def _label(x: float, y: float, text: str, colour: dict, *, rises: bool) -> str:
    """The value of a point, where a line that rises after it does not cross it: below it, or to its left on the floor.
    """
    if rises and y + 18 >= FLOOR:
        return _text(x - 6, y - 19, text, colour["ink"], 12, "end", halo=colour["paper"])
    return _text(x + 7, y + (16 if rises else -7), text, colour["ink"], 12, halo=colour["paper"])


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

HEADS = ("model", "step", "non-live", "live", "overall", "read leniently", "calls where no tool fits",
         "the paper's 8B, overall")


def table(records: Sequence[dict]) -> str:
    """The README's table: a row for each model and step, and the paper's."""
    lines = [f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
    for record in records:
        last = record["steps"][-1]["step"]
        lines += [f"| {record['backbone']} | {' | '.join(cells(row, last=row['step'] == last))} |"
                  for row in record["steps"]]
    asked = asked_of_all(records)
    return "\n".join([*lines, "", f"BFCL, % right. {asked}. 95% intervals."])


def cells(row: dict, *, last: bool) -> list[str]:
    """A step's cells behind the model's name."""
    step, scores, idle = row["step"], row["scores"], row["no_tool_fits"]
    overall = scores["overall"]
    paper = f"{VARIANTS[step].paper[2]:.2f}" if step in VARIANTS else ""
    if last and step.startswith("round-"):
        paper = f"{PAPER_EVOLVED[2]:.2f} (best)"
    name = name_of(step).replace("by its own tool prompt", "own prompt")
    return [name, f"{scores['non_live']['value']:.1f}", f"{scores['live']['value']:.1f}",
            f"{overall['value']:.1f} [{overall['low']:.1f}, {overall['high']:.1f}]", f"{row['lenient']['value']:.1f}",
            f"{idle['called']} of {idle['n']}" if idle else "", paper]


def with_table(readme: str, made: str) -> str:
    """The README with the table between its marks."""
    before, rest = readme.split("<!-- results -->\n", 1)
    return f"{before}<!-- results -->\n{made}\n<!-- /results -->{rest.split('<!-- /results -->', 1)[1]}"


def charts() -> dict[str, Results]:
    """What is drawn, by the beginning of its files' names in docs/."""
    return {"results": backbones(), "world": world(), "rounds": rounds()}


def main() -> None:
    made = charts()
    for name, results in made.items():
        for theme in THEMES:
            home("docs", f"{name}-{theme}.svg").write_text(chart(results, theme), encoding="utf-8")
    readme = home("README.md")
    results = table(list(read_records().values()))
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), results), encoding="utf-8")
    print(results)


if __name__ == "__main__":
    main()
