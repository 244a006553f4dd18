"""The values that a schema names (enum, default, bounds), as the record has them, and the notes of what was changed."""

from dataclasses import dataclass, field
from typing import Any

from data.formats.keywords import BOUNDS, COUNTS, Schema, names_of
from data.formats.typewords import TypeInfo, value_of_type
from data.values import IS_TYPE

VALUES = ("enum", "allowed_values", "possible_values")
DEFAULTS = ("default", "default_value")
ABOUT_KEYS = ("minProperties", "maxProperties", "dependentRequired")    # what a record carries about an object's keys
KEPT = (*BOUNDS, "minItems", "maxItems", "minLength", "maxLength", "uniqueItems", "format", "examples")    # and values
NAMED = (*KEPT, *VALUES, *DEFAULTS)                                     # all about a value


@dataclass
class Changes:
    """What reading one tool changed or left out; the module docstring of tooldocs.py says what stands where."""

    types: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    nulls: list[str] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        found = {"types": self.types, "values": self.values, "dropped": sorted(self.dropped), "nulls": self.nulls}
        return {key: value for key, value in found.items() if value}

    def drop(self, spec: Schema, read: set[str]) -> None:
        self.dropped.update(key for key in spec if key not in read)


def first(obj: dict[str, Any], keys: tuple[str, ...]) -> Any:
    """The value of the first of the keys that is there and not null."""
    for key in keys:
        if obj.get(key) is not None:
            return obj[key]
    return None


def put_enum(spec: Schema, info: TypeInfo, out: Schema, path: str, changes: Changes) -> None:
    """The values that an argument may take, of its type; null among them where it may be null."""
    kind = info.schema["type"]
    enum = first(spec, VALUES) or info.schema.get("enum")
    if enum is None and "const" in spec:
        enum = [spec["const"]]
    if not isinstance(enum, list) or not enum or len(enum) == 1 and enum[0] in ("", None):
        if enum is not None and enum != [] and kind != "null":
            changes.values[path + ".enum"] = enum
        return
    keeps_null = info.nullable or kind in ("any", "null")
    typed = [value if value is None or IS_TYPE[kind](value) else value_of_type(value, kind) for value in enum
             if value is not None or keeps_null]
    fits = all(value is not None or given is None for value, given in
               zip(typed, [value for value in enum if value is not None or keeps_null], strict=True))
    if typed and fits:
        told = spec.get("nullable") is True or not isinstance(spec.get("type"), list)   # beside the enum, not under it
        out["enum"] = [*typed, None] if info.nullable and told and None not in typed else typed
    if typed != enum or "enum" not in out:
        changes.values[path + ".enum"] = enum


def put_default(spec: Schema, kind: str, out: Schema, path: str, changes: Changes) -> None:
    """The default, of the argument's type; one that is not is left out and noted, as is null."""
    default = first(spec, DEFAULTS)
    if default is None:
        if any(key in spec for key in DEFAULTS):
            changes.values[path + ".default"] = None
        return
    typed = default if IS_TYPE[kind](default) else value_of_type(default, kind)
    if typed is not None:
        out["default"] = typed
    if typed is None or type(typed) is not type(default):
        changes.values[path + ".default"] = default


def put_constraint(key: str, value: Any, out: Schema, dot: str, changes: Changes) -> None:
    """A keyword that bounds a value, where its own value has the shape that the keyword asks for."""
    typed = value
    if key in BOUNDS or key in COUNTS:
        typed = value_of_type(value, "number") if isinstance(value, str) else value
        fits = isinstance(typed, int | float) and not isinstance(typed, bool) and (
            key in BOUNDS or typed >= 0 and float(typed).is_integer()) and (key != "multipleOf" or typed > 0)
    elif key == "dependentRequired":
        fits = isinstance(value, dict) and all(names == names_of(names) for names in value.values())
    else:
        fits = key == "examples" or isinstance(value, bool if key == "uniqueItems" else str)
    if fits:
        out[key] = typed
    if not fits or typed is not value:
        changes.values[dot + key] = value
