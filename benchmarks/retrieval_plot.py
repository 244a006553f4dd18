"""Draw recall against k, and the time of a query against the pool's size, from what benchmarks/retrieval.py kept.

    python benchmarks/retrieval.py tables --out curves.json
    python benchmarks/retrieval.py scaling --out scaling.json
    python benchmarks/retrieval_plot.py --curves curves.json [--scaling scaling.json] --out docs/retrieval.svg
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

COLOURS = ("#0060a0", "#c04000", "#208040", "#804090", "#907000", "#007080", "#a02060", "#505050", "#303090")
LEFT, TOP, WIDTH, HEIGHT = 60, 40, 420, 260
Points = Sequence[tuple[float, float]]


def panel(title: str, lines: Mapping[str, Points], ticks: tuple[Mapping[float, str], Mapping[float, str]],
          scale: Callable[[float], float], at: float) -> list[str]:
    """One chart, `at` pixels from the left: lines by name, and the ticks of both axes; x and y are scaled alike."""
    xs, ys = ([scale(tick) for tick in axis] for axis in ticks)

    def place(x: float, y: float) -> tuple[float, float]:
        return (at + LEFT + WIDTH * (scale(x) - xs[0]) / (xs[-1] - xs[0]),
                TOP + HEIGHT - HEIGHT * (scale(y) - ys[0]) / (ys[-1] - ys[0]))

    parts = [f'<text x="{at + LEFT}" y="22" font-weight="bold">{title}</text>']
    for x, text in ticks[0].items():
        parts.append(f'<text x="{place(x, next(iter(ticks[1])))[0]:.1f}" y="{TOP + HEIGHT + 18}" '
                     f'text-anchor="middle">{text}</text>')
    for y, text in ticks[1].items():
        height = place(next(iter(ticks[0])), y)[1]
        parts.append(f'<line x1="{at + LEFT}" x2="{at + LEFT + WIDTH}" y1="{height:.1f}" y2="{height:.1f}" '
                     f'stroke="#ddd"/><text x="{at + LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{text}</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
                     f'<text x="{at + LEFT + WIDTH + 8}" y="{TOP + 14 + 18 * number}" fill="{colour}">{name}</text>')
    return parts


def plot(curves: Mapping[str, Sequence[float]], scaling: Sequence[Mapping[str, float]]) -> str:
    """The SVG: recall in percent against k; milliseconds against tools, both logarithmic, where they were measured."""
    parts = panel("Tools found among the first k, in percent (R@k)",
                  {name: list(enumerate(values, start=1)) for name, values in curves.items()},
                  ({k: str(k) for k in (1, 10, 20, 30, 40, 50)}, {y: str(y) for y in range(0, 101, 20)}),
                  lambda value: value, 0)
    if scaling:
        sizes = {10.0 ** power: f"{10 ** power:,}" for power in range(3, 7)}
        times = {10.0 ** power: f"{10.0 ** power:g}" for power in range(-1, 3)}
        parts += panel("Milliseconds a query against tools in the pool",
                       {name: [(row["documents"], row[key]) for row in scaling]
                        for name, key in (("mean", "ms a query"), ("95% are under", "p95"))},
                       (sizes, times), math.log10, 720)
    width = 1360 if scaling else 720
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 340" font-family="sans-serif" '
            f'font-size="12"><rect width="{width}" height="340" fill="#fff"/>' + "\n".join(parts) + "</svg>\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--curves", required=True, help="what `retrieval.py tables --out` kept")
    parser.add_argument("--scaling", help="what `retrieval.py scaling --out` kept")
    parser.add_argument("--out", required=True, help="the SVG file")
    args = parser.parse_args()
    scaling = json.loads(Path(args.scaling).read_text(encoding="utf-8")) if args.scaling else []
    Path(args.out).write_text(plot(json.loads(Path(args.curves).read_text(encoding="utf-8")), scaling), "utf-8")


if __name__ == "__main__":
    main()
