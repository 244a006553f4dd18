"""Which prompts begin with the same text, so that it is prefilled once for all of them."""

from collections.abc import Sequence


def shared_leads(prompts: Sequence[list[int]], most_tokens: int, *, least: int = 16) -> list[tuple[int, list[int]]]:
    """Find text that several prompts begin with, worth computing once: [(length, indices of its prompts)].

    Every prompt is in one lead at most and keeps one token or more of its own. Where the prompts behind a common start
    split into families that each share more (several system prompts behind one BOS), each family of four or more is a
    lead. At most 32 leads of `most_tokens` together are kept, those that save most.
    """
    order = sorted(range(len(prompts)), key=lambda i: prompts[i])
    leads, families = [], [(0, len(order))]        # a family is a range of `order`
    while families:
        low, high = families.pop()
        if high - low < 2:
            continue
        common = _common(prompts[order[low]], prompts[order[high - 1]])                 # what the ends share, all share
        rest, begin = [], low
        for end in range(low + 1, high + 1):       # split where the next token changes
            if end < high and _at(prompts[order[end]], common) == _at(prompts[order[begin]], common):
                continue
            shared = _common(prompts[order[begin]], prompts[order[end - 1]])
            if end - begin >= 4 and shared >= common + least and end - begin < high - low:
                families.append((begin, end))
            else:
                rest += order[begin:end]
            begin = end
        length = min([common, *(len(prompts[i]) - 1 for i in rest)])
        if len(rest) > 1 and length >= least:
            leads.append((length, rest))
    kept = []
    for length, members in sorted(leads, key=lambda lead: -lead[0] * (len(lead[1]) - 1))[:32]:
        if length <= most_tokens:
            kept.append((length, members))
            most_tokens -= length
    return kept


def _common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _at(prompt: list[int], position: int) -> int:
    return prompt[position] if position < len(prompt) else -1
