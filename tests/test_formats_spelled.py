"""Replies whose text is a call, as many models spell them: read as calls, or refused; never an answer in words."""

import json

import pytest
from formats_shapes import CLOCK, FERRY, TIDES, json_schema, wrapped

from data.formats.convert import Options, convert
from data.formats.items import RowError
from data.formats.spelled import calls_in, offered, spelled_calls
from data.schema import load_examples, load_queries, read_jsonl

CALL = {"name": "tide_table", "arguments": {"harbour": "Leith"}}
CLOCKS = {"name": "sundial", "arguments": {}}
LONG = {"name": "Ferry Timetable API", "arguments": {"from": "Oban", "to": "Coll"}}
TOOLS = [wrapped(TIDES), wrapped(CLOCK), json_schema(FERRY)]
J = json.dumps(CALL)
ARGS = json.dumps(CALL["arguments"])
AS_TEXT = json.dumps({"name": "tide_table", "arguments": ARGS})
PARAMETERS = json.dumps({"name": "tide_table", "parameters": CALL["arguments"]})
HOLDS_TAGS = {"name": "tide_table", "arguments": {"harbour": "</think> <tool_call> [TOOL_CALLS] ```"}}


def row_of(reply):
    return {
        "tools": TOOLS,
        "messages": [{"role": "user", "content": "Leith?"}, {"role": "assistant", "content": reply}],
    }


def run(tmp_path, rows, name="rows.jsonl", **options):
    """Convert -> (report of the file, examples, queries, rejected)."""
    out, source = tmp_path / f"out-{name}", tmp_path / name
    source.write_text(
        rows if isinstance(rows, str) else "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    )
    (report,) = convert([source], out, Options(**options))["inputs"]
    rejected = [row for _, row in read_jsonl(out / "rejected.jsonl")]
    return report, load_examples(out / "examples.jsonl"), load_queries(out / "queries.jsonl"), rejected


READ = {
    "Llama 3.1": (PARAMETERS, [CALL]),
    "Llama 3.1 with its mark": (f"<|python_tag|>{PARAMETERS}<|eom_id|>", [CALL]),
    "Llama 3.1, two": (f"{PARAMETERS}; {J}", [CALL, CALL]),
    "Llama 3.1, two lines": (f"<|python_tag|>{PARAMETERS}\n{J}", [CALL, CALL]),
    "Llama 3.1, function tags": (f"<function=tide_table>{ARGS}</function>", [CALL]),
    "Llama 3.1, two function tags": (
        f"<function=tide_table>{ARGS}</function>\n<function=sundial>{{}}</function>",
        [CALL, CLOCKS],
    ),
    "Llama 3.2, pythonic": ("[tide_table(harbour='Leith'), sundial()]", [CALL, CLOCKS]),
    "a list": (f"[{J}, {json.dumps(CLOCKS)}]", [CALL, CLOCKS]),
    "arguments as text": (AS_TEXT, [CALL]),
    "single quotes": (str([CALL]), [CALL]),
    "OpenAI's wrapper": (
        json.dumps({"tool_calls": [{"id": "a", "type": "function", "function": json.loads(AS_TEXT)}]}),
        [CALL],
    ),
    "one in OpenAI's wrapper": (json.dumps({"type": "function", "function": CALL}), [CALL]),
    "the older wrapper": (json.dumps({"function_call": json.loads(AS_TEXT)}), [CALL]),
    "other keys": (json.dumps({"tool": "tide_table", "args": CALL["arguments"]}), [CALL]),
    "Gemini's keys": (json.dumps({"functionCall": {"name": "tide_table", "args": CALL["arguments"]}}), [CALL]),
    "Anthropic's keys": (
        json.dumps({"type": "tool_use", "id": "t", "name": "tide_table", "input": CALL["arguments"]}),
        [CALL],
    ),
    "a namespace": (json.dumps({"recipient_name": "functions.tide_table", "parameters": CALL["arguments"]}), [CALL]),
    "fenced": (f"```json\n{J}\n```", [CALL]),
    "fenced without a word": (f"```\n[{J}]\n```", [CALL]),
    "fenced, over many lines": ("```json\n" + json.dumps([CALL], indent=2) + "\n```\n", [CALL]),
    "fenced, pythonic": ("```python\ntide_table(harbour='Leith')\n```", [CALL]),
    "pythonic, no brackets": ('tide_table(harbour="Leith")', [CALL]),
    "pythonic, a name with spaces": ("[Ferry Timetable API(from='Oban', to='Coll')]", [LONG]),
    "Hermes": (f"<tool_call>\n{J}\n</tool_call>", [CALL]),
    "Hermes, words around": (f"Let me look.\n<tool_call>{J}</tool_call>\n<tool_call>{J}</tool_call>", [CALL, CALL]),
    "Hermes after a thought": (f"<think>\nA [tide_table] maybe\n</think>\n<tool_call>{J}</tool_call>", [CALL]),
    "Hermes, a tag in a value": (f"<tool_call>{json.dumps(HOLDS_TAGS)}</tool_call>", [HOLDS_TAGS]),
    "JSON, a tag in a value": (json.dumps(HOLDS_TAGS), [HOLDS_TAGS]),
    "Hermes in capitals": (f"<TOOL_CALL>{J}</TOOL_CALL>", [CALL]),
    "Granite": (f"<|tool_call|>[{J}]", [CALL]),
    "Granite, one object": (f"<|tool_call|>{J}", [CALL]),
    "Phi": (f"<|tool_call|>[{J}]<|/tool_call|>", [CALL]),
    "Mistral": (f"[TOOL_CALLS] [{J}]", [CALL]),
    "Mistral, with ids": (f"[TOOL_CALLS][{json.dumps({**CALL, 'id': 'VvvODy9mT'})}]</s>", [CALL]),
    "Mistral, a newer one": (f"[TOOL_CALLS]tide_table[ARGS]{ARGS}[TOOL_CALLS]sundial[ARGS]{{}}", [CALL, CLOCKS]),
    "Mistral, with a call's id": (f"[TOOL_CALLS]tide_table[CALL_ID]a1b2[ARGS]{ARGS}", [CALL]),
    "Mistral, words before": (f"Sure: [TOOL_CALLS] [{J}]", [CALL]),
    "DeepSeek": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>tide_table\n```json\n"
        + ARGS
        + "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
        [CALL],
    ),
    "DeepSeek, two": (
        "<｜tool▁calls▁begin｜>"
        + "\n".join(
            f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{n}\n```json\n{a}\n```<｜tool▁call▁end｜>"
            for n, a in (("tide_table", ARGS), ("sundial", "{}"))
        )
        + "<｜tool▁calls▁end｜>",
        [CALL, CLOCKS],
    ),
    "DeepSeek, a newer one": (
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tide_table<｜tool▁sep｜>{ARGS}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [CALL],
    ),
    "DeepSeek in plain letters": (
        f"<|tool_calls_begin|><|tool_call_begin|>function<|tool_sep|>tide_table\n```json\n{ARGS}\n```<|tool_call_end|>",
        [CALL],
    ),
    "Kimi": (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.tide_table:0<|tool_call_argument_begin|>"
        + ARGS
        + "<|tool_call_end|><|tool_calls_section_end|>",
        [CALL],
    ),
    "harmony": (f"<|channel|>commentary to=functions.tide_table <|constrain|>json<|message|>{ARGS}<|call|>", [CALL]),
    "Nemotron": (f"<TOOLCALL>[{J}]</TOOLCALL>", [CALL]),
    "Jamba": (f"<tool_calls>[{J}]</tool_calls>", [CALL]),
    "LFM2": ("<|tool_call_start|>[tide_table(harbour='Leith')]<|tool_call_end|>", [CALL]),
    "OLMo": ("<function_calls>\ntide_table(harbour='Leith')\n</function_calls>", [CALL]),
    "InternLM": (f"I look.<|action_start|><|plugin|>\n{PARAMETERS}<|action_end|>", [CALL]),
    "Firefunction": (f" functools[{J}]", [CALL]),
    "Glaive": ('<functioncall> {"name": "tide_table", "arguments": \'{"harbour": "Leith"}\'} <|endoftext|>', [CALL]),
    "Command R": (
        "Action: ```json\n[\n" + json.dumps({"tool_name": "tide_table", "parameters": CALL["arguments"]}) + "\n]\n```",
        [CALL],
    ),
    "ReAct": (f"Thought: the tide is wanted\nAction: tide_table\nAction Input: {ARGS}", [CALL]),
    "ReAct, bold": (f"**Thought:** look\n**Action:** `tide_table`\n**Action Input:** {ARGS}\n", [CALL]),
    "ReAct, fenced, stopped at Observation": (
        f"Action: tide_table\nAction Input:\n```json\n{ARGS}\n```\nObservation:",
        [CALL],
    ),
    "ReAct, small letters": (f"thought: x\naction: tide_table\naction_input: {ARGS}", [CALL]),
    "Functionary": (f"<|from|>assistant\n<|recipient|>tide_table\n<|content|>{ARGS}", [CALL]),
    "Qwen's older marks": (f"✿FUNCTION✿: tide_table\n✿ARGS✿: {ARGS}", [CALL]),
    "Llama 4": ('<|python_start|>[tide_table(harbour="Leith"), sundial()]<|python_end|><|eot|>', [CALL, CLOCKS]),
    "Gemini's namespace": ('default_api.tide_table(harbour="Leith")', [CALL]),
    "Kimi after a thought": (f"◁think▷{json.dumps(CLOCKS)} maybe◁/think▷{J}", [CALL]),
    "Command A after a thought": (
        f"<|START_THINKING|>tides<|END_THINKING|><|START_ACTION|>[{PARAMETERS}]<|END_ACTION|>",
        [CALL],
    ),
    "LangChain": (
        "Action:\n```\n" + json.dumps({"action": "tide_table", "action_input": CALL["arguments"]}) + "\n```",
        [CALL],
    ),
}


@pytest.mark.parametrize("spelling", READ)
def test_a_reply_that_is_a_call_is_read_as_one(tmp_path, spelling):
    text, calls = READ[spelling]
    _, (example,), _, rejected = run(tmp_path, [row_of(text)])
    assert [call.to_dict() for call in example.calls] == calls and not rejected


def test_sharegpt_turns_and_system_lists_are_read_alike(tmp_path):
    turns = [{"from": "human", "value": "Leith?"}, {"from": "gpt", "value": f"```json\n{J}\n```"}]
    toolace = {
        "system": f"Use: {json.dumps([json_schema(TIDES)])}.",
        "conversations": [{"from": "user", "value": "Leith?"}, {"from": "assistant", "value": f"[{J}]"}],
    }
    rows = [
        {"conversations": turns, "tools": json.dumps(TOOLS)},
        toolace,
        {"prompt": "Leith?", "response": f"[TOOL_CALLS][{J}]", "tools": TOOLS},
        {"instruction": "Leith?", "output": J, "tools": TOOLS},
    ]
    _, examples, _, rejected = run(tmp_path, rows)
    assert [[call.to_dict() for call in example.calls] for example in examples] == [[CALL]] * 4 and not rejected


REFUSED = {
    "JSON among words": f"I call the tool now: {J}",
    "a sentence of Chinese": f"我将调用tide_table函数，参数为{ARGS}。",
    "a call in Chinese without spaces": "我调用tide_table(harbour='Leith')来查询",
    "a sentence of Spanish": f"Voy a llamar a tide_table con los argumentos {ARGS}",
    "Kimi's id of a call": f"functions.tide_table:0{ARGS}",
    "a hyphen for an underscore": "tide-table(harbour='Leith')",
    "a shell's prompt": "$ tide_table Leith",
    "said to be done": "*calls tide_table*",
    "said to be used on something": "Using tool `tide_table` on Leith...",
    "fenced JSON among words": f"Let me look.\n```json\n{J}\n```",
    "JSON that breaks off": '{"name": "tide_table", "arguments": {"harbour": "Le',
    "a list that breaks off": f"[{J}, ",
    "a tool that was not offered": json.dumps({"name": "web_search", "arguments": {"query": "Leith"}}),
    "keyed by the tool": json.dumps({"tide_table": CALL["arguments"]}),
    "keyed by the tool in a list": json.dumps([{"tide_table": CALL["arguments"]}]),
    "other keys": json.dumps({"calling": "tide_table", "with": CALL["arguments"]}),
    "a name alone": json.dumps({"name": "tide_table"}),
    "the tool's own definition": json.dumps(json_schema(TIDES)),
    "pythonic among words": "I will run tide_table(harbour='Leith') for you.",
    "pythonic in brackets among words": "Sure: [tide_table(harbour='Leith')]",
    "printed": "```tool_code\nprint(tide_table(harbour='Leith'))\n```",
    "assigned": "```python\nresult = tide_table(harbour='Leith')\n```",
    "Qwen's coder": "<tool_call>\n<function=tide_table>\n<parameter=harbour>\nLeith\n</parameter>\n</function>\n"
    "</tool_call>",
    "GLM": "<tool_call>tide_table\n<arg_key>harbour</arg_key>\n<arg_value>Leith</arg_value>\n</tool_call>",
    "Anthropic's tags": "<function_calls>\n"
    '<invoke name="tide_table">\n<parameter name="harbour">Leith</parameter>\n</invoke>\n</function_calls>',
    "MiniMax": "<minimax:tool_call>\n"
    '<invoke name="tide_table"><parameter name="harbour">Leith</parameter></invoke>\n</minimax:tool_call>',
    "a tag of the tool's name": "<tide_table>\n<harbour>Leith</harbour>\n</tide_table>",
    "a tag with the tool's name": '<tool name="tide_table" harbour="Leith"/>',
    "ChatGLM": f"tide_table\n{ARGS}",
    "to=": f"AI to=tide_table: {ARGS}",
    "fields": "name: tide_table\narguments:\n  harbour: Leith",
    "built-in": '<|python_tag|>brave_search.call(query="Leith")',
    "ReAct with its result": f"Action: tide_table\nAction Input: {ARGS}\nObservation: noon\n"
    "Thought: done\nFinal Answer: noon",
    "ReAct, another tool": 'Action: web_search\nAction Input: {"query": "Leith"}',
    "ReAct, no JSON": "Action: tide_table\nAction Input: Leith",
    "ReAct, no input": "Thought: look\nAction: tide_table\n",
    "ReAct, brackets": "Thought: look\nAction: tide_table[Leith]",
    "a mark and nothing": "[TOOL_CALLS]",
    "an object in place of arguments": 'tide_table({"harbour": "Leith"})',
    "JavaScript among words": 'await tide_table({harbour: "Leith"})',
    "bare keys behind a mark": "<start_function_call>call:tide_table{harbour:<escape>Leith<escape>}",
    "the name in a tag": "<use_tool>\n<server>s</server>\n<tool_name>tide_table</tool_name>\n</use_tool>",
    "a sentence that calls": f"Calling `tide_table` with {ARGS}",
    "JSON in a JSON string": json.dumps(J),
    "a list in a JSON string, twice": json.dumps(json.dumps([CALL])),
    "an empty mark": "<tool_call></tool_call>",
    "an empty list behind a mark": "<tool_call>[]</tool_call>",
    "a result between calls": f"<tool_call>{J}</tool_call>\n"
    f"<tool_response>noon</tool_response>\n<tool_call>{J}</tool_call>",
    "the opening mark lost": f"look\n{J}\n</tool_call>",
    "LM Studio": "[TOOL_REQUEST]tide_table[END_TOOL_REQUEST]",
    "arguments without a name": ARGS,
    "name and value": "tide_table harbour=Leith",
    "a sentence, name and value": "Calling tide_table: harbour=Leith",
    "YAML": "- tide_table:\n    harbour: Leith",
    "YAML, the tool named": "tool: tide_table\nharbour: Leith",
    "an arrow": f"tide_table -> {ARGS}",
    "a verb and JSON": f"call tide_table {ARGS}",
    "a slash command": "/tide_table Leith",
    "a mention": "@tide_table Leith",
    "tool and input": "Tool: tide_table, Input: Leith",
    "numbered steps": 'Thought 1: look\nAction 1: tide_table["Leith"]',
    "printed, no arguments": "```python\nprint(sundial())\n```",
    "assigned, no arguments": "```python\nhour = sundial()\nprint(hour)\n```",
    "code with a variable": "```python\nfor h in ['Leith', 'Oban']:\n    print(tide_table(h))\n```",
    "a code agent": "Thought: I look.\n<code>\nhour = sundial()\n</code>",
    "a namespace, printed": "print(default_api.tide_table('Leith'))",
    "a namespace, no arguments": "print(default_api.sundial())",
    "a tag of code": "<tool_code>\nprint(default_api.sundial())\n</tool_code>",
    "alone on its line": "Let me look.\nsundial()",
    "JavaScript, no arguments": "const hour = await sundial();",
    "in ticks": "`sundial()`",
    "a label": "Gorilla: sundial()",
    "a tag around it": "<answer>sundial()</answer>",
    "a command line": "$ tide_table --harbour Leith",
    "Lisp": '(tide_table :harbour "Leith")',
    "values without quotes": "CALL tide_table(Leith)",
    "the name and no more": "`tide_table`",
    "names and no more": "tide_table, sundial",
    "a heading": "Tool call: tide_table",
    "a heading in brackets": "[Calling tool: sundial]",
    "a verb and the tool": "*Calling tool `sundial`*",
    "a verb": "Invoking sundial...",
    "YAML in a fence": "```yaml\ntool: sundial\n```",
    "another tool, pythonic": 'web_search(query="Leith")',
    "another tool, pythonic in brackets among words": 'Let me look. [web_search(query="Leith")]',
    "another tool, JSON among words": 'I search: {"name": "web_search", "arguments": {"query": "Leith"}}',
    "another tool, JSON that is broken": '{"name": "web_search", "arguments": {"query": NaN}}',
    "another tool, Cline": "<use_mcp_tool>\n<tool_name>web_search</tool_name>\n</use_mcp_tool>",
    "arguments as tags, one of them a tool's name": '<minimax:tool_call><invoke name="tide_table">'
    '<parameter name="harbour">sundial</parameter><parameter name="more">{"a": 1}</parameter></invoke>',
    "entities of HTML": f"&lt;tool_call&gt;{J.replace(chr(34), '&quot;')}&lt;/tool_call&gt;",
    "wide brackets": 'tide_table（harbour＝"Leith"）',
    "an escaped underscore": 'tide\\_table(harbour="Leith")',
    "curly quotes": "{“name”: “tide_table”, “arguments”: {“harbour”: “Leith”}}",
    "LongCat": "<longcat_tool_call>tide_table\n<longcat_arg_key>harbour</longcat_arg_key>\n</longcat_tool_call>",
    "Solar": "<|tool_call:begin|>a1<|tool_call:name|>sundial<|tool_call:args|>{}<|tool_call:end|>",
    "a tag around the name": "<invoke>sundial</invoke>",
    "a tag with the tool's id": '<tool id="sundial"></tool>',
    "a verb in capitals": "RUN tide_table Leith",
    "a request": "POST /sundial",
    "a name and one word": "tide_table|Leith",
    "a name, its parameter on the next line": "tide_table\nharbour: Leith",
    "a method": "tide_table.run('Leith')",
    "a method of a client": 'session.call_tool("sundial")',
    "another namespace": "harbour.tide_table('Leith')",
    "an object of its own": "self.sundial()",
    "a subscript": "tools['sundial']()",
    "a label and the name": "The tool to use is: sundial",
    "an arrow and the name": "Tool → sundial",
    "an assignment of the name": "tool_name=sundial",
    "the tool named last": "harbour: Leith\ntool: tide_table",
    "a fenced name": '```json\n"sundial"\n```',
    "a mark in brackets": "[API] sundial()",
    "a call that calls": f'tool_call(name="tide_table", arguments={ARGS})',
}


@pytest.mark.parametrize("spelling", REFUSED)
def test_a_reply_that_spells_a_call_in_a_way_that_is_not_read_is_refused(tmp_path, spelling):
    report, examples, queries, rejected = run(tmp_path, [row_of(REFUSED[spelling])])
    assert not examples and [q.query for q in queries] == ["Leith?"]
    assert [r["reason"] for r in rejected] == [
        "bad_calls" if spelling == "an empty list behind a mark" else "calls_in_text"
    ]


WORDS = [
    "At which harbour?",
    "The tool tide_table gives tides; tell me the harbour.",
    "Call tide_table() with a harbour, e.g. tide_table(harbour).",
    "I would call tide_table with the harbour that you name.",
    'I would use "tide_table": it lists the tides.',
    "`tide_table` needs a harbour.",
    "[1] Leith (Scotland)",
    "[Note (a)] At noon.",
    '{"answer": "at noon", "harbour": "Leith"}',
    '{"name": "Anna", "age": 3}',
    "```python\nprint(12 * 4)\n```",
    "[]",
    "{}",
    "[3, 4]",
    "Action: please name a harbour.",
    "Thought: no tool is needed.\nFinal Answer: at noon",
    "If x < 3 then y > 4.",
    "Use a function call.",
    '{"action": "Final Answer", "action_input": "at noon"}',
    "<think>maybe <tool_call>{}</tool_call></think>At which harbour?",
    "Your tide_table query: it lacks a harbour.",
    "tide_table, the tool, needs a harbour: which one?",
    "Which harbour = which tide.",
    "I can look at tide_table and sundial. Harbour: which one?",
    "I can use:\n- tide_table(harbour)\n- sundial()",
    "```python\ndef sundial():\n    return 12\n```",
    "Fish &amp; chips, said &quot;tide_table&quot;?",
    "analysisNo tool fits.assistantfinalAt which harbour?",
    "Thought: no tool fits.\nAt which harbour?",
    "<Thinking>maybe [sundial()]</Thinking>\nAt which harbour?",
    "<scratch_pad>tide_table?</scratch_pad> At which harbour?",
    "None of my tools fits.",
    "N/A is what the table says.",
    "The hour by the sundial: 12.",
    "Use <b>sundial</b>, or name a harbour.",
    "I can: tide_table, sundial.",
    "Which tide_table (there are two)?",
    "👍",
]


@pytest.mark.parametrize("text", [
    "<think>I should call tide_table", f"<think>maybe <tool_call>{J}</tool_call>", f"<thinking>\n[TOOL_CALLS] [{J}]",
    f"<think>a</think> <think>b {J}", f"[THINK]look: {J}", "<|channel|>analysis<|message|>the tide is wanted<|end|>",
    "<|start|>assistant<|channel|>analysis<|message|>the tide", "analysisThe user wants the tide. We need to",
    "<seed:think>the tide", "◁think▷the tide", "<|START_THINKING|>the tide", "<|begin_of_thought|>the tide",
    "<Thinking>the tide", "Thought: the tide is wanted, so I should look.", "<|im_end|>", "<think>a</think>\n</s>",
    "None", "null", " NaN ", "N/A", "None.", "<NA>", "undefined", "[NULL]", "\u200b", "...", "—", "```\n```", "<br>",
    '""', "<scratch_pad>the tide</scratch_pad>", "<thoughts>the tide", "<|think|>the tide<|/think|>", "<think/>",
    "<plan>1. look", "<inner_monologue>the tide</inner_monologue>", "<longcat_think>the tide</longcat_think>",
    "Reasoning: the tide", '<details type="reasoning" done="true">the tide</details>',
    "[thinking] the tide [/thinking]", "<|channel>thought\nthe tide<channel|>"])
def test_a_thought_that_never_ends_and_an_empty_field_are_no_answers(tmp_path, text):
    _, examples, queries, rejected = run(tmp_path, [row_of(text)])
    assert not examples and [q.query for q in queries] == ["Leith?"]
    assert [r["reason"] for r in rejected] == ["empty_answer"]


@pytest.mark.parametrize("text", WORDS)
def test_an_answer_in_words_stays_one_though_it_speaks_of_a_tool(tmp_path, text):
    _, (example,), _, rejected = run(tmp_path, [row_of(text)])
    assert example.calls == () and example.provenance["notes"] == ["answer_in_words"] and not rejected


def test_where_no_tool_is_offered_a_reply_that_is_a_call_leaves_a_query(tmp_path):
    for number, text in enumerate((J, f"<tool_call>{J}</tool_call>", f"[TOOL_CALLS][{J}]")):
        report, examples, queries, _ = run(tmp_path, [row_of(text) | {"tools": []}], f"{number}.jsonl")
        assert not examples and len(queries) == 1 and report["left_out"]["calls_without_tools"] == 1


def test_the_shape_of_calls():
    assert calls_in([CALL, {"name": "x", "args": None}]) == [CALL, {"name": "x", "arguments": {}}]
    assert calls_in({**CALL, "arguments": "", "parameters": CALL["arguments"]}) == [CALL]
    for other in (
        None,
        3,
        "x",
        [],
        {},
        {"name": "Anna"},
        {"name": "x", "arguments": "prose"},
        {"name": "x", "parameters": {"properties": {}}},
        {"name": "x", "arguments": {}, "age": 3},
        [CALL, 3],
        {"name": 3, "arguments": {}},
    ):
        assert calls_in(other) is None, other


def test_names_of_tools_however_they_are_spelled():
    tools = [
        wrapped(TIDES),
        json.dumps(json_schema(CLOCK)),
        {"api_name": "a", "parameters": {"x": {"type": "str"}}},
        "text",
        3,
        {"name": None},
    ]
    assert {name: list(parameters) for name, parameters in offered(tools).items()} == {
        "tide_table": list(TIDES["arguments"]["properties"]),
        "sundial": [],
        "a": ["x"],
    }


HARBOUR = {"type": "object", "properties": {"harbour": {"type": "string"}}}
SCHEMAS = [
    {"function": json.dumps(json_schema(TIDES))},
    {"toolSpec": {"name": "tide_table", "inputSchema": {"json": HARBOUR}}},
    {"name": "tide_table", "parameters": json.dumps(HARBOUR)},
    {"name": "tide_table", "parameters": [{"name": "harbour", "type": "string"}]},
    {"name": "tide_table", "parameters": {"$defs": {"T": HARBOUR}, "$ref": "#/$defs/T"}},
    {"name": "tide_table", "parameters": {"allOf": [HARBOUR]}},
]


@pytest.mark.parametrize("tool", SCHEMAS, ids=range(len(SCHEMAS)))
def test_values_by_place_take_the_parameters_that_the_tool_has(tmp_path, tool):
    rows = [row_of("[tide_table('Leith')]") | {"tools": [tool]}, row_of(f"Sure: {J}") | {"tools": [tool]},
            row_of("Calling tide_table: harbour=Leith") | {"tools": [tool]}]
    _, examples, _, rejected = run(tmp_path, rows)
    assert [[call.to_dict() for call in example.calls] for example in examples] == [[CALL]]
    assert [r["reason"] for r in rejected] == ["calls_in_text"] * 2


def test_values_by_place_without_parameters_are_refused(tmp_path):
    tool = {"name": "tide_table", "parameters": {"type": "object", "title": "Tides"}}
    _, examples, _, rejected = run(tmp_path, [row_of("[tide_table('Leith')]") | {"tools": [tool]}])
    assert not examples and [r["reason"] for r in rejected] == ["calls_in_text"]


def test_hostile_replies_are_judged_in_time_and_raise_nothing_else():
    import time

    names = offered(TOOLS)
    for piece in (
        "[",
        "{",
        "<tool_call>",
        "Action: tide_table\n",
        "tide_table(",
        '{"name": "tide_table", ',
        "<think>",
        "</think>{",
        "```json\n",
        "[TOOL_CALLS]",
        "<function=tide_table>{",
        " \n",
        "<",
        "*" * 8,
        "a=print a:",
        "sundial() ",
        "`sundial`, ",
        "```sundial(",
        "&lt;tool_call&gt;",
    ):
        text = piece * (20_000 // len(piece))
        start = time.process_time()
        try:
            spelled_calls(text, names)
        except RowError:
            pass
        assert time.process_time() - start < 2, piece[:20]
