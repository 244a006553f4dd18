"""Small lexical searches that stand in, labelled, for the embedding models of the released evaluators."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

_WORD = re.compile(r"[a-z0-9]+")
_TOKEN = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> Counter:
    """Counts of lower-cased runs of ASCII letters and digits."""
    return Counter(_WORD.findall(text.lower()))


def cosine(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Cosine of two sparse vectors; 0 if one is empty."""
    if not a or not b:
        return 0.0
    if len(b) < len(a):
        a, b = b, a
    dot = sum(value * b.get(key, 0) for key, value in a.items())
    return dot / math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))


def lexical_best(query: str, texts: Mapping[str, str]) -> str:
    """Key of the text with the highest TF-IDF cosine to the query; the first one on a tie."""
    counted = {key: words(text) for key, text in texts.items()}
    document_counts = Counter(word for counts in counted.values() for word in counts)

    def weigh(counts: Mapping[str, int]) -> dict[str, float]:
        return {word: n * math.log((1 + len(counted)) / (0.5 + document_counts[word])) for word, n in counts.items()}

    weighed = weigh(words(query))
    return max(counted, key=lambda key: cosine(weighed, weigh(counted[key])))


def bm25_top(query: str, documents: Sequence[Sequence[str]], n: int, *, k1: float = 1.5, b: float = 0.75,
             epsilon: float = 0.25) -> list[int]:
    """Indices of the n best documents by Okapi BM25 (Robertson and Zaragoza 2009), negative weights floored."""
    counts = [Counter(document) for document in documents]
    mean_length = sum(map(len, documents)) / max(1, len(documents))
    present = Counter(word for c in counts for word in c)
    weights = {word: math.log(len(counts) - m + 0.5) - math.log(m + 0.5) for word, m in present.items()}
    floor = epsilon * sum(weights.values()) / max(1, len(weights))
    weights = {word: w if w >= 0 else floor for word, w in weights.items()}
    asked = Counter(word for word in _TOKEN.findall(query) if word in weights)
    scores = []
    for c, document in zip(counts, documents):
        norm = k1 * (1 - b + b * len(document) / mean_length) if mean_length else 1.0
        scores.append(sum(times * weights[word] * c[word] * (k1 + 1) / (c[word] + norm)
                          for word, times in asked.items()))
    return sorted(range(len(scores)), key=lambda i: -scores[i])[:n]
