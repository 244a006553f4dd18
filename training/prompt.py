"""Which prompt an adapter was trained to be asked by: the paper's, or the tool block of the model's own template.

An adapter of the native prompt carries a small file that says so, and a merged model does. `call`, `eval` and the
rounds look there, so that a model is asked as it was trained. Without the file it is the paper's.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from data.files import write_json
from data.prompts import PROMPTS
from data.schema import read_json

if TYPE_CHECKING:
    from model import Tokenizer

FILE = "tooldev.json"


def note_prompt(folder: Path, prompt: str) -> None:
    """Write beside weights how they are asked; the paper's prompt needs no word."""
    if prompt != PROMPTS[0]:
        write_json(folder / FILE, {"prompt": prompt})


def noted_prompt(folder: str | Path) -> str:
    """How the weights of a folder are asked. ValueError for a file that names no prompt known here."""
    file = Path(folder) / FILE
    if not file.is_file():
        return PROMPTS[0]
    found = read_json(file)
    prompt = found.get("prompt") if isinstance(found, dict) else None
    if prompt not in PROMPTS:
        raise ValueError(f"{file}: expected \"prompt\" to be one of {', '.join(PROMPTS)}, found {str(found)[:200]}")
    return prompt


def prompt_of(model: str | Path, adapter: str | Path | None) -> str:
    """How a model is asked with this adapter on it; without one, as the model's own folder says."""
    return noted_prompt(adapter or model)


def check_trainable(prompt: str, tokenizer: "Tokenizer", flag: str = "--prompt native") -> None:
    """ValueError where training by the native prompt would not teach the template's own answers.

    ChatML's calls are the paper's: JSON in <tool_call> tags. Llama's template holds one call a turn, Mistral's has a
    list of them behind a token of its own; neither can say what the paper's answers say.
    """
    if prompt == PROMPTS[0]:
        return
    if tokenizer.family != "chatml":
        raise ValueError(f"{flag}: needs a model whose template writes calls as <tool_call> blocks (ChatML, as "
                         f"Qwen2.5's), and this one's is {tokenizer.family}; leave it out, and the paper's prompt is "
                         "used")
    check_native(tokenizer, flag)


def check_native(tokenizer: "Tokenizer", flag: str = "--prompt native") -> None:
    """ValueError where the template has no block for tools."""
    if not tokenizer.native_tools:
        raise ValueError(f"{flag}: the model's own chat template has no block for tools; leave it out, and the paper's "
                         "prompt is used")
