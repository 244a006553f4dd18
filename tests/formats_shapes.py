"""Twenty-five hand-written cases in neutral words, and one hand-written speller per corpus format.

`CASES` say what a conversion must give. `SPELL[format](case)` writes the case as a row of that format, by hand-made
text and schema rules that share nothing with the readers under test. Where a format cannot say something (a query list
has no calls), the speller says so in `CANNOT`.
"""

import json

S, I, N, B, A, D = "string", "integer", "number", "boolean", "array", "dict"


def arg(kind, description, items=None, **more):
    """One argument's schema in the canonical spelling."""
    return {"type": kind, "description": description, **({"items": {"type": items}} if items else {}), **more}


def tool(name, description, required=(), results=None, **arguments):
    """One tool in the canonical spelling; a trailing underscore in an argument's name is taken off (`from_`)."""
    properties = {key.rstrip("_"): value for key, value in arguments.items()}
    record = {"name": name, "description": description,
              "arguments": {"type": "dict", "properties": properties, "required": list(required)}}
    if results:
        record["results"] = {"type": "dict", "properties": results}
    return record


def call(name, /, **arguments):
    return {"name": name, "arguments": {key.rstrip("_"): value for key, value in arguments.items()}}


TIDES = tool("tide_table", "Times of high and low water at a harbour.", ["harbour"],
             harbour=arg(S, "Name of the harbour."),
             days=arg(I, "How many days.", default=1),
             unit=arg(S, "Unit of height.", enum=["metre", "foot"], default="metre"))
FERRY = tool("Ferry Timetable API", "Sailings between two ports.", ["from", "to"], from_=arg(S, "Port of departure."),
             to=arg(S, "Port of arrival."), cars=arg(B, "Does the ferry take cars?"),
             max_price=arg(N, "Dearest ticket."))
LOOM = tool("loom.weave", "Weave a pattern.", ["threads"], threads=arg(A, "Colours of the threads.", S),
            rows=arg(A, "Lengths of the rows.", I), tension=arg(N, "Pull on the warp, in newton."))
BEES = tool("hive-monitor", "State of a bee hive.", [], hive=arg(I, "Number of the hive."),
            since=arg(S, "First day to report."))
CLOCK = tool("sundial", "The hour by the sun.")
STARS = tool("Star Chart (v2)", "Stars above the horizon.", ["latitude", "longitude"],
             latitude=arg(N, "Degrees north."), longitude=arg(N, "Degrees east."), options=arg(D, "Drawing options."))
MOULD = tool("brotprüfer", "Prüft, ob Brot schimmelt.", ["sorte"], sorte=arg(S, "Brotsorte."),
             tage=arg(I, "Alter in Tagen."))

CASES = [
    ("When is high water in Whitby?", [TIDES], [call("tide_table", harbour="Whitby")]),
    ("Tides for Brest over three days, in feet please", [TIDES, CLOCK],
     [call("tide_table", harbour="Brest", days=3, unit="foot")]),
    ("Tides for Brest and for Cuxhaven", [TIDES],
     [call("tide_table", harbour="Brest"), call("tide_table", harbour="Cuxhaven")]),
    ("Which ferries go from Split to Hvar?", [FERRY], [call("Ferry Timetable API", from_="Split", to="Hvar")]),
    ("Split to Hvar with the car, under 40.5", [TIDES, FERRY],
     [call("Ferry Timetable API", from_="Split", to="Hvar", cars=True, max_price=40.5)]),
    ("Hvar to Split, on foot", [FERRY, LOOM], [call("Ferry Timetable API", from_="Hvar", to="Split", cars=False)]),
    ("Weave red and blue", [LOOM], [call("loom.weave", threads=["red", "blue"])]),
    ("Weave green, rows of 3, 1 and 4, tension 2.75", [LOOM, BEES],
     [call("loom.weave", threads=["green"], rows=[3, 1, 4], tension=2.75)]),
    ("An empty pattern at a tension of -1e-3", [LOOM], [call("loom.weave", threads=[], tension=-0.001)]),
    ("How is hive 7?", [BEES, CLOCK], [call("hive-monitor", hive=7)]),
    ("How are hives 0 and -12?", [BEES], [call("hive-monitor", hive=0), call("hive-monitor", hive=-12)]),
    ("All hives since the 3rd", [BEES], [call("hive-monitor", since="2031-05-03")]),
    ("What hour is it by the sun?", [CLOCK], [call("sundial")]),
    ("The hour, and high water in Leith", [CLOCK, TIDES], [call("sundial"), call("tide_table", harbour="Leith")]),
    ("Stars over Quito", [STARS], [call("Star Chart (v2)", latitude=-0.18, longitude=-78.47)]),
    ("Stars over 0 0 with names and two layers", [STARS, FERRY],
     [call("Star Chart (v2)", latitude=0.0, longitude=0.0,
           options={"names": True, "layers": ["lines", "planets"], "zoom": 2})]),
    ("Schimmelt das Roggenbrot nach fünf Tagen?", [MOULD], [call("brotprüfer", sorte="Roggenbrot", tage=5)]),
    ("東京の潮は？", [TIDES], [call("tide_table", harbour="東京")]),
    ("Tides at \"O'Brien's\" quay", [TIDES], [call("tide_table", harbour="\"O'Brien's\" quay")]),
    ("Tides at a harbour called ) ], 'x=(", [TIDES], [call("tide_table", harbour=") ], 'x=(")]),
    ("Two lines:\nharbour with a\\backslash", [TIDES], [call("tide_table", harbour="a\\backslash\nand a line")]),
    ("Since [hive(7)], since=\"never\"", [BEES], [call("hive-monitor", since="[hive(7)], since=\"never\"")]),
    ("All at once", [TIDES, FERRY, LOOM, BEES, CLOCK, STARS, MOULD],
     [call("sundial"), call("hive-monitor", hive=1), call("brotprüfer", sorte="Toast", tage=2)]),
    ("Ein Emoji 🧶 bitte", [LOOM], [call("loom.weave", threads=["🧶", "</tool_call>"])]),
    ("  spaces around, and a very big number  ", [BEES], [call("hive-monitor", hive=9007199254740993)]),
]
CASES = [{"query": query, "tools": tools, "calls": calls} for query, tools, calls in CASES]

PYTHON = {S: "str", I: "int", N: "float", B: "bool", D: "dict"}
SCHEMA = {D: "object"}
FORM = {S: "STRING", I: "INTEGER", N: "NUMBER", B: "BOOLEAN", A: "ARRAY", D: "OBJECT"}


def python_word(schema, optional=False):
    word = f"List[{PYTHON[schema['items']['type']]}]" if schema["type"] == A else PYTHON[schema["type"]]
    return word + ", optional" if optional else word


def respelled(schema, words):
    """A schema with other type words, item types too."""
    out = dict(schema, type=words.get(schema["type"], schema["type"]))
    if "items" in schema:
        out["items"] = {"type": words.get(schema["items"]["type"], schema["items"]["type"])}
    return out


def json_schema(record, key="parameters", kind="object"):
    properties = {name: respelled(schema, SCHEMA) for name, schema in record["arguments"]["properties"].items()}
    return {"name": record["name"], "description": record["description"],
            key: {"type": kind, "properties": properties, "required": record["arguments"]["required"]}}


def wrapped(record):
    return {"type": "function", "function": json_schema(record)}


def flat(record, mark_optional=False):
    """Argument name -> spec with Python words and no `items`; nothing says what is required but `, optional`."""
    needed = record["arguments"]["required"]
    out = {}
    for name, schema in record["arguments"]["properties"].items():
        spec = {key: value for key, value in schema.items() if key != "items"}
        out[name] = spec | {"type": python_word(schema, mark_optional and name not in needed)}
    return out


def pythonic(calls, quote=repr):
    return "[" + ", ".join(f"{c['name']}({', '.join(f'{k}={quote(v)}' for k, v in c['arguments'].items())})"
                           for c in calls) + "]"


def toolace(case):
    listed = json.dumps([json_schema(record, kind="dict") | {"required": None} for record in case["tools"]])
    return {"system": "You compose functions.\nHere is a list of functions in JSON format that you can "
                      f"invoke:\n{listed}. \nPut it in the format of [func1(params_name=params_value)]\n\nNO other "
                      "text MUST be included.",
            "conversations": [{"from": "user", "value": case["query"]},
                              {"from": "assistant", "value": pythonic(case["calls"])}]}


def xlam(case):
    tools = [{"name": t["name"], "description": t["description"], "parameters": flat(t, True)} for t in case["tools"]]
    return {"id": 0, "query": case["query"], "tools": json.dumps(tools), "answers": json.dumps(case["calls"])}


def hermes(case):
    tools = "\n".join(json.dumps(wrapped(record)) for record in case["tools"])
    calls = "\n".join(f"<tool_call>\n{json.dumps(entry)}\n</tool_call>" for entry in case["calls"])
    return {"conversations": [{"from": "system", "value": f"You call functions. <tools>\n{tools}\n</tools> Answer in "
                                                          "<tool_call> tags."},
                              {"from": "human", "value": case["query"]}, {"from": "gpt", "value": calls}]}


def sharegpt(case):
    turns = [{"from": "function_call", "value": json.dumps(entry)} for entry in case["calls"]]
    return {"conversations": [{"from": "human", "value": case["query"]}, *turns,
                              {"from": "observation", "value": "{}"}],
            "tools": json.dumps([json_schema(record) for record in case["tools"]])}


def messages(case):
    turns = [{"role": "tool_call", "content": json.dumps(entry)} for entry in case["calls"]]
    return {"messages": [{"role": "user", "content": case["query"]}, *turns],
            "tools": json.dumps([wrapped(t) for t in case["tools"]])}


def glaive(case):
    tools = "\n\n".join(json.dumps(json_schema(record), indent=4) for record in case["tools"])
    entry = case["calls"][0]
    arguments = json.dumps(entry["arguments"]).replace("'", "\\'")
    said = f'<functioncall> {{"name": {json.dumps(entry["name"])}, "arguments": \'{arguments}\'}} <|endoftext|>'
    return {"system": "SYSTEM: You are a helpful assistant with access to the following functions. Use them if "
                      f"required -\n{tools}\n",
            "chat": f"USER: {case['query']}\n\n\nASSISTANT: {said}\n\n\nFUNCTION RESPONSE: {{}}\n\n\nASSISTANT: Done. "
                    "<|endoftext|>\n"}


def openai(case):
    calls = [{"id": f"c{n}", "type": "function",
              "function": {"name": c["name"], "arguments": json.dumps(c["arguments"])}}
             for n, c in enumerate(case["calls"])]
    return {"messages": [{"role": "user", "content": case["query"]},
                         {"role": "assistant", "content": None, "tool_calls": calls}],
            "tools": [wrapped(record) for record in case["tools"]]}


def toolalpaca(case):
    paths, places = {}, {}
    for number, record in enumerate(case["tools"]):
        parameters = [{"name": name, "in": "query", "required": name in record["arguments"]["required"],
                       "description": schema["description"],
                       "schema": {k: v for k, v in respelled(schema, SCHEMA).items() if k != "description"}}
                      for name, schema in record["arguments"]["properties"].items()]
        paths[f"/p{number}"] = {"get": {"operationId": record["name"], "description": record["description"],
                                        "parameters": parameters}}
        places[record["name"]] = [f"/p{number}", "get"]
    actions = [{"Action": c["name"], "Action_Input": json.dumps(c["arguments"])} for c in case["calls"]]
    return {"Name": "Made up", "Documentation": json.dumps({"openapi": "3.0.0", "paths": paths}),
            "Function_Projection": places, "Instructions": [case["query"]], "Golden_Answers": [actions]}


def seal_tool(record):
    needed = record["arguments"]["required"]
    return {"api_name": record["name"], "api_description": record["description"], "parameters": flat(record),
            "required": needed, "responses": {"answer": {"type": "str", "description": "The answer."}}}


def sealtools(case):
    prompt = ("Please choose the needed apis.\n\nInput:\napi_list = " + repr([seal_tool(t) for t in case["tools"]])
              + '\ntask_instruction = "' + case["query"] + '"\nOutput:\n')
    answer = [{"api": c["name"], "parameters": c["arguments"], "responses": ["API_call_0"]} for c in case["calls"]]
    return {"id": "made-0", "conversations": [{"from": "human", "value": prompt},
                                              {"from": "gpt", "value": repr(answer)}]}


def nestools(case):
    calls = [{"api_name": c["name"], "parameters": c["arguments"], "responses": ["API_call_0"]} for c in case["calls"]]
    return {"test_id": 1, "api": [seal_tool(t) for t in case["tools"]], "task": case["query"], "call": calls,
            "field": "Made/Up"}


def bench_tool(record):
    needed = record["arguments"]["required"]
    listed = [{"name": name, **respelled(schema, FORM)} for name, schema in record["arguments"]["properties"].items()]
    return {"name": record["name"], "description": record["description"], "method": "GET",
            "required_parameters": [p for p in listed if p["name"] in needed],
            "optional_parameters": [p for p in listed if p["name"] not in needed]}


def toolbench(case):
    tools = [{**{k: v for k, v in bench_tool(t).items() if k not in ("name", "description")}, "category_name": "Made",
              "tool_name": "Up", "api_name": t["name"], "api_description": t["description"]} for t in case["tools"]]
    return {"query": case["query"], "query_id": 1, "api_list": tools,
            "relevant APIs": [["Up", c["name"]] for c in case["calls"]]}


def toolbench_tools(case):
    return {"category": "Made", "tool_name": "Up", "tool_description": "Made up.",
            "api_list": [bench_tool(t) for t in case["tools"]]}


def apibank(case):
    tools = [{"name": t["name"], "description": t["description"], "parameters": flat(t)} for t in case["tools"]]
    return {"query": [{"role": "user", "content": case["query"]},
                      {"role": "agent", "content": "Sure.\nGenerate API Request:"}],
            "tools": tools, "answers": case["calls"]}


def apibank_prompt(case):
    tools = "\n".join(json.dumps({"name": t["name"], "description": t["description"], "input_parameters": flat(t)})
                      for t in case["tools"])
    return {"file": "made.jsonl", "id": 0, "instruction": f"Generate an API request.\n\nAPI descriptions:\n{tools}",
            "input": f"User: {case['query']}\nGenerate API Request:\n",
            "expected_output": "API-Request: " + pythonic(case["calls"][:1])}


def accepted(value):
    """BFCL's lists of accepted values, objects field by field."""
    return {k: [accepted(v), ""] for k, v in value.items()} if isinstance(value, dict) else value


def bfcl(case):
    truth = [{c["name"]: {k: [accepted(v), "another"] for k, v in c["arguments"].items()}} for c in case["calls"]]
    return {"id": "parallel_0", "question": [[{"role": "user", "content": case["query"]}]],
            "function": [json_schema(t, kind="dict") for t in case["tools"]], "ground_truth": truth}


def mcp(case):
    return {"jsonrpc": "2.0", "id": 1, "result": {"tools": [json_schema(t, key="inputSchema") for t in case["tools"]]}}


def tools(case):
    return wrapped(case["tools"][0])


def queries(case):
    return {"id": "7", "user_request": case["query"]}


def functionchat(case):
    calls = [{"id": "x", "type": "function", "function": {"name": c["name"], "arguments": json.dumps(c["arguments"])}}
             for c in case["calls"]]
    return {"serial_num": 1, "category": "CALL",
            "input_messages": [{"role": "system", "content": "."}, {"role": "user", "content": case["query"]}],
            "input_tools": [wrapped(t) for t in case["tools"]], "type_of_output": "call",
            "ground_truth": {"role": "assistant", "content": None, "tool_calls": calls}, "acceptable_arguments": None}


def toolrl(case):
    listed = "\n".join(f"{n}. Name: {t['name']}\nDescription: {t['description']}\nParameters: "
                       f"{json.dumps(flat(t, True))}"
                       for n, t in enumerate(case["tools"], 1))
    calls = "\n".join(json.dumps({"name": c["name"], "parameters": c["arguments"]}) for c in case["calls"])
    return {"instruction": f"You help.\n\n**Available Tools**\nYou can use these tools:\n{listed}\n\n**Steps for Each "
                           "Turn**\n1. Think.",
            "input": f"**Dialogue Records History**\n<user> {case['query']} </user>",
            "output": f"<think> I might write <tool_call> here. </think>\n<tool_call>\n{calls}\n</tool_call>"}


def hammer(case):
    listed = [{"name": t["name"], "description": t["description"], "parameters": flat(t, True)} for t in case["tools"]]
    return {"instruction": f"[BEGIN OF AVAILABLE TOOLS]\n{json.dumps(listed)}\n[END OF AVAILABLE TOOLS]\n\n[BEGIN OF "
                           f"QUERY]\n{case['query']}\n[END OF QUERY]\n\n", "input": "",
                           "output": f"```\n{json.dumps(case['calls'])}\n```"}


def mtubench(case):
    return {"id": "S-S_0", "question": "Reply.\nThe following is a list of APIs and their parameters that you can "
                                       f"use:\n{[bench_tool(t) for t in case['tools']]!r}\nUser: {case['query']}",
            "answer": {c["name"]: c["arguments"] for c in case["calls"]}}


def nestful(case):
    calls = [{**c, "label": f"var{n}"} for n, c in enumerate(case["calls"], 1)]
    return {"input": case["query"], "output": [*calls, {"name": "var_result", "arguments": {"out": "$var1$"}}]}


def trl(case):
    shape = openai(case)
    return {"prompt": shape["messages"][:1], "completion": shape["messages"][1:], "tools": shape["tools"]}


def exchange(case):
    shape = openai(case)
    asked = {"messages": shape["messages"][:1], "tools": shape["tools"]}
    return {"request": asked, "response": {"choices": [{"message": shape["messages"][1], "finish_reason": "stop"}]}}


SPELL = {spell.__name__: spell for spell in (
    toolace, xlam, hermes, sharegpt, messages, glaive, openai, toolalpaca, sealtools, nestools, toolbench,
    toolbench_tools, apibank,
    apibank_prompt, bfcl, mcp, tools, queries, functionchat, toolrl, hammer, mtubench, nestful, trl, exchange)}
# format -> its reader, where that has another name
READER = {"messages": "sharegpt", "toolbench_tools": "toolbench", "apibank_prompt": "apibank"}
GIVES = {"toolbench": "queries tools", "toolbench_tools": "tools", "mcp": "tools", "tools": "tools",
         "queries": "queries"}


def expected(name, case):
    """What the conversion of SPELL[name](case) must give: the case, less what the format cannot say."""
    query, listed, calls = case["query"], case["tools"], case["calls"]
    if name in ("glaive", "toolrl", "hammer", "mtubench", "apibank", "apibank_prompt"):
        query = query.strip()                                       # stands inside a longer text
    if name in ("glaive", "apibank_prompt"):
        calls = calls[:1]                                           # one call per turn
    if name == "mtubench":
        calls = list({c["name"]: c for c in calls}.values())        # keyed by tool: the last of two calls stays
    if name == "tools":
        listed = listed[:1]
    if name in ("sealtools", "nestools"):
        listed = [t | {"results": {"type": "dict",
                                   "properties": {"answer": {"type": "string", "description": "The answer."}}}}
                                   for t in listed]
    if name in ("apibank", "apibank_prompt"):                       # nothing says what is required: what has no default
        listed = [t | {"arguments": t["arguments"] | {"required": [
            n for n, s in t["arguments"]["properties"].items() if "default" not in s]}} for t in listed]
    if name in ("toolbench", "toolbench_tools", "mtubench"):        # the required ones come first
        listed = [t | {"arguments": t["arguments"] | {"properties": dict(sorted(
            t["arguments"]["properties"].items(), key=lambda item, t=t: item[0] not in t["arguments"]["required"]))}}
            for t in listed]
    return query, listed, calls
