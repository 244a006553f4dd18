"""What a model wrote -> a list of calls `{name: {argument: value}}`, by the rules of the leaderboard's decoders.

Three forms are read: text as prompting-mode models of the leaderboard write it (`[f(a=1), g.h(b='x')]`, Java and
JavaScript in their own syntax), ToolDev's own `<tool_call>` JSON, and native calls, which need no decoding but the
shape test. A failure is a value (`Undecodable`), never an exception.

The official decoder of Java and JavaScript parses with tree-sitter and takes the first call. Our readers know
expressions and expression statements, and turn their values into text as the official code does. Bodies of functions
and of classes are skipped where their brackets balance; other statements, comments and most of the parser's own error
recovery are left out, and count as not decodable. Of that recovery one rule is kept, because nearly every answer needs
it: a Java statement may lack its `;` unless it is so short (`f(a=1)`) that skipping it costs the parser less than
inserting one.
"""

import ast
from dataclasses import dataclass
from typing import Any

from data.parse import Reason, parse_calls
from data.prompts import NO_CALL_TEXT
from eval.answers import FAILURES, MAX_CHARS, parse_expression
from eval.bfcl.computed import compute
from eval.bfcl.foreign_java import Java
from eval.bfcl.foreign_javascript import JavaScript
from eval.bfcl.foreign_reader import need

FAILED = "ast_decoder:decoder_failed"
WRONG_FORMAT = "ast_decoder:decoder_wrong_output_format"
DECODERS = ("auto", "leaderboard", "tooldev")
RULES = ("2024", "2026")
MAX_FOREIGN_CHARS = 20_000              # texts of chained calls are copied once per call


class NotCalls(ValueError):
    """The text parses but is not calls with readable values."""


@dataclass(frozen=True)
class Undecodable:
    """An output without calls to check: the leaderboard's error type, and our reason."""

    error_type: str
    reason: str


def decode_text(text: str, language: str = "python", *, decoder: str = "auto", rules: str = "2024") -> Any:
    """Decoded calls (any shape; see `check_shape`) or Undecodable.

    Args:
        text: the model's reply, untouched.
        language: of the category: python, java or javascript.
        decoder: `leaderboard` reads the leaderboard's call syntax only; `tooldev` reads `<tool_call>` blocks and the
            fixed no-call sentence; `auto` takes tooldev for a reply that has the tag or is that sentence and holds
            what ToolDev would accept, else leaderboard.
        rules: 2024 or 2026, which differ in how the text is trimmed.
    """
    if not isinstance(text, str):
        return Undecodable(FAILED, "not_text")
    if decoder == "tooldev" or (decoder == "auto" and ("<tool_call>" in text or text.strip() == NO_CALL_TEXT)):
        calls = parse_calls(text)
        if not isinstance(calls, Reason):
            return [{call.name: call.arguments} for call in calls]
        if decoder == "tooldev":
            return Undecodable(FAILED, calls.code)
    if len(text) > MAX_CHARS:
        return Undecodable(FAILED, "answer_too_long")
    try:
        source = _in_brackets(_drop_space(text) if rules == "2024" else text.strip("`\n "))
        if language == "python":
            return _decode_python(source.strip("[]'") if rules == "2024" else source.strip().strip("'"))
        calls = _decode_foreign(source[1:-1], language)
        return Undecodable(WRONG_FORMAT, "no_call_found") if calls is None else calls
    except FAILURES as error:
        return Undecodable(FAILED, f"not_calls ({type(error).__name__})")


def check_shape(calls: Any, rules: str = "2024") -> Undecodable | None:
    """None for a list of objects; the newer rules also want one key per item and an object behind it."""
    if calls is None:
        return Undecodable(FAILED, "no_output")
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        return Undecodable(WRONG_FORMAT, "not_a_list_of_objects")
    if rules == "2026" and not all(len(call) == 1 and isinstance(next(iter(call.values())), dict) for call in calls):
        return Undecodable(WRONG_FORMAT, "not_one_name_with_an_object")
    return None


def _drop_space(text: str) -> str:
    return text[1:] if text[0] == " " else text          # IndexError on empty text: a failure upstream too


def _in_brackets(text: str) -> str:
    if not text.startswith("["):
        text = "[" + text
    return text if text.endswith("]") else text + "]"


def _decode_python(source: str) -> list[dict]:
    tree = parse_expression(source)
    if isinstance(tree, ast.Call):
        return [_call(tree)]
    if not isinstance(tree, (ast.Tuple, ast.List, ast.Set)):
        raise NotCalls(f"{type(tree).__name__} is not a call or a list of calls")
    if not all(isinstance(item, ast.Call) for item in tree.elts):
        raise NotCalls("an item of the list is not a call")
    return [_call(item) for item in tree.elts]


def _decode_foreign(source: str, language: str) -> list[dict] | None:
    """The first call of `source` (without the list's brackets), `[{name: {argument: text}}]`; None if it holds none."""
    need(len(source) <= MAX_FOREIGN_CHARS, f"{len(source)} characters; at most {MAX_FOREIGN_CHARS} are read")
    return (Java if language == "java" else JavaScript)(source).program()


def _call(node: ast.Call) -> dict:
    """{dotted name: keyword arguments}; positional ones vanish, as upstream."""
    parts, function = [], node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if isinstance(function, ast.Name):
        parts.append(function.id)
    return {".".join(reversed(parts)): {keyword.arg: _value(keyword.value) for keyword in node.keywords}}


def _value(node: ast.expr | None) -> Any:
    """The value of an argument expression; the official table, row by row. Raises one of FAILURES for the others."""
    if isinstance(node, ast.Constant):
        return "..." if node.value is Ellipsis else node.value
    if isinstance(node, ast.UnaryOp):
        if not isinstance(node.operand, ast.Constant):
            raise NotCalls("a sign before something that is not a literal")
        return -node.operand.value                       # whatever the sign is
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.BinOp):
        return compute(node)
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call):
        return _call(node) if node.keywords else ast.unparse(node)
    if isinstance(node, ast.Subscript):
        return f"{ast.unparse(node.value)}[{ast.unparse(node.slice)}]"
    raise NotCalls(f"{type(node).__name__} is not a value")
