"""The nulls that tables write into calls.

Arrow and Parquet give every row of a column the same keys: where another row has an argument, this one gets null. Such
a null is no value; a null that the tool's schema allows is one and stays.
"""

from collections.abc import Sequence
from typing import Any

from data.formats.typewords import is_nullable

Record = dict[str, Any]


def without_nulls(calls: Sequence[Record], tools: Sequence[tuple[Record, Sequence[str]]]) -> list[Record]:
    """The calls without the nulls that a table left in them.

    A null goes where its tool has no such argument and takes no others, and where the tool's own definition of it is
    null. Where a row shows such a null, or one under a keyword, it came out of a table, and the null of an argument
    that may be left out and is not nullable goes, too. Every other null is the label's own, right or wrong.

    Args:
        calls: {"name", "arguments"} each.
        tools: the tool records of the row, and the paths of the properties that were null in each.
    """
    known = {record["name"]: (record["arguments"], frozenset(nulls)) for record, nulls in reversed(tools)}
    told = [(call, *known[call["name"]]) if call["name"] in known else (call, None, frozenset()) for call in calls]
    table = any(nulls for _, nulls in tools)
    once = [_without(call["arguments"], schema, nulls, "", table=False) for call, schema, nulls in told]
    if not table and once == [call["arguments"] for call in calls]:
        return list(calls)
    return [{**call, "arguments": _without(call["arguments"], schema, nulls, "", table=True)}
            for call, schema, nulls in told]


def _without(value: Any, schema: Any, nulls: frozenset[str], path: str, *, table: bool) -> Any:
    if not isinstance(schema, dict) or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        return [_without(item, schema.get("items"), nulls, f"{path}.items", table=table) for item in value]
    properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
    closed = extra is None and bool(properties or not path)
    out = {}
    for name, item in value.items():
        place = f"{path}.{name}" if path else name
        if item is None and name not in properties and (closed or place in nulls):
            continue
        optional = name in properties and name not in schema.get("required", ()) and not is_nullable(properties[name])
        if item is None and table and optional:
            continue
        out[name] = _without(item, properties.get(name, extra), nulls, place, table=table)
    return out
