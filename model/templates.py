"""What a checkpoint's own chat template says, and so how its conversations are written here.

A template is a program (Jinja), and programs from outside are not run: it is taken apart into what it writes, and that
is compared with the forms that chat.py writes. A template that writes turns of another kind is refused; one of the same
kind that is not known word for word earns a note that names what was seen to differ.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAX_CHARACTERS = 200_000
# family -> the control tokens that its turns are made of; the first one tells the family.
MARKERS = {"llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
           "chatml": ("<|im_start|>", "<|im_end|>"), "mistral": ("[INST]", "[/INST]")}
TITLES = {"llama3": "Llama 3", "chatml": "ChatML", "mistral": "Mistral"}
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
# Marks that change the turns of a family which has its tokens: (family, mark).
OTHER_TURNS = (("chatml", "<|im_sep|>"), ("chatml", "<|im_middle|>"), ("mistral", "[SYSTEM_PROMPT]"),
               ("mistral", "<<SYS>>"))
# sha256 of templates that chat.py was compared with, row by row; those of Llama and Mistral by their plain text, that
# of Qwen2.5 by what it says, its default system text apart.
KNOWN_TEXTS = {"e10ca381b1ccc5cf9db52e371f3b6651576caee0a630b452e2816b2d404d4b65": "llama3",      # Llama 3.1 Instruct
               "5816fce10444e03c2e9ee1ef8a4a1ea61ae7e69e438613f3b17b69d0426223a4": "llama3",      # Llama 3.2 Instruct
               "e16746b40344d6c5b5265988e0328a0bf7277be86f1c335156eae07e29c82826": "mistral"}     # Mistral 7B v0.3
KNOWN_QWEN = "caf97d129e87d4908cccfb599c319880c75381d8ab0771134b6c0f1480697523"
DEFAULT = "\0default\0"                             # stands for a default system text, whatever it is
TURN = ["=<|im_start|>", "{m.role}", "=\n", "{m.content}", "=<|im_end|>\n", "%endfor", "=<|im_start|>assistant\n"]
PLAIN_CHATML = (["%for m in messages", *TURN],
                ["%for m in messages", "%if loop.first and messages[0].role != 'system'",
                 f"=<|im_start|>system\n{DEFAULT}<|im_end|>\n", "%endif", *TURN])


@dataclass(frozen=True)
class Form:
    """How the conversations of a checkpoint are written.

    Attributes:
        family: "llama3", "chatml" or "mistral"; None without a known chat format.
        default_system: ChatML's system text where none is given; None: no system turn then.
        bos: whether ChatML begins with the BOS token. The other families always do.
        tools: whether tools in the family's own format may be written: the template has a block for them.
        notes: what a user should know, a line each.
    """

    family: str | None
    default_system: str | None = QWEN_SYSTEM
    bos: bool = False
    tools: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Template:
    """A chat template's text, the file that it stands in, and what `bos_token` means in it (None: nothing said)."""

    text: str
    source: str
    bos: str | None = None


def choose_form(controls: Iterable[str], template: Template | None) -> Form:
    """The form of a tokenizer with these control tokens, as its template says; by the tokens where there is none.

    Raises:
        ValueError: the template writes turns that this tokenizer has no tokens for, or that are of no form known here.
    """
    controls = set(controls)
    by_tokens = next((family for family, marks in MARKERS.items() if marks[0] in controls), None)
    if template is None or by_tokens is None:
        form = Form(by_tokens)
        if by_tokens is not None:
            form = Form(by_tokens, notes=(f"no chat_template in the folder (a base model?): turns are written as "
                                          f"{TITLES[by_tokens]}, by the tokenizer's control tokens",))
    else:
        form = _form_of(template, controls, by_tokens)
    if form.family == "mistral" and "[SYSTEM_PROMPT]" in controls:
        raise ValueError("the tokenizer has [SYSTEM_PROMPT]: a Mistral of a later format than v0.3 (system text in "
                         "turns of its own), which is not supported")
    return form


def _form_of(template: Template, controls: set[str], by_tokens: str) -> Form:
    items = says(template.text)
    written = "".join(item[1:] for item in items if item[0] == "=")
    literals = written + " ".join(item for item in items if item[0] != "=")
    families = [family for family, marks in MARKERS.items() if marks[0] in literals]
    fix = (f"use the checkpoint whose tokenizer and template belong together, or take the template out of a copy of "
           f"the folder to have turns written as {TITLES[by_tokens]}")
    if not families:
        raise ValueError(f"{template.source}: the chat template writes turns otherwise than any format known here "
                         f"(it writes {_shown(written)}), while the tokenizer has the control tokens of "
                         f"{TITLES[by_tokens]}; {fix}")
    family = by_tokens if by_tokens in families else families[0]
    if MARKERS[family][0] not in controls:
        raise ValueError(f"{template.source}: the chat template writes turns as {TITLES[family]}, but the tokenizer "
                         f"has the control tokens of {TITLES[by_tokens]} only; {fix}")
    for kind, mark in OTHER_TURNS:
        if kind == family and mark in literals:
            raise ValueError(f"{template.source}: the chat template writes {mark} in its turns, which is not "
                             f"{TITLES[family]} as it is written here; {fix}")
    return _recognised(template, items, family) or _unrecognised(template, items, family, literals)


def _recognised(template: Template, items: list[str], family: str) -> Form | None:
    """The form of a template that is known to be written here word for word."""
    if KNOWN_TEXTS.get(_sha256(template.text)) == family or KNOWN_TEXTS.get(_sha256(template.text + "\n")) == family:
        return Form(family)
    if family != "chatml":
        return None
    default, plain = _without_default(items)
    if _sha256(json.dumps(plain)) == KNOWN_QWEN:
        return Form(family, default)
    bos = plain[:1] == ["{bos_token}"]
    return Form(family, default, bos, tools=False) if plain[bos:] in PLAIN_CHATML else None


def _unrecognised(template: Template, items: list[str], family: str, literals: str) -> Form:
    default = _without_default(items)[0] if family == "chatml" else QWEN_SYSTEM
    seen = [word for word, there in (
        ("it trims contents", family != "llama3" and "trim" in literals),
        ("it writes <think>", "<think>" in literals),
        ("it writes no date lines, which are written here", family == "llama3" and "Cutting Knowledge" not in literals),
        ("it writes a space before [/INST]", family == "mistral" and " [/INST]" in literals),
        ("its last header has no line break", family == "chatml" and items[-1].endswith("<|im_start|>assistant")),
        ("it raises errors of its own", family == "chatml" and "raise_exception" in literals)) if there]
    differing = f"; seen to differ: {', '.join(seen)}" if seen else ""
    return Form(family, default, "{bos_token}" in items[:3], re.search(r"\btools\b", literals) is not None, (
        f"WARNING: {template.source}: this chat template is not known here, so prompts may differ from those that the "
        f"model was trained on. They are written as {TITLES[family]}{differing}. `tooldev.py show` prints a row as it "
        "is written",))


def read_template(folder: Path) -> Template | None:
    """The template that a folder's conversations without tools are written by; None where there is none.

    A `.jinja` file wins over tokenizer_config.json, as in Hugging Face's library; of named templates, "default".

    Raises:
        ValueError: a file cannot be read, or a list of named templates has no "default".
    """
    bos = _bos_token(folder)
    named = folder / "additional_chat_templates" / "default.jinja"
    file = named if named.is_file() else folder / "chat_template.jinja"
    if file.is_file():
        if file.stat().st_size > 4 * MAX_CHARACTERS:
            raise ValueError(f"{file}: {file.stat().st_size} bytes, more than any chat template")
        try:
            return _checked(file.read_text(encoding="utf-8"), file, bos)
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: not UTF-8 text ({error}); copy it again") from error
    for file in (folder / "tokenizer_config.json", folder / "chat_template.json"):
        found = read_object(file).get("chat_template")
        if isinstance(found, list) and all(isinstance(one, dict) for one in found):
            found = {one.get("name"): one.get("template") for one in found}
        if isinstance(found, dict) and found:
            if "default" not in found:
                raise ValueError(f"{file}: chat_template has {', '.join(map(str, found))} and no default; name the one "
                                 "that plain conversations are written by \"default\" in a copy of the folder")
            found = found["default"]
        if found:
            return _checked(found, file, bos)
    return None


def _bos_token(folder: Path) -> str | None:
    """The `bos_token` of a folder's tokenizer_config.json, else of its special_tokens_map.json."""
    for file in (folder / "tokenizer_config.json", folder / "special_tokens_map.json"):
        found = read_object(file).get("bos_token")
        found = found.get("content") if isinstance(found, dict) else found
        if isinstance(found, str) and found:
            return found
    return None


def chatml_template(default_system: str) -> str:
    """A chat template of our own words for a checkpoint that is made here: ChatML with this system text by default."""
    return ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
            f"{{{{ '<|im_start|>system\\n{default_system}<|im_end|>\\n' }}}}{{% endif %}}"
            "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def read_object(file: Path) -> dict:
    """The object in a JSON file; an empty one where there is no file."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not JSON ({error}); copy it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file}: expected a JSON object, found {type(found).__name__}")
    return found


def _checked(text: object, file: Path, bos: str | None) -> Template:
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        raise ValueError(f"{file}: a chat template should be text of at most {MAX_CHARACTERS:,} characters, found "
                         f"{str(text)[:60]!r}")
    return Template(text.replace("\r\n", "\n"), file.name, bos)


# ---------------------------------------------------------------------------------------------------- taking it apart

def says(text: str) -> list[str]:
    """What a template writes, in order: "=text", "{expression}", "%statement"; comments and layout are left out.

    Different spellings of one thing come out the same: quotes, m['role'] and m.role, the loop's variable, `+` or parts
    side by side, and whether the last header depends on `add_generation_prompt`.
    """
    items: list[str] = []
    for kind, body in _parts(text.removesuffix("\n")):
        for piece in _summands(body) if kind == "{" else ["=" + body if kind == "=" else "%" + _code(body)]:
            if piece[0] == "=" and items and items[-1][0] == "=":
                items[-1] += piece[1:]
            elif piece != "=":
                items.append(piece)
    return _without_prompt_switch(_one_loop_name(items))


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """("=" | "{" | "%", body) of each part, white space trimmed as Hugging Face's settings of Jinja do."""
    position, trim = 0, ""
    for start, mark, end in _opened(text):
        before = _trimmed_left(text[position:start], trim)
        body = text[start + 2:end]
        if body.startswith("-"):
            before = before.rstrip()
        elif mark != "{" and re.search(r"(^|\n)[ \t]*\Z", before) and (position == 0 or "\n" in before):
            before = before.rstrip(" \t")
        yield "=", before
        trim = "-" if body.endswith("-") else mark
        if mark != "#":
            yield mark, body.strip("-+ \t\n")
        position = end + 2
    yield "=", _trimmed_left(text[position:], trim)


def _trimmed_left(text: str, trim: str) -> str:
    return text.lstrip() if trim == "-" else text.removeprefix("\n") if trim in ("%", "#") else text


def _opened(text: str) -> Iterator[tuple[int, str, int]]:
    """(start, "{" | "%" | "#", where it is closed) of each block; one that is never closed is text."""
    position = 0
    while found := re.compile(r"\{[{%#]").search(text, position):
        mark = found.group()[1]
        end = text.find("#}", found.end()) if mark == "#" else _closed(text, found.end(), "}}" if mark == "{" else "%}")
        if end < 0:
            return
        yield found.start(), mark, end
        position = end + 2


QUOTED = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
INSIDE = re.compile(QUOTED + r"|%\}|\}\}", re.S)


def _closed(text: str, position: int, close: str) -> int:
    """Where the block ends: the first `close` that stands in no quotes."""
    return next((found.start() for found in INSIDE.finditer(text, position) if found.group() == close), -1)


def _summands(body: str) -> list[str]:
    """The parts of an expression a + b + c: quoted ones as "=text", others as "{code}"."""
    depth, parts = 0, [""]
    for token in re.findall(QUOTED + "|.", body, re.S):
        depth += (token in "([{") - (token in ")]}") if len(token) == 1 else 0
        if token in "+~" and depth == 0:
            parts.append("")
        else:
            parts[-1] += token
    found = []
    for part in (part.strip() for part in parts):
        if re.fullmatch(QUOTED, part, re.S):
            found.append("=" + _unquoted(part))
        else:
            found.append("{" + _code(part) + "}")
    return found


def _unquoted(quoted: str) -> str:
    """The text of a string, its escapes read as Jinja reads them."""
    with suppress(UnicodeDecodeError), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)             # of an escape that Python does not know
        return quoted[1:-1].encode("ascii", "backslashreplace").decode("unicode-escape")
    return quoted[1:-1]


def _code(body: str) -> str:
    """An expression or statement in one spelling: single quotes, attributes by dots, single spaces."""
    body = re.sub(r"""\[\s*(['"])(\w+)\1\s*\]""", r".\2", body)
    tokens = re.findall(QUOTED + r"|\s+|[^\s'\"]+", body, re.S)
    return "".join(" " if token.isspace() else "'" + token[1:-1] + "'" if token[0] in "'\"" else token
                   for token in tokens).strip()


def _one_loop_name(items: list[str]) -> list[str]:
    loop = next((found for item in items if (found := re.fullmatch(r"%for (\w+) in messages", item))), None)
    if loop is None:
        return items
    return [item if item[0] == "=" else re.sub(rf"(?<![\w.'\"]){loop[1]}\b", "m", item) for item in items]


def _without_prompt_switch(items: list[str]) -> list[str]:
    if items[:3] == ["%if not add_generation_prompt is defined", "%set add_generation_prompt = false", "%endif"]:
        items = items[3:]
    if len(items) > 2 and items[-3] == "%if add_generation_prompt" and items[-1] == "%endif":
        items = [*items[:-3], items[-2]]
    return items


def _without_default(items: list[str]) -> tuple[str | None, list[str]]:
    """ChatML's default system text, and the items with DEFAULT in its place."""
    for item in items:
        found = re.search(r"<\|im_start\|>system\n([^{%\n].*?)<\|im_end\|>", item, re.S)
        if found and item[0] == "=":
            return found[1], [one.replace(found[1], DEFAULT) for one in items]
    return None, items


def _shown(written: str) -> str:
    return repr(written[:60].strip()) if written.strip() else "nothing of its own"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
