"""ToolDev's front door, and the paper on one page.

    python tooldev.py demo                 # the whole method on the embedded model, on a laptop
    python tooldev.py run --model DIR --tools F --examples F --queries F --out DIR
    python tooldev.py COMMAND --help

"ToolDev: Self-Improving Tool Learning via Decomposition and Evolution" (ToolACE-DEV, arXiv 2505.07512). The numbers
below are the paper's, each with its place; what the paper does not state is chosen elsewhere and called ours. The
method as one function is `pipeline.steps.run_pipeline`. This module imports nothing of ours at the top, so `--help` is
instant.
"""

import argparse
import difflib
import errno
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import TracebackType

# ------------------------------------------------------------------------------------------------- the paper's numbers

@dataclass(frozen=True)
class Lora:
    """Section 4.1: "All model modules are enabled for LoRA fine-tuning"."""

    rank: int = 16                      # section 4.1
    alpha: float = 32.0                 # section 4.1
    targets: str = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"   # section 4.1: all of them


@dataclass(frozen=True)
class Sft:
    """Section 4.1, the same in every stage."""

    global_batch_size: int = 64         # section 4.1
    learning_rate: float = 1e-4         # section 4.1, cosine
    warmup_ratio: float = 0.1           # section 4.1


@dataclass(frozen=True)
class Sizes:
    """How much data each stage uses."""

    tools: int = 26_522                 # section 4.1, stage 1
    examples: int = 20_000              # section 4.1, stage 2
    queries_per_round: int = 10_000     # section 4.1, stage 3


@dataclass(frozen=True)
class Evolution:
    """Section 3.4 and appendix A.3."""

    rounds: int = 3                     # section 4.1: at most; the best is reported
    tools_temperature: float = 1.0      # section A.3
    num_samples: int = 5                # section A.3, top-k sampling (k is not stated)


@dataclass(frozen=True)
class Variant:
    """A row of Table 3: its steps, and the paper's scores on BFCL (non-live, live, overall), Llama-3.1-8B-Instruct."""

    title: str
    steps: tuple[str, ...]
    paper: tuple[float, float, float]


# step -> (stage, the step whose adapter it goes on from; "" is the base)
STEPS = {
    "raw": ("", ""),
    "adaption": ("adaption", ""),                               # Eq. 1
    "invocation": ("invocation", ""),                           # Eq. 2
    "invocation-adapted": ("invocation", "adaption"),           # Eq. 1, then Eq. 2
    "joint": ("joint", "adaption"),                             # Eq. 1, then Eq. 2 and Eq. 3 together
}
VARIANTS = {
    "raw": Variant("Raw", ("raw",), (72.06, 56.93, 64.50)),
    "adaption": Variant("Adaption", ("adaption",), (73.54, 57.52, 65.53)),
    "invocation": Variant("Invo.", ("invocation",), (88.96, 72.73, 80.85)),
    "invocation-adapted": Variant("Invo. w. Adaption", ("adaption", "invocation-adapted"), (89.08, 73.03, 81.06)),
    "joint": Variant("Invo.+Gen. w. Adaption", ("adaption", "joint"), (89.40, 73.93, 81.67)),
}
PAPER_EVOLVED = (89.67, 75.20, 82.44)   # Table 1, ToolDev (FC): the best of three rounds

# ------------------------------------------------------------------------------------------------------- the commands

# name -> (module with add_arguments(parser) and main(args) -> exit code or None, one line of help, an example's words)
COMMANDS = {
    "demo": ("pipeline.demo", "the whole method on the embedded model and the generated tool world", "--quick"),
    "run": ("pipeline.run", "the method on your own model, tools, examples and queries; the same command resumes",
            "--tools tools.jsonl --examples examples.jsonl --queries queries.jsonl --out runs/mine"),
    "ablate": ("experiments.ablation", "the five variants of Table 3 and the rounds after them, over seeds",
               "--seeds 2 --jobs 2"),
    "controls": ("experiments.controls",
                 "a round with one part left out, over the seeds of an ablation: what each part gives",
                 "--controls labelled_only"),
    "report": ("eval.report", "rebuild the report of a run", "runs/demo"),
    "eval": ("pipeline.evaluate", "generate answers to a benchmark with a model, and score them",
             "--bench bfcl --data bfcl --model model/tiny --limit 2 --out bfcl-tiny"),
    "score": ("eval.score", "score saved answers; needs no torch",
              "--bench bfcl --data bfcl --answers answers.jsonl --out scores"),
    "data": ("pipeline.fetch",
             "fetch a benchmark's data or a small real model (the only command that uses the network)",
             "bfcl --out bfcl"),
    "import-gguf": ("pipeline.import_gguf", "a GGUF file, as llama.cpp and Ollama use, as a Hugging Face folder",
                    "model.gguf --out model"),
    "convert": ("data.formats.convert", "any known corpus -> tools, examples, queries and what was rejected",
                "--from auto --in corpus.jsonl --out made"),
    "split": ("data.splits", "deterministic subsets, de-duplication and mixtures of converted data",
              "--examples made/examples.jsonl --num-examples 100 --out few"),
    "guard": ("pipeline.guard", "the queries and tools of benchmarks as one file, for --guard",
              "bfcl=bfcl --out guard.jsonl"),
    "stats": ("pipeline.stats", "token lengths, duplicates and types of a data file",
              "made/examples.jsonl --model model/tiny"),
    "check": ("data.check", "rule-check a file of tools or examples; exit 1 if anything is rejected",
              "made/examples.jsonl"),
    "show": ("pipeline.show", "one training row, token by token, the supervised tokens marked",
             "made/examples.jsonl --row 1"),
    "find": ("pipeline.find", "find the tools of a large pool that fit a query, without a model",
             '--tools docs/few.jsonl "What is the weather in Oslo?"'),
    "call": ("pipeline.ask", "ask a model to call tools for a query; prints JSON",
             '--tools docs/world.jsonl "Please book a doctor visit reachable at 253-5835."'),
    "make-tools": ("pipeline.ask", "ask a model to make tools for a query; prints JSON",
                   '"Please book a doctor visit reachable at 253-5835."'),
    "export": ("pipeline.export", "a PEFT adapter or a merged Hugging Face checkpoint, with measured drift",
               "--adapter runs/demo/round-3 --out exported --merge"),
    "trace": ("evolution.trace", "the story of one query through a round of self-evolution", "runs/demo"),
    "make-base": ("pipeline.make_base", "pre-train the embedded model on the world's general text", "--steps 10"),
}


PATHS = {"--out", "--in", "--model", "--adapter", "--data", "--tools", "--examples", "--queries", "--answers",
         "--index", "--against", "--config", "--rejected", "--test", "--validation", "--guard", "--scores"}
ASKS = {"stats", "check", "show", "find", "call", "make-tools", "trace"}     # these only look: nothing is half done
RESUMES = {"demo", "run", "ablate", "controls", "eval", "make-base"}    # these keep every finished part

BLOCKED = "a file is where a folder is wanted: choose another path"
ADVICE = {errno.ENOENT: "check the path, or choose another", errno.EACCES: "change its rights, or choose another path",
          errno.EROFS: "choose a folder that can be written to", errno.ENOTDIR: BLOCKED, errno.EEXIST: BLOCKED,
          errno.EISDIR: "a folder is where a file is wanted: choose another path",
          errno.ENOSPC: "make room on the disk, then type the same command again"}


class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults beside the flags, examples as they stand."""


class Parser(argparse.ArgumentParser):
    """A parser that names the nearest option or command to one that it does not know, before anything else is said.

    With `read_config`, the file after --config gives defaults of the other options.
    """

    read_config: Callable[[str], dict] | None = None

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **{"allow_abbrev": False} | options)    # a shortened --config would not be seen as one

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        words = list(sys.argv[1:] if args is None else args)
        if self.read_config:
            given = [after for word, after in zip(words, [*words[1:], ""], strict=True) if word == "--config"]
            given += [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
            for path in filter(None, given):
                self.set_defaults(**self.read_config(path))
        return super().parse_known_args(words, namespace)

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        words = list(sys.argv[1:] if args is None else args)
        self.refuse_unknown(words[:words.index("--")] if "--" in words else words)
        return super().parse_args(words, namespace)

    def refuse_unknown(self, words: Sequence[str]) -> None:
        """End with exit code 2 at the first option, or the command, that there is not."""
        subparsers = next((a for a in self._actions if isinstance(a, argparse._SubParsersAction)), None)
        known = set(self._option_string_actions)
        if subparsers is not None:
            command = next((word for word in words if not word.startswith("-")), None)
            if command is not None and command not in subparsers.choices:
                self.error(f"no command {command!r}{nearest(command, subparsers.choices)}")
            known |= set(subparsers.choices[command]._option_string_actions) if command else set()
        parser = subparsers.choices[command] if subparsers is not None and command else self
        for word, after in zip_longest(words, words[1:]):
            name, equals, value = word.partition("=")
            if name.startswith("--") and name not in known:
                parser.error(f"no option {name}{nearest(name, known)}")
            if parser is not self and name in PATHS and (value if equals else after) == "":
                parser.error(f"{name} is empty; give a path (a variable of the shell that is not set?)")


def nearest(word: str, known: Iterable[str]) -> str:
    """"; did you mean ..." where something known is like the word, else where to look."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else "; --help lists them"


def make_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser; only the named command's module is imported."""
    parser = Parser(prog="tooldev.py", description=(__doc__ or "").split("\n\n")[0], epilog=(
        "`tooldev.py COMMAND --help` explains a command. Training alone: train.py. One round of self-evolution alone: "
        "evolve.py."))
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text, words) in COMMANDS.items():
        sub = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", formatter_class=Help)
        if name == command:
            importlib.import_module(module).add_arguments(sub)
            example = f"Example:\n  python tooldev.py {name} {words}"
            sub.epilog = f"{sub.epilog}\n\n{example}" if sub.epilog else example
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and exit code 2, a lost process exit code 1."""
    fit_threads()
    argv = sys.argv[1:] if argv is None else argv
    command = next((word for word in argv if not word.startswith("-")), None)
    try:
        args = make_parser(command).parse_args(argv)
        return importlib.import_module(COMMANDS[args.command][0]).main(args) or 0
    except KeyboardInterrupt as stop:                       # a training that was interrupted says itself what it kept
        print(f"\n{stop if str(stop) else interrupted(command)}", file=sys.stderr)
        return getattr(stop, "code", 130)
    except BrokenPipeError:
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if type(error).__name__ != "LostProcess":           # its module imports torch
            raise
        print(f"error: {one_line(error)}; the same command goes on from what is finished", file=sys.stderr)
        return 1


def interrupted(command: str | None) -> str:
    """What Ctrl-C leaves of a command: promises only what it keeps."""
    if command in RESUMES:
        return "interrupted; the same command goes on from here"
    return "interrupted" if command in ASKS else "interrupted; nothing is kept, the same command begins anew"


def fit_threads(root: str | Path = "/sys/fs/cgroup") -> None:
    """Before torch is loaded: no more threads than a container's CPU quota has cores, unless the user says how many.

    PyTorch counts the machine's cores, and threads that spin use a quota up in a part of its period.
    """
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):              # cgroup v2, then v1
        with suppress(OSError, ValueError):                 # no such file, or "max": no quota
            quota, period = map(int, " ".join(Path(root, name).read_text(encoding="ascii") for name in files).split())
            if 0 < quota < period * len(os.sched_getaffinity(0)):
                os.environ.setdefault("OMP_NUM_THREADS", str(-(-quota // period)))


def hush_interrupts() -> None:
    """Ctrl-C while a program's libraries are still loaded ends it in one line, not in a traceback."""
    def told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("\ninterrupted", file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = told


def one_line(error: BaseException) -> str:
    """An error's message without line breaks; operating-system errors name their file and say what to do."""
    if isinstance(error, UnicodeEncodeError):
        found = error.object[:error.end].rsplit("\n", 1)[-1][-60:]
        return (f"{found!r} cannot be written as {error.encoding}: give the file a name in UTF-8, or set "
                "PYTHONIOENCODING=utf-8")
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}; {ADVICE.get(error.errno, 'choose another path')}"
    return " ".join(str(error).split()) or type(error).__name__


def home(*parts: str) -> Path:
    """A path inside this repository."""
    return Path(__file__).resolve().parent.joinpath(*parts)


if __name__ == "__main__":
    sys.exit(main())
