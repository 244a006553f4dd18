"""The README keeps its size, its picture is what the committed results make, and its numbers stand in tables."""

import json
import re
import xml.dom.minidom
from pathlib import Path

import pytest

from benchmarks import equations, recipes, results_chart
from benchmarks.machine import script_name
from data.check import check_file
from eval.report.benchmarks import AGGREGATES, name_of

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "LOG.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
# what has a digit and is no measurement: names of models, versions, places in the paper, the kind of interval
NAMES = (r"^>.*$", r"\[arXiv\s[\d.]+\]\(\S+\)", r"\]\([^)]*\)", r"`[^`]*`", r"<[^>]*>", r"Python 3\.11",
         r"Llama 3\.1/3\.2", r"Qwen2\.5\S*", r"Mistral-v0\.3", r"SmolLM2\S*", r"Hammer2\.1\S*", r"Eq\. \d",
         r"Figs?\. \d", r"Table \d", r"\b8B\b", r"AVX-512 BF16", r"bf16", r"95% intervals", r"Theta_i\+1",
         r"temperature 1\.0", r"over 5 top-k")
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def measured(text: str) -> list[str]:
    """The numbers of a text that are no part of a name."""
    for name in NAMES:
        text = re.sub(name, " ", text, flags=re.M)
    return NUMBER.findall(text)


def trace() -> list[list[str]]:
    """Rows of the table in docs/results.md: numbers, what they are, the file, the row there."""
    page = section((ROOT / "docs" / "results.md").read_text(encoding="utf-8"), "The README's numbers")
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in page.splitlines() if line.startswith("| ")]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows[1:]]


def lines_of(file: str, row: str) -> list[str]:
    lines = [re.sub(" +", " ", line) for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line.lstrip("|- ").startswith(row)]


def stands_in(number: str, line: str) -> bool:
    """Whether a number of the line, rounded as the given one is, is that one."""
    digits = len(number.partition(".")[2])
    wanted = float(number.replace(",", ""))
    return any(round(float(found.replace(",", "")), digits) == wanted for found in NUMBER.findall(line))


def test_readme_is_short_has_its_picture_early_and_few_intervals():
    assert len(README.split()) <= 1500
    assert any("<img" in line for line in README.splitlines()[:30])
    results = section(README, "Results")
    words = [word for word in results.split() if re.search("[A-Za-z]", word)]
    assert len(words) <= 150
    assert len(re.findall(r"\[[^\]]*\d, [^\]]*\d\]", results)) <= 15


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = without_code(page.read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for link in links:
        path, _, anchor = link.partition("#")
        if re.match(r"https?:", link):
            continue
        target = (page.parent / path) if path else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.M)
            known = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in known, f"{link}: no such heading in {sorted(known)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_is_wrapped(page):
    """At 120; tables, code and what has no place to break are let be."""
    prose = [line for line in without_code(page.read_text(encoding="utf-8")).splitlines()
             if not line.startswith(("|", "    ", "#"))]
    long = [line[:60] for line in prose if len(line) > 120 and " " in line[:120].strip()]
    assert not long, f"{page.name}: {len(long)} lines, such as {long[0]!r}"


@pytest.mark.parametrize("row", trace(), ids=lambda row: row[0])
def test_a_traced_number_stands_in_its_table(row):
    numbers, _, file, start = row
    found = lines_of(file, start)
    assert found, f"{file}: no row begins with {start!r}"
    for number in measured(numbers):
        assert stands_in(number, found[0]), f"{number} is not in {found[0]}"


def blocks(text: str) -> list[str]:
    """Paragraphs, and the rows of tables one by one."""
    return [part for block in re.split(r"\n\s*\n", text)
            for part in (block.splitlines() if block.lstrip().startswith("|") else [block])]


def untraced(text: str, rows: list[list[str]]) -> list[str]:
    """Numbers of a text that no traced row accounts for whose numbers all stand in the same block; rows without one."""
    kept, strays, used = [measured(row[0]) for row in rows], [], set()
    for block in blocks(text):
        numbers = [number.lstrip("+") for number in measured(block)]
        here = [i for i, row in enumerate(kept) if row and all(number.lstrip("+") in numbers for number in row)]
        used |= set(here)
        known = {number.lstrip("+") for i in here for number in kept[i]}
        strays += [number for number in numbers if number not in known]
    return strays + [rows[i][0] for i, row in enumerate(kept) if row and i not in used]


def test_every_number_of_the_readme_is_traced():
    text = re.sub(r"<!-- results -->.*?<!-- /results -->", "", without_code(README), flags=re.S)
    strays = untraced(text, trace())
    assert not strays, f"{strays} stand in README.md or in docs/results.md, \"The README's numbers\", and not in both"


def test_numbers_that_belong_together_are_traced_together():
    rows = [["2.3 [1.3, 3.3]"], ["0.9 [-0.1, 1.8]"]]
    assert untraced("It adds 2.3 points [1.3, 3.3].\n\nOver that 0.9 [-0.1, 1.8].", rows) == []
    assert untraced("It adds 2.3 points [3.3, 1.8].\n\nOver that 0.9 [-0.1, 1.8].", rows)      # a bound of another row
    assert untraced("It adds 2.3 points [1.3, 3.3].", rows) == ["0.9 [-0.1, 1.8]"]


def test_the_first_command_takes_no_cuda_on_linux():
    """The pin of the CPU build refuses any other; its version is the one that all results were made with."""
    assert "pip install -r requirements-cpu.txt -c constraints.txt && python tooldev.py demo" in README
    lines = (ROOT / "requirements-cpu.txt").read_text(encoding="utf-8").splitlines()
    version = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.M)[1]
    assert "-r requirements.txt" in lines and f'torch=={version}+cpu ; sys_platform == "linux"' in lines


def test_the_tools_of_the_examples_pass_the_rule_checker():
    for name in ("few.jsonl", "world.jsonl"):
        funnel, _ = check_file(ROOT / "docs" / name, tools=True)
        assert funnel.rows == funnel.passed == 2


def test_functions_of_the_equations_are_where_the_readme_says():
    names = re.findall(r"`([a-z_]+(?:\.[a-z_]+)*\.\w+)`", section(README, "The paper's equations"))
    assert len(names) == 14
    for name in names:
        module, _, function = name.rpartition(".")
        file = ROOT / f"{module.replace('.', '/')}.py"
        assert re.search(rf"^(def {function}\(|{function} = )", file.read_text(encoding="utf-8"), flags=re.M), name


def test_every_test_that_the_page_on_security_names_is_there():
    named = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
    assert len(named) > 15
    for file, test in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert f"def {test}(" in text if test else "def test_" in text, f"{file}: no {test}"


def test_a_number_that_no_table_has_is_found():
    assert measured("It gains 7.7 points on Qwen2.5-0.5B (95% intervals)") == ["7.7"]
    assert stands_in("1.3", "round-3 minus joint: +1.28 points") and not stands_in("1.4", "+1.28 points")


def test_pictures_and_table_are_what_the_committed_results_make():
    made = results_chart.charts()
    table = results_chart.table(list(results_chart.read_records().values()))
    assert results_chart.with_table(README, table) == README, (
        "README.md: run python benchmarks/results_chart.py")
    for name, results in made.items():
        for theme in results_chart.THEMES:
            drawn = results_chart.chart(results, theme)
            assert drawn == (ROOT / "docs" / f"{name}-{theme}.svg").read_text(encoding="utf-8"), (
                f"docs/{name}-{theme}.svg: run python benchmarks/results_chart.py")
            assert xml.dom.minidom.parseString(drawn).documentElement.getAttribute("role") == "img"
            assert {"world": "round 3 40.8", "rounds": "round 3 +2.3"}.get(name, "joint") in drawn
            assert "95% intervals" in drawn


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("real_*.json")), ids=lambda path: path.name)
def test_scores_of_a_real_model_stand_on_its_page(file):
    """The file that the README's table and picture are made from says what the page beside it says."""
    record = json.loads(file.read_text(encoding="utf-8"))
    page = file.with_suffix(".md").relative_to(ROOT).as_posix()
    for row in record["steps"]:
        line = next(line for line in lines_of(page, f"{name_of(row['step'])} ") if line.rstrip(" |").endswith("here"))
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        for name, cell in zip(AGGREGATES, cells[1::2], strict=False):
            score = row["scores"][name]
            assert cell == f"{score['value']:.1f} [{score['low']:.1f}, {score['high']:.1f}]", (file.name, row["step"])
    for step, gain in record["gains"].items():
        line = lines_of(page, f"BFCL: {name_of(step)} against joint training")[0].replace("−", "-")
        value, low, high = (f"{gain[key]:+.1f}" for key in ("value", "low", "high"))
        assert f"| {value} [{low}, {high}]".replace("-0.0", "+0.0") in re.sub(" +", " ", line), (file.name, step)
    if "of" in record:
        asked = results_chart.asked_of(record).partition(", chosen")[0]
        assert asked in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("page, made", [("equations", equations.page), ("recipes", recipes.page)],
                         ids=["equations", "recipes"])
def test_a_page_is_what_its_command_prints(page, made):
    """Word for word; numbers that are no whole ones within 2%, for the roundings of another processor."""
    kept = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").split()
    fresh = made().split()
    assert len(kept) == len(fresh)
    for before, now in zip(kept, fresh, strict=True):
        same = before == now or ("." in now and re.fullmatch(NUMBER, now) and re.fullmatch(NUMBER, before)
                                 and float(before) == pytest.approx(float(now), rel=0.02, abs=0.011))
        assert same, (f"docs/{page}.md says {before}, the command {now}; run python benchmarks/{page}.py > "
                      f"docs/{page}.md")


def test_a_real_backbone_is_drawn_beside_small_models(tmp_path):
    score = {"value": 20.0, "low": 18.0, "high": 22.5}
    steps = [{"step": step, "scores": dict.fromkeys(("non_live", "live", "overall"), score), "lenient": score,
              "no_tool_fits": {"n": 40, "called": 7}}
             for step in ("raw", "raw-native", "joint", "joint, then <i>", "round-10")]
    record = {"backbone": "A <b>", "benchmark": "BFCL", "entries": 1200, "of": 3600, "want_a_call": 900,
              "steps": steps}
    (tmp_path / "real_a.json").write_text(json.dumps(record), encoding="utf-8")
    results = results_chart.backbones(tmp_path)
    made = results_chart.chart(results, "dark")
    xml.dom.minidom.parseString(made)
    assert "Hammer2.1-0.5b 66.0" in made and "FunctionGemma-270M 27.6" in made and "1,200 of 3,600 entries" in made
    assert "<b>" not in made and "<i>" not in made
    assert made.count('fill="#0d1117" stroke="#4493f8" stroke-width="2"') == 2 and "ring: raw, by its own tool" in made
    assert ("| A <b> | round 10 | 20.0 | 20.0 | 20.0 [18.0, 22.5] | 20.0 | 7 of 40 | 82.44 (best) |"
            in results_chart.table([record]))
    del record["steps"][0]["scores"]
    (tmp_path / "real_a.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError, match="real_a.json: 'scores' is missing"):
        results_chart.backbones(tmp_path)
    with pytest.raises(FileNotFoundError, match="real_table.py writes one"):
        results_chart.backbones(tmp_path / "none")


def test_commands_above_the_tables_are_those_of_the_repositorys_folder():
    """`python /home/me/...` says where somebody worked and runs nowhere else."""
    for page in sorted((ROOT / "benchmarks").glob("*.md")):
        assert "`python /" not in page.read_text(encoding="utf-8"), page.name
    assert script_name(str(ROOT / "benchmarks" / "real_table.py")) == "benchmarks/real_table.py"
