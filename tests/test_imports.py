"""The direction of imports between the folders, walked: who may import whom."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# folder or file -> what of ours it may import at the top of a module
ALLOWED = {
    "tooldev": set(),
    "model": {"model"},
    "lora": {"lora"},
    "data": {"data"},
    "sampler": {"sampler", "data"},
    "eval": {"eval", "data", "tooldev"},
    "training": {"training", "model", "data", "tooldev"},
    "train": {"train", "training", "tooldev", "data", "lora", "model"},
    "evolution": {"evolution", "training", "data", "sampler", "tooldev"},
    "evolve": {"evolve", "evolution", "training", "data", "sampler", "tooldev"},
    "experiments": {"experiments", "pipeline", "training", "data", "eval", "evolution", "tooldev"},
    "pipeline": {"pipeline", "data", "eval", "tooldev", "lora", "model", "training", "sampler", "train", "evolve",
                 "evolution"},
}
# folder or file -> what of other folders it imports lazily: inside functions, or for the types alone. Each pair is a
# decision: these keep torch out of --help and of what needs none of it, or are handed a model and only name its type.
LAZY = {
    "sampler": {"model"},                                   # the kernels of attention, free memory
    "training": {"model", "lora"},
    "evolution": {"model", "lora", "training"},              # `trace --losses` alone loads a base
    "train": {"tooldev"},                                   # before torch: Ctrl-C while it is loaded
    "evolve": {"model", "lora", "sampler", "train", "tooldev"},
    "experiments": {"model", "sampler"},                     # a bound lets the joint model answer
    "pipeline": {"model", "lora", "sampler", "training", "train", "evolve", "data"},
}
RUN_TIME = {"torch", "safetensors", "tokenizers", "sentencepiece", "numpy", "jsonschema"}

# in functions, for one command, named in the error without it
OPTIONAL = {"model/gguf.py": {"gguf"}}


def modules() -> list[Path]:
    return [p for p in sorted(ROOT.rglob("*.py"))
            if p.relative_to(ROOT).parts[0].removesuffix(".py") in ALLOWED and "venv" not in p.parts]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module, *, top_only: bool) -> set[str]:
    nodes = tree.body if top_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_module_imports_only_what_its_folder_may(path):
    owner = path.relative_to(ROOT).parts[0].removesuffix(".py")
    tree = tree_of(path)
    ours = imported(tree, top_only=True) & set(ALLOWED)
    assert ours <= ALLOWED[owner], f"{owner} imports {sorted(ours - ALLOWED[owner])} at its top"
    optional = OPTIONAL.get(str(path.relative_to(ROOT)), set())
    foreign = imported(tree, top_only=False) - set(ALLOWED) - set(sys.stdlib_module_names) - RUN_TIME - optional
    assert not foreign, f"run-time import outside the six packages: {sorted(foreign)}"


def test_requirements_are_the_six_packages_and_each_is_imported():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    asked = {re.match(r"[\w-]+", line)[0] for line in lines if line and not line.startswith("#")}
    used = set().union(*(imported(tree_of(path), top_only=False) for path in modules()))
    assert asked == RUN_TIME
    assert asked <= used, f"no module imports {sorted(asked - used)}"


def test_lazy_imports_are_those_decided():
    """A pair that is new is a decision, and so belongs into LAZY; one that nothing uses any more leaves it."""
    found = {}
    for path in modules():
        owner = path.relative_to(ROOT).parts[0].removesuffix(".py")
        at_top = {*tree_of(path).body}
        inner = ast.Module([node for node in ast.walk(tree_of(path)) if node not in at_top], [])
        found.setdefault(owner, set()).update((imported(inner, top_only=True) & set(ALLOWED)) - {owner})
    assert {owner: names for owner, names in found.items() if names} == LAZY


def test_help_imports_nothing_heavy():
    heavy = ("torch", "numpy", "jsonschema", "data", "model")
    code = f"import sys, tooldev; tooldev.make_parser(None); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
