"""T-Eval (Chen et al. 2024, arXiv 2312.14033) as a benchmark that `eval` and `score` drive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from data.prompts import Message
from data.schema import Tool, dump_json
from eval.answers import Answer, converted, printable, reply_of, wrote_tools
from eval.lenient import STRICT, lenient_calls
from eval.teval import prompts
from eval.teval.items import PLANS, TASKS, Item, load_items
from eval.teval.scoring import MAIN_KEY, score_reply
from eval.uncertainty import mean_interval, percent, weighted_interval

ABILITIES = {"plan": (("plan_str", "f1_score"), ("plan_json", "f1_score")),
             "retrieve": (("retrieve_str", "name"), ("rru_json", "name")),
             "understand": (("understand_str", "args"), ("rru_json", "args"))}
NOTE = "plan scores made without the released sentence encoder are not comparable with published ones"
FIELDS = ("reply", "result")
PROMPTS = ("paper",)                        # the items bring prompts of their own
ANSWERS = """\
"id" and "task" (plan_str, plan_json, retrieve_str, understand_str or rru_json), "ground_truth" where the data lack the
item; with one of these
  reply: what is scored, as it stands
    {"id": "0", "task": "rru_json", "reply": "{\\"name\\": \\"Map.find\\", \\"args\\": {\\"place\\": \\"Ulm\\"}}"}
  result: text, or calls of a service, which are written in the task's form; <tool_call> blocks are, too
    {"id": "0", "task": "rru_json", "result": [{"name": "Map.find", "arguments": {"place": "Ulm"}}]}"""


@dataclass(frozen=True)
class Settings:
    """How replies are judged."""

    similarity: str = "exact"
    teval_version: str = "v2"
    reading: str = STRICT


def add_arguments(parser: Any, *, prompts: bool) -> None:
    """The flags of `eval` and of `score`; none changes a prompt."""
    parser.add_argument("--similarity", choices=("exact", "bow", "names"), default=Settings.similarity,
                        help="what stands in for the sentence encoder in plans")
    parser.add_argument("--teval-version", choices=("v1", "v2"), default=Settings.teval_version,
                        help="which version's rules")


@dataclass(frozen=True)
class Benchmark:
    """The items found, by key; `files` names what they came from, by task."""

    folder: str
    entries: dict[str, Item]
    files: dict[str, str]
    settings: Settings = Settings()

    def only(self, keys: Sequence[str]) -> "Benchmark":
        return replace(self, entries={key: self.entries[key] for key in keys})

    def messages(self, item: Item) -> list[Message]:
        return prompts.messages(item)

    def native(self, item: Item) -> tuple[list[Message], list[Tool]]:
        raise ValueError("T-Eval's items bring prompts of their own and no tools apart; leave --prompt native out")

    def expected(self, item: Item) -> str:
        return item.truth if isinstance(item.truth, str) else "" if item.truth is None else dump_json(item.truth)

    def answer_line(self, item: Item, text: str) -> dict[str, Any]:
        return {"id": item.id, "task": item.task, **converted(text, partial(prompts.reply, item.task))}

    def find(self, answer: Answer) -> Item | None:
        """By id and task; an answer may bring an item that is not here, with its own ground_truth."""
        task, key = answer.record.get("task"), answer.record.get("id")
        if task not in TASKS or not isinstance(key, str):
            return None
        brought = Item(key, task, answer.record.get("ground_truth"))
        return self.entries.get(brought.key) or (brought if "ground_truth" in answer.record else None)

    def judge(self, item: Item, answer: Answer) -> dict[str, Any]:
        """Verdict line: id, task, score, outcome (right, wrong, undecodable), reason."""
        reply, reason = self._reply(item, answer)
        score = score_reply(item, reply, similarity=self.settings.similarity, version=self.settings.teval_version)
        line = {"id": printable(answer.record.get("id")), "task": item.task,
                "score": {key: round(value, 6) for key, value in score.items()}}
        undecodable = reply is None or not line["score"]["parse_rate"]
        right = line["score"][MAIN_KEY[item.task]] >= 0.9999
        line["outcome"] = "undecodable" if undecodable else "right" if right else "wrong"
        if not reason and item.task in PLANS and line["score"]["parse_rate"] and not line["score"]["f1_score"]:
            reason = "only_finish_action"                     # the released code stops here; scored 0
        return line | ({"reason": reason} if reason else {})

    def _reply(self, item: Item, answer: Answer) -> tuple[Any, str | None]:
        """What is scored, and why it could not be read; by the lenient reading where the strict one finds nothing."""
        reply, reason = reply_of(answer, partial(prompts.reply, item.task))
        if self.settings.reading == STRICT or not isinstance(reply, str) or score_reply(item, reply)["parse_rate"]:
            return reply, reason
        calls = lenient_calls(reply, {})
        return prompts.reply(item.task, calls) if calls else reply, reason

    def unknown(self, answer: Answer) -> dict[str, Any]:
        return {"id": printable(answer.record.get("id")), "task": printable(answer.record.get("task")), "score": 0.0,
                "outcome": "unknown_entry"}

    def summarise(self, first: Mapping[str, tuple[Answer, dict]]) -> dict[str, Any]:
        """File scores, abilities (mean of two files) and the paper's figure (mean of three abilities), in percent."""
        values: dict[tuple[str, str], list[float]] = {}
        files = {}
        for task in TASKS:
            answered = {key: line for key, (_, line) in first.items() if line["task"] == task}
            if answered:
                keys = [key for key, item in self.entries.items() if item.task == task] or list(answered)
                given = [answered[key]["score"] if key in answered else {} for key in keys]
                values |= {(task, name): [score.get(name, 0.0) for score in given]
                           for name in sorted({name for score in given for name in score})}
                files[task] = {"file": self.files.get(task, "brought by the answers"), "n": len(keys),
                               "answered": len(answered),
                               "undecodable": sum(line["outcome"] == "undecodable" for line in answered.values()),
                               "scores": {name: percent(mean_interval(found))
                                          for (t, name), found in values.items() if t == task}}
        if "plan_json" in files:
            files["plan_json"]["f1_score_names_only"] = self._names_only(first)
        scores = {ability: percent(weighted_interval([(0.5, mean_interval(values[part])) for part in parts]))
                  for ability, parts in ABILITIES.items() if all(part in values for part in parts)}
        if len(scores) == len(ABILITIES):
            parts = [part for ability in ABILITIES.values() for part in ability]
            scores["overall"] = percent(weighted_interval([(1 / 6, mean_interval(values[part])) for part in parts]))
        version = self.settings.teval_version
        return {"benchmark": "teval", "version": version, "similarity": self.settings.similarity,
                "complete": len(files) == len(TASKS), "scores": scores, "files": files,
                "comparable": {"plan": False, "retrieve": True, "understand": version == "v2"}, "note": NOTE,
                "wrote_tools_instead": sum(wrote_tools(answer) for answer, _ in first.values())}

    def _names_only(self, first: Mapping[str, tuple[Answer, dict]]) -> dict[str, float]:
        """The mean F1 of the JSON plans where equal names link whatever the arguments."""
        found, version = [], self.settings.teval_version
        for item in self.entries.values():
            if item.task == "plan_json":
                reply = self._reply(item, first[item.key][0])[0] if item.key in first else None
                found.append(score_reply(item, reply, similarity="names", version=version)["f1_score"])
        return percent(mean_interval(found))


def load(data: str | Path, settings: Settings = Settings()) -> Benchmark:
    """The items in a folder; FileNotFoundError or ValueError where there are none or a file is not what it says."""
    folder, items, files = load_items(data)
    return Benchmark(str(folder), items, files, settings)
