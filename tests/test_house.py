"""The house: sizes that a reader takes in at once, and a map whose names are where it says."""

import ast
import re

import pytest
from test_imports import ROOT, modules, tree_of

LONGEST_FUNCTION, LONGEST_CLASS, LONGEST_LINE = 60, 150, 120
MAP = ROOT / "docs" / "map.md"


def questions() -> list[list[str]]:
    """The rows of the map's table: question, answer, what to open."""
    rows = [line.strip().strip("|").split("|") for line in MAP.read_text(encoding="utf-8").splitlines()
            if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def defined(tree: ast.Module) -> set[str]:
    """Functions, classes, methods ("Class.method") and names set at the top of a module."""
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def first_lines() -> list[str]:
    """A row for every module that is no package's own: its path, and the first line of its docstring."""
    return [f"| `{path.relative_to(ROOT).as_posix()}` | {ast.get_docstring(tree_of(path)).splitlines()[0]} |"
            for path in modules() if path.name != "__init__.py"]


@pytest.mark.parametrize("path", [*modules(), *sorted((ROOT / "benchmarks").glob("*.py"))],
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_and_classes_are_short(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            most = LONGEST_CLASS if isinstance(node, ast.ClassDef) else LONGEST_FUNCTION
            lines = node.end_lineno - node.lineno + 1
            assert lines <= most, f"{node.name} has {lines} lines, more than {most}: split it by idea"


def test_no_line_is_longer_than_the_longest():
    """Files of the project alone: an environment may lie in the folder by any name."""
    files = [*modules(), *sorted((ROOT / "benchmarks").rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
    long = [f"{path.relative_to(ROOT)}:{number}" for path in files
            for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1) if len(line) > LONGEST_LINE]
    assert not long, f"more than {LONGEST_LINE} characters, which ruff allows where none is a blank: {long}"


def test_map_answers_ten_questions():
    assert len(questions()) == 10 and all(row[0].endswith("?") and len(row) == 3 for row in questions())


@pytest.mark.parametrize("row", questions(), ids=lambda row: row[0])
def test_map_names_what_is_there_in_two_files_at_most(row):
    places = [re.findall(r"`([^`]+)`", part) for part in row[2].split(";")]
    assert 1 <= len(places) <= 2
    for path, *names in places:
        missing = set(names) - defined(tree_of(ROOT / path))
        assert names and not missing, f"{path} has no {sorted(missing)}"
    for path in re.findall(r"[\w/]+\.py", row[1]):
        assert any((ROOT / folder / path).is_file() for folder in ("", "eval/apibank")), path


def test_every_file_is_named_once_with_its_own_first_line():
    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == first_lines(), "docs/files.md: its rows should be\n" + "\n".join(first_lines())


def test_every_chat_format_has_its_tokens():
    from model.chat import FORMATS
    from model.templates import MARKERS
    assert set(FORMATS) == set(MARKERS)


def test_eval_is_a_folder_a_benchmark_and_few_files():
    entries = [path for path in (ROOT / "eval").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 12
