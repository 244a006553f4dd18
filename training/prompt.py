"""Which prompt an adapter was trained to be asked by: the paper's, or the tool block of the model's own template.

An adapter of the native prompt carries a small file that says so, and a merged model does. `call`, `eval` and the
rounds look there, so that a model is asked as it was trained. Without the file it is the paper's.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from data.files import write_json
from data.prompts import PAPER_PROMPT, PROMPTS
from data.schema import read_json

if TYPE_CHECKING:
    from model import Tokenizer

FILE = "tooldev.json"


def note_prompt(folder: Path, prompt: str) -> None:
    """Write beside weights how they are asked; the paper's prompt needs no word."""
    if prompt != PAPER_PROMPT:
        write_json(folder / FILE, {"prompt": prompt})


def noted_prompt(folder: str | Path) -> str:
    """How the weights of a folder are asked. ValueError for a file that names no prompt known here."""
    file = Path(folder) / FILE
    if not file.is_file():
        return PAPER_PROMPT
    found = read_json(file)
    prompt = found.get("prompt") if isinstance(found, dict) else None
    if prompt not in PROMPTS:
        raise ValueError(f"{file}: expected \"prompt\" to be one of {', '.join(PROMPTS)}, found {str(found)[:200]}")
    return prompt


def other_prompt(prompt: str, model: str | Path, adapter: str | Path) -> str:
    """A line where weights that were trained to be asked in one way are asked in another; "" where they are not."""
    before = noted_prompt(adapter or model)
    return "" if prompt == before else (
        f"note: {adapter or model} was trained by the {before} prompt, and this run asks by the {prompt} one; "
        f"--prompt {before} goes on as before")


def resolved(given: str | None, model: str | Path, adapter: str | Path | None) -> tuple[str, str]:
    """(how a model is asked with this adapter on it, who says so): the flag, else the note beside the weights."""
    if given:
        return given, f"--prompt {given}"
    folder = Path(adapter or model)
    return noted_prompt(folder), str(folder / FILE)


def check_trainable(prompt: str, tokenizer: "Tokenizer", who: str = "--prompt native") -> None:
    """ValueError where training by the native prompt would not teach the template's own answers; `who` asks for it.

    ChatML's calls are the paper's: JSON in <tool_call> tags. Llama's template holds one call a turn, Mistral's has a
    list of them behind a token of its own; neither can say what the paper's answers say.
    """
    if prompt == PAPER_PROMPT:
        return
    if tokenizer.family != "chatml":
        raise ValueError(f"{who}: the native prompt needs a model whose template writes calls as <tool_call> blocks "
                         f"(ChatML, as Qwen2.5's), and this one's is {tokenizer.family}; use the paper's prompt")
    check_native(tokenizer, who)


def check_native(tokenizer: "Tokenizer", who: str = "--prompt native") -> None:
    """ValueError where the template has no block for tools."""
    if not tokenizer.native_tools:
        raise ValueError(f"{who}: the model's own chat template has no block for tools; use the paper's prompt")
