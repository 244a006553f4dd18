"""The plan's arithmetic against measured peaks and real counts; what cannot fit is refused, with what helps."""

from pathlib import Path

import pytest
import torch
from train_toys import toy_model, toy_rows

from benchmarks.train_memory import SHAPES, measure
from lora import apply_lora, lora_parameters
from model import ModelConfig
from model.device import containers, free_in_container, free_memory, free_on_host
from train import TrainConfig
from training.base import weights_on
from training.costs import base_weights, body_weights, duration, trained_weights
from training.plan import BESIDE_TENSORS, KERNEL, LIBRARIES, make_plan

CPU = torch.device("cpu")
QWEN = {"architectures": ["Qwen2ForCausalLM"], "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True}
LLAMA = {"architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}


BFLOAT16 = pytest.param(torch.bfloat16, marks=pytest.mark.slow)     # where the CPU has none of its own


@pytest.mark.parametrize("dtype", [torch.float32, BFLOAT16], ids=str)
@pytest.mark.parametrize("checkpointing", [0, 1])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_planned_memory_is_within_ten_percent_of_the_measured_peak(shape, checkpointing, dtype):
    planned, measured = measure(SHAPES[shape], dtype=dtype, checkpointing=checkpointing, tokens=256)
    assert planned == pytest.approx(measured, rel=0.1)


def test_planned_memory_in_bfloat16_is_within_ten_percent_of_the_measured_peak():
    planned, measured = measure(SHAPES["wide"], dtype=torch.bfloat16, checkpointing=1, tokens=128, row_length=128)
    assert planned == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, BFLOAT16], ids=str)
def test_planned_memory_of_full_training_is_within_ten_percent(dtype):
    planned, measured = measure(SHAPES["wide"], dtype=dtype, checkpointing=0, stage="pretrain", tokens=256)
    assert planned == pytest.approx(measured, rel=0.1)


def test_weights_are_counted_exactly():
    for tied in (True, False):
        model = toy_model(tied=tied)
        assert base_weights(model.config) == sum(p.numel() for p in model.parameters())
    apply_lora(model, 4, 8)
    assert trained_weights(TrainConfig(rank=4), model.config) == sum(p.numel() for p in lora_parameters(model).values())


def test_known_models_have_their_known_sizes():
    qwen, llama = ModelConfig.from_dict(QWEN), ModelConfig.from_dict(LLAMA)
    assert base_weights(qwen) == 494_032_768 and base_weights(llama) == 8_030_261_248      # as their cards say
    assert trained_weights(TrainConfig(), llama) == 41_943_040
    assert body_weights(qwen) == 357_826_560


def plan_for(raw: dict, dtype: torch.dtype, gib: float, **settings):
    config = TrainConfig(**settings)
    lengths = [600] * 900 + [2048] * 100
    return make_plan(config, ModelConfig.from_dict(raw), lengths, sum(lengths) // 5, 30, dtype, CPU, 8,
                     available=int(gib * 2**30))


def test_the_papers_run_fits_into_32_gib_only_with_checkpointing_and_says_so():
    plan_for(LLAMA, torch.float16, 32, gradient_checkpointing=1, micro_batch_tokens=2048).refuse_what_cannot_fit()
    with pytest.raises(ValueError, match=r"needs about .* GiB and 32.00 are there: use --gradient-checkpointing 1$"):
        plan_for(LLAMA, torch.float16, 32, micro_batch_tokens=4096).refuse_what_cannot_fit()


def test_every_remedy_is_named_and_where_nothing_helps_that_is_said():
    with pytest.raises(ValueError, match="use --gradient-checkpointing 1 .*--micro-batch-tokens"):
        plan_for(LLAMA, torch.float16, 22, micro_batch_tokens=65536).refuse_what_cannot_fit()
    with pytest.raises(ValueError, match="use --precision bf16"):
        plan_for(LLAMA, torch.float32, 24).refuse_what_cannot_fit()
    # no larger chunk than the one asked for
    with pytest.raises(ValueError, match="use --gradient-checkpointing 1 --micro-batch-tokens"):
        plan_for(LLAMA, torch.float16, 22, micro_batch_tokens=65536, loss_chunk=64).refuse_what_cannot_fit()
    for dtype in (torch.float16, torch.float32):
        with pytest.raises(ValueError, match="use --shard job"):                        # over the eight processes
            plan_for(LLAMA, dtype, 20 if dtype == torch.float32 else 12).refuse_what_cannot_fit()
        # an eighth of it is still too much: no false advice
        with pytest.raises(ValueError, match="do not fit with any option; use a shorter --max-length, a smaller model"):
            plan_for(LLAMA, dtype, 1).refuse_what_cannot_fit()


@pytest.mark.parametrize("stage, told", [("invocation", True), ("adaption", True), ("pretrain", True), ("joint", False),
                                         ("evolve", False)])
def test_a_weighing_of_objectives_that_a_stage_does_not_have_is_told(stage, told):
    assert TrainConfig(stage=stage).without_effect() == []
    lines = TrainConfig(stage=stage, generation_weight=0.02, balance="objective").without_effect()
    assert bool(lines) == told
    assert not told or lines == [f"--balance objective and --generation-weight 0.02: no effect, stage {stage} has one "
                                 "objective"]


@pytest.mark.parametrize("settings, told", [
    ({"stage": "pretrain", "rank": 8}, "--rank 8: no effect, pretrain trains the weights themselves"),
    ({"stage": "joint", "train_on": "all"}, "--train-on all: no effect, only pretrain"),
    ({"stage": "joint", "eval_steps": 5}, "no --validation")])
def test_other_settings_without_effect_are_told(settings, told):
    assert [told in line for line in TrainConfig(**settings).without_effect()] == [True]
    assert TrainConfig(eval_steps=5, validation="rows.jsonl").without_effect() == []
    with pytest.raises(ValueError, match="reads no adapter"):
        TrainConfig(stage="pretrain", adapter="some/adapter")


def test_a_cpu_s_plan_counts_what_is_resident_beside_the_tensors():
    plans = {dtype: plan_for(QWEN, dtype, 32) for dtype in (torch.float32, torch.bfloat16, torch.float16)}
    assert all(plan.total - plan.tensors == sum(plan.memory.get(name, 0) for name in BESIDE_TENSORS)
               for plan in plans.values())
    assert [plan.memory.get("compiled kernels", 0) // KERNEL for plan in plans.values()] == [0, 1024, 1024]
    assert all("libraries 0.40" in plan.lines()[2] for plan in plans.values())
    few = make_plan(TrainConfig(micro_batch_tokens=4096), ModelConfig.from_dict(QWEN), [464] * 16, 4000, 1,
                    torch.bfloat16, CPU, 1, available=2**40)
    assert few.memory["compiled kernels"] // KERNEL == 720                  # 736 were counted
    there = make_plan(TrainConfig(), ModelConfig.from_dict(QWEN), [464] * 16, 4000, 1, torch.bfloat16,
                      torch.device("cuda"), 1, available=2**40)
    assert there.total == there.tensors


def test_a_pass_of_few_rows_is_planned_as_such():
    full, single = (plan_for(QWEN, torch.float32, 32, micro_batch_size=size) for size in (0, 1))
    assert "x 4,096 tokens" in full.facts and "x 2,048 tokens" in single.facts          # the longest row
    assert single.memory["activations kept"] * 2 == full.memory["activations kept"]


def test_a_model_that_is_there_already_is_not_missing_from_the_memory(monkeypatch):
    monkeypatch.setattr("training.plan.available_memory", lambda device: 5 * 2**30)
    config, shape = TrainConfig(), ModelConfig.from_dict(QWEN)
    alone, beside = (make_plan(config, shape, [512] * 64, 4000, 1, torch.float32, CPU, 1, resident=size)
                     for size in (0, 2 * 2**30))
    # the libraries, which the plan counts, are there already
    assert (alone.available, beside.available) == (5 * 2**30 + LIBRARIES, 7 * 2**30 + LIBRARIES)
    model = toy_model()
    assert weights_on(CPU, model) == sum(p.nbytes for p in model.parameters()) and weights_on(CPU, None) == 0
    assert weights_on(torch.device("cuda", 0), model) == 0


def test_a_containers_limit_counts(tmp_path):
    def limit(**files):
        for name, text in files.items():
            (tmp_path / name.replace("_", ".", 1)).write_text(text)
        return free_in_container([tmp_path])

    assert limit(memory_current="400\n") == [] and limit(memory_max="max\n") == []
    assert limit(memory_max="1000\n") == [600] and limit(memory_current="4000\n") == [0]
    assert limit(memory_stat="file 900\ninactive_file 3300\n") == [300]          # files that make way
    (tmp_path / "memory").mkdir()
    for name, text in (("limit_in_bytes", "90"), ("usage_in_bytes", "80"), ("stat", "total_inactive_file 5\n")):
        (tmp_path / "memory" / f"memory.{name}").write_text(text)
    assert sorted(free_in_container(containers(tmp_path / "none", tmp_path))) == [15, 300]


def test_the_limits_of_a_job_and_of_all_above_it_count(tmp_path):
    (tmp_path / "listed").write_text("5:cpu,memory:/slurm/job\n4:cpu:/other\n0::/system.slice/a.scope\n")
    assert containers(tmp_path / "listed", "/r") == {
        Path("/r", part) for part in ("", "memory", "memory/slurm", "memory/slurm/job", "system.slice",
                                      "system.slice/a.scope")}
    (tmp_path / "listed").write_text("no such list\n")
    assert containers(tmp_path / "listed", "/r") == {Path("/r"), Path("/r/memory")}


def test_free_memory_is_within_the_hosts(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   3 kB\n")
    assert free_on_host(tmp_path / "meminfo") == 3072 and free_on_host(tmp_path / "none") > 2**20
    assert free_memory(CPU) > 0
    monkeypatch.setattr("model.device.free_on_host", lambda: 3072)      # read twice, the host's own would move between
    assert free_memory(CPU) == 3072


def test_a_large_vocabulary_gets_small_chunks_of_the_loss():
    assert [TrainConfig().loss_chunk_for(size) for size in (3072, 32_768, 128_256, 151_936)] == [1024, 1024, 261, 220]
    assert TrainConfig(loss_chunk=7).loss_chunk_for(151_936) == 7


def test_a_short_last_step_counts_for_what_it_holds():
    config, shape = TrainConfig(global_batch_size=64), ModelConfig.from_dict(QWEN)
    lines = make_plan(config, shape, [100] * 10, 200, 3, torch.float32, CPU, 1, available=2**40).lines()
    assert "| 3 steps | 3.00 epochs |" in lines[0] and "3,000 tokens to train" in lines[1]


def test_the_plan_is_printed_before_any_work_and_nothing_is_written_when_refused(tmp_path, monkeypatch):
    import train
    lines: list[str] = []
    monkeypatch.setattr(train, "tell", lines.append)
    monkeypatch.setattr("training.plan.available_memory", lambda device: 1000)
    with pytest.raises(ValueError, match="needs about"):
        train.run_training(TrainConfig(out=str(tmp_path / "run")), rows=toy_rows(), model=toy_model())
    assert (
        "global batch 64 rows" in lines[0] and "64 rows, " in lines[1] and "base 0.00 + LoRA and gradients" in lines[2]
    )
    assert "time, estimated" in lines[3] and not (tmp_path / "run").exists()


def test_the_gaps_that_checkpointing_leaves_in_a_cpus_heap_are_planned_and_are_no_tensors():
    kept, checkpointed = (plan_for(QWEN, torch.float32, 32, gradient_checkpointing=n) for n in (0, 1))
    assert "gaps between tensors" not in kept.memory
    assert checkpointed.memory["gaps between tensors"] == 24 * 2 * 4096 * 4864 * 4    # blocks, of each two MLP buffers
    assert checkpointed.total - checkpointed.tensors > checkpointed.memory["gaps between tensors"]


@pytest.mark.parametrize(("seconds", "words"), [
    (0.4, "0 s"), (59.0, "59 s"), (60.0, "1.0 min"), (7199.0, "120.0 min"), (7200.0, "2.0 h"), (172800.0, "2.0 days"),
    (597468.0, "6.9 days"),         # was said as 9957.8 min
])
def test_a_length_of_time_is_said_in_the_unit_that_reads_best(seconds, words):
    assert duration(seconds) == words
