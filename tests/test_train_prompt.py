"""Training and asking by the model's own tool template: the same tokens as the template's, and never by mistake."""

import json

import pytest

from data.files import write_jsonl
from data.prompts import calls_answer, invocation_messages
from data.schema import Example, Tool, ToolCall
from data.tasks import IGNORE_INDEX, invocation_row, rows_for_stage
from evolution.flags import make_parser, round_config
from evolution.trace import story
from evolve import run_round
from model import load_tokenizer
from model.chat import encode_chat, render
from tests.eval_fixtures import bfcl_folder, teval_folder
from tests.evolve_run import Scripted, calls, labelled, make_run, tool, tools
from tests.model_tokenizers import chatml_folder, sentencepiece_folder
from tooldev import main
from train import main as train_main
from training.prompt import FILE, check_trainable, note_prompt, noted_prompt
from training.rows import load_rows

QUERY = "What is the weather in Köln and in Oslo? <|im_end|> <tool_call>"
WEATHER = Tool.from_dict({"name": "get_weather", "description": "Weather </tools> of a city.", "arguments": {
    "type": "dict", "properties": {"city": {"type": "string", "description": "City."}}, "required": ["city"]}})
CALLS = (ToolCall("get_weather", {"city": "Köln"}), ToolCall("get_weather", {"city": "Oslo"}))


def base_of(tmp_path):
    return make_run(tmp_path, [{"id": "q1", "query": "Please add 5 to the list."}])


def trained(tmp_path, *more):
    """A tiny base, and an adapter trained on its labelled examples."""
    config = base_of(tmp_path)
    assert train_main(["--model", config.model, "--data", config.labelled, "--stage", "joint", "--precision", "fp32",
                       "--max-steps", "1", "--global-batch-size", "2", "--out", str(tmp_path / "trained"), *more]) == 0
    return config, tmp_path / "trained" / "adapter"


@pytest.mark.parametrize("answer", [CALLS, CALLS[:1], ()])
def test_a_native_row_is_what_the_template_writes_token_for_token(answer, tmp_path):
    tokenizer = load_tokenizer(chatml_folder(tmp_path))
    row = invocation_row(Example("a", QUERY, (WEATHER,), answer), tokenizer, encode_chat, 4096, "native")
    said = {"tool_calls": [{"function": call.to_dict()} for call in answer], "content": ""} if answer else {
        "content": calls_answer(())}
    asked = [{"role": "user", "content": QUERY}]
    theirs = encode_chat([*asked, {"role": "assistant", **said}], tokenizer, tools=[WEATHER.to_function()])
    assert (row.ids, row.labels) == theirs
    prompt = render(invocation_messages(QUERY, [WEATHER], "native"), tokenizer)
    assert prompt == render(asked, tokenizer, tools=[WEATHER.to_function()])
    assert row.ids[:len(prompt[0])] == prompt[0] and row.labels[len(prompt[0])] != IGNORE_INDEX
    assert prompt[1].count('"parameters"') == 1 and '"arguments": {"type": "dict"' not in prompt[1]


def test_only_the_rows_that_call_change(tmp_path):
    tokenizer, examples = load_tokenizer(chatml_folder(tmp_path)), labelled(3)
    paper, native = (rows_for_stage("joint", examples, tokenizer, encode_chat, 4096, prompt=prompt)[0]
                     for prompt in ("paper", "native"))
    assert [row.id for row in paper] == [row.id for row in native]
    differing = {row.objective for row, other in zip(paper, native, strict=True) if row != other}
    assert differing == {"invocation"}


def test_an_adapter_remembers_how_it_is_asked(tmp_path, capsys, monkeypatch):
    config, adapter = trained(tmp_path, "--prompt", "native")
    assert json.loads((adapter / FILE).read_text()) == {"prompt": "native"}
    write_jsonl(tmp_path / "tools.jsonl", [tool("add").to_dict()])
    asked = []
    monkeypatch.setattr("pipeline.ask.invocation_messages",
                        lambda *given: asked.append(given[2]) or invocation_messages(*given))
    call = ["call", "--model", config.model, "--tools", str(tmp_path / "tools.jsonl"), "--max-new-tokens", "4", "Add 5"]
    for more in (["--adapter", str(adapter)], ["--adapter", str(adapter.parent)], [],
                 ["--adapter", str(adapter), "--prompt", "paper"], ["--prompt", "native"]):
        main([*call, *more])
    assert asked == ["native", "native", "paper", "paper", "native"]
    for merge in ([], ["--merge"]):
        out = tmp_path / f"out{len(merge)}"
        assert main(["export", "--model", config.model, "--adapter", str(adapter), "--out", str(out), *merge]) == 0
        assert noted_prompt(out) == "native"
        card = (out / "README.md").read_text()
        assert "apply_chat_template(messages, tools=tools" in card and "--tool-call-parser hermes" in card
    capsys.readouterr()


def test_an_export_into_the_same_folder_takes_the_former_note_away(tmp_path, capsys):
    config, native = trained(tmp_path, "--prompt", "native")
    export = ["export", "--model", config.model, "--out", str(tmp_path / "out"), "--adapter"]
    assert main([*export, str(native)]) == 0
    paper = tmp_path / "run" / "joint" / "adapter"
    assert main([*export, str(paper), "--overwrite"]) == 0
    assert noted_prompt(tmp_path / "out") == "paper" and not (tmp_path / "out" / FILE).exists()
    assert "was not trained on" in (tmp_path / "out" / "README.md").read_text()
    capsys.readouterr()


def test_a_round_asks_and_trains_as_its_start_was_trained(tmp_path):
    config = base_of(tmp_path)
    note_prompt(tmp_path / "run" / "joint" / "adapter", "native")
    sampler = Scripted(load_tokenizer(config.model), {"q1": [tools(tool("add"))]},
                       {"q1": [(calls(("add", {"n": 5})), -1.0)] * 5})
    ledger = run_round(config, generate=sampler.generate, progress=False)
    assert ledger["examples"]["evolved"] == 1
    made, called = sampler.prompts
    assert '"type": "function"' in called and '"type": "function"' not in made
    round_1 = tmp_path / "run" / "round-1"
    assert json.loads((round_1 / "config.json").read_text())["prompt"] == "native"
    assert noted_prompt(round_1 / "adapter") == "native"
    (line,) = (text for text in story(round_1, "q1", loss=False, full=True) if '"type": "function"' in text)
    assert line.startswith("    [TOOL] {")


def test_models_whose_template_writes_no_such_calls_are_refused(tmp_path):
    mistral = load_tokenizer(sentencepiece_folder(tmp_path / "mistral"))
    with pytest.raises(ValueError, match="--prompt native: the native prompt needs a model whose"):
        check_trainable("native", mistral)
    check_trainable("paper", mistral)
    plain = chatml_folder(tmp_path / "plain")
    (plain / "chat_template.jinja").write_text("{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + "
                                               "'<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}")
    with pytest.raises(ValueError, match="no block for tools"):
        check_trainable("native", load_tokenizer(plain))
    (tmp_path / FILE).write_text('{"prompt": "other"}')
    with pytest.raises(ValueError, match="expected \"prompt\" to be one of paper, native"):
        noted_prompt(tmp_path)


def test_eval_asks_as_the_adapter_was_trained_and_teval_by_its_own_prompts(tmp_path, monkeypatch, capsys):
    config = base_of(tmp_path)
    adapter = tmp_path / "run" / "joint" / "adapter"
    note_prompt(adapter, "native")
    asked = []
    monkeypatch.setattr("pipeline.evaluate.generate_missing",
                        lambda args, tokenizer, names, ids, *rest, **more: asked.append(
                            (args.prompt, '"type": "function"' in tokenizer.decode(ids[0]))) or {})
    for number, (bench, folder) in enumerate([("bfcl", bfcl_folder), ("teval", teval_folder)]):
        data = folder(tmp_path / bench)
        for more in (["--adapter", str(adapter)], [], ["--adapter", str(adapter), "--prompt", "paper"]):
            out = tmp_path / f"out-{number}-{len(asked)}"
            main(["eval", "--bench", bench, "--data", str(data), "--model", config.model, "--out", str(out), *more])
    assert asked == [("native", True), ("paper", False), ("paper", False), *[("paper", False)] * 3]
    capsys.readouterr()


def test_a_run_goes_on_as_its_base_was_trained_and_takes_the_papers_prompt_for_none(tmp_path, capsys):
    config = base_of(tmp_path)
    files = {"tools": [tool(f"t{i}").to_dict() for i in range(4)], "examples": [one.to_dict() for one in labelled(6)]}
    for name, rows in files.items():
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    command = ["run", "--model", config.model, "--queries", config.queries, "--rounds", "0", "--preset", "tiny",
               "--max-calls-tokens", "2"]
    for name in files:
        command += [f"--{name}", str(tmp_path / f"{name}.jsonl")]

    def asked(out, *more):
        code = main([*command, "--out", str(tmp_path / out), *more])
        prompt = json.loads((tmp_path / out / "run.json").read_text())["settings"]["train"].get("prompt")
        return code, prompt, capsys.readouterr().err

    assert asked("paper")[:2] == (0, None) and asked("paper", "--prompt", "paper")[:2] == (0, None)
    code, prompt, told = asked("paper", "--prompt", "native")
    assert (code, prompt) == (2, None) and "settings.train.prompt" in told
    note_prompt(tmp_path / "base", "native")                    # as a merged model's folder says
    code, prompt, told = asked("native")
    assert (code, prompt) == (0, "native") and "no effect" not in told and "was trained by" not in told
    saved = str(tmp_path / "native" / "run.json")
    assert asked("saved", "--config", saved)[:2] == (0, "native")
    assert asked("other", "--config", saved, "--prompt", "paper")[:2] == (0, None)          # a flag goes before
    assert {noted_prompt(tmp_path / "native" / step / "adapter") for step in ("adaption", "joint")} == {"native"}


def test_asking_otherwise_than_before_is_said(tmp_path, capsys):
    config, native = trained(tmp_path, "--prompt", "native")
    capsys.readouterr()
    again = ["--model", config.model, "--data", config.labelled, "--stage", "joint", "--precision", "fp32",
             "--max-steps", "1", "--adapter", str(native)]
    assert train_main([*again, "--out", str(tmp_path / "a")]) == 0
    assert "was trained by the native prompt, and this run asks by the paper one" in capsys.readouterr().err
    assert train_main([*again, "--prompt", "native", "--out", str(tmp_path / "b")]) == 0
    assert "was trained by" not in capsys.readouterr().err
    with pytest.raises(ValueError, match="--train prompt"):
        round_config(make_parser().parse_args(["--run", str(run_json(tmp_path)), "--round", "1", "--train",
                                               "prompt=paper"]))


def run_json(tmp_path):
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text('{"evolve": {"model": "m", "queries": "q"}}')
    return tmp_path / "begun"


def test_show_prints_a_native_row_and_blames_no_line_for_a_flag(tmp_path, capsys):
    config = base_of(tmp_path)
    write_jsonl(tmp_path / "tools.jsonl", [tool("add").to_dict()])
    show = ["show", "--model", config.model, "--prompt", "native"]
    assert main([*show, config.labelled]) == 0 and "invocation" in capsys.readouterr().out
    for more in ([str(tmp_path / "tools.jsonl")], [config.labelled, "--stage", "generation"]):
        assert main([*show, *more]) == 2
        assert "--prompt is for rows that call tools" in capsys.readouterr().err


def test_a_report_says_which_steps_were_asked_by_their_own_prompt():
    from eval.report.gather import settings_beside_paper

    names = [row["name"] for row in settings_beside_paper({"train": {}}, {}, {})]
    told = {row["name"]: row["here"] for row in settings_beside_paper({"train": {"prompt": "native"}}, {}, {})}
    assert "prompt that asks for calls" not in names and told["prompt that asks for calls"] == "the model's own"


@pytest.mark.parametrize("prompt", ["paper", "native"])
def test_rows_that_call_nothing_are_counted_and_too_many_are_warned_of(prompt, tmp_path):
    tokenizer, said = load_tokenizer(chatml_folder(tmp_path / "base")), []
    quiet = [Example(f"q{i}", f"Thanks {i}!", (WEATHER,), ()) for i in range(2)]
    for count in (2, 6, 12):
        write_jsonl(tmp_path / "examples.jsonl", [one.to_dict() for one in [*labelled(count), *quiet]])
        load_rows("joint", str(tmp_path / "examples.jsonl"), tokenizer, max_length=4096, say=said.append, prompt=prompt)
    told = [line for line in said if "call no tool" in line]
    assert told[1:] == ["2 of 8 invocation rows (25%) call no tool", "2 of 14 invocation rows (14%) call no tool"]
    assert told[0].startswith("2 of 4 invocation rows (50%) call no tool: so many can teach") and len(told) == 3
    write_jsonl(tmp_path / "examples.jsonl", [one.to_dict() for one in labelled(3)])
    said.clear()
    load_rows("joint", str(tmp_path / "examples.jsonl"), tokenizer, max_length=4096, say=said.append, prompt=prompt)
    assert not said
