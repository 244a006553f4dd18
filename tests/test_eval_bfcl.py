"""The leaderboard's decoders, data, verdicts and aggregates."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bfcl_gold import BFCL_UNPASSABLE, bfcl_calls
from eval_fixtures import bfcl_folder, call_text, real, records

from eval.answers import Answer, read_answer, read_answers
from eval.bfcl.benchmark import load
from eval.bfcl.decode import FAILED, WRONG_FORMAT, Undecodable, check_shape, decode_text
from eval.score import compare, main, read_scores, run_module, score_answers, scores_of

ROOT = Path(__file__).resolve().parent.parent
NO_CALL = "None of the given tools can be used to answer this query."


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("[f(a=1), g.h(b='x')]", [{"f": {"a": 1}}, {"g.h": {"b": "x"}}]),
        ("f()", [{"f": {}}]),
        (" '[f()]'", [{"f": {}}]),
        ("[[f()]]", [{"f": {}}]),
        ("{f()}", [{"f": {}}]),
        ("[f(a=1),]", [{"f": {"a": 1}}]),
        ("f(1, a=+5)", [{"f": {"a": -5}}]),
        ("f(a=not True)", [{"f": {"a": -1}}]),
        ("f(a=...)", [{"f": {"a": "..."}}]),
        ("f(a=(1, [2]))", [{"f": {"a": (1, [2])}}]),
        ("f(a=2 + 3 * 4)", [{"f": {"a": 14}}]),
        ("f(a='x' 'y' + 'z')", [{"f": {"a": "xyz"}}]),
        ("f(a=null)", [{"f": {"a": "null"}}]),
        ("f(a=g( 1 ))", [{"f": {"a": "g(1)"}}]),
        ("f(a=g(b=2))", [{"f": {"a": {"g": {"b": 2}}}}]),
        ("f(a=x[0])", [{"f": {"a": "x[0]"}}]),
        ("f(a=1e3, b=0x1F, c=1_0)", [{"f": {"a": 1000.0, "b": 31, "c": 10}}]),
        ("f(a={'k': true})", [{"f": {"a": {"k": "true"}}}]),
        ("[f(a=1)\n,\ng()]", None),
        ("f(a=--5)", None),
        ("f(a=x.y)", None),
        ("f(a=f'{x}')", None),
        ("f(a={1})", None),
        ("", None),
        ("f(a='x' + f'{1 + 1}y', b=(1 < 2) + 1, c=(0 or 3) * 2)", [{"f": {"a": "x2y", "b": 2, "c": 6}}]),
        ("f(a='x' + f'{1:9999999}')", None),
        ("[]", None),
        ("[f()]\n", None),
        ("  f()", None),
        ("f(class=1)", None),
        ("sorry", None),
        ("```\nf()\n```", None),
        ("f(a=9**9**9)", None),
        ("f(a='x' * 10**9)", None),
        ("f(a='%99999999d' % 1)", None),
        ("f(a=1 << 10**9)", None),
        ("f(a=1/0)", None),
        ("f(a=open('x') + 1)", None),
        ("f(a=__import__('os') + 1)", None),
        ("f(a=lambda: 0)", None),
    ],
)
def test_leaderboard_text(text, calls):
    found = decode_text(text)
    assert (found == calls) if calls is not None else (isinstance(found, Undecodable) and found.error_type == FAILED)


def test_newer_rules_trim_differently():
    for text, calls in (
        ("[f()]\n", [{"f": {}}]),
        ("```\n[f()]\n```", [{"f": {}}]),
        ("[]", []),
        ("[f(),\n g()]", [{"f": {}}, {"g": {}}]),
    ):
        assert decode_text(text, rules="2026") == calls
    assert check_shape([{"f": 1}]) is None and check_shape([{"f": 1}], "2026").error_type == WRONG_FORMAT
    assert check_shape([{}, {"f": {}, "g": {}}]) is None and check_shape([{}], "2026") is not None


def test_tooldev_text_and_which_decoder_takes_what():
    text = call_text("f", {"a": [1, None, {"b": "</tool_call>"}]})
    assert decode_text(text) == decode_text(text, "java") == [{"f": {"a": [1, None, {"b": "</tool_call>"}]}}]
    assert decode_text(NO_CALL) == [] and isinstance(decode_text(NO_CALL, decoder="leaderboard"), Undecodable)
    assert isinstance(decode_text("<tool_call>[f()]</tool_call>"), Undecodable)
    assert decode_text("f()", decoder="tooldev").reason == "no_call_text"
    assert decode_text("[f(a='<tool_call>')]") == [{"f": {"a": "<tool_call>"}}]


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('[Lamp.set(level=5, name="the \\"old\\" one")]', [{"Lamp.set": {"level": "5", "name": 'the \\"old\\" one'}}]),
        ("Lamp.set( level = -5L , unit='c')", [{"Lamp.set": {"level": "-5L", "unit": "c"}}]),
        ("[lamp(a=1)]", None),
        ("[lamp(a=1);]", [{"lamp": {"a": "1"}}]),
        ("[lamp(abcd=1)]", [{"lamp": {"abcd": "1"}}]),
        (
            "[Lamp.set(a=b.c, d=Lamp.class, e=g( 1, x=2 ))]",
            [{"Lamp.set": {"a": "b.c", "d": "Lamp.class", "e": "g( 1, x=2 )"}}],
        ),
        ("[Lamp.set(a=new String[] { -v, --no-strict })]", [{"Lamp.set": {"a": "new String[]{-v,--no-strict}"}}]),
        ("[Lamp.set(a=new int[][]{{1, 2}, {3}})]", [{"Lamp.set": {"a": "new int[]{{1,2},{3}}"}}]),
        ("[Lamp.set(level=new int[3])]", None),
        ("[Lamp.set(a=new Map<A, List<B>>( 1, b + c ))]", [{"Lamp.set": {"a": "new Map<A,List<B>>(1, b+c)"}}]),
        ('[Lamp.set(a=new HashMap<A, B>() {{ put("a", 1); }})]', [{"Lamp.set": {"a": "new HashMap<A,B>()"}}]),
        (
            "[Lamp.set(a=x -> x + 1, b=(int) 3, c=a ? b : c)]",
            [{"Lamp.set": {"a": "x->x+1", "b": "(int)3", "c": "a?b:c"}}],
        ),
        ("[Lamp.set(level, a=1)]", [{"Lamp.set": {None: "level", "a": "1"}}]),
        ("[Lamp.set(level, 'x', 3, a=1)]", [{"Lamp.set": {None: "level", "a": "1"}}]),
        ("[Lamp.set(level=1, level=2)]", None),
        ("[Lamp.set(a=1, b=2), Lamp.set(a=1, b=2)]", None),
        ("[Lamp.set(a=shardA., b=1)]", None),
        ("[Lamp.set(level=/usr/bin)]", None),
        ("[Lamp.set(level=[1, 2])]", None),
        ("[Lamp.set(level=5)]\n", None),
        ("[Lamp.set(level=5", None),
        ("[Lamp.set(é=12, b=3)]", [{"Lamp.set": {"é=": "2,", "=": ")"}}]),
        ("[set(level=1);\nget(level=2);]", [{"set": {"level": "1"}}]),
        ("[]", WRONG_FORMAT),
        ("[new Lamp.set(level=5)]", WRONG_FORMAT),
    ],
)
def test_java_text(text, calls):
    check_foreign(text, "java", calls)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("f(a=1)", [{"f": {"a": "1"}}]),
        ('[lamp.set(a="x", b=\'y\', c="a"+"b");]', [{"lamp.set": {"a": "x", "b": "y", "c": 'a"+"b'}}]),
        (
            "[f(a= [1, ,  2] , b={x: 1, 'y': z}, c=(a, b) => { return 1 })]",
            [{"f": {"a": "[1, ,  2]", "b": "{x: 1, 'y': z}", "c": "(a, b) => { return 1 }"}}],
        ),
        (
            "[f(a=/usr/local/bin, b=new Array('x'), c=`t`, d=plaintext-only)]",
            [{"f": {"a": "/usr/local/bin", "b": "new Array('x')", "c": "`t`", "d": "plaintext-only"}}],
        ),
        (
            "[f(a=function(x) { return x }, b=typeof c, d=g())]",
            [{"f": {"a": "function(x) { return x }", "b": "typeof c", "d": "g()"}}],
        ),
        ("[f(x, a=1)]", [{"f": {None: "x", "a": "1"}}]),
        ("[f(true, 3, 's', a=1)]", [{"f": {None: "true", "a": "1"}}]),
        ("[f(a=1)\ng(b=2)]", [{"f": {"a": "1"}}]),
        ('[f(a="x\n")]', [{"f": {"a": "x\n"}}]),
        ('[f(a="x\ny")]', None),
        ("[f(a=1, a=2)]", None),
        ("[f(a=5L)]", None),
        ("[f(a=x^)]", None),
        ("[f(a=*x*)]", None),
        ("[f(a=1) g(b=1)]", None),
        ("[f(a=x.)]", None),
        ("[f(a=1), g(b=2)]", WRONG_FORMAT),
        ("[]", WRONG_FORMAT),
        ("[new f(a=1)]", WRONG_FORMAT),
        ("[x = f(a=1)]", WRONG_FORMAT),
        ("sorry", WRONG_FORMAT),
    ],
)
def test_javascript_text(text, calls):
    check_foreign(text, "javascript", calls)


def check_foreign(text, language, calls):
    """As judged by the official grammar (tree-sitter); a wrong verdict is named, None is a text without a reading."""
    found = decode_text(text, language)
    assert found == calls if isinstance(calls, list) else found.error_type == (calls or FAILED)
    if isinstance(calls, list):
        assert decode_text(f"```\n{text}\n```", language, rules="2026") == calls


@pytest.mark.parametrize(
    "text",
    [
        "(" * 9_000,
        "f(" * 9_000,
        "[" * 9_000,
        "f(a=" * 4_000,
        "(a)" * 6_000,
        "a.b()." * 3_000,
        "f(a=" + "a+" * 9_000 + "a)",
        "new A<" * 3_000,
        'f(a="' + " " * 19_000,
        "`" * 9_001,
        "/" * 9_000,
        "a:" * 9_000,
        "x->" * 6_000,
        "a?b:" * 4_000,
        "{" * 9_000,
        "(" * 90 + "a," * 9_000 + ")" * 90,
        "f(a=1)" * 20_000,
        "\x00",
        "\ud800(a=1)",
        "",
        " ",
        '"""' * 5_000,
    ],
)
def test_hostile_java_and_javascript_texts_are_read_quickly(text):
    start = time.process_time()
    for language in ("java", "javascript"):
        found = decode_text(text, language)
        assert isinstance(found, (list, Undecodable))
    assert time.process_time() - start < 2


def gold_rows(benchmark):
    return [
        {"id": e.id, "category": e.category, "output": bfcl_calls(e)} for e in benchmark.entries.values() if e.expected
    ]


@pytest.mark.parametrize("later", [False, True])
def test_gold_replay_of_our_own_data_is_perfect_in_both_layouts(tmp_path, later):
    benchmark = load(bfcl_folder(tmp_path, later=later))
    verdicts, summary = score_answers(benchmark, map(Answer, gold_rows(benchmark)))
    assert all(v["valid"] for v in verdicts)
    assert (
        summary["scores"]["overall"]["value"] == 100.0
        and summary["complete"]
        and summary["rules"] == ("2026" if later else "2024")
    )
    assert benchmark.find(Answer({"id": "simple_1"})) is benchmark.find(Answer({"id": "simple_python_1"})) is not None


def test_aggregates_weigh_as_the_paper_says(tmp_path):
    benchmark = load(bfcl_folder(tmp_path))
    right = {"java_0", "simple_0", "multiple_0", "live_simple_0", "live_multiple_0", "live_multiple_1"}
    rows = [Answer(row) for row in gold_rows(benchmark) if row["id"] in right]
    rows += [Answer({"id": "parallel_0", "text": "sorry"}), Answer({"id": "nobody_0", "output": []}), rows[0]]
    verdicts, summary = score_answers(benchmark, rows)
    scores = {name: s["value"] for name, s in summary["scores"].items()}
    assert scores["non_live_simple"] == 50.0  # (1/2 + 1 + 0) / 3
    assert scores["non_live"] == 37.5  # (0.5 + 1 + 0 + 0) / 4
    assert scores["live"] == pytest.approx(100 * 3 / 7, abs=0.005)  # 3 of 7, weighted by count
    assert scores["overall"] == pytest.approx((37.5 + 300 / 7) / 2, abs=0.005)
    assert summary["counts"] == {"right": 6, "wrong": 0, "undecodable": 1, "missing": 7}
    assert (summary["answers"]["unknown"], summary["answers"]["repeated"]) == (1, 1)
    assert [v["outcome"] for v in verdicts[-3:]] == ["undecodable", "unknown", "right"]
    for name, score in summary["scores"].items():
        assert score["low"] <= score["value"] <= score["high"], name


def test_calls_where_nothing_fits_are_counted(tmp_path):
    benchmark = load(bfcl_folder(tmp_path, irrelevance=4))
    texts = [NO_CALL, "I cannot.", call_text("lamp.set", {}), '<tools>\n{"name": "sing"}\n</tools>']
    verdicts, summary = score_answers(
        benchmark, [Answer({"id": f"irrelevance_{i}", "text": t}) for i, t in enumerate(texts)]
    )
    assert [v["valid"] for v in verdicts] == [True, True, False, True]
    assert summary["irrelevance"]["called"] == 1 and summary["irrelevance"]["call_rate"]["value"] == 25.0
    assert summary["wrote_tools_instead"] == 1


def test_a_prompt_too_long_for_the_model_is_not_a_right_refusal_to_call(tmp_path):
    benchmark = load(bfcl_folder(tmp_path, irrelevance=2))
    rows = [{"id": "irrelevance_0", "text": "", "finish_reason": "refused"}, {"id": "irrelevance_1", "text": NO_CALL}]
    verdicts, summary = score_answers(benchmark, map(Answer, rows))
    assert [(v["valid"], v["outcome"]) for v in verdicts] == [(False, "undecodable"), (True, "right")]
    assert verdicts[0]["reason"] == "refused" and summary["irrelevance"]["n"] == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "simple_0", "output": [{"lamp.set": {"level": 1e400}}]}', "json:number_too_large"),
        (b'{"id": "simple_0", "output": [{"lamp.set": {"level": NaN}}]}', "json:value_not_json"),
        (b'{"id": "simple_0", "output": [{"lamp.set": {"level": 1, "level": 2}}]}', "json:duplicate_key"),
        (b'{"id": "simple_0", "output": ' + b"[" * 100_000, "json:too_deep"),
        (b'{"id": "simple_0", "text": "\x01"}', "json:not_json"),
        (b'{"id": "simple_0", "text": "\xff"}', "json:not_utf8"),
        (b'{"id": "simple_0", "text": "cut', "json:not_json"),
        (b'{"id": "simple_0", "text": "' + b"x" * 10_000_000 + b'"}', "answer_too_long"),
        (b'{"id": "simple_0", "output": null}', "no_output"),
        (b'{"id": "simple_0"}', "no_output"),
        (b'{"id": "simple_0", "text": 5}', "not_text"),
    ],
)
def test_hostile_lines_are_undecodable_and_keep_their_entry(tmp_path, line, reason):
    benchmark = load(bfcl_folder(tmp_path))
    verdicts, summary = score_answers(benchmark, [read_answer(line)])
    assert (verdicts[0]["outcome"], verdicts[0]["error_type"], verdicts[0]["reason"]) == ("undecodable", FAILED, reason)
    assert summary["counts"]["undecodable"] == 1 and summary["counts"]["wrong"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "f(a=" + "[" * 99,
        "-" * 99_999 + "1",
        "a" + ".b" * 40_000,
        "f(" * 30_000,
        "f'{" * 30_000,
        "[" * 10_000_000,
        "\x00" * 1000,
        "f(a='" + "x" * 10_000_000 + "')",
        "<tool_call>" * 5_000,
        "\ud800f()",
    ],
)
def test_hostile_texts_fail_quickly_and_quietly(text):
    start = time.process_time()
    assert isinstance(decode_text(text), Undecodable)
    assert time.process_time() - start < 5


def test_score_command_writes_compares_and_explains(tmp_path, capsys):
    data = bfcl_folder(tmp_path / "data")
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(json.dumps(row) for row in gold_rows(load(data))) + "\n\n", encoding="utf-8")
    command = ["--bench", "bfcl", "--data", str(data), "--answers", str(answers), "--out", str(tmp_path / "out")]
    import eval.score as module

    assert run_module(module, [*command[:-1], str(tmp_path / "other")]) == 0
    assert run_module(module, [*command, "--against", str(tmp_path / "other")]) == 0
    printed = capsys.readouterr().out
    assert "overall                      100.00" in printed and "inside the noise" in printed
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(summary["answers"]["sha256"]) == 64 and (tmp_path / "out" / "comparison.json").is_file()
    assert [v["id"] for v in records(tmp_path / "out" / "verdicts.jsonl")] == [r["id"] for r in records(answers)]
    assert (
        run_module(module, ["--bench", "bfcl", "--data", str(tmp_path / "none"), "--answers", "x", "--out", "y"]) == 2
    )
    assert "tooldev.py data bfcl" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no entry is in both"):
        compare(read_scores(tmp_path / "out"), scores_of([{"id": "other", "valid": True}]), "there")
    assert main is module.main


def test_scoring_imports_no_torch():
    code = "import sys, eval.score; print([m for m in ('torch', 'transformers', 'safetensors') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_every_judged_verdict_agrees():
    folder = real("bfcl")
    benchmark, rows = load(folder), list(read_answers(folder / "verdicts_dev.jsonl"))
    verdicts, _ = score_answers(benchmark, rows)
    wrong = [
        (v, a.record)
        for v, a in zip(verdicts, rows)
        if (v["valid"], v["error_type"]) != (a.record["valid"], a.record["error_type"])
    ]
    assert not wrong and len(rows) == 622


def test_every_judged_text_agrees():
    def plain(value):
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return {str(k): plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    folder = real("bfcl")
    benchmark = load(folder)
    rows = records(folder / "decode_dev.jsonl")
    for row in rows:
        entry = benchmark.entries[row["id"]]
        decoded = decode_text(row["text"], entry.language)
        if not row["decoded"] and row["error_type"] == WRONG_FORMAT and entry.language != "python":
            assert decoded.reason == "no_call_found", row
            continue
        verdict = benchmark.judge(entry, Answer({"id": row["id"], "text": row["text"]}))
        assert isinstance(decoded, Undecodable) != row["decode_ok"], row
        assert not row["decode_ok"] or plain(decoded) == row["decoded"], row
        assert (verdict["valid"], verdict["error_type"]) == (row["valid"], row["error_type"]), row
    assert len(rows) == 201


def test_gold_replay_fails_exactly_the_named_entries():
    benchmark = load(real("bfcl"))
    verdicts, summary = score_answers(benchmark, map(Answer, gold_rows(benchmark)))
    assert {v["id"] for v in verdicts if not v["valid"]} == set(BFCL_UNPASSABLE)
    assert summary["counts"] == {"right": 2478, "wrong": 7, "undecodable": 0, "missing": 0}


def test_ten_thousand_answers_take_less_than_ten_seconds(tmp_path):
    benchmark = load(real("bfcl"))
    rows = (gold_rows(benchmark) * 5)[:10_000]
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    start = time.process_time()
    verdicts, _ = score_answers(load(real("bfcl")), read_answers(path))
    assert len(verdicts) == 10_000 and time.process_time() - start < 10
