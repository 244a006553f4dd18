"""The few operations that the leaderboard lets Python evaluate (`2 + 3`, `'a' * 3`), without running anything.

Every result is bounded in size; nothing is compiled or executed.
"""

import ast
import operator
import re
from typing import Any

MAX_BITS = 100_000              # of a computed integer
MAX_ITEMS = 10_000              # of a computed string or list; an answer may hold ten thousand of them

BINARY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
          ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.LShift: operator.lshift,
          ast.RShift: operator.rshift, ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.BitAnd: operator.and_}
UNARY = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert, ast.Not: operator.not_}
COMPARE = {ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
           ast.GtE: operator.ge}
PURE = {"abs": abs, "bool": bool, "float": float, "int": int, "len": len, "max": max, "min": min, "round": round,
        "str": str, "sum": sum}


def compute(node: ast.expr) -> Any:
    """Value of an arithmetic expression over literals; raises one of FAILURES where Python would, or over a bound."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.BinOp):
        left, right = compute(node.left), compute(node.right)
        _check_size(node.op, left, right)
        return BINARY[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp):
        return UNARY[type(node.op)](compute(node.operand))
    if isinstance(node, ast.List):
        return [compute(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(compute(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        return {compute(key): compute(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.Set):
        return {compute(item) for item in node.elts}
    if isinstance(node, ast.Subscript):
        return compute(node.value)[compute(node.slice)]
    if isinstance(node, ast.Slice):
        return slice(*(None if part is None else compute(part) for part in (node.lower, node.upper, node.step)))
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            value = compute(part)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARE:
        return COMPARE[type(node.ops[0])](compute(node.left), compute(node.comparators[0]))
    if isinstance(node, ast.JoinedStr):
        return _format(node.values)
    if isinstance(node, ast.IfExp):
        return compute(node.body if compute(node.test) else node.orelse)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return PURE[node.func.id](*(compute(argument) for argument in node.args))
    raise ValueError(f"{type(node).__name__} is not computed")


def _format(parts: list[ast.expr]) -> str:
    """An f-string without format specifications or conversions."""
    text = ""
    for part in parts:
        if isinstance(part, ast.FormattedValue):
            if part.format_spec is not None or part.conversion != -1:
                raise ValueError("a format specification is not computed")
            part = part.value
        text += str(compute(part))
        if len(text) > MAX_ITEMS:
            raise ValueError("the result would be too large")
    return text


def _check_size(op: ast.operator, left: Any, right: Any) -> None:
    """ValueError before an operation whose result would be huge (`9 ** 9 ** 9`, `'a' * 10 ** 9`)."""
    if isinstance(op, ast.Pow) and isinstance(left, int) and isinstance(right, int):
        size, bound = left.bit_length() * abs(right), MAX_BITS
    elif isinstance(op, ast.LShift) and isinstance(left, int) and isinstance(right, int):
        size, bound = left.bit_length() + right, MAX_BITS
    elif isinstance(op, ast.Mult) and isinstance(left, int) and isinstance(right, int):
        size, bound = left.bit_length() + right.bit_length(), MAX_BITS
    elif isinstance(op, ast.Mult):
        sized, times = (right, left) if isinstance(left, int) else (left, right)
        size, bound = (len(sized) * times if hasattr(sized, "__len__") and isinstance(times, int) else 0), MAX_ITEMS
    elif isinstance(op, ast.Add) and hasattr(left, "__len__") and hasattr(right, "__len__"):
        size, bound = len(left) + len(right), MAX_ITEMS
    elif isinstance(op, ast.Mod) and isinstance(left, (str, bytes)):
        text = left if isinstance(left, str) else left.decode("latin-1")
        size, bound = (1 if re.search(r"[\d*]{4}|\*", text) else 0), 0      # `%9999d`, `%*d`: widths pad without end
    else:
        return
    if size > bound:
        raise ValueError("the result would be too large")
