"""Small charts as inline SVG: points with error bars, curves, funnels, histograms. No script, no font, no network.

Every chart is one panel of the same width, so that a row of them folds into a column on a phone and its text stays
readable. Colours come from CSS variables of the page, so light, dark and print need no second drawing. A title says
what is measured and of what; both axes have names, with units. What a chart shows is also said in its `aria-label`, and
stands in a table beside it. Text is escaped here; values are in the units that are printed.
"""

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 340, 34, 10, 34, 24

STYLE = Path(__file__).with_name("charts.css").read_text(encoding="utf-8")


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that span low..high, about `wanted` steps apart; always at least two of them."""
    span = (high - low) or abs(high) or 1.0
    rough = span / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 10) for n in range(first, max(last, first + 1) + 1)]


def interval_panel(title: str, labels: Sequence[str], points: Sequence[dict | None], *, y_label: str, low: float,
                   high: float, signed: bool = False, joined: Sequence[bool] | None = None,
                   x_label: str = "step of the run") -> str:
    """Points {"value", "low", "high"} with 95% error bars, one per label; None leaves a gap.

    Args:
        y_label: what the values are, with their unit.
        low, high: what the value axis must hold; give panels that stand side by side the same.
        joined: which points a line joins to the one before; None: all.
        signed: print values with their sign and draw the zero line strongly, for differences.
    """
    marks, floor, form = ticks(low, high), 150 + TOP, "+.1f" if signed else ".1f"
    y, wide = _scale(marks[0], marks[-1], floor, TOP), (WIDTH - LEFT - RIGHT) / max(len(labels), 1)
    x = [LEFT + wide * (i + 0.5) for i in range(len(labels))]
    parts, bars, dots, said = [_grid(marks, y)], [], [], []
    for i, point in enumerate(points):
        parts.append(_text(x[i], floor + 18, labels[i], "small", "middle"))
        if point is None:
            continue
        middle, top, bottom = (y(point[key]) for key in ("value", "high", "low"))
        if i and points[i - 1] and (joined is None or joined[i]):
            parts.append(_polyline("line", [(x[i - 1], y(points[i - 1]["value"])), (x[i], middle)]))
        bars.append(f'<path class="bar" d="M{x[i]:.1f} {top:.1f}V{bottom:.1f}M{x[i] - 4:.1f} {top:.1f}h8'
                    f'M{x[i] - 4:.1f} {bottom:.1f}h8"/>')
        dots += [f'<circle class="dot" cx="{x[i]:.1f}" cy="{middle:.1f}" r="4"/>',
                 _text(x[i], top - 6, minus(format(point["value"], form)), "value", "middle")]
        said.append(f"{labels[i]} {point['value']:{form}} ({point['low']:{form}} to {point['high']:{form}})")
    axes = [_y_name(y_label), _x_name((LEFT + WIDTH - RIGHT) / 2, floor + 32, x_label)]
    told = f"{y_label}, by {x_label}: {'; '.join(said)}; with 95% intervals"
    return _svg(title, told, parts + bars + dots + axes, floor + BOTTOM + 14)


def loss_panel(title: str, points: Sequence[tuple[float, float]]) -> str:
    """The loss over the steps: pale as it is, and dark its running mean over a tenth of it."""
    if not points:
        return ""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    marks = ticks(min(ys), max(ys), 3)
    y, x = _scale(marks[0], marks[-1], 120 + TOP, TOP), _scale(min(xs), max(max(xs), min(xs) + 1), LEFT, WIDTH - RIGHT)
    half = max(1, len(points) // 20)
    windows = [ys[max(0, i - half):i + half + 1] for i in range(len(ys))]
    smooth = [math.fsum(window) / len(window) for window in windows]
    parts = [_grid(marks, y)]
    for values, name in ((ys, "faint"), (smooth, "line")):
        parts.append(_polyline(name, [(x(a), y(b)) for a, b in zip(xs, values, strict=True)]))
    parts += [_text(x(max(xs)), 120 + TOP + 16, f"{max(xs):,.0f}", "small", "end"),
              _text(x(min(xs)), 120 + TOP + 16, f"{min(xs):,.0f}", "small", "start"),
              _x_name((LEFT + WIDTH - RIGHT) / 2, 120 + TOP + 16, "optimizer step"),
              _y_name("loss, nats a token")]
    said = (f"loss, nats a token, from {smooth[0]:.3g} at optimizer step {min(xs):,.0f} to {smooth[-1]:.3g} at "
            f"optimizer step {max(xs):,.0f}")
    return _svg(title, said, parts, 120 + TOP + BOTTOM - 4)


def funnel_panel(title: str, stages: Sequence[tuple[str, int, int]]) -> str:
    """Horizontal bars, one per stage (name, came in, passed): dark what passed, pale what was rejected there."""
    most = max((coming for _, coming, _ in stages), default=0) or 1
    parts, top = [], TOP + 8
    for name, coming, passed in stages:
        full, kept = ((WIDTH - RIGHT) * n / most for n in (coming, passed))
        share = f", {100 * passed / coming:.1f}%" if coming else ""
        parts += [_text(0, top + 4, name, "", "start"),
                  _text(WIDTH - RIGHT, top + 4, f"{passed:,} of {coming:,} passed{share}", "small", "end"),
                  f'<rect class="whole" x="0" y="{top + 10}" width="{full:.1f}" height="12"/>',
                  f'<rect class="part" x="0" y="{top + 10}" width="{kept:.1f}" height="12"/>']
        top += 42
    parts += [f'<path class="zero" d="M0 {top - 12}H{WIDTH - RIGHT}"/>', _text(0, top + 4, "0", "small", "start"),
              _x_name((WIDTH - RIGHT) / 2, top + 4, "queries"), _y_name("stage"),
              _text(WIDTH - RIGHT, top + 4, f"{most:,}", "small", "end")]
    said = "; ".join(f"{name}, {passed:,} of {coming:,} passed" for name, coming, passed in stages)
    return _svg(title, f"queries by stage: {said}", parts, top + 10)


def histogram_panel(title: str, bars: Sequence[tuple[str, int, int]], *, x_label: str, y_label: str, part: str,
                    high: int = 1) -> str:
    """Upright bars (label, whole, part): pale the whole, dark the part of it; counts are printed above.

    Args:
        y_label: what is counted.
        part: what is true of those in the part.
        high: what the count's axis must hold at least; give panels that stand side by side the same.
    """
    most, floor = max([high, *(bar[1] for bar in bars)]), 110 + TOP
    marks = [mark for mark in ticks(0, most, 3) if mark == int(mark)]
    y, wide = _scale(0, marks[-1], floor, TOP + 10), (WIDTH - LEFT - RIGHT) / max(len(bars), 1)
    parts = [_grid(marks, y)]
    for i, (label, count, inside) in enumerate(bars):
        left, middle = LEFT + wide * (i + 0.12), LEFT + wide * (i + 0.5)
        parts += [f'<rect class="{name}" x="{left:.1f}" y="{y(number):.1f}" width="{wide * 0.76:.1f}" '
                  f'height="{floor - y(number):.1f}"/>' for name, number in (("whole", count), ("part", inside))]
        parts += [_text(middle, y(count) - 4, f"{count:,}", "small value", "middle"),
                  _text(middle, floor + 15, label, "small", "middle")]
    parts += [_y_name(y_label), _x_name((LEFT + WIDTH - RIGHT) / 2, floor + 31, x_label)]
    said = "; ".join(f"{label}, {count:,}, of which {inside:,} {part}" for label, count, inside in bars)
    return _svg(title, f"{y_label} by {x_label}: {said}", parts, floor + 38)


def minus(text: str) -> str:
    """A hyphen before a digit as a minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (end - start) * (value - low) / (high - low)


def _grid(marks: Sequence[float], y: Callable[[float], float]) -> str:
    lines = []
    for mark in marks:
        at = y(mark)
        strong = "zero" if mark == 0 else "grid"
        lines.append(f'<path class="{strong}" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>'
                     + _text(LEFT - 6, at + 4, _mark(mark), "small", "end"))
    return "".join(lines)


def _mark(value: float) -> str:
    """A number beside an axis, short enough for the margin."""
    return minus(f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}")


def _polyline(name: str, points: Sequence[tuple[float, float]]) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{name}" points="{places}"/>'


def _y_name(text: str) -> str:
    """What the upright axis shows, above its top."""
    return _text(0, TOP - 7, text, "small y-name", "start")


def _x_name(x: float, y: float, text: str) -> str:
    """What the level axis shows, below its middle."""
    return _text(x, y, text, "small x-name", "middle")


def _text(x: float, y: float, text: str, name: str, anchor: str) -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, description: str, parts: Sequence[str], height: float) -> str:
    label = escape(f"{title}: {description}")
    return (f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}">'
            + _text(0, 13, title, "title", "start") + "".join(parts) + "</svg>")
