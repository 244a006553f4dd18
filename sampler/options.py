"""What `generate` is told, and what it answers: options, completions, counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data.decoding import check_temperature


@dataclass(frozen=True)
class Completion:
    """What one sample wrote.

    `ids` lacks the prompt and the stop token. `logprob` is the mean log-probability in nats of the tokens chosen, the
    stop token included, under the model's own distribution (before temperature, top-k and top-p); 0.0 without a token.
    `finish_reason`: "stop" (a stop token), "length" (max_new_tokens), "cancelled" (its item was decided without it), or
    "refused" (the prompt does not fit).
    """

    ids: list[int]
    logprob: float
    finish_reason: str


@dataclass(frozen=True)
class Options:
    """The options of `generate`."""

    max_new_tokens: int
    num_samples: int = 1
    temperature: float = 0.0                       # 0 is greedy
    top_k: int = 0                                 # 0: all tokens
    top_p: float = 1.0
    seed: int = 0
    eos_ids: Sequence[int] = ()                    # the tokens that end a row
    item_ids: Sequence[int | str] | None = None    # names that outlive the call; default: the index
    vocab_size: int | None = None                  # only ids below it are ever chosen, and none of
    banned_ids: Sequence[int] = ()                 # these, unless they end a row
    on_item: Callable[[int, list[Completion]], None] | None = None     # (index, completions), once an item is complete
    on_sample: Callable[[int, int, list[int]], bool] | None = None     # (index, sample, ids) -> cancel the others?
    first_samples: int | None = None               # begin so many of an item; the others when those ended undecided
    cache_gb: float | None = None                  # in 10^9 bytes; default: half of the free memory, GPU 80%
    max_rows: int = 256                            # samples decoded at once, if the budget allows
    prefill_chunk: int | None = None               # prompt tokens per prefill pass; default 1,024, GPU 8,192
    sync_every: int | None = None                  # decode steps between two looks from the host; default 1, GPU 8
    max_prompt_tokens: int | None = None           # longer prompts do not fit; nor those over the positions or budget
    long_prompts: str = "refuse"                   # what does not fit: "refuse", or "truncate" (keep the last tokens)
    share_leads: bool = True                       # prefill the text that several prompts begin with once
    progress: bool | Callable[[], str] = False     # one line on stderr, kept fresh; a function adds its text to it
    stats: dict | None = None                      # is given the fields of `Stats` at the end
    # on a CPU: decode faster, with a second copy of the weights; None: where `packing.affordable` says so
    pack_weights: bool | None = False
    compile_decode: bool = False                   # torch.compile the forward pass of decode steps (for long runs)

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "num_samples", "max_rows", "first_samples", "prefill_chunk", "sync_every",
                     "max_prompt_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if self.cache_gb is not None and not 0 <= self.cache_gb < 1e9:
            raise ValueError(f"cache_gb must be 0 (half of the free memory) or more, got {self.cache_gb}")
        check_temperature(self.temperature)
        if not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ValueError(f"top_p {self.top_p}, top_k {self.top_k}: need 0 < top_p <= 1 and top_k >= 0")
        if self.long_prompts not in ("refuse", "truncate"):
            raise ValueError(f"long_prompts must be 'refuse' or 'truncate', got {self.long_prompts!r}")


@dataclass
class Stats:
    """What one call of `generate` did. Tokens count the stop token, too."""

    items: int = 0
    refused_prompts: int = 0
    truncated_prompts: int = 0
    prompt_tokens: int = 0                         # of the prompts that fit
    prefill_tokens: int = 0                        # computed; the rest was shared
    new_tokens: int = 0
    cancelled_samples: int = 0                     # ended early, or never begun, because their item was decided
    cancelled_tokens: int = 0                      # that those had drawn
    prefill_passes: int = 0
    decode_steps: int = 0
    cache_bytes: int = 0                           # the most the cache ever held
    seconds: float = 0.0
