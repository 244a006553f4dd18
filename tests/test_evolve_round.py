"""One round with scripted answers, worked out by hand: every row, reason and vote."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.files import write_json, write_jsonl
from data.prompts import NO_CALL_TEXT
from data.schema import load_examples, read_json, read_jsonl
from evolution.config import RoundConfig
from evolution.flags import make_parser, round_config
from evolution.losses import began_with
from evolve import main, run_round
from model import load_tokenizer
from tests.evolve_run import Dice, Scripted, calls, make_run, tool, tools

QUERIES = {
    "q01": "Double seven and tell me.", "q02": "Nothing good is made for this.", "q03": "Bad tools first, then good.",
    "q04": "A tie that the log-probability breaks.", "q05": "Nobody can read these answers.",
    "q06": "Calls a tool that was never offered.", "q07": "Forgets the number that is required.",
    "q08": "Agrees that no call is right.", "q09": "double SEVEN, and tell me",
    "q10": "How far is it from the harbour of Lisbon to the old airport?", "q11": "Makes the tool of the benchmark.",
    "q12": "Writes tools where calls belong.", "q13": "Two calls in either order.", "q14": "The wrong type of value.",
}
A, B, C = calls(("double", {"n": 7})), calls(("double", {"n": 8})), calls(("double", {"n": 9}))
DOUBLE = tools(tool("double"))
UNDESCRIBED = DOUBLE.replace("Does a thing with a number.", "")
SECRET = tool("secret_tool", "The benchmark's own tool.", key={"type": "string", "description": "k"})
TWO, OWT = calls(("double", {"n": 1}), ("half", {"n": 2})), calls(("half", {"n": 2.0}), ("double", {"n": 1.0}))
TOOLS = {name: [DOUBLE] for name in QUERIES} | {
    "q02": ["<tools>\n{oops\n</tools>", "no tools here", UNDESCRIBED],
    "q03": [UNDESCRIBED, DOUBLE], "q11": [tools(SECRET)] * 3, "q13": [tools(tool("double"), tool("half"))]}


def votes(*texts, logprobs=None):
    return list(zip(texts, logprobs or [-1.0] * len(texts), strict=True))


CALLS = {
    "q02": votes(A, A, A, A, A),                                        # asked for without the rule checker only
    "q01": votes(A, A, B, "I would double it.", A), "q03": votes(A, A, A, A, A),
    "q04": votes(A, B, A, B, C, logprobs=[-2.0, -1.0, -2.0, -1.5, -0.1]),
    "q05": votes("hm", "<tool_call>\n{", "hm", "<tool_call>\n[1]\n</tool_call>", "<tools>"),
    "q06": votes(*[calls(("triple", {"n": 7}))] * 3, A, A), "q07": votes(*[calls(("double", {}))] * 4, A),
    "q08": votes(NO_CALL_TEXT, NO_CALL_TEXT, A, B, NO_CALL_TEXT),
    "q12": votes(DOUBLE, DOUBLE, DOUBLE, B, B), "q13": votes(TWO, OWT, TWO, OWT, A),
    "q14": votes(*[calls(("double", {"n": "7"}))] * 5),
}
REJECTED = {"q02": ("tools", "missing_description"), "q05": ("vote", "no_answer_parsed"),
            "q06": ("calls", "unknown_tool"), "q07": ("calls", "missing_required"), "q09": ("query", "duplicate_query"),
            "q10": ("query", "contaminated_query"), "q11": ("tools", "contaminated_tool"),
            "q14": ("calls", "wrong_type")}
ACCEPTED = {"q01": (A, 3, 5, 2), "q03": (A, 5, 5, 5), "q04": (B, 2, 5, 0), "q08": (NO_CALL_TEXT, 3, 5, 2),
            "q12": (B, 2, 5, 2), "q13": (TWO, 4, 5, 3)}           # text of the winner, votes, samples, margin


@pytest.fixture
def config(tmp_path):
    write_jsonl(tmp_path / "bench.jsonl", [
        {"id": "b", "query": QUERIES["q10"] + " Please.", "tools": [SECRET.to_dict()], "calls": []}])
    return make_run(tmp_path, [{"id": name, "query": text} for name, text in QUERIES.items()],
                    guard=(str(tmp_path / "bench.jsonl"),))


def scripted(config, answers=CALLS):
    return Scripted(load_tokenizer(config.model), TOOLS, answers)


def run(config, script=None, **options):
    script = script or scripted(config)
    ledger = run_round(config, generate=script.generate, progress=False, **options)
    folder = f"{config.run}/round-{config.round}"
    rejected = {row["id"]: row for _, row in read_jsonl(f"{folder}/rejected.jsonl")}
    return ledger, {e.id: e for e in load_examples(f"{folder}/accepted.jsonl")}, rejected


def test_every_query_ends_as_worked_out_by_hand(config):
    ledger, accepted, rejected = run(config)
    assert {name: (row["stage"], row["reason"]) for name, row in rejected.items()} == REJECTED
    assert set(accepted) == set(ACCEPTED)
    for name, (text, votes_, samples, margin) in ACCEPTED.items():
        example, origin = accepted[name], accepted[name].provenance
        assert calls(*((call.name, call.arguments) for call in example.calls)) == text, name
        assert (origin["votes"], origin["num_samples"], origin["margin"]) == (votes_, samples, margin), name
        assert origin["agreement"] == votes_ / samples
        assert (origin["round"], origin["model_sha"], origin["seed"], origin["decided_early"]) == (
            1, ledger["model_sha"], 0, False)
        assert example.query == QUERIES[name]
    assert ledger["queries"] == {"in": 14, "accepted": 6, "rejected": 8}
    assert ledger["stages"] == {
        "query": {"in": 14, "passed": 12, "rejected": {"contaminated_query": 1, "duplicate_query": 1}},
        "tools": {"in": 12, "passed": 10, "rejected": {"contaminated_tool": 1, "missing_description": 1}},
        "vote": {"in": 10, "passed": 9, "rejected": {"no_answer_parsed": 1}},
        "calls": {"in": 9, "passed": 6, "rejected": {"missing_required": 1, "unknown_tool": 1, "wrong_type": 1}}}
    assert ledger["attempts"] == {"0": {"tried": 12, "passed": 9}, "1": {"tried": 3, "passed": 1},
                                  "2": {"tried": 2, "passed": 0}}
    assert ledger["votes"] == {"0": {"voted": 1, "accepted": 0}, "2": {"voted": 2, "accepted": 2},
                               "3": {"voted": 3, "accepted": 2}, "4": {"voted": 2, "accepted": 1},
                               "5": {"voted": 2, "accepted": 1}}
    assert ledger["margins"] == {"0": {"voted": 2, "accepted": 1}, "1": {"voted": 1, "accepted": 0},
                                 "2": {"voted": 3, "accepted": 3}, "3": {"voted": 2, "accepted": 1},
                                 "5": {"voted": 2, "accepted": 1}}
    assert ledger["ties"] == {"logprob": 1, "none": 9}
    assert ledger["samples"] == {"asked": 50, "drawn": 50, "decided_early": 0, "unparsed": {
        "no_call_text": 3, "not_an_object": 1, "unclosed_tag": 1, "wrote_tools_instead": 4}}
    assert ledger["wrote_tools_instead"] == 4
    assert ledger["diversity"]["calls_per_answer_counts"] == {"0": 1, "1": 4, "2": 1}
    assert ledger["diversity"]["no_call_share"] == round(1 / 6, 4)
    assert ledger["contamination"] == {"query: contaminated_query": 1, "tools: contaminated_tool": 1}
    assert ledger["rows"] == {"generation": 5, "invocation": 6, "refused": {"no_call": 1}}
    assert ledger["training"]["steps"] == 2


def test_files_of_the_round_are_complete_and_marked(config):
    ledger, _, _ = run(config)
    folder = f"{config.run}/round-1"
    attempts = [(row["id"], row["attempt"], row["reason"]) for _, row in read_jsonl(f"{folder}/tools.jsonl")]
    assert ("q03", 0, "missing_description") in attempts
    assert ("q03", 1, None) in attempts
    story = {row["id"]: row for _, row in read_jsonl(f"{folder}/calls.jsonl")}
    assert [sample["reason"] for sample in story["q12"]["samples"]] == ["wrote_tools_instead"] * 3 + [None] * 2
    marker = read_json(f"{folder}/DONE.json")
    assert marker["round"] == 1
    vouched_for = {"accepted.jsonl", "rejected.jsonl", "ledger.json", "adapter/adapter_model.safetensors"}
    assert vouched_for <= set(marker["sha256"])
    assert read_json(f"{folder}/ledger.json") == json.loads(json.dumps(ledger))


def test_a_complete_round_is_read_and_not_repeated(config):
    first, _, _ = run(config)
    def never(*args, **options):
        raise AssertionError("nothing may be generated again")
    assert run_round(config, generate=never, progress=False) == json.loads(json.dumps(first))


def test_user_text_enters_the_prompt_once_and_literally(config):
    script = scripted(config)
    run(config, script)
    for text in script.prompts:
        assert sum(text.count(query) for query in QUERIES.values()) == 1


def test_deciding_early_accepts_the_same_answers(config, tmp_path):
    full, accepted, _ = run(config)
    other = dataclasses.replace(make_run(tmp_path / "b", [{"id": n, "query": q} for n, q in QUERIES.items()],
                                         guard=config.guard), early=True)
    early, accepted_early, _ = run(other)
    assert {name: e.calls for name, e in accepted.items()} == {name: e.calls for name, e in accepted_early.items()}
    assert early["stages"] == full["stages"]
    assert accepted_early["q03"].provenance["num_samples"] == 3
    assert accepted_early["q03"].provenance["decided_early"] is True
    assert early["samples"]["drawn"] == 40                              # q03, q06, q07, q13 and q14 stop after 3
    assert "early" in early["margins"]
    assert "margin" not in accepted_early["q03"].provenance             # of a vote that was not held to its end
    assert accepted_early["q01"].provenance["margin"] == 2


def test_minimum_votes_and_dropped_no_calls(config):
    ledger, accepted, rejected = run(dataclasses.replace(config, min_votes=3, no_call="drop"))
    assert set(accepted) == {"q01", "q03", "q13"}
    assert {name: rejected[name]["reason"] for name in ("q04", "q12", "q08")} == {
        "q04": "too_few_votes", "q12": "too_few_votes", "q08": "no_call"}
    assert ledger["stages"]["vote"]["rejected"] == {"no_answer_parsed": 1, "no_call": 1, "too_few_votes": 2}


def test_without_the_rule_checker_what_parses_is_accepted(config):
    _, accepted, rejected = run(dataclasses.replace(config, control="no_rules"))
    assert set(accepted) == set(ACCEPTED) | {"q02", "q06", "q07", "q14"}
    assert set(rejected) == {"q05", "q09", "q10", "q11"}                # unreadable, repeated, the benchmark's
    assert accepted["q02"].tools[0].description == ""                   # its first two tries did not even parse


def test_one_sample_instead_of_five(config):
    script = scripted(config, {name: answers[:1] for name, answers in CALLS.items()})
    ledger, accepted, rejected = run(dataclasses.replace(config, control="one_sample"), script)
    assert ledger["samples"]["drawn"] == 10
    assert rejected["q12"]["reason"] == "no_answer_parsed"
    assert accepted["q04"].provenance["votes"] == 1


def test_one_random_tool_of_those_made(config):
    _, accepted, rejected = run(dataclasses.replace(config, control="random_tool"))
    assert all(len(example.tools) == 1 for example in accepted.values())
    assert rejected["q13"]["reason"] == "unknown_tool"


def test_distractors_are_offered_and_not_made(config):
    _, accepted, _ = run(dataclasses.replace(config, distractors=1))
    with_one = [e for e in accepted.values() if e.provenance.get("distractors")]
    assert with_one
    for example in with_one:
        assert len(example.tools) == 2
        assert example.provenance["distractors"] == ["half"]


def test_labelled_examples_and_earlier_rounds_join_the_training(config, tmp_path):
    first, _, _ = run(config)
    assert first["examples"] == {"evolved": 6, "accumulated": 0, "labelled": 0}
    again = dataclasses.replace(config, round=2, mix=0.5, accumulate=True)
    second, _, _ = run(again)
    assert second["examples"] == {"evolved": 6, "accumulated": 6, "labelled": 6}
    assert second["similarity"] == {"tool_names_seen": 1.0, "tool_signatures_seen": 1.0, "queries_seen": 1.0}
    assert second["model_sha"] != first["model_sha"]


def test_what_earlier_rounds_accepted_meets_a_newer_guard(config, tmp_path):
    run(config)
    write_jsonl(tmp_path / "newer.jsonl", [{"id": "b", "query": QUERIES["q01"]}])
    again = dataclasses.replace(config, round=2, accumulate=True, guard=(*config.guard, str(tmp_path / "newer.jsonl")))
    second, _, rejected = run(again)
    assert rejected["q01"]["reason"] == "contaminated_query"
    assert second["examples"] == {"evolved": 5, "accumulated": 5, "labelled": 0}
    assert second["contamination"]["accumulated: contaminated_query"] == 1


def test_labelled_examples_with_equal_ids_are_each_asked(config):
    from data.prompts import invocation_messages
    from evolution.probe import answers_to
    from tests.evolve_run import labelled

    def write(items, draws, done):
        assert len({name for name, _ in items}) == 3                    # the sampler tells its items apart by name
        for name, messages in items:
            done(name, [{"text": str(messages)}])

    examples = [dataclasses.replace(example, id="same") for example in labelled(3)]
    found = answers_to(SimpleNamespace(write=write, calling=invocation_messages), examples, config.probe_draws())
    assert [example.query in samples[0]["text"] for example, samples in zip(examples, found, strict=True)] == [True] * 3


def test_measurements_of_the_round_before_count_only_where_it_asked_alike(tmp_path):
    from evolution.probe import _asked_alike
    for number, facts in ((1, {"probe": 4, "labelled_sha": "a"}),
                          (2, {"probe": 4, "labelled_sha": "a", "init": "joint"}),
                          (3, {"probe": 4, "labelled_sha": "b"})):
        write_json(tmp_path / f"round-{number}" / "round.json", facts)
    first, second, third = (tmp_path / f"round-{number}" for number in (1, 2, 3))
    assert _asked_alike(first, second)
    assert not _asked_alike(second, third)


def test_overlaps_are_dropped_or_only_listed(config):
    write_jsonl(config.labelled, [{"id": "l", "query": QUERIES["q10"], "tools": [SECRET.to_dict()], "calls": []}])
    script = scripted(config, CALLS | {"q10": CALLS["q03"], "q11": votes(*[calls(("secret_tool", {"key": "k"}))] * 5)})
    ledger, accepted, _ = run(dataclasses.replace(config, overlaps="list", mix=1.0), script)
    assert {"q10", "q11"} <= set(accepted)
    assert ledger["contamination"] == {"accepted: contaminated_query": 1, "accepted: contaminated_tool": 1,
                                       "labelled: contaminated_query": 1}
    assert ledger["examples"]["labelled"] == 1
    listed = [(row["id"], row["in"], row["detail"]) for _, row in read_jsonl(f"{config.run}/round-1/overlaps.jsonl")]
    assert ("q11", "accepted", "bench.jsonl:1: the signature secrettool(key)") in listed
    dropped, _, _ = run(dataclasses.replace(config, round=2, mix=1.0))
    assert dropped["examples"]["labelled"] == 0


def test_labelled_only_control_trains_on_labels(config):
    ledger, accepted, rejected = run(dataclasses.replace(config, control="labelled_only"))
    assert (accepted, rejected) == ({}, {})
    assert ledger["examples"] == {"evolved": 0, "accumulated": 0, "labelled": 6}
    assert ledger["training"]["steps"] == 2
    with pytest.raises(ValueError, match="max_steps"):
        RoundConfig(control="labelled_only", labelled="x.jsonl")


def test_probe_validation_judge_and_evaluation_land_in_the_ledger(config, tmp_path):
    from tests.evolve_run import labelled
    answers = CALLS | {e.id: votes(*[calls((e.calls[0].name, e.calls[0].arguments))] * 4, "hm") for e in labelled(6)}
    script = scripted(config, answers)
    plain = script.generate
    def generate(model, prompts, *, num_samples, **rest):               # validation asks for one greedy sample
        if num_samples == 1 and rest["temperature"] == 0.0:
            script.calls = {name: found[:1] for name, found in answers.items()}
        plain(model, prompts, num_samples=num_samples, **rest)
        script.calls = answers
    script.generate = generate
    ledger, _, _ = run(dataclasses.replace(config, probe=4, validation=config.labelled), script,
                       evaluate=lambda model, tokenizer: {"accuracy": 0.5},
                       judge=lambda example: {"made": 2, "said": 4, "right": 1})
    assert ledger["probe"]["after"]["agreement"] == 0.8
    assert ledger["probe"]["after"]["right"] == 1.0
    assert ledger["probe"]["before"] == ledger["probe"]["after"]
    assert (ledger["validation_before"], ledger["validation"]) == (1.0, 1.0)
    assert ledger["evaluation"] == {"accuracy": 0.5}
    assert ledger["judged"]["2"] == {"examples": 2, "made": 4, "said": 8, "right": 2, "precision": 0.5, "recall": 0.25}


# ------------------------------------------------------------------------------------------------------------- refusals

def test_a_round_needs_the_marker_of_the_one_before(config):
    with pytest.raises(ValueError, match="round-1/DONE.json"):
        run(dataclasses.replace(config, round=2))


def test_another_setting_on_the_same_folder_is_refused_by_name(config):
    run(config)
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        run(dataclasses.replace(config, seed=1))


def test_other_queries_on_the_same_folder_are_refused(config):
    run(config)
    write_jsonl(config.queries, [{"id": "q", "query": "Something else."}])
    with pytest.raises(ValueError, match="queries_sha"):
        run(config)


@pytest.mark.parametrize("name", ["validation", "guard"])
def test_other_validation_or_guard_on_a_begun_round_is_refused(config, tmp_path, name):
    def killed(*args, **options):
        raise RuntimeError("killed")

    row = {"id": "v", "query": "Add one.", "tools": [SECRET.to_dict()], "calls": []}
    write_jsonl(tmp_path / "validation.jsonl", [row])
    config = dataclasses.replace(config, validation=str(tmp_path / "validation.jsonl"))
    with pytest.raises(RuntimeError, match="killed"):
        run_round(config, generate=killed, progress=False)
    path = config.validation if name == "validation" else config.guard[0]
    rows = [row for _, row in read_jsonl(path)]
    rows[0]["tools"][0]["description"] = "Other words in the same tool."
    write_jsonl(path, rows)
    with pytest.raises(ValueError, match=f"{name}_sha"):
        run_round(config, generate=killed, progress=False)


def test_nothing_accepted_keeps_the_adapter_and_says_stop(config):
    script = scripted(config, {name: votes(*["hm"] * 5) for name in CALLS})
    ledger, accepted, _ = run(config, script)
    assert accepted == {}
    assert ledger["training"]["steps"] == 0
    assert ledger["stop"] == "round 1 accepted nothing"
    weights = "adapter/adapter_model.safetensors"
    with open(f"{config.run}/round-1/{weights}", "rb") as new, open(f"{config.run}/joint/{weights}", "rb") as old:
        assert new.read() == old.read()
    assert weights in read_json(f"{config.run}/round-1/DONE.json")["sha256"]
    with pytest.raises(ValueError, match="round 2 does not start: round 1 accepted nothing"):
        run(dataclasses.replace(config, round=2, stop_when=True), script)


@pytest.mark.parametrize("change", [
    {"round": 0}, {"min_votes": 6}, {"init": "there"}, {"retries": -1}, {"mix": 1.0, "labelled": ""},
    {"tools_top_k": -1}, {"calls_top_k": -1}, {"max_rows": 0}, {"mix": float("nan")}, {"cache_gb": float("nan")}])
def test_impossible_settings_are_refused(config, change):
    with pytest.raises(ValueError, match="--"):
        dataclasses.replace(config, **change)


# --------------------------------------------------------------------------------------------------------- command line

def test_the_command_line_says_what_is_wrong_in_one_line(config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--round", "1"]) == 2
    assert "no run with a run.json" in capsys.readouterr().err
    write_json(f"{config.run}/run.json", {"model": config.model, "evolve": dataclasses.asdict(config)})
    assert main(["--round", "3", "--run", config.run]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert main(["--round", "1", "--run", config.run, "--train", "nonsense=1"]) == 2
    assert "nonsense" in capsys.readouterr().err
    for text, told in (("packing=no", "true or false"), ("out=there", "NAME one of")):
        assert main(["--round", "1", "--run", config.run, "--train", text]) == 2
        assert told in capsys.readouterr().err
    args = make_parser().parse_args(["--round", "1", "--run", config.run, "--train", "packing=false"])
    assert round_config(args).train["packing"] is False and "seed" not in round_config(args).train
    few = dataclasses.replace(config, queries_per_round=3)
    write_json(f"{config.run}/run.json", {"model": config.model, "evolve": dataclasses.asdict(few)})
    for more, wanted in (([], 3), (["--queries", "more.jsonl"], 0),
                         (["--queries", "more.jsonl", "--queries-per-round", "2"], 2)):
        args = make_parser().parse_args(["--round", "1", "--run", config.run, *more])
        assert round_config(args).queries_per_round == wanted           # a file of its own belongs to this round, whole
    write_json(f"{config.run}/run.json", {"model": config.model, "evolve": dataclasses.asdict(config)})
    args = make_parser().parse_args(["--round", "1", "--run", config.run, "--seed", "5"])
    assert (round_config(args).seed, round_config(args).train["seed"]) == (5, 5)
    args = make_parser().parse_args(["--round", "1", "--run", config.run, "--balance", "objective", "--max-steps", "7",
                                     "--early", "--train", "dropout=0.5", "--seed", "3"])
    asked = round_config(args)
    assert (asked.train["balance"], asked.train["max_steps"], asked.train["dropout"]) == ("objective", 7, 0.5)
    assert (asked.early, asked.seed, asked.model, asked.train["max_length"]) == (True, 3, config.model, 4096)


@pytest.mark.parametrize("broken", ["queries", "base", "adapter"])
def test_broken_input_leaves_no_folder_of_a_round(config, broken, capsys):
    write_json(f"{config.run}/run.json", {"model": config.model, "evolve": dataclasses.asdict(config)})
    damaged = Path({"queries": config.queries, "base": f"{config.model}/model.safetensors",
                    "adapter": f"{config.run}/joint/adapter/adapter_model.safetensors"}[broken])
    damaged.write_bytes(damaged.read_bytes()[:-10])
    assert main(["--round", "1", "--run", config.run]) == 2
    *notes, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and str(damaged) in error
    assert all("chat_template" in note for note in notes)               # this base has none, which is said once
    assert not Path(config.run, "round-1").exists()


def test_settings_that_do_not_change_the_result_may_change(config):
    first, _, _ = run(config)
    again, _, _ = run(dataclasses.replace(config, train={**config.train, "threads": 1}, max_rows=7))
    assert again["model_sha"] == first["model_sha"]


def test_a_round_is_planned_before_it_starts(config, capsys):
    def never(*args, **options):
        raise AssertionError("a plan generates nothing")
    assert run_round(config, generate=never, plan_only=True) == {}
    plan = capsys.readouterr().err
    for part in ("plan of round 1: 12 queries", "5 samples", "train on 24 rows", "2 steps", "time, estimated"):
        assert part in plan, part
    assert not Path(config.run, "round-1").exists()                     # a plan does not bind the round to its settings
    run(config)
    more = dataclasses.replace(config, round=2, accumulate=True, mix=1.0,
                               train={"global_batch_size": 8, "precision": "fp32"})
    assert run_round(more, generate=never, plan_only=True) == {}
    assert "train on 48 rows" in capsys.readouterr().err                # of 12 queries, 6 earlier, 6 labelled examples


@pytest.mark.parametrize("init", ["joint", "base"])
def test_training_starts_where_init_says(config, init, tmp_path):
    first, _, _ = run(config)
    second, _, _ = run(dataclasses.replace(config, round=2, init=init))
    told = read_json(f"{config.run}/round-2/config.json")
    step = "joint" if init == "joint" else "round-1"
    assert began_with(Path(config.run, "round-2"), told) == Path(config.run, step, "adapter")
    assert told["adapter"] == (f"{config.run}/joint/adapter" if init == "joint" else "")
    assert (told["rank"], told["alpha"]) == (4, 8)
    assert second["model_sha"] != first["model_sha"]                    # what wrote the answers is Theta_2 either way


def test_while_it_samples_a_round_says_how_far_it_is_and_what_passes(tmp_path):
    config = make_run(tmp_path, [{"id": f"q{i}", "query": f"Please add {i}."} for i in range(4)])
    tokenizer, said = load_tokenizer(config.model), []
    dice = Dice(tokenizer)

    config = dataclasses.replace(config, pack_weights=True)

    def generate(model, prompts, *, progress, pack_weights, compile_decode, **options):
        assert (pack_weights, compile_decode) == (True, False)
        dice.generate(model, prompts, **options)
        said.append(progress() if callable(progress) else progress)

    run_round(config, tokenizer=tokenizer, generate=generate)
    assert any(text.startswith("accepted ") and text.endswith("%") for text in said if isinstance(text, str))
    assert False not in said
