"""The parts of a step: loss, loss scale and skipped steps, schedule, weights, refusals, the command line."""

import csv
import json

import pytest
import torch
import torch.nn.functional as F
from processes import SCRIPT, Job
from train_toys import ROOT, run_processes, toy_model, toy_rows

import train
from data.tasks import IGNORE_INDEX, Row
from lora import TARGETS, apply_lora, lora_layers, save_adapter
from tooldev import Lora
from train import TrainConfig, cosine_lr, prepare, run_training
from training.config import TINY_SETTINGS, parse_config
from training.costs import trained_weights
from training.flat import FlatWeights
from training.loss import chunked_cross_entropy
from training.optimizer import make_optimizer
from training.processes import Processes, check_kernels, tell_error
from training.rows import chat_labels, fit, pretrain_rows
from training.trainer import LossScale


def trainer_for(model=None, rows=None, **settings):
    config = TrainConfig(**{"rank": 4, "alpha": 8, "out": "unused", "global_batch_size": 8, **settings})
    lines: list[str] = []
    trainer = prepare(config, Processes(), rows or toy_rows(), None, model or toy_model(), None, lines.append)
    trainer.model.train()
    return trainer, lines


# --- loss ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_chunked_cross_entropy_is_cross_entropy(chunk, weighted):
    torch.manual_seed(0)
    hidden = torch.randn(10, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(17, 6, dtype=torch.float64, requires_grad=True)
    labels, token_weights = torch.randint(0, 17, (10,)), torch.rand(10, dtype=torch.float64) if weighted else None
    found = chunked_cross_entropy(hidden, weight, labels, chunk, token_weights)
    each = F.cross_entropy(hidden @ weight.t(), labels, reduction="none")
    expected = (each * token_weights).sum() if weighted else each.sum()
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(3 * loss, (hidden, weight)) for loss in (found, expected)]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_the_loss_takes_a_few_rows_at_a_time_and_only_the_gradient_that_is_wanted(dtype, rounding, wanted, monkeypatch):
    monkeypatch.setattr("model.cpu_kernels.PIECE", 40)            # two rows of 17 logits; chunks of 7, 7 and 1
    torch.manual_seed(0)
    inputs = [torch.randn(n, 6).to(dtype).requires_grad_(want) for n, want in zip((15, 17), wanted, strict=True)]
    exact = [x.detach().double().requires_grad_(x.requires_grad) for x in inputs]
    labels = torch.randint(0, 17, (15,))
    chunked_cross_entropy(*inputs, labels, 7).backward()
    F.cross_entropy(exact[0] @ exact[1].t(), labels, reduction="sum").backward()
    for mine, truth in zip(inputs, exact, strict=True):
        assert (mine.grad is None) == (truth.grad is None)
        if truth.grad is not None:
            assert (mine.grad.double() - truth.grad).norm() <= rounding * truth.grad.norm()


def test_no_logits_of_more_than_one_chunk_ever_exist():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Widest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(t, torch.Tensor) and t.dim() == 2 and t.shape[1] == 997:
                    rows.append(t.shape[0])
            return out

    rows: list[int] = []
    hidden, labels = torch.randn(50, 4, requires_grad=True), torch.randint(0, 997, (50,))
    weight = torch.randn(997, 4)
    with Widest():
        chunked_cross_entropy(hidden, weight, labels, 8).backward()
    assert rows and max(rows) == 8


def test_hidden_states_of_unsupervised_tokens_never_reach_lm_head(monkeypatch):
    seen = []
    original = train.chunked_cross_entropy
    monkeypatch.setattr(train, "chunked_cross_entropy",
                        lambda hidden, *rest: (seen.append(hidden.shape[0]), original(hidden, *rest))[1])
    trainer, _ = trainer_for()
    record = train.train_step(trainer)
    assert sum(seen) == record["supervised_tokens"] < record["tokens"]


def test_a_micro_batch_with_nothing_supervised_adds_nothing():
    rows = toy_rows(8) + [Row("empty", "adaption", list(range(5, 25)), [IGNORE_INDEX] * 20)]
    trainer, _ = trainer_for(rows=rows, global_batch_size=9, micro_batch_size=1)
    record = train.train_step(trainer)
    assert record["loss"] > 0 and record["grad_norm"] > 0 and record["skipped"] == 0


# --- precision -------------------------------------------------------------------------------------------------------


def test_the_loss_scale_halves_on_overflow_and_doubles_after_a_while():
    scale = LossScale(True, scale=8.0, growth_interval=3)
    for finite, expected in ((True, 8), (True, 8), (True, 16), (True, 16), (False, 8), (True, 8), (True, 8),
                             (True, 16)):
        scale.update(finite)
        assert scale.scale == expected
    inert = LossScale(False)
    inert.update(False)
    assert inert.scale == 1.0


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_an_overflow_skips_the_step_leaves_the_schedule_and_the_run_recovers(precision, monkeypatch):
    trainer, lines = trainer_for(precision=precision, max_steps=5, learning_rate=1e-2)
    records = [train.train_step(trainer)]
    before = trainer.flat.master.clone()
    state = [s["step"].item() for s in trainer.optimizer.state.values()]
    original = train.batch_loss
    monkeypatch.setattr(train, "batch_loss", lambda *args: original(*args) * float("inf"))
    records.append(train.train_step(trainer))
    monkeypatch.setattr(train, "batch_loss", original)
    assert torch.equal(trainer.flat.master, before)
    assert [s["step"].item() for s in trainer.optimizer.state.values()] == state
    records += [train.train_step(trainer) for _ in range(2)]
    assert [r["skipped"] for r in records] == [0, 1, 1, 1]
    assert records[1]["grad_norm"] is None and records[1]["loss"] is None
    rates = [cosine_lr(i, 5, 1, 1e-2) for i in range(3)]
    assert [records[i]["lr"] for i in (0, 2, 3)] == rates           # the skipped step did not move the schedule
    if precision == "fp16":
        assert records[2]["loss_scale"] == records[1]["loss_scale"] / 2 == 32768.0
    assert not torch.equal(trainer.flat.master, before) and torch.isfinite(trainer.flat.master).all()
    assert any("step 2 skipped" in line and "the gradients of base_model.model" in line for line in lines)


def test_an_activation_that_overflows_is_reported_with_its_modules_name():
    model = toy_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.fill_(1e4)         # finite in fp16; its outputs are not
        model.model.layers[1].post_attention_layernorm.weight.fill_(100.0)
    trainer, lines = trainer_for(model, precision="fp16")
    record = train.train_step(trainer)
    assert record["skipped"] == 1
    assert any("forward pass, model.layers.1.mlp.up_proj" in line for line in lines)


@pytest.mark.parametrize(("precision", "good", "advice"), [
    ("fp16", 0, "try --precision bf16 or fp32"), ("fp32", 1, "try a lower --learning-rate$"),
    ("fp32", 0, "check the files")])
def test_a_run_that_never_recovers_stops_with_a_report(precision, good, advice, monkeypatch):
    trainer, _ = trainer_for(max_steps=50, micro_batch_tokens=400, precision=precision, global_batch_size=1)
    for _ in range(good):
        train.train_step(trainer)
    original = train.batch_loss
    monkeypatch.setattr(train, "batch_loss", lambda *args: original(*args) * float("nan"))
    with pytest.raises(ValueError, match=f"20 steps in a row were skipped; .*{advice}"):
        for _ in range(50):
            train.train_step(trainer)


def test_fp16_and_fp32_train_alike():
    ends = []
    for precision in ("fp16", "fp32"):
        trainer, _ = trainer_for(precision=precision, max_steps=3, learning_rate=1e-3)
        losses = [train.train_step(trainer)["loss"] for _ in range(3)]
        assert trainer.flat.master.dtype == torch.float32 and trainer.skipped == 0
        ends.append(losses)
    assert ends[0] == pytest.approx(ends[1], rel=5e-3)


def test_full_training_keeps_float32_masters_over_half_weights():
    trainer, _ = trainer_for(toy_model(), stage="pretrain", precision="bf16", max_steps=4, learning_rate=1e-2,
                             global_batch_size=16)
    losses = [train.train_step(trainer)["loss"] for _ in range(4)]
    assert trainer.flat.master.dtype == torch.float32 and trainer.model.lm_head.weight.dtype == torch.bfloat16
    assert torch.equal(trainer.flat.compute, trainer.flat.master.bfloat16())
    assert trainer.model.lm_head.weight.data_ptr() == trainer.model.model.embed_tokens.weight.data_ptr()
    assert losses[-1] < losses[0]


def test_weight_decay_touches_matrices_only():
    model = toy_model()
    flat = FlatWeights(dict(model.named_parameters()))
    optimizer = make_optimizer(flat, TrainConfig(weight_decay=0.5, learning_rate=0.1))
    before = {name: p.clone() for name, p in model.named_parameters()}
    flat.zero_grad()
    optimizer.step()
    for name, p in model.named_parameters():
        assert torch.allclose(p, before[name] * (0.95 if p.dim() >= 2 else 1.0)), name


# --- schedule, batches, settings --------------------------------------------------------------------------------------


def test_the_schedule_warms_up_peaks_and_ends_at_zero():
    rates = [cosine_lr(i, 100, 10, 1.0) for i in range(101)]
    assert rates[0] == 0.1 and rates[9] == rates[10] == 1.0 and rates[100] == 0.0
    assert rates[55] == pytest.approx(0.5)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_every_epoch_shows_every_row_once_in_another_order():
    from data.batching import step_rows
    epochs = [[i for step in range(4) for i in step_rows(30, 8, 4 * epoch + step, seed=1)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != [i for step in range(4) for i in step_rows(30, 8, step, seed=2)]


def test_packs_hold_every_row_once_within_the_limit_and_sharing_loses_none():
    from data.batching import deal, pack
    rows = toy_rows(50)
    for packed in (True, False):
        batches = pack(rows, 60, packed=packed)
        assert sum(int((b.labels != IGNORE_INDEX).sum()) for b in batches) == sum(
            label != IGNORE_INDEX for row in rows for label in row.labels[1:])
        assert all(batch.tokens <= 60 for batch in batches)
        shares = [deal(batches, dist_rank, 3) for dist_rank in range(3)]
        assert sorted(index for part in shares for index, _ in part) == list(range(len(batches)))
        work = [sum(batch.tokens for _, batch in part) for part in shares]
        assert max(work) - min(work) <= 60


def test_long_rows_are_refused_or_cut_and_counted():
    rows = [Row("short", "text", [1, 2, 3], [-100, 2, 3]),
            Row("long", "text", list(range(9)), [-100] * 3 + list(range(3, 9))),
            Row("late", "text", list(range(9)), [-100] * 8 + [8])]
    kept, reasons = fit(rows, 5, "refuse")
    assert [row.id for row in kept] == ["short"] and reasons == {"over_max_length": 2}
    kept, reasons = fit(rows, 5, "truncate")
    assert [row.id for row in kept] == ["short", "long"] and len(kept[1].ids) == len(kept[1].labels) == 5
    assert reasons == {"truncated": 1, "nothing_supervised_after_truncation": 1}


def fake_encode_chat(messages, tokenizer):
    """Each message is its number of characters of token 7; the last one is supervised."""
    ids, labels = [], []
    for i, message in enumerate(messages):
        n = len(message["content"])
        ids += [7] * n
        labels += [7 if i == len(messages) - 1 else IGNORE_INDEX] * n
    return ids, labels


@pytest.mark.parametrize(("train_on", "supervised"), [
    ("last", [0, 0, 0, 1]), ("assistant", [0, 1, 0, 1]), ("all", [1, 1, 1, 1])])
def test_chat_rows_supervise_the_turns_asked_for(train_on, supervised):
    lengths = [2, 3, 4, 5]
    messages = [{"role": role, "content": "x" * n} for role, n in zip(("user", "assistant") * 2, lengths, strict=True)]
    _, labels = chat_labels(messages, None, fake_encode_chat, train_on)
    wanted = [bool(s) for s, n in zip(supervised, lengths, strict=True) for _ in range(n)]
    assert [label != IGNORE_INDEX for label in labels] == wanted


def test_a_broken_pretraining_line_is_named(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]}\n'
                    '{"message": 1}\n')
    with pytest.raises(ValueError, match=r'rows.jsonl, line 2: expected "messages" or "text"'):
        pretrain_rows(str(file), None, fake_encode_chat, "last")


@pytest.mark.parametrize(("settings", "message"), [
    ({"stage": "sft"}, "--stage is 'sft'; expected one of pretrain"),
    ({"learning_rate": 0.0}, "--learning-rate is 0.0"),
    ({"targets": "q_proj,lm_head"}, "--targets is 'q_proj,lm_head'; expected some of q_proj"),
    ({"warmup_ratio": 1.0}, "--warmup-ratio"), ({"clip": -1.0}, "--clip"),
    ({"learning_rate": float("nan")}, "--learning-rate")])
def test_settings_out_of_range_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_targets_decide_which_layers_are_adapted_and_must_be_the_adapters_own(tmp_path):
    assert Lora.targets == ",".join(TARGETS)
    trainer, _ = trainer_for(targets="v_proj, q_proj")
    assert {name.split(".")[-3] for name in trainer.flat.names} == {"q_proj", "v_proj"}
    assert sum(p.numel() for p in trainer.flat.params) == trained_weights(trainer.config, trainer.model.config)
    save_adapter(trainer.model, tmp_path / "adapter")
    assert trainer_for(adapter=str(tmp_path / "adapter"), targets="q_proj,v_proj")[0].flat.names == trainer.flat.names
    with pytest.raises(ValueError, match="adapts q_proj, v_proj, not q_proj, k_proj, .*--targets"):
        trainer_for(adapter=str(tmp_path / "adapter"))


def test_dropout_works_with_the_largest_seed_of_a_round():
    trainer, _ = trainer_for(dropout=0.1, seed=2**31 - 1)
    assert train.train_step(trainer)["loss"] > 0


def test_flags_are_the_fields_and_nothing_given_means_the_tiny_model(capsys):
    config = parse_config(["--model", "m", "--data", "d", "--no-packing", "--learning-rate", "0.5"])
    assert (config.packing, config.learning_rate, config.global_batch_size, config.rank) == (False, 0.5, 64, 16)
    config = parse_config(["--seed", "3"])
    assert config.model == str(ROOT / "model" / "tiny") and config.learning_rate == TINY_SETTINGS["learning_rate"]
    assert "no --model and no --data" in capsys.readouterr().err


def test_what_a_user_can_mend_is_one_line_and_exit_code_2(tmp_path):
    result = Job(SCRIPT, str(ROOT / "train.py"), "--model", str(tmp_path / "nothing"), "--data", "x.jsonl",
                 "--out", str(tmp_path / "out")).completed()
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_written_is_refused_before_the_model_is_read(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    out = str(tmp_path / "file" / "run")
    assert train.main(["--model", str(tmp_path / "nothing"), "--data", "x.jsonl", "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"cannot write there ({tmp_path / 'file'} is no folder)" in error


def test_metrics_hold_one_record_a_step_with_the_fixed_fields(tmp_path):
    run_training(TrainConfig(out=str(tmp_path), rank=4, alpha=8, global_batch_size=16, eval_steps=2), rows=toy_rows(),
                 model=toy_model(), validation=toy_rows(6, seed=4), progress=False)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [1, 2, 3, 4]
    fields = {"step", "loss", "lr", "grad_norm", "loss_scale", "skipped", "tokens", "supervised_tokens", "tok_per_s",
              "peak_mem_gb"}
    assert all(fields <= set(r) for r in records)
    assert ["validation_loss" in r for r in records] == [False, True, False, True]
    with (tmp_path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [{name: str(value) for name, value in r.items()} for r in records] == [
        {name: cell for name, cell in row.items() if cell} for row in table]


# --- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("capability", "built_for", "served"), [
    ((7, 0), ["sm_70", "sm_80"], True), ((7, 0), ["sm_75", "sm_80", "sm_90"], False), ((7, 5), ["sm_70"], True),
    ((8, 9), ["sm_80", "sm_86"], True), ((12, 0), ["sm_90", "compute_90"], True), ((9, 0), ["sm_90a"], True),
    ((7, 0), ["sm_80", "compute_80"], False), ((8, 0), [], False), ((9, 0), ["gfx90a", "gfx942"], True)])
def test_a_device_without_kernels_is_refused_before_any_work(capability, built_for, served):
    if served:
        check_kernels(capability, built_for)
    else:
        with pytest.raises(ValueError, match=rf"no kernels for sm_{capability[0]}{capability[1]}"):
            check_kernels(capability, built_for)


def test_an_error_of_one_process_alone_is_heard(monkeypatch, capsys):
    monkeypatch.setattr("training.processes.time.sleep", lambda seconds: None)
    for number, told in (("0", "error: no room\n"), ("3", "process 3: error: no room\n")):
        monkeypatch.setenv("RANK", number)
        tell_error("error: no room")
        assert capsys.readouterr().err == told


@pytest.mark.parametrize("carried", [True, False])
def test_dropout_is_the_runs_own_whatever_the_adapter_was_trained_with(carried, tmp_path):
    before = toy_model()
    apply_lora(before, 4, 8, dropout=0.3)
    save_adapter(before, tmp_path, base_model="toy")
    for dropout in (0.0, 0.1):
        trainer, _ = trainer_for(before if carried else None, adapter=str(tmp_path), dropout=dropout)
        assert {layer.dropout for layer in lora_layers(trainer.model).values()} == {dropout}


STUCK = """
import sys, time, torch
from training.processes import Processes
processes = Processes(timeout_seconds=float(sys.argv[2]))
processes.wait("the first step")
if processes.dist_rank == 1:
    sys.exit(3) if sys.argv[1] == "dies" else time.sleep(12)
try:
    processes.all_reduce(torch.ones(1), "step 2, gradients")
except Exception as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(1)
"""


@pytest.mark.slow
def test_a_stuck_collective_is_reported_by_rank():
    results = run_processes(STUCK, "sleeps", "3", world_size=2, check=False)
    assert results[0].returncode == 1
    assert "waited 3 s at step 2, gradients: process 1 was last seen at the first step" in results[0].stderr


@pytest.mark.slow
def test_when_a_process_dies_the_others_stop_and_say_which():
    results = run_processes(STUCK, "dies", "60", world_size=2, check=False)
    assert [r.returncode for r in results] == [1, 3]
    assert "LostProcess: process 0 lost the others at step 2, gradients" in results[0].stderr
    assert "process 1 was last seen at the first step" in results[0].stderr
