"""The model card that `export` writes beside the weights: what was trained on what, what was measured, how to load it.

Everything in it is read from the run that the adapter is a step of, or the settings that train.py left beside it, from
folders of `eval` and from the base's folder; what none of them says is called not recorded. The names in the first
lines are Hugging Face's for model cards.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data.prompts import invocation_messages, pieces_text, tools_text
from data.schema import Tool, read_json, read_jsonl
from eval.report.gather import first_round, row_counts, settings_beside_paper
from eval.report.measured import NATIVE
from eval.report.page import interval, number, title_of
from pipeline.evaluate import fingerprint
from pipeline.licence import licence_of
from training.config import PATHS, TrainConfig, lasting
from training.prompt import noted_prompt

UNKNOWN = "not recorded"
PLACE = "TOOLS"                             # in the system text below: a JSON object a line for each tool
REPLACE = ("`{base}` below is the name of the base's folder: put in its place where the base can be had, or export "
           "with `--base-name`.\n\n")
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
NATIVE_ASK = """tools = {tools}
messages = [{{"role": "user", "content": "What is the weather in Bern?"}}]
inputs = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, return_tensors="pt",
                                       return_dict=True)
answer = model.generate(**inputs, max_new_tokens=192, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1]:], skip_special_tokens=False))
"""
ASK = """import json

SYSTEM = {system}
tools = {tools}
system = SYSTEM.replace("{place}", "\\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
messages = [{{"role": "system", "content": system}}, {{"role": "user", "content": "What is the weather in Bern?"}}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**inputs, max_new_tokens=192, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1]:], skip_special_tokens=False))
"""
TRAINED = {
    "paper": "The tools stand in the system text in the words of the paper, as trained; a chat template's own tool "
             "block was not trained on.",
    "native": "The tools stand in the chat template's own block, as trained: a service's `tools` field reaches the "
              "model as it was taught."}
PARSER = {"paper": "", "native": " --enable-auto-tool-choice --tool-call-parser hermes"}


def model_card(base: Path, adapter: Path, *, name: str, base_name: str, merged: bool, drift: str = "",
               scored: Sequence[Path] = ()) -> str:
    """The text of README.md.

    Args:
        adapter: its folder; in a run's step, the run is read.
        name: of the exported folder.
        base_name: what users know the base as; "": by the name of its folder.
        drift: what merging lost, in words.
        scored: folders of `eval`, of this adapter or of the base alone.

    Raises:
        FileNotFoundError, ValueError: a folder in `scored` is none of `eval`, or of other weights.
    """
    named = base_name or base.resolve().name
    run, step = adapter.parent.parent, adapter.parent.name
    known, trained = (run / "run.json").is_file(), trained_with(adapter.parent / "config.json")
    title = f"{title_of(step).capitalize()} of {run.resolve().name}" if known else name
    rows = [*(run_scores(run, step) if known else []), *given_scores(scored, base, adapter, step if known else name)]
    parts = [front_matter(base, named, merged), f"# {plain(title)}\n\n{purpose(named, merged, step, known)}",
             "## Scores\n\n" + scores(rows, known)]
    parts.append("## Data and settings\n\n" + (settings(run) if known else train_settings(trained, adapter.parent)
                                              if trained else f"Data and settings: {UNKNOWN}.\n"))
    parts.append("## Licences\n\n" + licences(base, named, run if known else None))
    parts.append("## How to load it\n\n" + ("" if base_name or merged else REPLACE.format(base=plain(named)))
                 + loading(named, name, merged, (base, drift), noted_prompt(adapter)))
    return "\n".join(parts)


def front_matter(base: Path, base_name: str, merged: bool) -> str:
    """The lines that model hubs read: YAML, its values spelled as JSON, which YAML takes as they are."""
    facts = {"base_model": base_name, "library_name": "transformers" if merged else "peft",
             "pipeline_tag": "text-generation", "tags": ["tool-calling", "function-calling", "tooldev"]}
    if licence := licence_of(base).hub_id:
        facts["license"] = licence
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in facts.items()) + "---\n"


def purpose(base_name: str, merged: bool, step: str, known: bool) -> str:
    kind = "The weights of" if merged else "A LoRA adapter for"
    how = f", trained by ToolDev up to the step `{step}`" if known else ", trained by ToolDev"
    also = " with the adapter merged in" if merged else ""
    return (f"{kind} {plain(base_name)}{also}{how}: it answers a query with calls of the tools that it is given, or "
            "says that none fits.\n")


def scores(rows: Sequence[tuple[str, str, str, str]], known: bool) -> str:
    """The table of scores, with their intervals."""
    if not rows:
        why = "This step of the run was not measured." if known else "The adapter is no step of a run, or was moved " \
            "out of it."
        return f"Scores: {UNKNOWN}. {why}\n"
    lines = [" | ".join((title_of(step), plain(bench), plain(part), score)) for step, bench, part, score in rows]
    return ("In percent, with 95% intervals over the items. Exact match is on the run's own test items. Benchmarks are "
            "read strictly.\n\n| step | measured on | part | score |\n|---|---|---|---|\n"
            + "\n".join(f"| {line} |" for line in dict.fromkeys(lines)) + "\n")


def run_scores(run: Path, step: str) -> Iterator[tuple[str, str, str, str]]:
    """(step, what on, which part, score) of the raw model and of this step, where the run keeps them."""
    for name in dict.fromkeys(("raw", step)):
        for path in sorted([*(run / name).glob("*/summary.json"), *(run / name).glob("bench/*/summary.json")]):
            native = ", by its own tool prompt" * path.parent.name.endswith(NATIVE)
            yield from ((name, on + native, part, score) for on, part, score in measured(read_json(path)))


def given_scores(folders: Sequence[Path], base: Path, adapter: Path, step: str) -> Iterator[tuple[str, str, str, str]]:
    """The same of folders of `eval`; the hashes of the weights that answered tell which are of the raw model."""
    if not folders:
        return
    labels = {frozenset(fingerprint(str(base), used).values()): label
              for used, label in ((None, "raw"), (adapter, step))}
    for folder in folders:
        shares = sorted(folder.glob("generation/completions-*.jsonl"))
        if not (folder / "summary.json").is_file() or not shares:
            raise FileNotFoundError(f"--scores {folder}: no summary.json and generation/ in it; expected a folder that "
                                    "`tooldev.py eval` has finished")
        asked = next(record for _, record in read_jsonl(shares[0]))["settings"].get("model", {})
        label = labels.get(frozenset(asked.values()))
        if label is None:
            raise ValueError(f"--scores {folder}: the answers there are of other weights ({', '.join(asked)}); give "
                             f"folders of the base {base}, alone or with {adapter}")
        summary = read_json(folder / "summary.json")
        native = ", by its own tool prompt" * (summary.get("prompt") == "native")
        yield from ((label, on + native, part, score) for on, part, score in measured(summary))


def measured(summary: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(what on, which part, score with its interval) of one summary."""
    if "sets" in summary:
        yield f"exact match, {summary['items']:,} items", "all", interval(summary["all"])
        if len(summary["sets"]) > 1:
            yield from ((f"exact match, {cell['items']:,} items", part, interval(cell))
                        for part, cell in summary["sets"].items())
    asked = (summary.get("subset") or {}).get("entries") or summary.get("limited_to")
    only = f", a subset of {asked:,} entries" if asked else ""
    for part, cell in summary.get("scores", {}).items():
        if isinstance(cell, dict) and {"value", "low", "high"} <= set(cell):
            score = f"{cell['value']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]"
            yield summary["benchmark"] + only, part, score


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


def trained_with(file: Path) -> dict[str, Any] | None:
    """The settings that train.py writes beside the adapter's folder; None where the file is none or another's."""
    found = read_json(file) if file.is_file() else None
    return found if isinstance(found, dict) and {"stage", "seed", "rows_sha256"} <= found.keys() else None


def train_settings(config: dict[str, Any], folder: Path) -> str:
    """What a run of train.py was given, less what changes no result; of paths the names alone."""
    here = {name: Path(value).name if name in PATHS else value for name, value in lasting(config).items()
            if name in TrainConfig.__dataclass_fields__}
    lines = [f"| {name.replace('_', ' ')} | {plain(str(value))} |" for name, value in here.items() if value != ""]
    hashes = [f"- sha256 of {what}: `{config[key]}`"
              for what, key in (("the rows", "rows_sha256"), ("the data file", "data_sha256")) if config.get(key)]
    done = read_json(folder / "DONE.json") if (folder / "DONE.json").is_file() else {}
    hashes += [f"- {name}: {number(done[name])}" for name in ("steps", "tokens") if name in done]
    return "One run of train.py.\n\n| setting | here |\n|---|---|\n" + "\n".join(lines) + "\n\n" \
        + "\n".join(hashes) + "\n"


def licences(base: Path, base_name: str, run: Path | None) -> str:
    """What the base's folder and the labelled examples say; nothing is guessed."""
    found = licence_of(base)
    said = found.text or "not stated in its folder: see where it was published"
    lines = [f"- The base, {plain(base_name)}: {plain(said)}. Its terms hold for these weights, too."]
    if not found.hub_id:
        lines.append("- The first lines of this card have no `license`: what model hubs call the base's is not known "
                     "here. Add it before publishing.")
    path = run / "data" / "examples.jsonl" if run else None
    if path and path.is_file():
        counts = Counter(str(row.get("license") or "not stated") for _, row in read_jsonl(path))
        lines += [f"- Labelled examples, {plain(name)}: {count:,}." for name, count in counts.most_common()]
    lines.append("- What the rounds added was written by the model itself for the run's queries; their owner's terms "
                 "hold for those.")
    return "\n".join(lines) + "\n"


def loading(loaded: str, name: str, merged: bool, notes: tuple[Path, str], prompt: str) -> str:
    """Code for transformers or PEFT, the prompt that was trained, and the command for vLLM.

    `loaded` is the base as it is loaded; `notes` are its folder and what merging lost; `prompt` as in data.prompts.
    """
    base, drift = notes
    kind = "transformers" if merged else "peft"
    code = LOAD[kind].format(folder=repr(f"./{name}"), base=repr(loaded)) + "\n" + asking(prompt)
    served = f"./{name}" if merged else f"{loaded} --enable-lora --lora-modules tools=./{name}"
    template = "" if has_template(base) else ("The base's folder has no chat template: give `apply_chat_template` "
                                              "one, or ask with `tooldev.py call`.\n\n")
    return (f"{drift}\n\n" if drift else "") + template + (
        f"```python\n{code}```\n\nThe answer is one `<tool_call>` block a call, or a sentence that no tool fits. "
        f"{TRAINED[prompt]}\n\nvLLM (not run here):\n\n```\nvllm serve {served}{PARSER[prompt]}\n```\n")


def asking(prompt: str) -> str:
    """Code that asks for a call by the prompt that was trained."""
    if prompt == "native":
        return NATIVE_ASK.format(tools=json.dumps([EXAMPLE.to_function()]))
    system = pieces_text(invocation_messages("", [EXAMPLE])[0]["content"]).replace(tools_text([EXAMPLE]), PLACE)
    return ASK.format(system=repr(system), tools=json.dumps([EXAMPLE.to_dict()]), place=PLACE)


def has_template(base: Path) -> bool:
    """Whether the folder brings a chat template that `apply_chat_template` uses."""
    config = base / "tokenizer_config.json"
    return (base / "chat_template.jinja").is_file() or (base / "chat_template.json").is_file() or (
        config.is_file() and bool(read_json(config).get("chat_template")))


def plain(text: str) -> str:
    """One line in which nothing is markup."""
    return re.sub(r"([\\`*_<>|\[\]#])", r"\\\1", " ".join(text.split()))
