"""Every command of the README and of docs/: its flags are known, and it runs unless a mark says what it needs.

A block of commands stands between ``` fences. `<!-- needs: gpu, weights -->` before it says why it is not run here.
Of a command that a sentence names, only the program and its flags are looked up.
"""

import json
import re
import shlex
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

import tooldev
import train
from data import world
from data.files import write_jsonl
from evolution.flags import make_parser
from training.config import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS = {"gpu", "weights", "data", "network", "hours"}
# commands that other tests run as they stand
ELSEWHERE = {"python3 -m venv .venv": ".ci/run", ". .venv/bin/activate": ".ci/run", "python -m pytest": ".ci/run",
             "pip install": ".ci/run", "python tooldev.py demo": "tests/test_demo.py"}
FENCE = re.compile(r"(?:<!-- needs: ([^>]*) -->\n)?```\w*\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Command:
    """One command of a page, as typed, and what it needs that is not here."""

    page: str
    text: str
    needs: frozenset[str]

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


def commands() -> list[Command]:
    found = []
    for page in PAGES:
        for mark, block in FENCE.findall(page.read_text(encoding="utf-8")):
            needs = frozenset(word.strip() for word in mark.split(",") if word.strip())
            for line in block.replace("\\\n", " ").splitlines():
                found += [Command(page.relative_to(ROOT).as_posix(), " ".join(text.split()), needs)
                          for text in line.split(" && ")
                          if re.match(r"(python3?|pip|torchrun|\.) ", text.strip())]
    return found


def named() -> list[tuple[str, str]]:
    """(page, command) of those that stand in sentences."""
    found = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        found += [(page.name, " ".join(command.split()))
                  for command in re.findall(r"`((?:python|torchrun) [^`]*)`", text)]
    return found


COMMANDS = commands()
NAMED = sorted(set(named()))


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """An empty folder with what the pages take for granted: inputs, and the embedded model under the names they use."""
    made, (queries, _) = world.training_data(0, tools=8, labelled=24), world.queries(9, seed=0)
    write_jsonl(tmp_path / "examples.jsonl", [example.to_dict() for example in made["examples"]])
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / "my_queries.txt").write_text("".join(f"{query.query}\n" for query in queries))
    rows = []
    for example in made["examples"]:
        calls = [{"type": "function", "id": str(number), "function": {"name": call.name,
                                                                     "arguments": json.dumps(call.arguments)}}
                 for number, call in enumerate(example.calls)]
        tools = [{"type": "function", "function": {
            "name": tool.name, "description": tool.description,
            "parameters": {**tool.parameters, "type": "object"}}} for tool in example.tools]
        rows.append({"messages": [{"role": "user", "content": example.query},
                                  {"role": "assistant", "content": None, "tool_calls": calls}], "tools": tools})
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("ckpt/qwen2.5-0.5b", "model/tiny"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / "model" / "tiny")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_blocks_are_found_and_marks_are_known():
    assert len(COMMANDS) > 30 and {"README.md", "docs/recipes.md", "docs/corpora.md"} <= {c.page for c in COMMANDS}
    assert not set().union(*(command.needs for command in COMMANDS)) - NEEDS
    for page in PAGES:
        indented = re.findall(r"^    (?:python|torchrun|pip) .*$", page.read_text(encoding="utf-8"), flags=re.M)
        assert not indented, f"{page.name}: {indented[0]!r} stands outside fences, where nothing checks it"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}: {command.text[:60]}")
def test_flags_are_known(command, capsys):
    words = command.words
    if words[0] == "torchrun":
        words = ["python", *words[next(i for i, word in enumerate(words) if word.endswith(".py")):]]
    if words[0] != "python":
        assert any(command.text.startswith(known) for known in ELSEWHERE), command.text
        for file in (after for word, after in zip(words, words[1:], strict=False) if word in ("-r", "-c")):
            assert (ROOT / file).is_file(), f"{file}: no such file"
        return
    try:
        parse(words[1:])
    except FileNotFoundError as error:                                          # its flags are known by then
        assert "--config" in words and words[words.index("--config") + 1] in str(error)
    except SystemExit as stop:
        assert stop.code == 0, capsys.readouterr().err


@pytest.mark.parametrize(("page", "command"), NAMED, ids=str)
def test_a_command_in_a_sentence_exists_and_its_flags_are_known(page, command):
    words = command.replace("[", "").replace("]", "").split()
    script, *rest = words[next(i for i, word in enumerate(words) if word.endswith(".py") or word == "-m"):]
    flags = {word.split("=")[0] for word in rest if word.startswith("--")}
    if script == "-m":
        assert rest[0] == "pytest" or (ROOT / f"{rest[0].replace('.', '/')}.py").is_file(), command
        return
    text = (ROOT / script).read_text(encoding="utf-8")
    if script == "tooldev.py":
        assert rest[0] in tooldev.COMMANDS, command
        parsers = tooldev.make_parser(rest[0])._subparsers._group_actions[0].choices
        known = set(parsers[rest[0]]._option_string_actions)
    elif script == "train.py":
        known = {"--help"} | {"--" + field.name.replace("_", "-") for field in fields(TrainConfig)}
    elif script == "evolve.py":
        known = set(make_parser()._option_string_actions)
    else:
        known = {flag for flag in flags if flag in text}
    assert flags <= known, f"{command}: {sorted(flags - known)}"


def parse(words: list[str]) -> None:
    """Read the flags as the command would, and do nothing else."""
    script, *argv = words
    if script == "tooldev.py":
        tooldev.make_parser(argv[0]).parse_args(argv)
    elif script == "train.py":
        train.parse_config(argv)
    elif script == "evolve.py":
        make_parser().parse_args(argv)
    elif script == "-m":
        assert argv[0] == "pytest" or (ROOT / f"{argv[0].replace('.', '/')}.py").is_file(), argv[0]
    else:
        text = (ROOT / script).read_text(encoding="utf-8")
        assert all(word.split("=")[0] in text for word in argv if word.startswith("--")), argv


def runnable(page: str) -> list[Command]:
    return [command for command in COMMANDS if command.page == page and not command.needs
            and not any(command.text.startswith(known) for known in ELSEWHERE)]


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({command.page for command in COMMANDS if runnable(command.page)}
                                        - {"docs/checkpoints.md"}))      # tests/test_checkpoint_gate.py runs that page
def test_the_commands_of_a_page_run_in_their_order(page, desk, capsys):
    for command in runnable(page):
        if command.words[1] != "tooldev.py":
            continue
        if command.words[-1] == "--help":
            with pytest.raises(SystemExit, match="0"):
                tooldev.main(command.words[2:])
            continue
        # `call` and `check` end with 1 where an answer or a row breaks the rules: they ran
        allowed = (0, 1) if command.words[2] in ("call", "check") else (0,)
        assert tooldev.main(command.words[2:]) in allowed, f"{command.text}: {capsys.readouterr().err[-800:]}"
