"""What stands above a table of measurements, and parts of the speed benchmarks that need no minutes."""

import pytest
import torch

import benchmarks.machine
from benchmarks import sampler_speed, sampler_work, train_speed
from benchmarks.machine import NO_BF16, describe


def test_the_header_names_versions_command_and_a_processor_without_native_bf16(monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmarks/x.py", "--data", "a folder"])
    for native in (True, False):
        monkeypatch.setattr(benchmarks.machine, "native_bf16", lambda native=native: native)
        text = describe("no-such-package", threads=2)
        assert f"torch {torch.__version__}" in text and "no-such-package not installed" in text and "2 threads" in text
        assert "`python benchmarks/x.py --data 'a folder'`" in text and (NO_BF16 in text) is not native


def test_a_side_that_runs_out_of_memory_is_a_row_of_the_table():
    went = {"seconds": [3.0, 2.0, 4.0], "peak_gib": 20.0, "skipped": 1, "planned": int(18 * 2**30)}
    lost = {"failed": "out of memory", "peak_gib": 32.0}
    rows = [(2048, 307)] * 4
    first, second = train_speed.table_rows("long", {"reference": [lost], "ours": [went]}, rows, 10**9, 1e14, "cuda",
                                           True)
    assert first == "| long | reference | out of memory |" + " - |" * 9
    # the median of the steps
    assert second == "| long | ours | 3.00 | 1.33 | 2,731 | 16% | 20.00 | - | - | 18.00 | -10.0% | 1 |"
    (_, theirs) = train_speed.table_rows("equal", {"reference": [went], "ours": [went]}, rows, 10**9, 1e14, "cpu",
                                         False)
    # the best one
    assert theirs == "| equal | ours | 2.00 | 2.00 | 4,096 | 25% | 20.00 | 1.00x | 100% |"


def test_the_gpus_workloads_have_their_sizes_and_the_cpus_kept_theirs():
    prompts, lengths = sampler_work.make_work("decode", 128256, None)
    assert [len(p) for p in prompts] == [512] and lengths == [[256]]
    prompts, lengths = sampler_work.make_work("many", 128256, None)
    assert len(prompts) == 64 and {len(row) for row in lengths} == {5} and max(map(max, prompts)) < 128256
    assert [min(map(len, prompts)), max(map(len, prompts))] == [300, 1200] and all(20 <= n <= 120 for row in lengths
                                                                                   for n in row)
    prompts, _ = sampler_work.make_work("b", 151936, None)
    assert [len(p) for p in prompts] == [300 + 60 * i for i in range(16)]


def test_scoring_and_tool_generation_are_one_sample_of_many_prompts():
    for workload, new in (("c", 64), ("d", 200)):
        prompts, lengths = sampler_work.make_work(workload, 49152, None)
        assert len(prompts) == 64 and lengths == [[new]] * 64
        assert len({tuple(prompt[:20]) for prompt in prompts}) == 1
        assert len(sampler_work.make_work(workload, 49152, None, quick=True)[0]) == 12


@pytest.mark.parametrize("shape", sampler_speed.SHAPES)
def test_every_shape_of_the_samplers_benchmark_makes_a_model(shape):
    """That of SmolLM2 named head_dim twice, and its measurement ended at once."""
    config = sampler_speed.config_of(shape)
    assert config.qkv_bias and config.hidden_size == config.head_dim * config.num_attention_heads
