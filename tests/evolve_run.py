"""A run to evolve, for tests: a random tiny base with a joint adapter, and a scripted stand-in for the sampler."""

import json
import random
import sys
import time
from pathlib import Path

from data.files import mark_done, write_jsonl
from data.prompts import NO_CALL_TEXT, calls_answer, pieces_text, tools_answer
from data.schema import Example, Tool, ToolCall
from evolution.config import RoundConfig, stage_seed
from evolve import run_round
from lora import apply_lora, save_adapter
from model import ModelConfig, Transformer, load_tokenizer, save_model
from sampler import Completion
from tests.model_tokenizers import chatml_folder

FAST = {"max_steps": 2, "global_batch_size": 4, "max_length": 4096, "precision": "fp32", "learning_rate": 1e-3}


def tool(name: str, description: str = "Does a thing with a number.", **properties) -> Tool:
    """A tool with one required argument, n, unless others are given."""
    properties = properties or {"n": {"type": "number", "description": "A number."}}
    return Tool.from_dict({"name": name, "description": description, "arguments": {
        "type": "dict", "properties": properties, "required": sorted(properties)[:1]}})


def tools(*found: Tool) -> str:
    return pieces_text(tools_answer(found))


def calls(*found: tuple[str, dict]) -> str:
    return pieces_text(calls_answer([ToolCall(name, arguments) for name, arguments in found]))


def labelled(count: int) -> list[Example]:
    return [Example(f"l{i}", f"Please add {i} to the list of numbers.", (tool(f"add_{i}"),),
                    (ToolCall(f"add_{i}", {"n": i}),)) for i in range(count)]


def make_run(path: Path, queries: list[dict], **settings) -> RoundConfig:
    """A folder with base, joint adapter, queries and labelled examples, and the settings of its first round."""
    base = chatml_folder(path / "base") if not path.mkdir(parents=True, exist_ok=True) else None
    tokenizer = load_tokenizer(base)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=8192,
                         model_type="qwen2", qkv_bias=True, tie_word_embeddings=True)
    model = Transformer(config).init_weights(0, std=0.2)
    save_model(model, base)
    apply_lora(model, rank=4, alpha=8, seed=1)
    joint = path / "run" / "joint"
    save_adapter(model, joint / "adapter", base_model=str(base))
    mark_done(joint, [f"adapter/{file.name}" for file in (joint / "adapter").iterdir()], steps=0)
    write_jsonl(path / "queries.jsonl", queries)
    write_jsonl(path / "labelled.jsonl", labelled(6))
    return RoundConfig(**{"run": str(path / "run"), "model": str(base), "queries": str(path / "queries.jsonl"),
                          "labelled": str(path / "labelled.jsonl"), "train": FAST, "probe": 0, **settings})


class Scripted:
    """Answers by query id: `tools[id]` holds the text of each try, `calls[id]` (text, logprob) of each sample."""

    def __init__(self, tokenizer, tools: dict[str, list[str]], calls: dict[str, list[tuple[str, float]]]) -> None:
        self.tokenizer, self.tools, self.calls = tokenizer, tools, calls
        self.tries: dict[str, int] = {}
        self.prompts: list[str] = []

    def generate(self, model, prompts, *, num_samples, item_ids, on_item, on_sample=None, max_new_tokens, **rest):
        for index, (prompt, name) in enumerate(zip(prompts, item_ids, strict=True)):
            text = self.tokenizer.decode(prompt)
            self.prompts.append(text)
            if "Generate tools to solve the query:" in text:
                answers = [(self.tools[name][self.tries.get(name, 0)], -1.0)]
                self.tries[name] = self.tries.get(name, 0) + 1
            else:
                answers = self.calls[name]
            assert len(answers) == num_samples, f"{name}: {len(answers)} answers scripted, {num_samples} asked"
            completions, decided = [], False
            for sample, (answer, logprob) in enumerate(answers):
                ids = self.tokenizer.encode(answer)
                completions.append(Completion([], 0.0, "cancelled") if decided else Completion(ids, logprob, "stop"))
                decided = decided or bool(on_sample and on_sample(index, sample, ids))
            on_item(index, completions)


class Dice:
    """Answers drawn from (seed, item, sample) alone, as the sampler's are: good, bad, and some that disagree."""

    def __init__(self, tokenizer, pause: float = 0.0) -> None:
        self.tokenizer, self.pause = tokenizer, pause

    def generate(self, model, prompts, *, num_samples, item_ids, on_item, seed, on_sample=None, **rest):
        for index, (prompt, name) in enumerate(zip(prompts, item_ids, strict=True)):
            text = self.tokenizer.decode(prompt)
            make = self.tools_text if "Generate tools to solve the query:" in text else self.calls_text
            completions = []
            for sample in range(num_samples):
                time.sleep(self.pause)
                rng = random.Random(stage_seed(seed, name, sample))
                completions.append(Completion(self.tokenizer.encode(make(rng, text)), -rng.random(), "stop"))
            on_item(index, completions)

    @staticmethod
    def tools_text(rng: random.Random, prompt: str) -> str:
        made = [tool(f"tool_{rng.randrange(9)}", rng.choice(["Does a thing.", "Does another thing."]))
                for _ in range(rng.choice([1, 1, 2]))]
        return rng.choice([tools(*made)] * 3 + [tools(*made)[:-20], tools(tool("x", ""))])

    @staticmethod
    def calls_text(rng: random.Random, prompt: str) -> str:
        offered = [json.loads(line)["name"] for line in prompt.splitlines() if line.startswith('{"name": "tool_')]
        good = calls((rng.choice(offered), {"n": rng.randrange(2)}))
        return rng.choice([good] * 4 + [calls((offered[0], {"n": "1"})), NO_CALL_TEXT, "hm"])


def main() -> None:
    """A process that runs a round with Dice, to be killed or to be one of several: config.json as its argument."""
    config = RoundConfig.from_dict(json.loads(Path(sys.argv[1]).read_text()))
    tokenizer = load_tokenizer(config.model)
    print("begun", flush=True)
    run_round(config, tokenizer=tokenizer, generate=Dice(tokenizer, pause=float(sys.argv[2])).generate, progress=False)


if __name__ == "__main__":
    main()
