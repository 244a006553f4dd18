"""The *general* text of the tool world: pre-trained on it, the embedded model stands in for an instruct model.

Chat turns that teach copying, JSON, filling a form from a sentence, choosing the line that fits, names, descriptions
and paraphrases, plus a share of real single tool calls, of requests that no tool can serve, and of tool definitions
from the labelled domains. Only training tools, training values and the labelled and unlabelled domains occur, never the
unlabelled domains' own fields and frames: those a model meets first in the tool documents of stage 1 and in the new
queries of stage 3. The byte-level BPE tokenizer is trained on the same text.
"""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from data import prompts, world, world_words
from data import world_lexicon as lexicon
from data.schema import Tool

SYSTEM = "You are a helpful assistant."
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")          # special
TEMPLATE_TAGS = ("<tool_call>", "</tool_call>", "<tools>", "</tools>")    # added, but shown when decoded, as in Qwen2.5
VOCAB_SIZE = 3072
MADE_UP = 0.75


# ---------------------------------------------------------------------------------------------------------------- tasks

class Writer:
    """Draws the tools that the tasks are about. With share `made_up`, a tool's object, its name and its description are
    made up: a model that has only ever met known names learns to recall them, and cannot copy the name of a tool it
    never met."""

    def __init__(self, rng: random.Random, made_up: float) -> None:
        self.rng, self.made_up = rng, made_up

    def tool(self) -> world.WorldTool:
        return self.vary(self.rng.choice(_pool()))

    def vary(self, tool: world.WorldTool, fields: bool = True) -> world.WorldTool:
        return made_up_tool(tool, self.rng, fields) if self.rng.random() < self.made_up else tool

    def others(self, used: list[world.WorldTool], n: int) -> list[world.WorldTool]:
        """`n` tools that cannot serve a request for those in `used`."""
        return [self.vary(tool) for tool in world.distractors(used, _pool(), n, self.rng)]


@cache
def _pool() -> list[world.WorldTool]:
    plain = (_plain(tool) for tool in world.world_tools("unlabelled", "train"))
    return [*world.world_tools("labelled", "train"), *(tool for tool in plain if tool.fields)]


def _plain(tool: world.WorldTool) -> world.WorldTool:
    """A tool of an unlabelled domain without the fields that only this domain has."""
    fields = tuple(f for f in tool.fields if f.kind not in ("code", "choice", "switch"))
    # `travel`: plain frames only
    return world.WorldTool("travel", tool.verb, tool.object_phrases, fields, tool.tool)


def made_up_tool(tool: world.WorldTool, rng: random.Random, new_fields: bool = True) -> world.WorldTool:
    """The same tool for a thing that does not exist; half of its fields made up, too, where `new_fields`."""
    old, new = tool.object_phrases[0], world_words.thing(rng)
    fields: dict[str, world.Field] = {}
    for f in tool.fields:
        made = (world_words.made_up_field(rng) if new_fields and rng.random() < 0.5
                else replace(f, description=f.description.replace(old, new)))
        if made.kind in ("choice", "switch") or all(made.kind != g.kind for g in fields.values()):
            fields.setdefault(made.name, made)
    fields = tuple(fields.values())
    description = f"{lexicon.VERBS[tool.verb][0].capitalize()} {world.article(new)}."
    name = world.tool_name(tool.verb, new, tool.domain, rng.randrange(6))
    return world.WorldTool(tool.domain, tool.verb, (new,), fields, Tool(name, description, world.parameters_of(fields)))


def _form_line(field: world.Field, rng: random.Random) -> str:
    kind = world.JSON_TYPES[field.kind]
    hint = f" ({kind})" if rng.random() < 0.5 else ""
    choice = f" One of {', '.join(field.choices)}." if field.choices else ""
    parts = f" Parts: {', '.join(world.NESTED[field.kind])}." if field.kind in world.NESTED else ""
    return f"- {field.name}{hint}: {field.description}{choice}{parts}"


def task_form(writer: Writer) -> tuple[str, str]:
    """Fill in a form from one, two or three sentences; lines of the form that the text does not answer stay out."""
    rng = writer.rng
    tool = writer.tool()
    times = 1 if world.few_values(tool) else rng.choice((1, 1, 1, 2, 2, 3))
    made = world.request([tool] * times, rng, test=False)
    fields = list(tool.fields)
    if rng.random() < 0.3:
        fields += [f for f in writer.tool().fields if all(f.kind != g.kind and f.name != g.name for g in fields)][:1]
    lines = "\n".join(_form_line(f, rng) for f in fields)
    answer = "\n".join(json.dumps(call.arguments, ensure_ascii=False) for call in made.calls)
    if rng.random() < 0.5:
        return f"Fill in the form as JSON.\n{lines}\nText: {made.query}", answer
    return f"{made.query}\nGive these details as JSON:\n{lines}", answer


def task_choose(writer: Writer) -> tuple[str, str]:
    """Choose the line or lines that fit; sometimes none does."""
    rng = writer.rng
    wanted = [writer.tool() for _ in range(rng.choice((1, 1, 2)))]
    wanted = world.distinct(wanted)
    made = world.request(wanted, rng, test=False)
    others = writer.others(wanted, rng.randint(1, 3))
    fits = wanted if rng.random() < 0.85 else []
    named = rng.random() < 0.6
    lines = [(f"{t.tool.name}: " if named else "") + t.tool.description for t in [*fits, *others]]
    answer = "\n".join((t.tool.name if named else t.tool.description) for t in fits) or "None of them."
    rng.shuffle(lines)
    options = "\n".join(f"- {line}" for line in lines)
    return f"Which lines fit the request?\n{options}\nRequest: {made.query}", answer


def task_forms(writer: Writer) -> tuple[str, str]:
    """Choose the right form and fill it in, for each of several requests and once for each thing that is asked."""
    rng = writer.rng
    wanted = world.distinct([writer.tool() for _ in range(rng.choice((1, 2, 2, 3)))])
    offered = [*wanted, *writer.others(wanted, rng.choice((0, 1, 1, 2)))]
    rng.shuffle(offered)
    requests, answers = [], []
    for _ in range(rng.choice((1, 2, 3, 4))):
        kind = rng.random()
        if kind < 0.10:
            requests.append(world.request(writer.others(offered, 1), rng, test=False).query)
            answers.append("No form fits.")
            continue
        first = rng.choice(wanted)
        asked = ([first] if kind < 0.75 or len(wanted) == 1 and world.few_values(first) else rng.sample(wanted, 2)
                 if len(wanted) > 1 else [first] * 2)
        made = world.request(asked, rng, test=False)
        requests.append(made.query)
        answers.append("; ".join(f"{c.name}: {json.dumps(c.arguments, ensure_ascii=False)}" for c in made.calls))
    forms = "\n".join("\n".join([f"{t.tool.name}: {t.tool.description}", *(_form_line(f, rng) for f in t.fields)])
                      for t in offered)
    return (f"Choose the form and fill it in.\n{forms}\n"
            + "\n".join(f"Request: {r}" for r in requests), "\n".join(answers))


def _item(rng: random.Random) -> str:
    """A word, a capitalised word, a phrase or a number."""
    style = rng.randrange(5)
    if style == 4:
        return str(world.number_in(rng, 1, 9999, False))
    if style == 3:
        return world_words.thing(rng)
    return world_words.word(rng).capitalize() if style else world_words.word(rng)


def task_copy(writer: Writer) -> tuple[str, str]:
    """Copy words, phrases and numbers, as they are or as JSON."""
    rng = writer.rng
    items = [_item(rng) for _ in range(rng.randint(2, 12))]
    style = rng.randrange(5)
    if style == 0:
        return f"Repeat: {' '.join(items)}", " ".join(items)
    if style == 1:
        return f"Write as a JSON list: {world.listing(items)}", json.dumps(items)
    if style == 2:
        values = {_item(rng).lower().replace(" ", "_"): (int(i) if i.isdigit() else i) for i in items}
        return "Write as JSON: " + "; ".join(f"{k} is {v}" for k, v in values.items()), json.dumps(values)
    if style == 3:
        return f"Write each as a name: {'; '.join(items)}", "\n".join("_".join(item.split()) for item in items)
    fields = [f for f in (world_words.made_up_field(rng) for _ in range(4)) if f.kind not in ("switch", "choice")]
    drawn = [(f, *world.draw_value(f, rng, False)) for f in fields or [world.Field("city", "city", "", ("{v}",))]]
    return "Write each as JSON:\n" + "\n".join(f"{f.name}: {surface}"
                                               for f, _, surface in drawn), "\n".join(json.dumps(v)
                                                                                      for _, v, _ in drawn)


def task_lookup(writer: Writer) -> tuple[str, str]:
    """Look keys up in a table: the answer is the text beside each."""
    rng = writer.rng
    table = {_item(rng): _item(rng) for _ in range(rng.randint(3, 10))}
    keys = rng.sample(list(table), rng.randint(1, len(table)))
    rows = list(table.items())
    if rng.random() < 0.3:
        rows = [(v, k) for k, v in rows]
        return ("Find what each belongs to.\n" + "\n".join(f"- {a}: {b}" for a, b in rows) + "\nOf: " + "; ".join(keys),
                "\n".join(table[k] for k in keys))
    question = "Look up.\n" + "\n".join(f"- {k}: {v}" for k, v in rows) + "\nKeys: " + "; ".join(keys)
    if rng.random() < 0.6:
        return f"{question}\nRepeat the keys.", "\n".join(f"{k}: {table[k]}" for k in keys)
    return question, "\n".join(table[k] for k in keys)


def task_words(writer: Writer) -> tuple[str, str]:
    """Names, descriptions, and the same thing in other words."""
    rng = writer.rng
    tool = writer.tool()
    phrase = f"{rng.choice(lexicon.VERBS[tool.verb])} {world.article(rng.choice(tool.object_phrases))}"
    style = rng.randrange(4)
    if style == 0:
        return f"Write a short name for: {tool.tool.description}", tool.tool.name
    if style == 1:
        return f"What does {tool.tool.name} do?", tool.tool.description
    if style == 2:
        return f"Say it in plain words: {phrase}", tool.tool.description
    return f"Write a short name for: {phrase}", tool.tool.name


def task_outline(writer: Writer) -> tuple[str, str]:
    """Write the form that a sentence answers."""
    rng = writer.rng
    tool = writer.tool()
    made = world.request([tool], rng, test=False)
    given = [f for f in tool.fields if f.name in made.calls[0].arguments]
    lines = "\n".join(f"- {f.name} ({world.JSON_TYPES[f.kind]}): {f.description}" for f in given)
    return f"Write a form for this request: {made.query}", f"{tool.tool.description}\n{lines}"


def task_call(writer: Writer) -> list[dict]:
    """A real tool call, in labelled domains only, or none where no tool fits: an instruct model knows the format, not
    when to call twice. Some have many tools, or prompts longer than any that were read make the model go on without an
    end."""
    rng = writer.rng
    category = rng.choice(("simple", "simple", "multiple", "multiple", "irrelevance"))
    # made-up tools too, or names are recalled, not copied
    pool = [writer.vary(tool) for tool in rng.sample(_labelled(), 12)]
    made, offered = world.draw(rng, pool, category, False)
    if made.used and rng.random() < 0.15:
        more = [writer.vary(tool) for tool in rng.sample(_labelled(), 30)]
        offered += world.distractors(offered, [*offered, *more], rng.randint(3, 8), rng)
        rng.shuffle(offered)
    messages = prompts.invocation_messages(made.query, [t.tool for t in offered])
    return [*messages, {"role": "assistant", "content": prompts.calls_answer(made.calls)}]


def task_define(writer: Writer) -> list[dict]:
    """A real tool definition from its description, labelled domains only."""
    tool = writer.vary(writer.rng.choice(_labelled()), fields=False).tool
    return [*prompts.adaption_messages(tool.description),
            {"role": "assistant", "content": prompts.tools_answer([tool])}]


def task_generate(writer: Writer) -> list[dict]:
    """A real tool definition from the request that it serves, labelled domains only."""
    tool = writer.vary(writer.rng.choice(_labelled()))
    made = world.request([tool], writer.rng, test=False)
    return [*prompts.generation_messages(made.query),
            {"role": "assistant", "content": prompts.tools_answer([tool.tool])}]


def _labelled() -> list[world.WorldTool]:
    return world.world_tools("labelled", "train")


TASKS = ((task_forms, 0.25), (task_call, 0.27), (task_lookup, 0.10), (task_copy, 0.08), (task_choose, 0.08),
         (task_form, 0.07), (task_generate, 0.05), (task_words, 0.03), (task_define, 0.04), (task_outline, 0.03))


def conversation(rng: random.Random, made_up: float = 0.0) -> list[dict]:
    """One pre-training conversation, a list of messages that ends with the assistant's turn.

    `made_up` is the share of tools for things that do not exist, and of conversations whose names, titles and places
    are made up.
    """
    tasks, weights = zip(*TASKS)
    made = rng.choices(tasks, weights)[0](Writer(rng, made_up))
    if isinstance(made, tuple):
        user, answer = made
        made = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user},
                {"role": "assistant", "content": answer}]
    return with_made_up_values(made, rng) if rng.random() < made_up else made


def curriculum(seed: int, order: list[int], plain_rows: int) -> Iterator[list[dict]]:
    """One conversation per entry of `order`, which says when each is seen (order[0] first): after the first
    `plain_rows`, most have their names, titles and places made up, so that copying is learnt as copying and not as a
    choice among known values."""
    place = {row: position for position, row in enumerate(order)}
    for row in range(len(order)):
        yield conversation(random.Random(f"general/{seed}/{row}"), MADE_UP if place[row] >= plain_rows else 0.0)


@cache
def _value_pattern() -> re.Pattern:
    """Words of the training pools that stand for open values: capitalised names, and parts of addresses."""
    last = [a + b for a in lexicon.LAST_STARTS[0] for b in lexicon.LAST_ENDS[0]]
    cities = [a + b for a in lexicon.CITY_STARTS[0] for b in lexicon.CITY_ENDS[0]]
    words = {*lexicon.FIRST_NAMES[0], *last, *cities, *lexicon.TITLE_FIRST[0], *lexicon.TITLE_LAST[0],
             *lexicon.STREETS[0]} - {"Street"}
    lower = {word.lower() for word in (*lexicon.FIRST_NAMES[0], *last, *cities)}
    hosts = {host.split(".")[0] for host in lexicon.MAIL_HOSTS[0]}
    return re.compile(rf"\b(?:{'|'.join(sorted(words))})\b|\b(?:{'|'.join(sorted(lower))})(?=[.@])"
                      rf"|(?<=@)(?:{'|'.join(sorted(hosts))})\b")


def with_made_up_values(messages: list[dict], rng: random.Random) -> list[dict]:
    """The same conversation, every known name, title, place and tag replaced by a made-up word, the same everywhere."""
    if len(messages) != 3:
        return messages
    answer = prompts.pieces_text(messages[-1]["content"])
    tags = {word for found in re.findall(r'\[("[a-z]+"(?:, "[a-z]+")*)\]', answer)
            for word in re.findall(r"[a-z]+", found)}
    swap: dict[str, str] = {}

    def made_up(match: re.Match) -> str:
        word = match.group()
        if word.lower() not in swap:
            swap[word.lower()] = world_words.word(rng)
        return swap[word.lower()].capitalize() if word[0].isupper() else swap[word.lower()]

    def rewrite(text: str) -> str:
        text = _value_pattern().sub(made_up, text)
        return re.sub(rf"\b(?:{'|'.join(sorted(tags))})\b", made_up, text) if tags else text

    def content(value):
        return (rewrite(value) if isinstance(value, str)
                else [(kind, rewrite(text) if kind == "text" else text) for kind, text in value])

    return [messages[0], *({**message, "content": content(message["content"])} for message in messages[1:])]


# ------------------------------------------------------------------------------------------------------------ tokenizer

def _fixed_texts() -> list[str]:
    """The constant texts of the three prompts: each becomes one token, which keeps prompts short."""
    found = set()
    for message in [*prompts.invocation_messages("", []), *prompts.adaption_messages(""),
                    *prompts.generation_messages("")]:
        content = message["content"]
        found.update([content] if isinstance(content, str) else [text for kind, text in content if kind == "text"])
    return sorted((t for t in found if len(t) > 3), key=len, reverse=True)


def split_pattern() -> str:
    """The pre-tokenizer's regular expression: fixed prompt texts, JSON around schema words, words, single digits."""
    keys = "|".join("name description arguments type dict properties required enum items string integer number boolean "
                    "array".split())
    alternatives = [
        *(re.escape(text).replace("\\ ", " ").replace("\\\n", "\\n").replace('\\"', '"') for text in _fixed_texts()),
        rf'[\[\]{{}}:, "]*(?:"(?:{keys})"[\[\]{{}}:, ]*)+"?',     # one chunk from one written name or text to the next
        r'[\[\]{}:,"][\[\]{}:, "]*',
        # the blank before a value that JSON will quote stands alone
        r" (?=[A-Z0-9$\"]|[a-z]+[.@][a-z]|www)",
        r"[ _]?[a-z]+", r"[A-Z][a-z]*", r"[0-9]", r"\s+", r".",
    ]
    return "|".join(alternatives)


def train_tokenizer(seed: int, rows: int = 20_000):
    """A byte-level BPE tokenizer of VOCAB_SIZE entries, trained on `rows` conversations and the training tools."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split_pattern()), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE - len(CONTROL_TOKENS) - len(TEMPLATE_TAGS), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[])
    tokenizer.train_from_iterator(_tokenizer_text(seed, rows), trainer)
    tokenizer.add_special_tokens(list(CONTROL_TOKENS))
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TEMPLATE_TAGS])
    return tokenizer


def _tokenizer_text(seed: int, rows: int) -> Iterator[str]:
    rng = random.Random(f"tokenizer/{seed}")
    for messages in (conversation(rng, 0.4) for _ in range(rows)):
        for message in messages:
            content = message["content"]
            yield from [content] if isinstance(content, str) else [text for kind, text in content if kind == "text"]
    for tool in world.tool_documents(10_000, seed=seed):
        yield prompts.tools_text([tool])
