"""docs/equations.md: one example through every equation of the paper, with the embedded model.

    python benchmarks/equations.py > docs/equations.md

Calls the functions that training and a round call, on one example and one new query of the generated world, in float32.
A test makes the page again.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data import world
from data.batching import collate
from data.canonical import canonical_answer
from data.contamination import load_guard
from data.decoding import never_sampled
from data.parse import Reason
from data.prompts import generation_messages, invocation_messages
from data.schema import Example, dump_json
from data.tasks import IGNORE_INDEX, OBJECTIVES, Row, adaption_row, generation_row, invocation_row
from evolution.config import Voting
from evolution.decide import read_answer, read_tools, settle
from lora import apply_lora, lora_parameters
from model import load_model, load_tokenizer
from model.chat import encode_chat, render
from pipeline.inputs import EMBEDDED
from pipeline.show import name
from sampler import generate
from train import batch_loss, objective_weights

MAX_LENGTH = 1024
EXAMPLE, QUERY = 3, 23                      # short ones; the samples for this query differ
HEAD = """# From equation to line: one example through all of them

This page is what `python benchmarks/equations.py` prints: the embedded model in float32, on one labelled example and
one new query of the generated world. A test makes it again. Letters: B rows of ids, S tokens, N supervised tokens,
E hidden size, V vocabulary.
"""


def block(text: str) -> list[str]:
    return ["```", *text.splitlines(), "```", ""]


def ends(row: Row, tokenizer) -> list[str]:
    """The row's tokens around the place where supervision begins, and its last ones."""
    first = next(i for i, label in enumerate(row.labels) if label != IGNORE_INDEX)
    places = [*range(first - 3, first + 5), None, *range(len(row.ids) - 3, len(row.ids))]
    lines = ["| place | id | token | label | counts |", "|---|---|---|---|---|"]
    for place in places:
        if place is None:
            lines.append("| ... | | | | |")
            continue
        label = row.labels[place]
        counts = "no" if label == IGNORE_INDEX else "yes"
        token = name(row.ids[place], tokenizer).replace("|", "\\|")
        lines.append(f"| {place} | {row.ids[place]} | `{token}` | {label} | {counts} |")
    return [*lines, ""]


def objective(title: str, function: str, prompt: str, row: Row, tokenizer) -> list[str]:
    """One training row: what is asked, what is to be written, and the mask."""
    supervised = [label for label in row.labels if label != IGNORE_INDEX]
    return [f"## {title}", "", f"`{function}`. The prompt ends with:", "", *block(prompt.strip().splitlines()[-1]),
            "It is trained to write:", "", *block(tokenizer.decode(supervised)),
            f"{len(row.ids)} ids, {len(supervised)} of them supervised: the answer and the token that ends the turn.",
            "", *ends(row, tokenizer)]


def losses(model, rows: list[Row]) -> list[str]:
    """A pack of both rows, its shapes, and the loss by either balance."""
    batch = collate(rows, OBJECTIVES)
    kept = batch.labels != IGNORE_INDEX
    with torch.no_grad():
        hidden = model.hidden_states(batch.input_ids, lengths=batch.lengths)
    counts = [int((kept & (batch.objectives == kind)).sum()) for kind in range(len(OBJECTIVES))]
    lines = ["## The loss of a batch (Eq. 2 and Eq. 3 together)", "",
             "`data.batching.collate` puts both rows end to end, labels shifted by one inside each row.",
             "`train.batch_loss` takes hidden states of supervised positions alone to `lm_head`.", "",
             "| tensor | shape |", "|---|---|",
             f"| input_ids (B, S) | {tuple(batch.input_ids.shape)}, rows of {batch.lengths} |",
             f"| labels (B * S) | {tuple(batch.labels.shape)}, {int(kept.sum())} of them not {IGNORE_INDEX} |",
             f"| hidden states (B, S, E) | {tuple(hidden.shape)} |",
             f"| supervised hidden states (N, E) | {tuple(hidden.flatten(0, 1)[kept].shape)} |",
             f"| logits (N, V) | ({int(kept.sum())}, {model.config.vocab_size}) |", ""]
    total = sum(counts)
    for balance in ("token", "objective"):
        with torch.no_grad():
            loss = float(batch_loss(model, batch, objective_weights(counts, balance), 256)) / total
        lines.append(f"`--balance {balance}`: {loss:.2f} nats"
                     + (" a token." if balance == "token" else ", the sum of the two objectives' means.") + "  ")
    return [*lines, ""]


def update(model, row: Row) -> list[str]:
    """LoRA's gradient for one row: what trains, and what stays."""
    apply_lora(model, rank=16, alpha=32, seed=0)
    batch = collate([row], OBJECTIVES)
    batch_loss(model, batch, [1.0], 256).backward()
    weights = lora_parameters(model)
    trained = sum(weight.numel() for weight in weights.values())
    frozen = sum(weight.numel() for weight in model.parameters()) - trained
    heads = [weight for key, weight in weights.items() if "lora_B" in key]
    still = all(float(weight.grad.abs().max()) == 0.0 for key, weight in weights.items() if "lora_A" in key)
    moved = sum(float(weight.grad.abs().max()) > 0.0 for weight in heads)
    return ["## The update", "",
            "`lora.apply_lora` wraps the seven linear layers of every block: y = W x + (alpha / rank) B A x.", "",
            f"{trained:,} weights train, {frozen:,} do not. B begins at zero. So the first gradient of A is "
            f"{'zero' if still else 'not zero'},", f"and that of B is not zero in {moved} of {len(heads)} layers.", "",
            "`train.train_step` sums the gradient over the global batch and updates.", ""]


def samples_of(model, tokenizer, messages, **options) -> list[dict]:
    prompt = render(messages, tokenizer)[0]
    (drawn,) = generate(model, [prompt], eos_ids=tokenizer.eos_ids, vocab_size=tokenizer.vocab_size,
                        banned_ids=never_sampled(tokenizer), max_new_tokens=192, **options)
    return [{"text": tokenizer.decode(one.ids), "tokens": len(one.ids), "logprob": one.logprob,
             "finish_reason": one.finish_reason} for one in drawn]


def self_made(model, tokenizer, query) -> tuple[list[str], Example | None]:
    """Equations 4 and 5 on one query."""
    (first,) = samples_of(model, tokenizer, generation_messages(query.query), num_samples=1, temperature=1.0, top_k=5,
                          seed=1, item_ids=[query.id])
    tools = read_tools(first["text"], first["finish_reason"], load_guard([]))
    lines = ["## Candidate tools (Eq. 4): T~ = f(x_q; Theta)", "", f"> {query.query}", "",
             f"`evolution.generate.make_tools` draws {first['tokens']} tokens at temperature 1.0, mean log-probability "
             f"{first['logprob']:.2f}:", "", *block(first["text"])]
    if isinstance(tools, Reason):
        return [*lines, f"`evolution.decide.judge_tools`: rejected, {tools.code}.", ""], None
    lines += ["`evolution.decide.judge_tools`: the rule checker passes it.", "",
              "## Calls and vote (Eq. 5): A~ = majority vote over five samples", "",
              "`evolution.generate.make_calls` prefills the prompt once and forks it:", "",
              "| sample | log-probability | answer | canonical form |", "|---|---|---|---|"]
    drawn = samples_of(model, tokenizer, invocation_messages(query.query, tools), num_samples=5, temperature=0.7,
                       top_k=5, seed=1, item_ids=[query.id])
    forms: list[str] = []
    for index, sample in enumerate(drawn):
        answer = read_answer(sample["text"], sample["finish_reason"])
        key = answer.code if isinstance(answer, Reason) else canonical_answer(answer, tools)
        forms += [key] if key not in forms else []
        calls = "-" if isinstance(answer, Reason) else "; ".join(dump_json(call.to_dict()) for call in answer)
        lines.append(f"| {index} | {sample['logprob']:.2f} | `{calls or 'no call'}` | {'ABCDE'[forms.index(key)]} |")
    outcome = settle(query, tools, {"id": query.id, "samples": drawn, "decided_early": False}, Voting(min_votes=1))
    record = outcome.record
    lines += ["", f"`sampler.consistency.majority_vote`: {record['votes']} of {record['num_samples']} votes, margin "
              f"{record['margin']}. `evolution.decide.settle` checks the winner: "
              + ("accepted." if outcome.example else f"rejected, {outcome.rejected['reason']}."), ""]
    return lines, outcome.example


def page() -> str:
    """docs/equations.md."""
    torch.manual_seed(0)
    tokenizer, model = load_tokenizer(EMBEDDED), load_model(EMBEDDED).eval()
    example = world.training_data(0, tools=40, labelled=40)["examples"][EXAMPLE]
    query = world.queries(40, seed=0)[0][QUERY]
    tool = next(tool for tool in example.tools if tool.name == example.calls[0].name)
    rows = [adaption_row(tool, tokenizer, encode_chat, MAX_LENGTH),
            invocation_row(example, tokenizer, encode_chat, MAX_LENGTH),
            generation_row(example, tokenizer, encode_chat, MAX_LENGTH)]
    lines = [HEAD, "The labelled example <q, T, A>:", "",
             *block(dump_json({"query": example.query, "tools": [t.name for t in example.tools],
                               "calls": [call.to_dict() for call in example.calls]})),
             *objective("Tool documentation adaption (Eq. 1): x_t -> t", "data.tasks.adaption_row", tool.description,
                        rows[0], tokenizer),
             *objective("Tool invocation (Eq. 2): (q, T) -> A", "data.tasks.invocation_row", example.query, rows[1],
                        tokenizer),
             *objective("Query-aware tool generation (Eq. 3): x_q -> T", "data.tasks.generation_row", example.query,
                        rows[2], tokenizer),
             *losses(model, rows[1:])]
    made, accepted = self_made(model, tokenizer, query)
    lines += made
    if accepted:
        own = [generation_row(accepted, tokenizer, encode_chat, MAX_LENGTH),
               invocation_row(accepted, tokenizer, encode_chat, MAX_LENGTH)]
        lines += ["## Training on <q, T~, A~> (Eq. 6)", "",
                  "`evolution.rows.training_rows` makes both kinds of rows of it. `evolve.train_round` trains on them.",
                  "", "| objective | ids | supervised |", "|---|---|---|",
                  *(f"| {row.objective} | {len(row.ids)} | {sum(label != IGNORE_INDEX for label in row.labels)} |"
                    for row in own), ""]
    return "\n".join([*lines, *update(model, rows[1])]).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
