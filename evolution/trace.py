"""`tooldev.py trace RUN --id X`: the story of one query through its round, equation by equation.

Prompts are made again from the record (they are a function of it); answers, reasons and votes are read from the round's
files. The loss of the training rows that came of the query is measured with the adapters before and after the round.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from data.augment import RECIPE
from data.canonical import canonical_answer
from data.parse import Reason
from data.prompts import Message, generation_messages, invocation_messages, pieces_text
from data.schema import Example, Tool, ToolCall, dump_json, read_json, read_jsonl
from evolution.decide import read_answer
from evolution.losses import SOME, began_with, measure_losses, own_rows, row_losses
from evolution.state import require_start
from training.prompt import noted_prompt

PROMPT_CHARS = 600        # of a prompt shown without --full
CELL_CHARS = 200          # of an answer that did not parse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--id", help="id of the query; default: the first accepted one whose vote was not unanimous")
    parser.add_argument("--round", type=int, help="number of the round; default: the first that met the query")
    parser.add_argument("--no-loss", action="store_true",
                        help="do not load the model to measure the loss before and after")
    parser.add_argument("--json", action="store_true", help="print the records of the query as JSON instead")
    parser.add_argument("--full", action="store_true", help="print prompts in full")
    parser.add_argument("--losses", type=int, metavar="N", help="tell no story: measure the loss before and after of "
                        f"the rows of N accepted examples a round, for the report (a run measures {SOME})")


def main(args: argparse.Namespace) -> int:
    if args.losses is not None:
        return measured(args.run, args.round, args.losses)
    folder, name = find(args.run, args.round, args.id)
    if args.json:
        print(dump_json(records(folder, name), indent=2))
        return 0
    for line in story(folder, name, loss=not args.no_loss, full=args.full):
        print(line)
    return 0


def measured(run: Path, number: int | None, most: int) -> int:
    """Measure the losses of the rounds, and say what makes a report of them."""
    if most < 1:
        raise ValueError(f"--losses is {most}; it must be 1 or more")
    folders = sorted(run.glob("round-*" if number is None else f"round-{number}"), key=lambda path: path.name)
    if not folders:
        raise ValueError(f"{run}: no folder of a round in it; finish a round first (python evolve.py --round 1)")
    for folder in folders:
        rows = measure_losses(folder, most, say=lambda line: print(line, file=sys.stderr))
        print(f"{folder / 'losses.jsonl'}: {rows:,} rows")
    print(f"`tooldev.py report {run}` shows them")
    return 0


def find(run: Path, number: int | None, name: str | None) -> tuple[Path, str]:
    """The round's folder and the query's id; ValueError if no round met the query."""
    folders = sorted(run.glob("round-*" if number is None else f"round-{number}"),
                     key=lambda path: int(path.name.removeprefix("round-")))
    folders = [folder for folder in folders if (folder / "rejected.jsonl").is_file()]
    if not folders:
        raise ValueError(f"{run}: no round with a rejected.jsonl; finish a round first (python evolve.py --round 1)")
    for folder in folders:
        accepted, rejected = _by_id(folder / "accepted.jsonl"), _by_id(folder / "rejected.jsonl")
        if name is None:
            split = [key for key, row in accepted.items() if row["provenance"]["agreement"] < 1.0]
            chosen = next(iter(split), next(iter(accepted), next(iter(rejected), None)))
            if chosen is not None:
                return folder, chosen
        elif name in accepted or name in rejected:
            return folder, name
    raise ValueError(f"{run}: no query {name!r} in {', '.join(folder.name for folder in folders)}; ids stand in "
                     "accepted.jsonl and rejected.jsonl")


def records(folder: Path, name: str) -> dict[str, Any]:
    """What the round's files hold of one query: tries of the tools, samples and vote, and where it ended."""
    rejected = [row for _, row in read_jsonl(folder / "rejected.jsonl") if row["id"] == name]
    return {"id": name, "round": int(folder.name.removeprefix("round-")),
            "tools": [row for _, row in read_jsonl(folder / "tools.jsonl") if row["id"] == name],
            "calls": _by_id(folder / "calls.jsonl").get(name), "accepted": _by_id(folder / "accepted.jsonl").get(name),
            "rejected": rejected}


def story(folder: Path, name: str, *, loss: bool, full: bool) -> list[str]:
    """The lines of the story of one query."""
    found = records(folder, name)
    accepted, tries, record = found["accepted"], found["tools"], found["calls"]
    namesakes = [row for row in found["rejected"] if row["reason"] == "duplicate_id"]
    rejected = next((row for row in found["rejected"] if row not in namesakes), None)
    query = tries[0]["query"] if tries else rejected["text"]
    lines = [f"# Query {name} in {folder.name}", "", f"> {query}", ""]
    lines += _tools_story(query, tries, full) if tries else ["It was rejected before anything was generated.", ""]
    if record:
        candidates = [Tool.from_dict(tool) for tool in record["candidates"]]
        lines += _calls_story(query, candidates, record, full, asked_by(folder))
    lines += _verdict(accepted, rejected)
    lines += [f"Rejected at the stage `query`, {row['reason']}: {row['detail']}: \"{row['text']}\""
              for row in namesakes]
    if accepted:
        lines += _training_story(folder, Example.from_dict(accepted), loss)
    return lines


def asked_by(folder: Path) -> str:
    """The prompt of a round's calls: what its adapter says, or before it has one, the adapter that it began with."""
    own = folder / "adapter"
    return noted_prompt(own if own.is_dir() else
                        require_start(folder.parent, int(folder.name.removeprefix("round-"))))


def _by_id(path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for _, row in read_jsonl(path)}


def _prompt(messages: list[Message], full: bool) -> list[str]:
    text = "\n".join(f"[{message['role'].upper()}]\n{pieces_text(message['content'])}" for message in messages)
    for tool in messages[0].get("tools", ()):                           # of the template's own block
        text = f"[TOOL] {dump_json(tool)}\n{text}"
    if not full and len(text) > PROMPT_CHARS:
        left_out = f"[... {len(text) - PROMPT_CHARS} characters, --full shows them ...]"
        text = f"{text[:PROMPT_CHARS // 2]}\n{left_out}\n{text[-PROMPT_CHARS // 2:]}"
    return ["Prompt:", "", *_block(text)]


def _block(text: str) -> list[str]:
    return [*(f"    {line}" for line in text.split("\n")), ""]


def _tools_story(query: str, tries: list[dict[str, Any]], full: bool) -> list[str]:
    lines = ["## Candidate tools: T~ = f(x_q; Theta_i), temperature 1.0 (Eq. 4)", "",
             *_prompt(generation_messages(query), full)]
    for row in tries:
        verdict = f"rejected, {row['reason']}: {row['detail']}" if row["reason"] else "passed"
        cost = f"{row['tokens']} tokens, log-probability {row['logprob']:.3f}"
        lines += [f"Try {row['attempt'] + 1} ({cost}); rule checker: {verdict}", "", *_block(row["text"])]
    return lines


def _calls_story(query: str, candidates: list[Tool], record: dict[str, Any], full: bool, prompt: str) -> list[str]:
    lines = ["## Calls: A~ = majority_vote(f_sampling(q, T~; Theta_i)) (Eq. 5)", "",
             *_prompt(invocation_messages(query, candidates, prompt), full),
             "| sample | log-probability | answer |", "|---|---|---|"]
    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(record["samples"]):
        answer = read_answer(sample["text"], sample["finish_reason"])
        if isinstance(answer, Reason):
            cell = f"does not vote, {answer.code}: {_cell(sample['text'])}"
            lines.append(f"| {index} | {sample['logprob']:.3f} | {cell} |")
        else:
            groups.setdefault(canonical_answer(answer, candidates), []).append(index)
            lines.append(f"| {index} | {sample['logprob']:.3f} | {_calls(answer)} |")
    votes = ", ".join(f"{len(members)} (samples {', '.join(map(str, members))})" for members in groups.values())
    early = ", decided early" if record["decided_early"] else ""
    tie = f", a tie broken by {record['tie']}" if record["tie"] != "none" else ""
    margin = "" if record["decided_early"] else f", margin {record['margin']}"
    votes_held = f"{record['votes']} of {record['num_samples']}{margin}{early}{tie}"
    winner = f"sample {record['index']} with {votes_held}" if groups else "none"
    return [*lines, "", f"{len(groups)} different answers; votes {votes or 'none'}. Winner: {winner}.", ""]


def _cell(text: str) -> str:
    """Text in one cell of a table: its beginning, if it is long."""
    text = dump_json(text).replace("|", "\\|")
    return text if len(text) <= CELL_CHARS else text[:CELL_CHARS] + "..."


def _calls(calls: list[ToolCall]) -> str:
    return "; ".join(dump_json(call.to_dict()).replace("|", "\\|") for call in calls) or "no call"


def _verdict(accepted: dict | None, rejected: dict | None) -> list[str]:
    if accepted:
        return ["Rule checker on the winner: passed. **Accepted**, with provenance:", "",
                *_block(dump_json(accepted["provenance"]))]
    return [f"**Rejected** at the stage `{rejected['stage']}`, {rejected['reason']}: {rejected['detail']}", ""]


def _recipe_note(settings: dict[str, Any]) -> list[str]:
    """That the round trained on other invocation rows than those shown, where a recipe changed them."""
    changes = [f"{name} {settings[name]}" for name in RECIPE if settings.get(name)]
    note = f"The round changed what invocation rows offer ({', '.join(changes)}); shown is the example as accepted."
    return [note, ""] if changes else []


def _training_story(folder: Path, example: Example, loss: bool) -> list[str]:
    """The rows that came of the example, and what the round did to their loss."""
    from model import load_model, load_tokenizer

    settings = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if not settings:
        return ["The round has not begun to train."]
    tokenizer = load_tokenizer(settings["model"])
    rows, refused = own_rows(example, settings, tokenizer)
    losses: dict[str, list[float]] = {}
    if loss and rows and (folder / "adapter" / "adapter_config.json").is_file():
        print("measuring the loss before and after the round", file=sys.stderr)
        losses = row_losses(load_model(settings["model"]), began_with(folder, settings), folder / "adapter", rows)
    weight = settings.get("generation_weight", 1.0)
    factor = "" if weight == 1.0 else f"{weight:g} "
    lines = [f"## Training rows: min l(f(q, T~; Theta), A~) + {factor}l(f(x_q; Theta), T~) (Eq. 6)", "",
             *_recipe_note(settings), "| objective | tokens | supervised | loss before | loss after |",
             "|---|---|---|---|---|"]
    for row in rows:
        before, after = losses.get(row.id, (None, None))
        cells = [row.objective, len(row.ids), sum(label >= 0 for label in row.labels),
                 *("not measured" if value is None else f"{value:.4f}" for value in (before, after))]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines.append("")
    for row in rows:
        lines += [f"What the {row.objective} row is trained to write after its prompt:", "",
                  *_block(tokenizer.decode([label for label in row.labels if label >= 0]))]
    return lines + [f"No {item.objective} row: {item.detail}." for item in refused]
