"""Which base an adapter was trained on: noted by training, kept by export, compared by every command that loads one."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora import apply_lora, lora_parameters, save_adapter
from model import load_model, save_model
from tests.evolve_run import make_run
from tooldev import main
from train import main as train_main
from training.checkpoints import Checkpoints
from training.gate import check_model
from training.origin import FILE, RELATED, distance, note_base, noted, sample


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a base, labelled examples, and what training wrote on them."""
    folder = tmp_path_factory.mktemp("made")
    config = make_run(folder, [{"id": "q1", "query": "Please add 5 to the list."}])
    assert train_main(["--model", config.model, "--data", config.labelled, "--stage", "joint", "--precision", "fp32",
                       "--max-steps", "1", "--global-batch-size", "2", "--out", str(folder / "trained")]) == 0
    return folder


@pytest.fixture
def folders(made, tmp_path):
    """(base, adapter that training wrote on it), copies to change."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "base", tmp_path / "trained" / "adapter"


def changed(base, name, change):
    """A copy of the base whose weights went through `change(name, tensor)`."""
    folder = shutil.copytree(base, base.parent / name)
    weights = load_file(folder / "model.safetensors")
    save_file({key: change(key, weight) for key, weight in weights.items()}, folder / "model.safetensors")
    return folder


def noise(share, only=""):
    """Weights moved by this share of their size."""
    torch.manual_seed(0)
    return lambda name, weight: weight + share * weight.abs().mean() * torch.randn(weight.shape) if only in name \
        else weight


def said(base, adapter):
    lines = []
    check_model(base, adapter, say=lines.append)
    return [line for line in lines if "trained on" in line or "names" in line]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_another_type_or_other_shards_of_the_same_base_are_the_same(dtype, folders):
    base, adapter = folders
    assert said(base, adapter) == []
    other = changed(base, "other", lambda name, weight: weight.to(dtype))
    save_model(load_model(other, dtype), other, shard_gb=2e-5)
    assert len(list(other.glob("*.safetensors"))) > 1
    assert said(other, adapter) == []


def test_a_base_of_equal_shape_and_other_weights_is_refused_by_each_command(folders, tmp_path, capsys):
    base, adapter = folders
    other = changed(base, "other", lambda name, weight: torch.randn(weight.shape) * 0.1 if weight.dim() > 1 else weight)
    tools, labelled = str(tmp_path / "tools.jsonl"), str(tmp_path / "labelled.jsonl")
    described = {"name": "f", "description": "d", "arguments": {"type": "dict", "properties": {}, "required": []}}
    (tmp_path / "tools.jsonl").write_text(json.dumps(described) + "\n")
    put, out = ["--model", str(other), "--adapter", str(adapter)], str(tmp_path / "out")
    for run, argv in [(main, ["call", *put, "--tools", tools, "q"]), (main, ["export", *put, "--out", out]),
                      (main, ["export", *put, "--merge", "--out", out]),
                      (train_main, [*put, "--stage", "joint", "--data", labelled, "--out", out])]:
        capsys.readouterr()
        assert run(argv) == 2
        error = capsys.readouterr().err
        assert "was trained on another base" in error and str(other) in error and "remove this file" in error
        assert not (tmp_path / "out").exists()
    (adapter / FILE).unlink()                                           # what the error says
    check_model(other, adapter)


@pytest.mark.parametrize("share, only", [(0.3, ""), (0.01, ""), (0.001, "q_proj"), (0.05, "norm")])
def test_a_requantised_or_further_trained_base_is_used_with_one_loud_line(share, only, folders):
    base, adapter = folders
    (line,) = said(changed(base, "other", noise(share, only)), adapter)
    assert "WARNING" in line and "related, but other weights" in line


def test_a_base_that_the_adapter_is_merged_into_gets_the_line(folders, tmp_path, capsys):
    base, adapter = folders
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: torch.full_like(weight, 0.01) for name, weight in weights.items()},
              adapter / "adapter_model.safetensors")
    merged = tmp_path / "merged"
    assert main(["export", "--model", str(base), "--adapter", str(adapter), "--merge", "--out", str(merged)]) == 0
    assert not (merged / FILE).exists()                                 # its weights are a base of their own
    (line,) = said(merged, adapter)
    assert "merged into already" in line


def test_export_keeps_the_note_and_invents_none(folders, tmp_path, capsys):
    base, adapter = folders
    export = ["export", "--model", str(base), "--adapter", str(adapter), "--out"]
    assert main([*export, str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / FILE).read_text()) == json.loads((adapter / FILE).read_text())
    (adapter / FILE).unlink()
    assert main([*export, str(tmp_path / "out"), "--overwrite"]) == 0
    assert not (tmp_path / "out" / FILE).exists() and said(base, tmp_path / "out") == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weights": {}}', '{"weights": {"a": 1}}',
                                  '{"weights": {"a": "nan"}}', '{"weights": {"a": "x"}}', '{"weights": {"a": "1e999"}}',
                                  '{"weights": []}', "[" * 5000, '"' + "1" * 2_000_000 + '"'], ids=range(11))
def test_a_damaged_note_is_named_in_one_line(text, folders):
    base, adapter = folders
    (adapter / FILE).write_text(text)
    with pytest.raises(ValueError, match=FILE) as caught:
        check_model(base, adapter)
    assert len(str(caught.value)) < 1000


def test_a_note_of_another_shape_is_another_base(folders):
    base, adapter = folders
    note = json.loads((adapter / FILE).read_text())
    note["weights"].popitem()
    (adapter / FILE).write_text(json.dumps(note))
    with pytest.raises(ValueError, match="another base"):
        check_model(base, adapter)


@pytest.mark.parametrize("same", [True, False])
def test_a_training_goes_on_from_a_checkpoint_on_the_base_that_it_was_begun_on_alone(same, folders, tmp_path, capsys):
    """Its first steps on one base and the rest on another gave an adapter that is right on neither, without a word."""
    base, _ = folders
    command = ["--model", str(base), "--data", str(tmp_path / "labelled.jsonl"), "--stage", "joint", "--precision",
               "fp32", "--max-steps", "2", "--checkpoint-steps", "1", "--global-batch-size", "2", "--out",
               str(tmp_path / "out")]
    save, end = Checkpoints.save, KeyboardInterrupt

    def cut(self, *state):
        save(self, *state)
        raise end

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", cut)
        train_main(command)
    change = (lambda name, weight: weight.bfloat16()) if same else noise(0.3)
    weights = load_file(base / "model.safetensors")
    save_file({name: change(name, weight) for name, weight in weights.items()}, base / "model.safetensors")
    code, said = train_main(command), capsys.readouterr()
    assert (code == 0, "holds other weights than those that the run was begun on" in said.err) == (same, not same)
    assert (tmp_path / "out" / "adapter").exists() == same


def plain(base, folder, named):
    """An adapter without a note, whose config names this base."""
    model = load_model(base)
    apply_lora(model, 4, 8, targets=("q_proj",))
    with torch.no_grad():
        for weight in lora_parameters(model).values():
            weight.fill_(0.01)
    save_adapter(model, folder, base_model=named)
    return folder


@pytest.mark.parametrize("named, folder, noted", [
    ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen2.5-Coder-0.5B", True),
    ("Qwen/Qwen2.5-0.5B-Instruct", "models--Qwen--Qwen2.5-Coder-0.5B/snapshots/ab12", True),
    ("meta-llama/Llama-3.2-1B", "Llama-3.2-1B-Instruct", True),
    ("Qwen/Qwen2.5-0.5B-Instruct", "models--Qwen--Qwen2.5-0.5B-Instruct/snapshots/ab12", False),
    ("unsloth/qwen2.5-0.5b-instruct-unsloth-bnb-4bit", "Qwen2.5-0.5B-Instruct", False),
    ("Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5-0.5b", False), ("Qwen/Qwen2.5-0.5B-Instruct", "base", False),
    ("", "Qwen2.5-0.5B", False), ("/gone/checkpoint-400", "Qwen2.5-0.5B", False)])
def test_an_adapter_without_a_note_goes_by_the_name_of_its_base(named, folder, noted, folders, tmp_path):
    base, _ = folders
    adapter = plain(base, tmp_path / "plain", named)
    (tmp_path / "hub" / folder).parent.mkdir(parents=True)
    lines = said(shutil.copytree(base, tmp_path / "hub" / folder), adapter)
    assert bool(lines) == noted, lines


def test_an_adapter_without_a_note_is_compared_with_the_folder_that_it_names(folders, tmp_path):
    base, _ = folders
    adapter = plain(base, tmp_path / "plain", str(base))
    other = changed(base, "other", lambda name, weight: torch.randn(weight.shape) * 0.1)
    assert said(base, adapter) == [] and said(shutil.copytree(base, tmp_path / "copy"), adapter) == []
    (line,) = said(other, adapter)
    assert "WARNING" in line and "trained on another base" in line
    (base / "model.safetensors").write_bytes(b"damaged")
    assert said(other, adapter) == []


@pytest.mark.parametrize("named", [None, 3, ["a"], "x\0y", "a" * 10_000], ids=range(5))
def test_a_name_of_a_base_that_is_none_says_nothing(named, folders, tmp_path):
    base, _ = folders
    adapter = plain(base, tmp_path / "plain", "")
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": named}))
    assert said(base, adapter) == []


def test_the_bar_stands_between_two_bits_and_another_model():
    """Blocks of 16 weights in 2 bits move them by a third of their norm; independent weights are 1 apart or more."""
    torch.manual_seed(0)
    weight = torch.randn(64, 16)
    low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    coarse = ((weight - low) / (high - low) * 3).round() / 3 * (high - low) + low
    rows = {f"{i}.q_proj.weight": row.tolist() for i, row in enumerate(weight)}
    assert 0.2 < distance(rows, {name: row.tolist() for name, row in zip(rows, coarse)}) < RELATED
    assert distance(rows, {name: row.tolist() for name, row in zip(rows, torch.randn(64, 16))}) > RELATED
    assert distance(rows, {name: [0.0] * 16 for name in rows}) > RELATED


def test_the_sample_is_small_and_needs_a_folder_with_weights(folders, tmp_path, monkeypatch):
    base, adapter = folders
    monkeypatch.chdir(base)                                             # whose weights are not those of a nameless base
    assert (adapter / FILE).stat().st_size < 10_000
    assert {name.split(".")[2] for name in sample(base)} == {"0", "1"}
    note_base(tmp_path, noted(tmp_path / "none"))
    note_base(tmp_path, noted(""))
    assert not (tmp_path / FILE).exists()
