"""The pools and queries that retrieval is measured on, read from $TOOLDEV_DATA/corpora by the readers of `convert`.

A set is a list of (query, positions of the tools that it needs in its pool). A query that needs a tool which this copy
of the corpus lacks is left out.
"""

import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

from data.formats.items import Context, Document
from data.formats.registry import FORMATS
from data.formats.tooldocs import read_tool
from data.schema import Tool

Asked = list[tuple[str, set[int]]]
Pool = tuple[list[Tool], dict[str, Asked]]


def corpora() -> Path:
    """The folder of the corpora. SystemExit without TOOLDEV_DATA."""
    if "TOOLDEV_DATA" not in os.environ:
        raise SystemExit("set TOOLDEV_DATA to the folder that holds corpora/")
    return Path(os.environ["TOOLDEV_DATA"]) / "corpora"


def documents(name: str, row: dict) -> list[tuple[Tool, Document]]:
    """The tools of a row, as `convert` would write them, and what its reader found."""
    found = [item for item in FORMATS[name].read(row, Context()) if isinstance(item, Document)]
    return [(Tool.from_dict(read_tool(item.tool).record | {"group": item.group}), item) for item in found]


def sealtools() -> Pool:
    """Seal-Tools: queries for development, and those of the test in and out of the training data's domains."""
    folder = corpora() / "seal-tools"
    tools = [tool for row in lines(folder / "tool.jsonl") for tool, _ in documents("sealtools", row)]
    at = {tool.name: i for i, tool in enumerate(tools)}
    files = {"Seal-Tools dev": "dev", "Seal-Tools in domain": "test_in_domain",
             "Seal-Tools out of domain": "test_out_domain"}
    return tools, {name: [(row["query"], {at[call["api"]] for call in row["calling"]})
                          for row in lines(folder / f"{file}.jsonl")] for name, file in files.items()}


def toolbench() -> Pool:
    """ToolBench's 44,371 APIs; StableToolBench's solvable queries by group, and AnyToolBench's."""
    folder, tools, at = corpora() / "toolbench", [], {}
    for row in lines(folder / "tools.jsonl.gz"):
        for tool, item in documents("toolbench", row):
            for key in ((item.about.get("category"), row["tool_name"], tool.name), (row["tool_name"], tool.name)):
                at.setdefault(key, len(tools))
            tools.append(tool)
    sets: dict[str, Asked] = {}

    def add(name: str, query: str, needed: list[tuple[str | None, str, str]]) -> None:
        gold = [at.get(key, at.get(key[1:])) for key in needed]
        if None not in gold:
            sets.setdefault(name, []).append((query, set(gold)))

    for path in sorted((folder / "solvable_queries").glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            categories = {(api["tool_name"], api["api_name"]): api["category_name"] for api in row["api_list"]}
            add(f"ToolBench {path.name[:2]}", row["query"],
                [(categories.get(tuple(key)), *key) for key in row["relevant APIs"]])
    for row in json.loads((folder / "anytoolbench.json").read_text(encoding="utf-8")):
        add("AnyTool", row["query"],
            [(api["category_name"], api["tool_name"], api["api_name"]) for api in row["gt_api_list"]])
    return tools, sets


def metatool() -> Pool:
    """MetaTool: 199 plugins with a line of description each; queries that need one, and two."""
    folder = corpora() / "metatool"
    described = json.loads((folder / "plugin_des.json").read_text(encoding="utf-8"))
    tools = [Tool(name, text, {"type": "dict", "properties": {}, "required": []}) for name, text in described.items()]
    at = {tool.name: i for i, tool in enumerate(tools)}
    with (folder / "all_clean_data.csv").open(encoding="utf-8", newline="") as file:
        single = [(row["Query"], {at[row["Tool"]]}) for row in csv.DictReader(file)]
    several = json.loads((folder / "multi_tool_query_golden.json").read_text(encoding="utf-8"))
    return tools, {"MetaTool single": single,
                   "MetaTool multi": [(row["query"], {at[name] for name in row["tool"]}) for row in several]}


POOLS: dict[str, Callable[[], Pool]] = {"sealtools": sealtools, "toolbench": toolbench, "metatool": metatool}


def lines(path: Path) -> list[dict]:
    """The rows of a JSON Lines file, gzipped or not."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as file:
        return [json.loads(line) for line in file]
