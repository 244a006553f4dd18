"""A row is read by its structure: what calls, what may be a label, and which columns a reader may pass over."""

import json

import pytest
from formats_shapes import CLOCK, TIDES, json_schema, wrapped
from test_formats_spelled import ARGS, CALL, J, run

from data.formats.dialogue import role_of
from data.formats.marks import learnt
from data.formats.registry import guess
from data.formats.turnmarks import awaits_an_answer, declares_tools, holds_an_answer, rendered

TOOLS = [wrapped(TIDES), wrapped(CLOCK)]
TAGGED = "\n".join(json.dumps(tool) for tool in TOOLS)
USER = {"role": "user", "content": "Leith?"}
CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "tide_table", "arguments": ARGS}}],
}
RESULT = {"role": "tool", "content": "noon <tools> [TOOL_CALLS]", "tool_call_id": "c"}
HUMAN, FUNCTION = {"from": "human", "value": "Leith?"}, {"from": "function_call", "value": J}
WORDS = {"role": "assistant", "content": "At which harbour?"}


def given(examples):
    return [[call.to_dict() for call in example.calls] for example in examples]


STRUCTURED = {
    "tags in the system text": {
        "messages": [{"role": "system", "content": f"Tools: <tools>\n{TAGGED}\n</tools>"}, USER, CALLING]
    },
    "tags beside a column of tools": {
        "messages": [{"role": "system", "content": f"<tools>{TAGGED}</tools>"}, USER, CALLING],
        "tools": TOOLS,
    },
    "the system text speaks of tags": {
        "messages": [{"role": "system", "content": "Use <tools>, answer in <tool_call>."}, USER, CALLING],
        "tools": TOOLS,
    },
    "tags in a result": {
        "messages": [USER, CALLING, RESULT, {"role": "assistant", "content": "<tool_call>?"}],
        "tools": TOOLS,
    },
    "tags in the query": {
        "messages": [{"role": "user", "content": "Leith?"}, CALLING, {"role": "user", "content": "and <tool_call>?"}],
        "tools": TOOLS,
    },
    "the same call as text": {
        "messages": [USER, {**CALLING, "content": f"<tool_call>{J}</tool_call>"}],
        "tools": TOOLS,
    },
    "another call as text": {
        "messages": [USER, {**CALLING, "content": '[TOOL_CALLS][{"name": "sundial", "arguments": {}}]'}],
        "tools": TOOLS,
    },
    "the older field": {
        "messages": [
            USER,
            {"role": "assistant", "content": "<tool_call>", "function_call": {"name": "tide_table", "arguments": ARGS}},
        ],
        "functions": [json_schema(TIDES)],
    },
    "the older field as text": {
        "messages": [USER, {"role": "assistant", "content": "", "function_call": J}],
        "tools": TOOLS,
    },
    "a turn of its own": {
        "conversations": [
            {"from": "system", "value": f"<tools>{TAGGED}</tools>"},
            HUMAN,
            FUNCTION,
            {"from": "observation", "value": "x"},
        ]
    },
    "a tag in the last turn": {
        "conversations": [
            HUMAN,
            FUNCTION,
            {"from": "observation", "value": "x"},
            {"from": "gpt", "value": "<tool_call> it is"},
        ],
        "tools": json.dumps(TOOLS),
    },
    "a system column": {"system": f"<tools>{TAGGED}</tools>", "conversations": [HUMAN, FUNCTION]},
    "calls as text": {
        "messages": [USER, {**CALLING, "tool_calls": json.dumps(CALLING["tool_calls"])}],
        "tools": json.dumps(TOOLS),
    },
    "camel case": {"messages": [USER, {"role": "assistant", "content": "", "toolCalls": [CALL]}], "tools": TOOLS},
    "nulls of a table": {
        "messages": [{**USER, "tool_calls": None}, {**CALLING, "function_call": {"name": None, "arguments": None}}],
        "tools": TOOLS,
    },
    "roles in capitals": {
        "messages": [{"role": "USER", "content": "Leith?"}, {**CALLING, "role": "Assistant"}],
        "tools": TOOLS,
    },
    "a role of calls": {"messages": [USER, {"role": "Tool_Calls", "content": J}], "tools": TOOLS},
    "a list in a call turn": {"messages": [USER, {"role": "tool_call", "content": [CALL]}], "tools": TOOLS},
    "texts in a call turn": {
        "messages": [USER, {"role": "tool_call", "content": [{"type": "text", "text": J}]}],
        "tools": TOOLS,
    },
    "tags in a call turn": {
        "messages": [USER, {"role": "tool_call", "content": f"<tool_call>{J}</tool_call>"}],
        "tools": TOOLS,
    },
    "pythonic in a call turn": {
        "conversations": [HUMAN, {"from": "function_call", "value": "[tide_table(harbour='Leith')]"}],
        "tools": TOOLS,
    },
    "messages as text": {"messages": json.dumps([USER, CALLING]), "tools": json.dumps(TOOLS)},
    "conversations as text": {"conversations": json.dumps([HUMAN, FUNCTION]), "tools": json.dumps(TOOLS)},
    "dialog": {"dialog": [USER, CALLING], "tools": TOOLS},
    "dialogue": {"dialogue": [USER, CALLING], "tools": TOOLS},
    "conversation": {"conversation": [HUMAN, FUNCTION], "tools": TOOLS},
    "turns": {"turns": [USER, CALLING], "tools": TOOLS},
    "prompt and completion": {"prompt": [USER], "completion": [CALLING], "tools": TOOLS},
    "prompt and one message": {"prompt": [USER], "completion": CALLING, "tools": TOOLS},
    "prompt as text": {"prompt": "Leith?", "completion": f"<tool_call>{J}</tool_call>", "tools": json.dumps(TOOLS)},
    "messages as text in columns": {
        "prompt": json.dumps([USER]),
        "completion": json.dumps([CALLING]),
        "tools": json.dumps(TOOLS),
    },
    "a preference": {"prompt": [USER], "chosen": [CALLING], "rejected": [WORDS], "tools": TOOLS},
    "a preference with the prompt inside": {"chosen": [USER, CALLING], "rejected": [USER, WORDS], "tools": TOOLS},
    "a preference with the prompt twice": {
        "prompt": "Leith?",
        "chosen": [USER, CALLING],
        "rejected": [USER, WORDS],
        "tools": TOOLS,
    },
    "a preference of texts": {"prompt": "Leith?", "chosen": f"```json\n{J}\n```", "rejected": "No.", "tools": TOOLS},
    "a preference beside a conversation": {
        "conversations": [HUMAN],
        "chosen": {"from": "gpt", "value": J},
        "rejected": {"from": "gpt", "value": "No."},
        "tools": json.dumps(TOOLS),
    },
    "a good answer of KTO": {"prompt": [USER], "completion": [CALLING], "label": True, "tools": TOOLS},
    "prompt and response": {"prompt": "Leith?", "response": J, "tools": TOOLS},
    "query and response": {"query": "Leith?", "response": J, "tools": TOOLS},
    "question and answer": {"question": "Leith?", "answer": J, "tools": TOOLS},
    "response as calls": {"prompt": "Leith?", "response": [CALL], "tools": TOOLS},
    "a turn that names its tool": {
        "messages": [USER, {"role": "tool_call", "name": "tide_table", "content": ARGS}],
        "tools": TOOLS,
    },
    "a turn that names its tool, an object": {
        "conversations": [HUMAN, {"from": "function_call", "name": "tide_table", "value": CALL["arguments"]}],
        "tools": TOOLS,
    },
    "a named turn with a whole call": {
        "messages": [USER, {"role": "tool_call", "name": "assistant", "content": J}],
        "tools": TOOLS,
    },
    "tools in the system message": {"messages": [{"role": "system", "content": "", "tools": TOOLS}, USER, CALLING]},
    "tools in the user's message": {"messages": [{**USER, "functions": json.dumps(TOOLS)}, CALLING]},
    **{
        f"arguments, {case}": {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [call]}],
                               "tools": TOOLS}
        for case, call in {
            "an empty text beside": {"name": "tide_table", "arguments": "", "parameters": CALL["arguments"]},
            "an empty object beside": {"name": "tide_table", "arguments": {}, "input": ARGS},
            "outside of function": {"type": "function", "function": {"name": "tide_table"}, "arguments": ARGS},
            "outside of function, null in it": {"function": {"name": "tide_table", "arguments": None},
                                                "parameters": CALL["arguments"]},
            "the same twice": {"name": "tide_table", "arguments": ARGS, "args": CALL["arguments"]},
        }.items()
    },
}


@pytest.mark.parametrize("case", STRUCTURED)
def test_structure_says_what_is_called(tmp_path, case):
    _, examples, queries, rejected = run(tmp_path, [STRUCTURED[case]])
    assert [example.query for example in examples] == ["Leith?"] and given(examples) == [[CALL]] and not rejected
    assert len(queries) == 1 and {tool.name for tool in examples[0].tools} <= {"tide_table", "sundial"}


def test_each_row_of_such_a_file_is_read_by_itself(tmp_path):
    _, examples, _, rejected = run(tmp_path, list(STRUCTURED.values()))
    assert given(examples) == [[CALL]] * len(STRUCTURED) and not rejected


NO_LABEL = {
    "weight 0": {"messages": [USER, {**CALLING, "weight": 0}], "tools": TOOLS},
    "weight 0.0": {"messages": [USER, {**CALLING, "weight": 0.0}], "tools": TOOLS},
    "weight as text": {"messages": [USER, {**CALLING, "weight": "0"}], "tools": TOOLS},
    "train false": {"conversations": [HUMAN, {**FUNCTION, "train": False}], "tools": TOOLS},
    "loss false": {"messages": [USER, {**CALLING, "loss": False}], "tools": TOOLS},
    "masked": {"messages": [USER, {**CALLING, "masked": True}], "tools": TOOLS},
    "words of weight 0": {"messages": [USER, {**WORDS, "weight": 0}], "tools": TOOLS},
    "text calls of weight 0": {
        "messages": [USER, {"role": "assistant", "content": f"<tool_call>{J}</tool_call>", "weight": 0}],
        "tools": TOOLS,
    },
    "a row of weight 0": {"messages": [USER, CALLING], "tools": TOOLS, "weight": 0},
    "a bad answer of KTO": {"prompt": [USER], "completion": [CALLING], "label": False, "tools": TOOLS},
    "a bad answer of KTO, a number": {"prompt": [USER], "completion": [CALLING], "label": 0, "tools": TOOLS},
    "a bad answer of KTO, a text": {"prompt": "Leith?", "completion": "Why?", "label": "False", "tools": TOOLS},
    "a bad conversation of KTO": {"messages": [USER, CALLING], "label": False, "tools": TOOLS},
    "what the prompt says": {"prompt": [USER, CALLING, RESULT], "completion": [WORDS], "tools": TOOLS},
    **{f"xlam, {key}": {"query": "Leith?", "tools": json.dumps(TOOLS), "answers": J, key: value}
       for key, value in {"weight": 0, "train": "false", "label": False, "is_correct": False, "is_valid": False,
                          "execution_success": False, "reward": -1.0}.items()},
    "no call of xlam": {"query": "Leith?", "tools": TOOLS, "answers": [], "is_correct": False},
    "a reward of nothing": {"messages": [USER, CALLING], "tools": TOOLS, "reward": 0.0},
    "no success": {"messages": [USER, WORDS], "tools": TOOLS, "success": False},
}


@pytest.mark.parametrize("case", NO_LABEL)
def test_what_is_not_to_be_learnt_leaves_a_query_and_a_count(tmp_path, case):
    report, examples, queries, rejected = run(tmp_path, [NO_LABEL[case]])
    assert not examples and [q.query for q in queries] == ["Leith?"] and not rejected
    assert report["left_out"]["answer_not_to_learn"] == 1 and report["tools"] == 2


def test_a_weight_of_one_changes_nothing(tmp_path):
    rows = [{"messages": [USER, {**CALLING, "weight": weight}], "tools": TOOLS} for weight in (1, 0.5, None, True)]
    rows += [{"query": "Leith?", "tools": TOOLS, "answers": J, "reward": 0.5, "is_valid": True, "success": None}]
    assert given(run(tmp_path, rows)[1]) == [[CALL]] * 5
    assert learnt({"train": True, "loss": None, "mask": False}) and not learnt({"train": "false"})


NO_TOOLS = {
    "blank": {"tools": " "},
    "empty": {"tools": []},
    "null": {"tools": None},
    "text of an empty list": {"tools": "[]"},
    "absent": {},
    "another column": {"tool_defs": json.dumps(TOOLS)},
    "another, real": {"available_tools": TOOLS},
}


@pytest.mark.parametrize("case", NO_TOOLS)
@pytest.mark.parametrize(
    "reply", [CALLING, {"role": "assistant", "content": f"<tool_call>{J}</tool_call>"}], ids=["calls", "text"]
)
def test_calls_without_offered_tools_leave_a_query_and_a_count(tmp_path, case, reply):
    report, examples, queries, _ = run(tmp_path, [{"messages": [USER, reply]} | NO_TOOLS[case]])
    assert not examples and [q.query for q in queries] == ["Leith?"]
    assert report["left_out"] == {"calls_without_tools": 1} and set(report["columns_not_read"]) <= {
        "tool_defs",
        "available_tools",
    }


def test_calls_without_tools_leave_a_query_whatever_the_format(tmp_path):
    rows = [
        {"query": "Leith?", "tools": "[]", "answers": f"[{J}]"},
        {"prompt": "Leith?", "completion": [CALLING]},
        {
            "system": f"Tools:\n{json.dumps(json_schema(TIDES))}",
            "conversations": [
                {"from": "user", "value": "Leith?"},
                {"from": "assistant", "value": "[tide_table(harbour='Leith')]"},
            ],
        },
    ]
    report, examples, queries, rejected = run(tmp_path, rows)
    assert not examples and len(queries) == 3 and report["left_out"]["calls_without_tools"] == 3 and not rejected


REFUSED = {
    "an empty reply": ({"messages": [USER, {"role": "assistant", "content": ""}], "tools": TOOLS}, "empty_answer"),
    "a thought and no more": (
        {"messages": [USER, {"role": "assistant", "content": "<think>Leith</think>"}], "tools": TOOLS},
        "empty_answer",
    ),
    "a result without its call": (
        {"messages": [USER, {"role": "assistant", "content": "Let me look."}, RESULT], "tools": TOOLS},
        "result_without_call",
    ),
    "a result inside the reply": (
        {"messages": [USER, {"role": "assistant", "content": "<tool_result>5 m</tool_result>"}], "tools": TOOLS},
        "result_without_call",
    ),
    "an observation as the reply": (
        {"messages": [USER, {"role": "assistant", "content": "Observation: 5 m"}], "tools": TOOLS},
        "result_without_call",
    ),
    "calls under another key": (
        {"messages": [USER, {"role": "assistant", "content": "Done.", "actions": [CALL]}], "tools": TOOLS},
        "calls_in_text",
    ),
    "calls in another column": ({"messages": [USER, WORDS], "expected_calls": [CALL], "tools": TOOLS}, "calls_in_text"),
    "calls in another column, as text": (
        {"messages": [USER, WORDS], "gold": f"[{J}]", "tools": TOOLS},
        "calls_in_text",
    ),
    "tagged calls in another column": (
        {"messages": [USER, WORDS], "target": f"<tool_call>{J}</tool_call>", "tools": TOOLS},
        "calls_in_text",
    ),
    "a call deep inside a message": (
        {
            "messages": [
                USER,
                {**WORDS, "parts": [{"invocation": {"toolName": "tide_table", "args": {"harbour": "Leith"}}}]},
            ],
            "tools": TOOLS,
        },
        "calls_in_text",
    ),
    "a call turn without calls": (
        {"messages": [USER, {"role": "tool_call", "content": ""}], "tools": TOOLS},
        "bad_calls",
    ),
    "two different arguments": (
        {"query": "Leith?", "tools": TOOLS, "answers": [{**CALL, "args": {"harbour": "Oban"}}]},
        "bad_call",
    ),
    "arguments under another key": (
        {
            "messages": [
                USER,
                {"role": "assistant", "tool_calls": [{"name": "tide_table", "values": {"harbour": "Leith"}}]},
            ],
            "tools": TOOLS,
        },
        "bad_call",
    ),
    "arguments beside the name": (
        {"query": "Leith?", "tools": TOOLS, "answers": [{"name": "tide_table", "harbour": "Leith"}]},
        "bad_call",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_reply_that_cannot_be_told_is_refused_and_leaves_a_query(tmp_path, case):
    row, reason = REFUSED[case]
    _, examples, queries, rejected = run(tmp_path, [row])
    assert not examples and [q.query for q in queries] == ["Leith?"] and [r["reason"] for r in rejected] == [reason]


@pytest.mark.parametrize("answers", [None, "", " "])
def test_no_answer_is_not_the_answer_that_no_tool_fits(tmp_path, answers):
    report, examples, queries, _ = run(tmp_path, [{"query": "Leith?", "tools": TOOLS, "answers": answers}])
    assert not examples and [q.query for q in queries] == ["Leith?"] and report["left_out"] == {"no_answer": 1}


def test_null_in_the_columns_of_another_layout_hides_nothing(tmp_path):
    nothing = {"from": None, "value": None}
    rows = [
        {"messages": [USER | nothing, CALLING | nothing], "tools": TOOLS},
        {"messages": [USER | nothing, {"role": "assistant", "content": J} | nothing], "tools": TOOLS},
    ]
    _, examples, _, rejected = run(tmp_path, rows)
    assert given(examples) == [[CALL]] * 2 and not rejected


def test_what_stands_beside_words_and_is_no_call_refuses_nothing(tmp_path):
    beside = {"tool_calls": "[]", "notes": "tide_table was offered", "split": {"name": "train", "part": {"n": 3}}}
    message = {**WORDS, "meta": {"tool": "tide_table", "tools": [json_schema(TIDES)]}}
    assert given(run(tmp_path, [{"messages": [USER, message], "tools": TOOLS} | beside])[1]) == [[]]


def test_an_empty_turn_that_a_user_answers_was_no_call(tmp_path):
    row = {
        "messages": [USER, {"role": "assistant", "content": ""}, {"role": "user", "content": "The key is 3."}, CALLING],
        "tools": TOOLS,
    }
    assert given(run(tmp_path, [row])[1]) == [[]]


UNREAD = [
    {"text": "Leith?", "tools": TOOLS},
    {"tools": TOOLS, "user": "Leith?"},
    {"tools": TOOLS, "contents": "Leith?"},
    {"tools": TOOLS, "user_input": "Leith?"},
    {"tools": TOOLS, "task": "Leith?", "ground_truth": [{"tide_table": {"harbour": ["Leith"]}}]},
    {"tools": TOOLS, "request": "Leith?", "reply": J},
    {"tools": TOOLS, "prompt": "Leith?"},
    {"tools": TOOLS, "session": [USER, CALLING]},
    {"tools": TOOLS, "gold": [CALL]},
    {"function": json_schema(TIDES), "input": "Leith?", "gold": [CALL]},
    {"tools": TOOLS, "chosen": "No.", "rejected": "Yes."},
    {"tools": TOOLS, "chat_history": [{"role": "USER", "message": "Leith?"}, {"role": "BOT", "message": "Noon."}]},
]


@pytest.mark.parametrize("row", UNREAD, ids=range(len(UNREAD)))
def test_a_list_of_tools_with_a_conversation_beside_it_is_no_list_of_tools(tmp_path, row):
    with pytest.raises(ValueError, match="no format recognises its rows"):
        run(tmp_path, [row])
    report, examples, _, rejected = run(tmp_path, [{"tools": TOOLS}, row], "b.jsonl")
    assert (
        not examples
        and report["tools"] == 2
        and [r["reason"] for r in rejected][:1] in (["unread_columns"], ["no_tools"])
    )


def test_what_stands_beside_a_list_of_tools_is_counted(tmp_path):
    rows = [
        {"server_name": "s", "license": "MIT", "stars": 3, "tags": ["sea"], "tools": TOOLS},
        {"jsonrpc": "2.0", "id": 1, "result": {"tools": TOOLS}},
        {"type": "function", "function": json_schema(CLOCK), "domain": "sea"},
    ]
    report, *_ = run(tmp_path, rows)
    assert report["columns_not_read"] == {"stars": 1, "tags": 1, "domain": 1} and report["tools"] >= 3


def test_columns_and_rejected_answers_are_counted(tmp_path):
    rows = [
        STRUCTURED["a preference"] | {"margin": 2},
        STRUCTURED["dialog"] | {"topic": "sea"},
        {"messages": [USER, WORDS], "tools": TOOLS, "label": "sea"},
    ]
    report, *_ = run(tmp_path, rows)
    assert report["columns_not_read"] == {"margin": 1, "topic": 1, "label": 1} and report["left_out"] == {
        "rejected_answer": 1
    }


def test_the_answer_of_a_later_request_is_a_dialogue(tmp_path):
    row = {"prompt": [USER, WORDS, {"role": "user", "content": "Yes"}], "completion": [CALLING], "tools": TOOLS}
    report, examples, queries, _ = run(tmp_path, [row])
    assert not examples and report["left_out"] == {"answer_not_to_learn": 1, "call_in_later_turn": 1}
    (example,) = run(tmp_path, [row], "all.jsonl", turns="all")[1]
    assert given([example]) == [[CALL]] and example.query.endswith("user: Yes")
    paired = {"query": "Yes", "response": J, "history": [["Leith?", "At which harbour?"]], "tools": TOOLS}
    assert run(tmp_path, [paired], "history.jsonl")[0]["left_out"] == {
        "answer_not_to_learn": 1,
        "call_in_later_turn": 1,
    }


def test_thoughts_in_a_field_of_their_own_are_counted(tmp_path):
    rows = [
        {"messages": [USER, {**CALLING, key: "Leith is meant."}], "tools": TOOLS}
        for key in ("reasoning_content", "reasoning", "thinking")
    ]
    report, examples, *_ = run(tmp_path, rows)
    assert report["left_out"] == {"reasoning": 3} and given(examples) == [[CALL]] * 3


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Assistant", "assistant"),
        ("USER", "user"),
        ("tool_calls", "call"),
        ("Function_Call", "call"),
        (" gpt ", "assistant"),
        ("Observation", "tool"),
        ("System", "system"),
        ("tool call", "call"),
        ("Tool-Response", "tool"),
    ],
)
def test_roles_in_any_case(name, role):
    assert role_of(name) == role


RENDERED = [
    "<|im_start|>user\nLeith?<|im_end|>\n<|im_start|>assistant\nNoon.<|im_end|>",
    "<|im_start|>system\nx<|im_end|>",
    "[INST] Leith? [/INST] Noon.",
    "<s>[INST] <<SYS>>\nx\n<</SYS>>\n\nLeith? [/INST]",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nLeith?<|eot_id|>",
    "<start_of_turn>user\nLeith?<end_of_turn>\n<start_of_turn>model\n",
    "<bos><start_of_turn>user\nLeith?",
    "<|user|>\nLeith?<|end|>\n<|assistant|>\nNoon.",
    "<｜begin▁of▁sentence｜><｜User｜>Leith?<｜Assistant｜>Noon.",
    "<|start|>user<|message|>Leith?<|end|>",
    "<|start_of_role|>user<|end_of_role|>Leith?",
    "<|im_user|>user<|im_middle|>Leith?<|im_end|>",
    "### Instruction:\nLeith?\n\n### Response:\nNoon.",
    "Tides of Leith?<|im_end|>\n<|im_start|>assistant\nNoon<|im_end|>",
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Leith?",
    "<extra_id_1>User\nLeith?",
    "### Human: Leith?\n### Assistant: Noon.",
    "\n\nHuman: Leith?\n\nAssistant:",
]
DECLARING = [
    f"Functions: <tools>{TAGGED}</tools>\nLeith?",
    f"You may call {json.dumps(json_schema(TIDES))}. Leith?",
    'Call {"name": "tides", "parameters": [{"name": "harbour"}]}. Leith?',
    "Tools: {'name': 'tides', 'parameters': {'harbour': {'type': 'str'}}} Leith?",
]
SPOKEN = [
    "\n\nHuman: Leith?\n\nAssistant: Noon.",
    "USER: Leith?\nASSISTANT: Noon.",
    "User: a\nBot: b\nUser: c\nBot: d",
    "**User:** a\n**Assistant:** b",
]


@pytest.mark.parametrize("text", [*RENDERED, *DECLARING, *SPOKEN])
def test_a_rendered_conversation_is_no_query(tmp_path, text):
    assert rendered(text) or holds_an_answer(text) or awaits_an_answer(text) or declares_tools(text)
    report, _, queries, rejected = run(tmp_path, [{"text": text}, {"text": "Leith?"}])
    reason = "tools_in_query" if text in DECLARING else "calls_in_text"
    assert [q.query for q in queries] == ["Leith?"] and [r["reason"] for r in rejected] == [reason]
    if text not in SPOKEN:
        row = {"query": text, "tools": TOOLS, "answers": [CALL]}
        assert not run(tmp_path, [row], "b.jsonl")[1]


@pytest.mark.parametrize(
    "text",
    [
        "What does <|im_start|> mean?",
        "Is <|im_start|>user the mark of a user?",
        "user: Tides?\nassistant: Where?\nuser: Leith",
        "[INST is a tag?",
        "Write: Assistant: hello",
        "a < b and [c]",
        "# Title\nuser: me",
        "Human: who?",
        "Book [1] <b>now</b>",
        "What does <tools> mean?",
        'Why is {"parameters": {"type": "Leith"}} wrong?',
        "The model: how good is it?",
    ],
)
def test_a_query_that_speaks_of_marks_stays_one(tmp_path, text):
    assert not awaits_an_answer(text)
    assert [q.query for q in run(tmp_path, [{"text": text}])[2]] == [text]


@pytest.mark.parametrize(
    "first",
    [
        "Run a query, then stop the pump.",
        "The query, please",
        "query the tides, then dock",
        "Which text, which harbour?",
    ],
)
def test_a_sentence_is_no_header(tmp_path, first):
    lines = [first, "Open the gate, please.", "Close it."]
    for name in ("a.lst", "queries", "b.txt"):
        assert [q.query for q in run(tmp_path, "\n".join(lines), name, format="queries")[2]] == lines
    assert [
        q.query for q in run(tmp_path, '"Query",Tool\n"how deep, then?",Sonar\n', "c.lst", format="queries")[2]
    ] == ["how deep, then?"]
    assert [q.query for q in run(tmp_path, "id\tquery\n3\thow deep, then?\n", "d.lst", format="queries")[2]] == [
        "how deep, then?"
    ]


def test_odd_rows_are_recognised_by_nothing_and_crash_nothing():
    odd = [
        {"conversations": ["a", "b"]},
        {"messages": [[]]},
        {"messages": "[{"},
        {"dialogue": []},
        {"dialogue": [3]},
        {"chosen": 3, "rejected": 4},
        {"prompt": {}, "completion": {}},
        {"tools": [None]},
        {"prompt": [None], "completion": [None], "tools": TOOLS},
        {"messages": [{"role": None, "content": 3}]},
    ]
    for row in odd:
        guess(row)


@pytest.mark.parametrize("result", ["<tool_response>noon</tool_response>", "Observation: noon", "[TOOL_RESULTS] noon"])
def test_a_result_in_the_name_of_the_user_is_no_request(tmp_path, result):
    turns = [USER, CALLING, {"role": "user", "content": result}, CALLING]
    report, examples, _, _ = run(tmp_path, [{"messages": turns, "tools": TOOLS}], turns="all")
    assert given(examples) == [[CALL]] and report["left_out"] == {"call_after_result": 1}
    if not result.startswith("Observation"):            # which a person may say, too
        _, examples, queries, rejected = run(tmp_path, [{"messages": turns[2:], "tools": TOOLS}], "cut.jsonl")
        assert not examples and not queries and [r["reason"] for r in rejected] == ["no_user_message"]


@pytest.mark.parametrize("keyword", ["enum", "items", "properties"])
def test_null_under_a_keyword_tells_a_table_too(tmp_path, keyword):
    about = {"type": "object", "required": ["harbour"], "properties": {
        "harbour": {"type": "string", "description": "Which."},
        "days": {"type": "integer", "description": "How many.", keyword: None}}}
    tool = {"name": "tide_table", "description": "Tides.", "parameters": about}
    call = {"name": "tide_table", "arguments": {"harbour": "Leith", "days": None}}
    rows = [{"messages": [USER, {"role": "assistant", "tool_calls": [call]}], "tools": [tool]}]
    _, (example,), _, _ = run(tmp_path, rows, check=True)
    assert given([example]) == [[CALL]] and example.provenance["notes"] == ["nulls_of_a_table"]


def test_an_answer_of_typed_items_is_not_taken_for_nestful(tmp_path):
    output = [{"type": "function_call", "call_id": "c", **CALL, "arguments": ARGS}]
    _, (example,), _, _ = run(tmp_path, [{"input": "Leith?", "output": output, "tools": TOOLS}])
    assert given([example]) == [[CALL]]


def test_tools_that_one_object_declares_are_read_one_by_one(tmp_path):
    declared = [{"functionDeclarations": [json_schema(TIDES), json_schema(CLOCK)]}]
    _, (example,), _, _ = run(tmp_path, [{"messages": [USER, CALLING], "tools": declared}])
    assert given([example]) == [[CALL]] and [tool.name for tool in example.tools] == ["tide_table", "sundial"]
    assert run(tmp_path, [{"tools": declared}], "alone.jsonl")[0]["tools"] == 2


TAGGED_CALL = {"role": "assistant", "content": f"<tool_call>{J}</tool_call>"}
PYTHON = "tide_table(harbour='Leith')"
BEDROCK = [{"toolSpec": {"name": name, "inputSchema": {"json": schema["parameters"]}, "description": "x"}}
           for name, schema in (("tide_table", json_schema(TIDES)), ("sundial", json_schema(CLOCK)))]
SERVICES = {
    "SmolTalk": {"messages": [USER, TAGGED_CALL],
                 "chat_template_kwargs": {"xml_tools": [json.dumps(tool) for tool in TOOLS], "python_tools": []}},
    "OLMo": {"messages": [{"role": "system", "content": "x", "functions": json.dumps(TOOLS)}, USER,
                          {"role": "assistant", "content": None, "function_calls": PYTHON},
                          {"role": "environment", "content": "noon"}]},
    "Responses, a thought": {"input": [USER], "tools": TOOLS, "output": [
        {"type": "reasoning", "summary": []}, {"type": "function_call", "call_id": "c", **CALL, "arguments": ARGS}]},
    "spaced roles": {"conversation": [USER, {"role": "tool call", "content": CALL}, {"role": "tool-response",
                                                                                  "content": "noon"}], "tools": TOOLS},
    "metadata": {"messages": [USER, CALLING], "metadata": json.dumps({"tools": TOOLS, "source": "made"})},
    "Bedrock": {"toolConfig": {"tools": BEDROCK}, "messages": [
        {"role": "user", "content": [{"text": "Leith?"}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c", "name": "tide_table",
                                                       "input": CALL["arguments"]}},
                                          {"reasoningContent": {"reasoningText": {"text": "Leith"}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "c", "content": [{"json": {"at": "noon"}}]}}]}]},
}


def test_a_prompt_by_itself_is_a_query_with_its_tools(tmp_path):
    rows = [{"prompt": [USER, *said], "tools": TOOLS, "seed": 1} for said in ([], [WORDS], [CALLING])]
    report, examples, queries, rejected = run(tmp_path, rows)
    assert [q.query for q in queries] == ["Leith?"] * 3 and report["tools"] == 2 and not examples and not rejected


@pytest.mark.parametrize("case", SERVICES)
def test_calls_and_tools_where_services_and_corpora_keep_them_are_read(tmp_path, case):
    _, (example,), _, rejected = run(tmp_path, [SERVICES[case]])
    assert example.query == "Leith?" and given([example]) == [[CALL]] and not rejected
    assert [tool.name for tool in example.tools] == ["tide_table", "sundial"]


GOT = {"type": "tool_use", "id": "t", "name": "tide_table", "input": CALL["arguments"]}
ASKED = {"role": "user", "parts": [{"text": "Leith?"}]}
PARTS = {
    "Anthropic": {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "I look."}, GOT]},
                               {"role": "user", "content": [{"type": "tool_result", "content": "noon"}]},
                               {"role": "assistant", "content": [GOT]}]},
    "Anthropic, a thought": {"messages": [USER, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "Leith", "signature": "x"}, GOT]}]},
    "Gemini": {"contents": [ASKED, {"role": "model", "parts": [
        {"functionCall": {"name": "tide_table", "args": CALL["arguments"]}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "tide_table", "response": {"at": "noon"}}}]},
        {"role": "model", "parts": [{"text": "At noon."}]}]},
    "Vertex": {"contents": [ASKED, {"role": "model", "parts": [
        {"text": "hm", "thought": True}, {"function_call": {"name": "tide_table", "args": CALL["arguments"]}}]}]},
    "LangChain": {"messages": [USER, {"role": "ai", "content": [GOT], "tool_calls": [CALL]}]},
    "LangChain's types": {"messages": [{"type": "human", "content": "Leith?"}, {
        "type": "ai", "content": "", "tool_calls": [
            {"name": "tide_table", "args": CALL["arguments"], "id": "c", "type": "tool_call"}]}]},
    "OpenAI's items": {"messages": [USER, {"type": "function_call", "call_id": "c", **CALL, "arguments": ARGS},
                                    {"type": "function_call_output", "call_id": "c", "output": "noon"}]},
}


@pytest.mark.parametrize("case", PARTS)
def test_calls_among_the_parts_of_a_message_are_read(tmp_path, case):
    report, examples, _, rejected = run(tmp_path, [PARTS[case] | {"tools": TOOLS}], turns="all")
    assert [example.query for example in examples] == ["Leith?"] and given(examples) == [[CALL]] and not rejected
    counts = {"Anthropic": {"words_beside_calls": 1, "call_after_result": 1}, "Vertex": {"reasoning": 1},
              "Anthropic, a thought": {"reasoning": 1}}
    assert report["left_out"] == counts.get(case, {})


def test_parts_that_cannot_be_told_are_refused_as_before(tmp_path):
    both = [GOT, {"type": "tool_result", "content": "noon"}]
    nameless = {"role": "assistant", "content": [{"type": "tool_use", "input": {}}]}
    for number, reply in enumerate((nameless, {"role": "assistant", "content": both})):
        _, examples, _, rejected = run(tmp_path, [{"messages": [USER, reply], "tools": TOOLS}], f"{number}.jsonl")
        assert not examples and [r["reason"] for r in rejected] == ["unread_part"]


@pytest.mark.parametrize(("row", "words"), [
    ({"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions",
      "body": {"messages": [{"role": "user", "content": "Leith?"}], "tools": TOOLS}}, "the object under 'body'"),
    ({"id": "b", "custom_id": "r1", "response": {"status_code": 200, "body": {"choices": []}}, "error": None},
     "without their questions"),
    ({"input": {"messages": [{"role": "user", "content": "Leith?"}], "tools": TOOLS},
      "preferred_output": [{"role": "assistant", "content": "Noon."}], "non_preferred_output": []}, "preference rows"),
    ({"message": "Leith?", "tools": TOOLS, "tool_calls": [CALL]}, "Cohere's first chat service"),
    ({"uuid": "u", "question": "Leith?", "correct_answer": "direct", "answers": {"direct": "Noon."},
      "target_tool": "null", "tools": []}, "a benchmark, for evaluation alone"),
    ({"a": 1, "data": [{"tools": TOOLS}]}, r"has the keys a, data; its rows may lie in 'data' \(1 objects\)"),
], ids=["batch", "batch-answers", "preference", "cohere", "when2call-test", "list-in-an-object"])
def test_known_rows_without_a_reader_are_refused_by_name_with_what_to_do(tmp_path, row, words):
    with pytest.raises(ValueError, match=words):
        run(tmp_path, [row, row])
