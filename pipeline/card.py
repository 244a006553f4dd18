"""The model card that `export` writes beside the weights: what was trained on what, what was measured, how to load it.

Everything in it is read from the run that the adapter is a step of, and from the base's folder; what neither says is
called not recorded. The names in the first lines are Hugging Face's for model cards.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data.prompts import invocation_messages, pieces_text, tools_text
from data.schema import Tool, read_json, read_jsonl
from eval.report.gather import first_round, row_counts, settings_beside_paper
from eval.report.page import interval, number, title_of

UNKNOWN = "not recorded"
PLACE = "TOOLS"                             # in the system text below: a JSON object a line for each tool
EXAMPLE = Tool("get_weather", "The weather of a city.", {"type": "dict", "required": ["city"], "properties": {
    "city": {"type": "string", "description": "Name of the city."}}})
LOAD = {
    "transformers": """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({folder})
model = AutoModelForCausalLM.from_pretrained({folder}, dtype="auto")
""",
    "peft": """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({base})
model = AutoModelForCausalLM.from_pretrained({base}, dtype="auto")
model = PeftModel.from_pretrained(model, {folder})
"""}
ASK = """import json

SYSTEM = {system}
tools = {tools}
system = SYSTEM.replace("{place}", "\\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
messages = [{{"role": "system", "content": system}}, {{"role": "user", "content": "What is the weather in Bern?"}}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**inputs, max_new_tokens=192, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1]:], skip_special_tokens=False))
"""


def model_card(base: Path, adapter: Path, *, name: str, base_name: str, merged: bool, drift: str = "") -> str:
    """The text of README.md.

    Args:
        adapter: its folder; in a run's step, the run is read.
        name: of the exported folder.
        base_name: what users know the base as; "": by its folder, as the adapter's config says.
        drift: what merging lost, in words.
    """
    loaded, base_name = base_name or str(base), base_name or base.resolve().name
    run, step = adapter.parent.parent, adapter.parent.name
    known = (run / "run.json").is_file()
    title = f"{title_of(step).capitalize()} of {run.resolve().name}" if known else name
    parts = [front_matter(base, base_name, merged), f"# {plain(title)}\n\n{purpose(base_name, merged, step, known)}"]
    parts.append("## Scores\n\n" + (scores(run, step) if known else f"Scores: {UNKNOWN}. The adapter is no step of a "
                                    "run, or was moved out of it.\n"))
    parts.append("## Data and settings\n\n" + (settings(run) if known else f"Data and settings: {UNKNOWN}.\n"))
    parts.append("## Licences\n\n" + licences(base, base_name, run if known else None))
    parts.append("## How to load it\n\n" + loading(loaded, name, merged, (base, drift)))
    return "\n".join(parts)


def front_matter(base: Path, base_name: str, merged: bool) -> str:
    """The lines that model hubs read: YAML, its values spelled as JSON, which YAML takes as they are."""
    facts = {"base_model": base_name, "library_name": "transformers" if merged else "peft",
             "pipeline_tag": "text-generation", "tags": ["tool-calling", "function-calling", "tooldev"]}
    if licence := base_licence(base):
        facts["license"] = licence
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in facts.items()) + "---\n"


def purpose(base_name: str, merged: bool, step: str, known: bool) -> str:
    kind = "The weights of" if merged else "A LoRA adapter for"
    how = f", trained by ToolDev up to the step `{step}`" if known else ", trained by ToolDev"
    also = " with the adapter merged in" if merged else ""
    return (f"{kind} {plain(base_name)}{also}{how}: it answers a query with calls of the tools that it is given, or "
            "says that none fits.\n")


def scores(run: Path, step: str) -> str:
    """Exact match and benchmarks of this step and of the raw model, with their intervals."""
    lines = []
    for name in dict.fromkeys(("raw", step)):
        for bench, part, score in measured(run / name):
            lines.append(f"| {title_of(name)} | {plain(bench)} | {plain(part)} | {score} |")
    if not lines:
        return f"Scores: {UNKNOWN}. This step of the run was not measured.\n"
    return ("In percent, with 95% intervals over the items. Exact match is on the run's own test items.\n\n"
            "| step | measured on | part | score |\n|---|---|---|---|\n" + "\n".join(lines) + "\n")


def measured(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(what on, which part, score with its interval) of a step's summaries."""
    for path in sorted(folder.glob("*/summary.json")):
        summary = read_json(path)
        if "sets" in summary:
            yield f"exact match, {summary['items']:,} items", "all", interval(summary["all"])
            if len(summary["sets"]) > 1:
                yield from ((f"exact match, {cell['items']:,} items", part, interval(cell))
                            for part, cell in summary["sets"].items())
        for part, cell in summary.get("scores", {}).items():
            if isinstance(cell, dict) and {"value", "low", "high"} <= set(cell):
                yield summary["benchmark"], part, f"{cell['value']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]"


def settings(run: Path) -> str:
    """The run's data and settings beside the paper's, and what it ran with."""
    record, rows = read_json(run / "run.json"), row_counts(run)
    table = settings_beside_paper(record.get("settings", {}), record.get("evolve", {}) | first_round(run), rows)
    lines = [f"| {row['name']} | {number(row['here'])} | "
             f"{'not stated' if row['paper'] is None else number(row['paper'])} |" for row in table]
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    hashes = [f"- sha256 of {name}: `{digest}`" for name, digest in record.get("data_sha256", {}).items()]
    return ("| setting | here | the paper |\n|---|---|---|\n" + "\n".join(lines)
            + f"\n\nVersions: {versions or UNKNOWN}. Seed: {record.get('settings', {}).get('seed', UNKNOWN)}.\n\n"
            + "\n".join(hashes) + "\n")


def licences(base: Path, base_name: str, run: Path | None) -> str:
    """What the base's folder and the labelled examples say; nothing is guessed."""
    of_base = base_licence(base) or "not stated in its folder: see where it was published"
    lines = [f"- The base, {plain(base_name)}: {plain(of_base)}. Its terms hold for these weights, too."]
    path = run / "data" / "examples.jsonl" if run else None
    if path and path.is_file():
        counts = Counter(str(row.get("license") or "not stated") for _, row in read_jsonl(path))
        lines += [f"- Labelled examples, {plain(name)}: {count:,}." for name, count in counts.most_common()]
    lines.append("- What the rounds added was written by the model itself for the run's queries; their owner's terms "
                 "hold for those.")
    return "\n".join(lines) + "\n"


def base_licence(base: Path) -> str:
    """The licence that the card in the base's folder names, else the first line of its licence file, else ""."""
    card = base / "README.md"
    if card.is_file():
        head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), flags=re.S)
        found = head and re.search(r"^license: *[\"']?([^\"'\n]+)", head[1], flags=re.M)
        if found:
            return found[1].strip()
    for path in (base / "LICENSE", base / "LICENSE.txt", base / "LICENSE.md"):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            return next((line.strip() for line in text.splitlines() if line.strip()), "")
    return ""


def loading(loaded: str, name: str, merged: bool, notes: tuple[Path, str]) -> str:
    """Code for transformers or PEFT, the prompt that was trained, and the command for vLLM.

    `loaded` is the base as it is loaded; `notes` are its folder and what merging lost.
    """
    base, drift = notes
    kind = "transformers" if merged else "peft"
    system = pieces_text(invocation_messages("", [EXAMPLE])[0]["content"]).replace(tools_text([EXAMPLE]), PLACE)
    code = LOAD[kind].format(folder=repr(f"./{name}"), base=repr(loaded)) + "\n" + ASK.format(
        system=repr(system), tools=json.dumps([EXAMPLE.to_dict()]), place=PLACE)
    served = f"./{name}" if merged else f"{loaded} --enable-lora --lora-modules tools=./{name}"
    template = "" if has_template(base) else ("The base's folder has no chat template: give `apply_chat_template` "
                                              "one, or ask with `tooldev.py call`.\n\n")
    return (f"{drift}\n\n" if drift else "") + template + (
        f"```python\n{code}```\n\nThe answer is one `<tool_call>` block a call, or a sentence that no tool fits. The "
        "tools stand in the system text in the words of the paper, as trained; a chat template's own tool block was "
        f"not trained on.\n\nvLLM (not run here):\n\n```\nvllm serve {served}\n```\n")


def has_template(base: Path) -> bool:
    """Whether the folder brings a chat template that `apply_chat_template` uses."""
    config = base / "tokenizer_config.json"
    return (base / "chat_template.jinja").is_file() or (base / "chat_template.json").is_file() or (
        config.is_file() and bool(read_json(config).get("chat_template")))


def plain(text: str) -> str:
    """One line in which nothing is markup."""
    return re.sub(r"([\\`*_<>|\[\]#])", r"\\\1", " ".join(text.split()))
