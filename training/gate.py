"""The one gate for models and adapters from outside: every command that loads one asks here first.

Config, tokenizer, chat template, names and shapes of all weights, and the whole adapter are checked before memory is
taken for the base. What a user should know of the model is said on stderr, a line each.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from data.schema import read_json
from training.origin import check_base

if TYPE_CHECKING:
    from model import ModelConfig, Tokenizer

HOME_FORMAT = {"llama": "llama3", "qwen2": "chatml", "mistral": "mistral"}      # the format of the published models


def check_model(folder: str | Path, adapter: str | Path = "", *, fresh: bool = False,
                say: Callable[[str], None] | None = None) -> "Tokenizer":
    """The tokenizer of a model folder, after all of it was checked; takes no memory for weights.

    Args:
        adapter: a PEFT folder, or a step of a run, to be checked against the model; "" for none.
        fresh: for pre-training: the weights may be missing, and no chat format is needed.
        say: where notes go; without it to stderr.

    Raises:
        FileNotFoundError, ValueError: what is missing, damaged or not supported, by file.
    """
    from lora import adapter_folder, load_adapter
    from model import ModelConfig, load_model, load_tokenizer
    from model.chat import encode_chat
    from model.config import found_below

    folder, origin = Path(folder), ""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; --model wants one with config.json, safetensors weights "
                                "and a tokenizer (names of the hub are not looked up)")
    if fresh and not any(folder.glob("*.safetensors")):
        config = ModelConfig.load(folder)
    else:
        if not (folder / "config.json").is_file() and (inside := found_below(folder)):
            raise FileNotFoundError(f"{folder}: no config.json in it{inside}")
        model = load_model(folder, device="meta")
        config = model.config
        if adapter:
            load_adapter(model, adapter_folder(adapter))
            origin = check_base(folder, adapter_folder(adapter))
    tokenizer = load_tokenizer(folder)
    if tokenizer.family is None and not fresh:
        raise ValueError(f"{folder}: its tokenizer has no chat format known here (control tokens of Llama 3, ChatML or "
                         "Mistral); use an instruct model")
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(f"{folder}: the tokenizer has {tokenizer.vocab_size} ids, the model {config.vocab_size} "
                         "embeddings; take both from one checkpoint")
    if tokenizer.family is not None:
        encode_chat([{"role": role, "content": "x"} for role in ("system", "user", "assistant")], tokenizer)
    for line in (*notes(config, tokenizer), *code_notes(folder), *inner_notes(folder),
                 *adapter_notes(folder, adapter, tokenizer), *filter(None, [origin])):
        (say or tell)(f"{folder}: {line}")
    return tokenizer


def notes(config: "ModelConfig", tokenizer: "Tokenizer") -> list[str]:
    """What a user should know of how this model's conversations are written."""
    said = list(tokenizer.notes)
    if tokenizer.family not in (None, HOME_FORMAT[config.model_type]):
        system = f", with the system text {tokenizer.default_system!r} where none is given" \
            if tokenizer.family == "chatml" and tokenizer.default_system else ""
        said.append(f"note: a {config.model_type} model whose turns are written in another family's format, "
                    f"{tokenizer.family}{system}")
    return said


def code_notes(folder: Path) -> list[str]:
    """A warning where config.json names Python code of its own for the model, which nothing here runs."""
    named = read_json(folder / "config.json").get("auto_map")
    own = named.get("AutoModelForCausalLM") if isinstance(named, dict) else None
    if own is None:
        return []
    return [f"WARNING: config.json names code of its own for this model (auto_map: {own!r}). It is never run: the "
            "weights are computed as the architecture that config.json names, as without trust_remote_code"]


def inner_notes(folder: Path) -> list[str]:
    """A warning where an adapter lies beside the weights: Hugging Face's library loads such a folder with it."""
    return ["WARNING: an adapter lies beside these weights (adapter_config.json). It is not read here: where the "
            "weights do not hold it already, put its files into a folder of their own and give that as --adapter"] \
        if (folder / "adapter_config.json").is_file() else []


def adapter_notes(folder: Path, adapter: str | Path, tokenizer: "Tokenizer") -> list[str]:
    """What a user should know of an adapter whose folder has a tokenizer's files of its own, as trainers save them."""
    from lora import adapter_folder
    from model.templates import read_object, read_template, says
    from model.tokenizer import unknown_tokens

    if not adapter:
        return []
    own_folder = adapter_folder(adapter)
    base, own = read_template(folder), read_template(own_folder)
    differing = []
    if own is not None and (base is None or says(own.text) != says(base.text)):
        differing.append(f"another chat template ({own.source}) than the model's")
    listed = read_object(own_folder / "tokenizer.json").get("added_tokens")
    added = {str(one.get("id")): one.get("content") for one in (listed if isinstance(listed, list) else ())
             if isinstance(one, dict)}
    tokens = [*(repr(text) for i, text in added.items() if not i.isdecimal() or tokenizer.spelling(int(i)) != text),
              *(text for texts in unknown_tokens(tokenizer, own_folder).values() for text in texts)]
    if tokens:
        differing.append(f"tokens that the model's tokenizer does not have (first: {tokens[0]})")
    return [f"WARNING: {own_folder}: the adapter was saved with {' and '.join(differing)}. Prompts are written by the "
            "model's, so they may differ from those that the adapter was trained on; where its tokenizer files belong "
            "to it, put them into a copy of the model's folder"] if differing else []


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
