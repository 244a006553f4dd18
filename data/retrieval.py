"""Find the tools of a large pool that a query is about: BM25 over an inverted index, with numpy alone.

    index = ToolIndex(tools)
    for found in index.search("What is the weather in Oslo? And book a hotel.", 8):
        print(found.tool.name, found.score, found.part)

A query is searched whole and sentence by sentence, and both scores are added: one of several things asked for then does
not hide the others. Left out: embeddings, which would be one more dependency, and learnt weights of the fields.
"""

import re
import unicodedata
import zlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data.schema import Tool

K1, B = 2.0, 0.9                    # how soon a term's count saturates, how much a long document pays (chosen on data
                                    # for development: docs/retrieval.md)
MIN_STEM = 4                        # letters that stay where an ending is cut
CHUNK = 8192                        # documents counted at once while an index is built

STOP_WORDS = frozenset("a an and are as at be but by for if in into is it no not of on or such that the their then "
                       "there these they this to was will with".split())
_ENDINGS = ("ings", "ing", "es", "ed", "ly", "s", "e")
_MARKS = "".join(c for c in map(chr, range(0x300, 0x1800)) if unicodedata.category(c).startswith("M"))
# Thai, Lao, kana, Han, Hangul
_UNSPACED = re.compile("[\u0e00-\u0eff\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_RUN, _ASCII_RUN = re.compile(rf"[\w{_MARKS}]+"), re.compile(r"\w+", re.ASCII)
_ASCII_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PIECE = re.compile("h+|(?:Um*)+(?![ml])|(?:Um*)?[lom]+|d+")         # the same, of the kinds of any characters
_KINDS = {"Lu": "U", "Lt": "U", "Ll": "l", "Lm": "m", "Mn": "m", "Mc": "m", "Me": "m", "Nd": "d", "Pc": "_"}
_CHOICES = ("anyOf", "oneOf", "allOf")
_SENTENCE_END = re.compile(r"(?<=[.!?;؟۔।])\s+|(?<=[。！？；])|\n+")


# ------------------------------------------------------------------------------------------------------------ the words

def words(text: str) -> list[str]:
    """The terms of a text: each word in lower case and, where it differs, its stem; stop words are left out.

    `getUser_byID` gives get, user, id and, as another may write it in one, getuserbyid. Scripts without spaces
    (Chinese, Japanese, Korean, Thai) give pairs of characters.
    """
    return [term for run in _runs(text) for term in _terms(run)]


def _runs(text: str) -> list[str]:
    """The runs of letters, digits and underscores, which `_terms` takes apart."""
    return _ASCII_RUN.findall(text) if text.isascii() else _RUN.findall(unicodedata.normalize("NFKC", text))


@lru_cache(maxsize=1 << 16)
def _terms(run: str) -> tuple[str, ...]:
    pieces = _pieces(run)
    unspaced = not run.isascii() and _UNSPACED.search(run) is not None
    terms = ["".join(pieces).lower()] if len(pieces) > 1 and not unspaced else []
    for piece in pieces:
        if unspaced and _UNSPACED.match(piece):
            terms += [piece[i:i + 2] for i in range(max(1, len(piece) - 1))]
        elif (word := piece.lower()) not in STOP_WORDS:
            terms += dict.fromkeys((word, stem(word)))
    return tuple(terms)


def _pieces(run: str) -> list[str]:
    """A run cut at capitals, underscores and digits, and between scripts with spaces and without."""
    if run.isascii():
        return _ASCII_PIECE.findall(run)
    kinds = "".join(map(_kind, run))
    return [run[found.start():found.end()] for found in _PIECE.finditer(kinds)]


@lru_cache(maxsize=1 << 16)
def _kind(character: str) -> str:
    """U capital, l small, o letter without case, m mark or modifier, d digit, h of a script without spaces."""
    return "h" if _UNSPACED.match(character) else _KINDS.get(unicodedata.category(character), "o")


def stem(word: str) -> str:
    """The word without its English ending, where enough letters stay."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= MIN_STEM:
            return word[:-len(ending)]
    return word


def parts(query: str) -> list[str]:
    """The sentences of a query, in order; those without a word are left out."""
    return [part for part in _SENTENCE_END.split(query) if words(part)]


def tool_text(tool: Tool) -> str:
    """What is searched of a tool: its name, description, arguments (nested ones, too) and the group it belongs to."""
    texts, schemas = [tool.name, tool.description], [tool.parameters]
    while schemas:
        schema = schemas.pop()
        named = schema["properties"] if isinstance(schema.get("properties"), dict) else {}
        choices = [part for key in _CHOICES if isinstance(schema.get(key), list) for part in schema[key]]
        inside = (*named.values(), *choices, schema.get("items"), schema.get("additionalProperties"))
        inner = [part for part in inside if isinstance(part, dict)]
        texts += [*named, *(str(part.get("description") or "") for part in inner)]
        schemas += inner
    return "\n".join((*texts, tool.group or ""))


# ------------------------------------------------------------------------------------------------------------ the index

@dataclass(frozen=True)
class Postings:
    """An inverted index: for term t, `documents[starts[t]:starts[t + 1]]` hold it, `counts` times each.

    documents (P,) int32 ascending per term, counts (P,) float32 or weights made of them, lengths (N,) terms a document.
    """

    vocabulary: Mapping[str, int]
    starts: np.ndarray              # (V + 1,) int64
    documents: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray             # (N,) float32

    @classmethod
    def of(cls, documents: Iterable[Sequence[str]], split: Callable[[str], Sequence[str]] = lambda run: (run,)
           ) -> "Postings":
        """Count the terms of documents, some thousands of them at a time.

        Args:
            split: the terms of each string of a document; asked once for each different one.
        """
        numbers, ids, lengths, chunks = _Numbers(split), array("i"), array("i"), []
        for runs in documents:
            before = len(ids)
            ids.extend([number for run in runs for number in numbers[run]])
            lengths.append(len(ids) - before)
            if len(lengths) % CHUNK == 0:
                chunks.append(_counted(ids, lengths[-CHUNK:], len(lengths) - CHUNK))
                ids = array("i")
        rest = len(lengths) % CHUNK
        chunks.append(_counted(ids, lengths[len(lengths) - rest:], len(lengths) - rest))
        vocabulary = dict(numbers.vocabulary)
        return cls(vocabulary, *_gathered(chunks, len(vocabulary)), np.array(lengths, np.float32))

    def weighted(self, weigh: Callable[["Postings", np.ndarray], np.ndarray]) -> "Postings":
        """The same index with weights for counts: `weigh` gets the index and how many documents hold each term."""
        return Postings(self.vocabulary, self.starts, self.documents, weigh(self, np.diff(self.starts)), self.lengths)

    def scores(self, terms: Iterable[str], weigh: Callable[[str], float] | None = None) -> np.ndarray:
        """Sum of the terms' weights in each document, times `weigh` of the term -> (N,) of the counts' type."""
        total = np.zeros(len(self.lengths), self.counts.dtype)
        for term in terms:
            at = self.vocabulary.get(term)
            if at is not None:
                span = slice(self.starts[at], self.starts[at + 1])
                weights = self.counts[span]
                # a document stands once under a term; `total[...] +=` does the same and takes three times as long
                np.add.at(total, self.documents[span], weights if weigh is None else weights * weigh(term))
        return total


Counted = tuple[np.ndarray, np.ndarray, np.ndarray]       # term, document and count of postings, each (P,)


class _Numbers(dict[str, tuple[int, ...]]):
    """String -> the numbers of its terms, which are numbered in the order of their first use."""

    def __init__(self, split: Callable[[str], Sequence[str]]) -> None:
        self.split = split
        self.vocabulary: defaultdict[str, int] = defaultdict()
        self.vocabulary.default_factory = self.vocabulary.__len__

    def __missing__(self, run: str) -> tuple[int, ...]:
        found = self[run] = tuple([self.vocabulary[term] for term in self.split(run)])
        return found


def _counted(ids: array, lengths: array, first: int) -> Counted:
    """Of some documents, the first numbered `first`: term, document and count, by term and then document."""
    terms = np.array(ids, np.int64)
    documents = np.repeat(np.arange(first, first + len(lengths)), lengths)
    keys, counts = np.unique(terms << 32 | documents, return_counts=True)
    return (keys >> 32).astype(np.int32), keys.astype(np.uint32).astype(np.int32), counts.astype(np.float32)


def _gathered(chunks: list[Counted], num_terms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chunks of postings as one: starts, documents, counts. Each chunk's runs of a term go behind those before it."""
    sizes = sum((np.bincount(terms, minlength=num_terms) for terms, _, _ in chunks), np.zeros(num_terms, np.int64))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    documents, counts = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    free = starts[:-1].copy()
    while chunks:
        terms, found, times = chunks.pop(0)
        there = np.bincount(terms, minlength=num_terms)
        firsts = np.concatenate([[0], np.cumsum(there)[:-1]])
        at = free[terms] + np.arange(len(terms)) - firsts[terms]
        documents[at], counts[at] = found, times
        free += there
    return starts, documents, counts


def bm25(postings: Postings, present: np.ndarray) -> np.ndarray:
    """BM25 with an inverse document frequency that is never negative (as in Lucene)."""
    lengths = postings.lengths / max(1.0, float(postings.lengths.mean()) if len(postings.lengths) else 1.0)
    norms = (K1 * (1 - B + B * lengths)).astype(np.float32)
    idf = np.log1p((len(lengths) - present + 0.5) / (present + 0.5)).astype(np.float32)
    weights = postings.counts / (postings.counts + norms[postings.documents])
    weights *= np.repeat(idf, present)
    return weights


# ------------------------------------------------------------------------------------------------------------- the pool

@dataclass(frozen=True)
class Found:
    """A tool that was found: its place in the pool, its score (at most 1), and the sentence that it fits best."""

    position: int
    tool: Tool
    score: float
    part: str


class ToolIndex:
    """The tools of a pool, searchable.

    Args:
        tools: the pool; of a `data.pool.Pool` only those that are found are read again.
        postings: of the same tools with their weights, where they were made before.
        names: (N,) uint32, the `name_hash` of each tool, where they were made before.
    """

    def __init__(self, tools: Sequence[Tool], postings: Postings | None = None, names: np.ndarray | None = None
                 ) -> None:
        self.tools = tools
        if postings is None or names is None:
            hashes = array("I")
            postings = Postings.of(_documents(tools, hashes), _terms).weighted(bm25)
            names = np.array(hashes, np.uint32)
        self.postings, self.names = postings, names

    def named(self, name: str) -> list[int]:
        """Places of the tools of this name, upper and lower case alike."""
        wanted = _plain(name)
        alike = np.flatnonzero(self.names == name_hash(name)).tolist()
        return [at for at in alike if _plain(self.tools[at].name) == wanted]

    def scores(self, text: str) -> np.ndarray:
        """BM25 of every tool for a text, taken whole, each of its terms once: (N,) float32."""
        return self.postings.scores(dict.fromkeys(words(text)))

    def search(self, query: str, k: int, made: Sequence[str] = ()) -> list[Found]:
        """The k best tools that share a word with the query, best first; of equal ones the earlier.

        Tools whose name is the query come before all others, whatever they score.

        A tool's score is the mean of two, each on a scale of 0 to 1: that of the whole query, and the best of its
        sentences.

        Args:
            made: texts of tools that a model wrote, one for each of `parts(query)`; each sentence is then searched
                alone and together with its text, and scores the mean of both.

        Raises:
            ValueError: k is below 1, or `made` has another length.
        """
        if k < 1:
            raise ValueError(f"k is {k}; it must be 1 or more")
        sentences = parts(query)
        if made and len(made) != len(sentences):
            raise ValueError(f"{len(made)} texts were made for {len(sentences)} sentences; expected one each")
        whole, best = np.zeros(len(self.tools), np.float32), np.zeros(len(self.tools), np.float32)
        which, seen = np.zeros(len(self.tools), np.int32), set()
        for number, sentence in enumerate(sentences):
            terms = dict.fromkeys(words(sentence))
            fresh = self.postings.scores([term for term in terms if term not in seen])
            again = [term for term in terms if term in seen]
            alone = fresh + self.postings.scores(again) if again else fresh
            whole += fresh
            seen |= terms.keys()
            written = [term for term in dict.fromkeys(words(made[number])) if term not in terms] if made else []
            score = to_one(alone)
            if written:
                score = (score + to_one(alone + self.postings.scores(written))) / 2
            if number:                                          # a product: a mask's branches take longer
                which += (score > best) * (number - which)
            np.maximum(best, score, out=best)
        joined = to_one(whole)
        joined += best
        joined /= 2
        first = sorted(self.named(query), key=lambda i: -joined[i])
        chosen = list(dict.fromkeys(first + top(joined, k)))[:k]
        return [Found(i, self.tools[i], float(joined[i]), sentences[which[i]] if sentences else query) for i in chosen]


def name_hash(name: str) -> int:
    """32 bits of a tool's name, upper and lower case alike, by which it is looked up."""
    return zlib.crc32(_plain(name).encode("utf-8", "surrogatepass"))


def _plain(name: str) -> str:
    return name.strip().casefold()


def _documents(tools: Iterable[Tool], hashes: array) -> Iterator[list[str]]:
    """The runs of each tool's text; the hash of its name goes to `hashes`."""
    for tool in tools:
        hashes.append(name_hash(tool.name))
        yield _runs(tool_text(tool))


def to_one(scores: np.ndarray) -> np.ndarray:
    """Scores on a scale on which the best is 1; all 0 stay 0."""
    return scores / max(scores.max(initial=0), 1e-9)


def top(scores: np.ndarray, k: int) -> list[int]:
    """Places of the k highest scores over 0, highest first; of equal ones the earlier."""
    floor = np.partition(scores, -k)[-k] if k < len(scores) else 0
    over, equal = np.flatnonzero(scores > max(floor, 0)), np.flatnonzero((scores == floor) & (scores > 0))
    chosen = np.concatenate([over, equal[:max(0, k - len(over))]])
    return chosen[np.argsort(-scores[chosen], kind="stable")].tolist()
