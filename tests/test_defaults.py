"""The paper's numbers are written once: a change in tooldev.py reaches every help text and every run."""

from processes import Job

CHANGED = """
import sys
import tooldev
for name, value in (("num_samples", 13), ("tools_temperature", 0.8125)):
    setattr(tooldev.Evolution, name, value)
tooldev.Sizes.queries_per_round = 12345
tooldev.Sft.learning_rate, tooldev.Sft.global_batch_size, tooldev.Lora.rank = 3.25e-4, 96, 24
{body}
"""


def said(body: str, *arguments: str) -> str:
    """What a program prints in which the paper's numbers are others."""
    done = Job(CHANGED.format(body=body), *arguments, fresh=True, COLUMNS="300").completed()
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_help_texts_say_what_tooldev_says():
    text = said("import evolve; evolve.main(['--help'])")
    for wanted in ("samples of the tool calls (paper, section A.3) (default: the run's, else 13)", "else 0.8125)",
                   "(paper: 12345)"):
        assert wanted in text, wanted
    text = said("import train; train.main(['--help'])")
    for wanted in ("(default: 0.000325)", "rows per optimizer step, over all processes (paper) (default: 96)",
                   "LoRA rank (paper) (default: 24)"):
        assert wanted in text, wanted
    text = said("sys.exit(tooldev.main(['run', '--help']))")
    assert "12,345 at most" in text and "(default: 24)" in text


def test_a_run_of_the_method_a_round_and_a_training_take_them():
    text = said("""
from pathlib import Path
from evolution.config import RoundConfig
from evolution.plan import plan_round
from pipeline.settings import RunSettings, round_settings
from train import TrainConfig

settings = RunSettings.from_preset("paper", model="base", seed=0)
config = RoundConfig.from_dict({**round_settings(settings, Path("data")), "round": 1})
print(config.calls_draws().num_samples, config.tools_draws(0).temperature)
print(settings.learning_rate, settings.global_batch_size, settings.rank)
print(TrainConfig().learning_rate, TrainConfig().global_batch_size, TrainConfig().rank)
from data.schema import Query
class Words:
    def encode(self, text): return text.split()
import model.chat
model.chat.render = lambda messages, tokenizer: ([1, 2, 3], "")
print(plan_round(config, TrainConfig(), [Query("q", "x")], [], Words()).written_calls)
""")
    assert text.splitlines() == ["13 0.8125", "0.000325 96 24", "0.000325 96 24", str(13 * 128)]


def test_the_plan_of_a_run_counts_with_them():
    text = said("""
from types import SimpleNamespace
from pipeline.estimate import _round
settings = SimpleNamespace(probe=0, queries_per_round=10, evolve={}, evolve_epochs=1.0, global_batch_size=4, train={})
lengths = dict.fromkeys(("generation_answer", "answer", "generation", "prompt", "evolve rows",
                         "evolve tokens"), 1.0)
print(_round(settings, SimpleNamespace(round=1), {"queries": 10, "examples": 0}, lengths)[0])
""")
    assert text.startswith("10 queries, 140 tokens written")           # ten texts of tools, and ten times 13 samples
