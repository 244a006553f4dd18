"""Text to ids and back, over a tokenizer.json (tokenizers) or a tokenizer.model (sentencepiece).

`encode` is literal: text that spells a control token stays text. Control ids are had by name from `control_id`, and
only the chat renderer asks for them. Decoding goes through each id's bytes, so it can also be done piece by piece.
"""

import codecs
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .config import found_below
from .templates import MARKERS, TITLES, Template, choose_form, read_object, read_template
from .untrained import untaught

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

# Text that every tokenizer has to give back.
PROBE = '\n Ab 12\n\n  {"é": "東🙂"}\tX \r\n``a\'\' ﬁ…½\xa0\u3000 \n'
MARK = re.compile(r"[<\[|]")                                  # in an added token: it is a mark, and no text
BYTE_PIECE = re.compile("<0x[0-9A-Fa-f]{2}>")                 # how sentencepiece names its byte tokens
BOS = ("<|begin_of_text|>", "<s>")
END_OF_TURN = {"llama3": ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"), "chatml": ("<|im_end|>", "<|endoftext|>"),
               "mistral": ("</s>",), None: ("</s>", "<|endoftext|>", "<|end_of_text|>")}


def load_tokenizer(path: str | Path) -> "Tokenizer":
    """Read the tokenizer of a checkpoint folder, and how its chat template writes conversations.

    Where both files are there, sentencepiece (the official one) wins, unless tokenizer.json knows added tokens.

    Raises:
        FileNotFoundError: neither tokenizer.model nor tokenizer.json.
        ValueError: a file that cannot be read, a kind of tokenizer or chat template that is not supported, which is
            named, or files of the folder that contradict each other.

    Tags that the folder's weights cannot tell from other tokens are spelled in ordinary ones (untrained.py), with a
    note.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; a model is a folder with config.json, safetensors weights "
                                "and a tokenizer")
    template, sentencepiece, fast = read_template(path), path / "tokenizer.model", path / "tokenizer.json"
    if not sentencepiece.is_file() and not fast.is_file():
        raise FileNotFoundError(f"{path}: neither tokenizer.json nor tokenizer.model; copy the one that came with the "
                                f"weights there{found_below(path)}")
    official = sentencepiece.is_file() and not (fast.is_file() and _added_beside(sentencepiece, fast))
    made = SentencePieceTokenizer(sentencepiece, template) if official else JsonTokenizer(fast, template)
    _refuse_lossy(made, path)
    _refuse_unknown_tokens(made, path)
    made.notes += _swallowing(made, path)
    made.spell_out(untaught(path, made.tags()))
    return made


def _added_beside(file: Path, fast: Path) -> list[str]:
    """Tokens that tokenizer.json adds to what tokenizer.model knows; ValueError if they are no two files of one."""
    official = _open_sentencepiece(file)
    known = dict(enumerate(official.id_to_piece(list(range(official.get_piece_size())))))
    try:
        raw = json.loads(fast.read_text(encoding="utf-8"))
        pieces = {i: piece for piece, i in raw["model"]["vocab"].items()}
        added = {token["id"]: token["content"] for token in raw["added_tokens"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{fast}: not a tokenizer that can be read here: {error!r}") from error
    other = [i for i, piece in pieces.items() if i not in added and known.get(i) != piece]
    if other:
        raise ValueError(f"{fast}: {len(other)} of its pieces are not those of the tokenizer.model beside it (id "
                         f"{other[0]} is {pieces[other[0]]!r} and {known.get(other[0])!r}); remove from a copy "
                         "of the folder the file that does not belong to the weights")
    return [text for i, text in added.items() if known.get(i) != text]


def _open_sentencepiece(file: Path) -> "SentencePieceProcessor":
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_file=str(file))
    except (RuntimeError, OSError) as error:
        raise ValueError(f"{file}: not a sentencepiece model ({error}); where a tokenizer.json lies beside it, "
                         "remove this file to use that one") from error


def _refuse_lossy(tokenizer: "Tokenizer", path: Path) -> None:
    """A tokenizer that changes ordinary text would change labels: lower case, lost spaces, characters that it lacks."""
    back = tokenizer.decode(tokenizer.encode(PROBE))
    if back != PROBE:
        raise ValueError(f"{path / tokenizer.file}: not supported, since it does not give back the text that it is "
                         f"given: {PROBE!r} becomes {back!r}")


def _swallowing(tokenizer: "Tokenizer", path: Path) -> tuple[str, ...]:
    """A note where tokens that turns are made of take the white space beside them away (lstrip, rstrip)."""
    listed = _listed_tokens(path)
    taking = tokenizer.swallowing | {token["content"] for token in listed.values()
                                     if token.get("lstrip") or token.get("rstrip")}
    made_of = (*MARKERS.get(tokenizer.family, ()), *END_OF_TURN[tokenizer.family], "<tool_call>", "</tool_call>")
    named = [text for text in dict.fromkeys(made_of) if text in taking]
    return (f"WARNING: {' and '.join(named)} of the tokenizer take away white space beside them (lstrip, rstrip), so "
            "the model may have been trained without the line breaks there; they are written here",) if named else ()


def _refuse_unknown_tokens(tokenizer: "Tokenizer", path: Path) -> None:
    for file, tokens in unknown_tokens(tokenizer, path).items():
        raise ValueError(f"{path / file}: {len(tokens)} of its tokens (first: {tokens[0]}) are not known to "
                         f"{tokenizer.file}, so they could be neither read nor written; save the tokenizer with "
                         "its tokenizer.json (Hugging Face's save_pretrained)")


def unknown_tokens(tokenizer: "Tokenizer", path: Path) -> dict[str, list[str]]:
    """Tokens that files of this folder name beside the tokenizer's own, and that it does not know, by file."""
    found: dict[str, list[str]] = {}
    beside = {str(i): text for text, i in read_object(path / "added_tokens.json").items()}
    listed = {i: token["content"] for i, token in _listed_tokens(path).items()}
    for file, tokens in (("added_tokens.json", beside), ("tokenizer_config.json", listed)):
        found[file] = [f"{text!r} with id {i}" for i, text in tokens.items()
                       if not i.isdecimal() or tokenizer.spelling(int(i)) != text]
    for file in ("special_tokens_map.json", "tokenizer_config.json"):             # which tell no ids
        found.setdefault(file, []).extend(_unknown_special(tokenizer, read_object(path / file)))
    return {file: tokens for file, tokens in found.items() if tokens}


def _listed_tokens(path: Path) -> dict[str, dict]:
    """added_tokens_decoder of tokenizer_config.json: id -> a token's content and flags."""
    file = path / "tokenizer_config.json"
    named = read_object(file).get("added_tokens_decoder") or {}
    if not isinstance(named, dict) or not all(isinstance(one, dict) and "content" in one for one in named.values()):
        raise ValueError(f"{file}: added_tokens_decoder should map ids to tokens, found {str(named)[:100]}")
    return named


def _unknown_special(tokenizer: "Tokenizer", special: dict) -> list[str]:
    """What such a file begins or ends a text with, or adds, and no piece is spelled like."""
    named = [special.get("bos_token"), special.get("eos_token")]
    for more in (special.get("additional_special_tokens") or [], special.get("extra_special_tokens") or []):
        named += more.values() if isinstance(more, dict) else more if isinstance(more, list) else [more]
    texts = [token.get("content") if isinstance(token, dict) else token for token in named]
    pieces = (tokenizer.spelling(i) for i in range(tokenizer.vocab_size))
    unknown = [text for text in texts if isinstance(text, str) and tokenizer.control_id(text) is None]
    return [repr(text) for text in sorted(set(unknown) - set(pieces))] if unknown else []


class Tokenizer(ABC):
    """What the rest of the code sees; the two kinds below fill it in.

    Attributes:
        vocab_size: ids from 0 to here may be sampled; rows of the embedding beyond it are padding.
        bos_id: put first in every conversation, or None (Qwen2.5).
        eos_ids: ids that end an assistant turn.
        special_ids: ids that are never text and never sampled, except `eos_ids`.
        family: "llama3", "chatml" or "mistral", by the chat template and the control tokens; None: no known format.
        default_system: ChatML's system text where a conversation has none; None: no system turn then.
        native_tools: whether its conversations have a block for tools in the family's own format.
        notes: what a user should know of how conversations are written, a line each.
        file: the name of the file that was read.
    """

    swallowing: Set[str] = frozenset()             # added tokens that take away white space beside them

    def __init__(self, file: Path, vocab_size: int, controls: dict[str, int], special_ids: set[int],
                 template: Template | None) -> None:
        try:
            form = choose_form(controls, template)
        except ValueError as error:
            raise ValueError(f"{file.parent}: {error}") from error
        self.file = file.name
        self.vocab_size = vocab_size
        self.special_ids = frozenset(special_ids)
        self._controls = controls
        self.family, self.default_system, self.notes = form.family, form.default_system, form.notes
        self.bos_id = None if self.family == "chatml" and not form.bos else self._bos(file, template)
        self.native_tools = form.tools
        self.eos_ids = [controls[token] for token in END_OF_TURN[self.family] if token in controls]
        self._bytes: dict[int, bytes] = {}

    def _bos(self, file: Path, template: Template | None) -> int | None:
        """The token of the family, or what a ChatML template writes first: the folder's own `bos_token`."""
        known = next((token for token in BOS if token in self._controls), None)
        told = template.bos if template and self.family else None
        if self.family == "chatml" and told is None and known:
            raise ValueError(f"{file.parent}: the chat template writes bos_token first, and no file says which token "
                             f"that is; name it in tokenizer_config.json of a copy of the folder ({known!r}?)")
        if told and (told not in self._controls or self.family != "chatml" and told != known):
            raise ValueError(f"{file.parent}: bos_token {told!r}, which the chat template writes first, is no control "
                             f"token of {file.name} that {TITLES[self.family]} begins with; take both from one "
                             "checkpoint")
        return self._controls.get(told or known)

    def encode(self, text: str) -> list[int]:
        """Ids of `text` taken literally: no BOS, and never a control or added token.

        Raises:
            ValueError: the text holds a lone surrogate, which is no Unicode text and has no bytes.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"cannot encode text with a lone surrogate: {text[:60]!r}") from error
        return self._encode(text)

    @cached_property
    def strip_first_space(self) -> bool:
        """Whether decoding drops a first space, since encoding puts one there, as sentencepiece does."""
        return self.token_bytes(self._encode("A")[0]).startswith(b" ")

    @abstractmethod
    def _encode(self, text: str) -> list[int]:
        """Ids of a text that is known to be Unicode."""

    def control_id(self, text: str) -> int | None:
        """Id of the control or added token spelled `text`, or None."""
        return self._controls.get(text)

    def control_name(self, token_id: int) -> str | None:
        """How the control or added token of this id is spelled, or None for a token of text."""
        return next((text for text, known in self._controls.items() if known == token_id), None)

    def tags(self) -> dict[str, int]:
        """Added tokens and their ids where some are text, as <tool_call> is; else nothing."""
        return dict(self._controls) if set(self._controls.values()) - self.special_ids else {}

    def spell_out(self, untaught: Mapping[str, int]) -> None:
        """Write these tags in ordinary tokens from now on, and never sample theirs."""
        for text in untaught:
            self.special_ids |= {self._controls.pop(text)}
        if untaught:
            self.notes += (f"note: {' and '.join(untaught)} are tokens that these weights never learnt ("
                           f"{max(untaught.values())} others have the same output row), and an adapter cannot teach "
                           "them; they are written in ordinary tokens",)

    @abstractmethod
    def spelling(self, token_id: int) -> str | None:
        """The piece or token of this id as its file spells it, or None."""

    def decode(self, ids: list[int]) -> str:
        """Text of `ids`; special ids are left out, added tokens that are not special (<tool_call>) are shown."""
        decoder = self.stream()
        return "".join([decoder.push(i) for i in ids]) + decoder.finish()

    def stream(self) -> "StreamDecoder":
        """A decoder to be fed one id at a time."""
        return StreamDecoder(self)

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes of one id: possibly part of a character, empty for special and unknown ids."""
        if token_id not in self._bytes:
            known = 0 <= token_id < self.vocab_size and token_id not in self.special_ids
            self._bytes[token_id] = self._to_bytes(token_id) if known else b""
        return self._bytes[token_id]

    @abstractmethod
    def _to_bytes(self, token_id: int) -> bytes:
        """Bytes of an id that is known to be text."""


class StreamDecoder:
    """Turns ids into text as they come; bytes of an unfinished character are held back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = tokenizer.strip_first_space

    def push(self, token_id: int) -> str:
        """The text that this id completes, possibly empty."""
        piece = self._tokenizer.token_bytes(token_id)
        if self._at_start and piece:
            piece, self._at_start = piece.removeprefix(b" "), False
        return self._utf8.decode(piece)

    def finish(self) -> str:
        """What was held back: U+FFFD for a character that never got all its bytes."""
        return self._utf8.decode(b"", final=True)


class JsonTokenizer(Tokenizer):
    """A byte-level or sentencepiece-like BPE from tokenizer.json."""

    def __init__(self, file: Path, template: Template | None = None) -> None:
        from tokenizers import Tokenizer as Backend

        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
            added, model = raw["added_tokens"], raw["model"]
            if model["type"] != "BPE":
                raise ValueError(f"a tokenizer of type {model['type']!r} is not supported; supported: BPE")
            if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
                raise ValueError("marks inside or at the end of words (continuing_subword_prefix, end_of_word_suffix) "
                                 "are not supported")
            self._pieces = {i: piece for piece, i in model["vocab"].items()}
            self._added = {token["id"]: token["content"] for token in added}
            size = max(self._pieces.keys() | self._added.keys()) + 1
            words = [token for token in added if not token["special"] and not MARK.search(token["content"])]
            controls = {token["content"]: token["id"] for token in added if token not in words}
            if len(self._pieces) < len(model["vocab"]) or len(self._added) < len(added) or \
                    len(controls) + len(words) < len(added):
                raise ValueError("an id or a text stands twice among its pieces or its added_tokens")
            _refuse_other_ids(model["vocab"], added)
            if any(word.get("lstrip") or word.get("rstrip") for word in words):
                raise ValueError("added words that take away white space beside them (lstrip, rstrip) are not "
                                 "supported")
            self.swallowing = {text["content"] for text in added if text.get("lstrip") or text.get("rstrip")}
            special = {token["id"] for token in added if token["special"]}
            pre_tokenizer, self._byte_level = raw["pre_tokenizer"], "ByteLevel" in json.dumps(
                [raw["pre_tokenizer"], raw["decoder"]])
        except Exception as error:
            raise ValueError(f"{file}: not a tokenizer that can be read here: {error!r}") from error
        super().__init__(file, size, controls, special, template)
        try:
            # A tokenizer that knows no marks encodes literally; nor may a merge-skipping vocabulary hold one. Added
            # words, such as runs of spaces, are text; their ids are kept by the vocabulary.
            raw |= {"added_tokens": words, "post_processor": None, "truncation": None, "padding": None}
            raw |= self._prefixes(pre_tokenizer)
            unknown = model.get("unk_token")
            model["vocab"] = {p: i for p, i in model["vocab"].items() if p not in controls or p == unknown}
            model["vocab"] |= {word["content"]: word["id"] for word in words}
            model["dropout"] = None                # of a training that chose merges at random
            self._backend = Backend.from_str(json.dumps(raw, ensure_ascii=False))
        except Exception as error:                 # the library raises plain Exception for a file that it cannot read
            raise ValueError(f"{file}: not a tokenizer that can be read here: {error!r}") from error

    def _prefixes(self, pre_tokenizer: dict | None) -> dict:
        """Which texts get sentencepiece's prefix space: as Mistral's own library has it, elsewhere as the file says.

        "first" there means the start of a whole conversation, which is a control token in every other format.
        """
        if self.family in ("mistral", None):
            return _always_prefixed(pre_tokenizer)
        found = pre_tokenizer or {}
        if found.get("type") == "Metaspace" and found.get("prepend_scheme") == "first":
            return {"pre_tokenizer": {**found, "prepend_scheme": "never"}}
        return {}

    def spelling(self, token_id: int) -> str | None:
        return self._added.get(token_id, self._pieces.get(token_id))

    def _encode(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids

    def _to_bytes(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        piece = self._pieces.get(token_id, "")
        if self._byte_level:
            if not BYTE_OF_CHARACTER.keys() >= set(piece):              # a piece that stands for itself
                return piece.encode()
            return bytes(BYTE_OF_CHARACTER[character] for character in piece)
        return _sentencepiece_bytes(piece)


class SentencePieceTokenizer(Tokenizer):
    """A sentencepiece tokenizer.model, such as Mistral's; it puts its prefix space before every text."""

    def __init__(self, file: Path, template: Template | None = None) -> None:
        self._backend = _open_sentencepiece(file)
        ids = range(self._backend.get_piece_size())
        controls = {self._backend.id_to_piece(i): i for i in ids if self._backend.is_control(i)}
        special = set(controls.values()) | {i for i in ids if self._backend.is_unknown(i)}
        super().__init__(file, len(ids), controls, special, template)

    def spelling(self, token_id: int) -> str | None:
        return self._backend.id_to_piece(token_id) if 0 <= token_id < self.vocab_size else None

    def _encode(self, text: str) -> list[int]:
        return self._backend.encode(text)

    def _to_bytes(self, token_id: int) -> bytes:
        return _sentencepiece_bytes(self._backend.id_to_piece(token_id))


def _refuse_other_ids(vocab: dict[str, int], added: list[dict]) -> None:
    """The `tokenizers` library numbers added tokens itself: as their piece, else on from the last; not as they say."""
    last = len(vocab) - 1
    for token in added:
        text, wanted = token["content"], vocab.get(token["content"], last + 1)
        if wanted != token["id"]:
            raise ValueError(f"the added token {text!r} has id {token['id']}, and the tokenizers library gives it "
                             f"{wanted}: which one the model was trained with cannot be told")
        last = max(last, wanted)


def _always_prefixed(pre_tokenizer: dict | None) -> dict:
    """Sentencepiece puts its prefix space before every text, also where the hub's conversion of it would not."""
    if not pre_tokenizer or pre_tokenizer.get("type") != "Metaspace" or pre_tokenizer.get("prepend_scheme") == "never":
        return {}
    space = pre_tokenizer["replacement"]
    steps = [{"type": "Prepend", "prepend": space}, {"type": "Replace", "pattern": {"String": " "}, "content": space}]
    return {"pre_tokenizer": None, "normalizer": {"type": "Sequence", "normalizers": steps}}


def _sentencepiece_bytes(piece: str) -> bytes:
    if BYTE_PIECE.fullmatch(piece):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other bytes for U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTE_OF_CHARACTER = _byte_alphabet()
