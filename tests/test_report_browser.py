"""The report in a real browser: no error, by keyboard and click, light and dark, narrow and wide, and hostile text.

One test opens a run that the program itself made: the smallest demo, or a copy of the run folder in TOOLDEV_RUN.
"""

import os
import shutil
import time
from pathlib import Path

import pytest

from eval.report import write_report
from tests.browser import CHROMIUM, DRIVER, MISSING, browser
from tests.report_run import make_run, wrote
from tests.test_demo import UNPLANNED, small_demo
from tests.test_report_benchmarks import benched
from tests.test_report_explorer import HOSTILE, run

__all__ = ["benched", "run"]
pytestmark = [pytest.mark.browser, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING)]
SHOWN = "return document.querySelector('#explorer .count').textContent"
FOCUS = "return document.activeElement.textContent"


@pytest.fixture(scope="module")
def window():
    with browser() as window:
        yield window


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    """A run that was trained and asked, with a report of now."""
    out = tmp_path_factory.mktemp("real") / "run"
    if given := os.environ.get("TOOLDEV_RUN"):
        shutil.copytree(given, out, ignore=shutil.ignore_patterns("*.safetensors", "checkpoint", "generation"))
    else:
        job = small_demo(out, UNPLANNED)
        errors = job.communicate()[1]
        assert job.returncode == 0, errors[-2000:]
    write_report(out)
    return out


def fits(window) -> bool:
    """The page itself does not scroll sideways."""
    return window.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("dark", [False, True])
def test_both_themes_fit_both_widths_with_an_entry_open_and_no_error(run, dark):
    write_report(run)
    with browser(dark=dark) as window:
        for width in (375, 1400):
            window.open(run / "report.html", width)
            assert window.run("return matchMedia('(prefers-color-scheme: dark)').matches") is dark
            for css in ("ol.entries > li:nth-child(1) button.entry", "ol.entries > li:nth-child(2) button.entry"):
                window.click(css)
            window.until("return document.querySelectorAll('.detail h3').length > 6")
            assert fits(window)
            paper, ink = window.run("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")
            assert (sum(map(int, paper[4:-1].split(", "))) < sum(map(int, ink[4:-1].split(", ")))) is dark
        assert window.errors() == []


def test_a_query_is_found_and_opened_by_keyboard_alone(run, window):
    write_report(run)
    window.open(run / "report.html")
    window.run("document.querySelector('#explorer button').focus()")
    for _ in range(9):                                              # tabs, then the search field
        if window.run("return document.activeElement.type") == "search":
            break
        window.press("Tab")
    window.press("ask-2-0000")
    window.until(f"{SHOWN}.startsWith('10 of 60 queries')")
    for _ in range(9):
        if "entry" in window.run("return document.activeElement.className"):
            break
        window.press("Tab")
    assert "ask-2-00000" in window.run(FOCUS)
    window.press("Down")
    window.press("Down")
    window.press("Up")
    assert "ask-2-00001" in window.run(FOCUS)
    window.press("Enter")
    window.until("return !!document.querySelector('.detail h3')")
    assert window.run("return document.activeElement.getAttribute('aria-expanded')") == "true"
    text = window.run("return document.querySelector('.detail:not([hidden])').textContent")
    for part in ("Generate tools to solve the query: Book a table for 1.", "Rejected at the stage vote",
                 "2 of 5; at least 3", "Sample 1 wins with 2 of 5, margin 1.", "winner ",
                 "You can call various user-defined tools"):
        assert part in text, part
    window.press("Escape")
    assert window.run("return document.querySelectorAll('.detail:not([hidden])').length") == 0
    assert window.errors() == []


def test_filters_count_what_the_others_leave_and_pages_turn_by_click(run, window):
    write_report(run)
    window.open(run / "report.html")
    choose = ("const [id, value] = arguments, s = document.getElementById(id); s.value = value; "
              "s.dispatchEvent(new Event('change'))")
    window.run(choose, "explore-round", "round 2")
    assert window.run(SHOWN) == "30 of 60 queries, 1 to 20 shown"
    window.click(".pager button:nth-of-type(3)")
    assert window.run(SHOWN) == "30 of 60 queries, 21 to 30 shown"
    window.run(choose, "explore-reason", "too few votes")
    assert window.run(SHOWN) == "10 of 60 queries, 1 to 10 shown"
    options = window.run("return [...document.getElementById('explore-round').options].map((o) => o.textContent)")
    assert options == ["all", "round 1 (10)", "round 2 (10)"]
    window.click(".tabs button:nth-child(2)")
    assert window.run(SHOWN).startswith("210 of 210 items")
    window.run(choose, "explore-before", "2")
    window.run(choose, "explore-change", "newly right")
    found = int(window.run(SHOWN).split()[0])
    assert 0 < found < 210
    window.click("ol.entries button.entry")
    window.until("return !!document.querySelector('.detail h3')")
    assert "The answer after each step" in window.run("return document.querySelector('.detail').textContent")
    assert window.errors() == []


def test_an_entry_of_a_benchmark_is_found_by_its_error_and_opened(benched, window):
    write_report(benched)
    window.open(benched / "report.html", 375)
    choose = ("const [id, value] = arguments, s = document.getElementById(id); s.value = value; "
              "s.dispatchEvent(new Event('change'))")
    tabs = window.run("return [...document.querySelectorAll('.tabs button')].map((b) => b.textContent)")
    window.click(f".tabs button:nth-child({len(tabs)})")
    assert tabs[-1] == "Benchmark entries (22)" and window.run(SHOWN).startswith("22 of 22 entries")
    window.run(choose, "explore-benchmark", "BFCL")
    window.run(choose, "explore-change", "newly right")
    strict = int(window.run(SHOWN).split()[0])
    window.run(choose, "explore-reading", "lenient")
    assert 0 < int(window.run(SHOWN).split()[0]) < strict <= 16     # fenced answers of the raw model were right before
    window.click("ol.entries button.entry")
    window.until("return !!document.querySelector('.detail h3')")
    text = window.run("return document.querySelector('.detail').textContent")
    for part in ("Question", "The right answer", "You can call various user-defined tools", "by its own tool prompt"):
        assert part in text, part
    assert fits(window) and window.errors() == []


CHARTS = """return [...document.querySelectorAll('svg.chart')].map((svg) => [
    svg.querySelector('.title').textContent, svg.querySelectorAll('.x-name').length,
    svg.querySelectorAll('.y-name').length, svg.getBoundingClientRect().width > 250,
    [...svg.querySelectorAll('text')].every((text) => text.getBBox().x + text.getBBox().width <= 341)])"""


@pytest.mark.parametrize("dark", [False, True])
def test_a_real_run_is_drawn_filtered_and_opened_without_an_error(real, dark):
    with browser(dark=dark) as window:
        for width in (375, 1400):
            window.open(real / "report.html", width)
            charts = window.run(CHARTS)
            assert charts and len({title for title, *_ in charts}) == len(charts)
            assert all(chart[1:] == [1, 1, True, True] for chart in charts), charts
            whole = int(window.run(SHOWN).split()[2].replace(",", ""))
            window.run("const s = document.getElementById('explore-round'); s.value = s.options[1].value; "
                       "s.dispatchEvent(new Event('change'))")
            assert 0 < int(window.run(SHOWN).split()[0].replace(",", "")) <= whole
            window.click("ol.entries > li:nth-child(1) button.entry")
            window.until("return document.querySelectorAll('.detail h3').length > 1")
            window.press("Down", "Enter")
            window.until("return document.querySelectorAll('.detail:not([hidden])').length === 2")
            assert window.run("return document.activeElement.getAttribute('aria-expanded')") == "true"
            assert window.run("return document.querySelector('.detail').textContent.includes('user-defined tools')")
            window.press("Escape")
            assert window.run("return document.querySelectorAll('.detail:not([hidden])').length") == 1
            window.click(".tabs button:nth-child(2)")
            window.click("ol.entries button.entry")
            window.until("return document.querySelector('.detail').textContent.includes('The answer after each step')")
            assert fits(window)
        assert window.errors() == []


def test_a_hostile_run_of_ten_thousand_executes_nothing_opens_and_filters_quickly(tmp_path, window):
    run = make_run(tmp_path / HOSTILE.replace("/", "_"), steps=("raw", "joint", "round-1"))
    wrote(run / "round-1", queries=10_000, words=HOSTILE, description=HOSTILE + "א\u202e" + "y" * 1_000_000, lines=12)
    write_report(run)
    assert (run / "report.html").stat().st_size < 20_000_000
    began = time.monotonic()
    window.open(run / "report.html")
    assert time.monotonic() - began < 2
    began = time.monotonic()
    window.run("const s = document.querySelector('[type=search]'); s.value = 'ask-1-0000'; "
               "s.dispatchEvent(new Event('input'))")
    window.until(f"{SHOWN}.startsWith('10 of 10,000 queries')")
    assert time.monotonic() - began < 2
    window.click("ol.entries button.entry")
    window.until("return !!document.querySelector('.detail h3')")
    text = window.run("return document.querySelector('.detail').textContent")
    assert "more characters in round-1/tools.jsonl" in text and "U+202E" in text
    assert window.run("return document.title") != "owned" and fits(window)
    tags = window.run("return [document.images.length, document.scripts.length, document.querySelector('.detail img')]")
    assert tags == [0, 2, None]
    assert window.errors() == []
