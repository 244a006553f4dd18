"""Small benchmarks of our own in the published formats, and the folder of the real ones where there is one."""

import json
import os
from pathlib import Path

import pytest


def real(part: str) -> Path:
    """TOOLDEV_DATA/bench/PART, or skip with the reason."""
    if not os.environ.get("TOOLDEV_DATA"):
        pytest.skip("set TOOLDEV_DATA to a folder with bench/bfcl, bench/apibank and bench/teval")
    folder = Path(os.environ["TOOLDEV_DATA"]) / "bench" / part
    if not folder.is_dir():
        pytest.skip(f"TOOLDEV_DATA has no bench/{part}")
    return folder


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def lines(rows: list[dict]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def function(name: str, properties: dict, required: list[str]) -> dict:
    return {
        "name": name,
        "description": f"Does {name}.",
        "parameters": {"type": "dict", "properties": properties, "required": required},
    }


LAMP = function(
    "lamp.set",
    {
        "room": {"type": "string", "description": "Which room."},
        "level": {"type": "integer", "description": "0 to 100."},
        "warm": {"type": "boolean", "description": "Warm light."},
    },
    ["room", "level"],
)
OVEN = function("oven_heat", {"degrees": {"type": "float", "description": "Celsius."}}, ["degrees"])
WEIGH = function(
    "scale.weigh",
    {
        "parts": {"type": "Array", "items": {"type": "integer"}, "description": "Weights."},
        "limit": {"type": "long", "description": "Limit."},
    },
    ["parts"],
)
DRAW = function(
    "drawLine", {"points": {"type": "array", "items": {"type": "float"}, "description": "Points."}}, ["points"]
)

BFCL = {  # category -> (functions, expected calls) of each of its entries
    "simple": [
        ([LAMP], [{"lamp.set": {"room": ["hall", "the hall"], "level": [40], "warm": ["", True]}}]),
        ([OVEN], [{"oven_heat": {"degrees": [180.0]}}]),
    ],
    "java": [([WEIGH], [{"scale.weigh": {"parts": [[1, 2]], "limit": ["", 9]}}])],
    "javascript": [([DRAW], [{"drawLine": {"points": [[1.0, 2.5]]}}])],
    "multiple": [([OVEN, LAMP], [{"lamp.set": {"room": ["attic"], "level": [1, 2], "warm": [""]}}])],
    "parallel": [
        (
            [LAMP],
            [
                {"lamp.set": {"room": ["hall"], "level": [1], "warm": [""]}},
                {"lamp.set": {"room": ["hall"], "level": [1, 2], "warm": [""]}},
            ],
        )
    ],
    "parallel_multiple": [
        (
            [OVEN, LAMP],
            [{"oven_heat": {"degrees": [200.0]}}, {"lamp.set": {"room": ["kitchen"], "level": [90], "warm": [""]}}],
        )
    ],
    "live_simple": [([OVEN], [{"oven_heat": {"degrees": [100.0, 212.0]}}])] * 2,
    "live_multiple": [([OVEN, LAMP], [{"oven_heat": {"degrees": [90.0]}}])] * 3,
    "live_parallel": [([OVEN], [{"oven_heat": {"degrees": [1.0]}}, {"oven_heat": {"degrees": [2.0]}}])],
    "live_parallel_multiple": [([OVEN, LAMP], [{"oven_heat": {"degrees": [3.0]}}])],
}
LATER = {"simple": "simple_python", "java": "simple_java", "javascript": "simple_javascript"}


def bfcl_folder(path: Path, *, later: bool = False, irrelevance: int = 0) -> Path:
    """A leaderboard folder of 14 entries, in the layout of 2024-09-20 or of the later package."""
    (path / "possible_answer").mkdir(parents=True, exist_ok=True)
    version = "v4" if later else "v3"
    for category, entries in BFCL.items():
        name = LATER.get(category, category) if later else category
        questions = [
            {
                "id": f"{name}_{i}",
                "question": [[{"role": "user", "content": f"Question {i} of {category}."}]],
                "function": functions,
            }
            for i, (functions, _) in enumerate(entries)
        ]
        answers = [{"id": f"{name}_{i}", "ground_truth": truth} for i, (_, truth) in enumerate(entries)]
        (path / f"BFCL_{version}_{name}.json").write_text(lines(questions), encoding="utf-8")
        (path / "possible_answer" / f"BFCL_{version}_{name}.json").write_text(lines(answers), encoding="utf-8")
    if irrelevance:
        rows = [
            {"id": f"irrelevance_{i}", "question": [[{"role": "user", "content": "Sing."}]], "function": [LAMP]}
            for i in range(irrelevance)
        ]
        (path / f"BFCL_{version}_irrelevance.json").write_text(lines(rows), encoding="utf-8")
    return path


def call_text(name: str, arguments: dict) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


ACCOUNTS = {"Ada": {"password": "pw", "token": "tok1", "email": "ada@mail.org"}}
APIS = [
    {
        "name": "GetUserToken",
        "description": "Get a token.",
        "output_parameters": {},
        "suite": "level-1/2",
        "input_parameters": {
            "username": {"type": "str", "description": "User."},
            "password": {"type": "str", "description": "Word."},
        },
    },
    {
        "name": "AddReminder",
        "description": "Add a reminder.",
        "output_parameters": {},
        "suite": "level-1/2",
        "input_parameters": {
            "token": {"type": "str", "description": "Token."},
            "content": {"type": "str", "description": "What."},
            "time": {"type": "str", "description": "When."},
        },
    },
    {
        "name": "QueryStock",
        "description": "Price of a stock.",
        "output_parameters": {},
        "suite": "level-1/2",
        "input_parameters": {
            "stock_code": {"type": "str", "description": "Code."},
            "date": {"type": "str", "description": "Day."},
        },
    },
    {
        "name": "ToolSearcher",
        "description": "Find a tool.",
        "output_parameters": {},
        "suite": "level-1/2",
        "input_parameters": {"keywords": {"type": "str", "description": "Words."}},
    },
]


def _turn(name: str, arguments: dict, output: object) -> dict:
    return {
        "role": "API",
        "api_name": name,
        "param_dict": arguments,
        "result": {"api_name": name, "input": arguments, "output": output, "exception": None},
    }


def apibank_folder(path: Path) -> Path:
    """Two dialogues: token, reminder and stock on level 1, a search on level 2."""
    one = [
        {"role": "User", "text": "Remind me."},
        _turn("GetUserToken", {"username": "Ada", "password": "pw"}, {"token": "tok1"}),
        _turn(
            "AddReminder", {"token": "tok1", "content": "feed the old cat", "time": "2023-05-04 10:00:00"}, "success"
        ),
        {"role": "AI", "text": "Done."},
        _turn("QueryStock", {"stock_code": "ABC", "date": "2023-01-02"}, 12.5),
        {"role": "AI", "text": "12.5"},
    ]
    two = [
        {"role": "User", "text": "Stocks?"},
        _turn("ToolSearcher", {"keywords": "stock price"}, {"name": "QueryStock", "description": "Price of a stock."}),
        {"role": "AI", "text": "Found."},
    ]
    for folder, name, turns in (("level-1-given-desc", "one.jsonl", one), ("level-2-toolsearcher", "two.jsonl", two)):
        target = path / "lv1-lv2-samples" / folder
        target.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(lines(turns), encoding="utf-8")
    instruction = "\nMake a request.\nAPI descriptions:\n" + "\n".join(
        json.dumps({key: api[key] for key in ("name", "description", "input_parameters")}) for api in APIS[:3]
    )
    expected = {
        0: "[GetUserToken(username='Ada', password='pw')]",
        1: "[AddReminder(token='tok1', content='feed the old cat', time='2023-05-04 10:00:00')]",
        2: "[AddReminder(token='tok1', content='feed the old cat', time='2023-05-04 10:00:00')]",
        4: "[QueryStock(stock_code='ABC', date='2023-01-02')]",
    }
    level_1 = [
        {
            "file": "one.jsonl",
            "id": i,
            "instruction": instruction,
            "input": "User: Remind me.\nGenerate API Request:\n",
            "expected_output": f"API-Request: {text}",
        }
        for i, text in expected.items()
    ]
    level_2 = [
        {
            "file": "two.jsonl",
            "id": 0,
            "instruction": instruction,
            "input": "User: Stocks?\nGenerate API Request:\n",
            "expected_output": "API-Request: [ToolSearcher(keywords='stock price')]",
        }
    ]
    (path / "test-data").mkdir(exist_ok=True)
    (path / "test-data" / "level-1-api.json").write_text(json.dumps(level_1), encoding="utf-8")
    (path / "test-data" / "level-2-api.json").write_text(json.dumps(level_2), encoding="utf-8")
    (path / "api_docs.json").write_text(json.dumps(APIS), encoding="utf-8")
    (path / "init_database").mkdir(exist_ok=True)
    for name, content in (("Account", ACCOUNTS), ("Stock", {"ABC": {"2023-01-02": 12.5}}), ("Reminder", {})):
        (path / "init_database" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return path


PLAN = [
    {"id": 0, "prev": [], "name": "Map.find", "args": {"place": "Ulm"}},
    {"id": 1, "prev": [0], "name": "Map.route", "args": {"to": "Ulm"}},
    {"id": 2, "prev": [1], "name": "Mail.send", "args": {"text": "on my way"}},
    {"id": 3, "prev": [2], "name": "FinishAction", "args": {}},
]


def teval_folder(path: Path) -> Path:
    """One item of each of the five tasks."""
    path.mkdir(parents=True, exist_ok=True)
    prompt = [{"role": "system", "content": "APIs."}, {"role": "user", "content": "Go to Ulm."}]
    plan = {
        "meta": {"prompt_type": "json", "API_list": ["Map.find", "Map.route", "Mail.send"]},
        "ground_truth": PLAN,
        "origin_prompt": prompt,
    }
    call = {
        "ground_truth": {"thought": "t", "name": "Map.find", "args": {"place": "Ulm", "size": 3}},
        "origin_prompt": [*prompt, {"role": "function", "content": "{}"}, {"role": "user", "content": "Which?"}],
    }
    word = {"ground_truth": {"args": "Ulm"}, "origin_prompt": prompt}
    for name, item in (
        ("plan_json_v2", plan),
        ("plan_str_v2", plan),
        ("retrieve_str_v2", call),
        ("understand_str_v2", word),
        ("reason_retrieve_understand_json_v2", call),
    ):
        (path / f"{name}.json").write_text(json.dumps({"q1": item}), encoding="utf-8")
    return path
