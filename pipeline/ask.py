"""`tooldev.py call` and `tooldev.py make-tools`: try a model on one query. JSON on stdout, everything else on stderr.

    python tooldev.py call --model DIR --adapter runs/mine/round-3 --tools tools.jsonl "What is the weather in Oslo?"
    python tooldev.py call --model DIR --tools pool.jsonl --retrieve 8 "..."         # of thousands, the 8 that fit best
    python tooldev.py make-tools --model DIR --adapter runs/mine/joint "What is the weather in Oslo?"

Exit code 1: the model's answer does not parse or breaks the rules.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from data.decoding import check_temperature, never_sampled
from data.files import some
from data.parse import Reason, parse_calls, parse_tools
from data.prompts import PROMPTS, Message, generation_messages, invocation_messages
from data.retrieval import ToolIndex, parts
from data.rules import check_calls, check_tools
from data.schema import Tool, load_tools
from lora import adapter_folder
from pipeline.find import add_index, check_query, distinct, offered, opened, shown, written_text
from pipeline.inputs import EMBEDDED, flag, print_json
from training.gate import check_model, tell
from training.prompt import check_trainable, resolved

SAMPLED = (0.7, 40)                     # temperature and top-k where several samples vote: those of a round's calls
EXPANSION = 128                         # most tokens for the tools of a sentence: their names and descriptions suffice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", help="what the user asks for, in quotes")
    parser.add_argument("--model", default=str(EMBEDDED), metavar="DIR", help="the base: a Hugging Face folder")
    flag(parser, "adapter", "", "an adapter in PEFT's layout, or a step of a run, as runs/demo/joint", metavar="DIR")
    if parser.prog.split()[-1] == "call":
        parser.add_argument("--tools", required=True, default=argparse.SUPPRESS, metavar="F",
                            help="JSON Lines of the tools to offer")
        flag(parser, "retrieve", None, "offer only the K tools of the file that fit the query best", type=int,
             metavar="K")
        parser.add_argument("--expand", action="store_true", help="with --retrieve: let the model write the tools that "
                            "each sentence needs, and search with those, too")
        add_index(parser)
        flag(parser, "prompt", None, "paper: its prompt; native: the tool block of the model's own chat template; "
             "without it, as the adapter or the model was trained, else paper", choices=PROMPTS)
        parser.add_argument("--samples", type=int, default=1, help="answers to draw; more than one vote (paper: 5)")
    flag(parser, "temperature", None, "0 is greedy; without it 0, or 0.7 for a vote", type=float)
    flag(parser, "top-k", None, "choose among so many tokens, 0: all; without it 0, or 40 for a vote", type=int)
    parser.add_argument("--max-new-tokens", type=int, default=1024, help="where an answer is cut off")
    parser.add_argument("--precision", choices=("auto", "fp16", "bf16", "fp32"), default="auto", help="compute type")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")


def main(args: argparse.Namespace) -> int:
    if args.temperature is not None:
        check_temperature(args.temperature, "--temperature")
    check_query(args.query)
    if args.command == "call" and args.retrieve is None and (args.expand or args.index):
        raise ValueError(f"{'--expand' if args.expand else '--index'} is for --retrieve K; give that, too")
    if args.command == "call" and args.retrieve is not None and args.retrieve < 1:
        raise ValueError(f"--retrieve {args.retrieve}: expected 1 or more tools")
    return call(args) if args.command == "call" else make_tools(args)


def call(args: argparse.Namespace) -> int:
    """Print the calls; where several samples were asked for, those that most of them agree on."""
    from sampler.consistency import majority_vote

    index = opened(args.tools, args.index) if args.retrieve else None
    tools = [] if index else load_tools(args.tools)
    if not (index or tools):
        raise ValueError(f"{args.tools}: no tools in it; expected JSON Lines, one tool per line")
    model, tokenizer = loaded(args)
    if index:
        tools = retrieved(args, index, model, tokenizer)
    (samples,) = answers_of(args, model, tokenizer, [invocation_messages(args.query, tools, args.prompt)],
                            args.samples)
    answers = [read(sample, parse_calls) for sample in samples]
    parsed = [None if isinstance(answer, Reason) else answer for answer in answers]
    vote = majority_vote(parsed, tools, [sample.logprob for sample in samples])
    if args.samples > 1:
        tell(f"vote: {vote.votes} of {vote.num_samples} samples agree, {vote.unparsed} did not parse, {vote.distinct} "
             "different answers")
    if vote.index is None:
        return refuse(answers[0], samples[0].text)
    print_json([found.to_dict() for found in vote.answer])
    return verdict(check_calls(vote.answer, tools))


def make_tools(args: argparse.Namespace) -> int:
    """Print the tools that the model makes for the query, and what the rule checker says about them."""
    ((sample,),) = answers_of(args, *loaded(args), [generation_messages(args.query)], 1)
    tools = read(sample, parse_tools)
    if isinstance(tools, Reason):
        return refuse(tools, sample.text)
    print_json(tools)
    return verdict(check_tools(tools))


@dataclass(frozen=True)
class Sample:
    """One answer as written; `logprob` is the mean log-probability of its tokens in nats."""

    text: str
    finish_reason: str
    logprob: float


def loaded(args: argparse.Namespace) -> tuple[Any, Any]:
    """The model with its adapter, and its tokenizer."""
    from lora import load_adapter
    from training.base import load_base

    adapter = adapter_folder(args.adapter) if args.adapter else None
    tokenizer = check_model(args.model, adapter or "")
    if args.command == "call":
        args.prompt, who = resolved(args.prompt, args.model, adapter)
        check_trainable(args.prompt, tokenizer, who)
    model = load_base(args.model, args.precision)
    if adapter:
        load_adapter(model, adapter)
    return model.eval(), tokenizer


def answers_of(args: argparse.Namespace, model: Any, tokenizer: Any, asked: Sequence[Sequence[Message]], samples: int,
               max_new_tokens: int | None = None) -> list[list[Sample]]:
    """Let the model answer each of these messages, as often as there are samples."""
    from model.chat import render
    from sampler import generate

    prompts, limit = [render(messages, tokenizer)[0] for messages in asked], model.config.max_position_embeddings
    longest = max(map(len, prompts))
    if longest >= limit:
        many = args.command == "call" and args.retrieve is None
        raise ValueError(f"the prompt has {longest:,} tokens, the model's context is {limit:,}; "
                         + ("offer fewer tools, or the best of them: --retrieve 8" if many else "shorten the query"))
    temperature, top_k = SAMPLED if samples > 1 else (0.0, 0)
    temperature = temperature if args.temperature is None else args.temperature
    top_k = top_k if args.top_k is None else args.top_k
    drawn = generate(model, prompts, num_samples=samples, temperature=temperature, top_k=top_k, seed=args.seed,
                     max_new_tokens=min(max_new_tokens or args.max_new_tokens, limit - longest),
                     eos_ids=tokenizer.eos_ids, vocab_size=tokenizer.vocab_size, banned_ids=never_sampled(tokenizer))
    return [[Sample(tokenizer.decode(one.ids), one.finish_reason, one.logprob) for one in answer] for answer in drawn]


def retrieved(args: argparse.Namespace, index: ToolIndex, model: Any, tokenizer: Any) -> list[Tool]:
    """The tools of --retrieve that fit into the prompt with room for an answer; stderr says which are left out."""
    from model.chat import render

    def size(tools: Sequence[Tool]) -> int:
        return len(render(invocation_messages(args.query, tools, args.prompt), tokenizer)[0])

    limit = model.config.max_position_embeddings
    room = limit - min(args.max_new_tokens, limit // 4)
    if size([]) > room:
        raise ValueError(f"the query is too long: {size([]):,} tokens without any tool, and the model's context of "
                         f"{limit:,} leaves room for {room:,}; shorten the query")
    sentences, made = parts(args.query), []
    if args.expand and sentences:
        written = answers_of(args, model, tokenizer, [generation_messages(part) for part in sentences], 1, EXPANSION)
        made = [written_text(sample.text) for (sample,) in written]
        for part, text in zip(sentences, made, strict=True):
            tell(f"written for {part!r:.60}: {' '.join(text.split())[:100] or 'nothing that could be read'}")
    found = distinct(index, args.query, args.retrieve, made, key=lambda tool: tool.name)
    tools, left = offered(*found, lambda tools: size(tools) <= room)
    if not tools:
        raise ValueError(f"{args.tools}: none of its {len(index.tools):,} tools can be offered; "
                         + (f"left out: {some(left)}" if left else "none shares a word with the query"))
    tell(f"offered, of {len(index.tools):,}: {', '.join(shown(tool.name) for tool in tools)}")
    if left:
        tell(f"left out: {some(left)}")
    return tools


def read(sample: Sample, parse: Callable[[str], Any]) -> Any:
    """What was written, parsed, or the Reason why not."""
    if sample.finish_reason != "stop":
        return Reason("cut_off", "the answer did not end within --max-new-tokens")
    return parse(sample.text)


def refuse(reason: Reason, text: str) -> int:
    """Print why there is no answer, with the text as written."""
    print_json({"reason": reason.code, "detail": reason.detail, "text": text})
    return 1


def verdict(findings: Sequence[tuple[str, str]]) -> int:
    """What the rule checker says, on stderr; 1 if it rejects."""
    for code, detail in findings:
        tell(f"rule checker: {code}: {detail}")
    if not findings:
        tell("rule checker: good")
    return 1 if findings else 0
