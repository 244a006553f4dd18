"""The report of a run: what it counts, that it repeats, and that its page is sound, escaped and self-contained."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from data.files import mark_done, write_json, write_jsonl
from data.schema import read_json
from eval.report import charts, write_report
from eval.report.markup import to_html, to_markdown
from eval.report.page import UNSHOWN, headline, in_short, in_words, which_is_best
from tests.report_run import make_run
from tooldev import main

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that tags nest, and collects tags, attributes, ids and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.regions = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [value for name, value in attrs.items() if name in ("href", "src", "action")]
        if tag == "svg":
            assert attrs["role"] == "img" and attrs["aria-label"]
        if attrs.get("role") == "region":
            assert attrs["tabindex"] == "0" and attrs["aria-label"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def html_of(run):
    return (run / "report.html").read_text(encoding="utf-8")


def test_two_runs_of_one_seed_give_the_same_report_apart_from_seconds(tmp_path):
    first = write_report(make_run(tmp_path / "a", pace=1.0))
    second = write_report(make_run(tmp_path / "b" / "elsewhere", pace=3.0, model="/other/place/tiny"))
    assert first.pop("seconds") != second.pop("seconds")
    assert first == second
    assert str(tmp_path) not in json.dumps(first)
    third = write_report(make_run(tmp_path / "c", seed=1))
    assert third["steps"] != first["steps"]


def test_report_json_is_what_is_returned_and_nothing_is_left_aside(tmp_path):
    run = make_run(tmp_path / "run")
    assert write_report(run) == read_json(run / "report.json")
    assert sorted(path.name for path in run.glob("*report*")) == ["report.html", "report.json", "report.md"]
    assert not list(run.glob(".*"))


def test_scores_and_differences_are_those_of_the_verdicts(tmp_path):
    run = make_run(tmp_path / "run")
    report = write_report(run)
    steps = {step["name"]: step for step in report["steps"]}
    right = {
        name: [json.loads(line)["outcome"] == "right" for line in (run / name / "eval" / "verdicts.jsonl").open()]
        for name in ("joint", "round-1")
    }
    change = steps["round-1"]["against_start"]["all"]
    assert steps["round-1"]["start"] == "joint" and change["n"] == 210
    assert change["difference"] == pytest.approx((sum(right["round-1"]) - sum(right["joint"])) / 210, abs=1e-6)
    assert change["only_b"] == sum(b and not a for a, b in zip(right["joint"], right["round-1"], strict=True))
    assert report["gains"]["round-1"] == steps["round-1"]["against_start"]
    assert set(change) >= {"p_value", "low", "high", "inside_noise"}
    assert set(steps["round-1"]["against_start"]) == {"all", "labelled", "unlabelled", "heldout"}
    assert "start" in steps["raw"] and "against_start" not in steps["raw"]


def test_a_difference_inside_the_noise_is_called_that(tmp_path):
    run = make_run(tmp_path / "run", steps=("raw", "adaption", "joint"))
    report = write_report(run)
    noisy = [step["against_start"]["all"]["inside_noise"] for step in report["steps"][1:]]
    assert noisy == [True, False]
    line = next(
        line for line in (run / "report.md").read_text().splitlines() if line.startswith("| adaption against raw")
    )
    assert "inside the noise" in line and "<small>inside the noise</small>" in html_of(run)


def test_the_head_of_a_page_says_when_a_change_shows_nothing(tmp_path):
    run = make_run(tmp_path / "run", parts={"labelled": 12}, steps=("raw", "joint", "round-1"))
    report = write_report(run)
    noise = [report["gains"]["round-1"]["all"]["inside_noise"], report["in_all"]["inside_noise"]]
    title, lead = headline(report, "run"), in_short(report)
    assert noise[0] and UNSHOWN in lead and ("inside the noise" in title) is noise[1]
    for cell in (report["gains"]["round-1"]["all"], report["in_all"]):
        cell["inside_noise"] = not cell["inside_noise"]
    assert UNSHOWN not in in_short(report) and ("inside the noise" in headline(report, "run")) is not noise[1]


def test_last_best_by_validation_and_best_on_the_test_are_told_apart(tmp_path):
    run = make_run(tmp_path / "run")
    for number, score in ((1, 0.7), (2, 0.6), (3, 0.7)):
        ledger = read_json(run / f"round-{number}" / "ledger.json")
        write_json(run / f"round-{number}" / "ledger.json", {**ledger, "validation": score})
    report = write_report(run)
    scores = {step["name"]: step["test"]["all"]["value"] for step in report["steps"] if step["stage"] == "evolve"}
    assert report["best"] == {"last": "round-3", "by_validation": "round-1", "on_test": max(scores, key=scores.get)}
    assert "best round by validation" in (run / "report.md").read_text()
    assert "chosen by looking at the test" in html_of(run)


def test_a_step_that_no_round_reaches_on_validation_is_named():
    cell = {"value": 0.45, "low": 0.3, "high": 0.6}
    steps = [{"name": "joint", "stage": "joint", "validation": cell},
             {"name": "round-1", "stage": "evolve", "validation": cell | {"value": 0.2}}]
    best = {"last": "round-1", "by_validation": "round-1", "on_test": None}
    said = which_is_best({"best": best, "steps": steps})[-1][1]
    assert said.startswith("Higher on validation than every round: joint training.")
    steps[1]["validation"] = cell
    assert which_is_best({"best": best, "steps": steps})[-1][0] == "table"


def test_a_difference_whose_interval_leaves_zero_out_says_the_p_that_calls_it_noise():
    cell = {"difference": -0.077, "low": -0.154, "high": -0.019, "inside_noise": True, "p_value": 0.125}
    assert in_words(cell) == "−7.7 points [−15.4, −1.9] (p = 0.125), inside the noise"
    assert "p =" not in in_words(cell | {"high": 0.0})


def test_the_funnel_is_checked_and_a_lost_query_is_said_aloud(tmp_path):
    run = make_run(tmp_path / "run", steps=("raw", "adaption", "joint", "round-1"))
    assert write_report(run)["rounds"][0]["adds_up"]
    assert "DO NOT add up" not in html_of(run)
    ledger = read_json(run / "round-1" / "ledger.json")
    ledger["stages"]["vote"]["passed"] -= 1
    write_json(run / "round-1" / "ledger.json", ledger)
    assert not write_report(run)["rounds"][0]["adds_up"]
    assert "DO NOT add up" in html_of(run) and "DO NOT add up" in (run / "report.md").read_text()


def test_a_run_at_work_is_reported_as_far_as_it_got(tmp_path):
    run = make_run(tmp_path / "run", steps=("raw", "adaption"))
    (run / "joint").mkdir()
    (run / "joint" / "metrics.jsonl").write_text((run / "adaption" / "metrics.jsonl").read_text()[:-30])
    report = write_report(run)
    joint = report["steps"][2]
    assert joint["training"]["steps"] == 149 and not joint["complete"]
    assert report["progress"]["missing"] == ["joint", "round-1", "round-2", "round-3"]
    assert "3 of 6" not in html_of(run) and "2 of 6 steps are complete" in html_of(run)
    for path in sorted(run.rglob("*")):
        if path.is_file() and path.name != "run.json":
            path.unlink()
    assert write_report(run)["best"] == {"last": None, "by_validation": None, "on_test": None}
    assert "Nothing has been measured yet." in html_of(run)


def test_a_run_without_a_test_shows_the_validation_of_its_rounds(tmp_path):
    run = make_run(tmp_path / "run", steps=("adaption", "joint", "round-1"), tested=False)
    report = write_report(run)
    assert report["progress"]["missing"] == ["round-2", "round-3"]
    assert report["best"] == {"last": "round-1", "by_validation": "round-1", "on_test": None}
    assert "joint training 50.0 [40.4, 59.6], round 1 56.0 [46.2, 65.3]" in html_of(run)
    (run / "data" / "validation.jsonl").unlink()
    assert [step.get("validation") for step in write_report(run)["steps"]] == [None, {"value": 0.5}, {"value": 0.56}]


def test_a_users_own_test_has_one_part(tmp_path):
    report = write_report(make_run(tmp_path / "run", steps=("raw", "joint"), parts={"test": 40}))
    assert set(report["steps"][1]["test"]["sets"]) == {"test"}
    text = html_of(tmp_path / "run")
    assert text.count(">Exact match: all test items</text>") == 1 and "held out" not in text.lower()


def test_the_page_is_well_formed_and_fetches_nothing(tmp_path):
    run = make_run(tmp_path / "run")
    write_report(run)
    text = html_of(run)
    page = Page(text)
    assert "script" not in page.tags and "img" not in page.tags
    assert len(page.ids) == len(set(page.ids))
    assert page.links and all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert (
        "default-src 'none'" in text
        and "url(" not in text
        and "@import" not in text
        and "prefers-color-scheme: dark" in text
    )
    for svg in re.findall(r"<svg.*?</svg>", text, flags=re.S):
        title, = re.findall(r'class="title"[^>]*>([^<]+)<', svg)
        label, = re.findall(r'aria-label="([^"]+)"', svg)
        (x_name,), (y_name,) = (re.findall(rf'class="small {axis}-name"[^>]*>([^<]+)<', svg) for axis in "xy")
        assert label.startswith(f"{title}: ") and x_name in label and y_name in label, title
        assert re.search("percent|points|nats a token|queries", x_name + y_name), title
        ElementTree.fromstring(svg)
        assert "nan" not in svg and "inf" not in svg


HOSTILE = "<script>alert(1)</script> <tool_call> | `x` [a](javascript:b) & \"'\n# no"


def test_what_models_and_users_wrote_is_escaped(tmp_path):
    run = make_run(
        tmp_path / HOSTILE.replace("/", "_").replace("\n", " "),
        steps=("raw", "adaption", "joint", "round-1"),
        parts={HOSTILE: 30},
    )
    tool = {"name": "f", "description": HOSTILE, "arguments": {"type": "dict", "properties": {}, "required": []}}
    write_jsonl(
        run / "data" / "test.jsonl",
        [{"id": f"{HOSTILE}-{n}", "query": HOSTILE, "calls": [], "tools": [tool]} for n in range(30)],
    )
    write_jsonl(
        run / "round-1" / "eval" / "answers.jsonl", [{"id": f"{HOSTILE}-{n}", "text": HOSTILE} for n in range(30)]
    )
    write_jsonl(
        run / "round-1" / "rejected.jsonl",
        [{"id": HOSTILE, "stage": "tools", "reason": HOSTILE, "detail": HOSTILE, "text": HOSTILE}],
    )
    report = write_report(run)
    assert report["samples"]["round-1"][0]["written"] == HOSTILE
    text = html_of(run)
    page = Page(text)
    assert re.findall(r"<script[^>]*>", text) == ['<script type="application/json" id="explorer-data">', "<script>"]
    assert page.tags.count("script") == 2 and "tool_call" not in page.tags       # the explorer's data and its own
    markdown = (run / "report.md").read_text()
    assert not re.search(r"(?<!\\)<(script|tool_call)", markdown) and not re.search(r"(?<!\\)\]\(", markdown)
    assert not [line for line in markdown.splitlines() if line.startswith("# no")]
    rows = [line for line in markdown.splitlines() if line.startswith("|") and "javascript" in line]
    assert rows and {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {5, 6}


def test_markdown_and_html_say_the_same_table():
    blocks = [("h", "A & B"), ("table", "Cap", ["name", "n"], [["x_y", ("1.0", "inside the noise")], ["<z>", "–"]])]
    assert to_markdown("T", blocks) == (
        "# T\n\n## A & B\n\nCap:\n\n| name |                      n |\n| ---- | ---------------------: |\n"
        "| x_y  | 1.0 (inside the noise) |\n| \\<z> |                      – |\n"
    )
    text = to_html("T", blocks)
    assert '<td class="n">1.0<br><small>inside the noise</small></td>' in text and "&lt;z&gt;" in text


def test_other_test_items_in_one_run_are_refused_by_name(tmp_path):
    run = make_run(tmp_path / "run", steps=("raw", "adaption"))
    lines = (run / "raw" / "eval" / "verdicts.jsonl").read_text().splitlines(keepends=True)
    (run / "raw" / "eval" / "verdicts.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(
        ValueError, match=r"raw and .*adaption: measured on different test items \(209 and 210 verdicts\)"
    ):
        write_report(run)
    assert not (run / "report.json").exists()


def test_the_command_prints_the_files_and_names_what_is_missing(tmp_path, capsys):
    run = make_run(tmp_path / "run", steps=("raw",))
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.split() == [str(run / f"report.{kind}") for kind in ("html", "md", "json")]
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "run.json" in error and error.count("\n") == 1


@pytest.mark.parametrize("low, high", [(0, 0), (0, 1e-9), (0, 97.3), (-12.5, 3), (5, 5), (2e4, 9e4)])
def test_ticks_span_what_they_are_given(low, high):
    marks = charts.ticks(low, high)
    assert len(marks) >= 2 and marks == sorted(set(marks))
    assert marks[0] <= low + 1e-9 and marks[-1] >= high - 1e-9 and len(marks) <= 9


def test_a_histogram_counts_in_whole_numbers_and_says_what_its_bars_are():
    svg = charts.histogram_panel("Queries by votes: round 1", [("early", 1, 0), ("5", 74, 60)], y_label="queries",
                                 x_label="votes for the winning answer", part="accepted")
    label, = re.findall(r'aria-label="([^"]+)"', svg)
    assert label == ("Queries by votes: round 1: queries by votes for the winning answer: early, 1, of which 0 "
                     "accepted; 5, 74, of which 60 accepted")
    assert re.findall(r'text-anchor="end">([^<]+)<', svg) == ["0", "25", "50", "75"]
    for high, marks in ((1, ["0", "1"]), (100, ["0", "50", "100"])):
        one = charts.histogram_panel("t", [("1", 1, 1)], x_label="x", y_label="y", part="p", high=high)
        assert re.findall(r'text-anchor="end">([^<]+)<', one) == marks


def test_a_curve_has_its_axis_named_between_its_ends():
    svg = charts.loss_panel("Training loss: joint", [(1, 2.0), (150, 0.5)])
    assert re.findall(r'class="small[^>]*>([^<]+)<', svg)[-4:] == ["150", "1", "optimizer step", "loss, nats a token"]
    assert "150" in re.findall(r'aria-label="([^"]+)"', svg)[0]


def test_empty_and_partial_charts_are_still_charts():
    point = {"value": 5.0, "low": 1.0, "high": 9.0}
    svgs = [
        charts.interval_panel("t", ["a", "b", "c"], [point, None, point], y_label="y", low=0, high=9),
        charts.loss_panel("t", [(1, 0.5)]),
        charts.funnel_panel("t", [("query", 0, 0)]),
        charts.histogram_panel("<t>", [("1", 0, 0)], x_label="x", y_label="w", part="p"),
    ]
    for svg in svgs:
        ElementTree.fromstring(svg)
    assert charts.loss_panel("t", []) == "" and "polyline" not in svgs[0]


@pytest.mark.parametrize(("file", "text", "words"), [
    ("run.json", "[]", "expected an object"), ("run.json", "null", "expected an object"),
    ("run.json", '{"settings": [1]}', "settings is [1]; expected an object"),
    ("run.json", '{"versions": []}', "versions is"), ("run.json", '{"settings": {}, "evolve": null}', "evolve is null"),
    ("run.json", '{"model": 5}', "model is 5"),
    ("seconds.json", "[]", "expected an object"), ("round-1/ledger.json", "{}", "has no queries"),
    ("joint/eval/summary.json", "{}", "has no items")])
def test_a_damaged_record_of_a_run_is_named_in_one_line(file, text, words, tmp_path):
    run = make_run(tmp_path / "run")
    (run / file).write_text(text)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        write_report(run)
    assert file.rpartition("/")[2] in str(caught.value)


def test_a_record_that_changed_after_its_step_was_done_is_refused(tmp_path):
    """A report of it would tell what was not measured; weights that were taken away are another matter."""
    run = make_run(tmp_path / "run")
    (run / "joint" / "adapter.safetensors").write_bytes(b"x")
    mark_done(run / "joint", ["metrics.jsonl", "adapter.safetensors"])
    (run / "joint" / "adapter.safetensors").unlink()
    write_report(run)
    with open(run / "joint" / "metrics.jsonl", "a") as file:
        file.write("{}\n")
    with pytest.raises(ValueError, match="metrics.jsonl changed after the step was done"):
        write_report(run)
