"""Does a reply in words spell a call after all? What only calls have, wherever in the reply it stands.

Used where a reply as a whole is no call that is read (spelled.py): such a reply is refused, for nobody can tell what of
it was meant, but it is no answer in words. A mention of a tool (`call tide_table() with a harbour`) is no call.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from data.formats.literals import LiteralError, call_at

_Tools = tuple[tuple[str, tuple[str, ...]], ...]             # the tools offered, and their parameters in order

_KEYS = "(?:name|function|tool|action|api|tool_name|function_name|api_name|recipient_name)"
_INPUTS = "(?:arguments|parameters|args|params|(?:(?:tool|action)[ _])?input)"
_DOING = r"(?:(?:call|us|invok|execut|runn)ing|(?:call|use|invoke|execute|run)s)\W+(?:the\W+)?"
_EDGE = r"(?<![A-Za-z0-9_])"        # before a name; letters of scripts without spaces may stand there
_PRINT = r"/?(?:[abipsu]|em|strong|code|tt|kbd|mark|span|li|td|th|h\d|q)\b"    # tags of printed text
_QUOTE = r"\\*[\"']"

# Calls of any tool: its name and its arguments as neighbours in an object, and a call in brackets.
_OF_ANY_TOOL = re.compile(
    rf"{_QUOTE}{_KEYS}{_QUOTE}\s*:\s*{_QUOTE}[^\"'\n\\]{{1,80}}{_QUOTE}\s*,"
    rf"\s*{_QUOTE}{_INPUTS}{_QUOTE}\s*:\s*(?:{_QUOTE})?\{{"
    r"|\[\s*[A-Za-z_][\w.]{0,80}\(\s*\w+\s*=\s*[\"'\d\[{]", re.IGNORECASE)

# What may stand before a call on its line, where the call is all that the line says.
_LEAD = re.compile(r"(?:<[^<>\n]{1,40}>|\[\w{1,20}\])?[^\w\n]*(?:(?:[\w.\[\]]+\s*=|(?:const|let|var)\s+\w+\s*="
                   r"|(?:\w+\s){0,4}\w+\s*:|await|return|yield|print|call|calling|run)[^\w\n]*)*", re.IGNORECASE)
_LINE_ENDS = re.compile(r"[^\w\n<]{0,80}(?:<[^<>\n]{1,40}>)?[^\w\n]{0,80}(?:\n|\Z)")
_BULLET = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s")
_LONGEST_LEAD = 80
_LONGEST_CALL = 400
_CODE = re.compile(r"```|<code>|^\s*Code:", re.MULTILINE)
_DEFINED = re.compile(r"(?:def|function)\s+$")
_SENTENCE_ENDS = re.compile(r"(?<=[^:,：，\s])\s*\n|(?<=[.!?])\s+(?=[^\w\s]*[A-Z])|[。！？]")
_WORD_ENDS = re.compile(r"[-_ ]|(?<=[a-z])(?=[A-Z])")       # inside of a name


def calls_among_words(body: str, names: Mapping[str, Sequence[str]]) -> bool:
    """Do words surround, or does a broken text spell, what can only be a call?

    Args:
        body: a reply, thoughts removed.
        names: the tools offered with it, and the names of their parameters in order.
    """
    tools = tuple((name, tuple(names[name])) for name in names)
    fields, named = _patterns(tools)
    spelled = fields.search(body) is not None or _OF_ANY_TOOL.search(body) is not None
    return spelled or _gives_values(body, tools) or any(_is_call(body, start, names) for start in named.finditer(body))


def _gives_values(body: str, tools: _Tools) -> bool:
    """Does a sentence name a tool and give a value to one of its own parameters: `p=1`, `p := 1`, `--p 1`?"""
    sentences = [sentence for sentence in _SENTENCE_ENDS.split(body) if "=" in sentence or "--" in sentence]
    return any(name.search(sentence) and given.search(sentence)
               for sentence in sentences for name, given in _names_and_values(tools))


@lru_cache(maxsize=256)
def _names_and_values(tools: _Tools) -> list[tuple[re.Pattern[str], re.Pattern[str]]]:
    """Of each tool with parameters: its name, and one of its parameters with a value, however words are joined."""
    out = []
    for name, parameters in tools:
        parameters = [parameter for parameter in parameters if any(map(str.isalnum, parameter))]
        own = "(?:" + "|".join(map(_joined, parameters)) + ")"
        given = rf"{_EDGE}{own}[\"'`*]{{0,3}}\s*:?=(?!=)|(?<!\w)--{own}(?![A-Za-z0-9_])"
        if parameters and any(map(str.isalnum, name)):
            out.append((re.compile(rf"{_EDGE}{_joined(name)}(?![A-Za-z0-9_])", re.IGNORECASE),
                        re.compile(given, re.IGNORECASE)))
    return out


def _joined(name: str) -> str:
    """The pattern of a name whose words may be joined in another way: `tide_table`, `tide-table`, `tideTable`."""
    return "[-_ ]?".join(map(re.escape, _WORD_ENDS.split(name)))


def _is_call(body: str, start: re.Match[str], names: Mapping[str, Sequence[str]]) -> bool:
    """Is a tool's name before a bracket a call, rather than a mention: one with values, in code, or alone on a line?"""
    try:
        _, arguments, _ = call_at(body, start.start("name"), dict(names))
    except LiteralError:
        arguments = {}
    return bool(arguments) or start.start() == 0 or _in_code(body, start.start()) or _fills_its_line(body, start)


def _in_code(body: str, at: int) -> bool:
    """Does the place stand behind the start of code that goes on, and define nothing there?"""
    marks = [mark.group() for mark in _CODE.finditer(body, 0, at)]
    opened = marks.count("```") % 2 == 1 or len(marks) > marks.count("```")
    return opened and _DEFINED.search(body, max(0, at - 20), at) is None


def _fills_its_line(body: str, start: re.Match[str]) -> bool:
    """Is the call all that its line says, but for an assignment, a label or a mark? An entry of a list is none."""
    before = body[body.rfind("\n", 0, start.start()) + 1:start.start()]
    if len(before) > _LONGEST_LEAD or _BULLET.match(before) or _LEAD.fullmatch(before) is None:
        return False
    depth = 1
    for at in range(start.end(), min(len(body), start.end() + _LONGEST_CALL)):
        depth += (body[at] == "(") - (body[at] == ")")
        if depth == 0:
            return _LINE_ENDS.match(body, at + 1) is not None
    return len(body) < start.end() + _LONGEST_CALL          # it breaks off


@lru_cache(maxsize=256)
def _patterns(tools: _Tools) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """(the ways to name a tool that only calls have, a name before a bracket)."""
    names = sorted((name for name, _ in tools), key=len, reverse=True)
    bare = "(?:" + "|".join(re.escape(name) for name in names) + ")"
    one = "(?:functions\\.)?" + bare + r"(?::\d+)?"
    keys, inputs, quote = _KEYS, _INPUTS, _QUOTE
    ways = (rf"{quote}{keys}{quote}\s*:\s*{quote}{one}{quote}", rf"{quote}{one}{quote}\s*:\s*[\[{{]",
            rf"<{one}(?:\s[^<>]*)?/?>", rf"<(?!{_PRINT})[^<>\n]{{1,40}}>\s*{one}\s*</", rf"\bcall:\s*{one}\s*[({{]",
            rf"{_EDGE}{one}\(\s*\{{", rf"{_EDGE}{one}(?![A-Za-z0-9_])[^\n{{}}]{{0,40}}\{{\s*[\"']",
            rf"<[^<>\n]*\b(?:id|{keys})\s*=\s*[\"']?{one}[\"'\s/>]",
            rf"\[\s*{one}\s*\(", rf"^\W*{one}[\s:(`]*(?:```\w*\s*)?\{{",
            rf"^\W*{keys}\W*:\W*{one}\W*\n\W*{inputs}\W*:",
            rf"^\W*Action\W*\d*\W*:\W*{one}(?:\s*\[[^\n]*\])?\W*$",
            rf"\bto\s*=\s*[\"']?{one}\b", rf"{_EDGE}{one}\W{{0,6}}\{{\s*[\"']",
            rf"\A(?:[/@!#]{{1,3}}|\$\s?){one}(?!\w)",
            rf"\A\W*(?:```\w*\s*)?{keys}\W{{0,3}}\d*\W*:\W*{one}(?!\w)", rf"\b{keys}\s*=\s*[\"']{one}[\"']",
            rf"\A\W*(?:{_DOING})?(?:tool|function|api)(?:[ _-](?:calls?|used?|name|request|invocation))?"
            rf"\W{{0,3}}\d*\W*:\W*{one}(?!\w)",
            rf"^\W*{_DOING}(?:(?:tool|function|api)\W+)?{one}\W*(?:$|\b(?:with|on|for)\b)",
            rf"{_EDGE}{one}\s+--\w|\(\s*{one}\s+:\w",
            rf"{_EDGE}{one}\.(?:a?invoke|a?run|call|execute)\(", rf"\[{quote}{one}{quote}\]\s*\(",
            rf"\b(?:call|use|run|invoke|execute)\w*\(\s*{quote}{one}{quote}",
            rf"\A(?-i:CALL|RUN|EXEC|EXECUTE|INVOKE|USE|GET|POST|PUT)\W+{one}(?!\w)",
            rf"^[^\n]{{0,60}}(?:[:=→]|->|=>)[\s`\"'*(\[]*{one}[\s`\"'*)\].;!(]*\Z",
            rf"\A(?:\W*```\w+\s)?\W*{one}(?:\W+(?:(?:and|then)\W+)?{one})*\W*\Z",
            *(_with_its_parameters(name, parameters) for name, parameters in tools if parameters))
    odd = "|".join(re.escape(name) for name in names if not name.replace(" ", "").isalpha())
    ways += (rf"\A\W*(?:{odd})\W+\w+\W*\Z",) if odd else ()         # an identifier and one more word
    any_way = re.compile("|".join(f"(?:{way})" for way in ways), re.IGNORECASE | re.MULTILINE)
    return any_way, re.compile(rf"{_EDGE}(?<!\.)(?:[A-Za-z_]\w{{0,40}}\.){{0,3}}(?P<name>{bare})\(")


def _with_its_parameters(name: str, parameters: tuple[str, ...]) -> str:
    """The pattern of a tool's name just before one of its own parameters and a value: `name p=1`, `name: {p: 1`."""
    own = "(?:" + "|".join(re.escape(parameter) for parameter in parameters) + ")"
    between = r"(?=\s*[^\w\s])\W{1,12}"
    return (rf"{_EDGE}{re.escape(name)}(?:\W{{1,12}}{own}[\"']?\s*=(?!=)|{between}{own}[\"']?\s*:)"
            rf"|\A\W*{re.escape(name)}\W*\n\W*{own}[\"']?\s*[:=]")
