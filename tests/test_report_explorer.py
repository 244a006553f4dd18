"""The explorer of report.html: an entry for every query of every round and every test item, packed as text."""

import base64
import json
import re
import zlib

import pytest

from data.files import write_jsonl
from data.schema import ToolCall, read_jsonl
from eval.report import explorer, write_report
from eval.report.records import LONG, difference, query_entries
from tests.report_run import make_run, wrote

HOSTILE = "</script><script>document.title='owned'</script>\u202eevil <img src=x onerror=alert(1)> {data}"


def unpacked(text: str):
    return json.loads(zlib.decompress(base64.b64decode(text)))


def data_of(run) -> tuple[dict, str]:
    page = (run / "report.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'id="explorer-data">(.*?)</script>', page, flags=re.S)[1]), page


@pytest.fixture
def run(tmp_path):
    run = make_run(tmp_path / "run", steps=("raw", "adaption", "joint", "round-1", "round-2"))
    for number in (1, 2):
        wrote(run / f"round-{number}", queries=30)
    tool = {"name": "f", "description": "Does it.", "arguments": {"type": "dict", "properties": {}, "required": []}}
    ids = [row["id"] for _, row in read_jsonl(run / "raw" / "eval" / "verdicts.jsonl")]
    write_jsonl(run / "data" / "test.jsonl", [{"id": name, "query": f"Ask {name}", "tools": [tool], "calls": [
        {"name": "f", "arguments": {"n": 1}}]} for name in ids])
    for step in ("raw", "adaption", "joint", "round-1", "round-2"):
        write_jsonl(run / step / "eval" / "answers.jsonl", [{
            "id": name, "text": '<tool_call>\n{"name": "f", "arguments": {"n": 2}}\n</tool_call>', "logprob": -0.5}
            for name in ids])
    return run


def test_every_query_of_every_round_and_every_test_item_has_an_entry_with_its_details(run):
    write_report(run)
    data, _ = data_of(run)
    index, blocks = unpacked(data["index"]), [unpacked(block) for block in data["blocks"]]
    assert [row[:2] for row in index["queries"]] == [[n, f"ask-{n}-{i:05}"] for n in (1, 2) for i in range(30)]
    assert [row[3:6] for row in index["queries"][:3]] == [
        ["", "", 5], ["vote", "too_few_votes", 2], ["tools", "no_description", -1]]
    assert {row[6] for row in index["queries"]} == {"ask-1", "ask-2"}
    detail = blocks[index["queries"][0][-2]][index["queries"][0][-1]]
    assert detail["end"]["provenance"]["votes"] == 5 and detail["calls"]["answers"][0]["samples"] == [0, 1, 2, 3, 4]
    split = blocks[index["queries"][1][-2]][index["queries"][1][-1]]
    assert [one["samples"] for one in split["calls"]["answers"]] == [[0, 1], [2], [3], [4]]
    assert len(index["tests"]) == 210 and data["steps"] == ["raw", "adaption", "joint training", "round 1", "round 2"]
    kinds = {kind for row in index["tests"] for kind in row[4]}
    assert kinds == {"right", "wrong_value", "no_call_text"}
    assert "".join(part for _, part in data["prompts"]["invocation"]).count("\ue001") == 1


def test_losses_of_the_rows_and_what_the_query_asks_for_are_shown_where_they_are_known(run):
    write_jsonl(run / "round-1" / "losses.jsonl", [
        {"id": "ask-1-00000", "objective": "generation", "before": 0.5, "after": 0.25, "supervised": 40}])
    write_jsonl(run / "data" / "truth.jsonl", [{"id": "ask-1-00001", "calls": [{"name": "g", "arguments": {}}]}])
    details = [detail for _, detail in query_entries(run / "round-1", 1)]
    assert details[0]["losses"] == {"generation": [0.5, 0.25, 40]} and details[0]["asked"] is None
    assert details[1]["losses"] == {} and details[1]["asked"] == '[{"name": "g", "arguments": {}}]'


def test_a_round_that_lost_a_file_is_named_and_the_others_are_shown(run):
    (run / "round-1" / "calls.jsonl").unlink()
    write_report(run)
    data, page = data_of(run)
    assert {row[0] for row in unpacked(data["index"])["queries"]} == {2}
    assert "Not here, for want of the run's files: round-1/calls.jsonl." in page


def test_only_the_one_script_may_run_and_no_text_ends_its_element(run):
    wrote(run / "round-2", queries=12, words=HOSTILE, description=HOSTILE)
    write_report(run)
    _, page = data_of(run)
    assert re.findall(r"<script[^>]*>", page) == ['<script type="application/json" id="explorer-data">', "<script>"]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert f"script-src '{explorer.script_hash()}'" in policy and "unsafe-eval" not in policy
    assert explorer.script() in page and not re.search(r"<(img|script>document)", page)
    code = explorer.script()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\bFunction\(", code)
    assert "</script" not in code


def test_long_texts_are_cut_with_their_length_and_a_full_page_leaves_the_last_details_out(run, monkeypatch):
    wrote(run / "round-1", queries=30, description="x" * 300_000, lines=3)
    rows = [detail for _, detail in query_entries(run / "round-1", 1)]
    text = rows[0]["tries"][0]["text"]
    assert len(text[0]) == LONG and text[1] > 300_000
    monkeypatch.setattr(explorer, "PAGE", 6_000)
    monkeypatch.setattr(explorer, "BLOCK", 2_000)
    write_report(run)
    data, _ = data_of(run)
    index = unpacked(data["index"])
    assert len(data["index"]) + sum(map(len, data["blocks"])) <= 6_000
    assert len(index["queries"]) == 60 and index["queries"][-1][-2:] == [-1, -1]
    assert all(row[-2] < len(data["blocks"]) for rows in index.values() for row in rows)


def test_what_is_wrong_with_calls_is_named_from_coarse_to_fine():
    one, two = ToolCall("f", {"a": 1}), ToolCall("g", {"b": 2})
    assert difference([], [one]) == "called_where_no_tool_fits"
    cases = {"no_call": [], "wrong_number_of_calls": [one, two], "wrong_tool": [two],
             "missing_argument": [ToolCall("f", {})], "argument_too_many": [ToolCall("f", {"a": 1, "b": 2})],
             "wrong_value": [ToolCall("f", {"a": 3})]}
    assert [difference([one], calls) for calls in cases.values()] == list(cases)
