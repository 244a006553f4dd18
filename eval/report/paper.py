"""The paper's own numbers, read off its tables (arXiv 2505.07512), to stand beside ours. Figures 2 to 4 print none.

`TABLE_1` rows (table_1.csv): name, the row of the leaderboard's CSV of 2024-09-20 (None where it has none), then
non-live simple, multiple, parallel, parallel multiple; live simple, multiple, parallel, parallel multiple; non-live,
live, overall.
"""

import csv
from pathlib import Path

with Path(__file__).with_name("table_1.csv").open(encoding="utf-8", newline="") as file:
    _heads, *_rows = csv.reader(file)
TABLE_1_COLUMNS = tuple(_heads[2:])
TABLE_1: list[tuple[str, str | None, tuple[float, ...]]] = [
    (name, model or None, tuple(map(float, values))) for name, model, *values in _rows]

TABLE_2 = {"GPT-4-turbo": {"apibank": 63.39, "teval": 87.50},
           "Llama-3.1-8B-Instruct": {"apibank": 54.11, "teval": 76.60},
           "ToolDev": {"apibank": 67.82, "teval": 77.03}}
