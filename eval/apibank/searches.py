"""Small lexical searches that stand in, labelled, for the embedding models of the released evaluators.

They weigh the index of data/retrieval.py as those evaluators do.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from data.retrieval import Postings

_WORD = re.compile(r"[a-z0-9]+")
_TOKEN = re.compile(r"\w+|[^\w\s]")


def lexical_best(query: str, texts: Mapping[str, str]) -> str:
    """Key of the text with the highest TF-IDF cosine to the query; the first one on a tie."""
    index = Postings.of([_WORD.findall(text.lower()) for text in texts.values()])
    asked = Counter(_WORD.findall(query.lower()))

    def cosines(postings: Postings, present: np.ndarray) -> np.ndarray:
        idf = np.log((1 + len(postings.lengths)) / (0.5 + present))
        weights = postings.counts * np.repeat(idf, present)
        squares = np.bincount(postings.documents, weights * weights, len(postings.lengths))
        asked_idf = np.repeat(idf, present)                 # the query's weight of a term, but for how often it asks
        return weights * asked_idf / np.sqrt(np.maximum(squares, 1e-300))[postings.documents]

    return list(texts)[int(index.weighted(cosines).scores(asked, asked.__getitem__).argmax())]


def bm25_top(query: str, documents: Sequence[Sequence[str]], n: int, *, k1: float = 1.5, b: float = 0.75,
             epsilon: float = 0.25) -> list[int]:
    """Indices of the n best documents by Okapi BM25 (Robertson and Zaragoza 2009), negative weights floored."""

    def okapi(postings: Postings, present: np.ndarray) -> np.ndarray:
        idf = np.log(len(postings.lengths) - present + 0.5) - np.log(present + 0.5)
        idf = np.repeat(np.where(idf >= 0, idf, epsilon * idf.sum() / max(1, len(idf))), present)
        lengths = postings.lengths.astype(np.float64) / max(1e-300, postings.lengths.mean(dtype=np.float64))
        norms = (k1 * (1 - b + b * lengths))[postings.documents]
        return idf * postings.counts * (k1 + 1) / (postings.counts + norms)

    asked = Counter(_TOKEN.findall(query))
    scores = Postings.of(documents).weighted(okapi).scores(asked, asked.__getitem__)
    return np.argsort(-scores, kind="stable")[:n].tolist()
