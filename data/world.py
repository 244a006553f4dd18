"""The generated tool world behind the embedded default: tools, labelled examples, new queries, and test items.

Nothing is downloaded and nothing is random beyond the seed. A tool is a verb applied to an object of one of 22 domains,
with one to four arguments drawn from the domain's fields; a request names the tool in other words and gives some of the
values in clauses, so the right calls are known by construction. What training may see and what only tests may see is
kept apart three ways:

- domains: `labelled` (labelled examples), `unlabelled` (queries without labels), `heldout` (in no training text);
- tools: a quarter of the (verb, object) pairs of every domain is for testing only;
- values: names, titles, dates, numbers, codes ... come from a training pool or from a testing pool, never from both
  (booleans and the words of an enum belong to the tool's definition and are the exception).

Categories are those of BFCL (Patil et al. 2024): `simple`, `multiple`, `parallel`, `parallel_multiple`, and
`irrelevance`, where no offered tool can serve the request and the right answer is no call. Left out: the general text
of the embedded model's pre-training (data/world_text.py) and any judging beyond `value_match`.
"""

import hashlib
import json
import random
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from data import world_lexicon as lexicon
from data.schema import Example, Query, Tool, ToolCall, leaves

CATEGORIES = ("simple", "multiple", "parallel", "parallel_multiple", "irrelevance")
CATEGORY_WEIGHTS = (0.28, 0.32, 0.15, 0.15, 0.10)
GROUPS = ("labelled", "unlabelled", "heldout")
VERSIONS = 6             # how many variants of each (verb, object) tool exist: other arguments, names and spellings
TEST_SHARE = 4           # one (verb, object) pair in four is for testing only


@dataclass(frozen=True)
class Field:
    """One argument of one tool: how it is named and described there, and which clauses give its value in a request."""

    kind: str
    name: str
    description: str
    clauses: tuple[str, ...]
    choices: tuple[str, ...] = ()
    prefix: str = ""
    required: bool = True


@dataclass(frozen=True, eq=False)
class WorldTool:
    """A tool together with what the generator knows of it."""

    domain: str
    verb: str
    object_phrases: tuple[str, ...]
    fields: tuple[Field, ...]
    tool: Tool


@dataclass(frozen=True)
class Request:
    """A query with the calls that are right for it, by construction."""

    query: str
    calls: tuple[ToolCall, ...]
    used: tuple[WorldTool, ...]


def domains(group: str) -> list[str]:
    return [name for name, spec in lexicon.DOMAINS.items() if spec["group"] == group]


def is_test_pair(domain: str, verb: str, obj: str) -> bool:
    """True when the tools of this (verb, object) pair are for testing only; heldout domains are wholly so."""
    hashed = zlib.crc32(f"{domain}/{verb}/{obj}".encode())
    return lexicon.DOMAINS[domain]["group"] == "heldout" or hashed % TEST_SHARE == 0


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


# ---------------------------------------------------------------------------------------------------------------- tools

def _split(text: str, separator: str) -> list[str]:
    return [part for part in text.split(separator) if part]


@cache
def domain_objects(domain: str) -> tuple[tuple[str, ...], ...]:
    """Each object as (canonical name, other phrases ...)."""
    return tuple(tuple(_split(o.replace("=", ","), ",")) for o in _split(lexicon.DOMAINS[domain]["objects"], ";"))


@cache
def pairs(domain: str, split: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """All (verb, object phrases) of a domain in one split, "train" or "test"."""
    verbs = lexicon.DOMAINS[domain]["verbs"].split()
    return tuple((v, o) for v in verbs for o in domain_objects(domain)
                 if is_test_pair(domain, v, o[0]) == (split == "test"))


def _domain_fields(domain: str, obj: str, rng: random.Random) -> list[Field]:
    """Every field a tool of this domain may have, in the wording that `rng` picks."""
    spec, fields = lexicon.DOMAINS[domain], []
    for key in spec["fields"].split():
        kind, names, descriptions, clauses = lexicon.FIELDS[key]
        fields.append(Field(kind, rng.choice(names), rng.choice(descriptions).format(o=obj), tuple(clauses)))
    for row in _split(spec["ids"], ";"):
        name, prefix, description, clauses = row.split("|")
        fields.append(Field("code", name, description, tuple(clauses.split("/")), prefix=prefix))
    for row in _split(spec["choices"], ";"):
        name, description, clause, values = row.split("|")
        fields.append(Field("choice", name, description.format(o=obj), (clause,), tuple(values.split(","))))
    for row in _split(spec["switches"], ";"):
        name, description, yes, no = row.split("|")
        fields.append(Field("switch", name, description.format(o=obj), (yes, no)))
    return fields


JSON_TYPES = {
    "person": "string", "email": "string", "phone": "string", "date": "string", "time": "string", "city": "string",
    "title": "string", "website": "string", "code": "string", "choice": "string", "switch": "boolean",
    "integer": "integer", "money": "number", "decimal": "number", "words": "array", "integers": "array",
    "address": "dict", "range": "dict", "period": "dict",
}
NESTED = {"address": {"street": "string", "zip": "string"}, "range": {"low": "integer", "high": "integer"},
          "period": {"start": "string", "end": "string"}}


def _schema(field: Field) -> dict:
    """The property of one field, in the spelling of the paper's prompts."""
    schema: dict = {"type": JSON_TYPES[field.kind], "description": field.description}
    if field.kind == "choice":
        schema["enum"] = list(field.choices)
    if schema["type"] == "array":
        schema["items"] = {"type": "string" if field.kind == "words" else "integer"}
    if field.kind in NESTED:
        schema["properties"] = {name: {"type": word} for name, word in NESTED[field.kind].items()}
    return schema


def parameters_of(fields: Sequence[Field]) -> dict:
    """The `parameters` of a tool with these fields."""
    return {"type": "dict", "properties": {f.name: _schema(f) for f in fields},
            "required": [f.name for f in fields if f.required]}


def tool_name(verb: str, obj: str, domain: str, style: int) -> str:
    words = [verb, *obj.split()]
    if style == 0:
        return verb + "".join(w.capitalize() for w in words[1:])
    if style == 1:
        return f"{domain}.{'_'.join(words)}"
    return "_".join(words)


@cache
def make_tool(domain: str, verb: str, object_phrases: tuple[str, ...], version: int) -> WorldTool:
    """Version `version` of the tool for (verb, object): its own arguments, wording and spelling of its name."""
    rng = random.Random(f"tool/{domain}/{verb}/{object_phrases[0]}/{version}")
    obj = object_phrases[0]
    candidates = _domain_fields(domain, obj, rng)
    rng.shuffle(candidates)
    fields, kinds = [], set()
    for field in candidates[: rng.choice((1, 2, 2, 3, 3, 4))]:
        if field.kind in kinds and field.kind not in ("choice", "switch"):
            # two cities or two dates in one tool only by their own clauses
            continue
        kinds.add(field.kind)
        fields.append(Field(**{**field.__dict__, "required": not fields or rng.random() < 0.7}))
    description = f"{lexicon.VERBS[verb][0].capitalize()} {article(obj)}."
    name = tool_name(verb, obj, domain, rng.randrange(6))
    return WorldTool(domain, verb, object_phrases, tuple(fields), Tool(name, description, parameters_of(fields)))


def world_tools(group: str, split: str) -> list[WorldTool]:
    """Every tool of a group of domains in one split, in a fixed order."""
    return [make_tool(d, verb, obj, version) for d in domains(group) for verb, obj in pairs(d, split)
            for version in range(VERSIONS)]


# --------------------------------------------------------------------------------------------------------------- values

def number_in(rng: random.Random, low: int, high: int, test: bool) -> int:
    """An integer in [low, high]; n % 4 == 3 is kept for testing."""
    while True:
        n = rng.randint(low, high)
        if (n % 4 == 3) == test:
            return n


def _date(rng: random.Random, test: bool) -> str:
    return f"{rng.randint(2024, 2027)}-{rng.randint(1, 12):02d}-{number_in(rng, 1, 28, test):02d}"


def _person(rng: random.Random, test: bool) -> tuple[str, str]:
    return (rng.choice(lexicon.FIRST_NAMES[test]),
            rng.choice(lexicon.LAST_STARTS[test]) + rng.choice(lexicon.LAST_ENDS[test]))


def listing(items: list[str]) -> str:
    return ", ".join(items[:-1]) + " and " + items[-1] if len(items) > 1 else items[0]


def draw_value(field: Field, rng: random.Random, test: bool) -> tuple[object, str]:
    """(JSON value, how the request spells it), from the testing or the training pool."""
    kind = field.kind
    if kind == "switch":
        return rng.random() < 0.5, ""
    value = rng.choice(field.choices) if kind == "choice" else _DRAW[kind](rng, test, field)
    if kind in ("words", "integers"):
        return value, listing([str(item) for item in value])
    if kind in NESTED:
        first, last = value.values()
        between = {"address": ", ", "range": " and " if field.clauses[0].startswith("between") else " to ",
                   "period": " to "}[kind]
        return value, f"{first}{between}{last}"
    return value, str(value)


def _email(rng: random.Random, test: bool, field: Field) -> str:
    first, last = _person(rng, test)
    return f"{first}.{last}@{rng.choice(lexicon.MAIL_HOSTS[test])}".lower()


def _time(rng: random.Random, test: bool, field: Field) -> str:
    minutes = (15, 45) if test else (0, 5, 10, 20, 25, 30, 35, 40, 50, 55)
    return f"{rng.randint(6, 22):02d}:{rng.choice(minutes):02d}"


def _city(rng: random.Random, test: bool) -> str:
    return rng.choice(lexicon.CITY_STARTS[test]) + rng.choice(lexicon.CITY_ENDS[test])


def _range(rng: random.Random, test: bool, field: Field) -> dict[str, int]:
    low = number_in(rng, 2, 50, test)
    return {"low": low, "high": low + 4 * rng.randint(1, 12)}


# kind -> (rng, test, field) -> the JSON value
_DRAW: dict[str, Callable[[random.Random, bool, Field], object]] = {
    "person": lambda rng, test, field: " ".join(_person(rng, test)),
    "email": _email,
    "phone": lambda rng, test, field: f"{rng.randint(200, 989)}-{number_in(rng, 1000, 9999, test)}",
    "date": lambda rng, test, field: _date(rng, test),
    "time": _time,
    "city": lambda rng, test, field: _city(rng, test),
    "title": lambda rng, test, field: f"{rng.choice(lexicon.TITLE_FIRST[test])} {rng.choice(lexicon.TITLE_LAST[test])}",
    "website": lambda rng, test, field: f"www.{_city(rng, test).lower()}.{rng.choice(('com', 'org', 'net'))}",
    "code": lambda rng, test, field: f"{field.prefix}-{number_in(rng, 1000, 9999, test)}",
    "integer": lambda rng, test, field: number_in(rng, 2, 90, test),
    "money": lambda rng, test, field: number_in(rng, 5, 900, test) + rng.choice((0, 0, 0.25, 0.5, 0.75)),
    "decimal": lambda rng, test, field: number_in(rng, 2, 90, test) + rng.randint(1, 9) / 10,
    "words": lambda rng, test, field: rng.sample(lexicon.TAG_WORDS[test], rng.choice((2, 2, 3))),
    "integers": lambda rng, test, field: [number_in(rng, 2, 90, test) for _ in range(rng.choice((2, 2, 3)))],
    "address": lambda rng, test, field: {
        "street": f"{number_in(rng, 1, 200, test)} {rng.choice(lexicon.STREETS[test])} Street",
        "zip": str(number_in(rng, 10000, 99999, test))},
    "range": _range,
    "period": lambda rng, test, field: dict(zip(("start", "end"), sorted((_date(rng, test), _date(rng, test))))),
}


# ------------------------------------------------------------------------------------------------------------- requests

def clause(field: Field, rng: random.Random, test: bool) -> tuple[object, str]:
    """(JSON value, the clause that gives it)."""
    value, surface = draw_value(field, rng, test)
    if field.kind == "switch":
        return value, field.clauses[0] if value else field.clauses[1]
    return value, rng.choice(field.clauses).format(v=surface)


def one_call(tool: WorldTool, rng: random.Random, test: bool) -> tuple[str, ToolCall]:
    """(request phrase in small letters, the call it asks for). Optional arguments are given half of the time."""
    given = [f for f in tool.fields if f.required or rng.random() < 0.5]
    values = {f.name: clause(f, rng, test) for f in given}
    clauses = [text for _, text in values.values()]
    rng.shuffle(clauses)
    phrase = rng.choice(lexicon.VERBS[tool.verb])
    noun = article(rng.choice(tool.object_phrases))
    return " ".join([phrase, noun, *clauses]), ToolCall(tool.tool.name,
                                                        {name: value for name, (value, _) in values.items()})


def frame(text: str, domain: str, rng: random.Random) -> str:
    shifted = lexicon.DOMAINS[domain]["group"] != "labelled"
    template = rng.choice(lexicon.FRAMES + lexicon.SHIFTED_FRAMES if shifted else lexicon.FRAMES)
    sentence = template.format(r=text)
    return sentence[0].upper() + sentence[1:]


def request(tools: list[WorldTool], rng: random.Random, test: bool) -> Request:
    """A query that asks for one call of each tool of the list (a tool may stand in it twice), in that order."""
    parts: list[tuple[str, ToolCall]] = []
    while len(parts) < len(tools):
        part = one_call(tools[len(parts)], rng, test)
        if part[1] not in [call for _, call in parts]:                 # the same call twice would be one call
            parts.append(part)
    query = frame(parts[0][0], tools[0].domain, rng)
    for text, _ in parts[1:]:
        query = rng.choice(lexicon.JOINS).format(a=query, b=text + ".")
    return Request(query, tuple(call for _, call in parts), tuple(dict.fromkeys(tools)))


def distinct(tools: list[WorldTool]) -> list[WorldTool]:
    """One version of each (domain, verb, object): two versions side by side could both serve a request."""
    kept = {}
    for tool in tools:
        kept.setdefault((tool.domain, tool.verb, tool.object_phrases[0]), tool)
    return list(kept.values())


def distractors(used: list[WorldTool], pool: list[WorldTool], n: int, rng: random.Random) -> list[WorldTool]:
    """`n` tools that cannot serve the request: two in three from the same domain where it has enough."""
    near = [t for t in pool if t.domain == used[0].domain]
    picked: list[WorldTool] = []
    while len(picked) < n:
        candidate = rng.choice(near if rng.random() < 0.67 else pool)
        if len(distinct([*used, *picked, candidate])) == len(used) + len(picked) + 1:
            picked.append(candidate)
    return picked


def few_values(tool: WorldTool) -> bool:
    """True if a tool is too poor to be called three times with different values."""
    return all(field.kind in ("switch", "choice") for field in tool.fields)


def draw(rng: random.Random, pool: list[WorldTool], category: str, test: bool) -> tuple[Request, list[WorldTool]]:
    """A request of one category, and the tools offered with it."""
    first = rng.choice(pool)
    wanted = [first]
    if category == "parallel":
        while few_values(first):
            first = rng.choice(pool)
        wanted = [first] * rng.choice((2, 2, 3))
    if category == "parallel_multiple":
        wanted += distractors([first], pool, 1, rng)
    made = request(wanted, rng, test)
    extra = {"simple": 0, "parallel": 0, "multiple": rng.randint(1, 3), "parallel_multiple": rng.randint(0, 2),
             "irrelevance": rng.randint(1, 3)}
    offered = distractors(list(made.used), pool, extra[category], rng)
    if category == "irrelevance":
        return Request(made.query, (), ()), offered
    offered += made.used
    rng.shuffle(offered)
    return made, offered


def examples(n: int, *, group: str, split: str, seed: int) -> list[Example]:
    """`n` labelled examples from one group of domains; `source` is "world/DOMAIN/CATEGORY".

    The same (n, group, split, seed) gives the same examples on every machine. No query is repeated.
    """
    rng = random.Random(f"examples/{group}/{split}/{seed}")
    pool, seen, found = world_tools(group, split), set(), []
    while len(seen) < n:
        category = rng.choices(CATEGORIES, CATEGORY_WEIGHTS)[0]
        made, offered = draw(rng, pool, category, split == "test")
        if made.query in seen:
            continue
        seen.add(made.query)
        domain = made.used[0].domain if made.used else offered[0].domain
        found.append(Example(id=f"{group}-{split}-{seed}-{len(seen):05d}", query=made.query,
                             tools=tuple(t.tool for t in offered), calls=made.calls,
                             source=f"world/{domain}/{category}"))
    return found


def queries(n: int, *, seed: int, group: str = "unlabelled") -> tuple[list[Query], dict[str, list[dict]]]:
    """`n` new user queries without labels, and what each really asks for: id -> [{"name", "arguments"}], kept apart.

    The second value is never given to training. It lets answers over self-made tools be judged, see `value_match`.
    """
    labelled = labelled_queries(n, seed=seed, group=group)
    return ([Query(example.id, example.query) for example in labelled],
            {example.id: [call.to_dict() for call in example.calls] for example in labelled})


def labelled_queries(n: int, *, seed: int, group: str = "unlabelled") -> list[Example]:
    """The queries of `queries` with the tools that they are about and their right calls, as a perfect teacher says."""
    rng = random.Random(f"queries/{group}/{seed}")
    pool, found = world_tools(group, "train"), []
    seen: set[str] = set()
    while len(found) < n:
        category = rng.choices(CATEGORIES[:4], CATEGORY_WEIGHTS[:4])[0]
        made, offered = draw(rng, pool, category, False)
        if made.query in seen:
            continue
        seen.add(made.query)
        found.append(Example(id=f"query-{seed}-{len(found) + 1:05d}", query=made.query,
                             tools=tuple(t.tool for t in offered), calls=made.calls, source="world/truth"))
    return found


def tool_documents(n: int, *, seed: int) -> list[Tool]:
    """`n` tool documents for tool documentation adaption, from the labelled and unlabelled domains' training tools."""
    pool = [t.tool for group in ("labelled", "unlabelled") for t in world_tools(group, "train")]
    return random.Random(f"documents/{seed}").sample(pool, min(n, len(pool)))


def test_items(n_labelled: int, n_unlabelled: int, n_heldout: int, *, seed: int) -> list[Example]:
    """The test set of one seed: tools and values never seen in training, by group of domains."""
    counts = dict(zip(GROUPS, (n_labelled, n_unlabelled, n_heldout)))
    return [item for group in GROUPS for item in examples(counts[group], group=group, split="test", seed=seed)]


def training_data(seed: int, *, tools: int = 800, labelled: int = 1500) -> dict[str, list]:
    """{"tools", "examples"}: what the demo trains its first two stages on."""
    return {"tools": tool_documents(tools, seed=seed),
            "examples": examples(labelled, group="labelled", split="train", seed=seed)}


# -------------------------------------------------------------------------------------------------------------- judging

def typed_leaves(value: object) -> list[str]:
    """The plain values inside a JSON value, each with its type (5 and 5.0 are one): material for `value_match`."""
    return [json.dumps(float(leaf) if isinstance(leaf, (int, float)) and not isinstance(leaf, bool) else leaf)
            for leaf in leaves(value)]


def value_match(calls: list[ToolCall] | tuple[ToolCall, ...], truth: list[dict]) -> tuple[int, int, int]:
    """(values in both, values in `calls`, values in `truth`), as multisets over all calls, argument names set aside.

    Self-made tools name their arguments as they like, so only values can be compared: precision is the first figure
    over the second, recall the first over the third.
    """
    made = [leaf for call in calls for leaf in typed_leaves(call.arguments)]
    right = [leaf for call in truth for leaf in typed_leaves(call["arguments"])]
    return (Counter(made) & Counter(right)).total(), len(made), len(right)


def wholly_right(calls: list[ToolCall] | tuple[ToolCall, ...], truth: list[dict]) -> bool:
    """Every value of the truth, and no other; names of tools and arguments set aside."""
    right, made, said = value_match(calls, truth)
    return right == made == said


def fingerprint() -> str:
    """sha256 over a fixed draw from every part: the world is frozen, and this is how a test holds it to that."""
    digest = hashlib.sha256()
    for item in [*test_items(40, 40, 20, seed=0), *examples(40, group="labelled", split="train", seed=0)]:
        digest.update(json.dumps(item.to_dict(), sort_keys=True).encode())
    for query in queries(40, seed=0)[0]:
        digest.update(query.query.encode())
    return digest.hexdigest()
