"""Reading records: every container gives the same rows; broken input is an error or a rejected, numbered line."""

import gzip
import json
import tracemalloc

import pytest

import tooldev
from data.formats.convert import Options, convert
from data.formats.source import Broken, Record, records, sniff
from data.schema import read_jsonl

ROWS = [{"id": n, "query": f"question {n} – ü", "tools": "[]", "answers": "[]"} for n in range(50)]


def values(path, **options):
    return [record.value for record in records(path, **options)]


def test_lines_arrays_and_gzip_give_the_same_rows(tmp_path):
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    texts = {"a.jsonl": lines, "b.jsonl": lines.replace("\n", "\r\n\n") + "\n\n", "c.json": json.dumps(ROWS),
             "d.json": json.dumps(ROWS, indent=2),
             "e.json": " \n[\n" + ",\n".join(json.dumps(row) for row in ROWS) + "\n]\n", "f.jsonl": "\ufeff" + lines,
             "g.json": "\ufeff" + json.dumps(ROWS, indent=1)}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text.encode())
        (tmp_path / (name + ".gz")).write_bytes(gzip.compress(text.encode()))
        assert values(tmp_path / name) == ROWS, name
        assert values(tmp_path / (name + ".gz")) == ROWS, name


def test_line_numbers_are_those_of_the_file(tmp_path):
    (tmp_path / "a.json").write_text("[\n\n" + json.dumps({"a": 1}) + ",\n" + json.dumps({"b": [1, 2]}, indent=1)
                                     + ",\n {}]")
    assert [record.line for record in records(tmp_path / "a.json")] == [3, 4, 10]


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_arrays_are_read_across_any_chunk_border(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("data.formats.source.CHUNK", chunk)
    rows = [{"a": "x" * 90, "b": [1.25, -3e5, True, None, "\\\"é🧶"]}, [12345, 678], "text, ] here", 123456789, {}]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False))
    assert values(tmp_path / "a.json") == rows


def test_csv_tsv_and_plain_text(tmp_path):
    (tmp_path / "a.csv").write_text('\ufeffQuery,Tool\n"Who, me?",a\n"two\nlines",b\nplain,c\ntoo,many,fields\n')
    found = list(records(tmp_path / "a.csv"))
    assert [r.value["Query"] for r in found[:3]] == ["Who, me?", "two\nlines", "plain"]
    assert [r.line for r in found] == [2, 3, 5, 6] and found[3].reason == "wrong_columns"
    (tmp_path / "a.tsv").write_text("query\ttool\na, b\tc\n")
    assert values(tmp_path / "a.tsv") == [{"query": "a, b", "tool": "c"}]
    (tmp_path / "a.txt").write_bytes("first\n\nzweite ü\n\xff\nlast".encode("latin-1").replace(b"\xfc", "ü".encode()))
    found = list(records(tmp_path / "a.txt"))
    assert [(r.line, r.value["query"]) for r in found
            if isinstance(r, Record)] == [(1, "first"), (3, "zweite ü"), (5, "last")]
    assert [(r.line, r.reason) for r in found if isinstance(r, Broken)] == [(4, "not_utf8")]


BROKEN_LINES = [("{'a': 1}", "not_json"), ('{"a": NaN}', "value_not_json"), ('{"a": 1e400}', "number_too_large"),
                ('{"a": 1, "a": 2}', "duplicate_key"),
                ('{"a": {"b": 1, "b": 1}}', "duplicate_key"), ("[" * 100_000, "too_deep"),
                ('{"a": ' + "[" * 70 + "]" * 70 + "}", "too_deep"),
                ('{"a": "\\ud800"}', "bad_unicode"), ('{"a": 1', "not_json"),
                ('{"a": ' + "9" * 5000 + "}", "number_too_large"), ('{"a": 1} x', "not_json")]


@pytest.mark.parametrize(("line", "reason"), BROKEN_LINES, ids=range(len(BROKEN_LINES)))
def test_a_broken_line_costs_that_line(tmp_path, line, reason):
    (tmp_path / "a.jsonl").write_text('{"query": "before"}\n' + line + '\n{"query": "after"}\n')
    before, broken, after = records(tmp_path / "a.jsonl")
    assert (before.value, after.value) == ({"query": "before"}, {"query": "after"})
    assert (broken.line, broken.reason, broken.fatal) == (2, reason, False)


@pytest.mark.parametrize(("element", "reason"), [('{"a": 1, "a": 2}', "duplicate_key"),
                                                 ('{"a": NaN}', "value_not_json"), ('{"a": "\\ud800"}', "bad_unicode")])
def test_a_broken_element_of_an_array_costs_that_element(tmp_path, element, reason):
    (tmp_path / "a.json").write_text('[{"q": 1},\n' + element + ',\n{"q": 2}]')
    before, broken, after = records(tmp_path / "a.json")
    assert (before.value, after.value, broken.line, broken.reason) == ({"q": 1}, {"q": 2}, 2, reason)


def test_mixed_encodings_cost_the_records_that_are_not_utf8(tmp_path):
    lines = [json.dumps({"query": "grün"}, ensure_ascii=False).encode(code) for code in ("utf-8", "latin-1", "utf-8")]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "a.json").write_bytes(b"[" + b",\n".join(lines) + b"]")
    for name in ("a.jsonl", "a.json"):
        first, broken, last = records(tmp_path / name)
        assert first.value == last.value == {"query": "grün"}
        assert (broken.line, broken.reason) == (2, "not_utf8")


def test_an_array_that_goes_wrong_keeps_what_stood_before(tmp_path):
    for text, reason in (('[{"a": 1},\n{"a": 2}', "file_ends_early"), ('[{"a": 1},\n{"a": 2}, {"a', "file_ends_early"),
                         ('[{"a": 1},\n{"a": 2} {"a": 3}]', "not_json"),
                         ('[{"a": 1},\n{"a": 2}, {a: 3}, ' + '{"b": 1}, ' * 50 + "{}]", "not_json")):
        (tmp_path / "a.json").write_text(text)
        *good, broken = records(tmp_path / "a.json")
        assert [record.value for record in good] == [{"a": 1}, {"a": 2}]
        assert (broken.line, broken.reason, broken.fatal) == (2, reason, True)


def test_a_truncated_gzip_keeps_what_stood_before_and_ends_with_1(tmp_path, capsys):
    data = gzip.compress("".join(json.dumps({"query": f"{n} {'x' * 50} {hash(str(n))}"}) + "\n"
                                 for n in range(5000)).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(data[:len(data) // 2])
    arguments = ["convert", "--from", "queries", "--in", str(tmp_path / "a.jsonl.gz"), "--out", str(tmp_path / "out")]
    assert tooldev.main(arguments) == 1
    assert "could not be read to its end" in capsys.readouterr().err
    rejected = [row for _, row in read_jsonl(tmp_path / "out" / "rejected.jsonl")]
    assert rejected[-1]["reason"] == "file_ends_early"
    kept = sum(1 for _ in read_jsonl(tmp_path / "out" / "queries.jsonl"))
    assert 1000 < kept < 5000
    assert rejected[-1]["provenance"]["line"] == kept + 1


def test_a_long_line_is_skipped_without_being_held(tmp_path):
    with open(tmp_path / "a.jsonl", "wb") as file:
        file.write(b'{"query": "before"}\n{"query": "')
        for _ in range(30):
            file.write(b"x" * 2**20)
        file.write(b'"}\n{"query": "after"}\n')
    tracemalloc.start()
    before, broken, after = records(tmp_path / "a.jsonl", max_record_bytes=2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (before.value["query"], broken.line, broken.reason, after.line) == ("before", 2, "record_too_long", 3)
    assert peak < 6 * 2**20


def test_memory_does_not_grow_with_an_array(tmp_path):
    row = json.dumps({"query": "x" * 1000})
    (tmp_path / "a.json").write_text("[" + ",\n".join([row] * 20_000) + "]")
    tracemalloc.start()
    assert sum(1 for _ in records(tmp_path / "a.json")) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


@pytest.mark.parametrize(("data", "message"), [(b"", "empty"), (b"\xff\xfe[\x00", "UTF-16"),
                                               (b"Query,Tool\na,b\n" * 40, "not one of the first 20 lines is JSON"),
                                               (gzip.compress(b'{"a": 1}', mtime=0)[:6], "gzip")])
def test_a_file_of_another_kind_is_an_error_that_says_what_to_do(tmp_path, data, message):
    (tmp_path / "a.jsonl").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        list(records(tmp_path / "a.jsonl", kind="lines" if data.startswith(b"Query") else None))
    with pytest.raises(FileNotFoundError, match="no such file"):
        list(records(tmp_path / "missing.jsonl"))


def test_csv_given_as_a_corpus_is_rejected_row_by_row_with_what_it_lacks(tmp_path):
    (tmp_path / "a.csv").write_text("name,city\nx,y\n")
    manifest = convert([tmp_path / "a.csv"], tmp_path / "out", Options(format="xlam"))
    assert manifest["rejected"] == {"no_query": 1}


def test_sniffing_tells_lines_from_documents(tmp_path):
    for text, kind in (('{"a": 1}', "lines"), ('{"a": 1}\n{"a": 2}', "lines"), ('{\n "a": 1\n}', "document"),
                       ('{"a": 1\n{"a": 2}', "lines"), ("[1]", "array"),
                       ("query,tool\nx,y", "csv"), ("# notes", "lines")):
        (tmp_path / "a").write_text(text)
        assert sniff(tmp_path / "a") == kind, text


def test_fuzzed_files_never_raise_anything_but_value_errors(tmp_path):
    import random
    rng = random.Random(0)
    good = (json.dumps(ROWS[:3], indent=1) + "\n").encode()
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data))
            data[at:at + rng.randint(0, 3)] = bytes(rng.choice(b'{}[]",:\\\xff\x001e')
                                                    for _ in range(rng.randint(0, 3)))
        (tmp_path / "a.json").write_bytes(bytes(data))
        try:
            for item in records(tmp_path / "a.json"):
                assert isinstance(item, (Record, Broken))
        except ValueError:
            pass
