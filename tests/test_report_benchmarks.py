"""The benchmarks in a report: both readings, the published rows, the paired tests, and the page of a real model."""

import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from bfcl_gold import bfcl_calls
from eval_fixtures import apibank_folder, bfcl_folder, call_text, lines, teval_folder
from report_run import make_run

import eval.score
from benchmarks import real_table
from data.files import write_json, write_jsonl
from eval.apibank import benchmark as apibank
from eval.bfcl.benchmark import load
from eval.report import write_report
from eval.report.benchmarks import small_models
from eval.report.measured import changes, paired, read_benchmarks
from eval.report.page import headline
from eval.score import VERDICTS, run_module
from tests.test_report_explorer import data_of, unpacked

ROOT = Path(__file__).resolve().parent.parent
RIGHT = {"raw": 4, "raw-native": 6, "adaption": 2, "joint": 10, "round-1": 11, "round-2": 12}


def scored(bench: str, data: Path, answers: list[dict], out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.parent / "given.jsonl"
    file.write_text(lines(answers))
    command = ["--bench", bench, "--data", str(data), "--answers", str(file), "--out", str(out)]
    assert run_module(eval.score, command) == 0
    file.rename(out / "answers.jsonl")
    (out / "eval.json").write_text(json.dumps({"settings": {"data": str(data)}}))
    return out


@pytest.fixture(scope="module")
def benched(tmp_path_factory) -> Path:
    """A run whose steps have benchmarks: the first answers right and fenced or tagged, others tools or words."""
    folder = tmp_path_factory.mktemp("benched")
    run, data = make_run(folder / "run"), bfcl_folder(folder / "bfcl", irrelevance=2)
    board = load(data)
    for label, right in RIGHT.items():
        answers = []
        for number, entry in enumerate(board.entries.values()):
            calls = [{"name": name, "arguments": arguments} for call in bfcl_calls(entry) if entry.expected
                     for name, arguments in call.items()] if entry.expected else []
            tagged = "\n".join(call_text(**call) for call in calls)
            text = "```json\n" + json.dumps(calls) + "\n```" if label.startswith("raw") else tagged
            other = "<tools>\n{}\n</tools>" if label == "adaption" else "Nothing."
            answers.append({"id": entry.id, "text": text if calls and number < right else other})
        step, _, native = label.partition("-native")
        name = "bfcl-native" if label.endswith("-native") else "bfcl"
        scored("bfcl", data, answers, run / label.removesuffix("-native") / "bench" / name)
    bank = apibank.load(apibank_folder(folder / "apibank"))
    for label in ("raw", "joint"):
        replies = [{"id": row.key, "reply": row.expected if label == "joint" else "No."}
                   for row in bank.entries.values()]
        scored("apibank", folder / "apibank", replies, run / label / "bench" / "apibank")
    item = {"id": "q1", "task": "retrieve_str", "reply": "Map.find"}
    scored("teval", teval_folder(folder / "teval"), [item], run / "joint" / "bench" / "teval")
    return run


def table(text: str, caption: str) -> dict[str, list[str]]:
    """Row name -> cells of a Markdown table."""
    body = text[text.index(caption):].split("\n\n")[1]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body.splitlines()]
    return {row[0]: row[1:] for row in rows}


def test_the_report_has_the_papers_tables_in_both_readings(benched):
    report = write_report(benched)
    text = (benched / "report.md").read_text()
    first = table(text, "Table 1: BFCL")
    assert [first["raw"][i].split()[0] for i in (0, 1)] == ["0.0", "16.7"]      # non-live strict, lenient
    assert first["joint training"][0] == first["joint training"][1]
    assert first["ToolDev (FC)"][:5] == ["89.7", "–", "75.2", "–", "82.4"]
    assert first["Hammer2.1-0.5b (base: Qwen2.5-Coder-0.5B)"][0] == "66.0" and "raw, by its own tool prompt" in first
    assert " / " in table(text, "Table 1, its categories")["joint training"][0]
    assert table(text, "Irrelevance")["joint training"][0].startswith("100.0")
    second = table(text, "Table 2: API-Bank and T-Eval")
    assert second["raw"][0].startswith("0.0") and second["Llama-3.1-8B-Instruct"][0] == "54.1"
    third = table(text, "Table 3")
    assert list(third)[2:] == ["Raw", "Adaption", "Invo.+Gen. w. Adaption", "round 1", "round 2"]
    assert third["Raw"][-1] == "–" and third["Invo.+Gen. w. Adaption"][-1] == "+17.2" and third["round 2"][-2] != "–"
    written = table(text, "What the answers were, in the paper's format")
    assert written["adaption, BFCL"][3] == "16" and int(written["raw, BFCL"][-2]) > int(written["raw, BFCL"][-1])
    assert report["benchmarks"]["steps"]["joint"]["bfcl"]["scores"]["strict"]["overall"]
    html = (benched / "report.html").read_text()
    assert html.count("paper&#x27;s Fig. 2 shows") + html.count("paper's Fig. 2 shows") >= 1 and "Fig. 3" in html


def test_benchmarks_come_first_on_the_page_and_in_its_headline(benched, tmp_path):
    report = write_report(benched)
    text = (benched / "report.md").read_text()
    found = re.findall(r"^## (.*)$", text, flags=re.M)
    assert found[:3] == ["Benchmarks", "Exact match after each step", "What each step changed"]
    cell, = (cell for cell in changes(report["benchmarks"]) if cell["benchmark"] == "BFCL")
    title = text.splitlines()[0]
    gain = cell["after"]["value"] - cell["before"]["value"]
    assert title.startswith(f"# tiny: BFCL overall {cell['before']['value']:.1f}% → {cell['after']['value']:.1f}% "
                            f"(strict reading, +{gain:.1f} points; raw by its own tool prompt "
                            f"{cell['native']['value']:.1f}%) by joint training and two rounds; ")
    assert f"By its own tool prompt the raw model scores {cell['native']['value']:.1f}% [" in text
    assert re.search(r" of 210 test items right \(\+?\+.* points\) by joint training and three rounds$", title), title
    assert cell["step"] == "round-2" and not cell["paired"]["inside_noise"]
    assert text.index("on BFCL, overall, by the strict reading") < text.index("test items exactly right")
    report["benchmarks"]["comparisons"] = [
        pair | {"strict": pair["strict"] | {"inside_noise": True}} for pair in report["benchmarks"]["comparisons"]]
    assert " points, inside the noise; raw by its own tool prompt " in headline(report, "run")
    for step in report["steps"]:                            # both end with the same step: it is said once, at the end
        step |= {"name": "round-2"} if step["name"] == "round-3" else {}
    report["in_all"]["step"] = "round-2"
    assert headline(report, "run").count(" by joint") == 1


def test_a_run_with_benchmarks_alone_says_what_they_show(benched, tmp_path):
    run = shutil.copytree(benched, tmp_path / "run")
    for folder in run.glob("*/eval"):
        shutil.rmtree(folder)
    title = headline(write_report(run), "run")
    assert title.startswith("tiny: BFCL overall ") and title.endswith("0.0%) by joint training and two rounds")
    assert "Nothing has been measured" not in (run / "report.md").read_text()
    for folder in run.glob("*/bench"):
        if folder.parent.name != "raw":
            shutil.rmtree(folder)
    title = headline(write_report(run), "run")
    assert re.fullmatch(r"tiny: BFCL overall \d+\.\d% \(strict reading\), raw alone", title)
    summary = json.loads((run / "raw/bench/bfcl/summary.json").read_text())
    write_json(run / "raw/bench/bfcl/summary.json", summary | {"subset": {"entries": 11, "of": 16}})
    assert "BFCL overall on a subset of 11 entries " in headline(write_report(run), "run")


def test_every_chart_of_a_page_has_a_title_of_its_own(benched):
    write_report(benched)
    titles = re.findall(r'class="title"[^>]*>([^<]+)<', (benched / "report.html").read_text())
    assert len(titles) == len(set(titles)) > 15
    kinds = {title.split(":")[0] for title in titles}
    assert kinds == {"BFCL accuracy", "BFCL gain over joint training", "Exact match", "Gain over joint training",
                     "Queries that passed each stage", "Queries by votes", "Training loss"}


def entries_of(run: Path) -> tuple[dict, list[list], list[dict]]:
    """(the explorer's data, rows of the benchmarks, their details)."""
    data, _ = data_of(run)
    rows, blocks = unpacked(data["index"])["benchmarks"], [unpacked(block) for block in data["blocks"]]
    return data, rows, [blocks[row[-2]][row[-1]] for row in rows]


def test_the_explorer_has_every_entry_with_its_question_and_the_answer_after_each_step(benched):
    write_report(benched)
    data, rows, details = entries_of(benched)
    assert data["asked"][:2] == ["raw", "raw, by its own tool prompt"] and len(data["notes"]) == 1
    assert Counter(row[2] for row in rows) == {"BFCL": 16, "API-Bank": 5, "T-Eval": 1}
    simple, at = next(i for i, row in enumerate(rows) if row[0] == "simple_0"), data["asked"].index("joint training")
    assert rows[simple][1] == "Question 0 of simple." and rows[simple][3] == "simple"
    learned = [i for i, row in enumerate(rows) if row[4][at] == row[5][at] == "right" != row[5][0]
               and row[2] == "BFCL"]
    assert learned and "<tool_call>" in details[learned[-1]]["answers"][at]
    fenced = [i for i, row in enumerate(rows) if row[5][0] == "right" != row[4][0]]
    assert fenced and "```json" in details[fenced[0]]["answers"][0]             # read leniently alone
    detail = details[simple]
    assert [role for role, _ in detail["asked"]] == ["system", "user"] and "lamp.set" in detail["asked"][0][1]
    assert json.loads(detail["expected"]) == {"lamp.set": {"room": ["hall", "the hall"], "level": [40],
                                                           "warm": ["", True]}}
    bank = next(row for row in rows if row[2] == "API-Bank")
    assert "not_asked" in bank[4] and bank[4][at] == "right" and bank[1]
    assert next(d for row, d in zip(rows, details, strict=True) if row[2] == "T-Eval")["answers"][at] == "Map.find"


def test_where_the_questions_are_gone_or_others_the_explorer_says_so(benched, tmp_path):
    run = shutil.copytree(benched, tmp_path / "run")
    for folder in run.glob("*/bench/bfcl"):
        (folder / "eval.json").write_text(json.dumps({"settings": {"data": str(tmp_path / "<gone>")}}))
    for folder in run.glob("*/bench/apibank"):
        (folder / "eval.json").write_text(json.dumps({"settings": {"data": str(tmp_path)}}))
    write_report(run)
    data, rows, details = entries_of(run)
    assert "<gone> is not there" in data["notes"][2] and "holds other files by now" in data["notes"][1]
    assert "&lt;gone&gt; is not there" in data_of(run)[1]
    bare = [row for row in rows if row[2] == "BFCL"][0]
    assert bare[1] == "" and bare[3] and bare[4][0] and not any(
        detail["asked"] for row, detail in zip(rows, details, strict=True) if row[2] != "T-Eval")


def test_steps_are_compared_on_the_same_entries(benched):
    compared = table(write_report(benched) and (benched / "report.md").read_text(), "Steps against one another")
    assert compared["BFCL: joint training against raw"][0] == "14"              # irrelevance is left out
    assert compared["BFCL: joint training against raw"][1].startswith("+57.1 ")
    assert {"BFCL: joint training against adaption", "BFCL: round 2 against round 1", "BFCL: round 2 against raw",
            "BFCL: round 2 against joint training", "API-Bank: joint training against raw"} <= compared.keys()
    strict, lenient = compared["BFCL: joint training against raw"][1], compared["BFCL: joint training against raw"][5]
    assert strict != lenient
    silence = compared["BFCL, where no function fits: joint training against raw"]
    assert silence[0] == "2" and silence[1].startswith("+0.0 ")


def test_entries_that_no_function_fits_are_compared_apart(tmp_path):
    """A step that learnt to call everywhere gains on the one kind and loses on the other."""
    for name, right in {"raw": "irrelevance", "joint": "simple"}.items():
        verdicts = [{"id": f"{category}_{n}", "category": category, "valid": category == right}
                    for category in ("simple", "irrelevance") for n in range(3 if category == "simple" else 2)]
        (tmp_path / name).mkdir()
        for file in VERDICTS.values():
            write_jsonl(tmp_path / name / file, verdicts)
    for silence, entries, points in ((False, 3, 1.0), (True, 2, -1.0)):
        for found in paired(tmp_path / "raw", tmp_path / "joint", silence).values():
            assert (found["n"], found["difference"]) == (entries, points)
    write_jsonl(tmp_path / "raw" / "verdicts.jsonl", [{"id": "simple_0", "category": "simple", "valid": True}])
    assert paired(tmp_path / "raw", tmp_path / "joint", silence=True) == {}


def test_two_runs_with_benchmarks_give_the_same_report(benched, tmp_path):
    other = shutil.copytree(benched, tmp_path / "elsewhere" / "run")
    reports = [write_report(run) for run in (benched, other)]
    assert reports[0]["benchmarks"] == reports[1]["benchmarks"]


def test_the_page_of_a_real_model_comes_from_folders_of_eval(benched, tmp_path, monkeypatch, capsys):
    def page_of(*words):
        given = ["--title", "A Model", "--note", "Two hours.", "--out", str(out), *words]
        monkeypatch.setattr(sys, "argv", ["real_table.py", *given])
        return real_table.main()

    out = tmp_path / "page.md"
    pairs = [f"raw={benched}/raw/bench/bfcl", f"joint={benched}/joint/bench/bfcl", f"mine={benched}/joint/bench/teval"]
    assert not page_of(*(word for pair in pairs for word in ("--step", pair)))
    text = out.read_text()
    assert text.startswith("# A Model on the benchmarks\n") and "Two hours." in text and "cores" in text
    assert "mine" in table(text, "Table 2") and list(table(text, "Answers"))[2:] == ["raw", "joint training", "mine"]
    assert not page_of("--run", str(benched)) and "round 2" in table(out.read_text(), "Table 1: BFCL")
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["backbone"] == "A Model" and record["entries"] == 16 and "of" not in record
    assert [row["step"] for row in record["steps"]] == ["raw", "raw-native", "adaption", "joint", "round-1", "round-2"]
    cell = read_benchmarks({"joint": [benched / "joint" / "bench" / "bfcl"]})["steps"]["joint"]["bfcl"]
    assert record["steps"][3]["scores"]["live"] == cell["scores"]["strict"]["live"]
    capsys.readouterr()
    assert page_of("--step", f"raw={tmp_path}") == 2
    said = capsys.readouterr().err
    assert "no summary.json" in said and said.count("\n") == 1


def test_scores_of_different_entries_are_not_drawn_as_one_line(benched, tmp_path, monkeypatch, capsys):
    part = shutil.copytree(benched / "joint" / "bench" / "bfcl", tmp_path / "part")
    summary = json.loads((part / "summary.json").read_text())
    (part / "summary.json").write_text(json.dumps(summary | {"subset": {"entries": 11, "of": 16}}))
    out = tmp_path / "page.md"
    pairs = [f"--step=raw={benched}/raw/bench/bfcl", f"--step=joint={part}"]
    monkeypatch.setattr(sys, "argv", ["real_table.py", *pairs, "--title", "M", "--out", str(out)])
    assert real_table.main() == 2 and "different entries" in capsys.readouterr().err
    assert out.is_file() and not out.with_suffix(".json").exists()


def test_what_cannot_stand_in_a_table_is_refused(benched, tmp_path):
    folder = benched / "raw" / "bench" / "bfcl"
    with pytest.raises(ValueError, match="both are bfcl of raw"):
        read_benchmarks({"raw": [folder, folder]})
    old = shutil.copytree(folder, tmp_path / "old")
    summary = json.loads((old / "summary.json").read_text())
    (old / "summary.json").write_text(json.dumps({key: value for key, value in summary.items() if key != "lenient"}))
    with pytest.raises(ValueError, match="type its eval command again"):
        read_benchmarks({"raw": [old]})


def test_every_published_fact_has_its_source():
    facts = small_models()
    assert len({row["model"] for row in facts}) == len(facts) > 15 and all(row["source"] for row in facts)
    for row in facts:
        parts = [row[f"non_live_{name}"] for name in ("simple", "multiple", "parallel", "parallel_multiple")]
        if None not in parts:                                  # the published mean follows from its categories
            assert abs(sum(parts) / 4 - row["non_live"]) < 0.06, row["model"]


def test_a_step_that_was_asked_by_its_own_prompt_is_named(benched, tmp_path):
    run = shutil.copytree(benched, tmp_path / "run")
    write_report(run)
    assert "Trained and asked by the model's own tool prompt" not in (run / "report.md").read_text()
    summary = run / "joint" / "bench" / "bfcl" / "summary.json"
    write_json(summary, json.loads(summary.read_text()) | {"prompt": "native"})
    write_report(run)
    assert "Trained and asked by the model's own tool prompt: joint training." in (run / "report.md").read_text()
    assert any("the texts here are still the paper's" in note for note in data_of(run)[0]["notes"])
