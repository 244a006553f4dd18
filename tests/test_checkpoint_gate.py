"""The one gate: what every command that loads a model or an adapter checks first, and how a merged export ends."""

import json
import shlex
import shutil

import pytest
import torch
from eval_fixtures import bfcl_folder
from safetensors.torch import load_file, save_file

from data.files import mark_done
from evolve import main as evolve_main
from lora import apply_lora, lora_parameters, save_adapter
from model import load_model, load_tokenizer
from model.templates import chatml_template
from sampler import generate
from tooldev import home, main
from train import main as train_main
from training.gate import check_model

TINY = home("model", "tiny")


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """An adapter on the embedded model whose B is not zero."""
    model = load_model(TINY)
    apply_lora(model, 4, 8, targets=("q_proj",))
    with torch.no_grad():
        for weight in lora_parameters(model).values():
            weight.fill_(0.01)
    folder = tmp_path_factory.mktemp("adapted")
    save_adapter(model, folder)
    return folder


@pytest.fixture
def folders(adapted, tmp_path):
    """Copies, to be spoiled, of the embedded model and of an adapter on it."""
    base, adapter = shutil.copytree(TINY, tmp_path / "base"), shutil.copytree(adapted, tmp_path / "adapter")
    tools = {"name": "f", "description": "d", "arguments": {"type": "dict", "properties": {}, "required": []}}
    (tmp_path / "tools.jsonl").write_text(json.dumps(tools) + "\n")
    row = {"id": "1", "query": "q", "tools": [tools], "calls": [{"name": "f", "arguments": {}}]}
    (tmp_path / "examples.jsonl").write_text(json.dumps(row) + "\n")
    return base, adapter


def change(file, **changes):
    file.write_text(json.dumps((json.loads(file.read_text()) if file.is_file() else {}) | changes))


def commands(tmp_path):
    """A command line of each command that loads a model, with --adapter where it takes one.

    A round of self-evolution takes its adapter from the step before it.
    """
    model, adapter, out = str(tmp_path / "base"), str(tmp_path / "adapter"), str(tmp_path / "out")
    tools, examples = str(tmp_path / "tools.jsonl"), str(tmp_path / "examples.jsonl")
    put = ["--model", model, "--adapter", adapter]
    joint = tmp_path / "run" / "joint"
    shutil.copytree(adapter, joint / "adapter")
    mark_done(joint, [f"adapter/{file.name}" for file in (joint / "adapter").iterdir()], steps=0)
    (joint.parent / "run.json").write_text("{}")
    data = bfcl_folder(tmp_path / "bfcl")
    return {
        "eval": (main, ["eval", *put, "--bench", "bfcl", "--data", str(data), "--out", out]),
        "evolve": (evolve_main, ["--run", str(tmp_path / "run"), "--round", "1", "--model", model, "--queries",
                                 examples, "--labelled", examples]),
        "call": (main, ["call", *put, "--tools", tools, "q"]), "make-tools": (main, ["make-tools", *put, "q"]),
        "export": (main, ["export", *put, "--out", out]), "merge": (main, ["export", *put, "--merge", "--out", out]),
        "train": (train_main, [*put, "--stage", "invocation", "--data", examples, "--out", out, "--targets", "q_proj",
                               "--rank", "4", "--alpha", "8"]),
        "show": (main, ["show", "--model", model, examples]),
        "run": (main, ["run", "--model", model, "--tools", tools, "--examples", examples, "--queries", examples,
                       "--out", out]),
    }


BAD_MODELS = {
    "other template": (lambda base: change(base / "tokenizer_config.json", chat_template="### {{ messages }}"),
                       "chat template writes turns otherwise"),
    "added tokens": (lambda base: change(base / "added_tokens.json", **{"<|eot_id|>": 3072}), "added_tokens.json"),
    "architecture": (lambda base: change(base / "config.json", architectures=["Qwen3ForCausalLM"]), "not supported"),
    "vocabulary": (lambda base: change(base / "config.json", vocab_size=3000), "disagree"),
}


@pytest.mark.parametrize("command", ["call", "make-tools", "export", "merge", "train", "show", "run", "eval", "evolve"])
@pytest.mark.parametrize("fault", BAD_MODELS)
def test_every_command_refuses_a_bad_model(command, fault, folders, tmp_path, capsys):
    spoil, words = BAD_MODELS[fault]
    spoil(folders[0])
    run, argv = commands(tmp_path)[command]
    assert run(argv) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "run" / "round-1").exists()


@pytest.mark.parametrize("command", ["call", "make-tools", "export", "merge", "train", "eval", "evolve"])
@pytest.mark.parametrize("fault", ["pissa", "nan", "option"])
def test_every_command_refuses_a_bad_adapter(command, fault, folders, tmp_path, capsys):
    if fault == "nan":
        file = folders[1] / "adapter_model.safetensors"
        weights = load_file(file)
        weights[sorted(weights)[0]][0, 0] = float("nan")
        save_file(weights, file)
    else:
        changes = {"init_lora_weights": "pissa_niter_4"} if fault == "pissa" else {"kasa_config": {"beta": 1}}
        change(folders[1] / "adapter_config.json", **changes)
    run, argv = commands(tmp_path)[command]
    assert run(argv) == 2
    assert {"pissa": "pissa_niter_4", "nan": "not finite", "option": "kasa_config"}[fault] in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "run" / "round-1").exists()


def test_a_sound_model_says_nothing_and_one_of_another_family_a_note(folders, capsys):
    check_model(*folders)
    assert capsys.readouterr().err == ""
    config = json.loads((folders[0] / "config.json").read_text())
    config |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (folders[0] / "config.json").write_text(json.dumps(config))
    file = folders[0] / "model.safetensors"
    save_file({name: weight for name, weight in load_file(file).items() if "bias" not in name}, file)
    change(folders[0] / "tokenizer_config.json", chat_template=chatml_template("You are Ada."))
    tokenizer = check_model(folders[0])
    assert "a llama model whose turns are written in another family's format, chatml" in capsys.readouterr().err
    assert tokenizer.default_system == "You are Ada."


@pytest.mark.parametrize(("named", "lines"), [
    ({"AutoModelForCausalLM": "modeling_mine.MyLlama"}, 1), ({"AutoTokenizer": ["tok.Mine", None]}, 0), (None, 0)])
def test_a_config_that_names_code_of_its_own_earns_one_loud_line(named, lines, folders, capsys):
    change(folders[0] / "config.json", auto_map=named)
    check_model(*folders)
    said = capsys.readouterr().err
    assert said.count("modeling_mine.MyLlama") == said.count("WARNING") == lines


def test_an_adapter_with_another_chat_template_or_tokens_earns_one_loud_line(folders, capsys):
    shutil.copy(folders[0] / "tokenizer_config.json", folders[1])
    check_model(*folders)
    assert capsys.readouterr().err == ""
    change(folders[1] / "tokenizer_config.json", chat_template="{% for m in messages %}### {{ m.content }}{% endfor %}")
    check_model(*folders)
    (line,) = capsys.readouterr().err.splitlines()
    assert "WARNING" in line and "another chat template (tokenizer_config.json) than the model's" in line
    shutil.copy(folders[0] / "tokenizer_config.json", folders[1])
    change(folders[1] / "added_tokens.json", **{"<|im_end|>": 3067, "<think>": 3072})
    check_model(*folders)
    (line,) = capsys.readouterr().err.splitlines()
    assert "saved with tokens that the model's tokenizer does not have (first: '<think>' with id 3072)" in line


def test_an_adapter_beside_the_weights_is_told_and_one_alone_is_no_model(folders, capsys):
    shutil.copy(folders[1] / "adapter_config.json", folders[0])
    check_model(folders[0])
    (line,) = capsys.readouterr().err.splitlines()
    assert "WARNING: an adapter lies beside these weights" in line
    with pytest.raises(FileNotFoundError, match="this is an adapter: give it as --adapter"):
        check_model(folders[1])


def test_a_turn_that_cannot_be_written_is_found_by_the_gate(folders):
    file = folders[0] / "tokenizer.json"
    raw = json.loads(file.read_text())
    (end,) = [token for token in raw["added_tokens"] if token["content"] == "<|im_end|>"]
    end["content"] = "<|im_stop|>"
    raw["model"]["vocab"].pop("<|im_end|>", None)
    file.write_text(json.dumps(raw))
    change(folders[0] / "tokenizer_config.json", eos_token="<|im_stop|>")
    with pytest.raises(ValueError, match="no control token '<.im_end.>'"):
        check_model(folders[0])


def test_an_adapters_own_tokenizer_of_another_shape_is_no_traceback(folders):
    (folders[1] / "tokenizer.json").write_text('{"added_tokens": 5}')
    check_model(*folders)


def test_a_merged_config_says_one_dtype(folders, tmp_path):
    change(folders[0] / "config.json", dtype="bfloat16", torch_dtype="bfloat16")
    run, argv = commands(tmp_path)["merge"]
    assert run([*argv, "--dtype", "fp32"]) == 0
    found = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (found["dtype"], found["torch_dtype"]) == ("float32", "float32")


@pytest.mark.parametrize("path", ["hub/models--a--b", "hub", "hub/models--a--b/snapshots"])
def test_a_folder_of_the_hubs_cache_names_its_snapshots(path, folders, tmp_path):
    old, new = (tmp_path / "hub" / "models--a--b" / "snapshots" / name for name in ("0aaa", "1bbb"))
    shutil.copytree(folders[0], old)
    shutil.copytree(folders[0], new)
    (old.parents[1] / "refs").mkdir()
    (old.parents[1] / "refs" / "main").write_text("1bbb")
    for load in (check_model, load_model):
        with pytest.raises(FileNotFoundError, match="1bbb or .*0aaa" if path == "hub/models--a--b" else "0aaa"):
            load(tmp_path / path)
    (new / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="neither tokenizer.json"):
        load_tokenizer(new)


@pytest.mark.parametrize(("config", "generation", "expected"), [
    ({"eos_token_id": 3065}, {"eos_token_id": 3065, "top_p": 0.8}, ([3067, 3065], [3067, 3065])),
    ({"eos_token_id": None}, {"eos_token_id": [3065, 0]}, ([3067], [3067, 3065, 0])),
    ({"eos_token_id": 3065, "pad_token_id": 3065}, None, ([3067, 3065], [3067, 3065])),
    ({"eos_token_id": [3065, 3067]}, {"eos_token_id": [3065, 3067]}, ([3065, 3067], [3065, 3067])),
    ({"eos_token_id": 3067}, {}, (3067, [3067])), ({"eos_token_id": 3067}, None, (3067, None))])
def test_a_merged_checkpoint_stops_where_training_ended(config, generation, expected, folders, tmp_path, capsys):
    change(folders[0] / "config.json", **config)
    if generation is not None:
        change(folders[0] / "generation_config.json", **generation)
    run, argv = commands(tmp_path)["merge"]
    assert run(argv) == 0
    found = json.loads((tmp_path / "out" / "config.json").read_text())
    file = tmp_path / "out" / "generation_config.json"
    made = json.loads(file.read_text()) if file.is_file() else None
    assert (found["eos_token_id"], made and made["eos_token_id"]) == expected
    assert made is None or generation is None or made.get("top_p") == generation.get("top_p")
    assert ("<|im_end|>, which ends a turn" in capsys.readouterr().out) == (expected[0] != config["eos_token_id"]
                                                                            or generation == {})


def test_an_export_over_another_checkpoint_leaves_nothing_of_it_to_be_read_as_its_own(folders, tmp_path):
    out = tmp_path / "out"
    (folders[0] / "additional_chat_templates").mkdir()
    (folders[0] / "additional_chat_templates" / "tool_use.jinja").write_text("ours")
    (out / "additional_chat_templates").mkdir(parents=True)
    (out / "additional_chat_templates" / "rag.jinja").write_text("theirs")
    for name in ("generation_config.json", "added_tokens.json", "chat_template.jinja", "chat_template.json",
                 "special_tokens_map.json", "tokenizer.model", "notes.txt"):
        (out / name).write_text("{}")
    run, argv = commands(tmp_path)["merge"]
    assert run([*argv, "--overwrite"]) == 0
    assert sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()) == [
        "README.md", "additional_chat_templates/tool_use.jinja", "config.json", "generation_config.json",
        "model.safetensors", "notes.txt", "tokenizer.json", "tokenizer_config.json"]
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"][0] == 3067      # made, not kept
    assert check_model(out).default_system == load_tokenizer(folders[0]).default_system
    assert main(["export", *argv[1:5], "--out", str(out), "--overwrite"]) == 0
    assert sorted(file.name for file in out.iterdir() if file.is_file()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "notes.txt"]


@pytest.mark.parametrize("out", [".", "link", "none/../new/"])
def test_an_export_goes_where_the_name_leads(out, folders, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(tmp_path / "here" if out == "." else tmp_path)
    assert main(["export", "--model", str(folders[0]), "--adapter", str(folders[1]), "--out", out]) == 0
    place = tmp_path / ("new" if "new" in out else "here")
    assert sorted(file.name for file in place.iterdir()) == ["README.md", "adapter_config.json",
                                                             "adapter_model.safetensors"]
    assert (tmp_path / "link").is_symlink() and not (tmp_path / "none").exists()


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": 1.0}, {"temperature": 0.7, "top_k": 40}])
def test_logits_that_are_not_finite_are_named_and_choose_no_token(settings):
    model = load_model(TINY)
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="logits hold NaN"):
        generate(model, [[5, 6, 7]], num_samples=2, max_new_tokens=4, seed=0, eos_ids=[], **settings)


def test_the_commands_of_the_page_on_checkpoints_run(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folders[1], tmp_path / "runs" / "mine" / "joint")
    page = home("docs", "checkpoints.md").read_text(encoding="utf-8")
    lines = [shlex.split(line, comments=True) for line in page.splitlines() if line.startswith("python tooldev.py ")]
    assert len(lines) == 4
    for line in lines:
        assert main(line[2:]) == 0, capsys.readouterr().err
    assert check_model("mine-merged").family == "chatml"
