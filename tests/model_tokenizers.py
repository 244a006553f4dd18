"""Tokenizers for tests: tiny ones trained on the spot, and Llama's, made from Meta's package where installed."""

import base64
import hashlib
import importlib.metadata
import json
import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pytest

from model.tokenizer import BYTE_OF_CHARACTER

TEXT = ["The tool returns the weather of a city, in degrees.", "def call(tool, arguments): return 3.14",
        "Grüße aus Köln", "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}",
        "naïve café, 東京 2024", "a  b\n\n\tc"] * 8
CHATML_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML_ADDED = ["<tool_call>", "</tool_call>", "<tools>", "</tools>"]
LLAMA_SHA256 = "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55"
LLAMA_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
               r"|\s+(?!\S)|\s+")


def chatml_folder(path: Path, **model_changes) -> Path:
    """A byte-level BPE of some 400 ids in Qwen2.5's manner, digits one by one, as tokenizer.json in `path`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    digits = pre_tokenizers.Split(Regex(r"\p{N}"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(BYTE_OF_CHARACTER)
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_special_tokens(CHATML_SPECIAL)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in CHATML_ADDED])
    raw = json.loads(tokenizer.to_str())
    raw["model"] |= model_changes
    path.mkdir(exist_ok=True)
    (path / "tokenizer.json").write_text(json.dumps(raw, ensure_ascii=False))
    return path


def sentencepiece_folder(path: Path) -> Path:
    """A sentencepiece BPE with byte fallback and Mistral's control tokens, as tokenizer.model in `path`."""
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=model, model_type="bpe", vocab_size=400, byte_fallback=True,
        control_symbols=["[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
                         "[TOOL_RESULTS]", "[/TOOL_RESULTS]"],
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        split_digits=True, minloglevel=2)
    path.mkdir(exist_ok=True)
    (path / "tokenizer.model").write_bytes(model.getvalue())
    return path


def converted_beside(path: Path, added: Sequence[str] = (), scheme: str = "first") -> dict:
    """The tokenizer.json that belongs to the tokenizer.model in `path`, with further tokens; written and returned."""
    from sentencepiece import SentencePieceProcessor

    backend = SentencePieceProcessor(model_file=str(path / "tokenizer.model"))
    size = backend.get_piece_size()
    vocabulary = {backend.id_to_piece(i): i for i in range(size)}
    splits = [(vocabulary[piece[:i] + piece[i:]], piece[:i], piece[i:]) for piece in vocabulary
              for i in range(1, len(piece)) if piece[:i] in vocabulary and piece[i:] in vocabulary]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    known = [i for i in range(size) if backend.is_control(i) or backend.is_unknown(i)]
    tokens = [(i, backend.id_to_piece(i)) for i in known] + [(size + i, text) for i, text in enumerate(added)]
    space = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": False}
    raw = {"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
           "added_tokens": [{"id": i, "content": text, "special": True, **flags} for i, text in tokens],
           "pre_tokenizer": space, "decoder": {"type": "Sequence", "decoders": [
               {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
               {"type": "Fuse"}]},
           "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": vocabulary,
                     "merges": [[left, right] for _, left, right in sorted(splits)]}}
    (path / "tokenizer.json").write_text(json.dumps(raw, ensure_ascii=False))
    return raw


@lru_cache(maxsize=1)
def llama_json() -> str:
    """Llama 3's tokenizer.json, equal to the hub's in what it says, made from the vocabulary in Meta's package."""
    try:
        files = importlib.metadata.files("llama-models") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [file.locate() for file in files if str(file).endswith("llama3/tokenizer.model")]
    if not found or hashlib.sha256(Path(found[0]).read_bytes()).hexdigest() != LLAMA_SHA256:
        pytest.skip("Llama's vocabulary is under Meta's licence: pip install --no-deps llama-models==0.3.0 to run this")
    ranks = {}
    for line in Path(found[0]).read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    letter = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}
    spelled = {token: "".join(letter[byte] for byte in token) for token in ranks}
    merges = []
    for token in sorted(ranks, key=ranks.get):
        splits = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        splits.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges += [[spelled[left], spelled[right]] for left, right in splits]
    names = ["begin_of_text", "end_of_text", "reserved_special_token_0", "reserved_special_token_1",
             "finetune_right_pad_id", "reserved_special_token_2", "start_header_id", "end_header_id", "eom_id",
             "eot_id", "python_tag"]
    names += [f"reserved_special_token_{i}" for i in range(3, 248)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": 128000 + i, "content": f"<|{name}|>", **flags} for i, name in enumerate(names)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": LLAMA_SPLIT}, "behavior": "Isolated", "invert": False}
    vocabulary = {spelled[token]: rank for token, rank in ranks.items()}
    return json.dumps({
        "version": "1.0", "added_tokens": added, "normalizer": None, "post_processor": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                  "vocab": vocabulary, "merges": merges}}, ensure_ascii=False)


def llama_folder(path: Path) -> Path:
    """A folder with Llama 3's tokenizer.json; skips the test without Meta's package."""
    text = llama_json()
    path.mkdir(exist_ok=True)
    (path / "tokenizer.json").write_text(text)
    return path


def forged_texts(controls: list[str], count: int = 40) -> list[str]:
    """Texts of control strings and what surrounds them, in a fixed random order."""
    draw = random.Random(0)
    bits = [*controls, " ", "\n", "x", "<", "|", ">", "▁", "<0x0A>", "[", "]"]
    return ["".join(draw.choices(bits, k=8)) for _ in range(count)] + controls
