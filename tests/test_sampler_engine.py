"""The engine against plain full forward passes, and against itself under every change that must not matter."""

import random
import weakref
from functools import partial

import pytest
import torch

import sampler.kv_cache
import sampler.slots
from model import save_model
from sampler import Completion, Options, generate
from sampler.engine import Engine
from sampler.leads import shared_leads
from sampler.sampling import stream_key, uniforms
from tests.model_tiny import CONFIGS, tiny_model

EOS = (5, 17)
TIE = 1e-4  # logits have a standard deviation of about 1; float32 sums reordered


def make_prompts(
    count: int, *, seed: int = 0, shortest: int = 1, longest: int = 60, vocab_size: int = 96
) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(vocab_size) for _ in range(rng.randint(shortest, longest))] for _ in range(count)]


def next_logits(model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids]))[0, -1].double()


def greedy_one_by_one(model, prompt: list[int], steps: int) -> list[int]:
    ids = list(prompt)
    while len(ids) - len(prompt) < steps:
        token = int(next_logits(model, ids).argmax())
        if token in EOS:
            break
        ids.append(token)
    return ids[len(prompt) :]


def assert_greedy(model, prompt: list[int], got: list[int], expected: list[int]) -> None:
    """Equal, or they part where the two best logits lie within rounding of each other; the gap is shown if not."""
    if got == expected:
        return
    at = next(i for i in range(len(got) + len(expected)) if got[i : i + 1] != expected[i : i + 1])
    best, second = next_logits(model, prompt + expected[:at]).topk(2).values.tolist()
    print(f"tie at step {at}: gap {best - second:.2e}")
    assert best - second < TIE, f"parted at step {at} though the best logit leads by {best - second:.3g}"


def assert_sampled(
    model, prompt: list[int], a: Completion, b: Completion, item, sample: int, *, seed: int, temperature: float
) -> None:
    """Equal, or they part where the random number lies within rounding of an edge between two tokens (no top-k)."""
    if a.ids == b.ids and a.finish_reason == b.finish_reason:
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        return
    at = next((i for i, (x, y) in enumerate(zip(a.ids, b.ids)) if x != y), min(len(a.ids), len(b.ids)))
    edges = (next_logits(model, prompt + a.ids[:at]) / temperature).softmax(-1).cumsum(-1)
    u = uniforms([stream_key(seed, item, sample)], [at])[0, 0]
    gap = float((edges - u).abs().min())
    print(f"item {item}, sample {sample} part at step {at}: {gap:.2e} from an edge")
    assert gap < TIE, (
        f"item {item}, sample {sample} part at step {at}, though the number is {gap:.3g} away from any edge"
    )


PACES = {
    "forked": {"num_samples": 3},
    "unforked": {"num_samples": 1, "share_leads": False},
    "one by one": {"max_rows": 1},
    "chunks of 7": {"num_samples": 2, "prefill_chunk": 7, "max_rows": 4},
    "four steps a look": {"sync_every": 4, "max_rows": 6},
    "a small cache": {"num_samples": 3, "cache_gb": 3e-4},
}


# One of two spellings of the same config: test_model_config.py holds that they are equal.
FAMILIES = [name for name in CONFIGS if name != "llama-3.1-new-spelling"]


@pytest.mark.parametrize(("apart", "steps"), [(3, 8), pytest.param(9, 16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_tokens_equal_full_forward_passes_in_every_family_and_at_every_pace(name, apart, steps):
    model = tiny_model(CONFIGS[name])
    prompts = make_prompts(apart) + [[3] * 20 + p for p in make_prompts(4, seed=1)]
    expected = [greedy_one_by_one(model, prompt, steps) for prompt in prompts]
    for pace in PACES.values():
        for prompt, want, completions in zip(
            prompts, expected, generate(model, prompts, max_new_tokens=steps, eos_ids=EOS, **pace)
        ):
            for completion in completions:
                assert_greedy(model, prompt, completion.ids, want)
                assert completion.finish_reason == ("length" if len(completion.ids) == steps else "stop")


@pytest.mark.reference
@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_tokens_equal_those_of_transformers_generate(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = tiny_model(CONFIGS[name])
    save_model(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    prompts = make_prompts(8, seed=2)
    for prompt, completions in zip(prompts, generate(model, prompts, max_new_tokens=24, eos_ids=EOS, num_samples=2)):
        with torch.no_grad():
            ids = theirs.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=24,
                do_sample=False,
                eos_token_id=list(EOS),
                pad_token_id=0,
            )[0, len(prompt) :].tolist()
        for completion in completions:
            assert_greedy(model, prompt, completion.ids, ids[:-1] if ids[-1] in EOS else ids)


@pytest.fixture(scope="module")
def model():
    return tiny_model(CONFIGS["qwen2.5-tied"])


def draw(model, prompts, item_ids, **options):
    settings = {"num_samples": 5, "max_new_tokens": 24, "temperature": 1.0, "seed": 11, "eos_ids": EOS} | options
    return dict(zip(item_ids, generate(model, prompts, item_ids=item_ids, **settings)))


@pytest.mark.parametrize("tokens", [6, pytest.param(24, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["qwen2.5-tied", "mistral-window"])
def test_sampled_tokens_do_not_depend_on_order_batch_size_ranks_or_pace(name, tokens):
    model = tiny_model(CONFIGS[name])
    prompts, ids = make_prompts(14, seed=3), [f"q{i}" for i in range(14)]
    shuffled = random.Random(0).sample(range(14), 14)
    sample = partial(draw, max_new_tokens=tokens)
    whole = sample(model, prompts, ids)
    others = {
        "permuted": sample(model, [prompts[i] for i in shuffled], [ids[i] for i in shuffled]),
        "batch size 1": sample(model, prompts, ids, max_rows=1),
        "batch size 7": sample(model, prompts, ids, max_rows=7),
        "batch size 64": sample(model, prompts, ids, max_rows=64),
        "two ranks": sample(model, prompts[::2], ids[::2]) | sample(model, prompts[1::2], ids[1::2]),
        "chunks, looks, no leads": sample(model, prompts, ids, prefill_chunk=13, sync_every=5, share_leads=False),
        "small cache": sample(model, prompts, ids, cache_gb=3e-4),
    }
    for other in others.values():
        for i, item in enumerate(ids):
            for j in range(5):
                assert_sampled(model, prompts[i], whole[item][j], other[item][j], item, j, seed=11, temperature=1.0)


def test_fewer_samples_are_a_prefix_of_more(model):
    prompts = make_prompts(6)
    five, two = draw(model, prompts, range(6)), draw(model, prompts, range(6), num_samples=2)
    for i, prompt in enumerate(prompts):
        assert len(two[i]) == 2
        for j in range(2):
            assert_sampled(model, prompt, five[i][j], two[i][j], i, j, seed=11, temperature=1.0)


def test_a_kill_loses_only_the_rows_in_flight_and_a_resume_gives_the_same(model):
    prompts, ids, kept = make_prompts(12, seed=4), [f"q{i}" for i in range(12)], {}
    whole = draw(model, prompts, ids)

    def keep(index, completions):
        kept[ids[index]] = list(completions)
        if len(kept) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(model, prompts, ids, on_item=keep, max_rows=10)
    assert len(kept) == 5
    rest = [i for i in range(12) if ids[i] not in kept]
    resumed = kept | draw(model, [prompts[i] for i in rest], [ids[i] for i in rest])
    for i, item in enumerate(ids):
        for j in range(5):
            assert_sampled(model, prompts[i], whole[item][j], resumed[item][j], item, j, seed=11, temperature=1.0)


def test_samples_of_one_prompt_differ_from_the_first_token_on(model):
    completions = generate(model, [[1, 2, 3]], num_samples=200, max_new_tokens=1, temperature=1.0)[0]
    seen = torch.bincount(torch.tensor([c.ids[0] for c in completions]), minlength=96) / 200
    exact = next_logits(model, [1, 2, 3]).softmax(-1)
    assert (seen > 0).sum() > 20
    assert float((seen - exact).abs().sum()) / 2 < 0.35  # total variation of 200 independent draws from 96 tokens


def test_logprob_is_the_mean_over_the_tokens_drawn_the_stop_token_included(model):
    prompts = make_prompts(6, seed=5)
    for prompt, completions in zip(
        prompts, generate(model, prompts, num_samples=3, max_new_tokens=30, temperature=0.8, top_k=9, eos_ids=EOS)
    ):
        for completion in completions:
            with torch.no_grad():
                logprobs = model(torch.tensor([prompt + completion.ids]))[0, len(prompt) - 1 :].log_softmax(-1)
            mine = logprobs[torch.arange(len(completion.ids)), completion.ids].tolist()
            if completion.finish_reason == "stop":
                assert any(
                    (sum(mine) + float(logprobs[-1, stop])) / (len(mine) + 1)
                    == pytest.approx(completion.logprob, abs=1e-4)
                    for stop in EOS
                )
            else:
                assert sum(mine) / len(mine) == pytest.approx(completion.logprob, abs=1e-4)


def test_padding_rows_of_the_vocabulary_and_banned_ids_are_never_chosen(model):
    prompts = make_prompts(4)
    for temperature in (0.0, 5.0):
        for completions in generate(
            model, prompts, num_samples=20, max_new_tokens=20, temperature=temperature, vocab_size=70, banned_ids=(0, 3)
        ):
            assert all(token < 70 and token not in (0, 3) for c in completions for token in c.ids)


class LiveBytes:
    """Counts the bytes of the cache's tensors that exist at any moment."""

    def __init__(self, monkeypatch) -> None:
        self.now = self.most = 0
        make = sampler.kv_cache.LayerCache._make

        def counted(layer, shape):
            tensor = make(layer, shape)
            self.now += tensor.nbytes
            self.most = max(self.most, self.now)
            weakref.finalize(tensor, self.gone, tensor.nbytes)
            return tensor

        keep = sampler.kv_cache.KVCache.keep_lead

        def counted_lead(cache, slot):
            keep(cache, slot)
            for tensor in (t for pair in cache.leads[-1] for t in pair):
                self.now += tensor.nbytes
                weakref.finalize(tensor, self.gone, tensor.nbytes)
            self.most = max(self.most, self.now)

        monkeypatch.setattr(sampler.kv_cache.LayerCache, "_make", counted)
        monkeypatch.setattr(sampler.kv_cache.KVCache, "keep_lead", counted_lead)

    def gone(self, size: int) -> None:
        self.now -= size


@pytest.mark.parametrize("cache_gb", [1e-4, 3e-4, 1e-3])
def test_the_cache_never_exceeds_its_budget_and_uses_it(model, cache_gb, monkeypatch):
    live, stats = LiveBytes(monkeypatch), {}
    prompts = make_prompts(40, seed=6, longest=200) + [[9] * 30 + p for p in make_prompts(10, seed=7)]
    generate(model, prompts, num_samples=4, max_new_tokens=8, cache_gb=cache_gb, stats=stats)
    assert 0.5e9 * cache_gb < live.most <= 1e9 * cache_gb
    assert stats["cache_bytes"] <= 1e9 * cache_gb


@pytest.mark.parametrize(("seed", "count"), [*((seed, 10) for seed in range(6)),
                                             *(pytest.param(seed, 25, marks=pytest.mark.slow) for seed in range(12))])
def test_no_mix_of_prompts_makes_the_cache_exceed_its_budget(model, seed, count, monkeypatch):
    live, rng = LiveBytes(monkeypatch), random.Random(seed)
    prompts = [
        [8] * rng.choice((0, 20, 40)) + [rng.randrange(96) for _ in range(rng.choice((1, 5, 30, 90)))]
        for _ in range(count)
    ]
    samples, new = rng.choice((1, 3, 6)), rng.choice((1, 9))
    per_token = sampler.kv_cache.KVCache.bytes_per_token(model.config, torch.float32)
    for tokens in (new + 2, 60 + new, 133 + new, 150 + new, 400, 3000):  # around what the longest prompt needs
        live.most = live.now
        results = generate(
            model, prompts, num_samples=samples, max_new_tokens=new, cache_gb=tokens * per_token * 4 / 3 / 1e9
        )
        assert live.most <= tokens * per_token * 4 / 3
        assert all(len(c.ids) == new or c.finish_reason == "refused" for completions in results for c in completions)
        assert live.now == 0  # and nothing of it is left


def test_processes_of_one_machine_share_what_is_free(monkeypatch):
    monkeypatch.setattr("model.device.free_memory", lambda device: 1000)
    assert sampler.slots.default_cache_bytes(torch.device("cpu")) == 500
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert (
        sampler.slots.default_cache_bytes(torch.device("cpu")) == 125
        and sampler.slots.default_cache_bytes(torch.device("cuda")) == 800
    )


def test_more_prompts_do_not_take_more_memory(model, monkeypatch):
    live = LiveBytes(monkeypatch)
    for count in (40, 160):
        live.most = live.now
        generate(model, make_prompts(count), num_samples=2, max_new_tokens=4, max_rows=16)
        assert live.most < 16 * (60 + 2 * 4) * sampler.kv_cache.KVCache.bytes_per_token(model.config, torch.float32)


@pytest.mark.parametrize("size", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_cache_of_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match="cache_gb must be"):
        Options(8, cache_gb=size)


def test_prompts_that_do_not_fit_are_refused_or_truncated_and_counted(model, capsys):
    prompts, stats, told = [[1] * 50, [2] * 8, [3] * 51], {}, []
    options = {"max_new_tokens": 4, "max_prompt_tokens": 50, "num_samples": 2, "stats": stats}
    results = generate(model, prompts, on_item=lambda index, completions: told.append(index), **options)
    assert [c[0].finish_reason for c in results] == ["length", "length", "refused"]
    assert results[2] == [Completion([], 0.0, "refused")] * 2 and sorted(told) == [0, 1, 2]
    assert stats["refused_prompts"] == 1 and "1 prompts refused" in capsys.readouterr().err
    cut = generate(model, prompts, long_prompts="truncate", **options)
    assert cut[2][0].ids == generate(model, [[3] * 50], item_ids=[2], **options)[0][0].ids
    assert stats["truncated_prompts"] == 0 and "1 truncated" in capsys.readouterr().err


def test_a_prompt_too_long_for_the_budget_is_refused_and_the_others_go_on(model, capsys):
    results = generate(model, [[1] * 500, [2] * 8], max_new_tokens=4, cache_gb=1e-4)
    assert [c[0].finish_reason for c in results] == ["refused", "length"]
    with pytest.raises(ValueError, match="cache_gb"):
        generate(model, [[1]], max_new_tokens=400, cache_gb=1e-5)


def test_prefill_hands_the_fused_attention_kernel_rows_it_can_read(monkeypatch):
    """Keys whose last dimension is strided take a kernel five times as slow."""
    attend, strides = torch.nn.functional.scaled_dot_product_attention, set()

    def spy(q, k, v, *args, **kwargs):
        strides.update((k.stride(-1), v.stride(-1)))
        return attend(q, k, v, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    shared = [[7] * 40 + p for p in make_prompts(6, seed=8)]
    for config in ("llama-mha", "qwen2.5-tied"):
        generate(tiny_model(CONFIGS[config]), shared, max_new_tokens=2, prefill_chunk=16)
    assert strides == {1}


def test_shared_text_is_prefilled_once(model):
    shared = [[7] * 40 + p for p in make_prompts(10, seed=8)] + [[8] * 30 + p for p in make_prompts(10, seed=9)]
    stats = {}
    generate(model, shared, max_new_tokens=2, stats=stats)
    assert stats["prompt_tokens"] - stats["prefill_tokens"] == 9 * 40 + 9 * 30
    generate(model, [[4] * 33] * 6, max_new_tokens=2, stats=stats)
    assert stats["prefill_tokens"] == 32 + 6  # the same prompt six times: all but its last token is shared


@pytest.mark.parametrize("seed", range(20))
def test_leads_are_common_and_leave_every_prompt_a_token(seed):
    rng = random.Random(seed)
    starts = [[rng.randrange(3) for _ in range(rng.randint(0, 60))] for _ in range(4)]
    prompts = [
        rng.choice(starts) + [rng.randrange(3) for _ in range(rng.randint(1, 20))] for _ in range(rng.randint(0, 40))
    ]
    members = [i for _, indices in shared_leads(prompts, 100) for i in indices]
    assert len(members) == len(set(members))
    assert sum(length for length, _ in shared_leads(prompts, 100)) <= 100
    for length, indices in shared_leads(prompts, 100):
        assert len(indices) > 1 and length >= 16
        assert len({tuple(prompts[i][:length]) for i in indices}) == 1
        assert all(len(prompts[i]) > length for i in indices)


def majority(ended: dict[int, tuple[int, ...]], num_samples: int) -> tuple[int, ...] | None:
    """The early decision of the contract: the shortest prefix in sample order with a strict majority."""
    votes: dict[tuple[int, ...], int] = {}
    for index in range(num_samples):
        if index not in ended:
            return None
        votes[ended[index]] = votes.get(ended[index], 0) + 1
        if votes[ended[index]] > num_samples // 2:
            return ended[index]
    return None


@pytest.mark.parametrize("first_samples", [None, 3])
def test_an_early_decision_cancels_the_rest_and_never_changes_the_winner(model, first_samples):
    prompts = make_prompts(40, seed=10)
    options = {"num_samples": 5, "max_new_tokens": 20, "temperature": 0.3, "seed": 2, "eos_ids": EOS}
    full = generate(model, prompts, **options)
    ended: list[dict[int, tuple[int, ...]]] = [{} for _ in prompts]
    stats: dict = {}

    def on_sample(index, number, ids):
        ended[index][number] = tuple(ids[:2])  # answers agree often: the first two tokens
        return majority(ended[index], 5) is not None

    early = generate(model, prompts, on_sample=on_sample, first_samples=first_samples, stats=stats, **options)
    decided = 0
    for index, completions in enumerate(early):
        winner = majority({j: tuple(c.ids[:2]) for j, c in enumerate(full[index])}, 5)
        assert (
            majority({j: tuple(c.ids[:2]) for j, c in enumerate(completions) if c.finish_reason != "cancelled"}, 5)
            == winner
        )
        decided += winner is not None
        for mine, whole in zip(completions, full[index]):
            assert mine.ids == whole.ids[: len(mine.ids)]
            assert mine.finish_reason in ("cancelled", whole.finish_reason)
            assert winner is not None or mine.finish_reason == whole.finish_reason
    assert decided > 5
    assert (
        stats["cancelled_samples"]
        == sum(c.finish_reason == "cancelled" for completions in early for c in completions)
        > 0
    )
    if first_samples:
        assert sum(c == Completion([], 0.0, "cancelled") for completions in early for c in completions) > 0


@pytest.mark.parametrize("seed", [3, 52, 53])
def test_slots_of_items_that_were_decided_while_samples_waited_are_free_again(model, seed):
    rng, ended = random.Random(seed), {}
    count = rng.choice((3, 8, 20))
    prompts = [[rng.randrange(96) for _ in range(rng.choice((1, 5, 40, 150)))] for _ in range(count)]
    per_token = sampler.kv_cache.KVCache.bytes_per_token(model.config, torch.float32)

    def second_one_decides(index, number, ids):
        ended.setdefault(index, set()).add(number)
        return len(ended[index]) >= 2

    class Uneven(Engine):
        def most_tokens(self, row):
            return 1 + (row.item.index * 7 + row.sample * 3) % 6

    engine = Uneven(model, prompts, Options(
        max_new_tokens=6,
        num_samples=rng.choice((2, 5)),
        temperature=1.0,
        on_sample=second_one_decides,
        first_samples=rng.choice((None, 1, 3)),
        sync_every=rng.choice((1, 3)),
        cache_gb=rng.choice((1, per_token * 4 / 3 * rng.choice((180, 400, 900)) / 1e9)),
        max_rows=rng.choice((2, 7, 64)),
    ))
    assert all(c is not None for completions in engine.run() for c in completions)
    assert sorted(engine.slots.free) == list(range(engine.slots.cache.slots))


def test_every_item_is_told_once_when_it_is_complete(model):
    told = []
    results = generate(
        model,
        make_prompts(20),
        max_new_tokens=9,
        num_samples=2,
        max_rows=6,
        eos_ids=EOS,
        temperature=1.0,
        on_item=lambda index, completions: told.append((index, list(completions))),
    )
    assert sorted(index for index, _ in told) == list(range(20))
    assert all(completions == results[index] for index, completions in told)


def test_progress_goes_to_stderr_with_the_callers_words(model, capsys):
    generate(model, make_prompts(3), max_new_tokens=2, progress=lambda: "accepted 50%")
    out, err = capsys.readouterr()
    assert out == "" and all(word in err for word in ("sampled 3/3 items", "accepted 50%", "items/s", "tok/s", "eta"))


def test_nothing_to_do_and_settings_out_of_range(model):
    assert generate(model, [], max_new_tokens=3) == []
    for options, word in (
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 1, "temperature": -1.0}, "temperature"),
        ({"max_new_tokens": 1, "top_p": 0.0}, "top_p"),
        ({"max_new_tokens": 1, "item_ids": [1, 1]}, "item ids"),
        ({"max_new_tokens": 1, "long_prompts": "cut"}, "long_prompts"),
    ):
        with pytest.raises(ValueError, match=word):
            generate(model, [[1], [2]], **options)
    with pytest.raises(ValueError, match="empty"):
        generate(model, [[1], []], max_new_tokens=1)


def test_the_models_mode_is_restored(model):
    model.train()
    generate(model, [[1]], max_new_tokens=1)
    assert model.training
    model.eval()


@pytest.mark.slow
def test_a_compiled_decode_pass_gives_the_same_tokens(model):
    prompts = make_prompts(6)
    plain = generate(model, prompts, max_new_tokens=10, num_samples=2)
    compiled = generate(model, prompts, max_new_tokens=10, num_samples=2, compile_decode=True)
    for prompt, a, b in zip(prompts, plain, compiled):
        for x, y in zip(a, b):
            assert_greedy(model, prompt, y.ids, x.ids)
