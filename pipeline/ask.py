"""`tooldev.py call` and `tooldev.py make-tools`: try a model on one query. JSON on stdout, everything else on stderr.

    python tooldev.py call --model DIR --adapter runs/mine/round-3 --tools tools.jsonl "What is the weather in Oslo?"
    python tooldev.py make-tools --model DIR --adapter runs/mine/joint "What is the weather in Oslo?"

Exit code 1: the model's answer does not parse or breaks the rules.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from data.decoding import check_temperature, never_sampled
from data.parse import Reason, parse_calls, parse_tools
from data.prompts import Message, generation_messages, invocation_messages
from data.rules import check_calls, check_tools
from data.schema import load_tools
from lora import adapter_folder
from pipeline.inputs import EMBEDDED, option, print_json
from training.gate import check_model

SAMPLED = (0.7, 40)                     # temperature and top-k where several samples vote: those of a round's calls


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", help="what the user asks for, in quotes")
    parser.add_argument("--model", default=str(EMBEDDED), metavar="DIR", help="the base: a Hugging Face folder")
    option(parser, "adapter", "", "an adapter in PEFT's layout, or a step of a run, as runs/demo/joint", metavar="DIR")
    if parser.prog.split()[-1] == "call":
        parser.add_argument("--tools", required=True, default=argparse.SUPPRESS, metavar="F",
                            help="JSON Lines of the tools to offer")
        parser.add_argument("--samples", type=int, default=1, help="answers to draw; more than one vote (paper: 5)")
    option(parser, "temperature", None, "0 is greedy; without it 0, or 0.7 for a vote", type=float)
    option(parser, "top-k", None, "choose among so many tokens, 0: all; without it 0, or 40 for a vote", type=int)
    parser.add_argument("--max-new-tokens", type=int, default=1024, help="where an answer is cut off")
    parser.add_argument("--precision", choices=("auto", "fp16", "bf16", "fp32"), default="auto", help="compute type")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")


def main(args: argparse.Namespace) -> int:
    if args.temperature is not None:
        check_temperature(args.temperature, "--temperature")
    if not args.query.strip():
        raise ValueError("the query is empty; put what the user asks for in quotes, as the last argument")
    return call(args) if args.command == "call" else make_tools(args)


def call(args: argparse.Namespace) -> int:
    """Print the calls; where several samples were asked for, those that most of them agree on."""
    from sampler.consistency import majority_vote

    tools = load_tools(args.tools)
    if not tools:
        raise ValueError(f"{args.tools}: no tools in it; expected JSON Lines, one tool per line")
    samples = ask(args, invocation_messages(args.query, tools), args.samples)
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
    (sample,) = ask(args, generation_messages(args.query), 1)
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


def ask(args: argparse.Namespace, messages: Sequence[Message], samples: int) -> list[Sample]:
    """Let the model answer the messages, as often as there are samples."""
    from lora import load_adapter
    from model.chat import render
    from sampler import generate
    from training.base import load_base

    adapter = adapter_folder(args.adapter) if args.adapter else None
    tokenizer = check_model(args.model, adapter or "")
    model = load_base(args.model, args.precision)
    if adapter:
        load_adapter(model, adapter)
    prompt = render(messages, tokenizer)[0]
    limit = model.config.max_position_embeddings
    if len(prompt) >= limit:
        raise ValueError(f"the prompt has {len(prompt):,} tokens, the model's context is {limit:,}; offer fewer tools")
    temperature, top_k = SAMPLED if samples > 1 else (0.0, 0)
    temperature = temperature if args.temperature is None else args.temperature
    top_k = top_k if args.top_k is None else args.top_k
    (drawn,) = generate(model.eval(), [prompt], num_samples=samples, temperature=temperature, top_k=top_k,
                        seed=args.seed, max_new_tokens=min(args.max_new_tokens, limit - len(prompt)),
                        eos_ids=tokenizer.eos_ids, vocab_size=tokenizer.vocab_size, banned_ids=never_sampled(tokenizer))
    return [Sample(tokenizer.decode(one.ids), one.finish_reason, one.logprob) for one in drawn]


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


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
