"""Type words of the corpora -> the canonical words of data/schema.py, as small schemas.

`str, optional`, `List[Union[int, float]]`, `HashMap`, `array of strings`, `DATEPICKER`, `["string", "null"]`: what a
word says beyond the canonical words (the item type, that the parameter may be left out or be null) is kept; what cannot
be kept (value types of mappings, members of a mixed union) is for the caller to record with the original word.
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from data.formats.literals import LiteralError, parse_literal
from data.schema import TYPE_WORDS
from data.values import IS_TYPE

# Words of web forms, documents and program libraries, beyond those that data/schema.py knows.
_MORE_WORDS = {word: kept for kept, words in {
    "string": "strings credentials select binary datepicker date time datetime date-time timestamp geopoint file url "
              "uri link email password path enum image audio video html json xml base64 uuid id phone color regex "
              "bytes "
              "textarea option choice unicode varchar year month day duration timedelta currency address country city",
    "integer": "integers ints counter int8 int16 uint uint8 uint16 uint32 uint64 biginteger",
    "number": "numbers floats numeric real complex percentage range latitude longitude bigdecimal",
    "boolean": "booleans bools checkbox flag switch",
    "array": "arrays lists sequence iterable collection vector frozenset series ndarray queue multiselect vec "
             "linkedlist hashset treeset linkedhashset stack deque",
    "dict": "objects dicts mapping ordereddict defaultdict record struct dictionaries maps linkedhashmap treemap "
            "concurrenthashmap",
    "null": "nonetype",
    "any": "unknown mixed variant callable function generic undefined void",
}.items() for word in words.split()}
_WORDS = {**_MORE_WORDS, **TYPE_WORDS}
_CONTAINER = re.compile(r"(?P<head>[\w.\- ]+?)\s*(?P<open>[\[(<])(?P<body>.*)[\])>]$", re.DOTALL)
_OPTIONAL = re.compile(r"\s*(?:(?:[,;|]|-\s)\s*(?:optional|nullable)\b.*|[(\[]\s*optional\b[^()\[\]]*[)\]]\.?"
                       r"|\s+or\s+(?:none|null))\s*$", re.IGNORECASE | re.DOTALL)
_OR_NULL = re.compile(r"\s+or\s+(?:none|null)\s*$|[,;|]\s*nullable\b", re.IGNORECASE)
_OPTIONAL_FIRST = re.compile(r"\(?optional\)?\s+", re.IGNORECASE)
_GIVEN = re.compile(r"(?P<word>[\w.]+)\s*=\s*[^=\s]")        # `int = 1`: its default
_TOLD = re.compile(r"\s*[,(]\s*(?:required\b|(?P<default>default)\b).*$", re.IGNORECASE | re.DOTALL)
_LIST_OF = re.compile(r"(?:array|list|set)s?\s+of\s+(?P<item>.+?)(?:\s+with length \d+)?$", re.IGNORECASE)
_UNIONS = ("union", "optional", "nullable", "literal", "either", "oneof")
_MAYBE = ("optional", "nullable")


class TypeInfo(NamedTuple):
    """What a type word means: a schema ({"type", "items"?, "enum"?}) without null, may it be left out, were all words
    known, may it be null."""

    schema: dict[str, Any]
    optional: bool = False
    known: bool = True
    nullable: bool = False


@lru_cache(maxsize=4096)
def read_type(word: str) -> TypeInfo:
    """The meaning of one type word. The schema is shared between calls: copy it before changing it."""
    text = word.strip()
    if text.lower() in _WORDS:
        return TypeInfo({"type": _WORDS[text.lower()]})
    if text.startswith("[") and text.endswith("]"):             # a list of types, as a text
        return _union([read_type(part.strip("'\" ")) for part in _split(text[1:-1])] or [TypeInfo({"type": "any"})])
    shorter = _OPTIONAL.sub("", text)
    if shorter != text:
        info = read_type(shorter)
        return info._replace(optional=True, nullable=info.nullable or _OR_NULL.search(text) is not None)
    if first := _OPTIONAL_FIRST.match(text):
        return read_type(text[first.end():])._replace(optional=True)
    given = _GIVEN.match(text)
    if given and read_type(given["word"]).known:
        return read_type(given["word"])._replace(optional=True)
    if text.endswith("?"):
        return read_type(text[:-1])._replace(optional=True, nullable=True)
    told = _TOLD.search(text)
    if told and told.start():
        info = read_type(text[:told.start()])
        return info._replace(optional=info.optional or told["default"] is not None)
    members = _split(text, "|")
    if len(members) > 1:
        return _union([read_type(part) for part in members])
    if text.endswith("[]"):
        return _array_of([text[:-2]])
    match = _LIST_OF.match(text)
    if match:
        return _array_of([match["item"].rstrip()])
    members = re.split(r"\s+or\s+", text, flags=re.IGNORECASE)
    if len(members) > 1 and all(read_type(member).known for member in members):
        return _union([read_type(member) for member in members])
    match = _CONTAINER.match(text)
    if match:
        return _container(match["head"].strip().lower().rpartition(".")[2], match["body"])
    last = text.lower().rpartition(".")[2]
    return TypeInfo({"type": _WORDS[last]}) if last in _WORDS else TypeInfo({"type": "any"}, known=False)


def _container(head: str, body: str) -> TypeInfo:
    parts = _split(body)
    if head == "literal":
        return _literal(body, parts)
    if head in _UNIONS:
        info = _union([read_type(part) for part in parts])
        return info._replace(optional=info.optional or head in _MAYBE, nullable=info.nullable or head in _MAYBE)
    kind = _WORDS.get(head)
    if kind == "array":
        return _array_of(parts)
    return TypeInfo({"type": kind or "any"}, known=kind is not None)


def _literal(body: str, parts: list[str]) -> TypeInfo:
    """`Literal['a', 2]`: the values, None among them meaning optional, and the type that they share."""
    try:
        values = parse_literal(f"[{body}]")
    except LiteralError:
        values = [part.strip("'\" ") for part in parts]
    solid = [value for value in values if value is not None]
    kinds = ("string", "boolean", "integer", "number")
    kind = next((kind for kind in kinds if all(map(IS_TYPE[kind], solid))), "any")
    nullable = len(solid) < len(values)
    return TypeInfo({"type": kind, "enum": solid} if solid else {"type": "null"}, nullable, nullable=nullable)


def _array_of(parts: list[str]) -> TypeInfo:
    """An array; its items get a type where all the parts agree on one (`Tuple[float, ...]` has a part that is dots)."""
    infos = [read_type(part) for part in parts if part.strip(". ")]
    union = _union(infos) if infos else TypeInfo({"type": "any"})
    schema: dict[str, Any] = {"type": "array"}
    if union.schema["type"] != "any":
        schema["items"] = with_null(union)
    return TypeInfo(schema, known=all(info.known for info in infos))


def _union(infos: list[TypeInfo]) -> TypeInfo:
    """Several types at once: one where they agree, number for numbers of both kinds, else any. Beside them null means
    optional, too."""
    nullable = any(info.nullable or info.schema["type"] == "null" for info in infos)
    optional = nullable or any(info.optional for info in infos)
    rest = [info for info in infos if info.schema["type"] != "null"]
    schemas = [info.schema for info in rest]
    if not schemas:
        schema = {"type": "null"}
    elif all(schema == schemas[0] for schema in schemas):
        schema = schemas[0]
    elif {schema["type"] for schema in schemas} <= {"integer", "number"}:
        schema = {"type": "number"}
    elif len({schema["type"] for schema in schemas}) == 1:
        schema = {"type": schemas[0]["type"]}
    else:
        schema = {"type": "any"}
    return TypeInfo(schema, optional, all(info.known for info in infos), nullable)


def with_null(info: TypeInfo) -> dict[str, Any]:
    """The schema of a type, null among its types and values where it may be null."""
    schema = dict(info.schema)
    if info.nullable and schema["type"] not in ("any", "null"):
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def is_nullable(schema: dict[str, Any]) -> bool:
    """Does null fit the type of a record's schema?"""
    kind = schema.get("type", "any")
    return bool({"null", "any"} & set(kind if isinstance(kind, list) else [kind]))


def union_of(words: list[str]) -> TypeInfo:
    """The meaning of a JSON Schema list of types."""
    return _union([read_type(word) for word in words])


def _split(body: str, mark: str = ",") -> list[str]:
    """Split at the commas, or at another mark, outside brackets."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(body):
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == mark and depth == 0:
            parts.append(body[start:at].strip())
            start = at + 1
    return [part for part in [*parts, body[start:].strip()] if part]


def value_of_type(value: Any, kind: str) -> Any:
    """A default or enum value written as text ("10", "true") as a value of type `kind`; None where it is not one.

    Raises nothing; only exact spellings are taken ("10" for an integer, not "10 items").
    """
    if not isinstance(value, str) or kind not in ("integer", "number", "boolean"):
        return None
    text = value.strip()
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower())
    if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
        return int(text)
    if kind == "number" and re.fullmatch(r"[+-]?(?:\d{1,18}\.\d{0,18}|\.\d{1,18})", text, re.ASCII):
        return float(text)
    return None
