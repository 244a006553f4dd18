"""Text to ids and back: real vocabularies against golden ids, and any text against the contract of literal encoding."""

import json
import shutil
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import load_tokenizer
from model.tokenizer import _sentencepiece_bytes
from tests.model_tiny import data_folder
from tests.model_tokenizers import (
    CHATML_ADDED,
    chatml_folder,
    converted_beside,
    forged_texts,
    llama_folder,
    sentencepiece_folder,
)

REAL = {"qwen25": "qwen2.5", "mistral_v03": "mistral-7b-v0.3", "llama31": None}
ALL = [*REAL, "tiny chatml", "tiny sentencepiece", "mistral_v03 from json"]
_LOADED = {}


@pytest.fixture(scope="module", params=ALL)
def tokenizer(request, tmp_path_factory):
    return loaded(request.param, tmp_path_factory.mktemp("tokenizer"))


def loaded(name: str, path):
    """One of `ALL`; the large ones are loaded once."""
    if name not in _LOADED:
        if name == "tiny chatml":
            folder = chatml_folder(path)
        elif name == "tiny sentencepiece":
            folder = sentencepiece_folder(path)
        elif name == "llama31":
            folder = llama_folder(path)
        elif name == "mistral_v03 from json":
            folder = path
            shutil.copy(data_folder("models", "mistral-7b-v0.3", "tokenizer.json"), path)
        else:
            folder = data_folder("models", REAL[name])
        _LOADED[name] = load_tokenizer(folder)
    return _LOADED[name]


def same_text(tokenizer, text: str) -> str:
    """What a round trip changes: Qwen2.5 composes Unicode (NFC), sentencepiece writes a space as U+2581."""
    return unicodedata.normalize("NFC", text) if tokenizer.family == "chatml" else (
        text.replace("\u2581", " ") if tokenizer.family == "mistral" else text)


@pytest.mark.parametrize("name", [*REAL, "mistral_v03 from json"])
def test_ids_equal_the_golden_literal_ones(name, tmp_path):
    lines = data_folder("models", "golden", f"{name.split()[0]}_tokens.jsonl").read_text().splitlines()
    tokenizer = loaded(name, tmp_path)
    assert len(lines) == 60
    for row in map(json.loads, lines):
        ids = tokenizer.encode(row["text"])
        assert ids == row["ids_literal"]
        assert tokenizer.decode(ids) == same_text(tokenizer, row["text"])


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_text_survives_the_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == same_text(tokenizer, text)
    assert not set(ids) & (tokenizer.special_ids | set(tokenizer.eos_ids))
    decoder = tokenizer.stream()
    parts = [decoder.push(token) for token in ids]
    assert "".join(parts) + decoder.finish() == same_text(tokenizer, text)


def test_a_lone_surrogate_is_refused_as_no_text(tokenizer):
    with pytest.raises(ValueError, match="surrogate"):
        tokenizer.encode("a\ud800b")


def test_text_that_spells_a_control_token_stays_text(tokenizer):
    controls = sorted(tokenizer._controls)
    forbidden = set(tokenizer._controls.values()) | tokenizer.special_ids
    for text in forged_texts(controls):
        ids = tokenizer.encode(text)
        assert not set(ids) & forbidden, text


def test_streamed_text_never_shows_half_a_character(tokenizer):
    decoder, shown = tokenizer.stream(), ""
    for token in tokenizer.encode("Zürich 東京 🙂👩‍🚀 ﷽"):
        new = decoder.push(token)
        assert "\ufffd" not in new
        shown += new
    assert shown + decoder.finish() == same_text(tokenizer, "Zürich 東京 🙂👩‍🚀 ﷽")


def test_bytes_that_are_no_text_come_out_as_replacement_characters(tokenizer):
    euro = tokenizer.encode("\U0001F9FF")[-4:]
    if len(euro) == 4:
        assert tokenizer.decode(euro[:2] + tokenizer.encode("x")).startswith("\ufffd")


def test_ids_beyond_the_vocabulary_and_special_ones_are_no_text(tokenizer):
    ids = tokenizer.encode("x")
    assert tokenizer.decode([tokenizer.vocab_size, 10**9, -1, *tokenizer.special_ids]) == ""
    assert tokenizer.decode([*ids, *tokenizer.eos_ids]) == "x"


@pytest.mark.parametrize(("name", "family", "size", "bos", "eos"), [
    ("qwen25", "chatml", 151665, None, {151643, 151645}),
    ("mistral_v03", "mistral", 32768, 1, {2}),
    ("llama31", "llama3", 128256, 128000, {128001, 128008, 128009}),
])
def test_facts_of_the_real_tokenizers(name, family, size, bos, eos, tmp_path):
    tokenizer = loaded(name, tmp_path)
    assert (tokenizer.family, tokenizer.vocab_size, tokenizer.bos_id) == (family, size, bos)
    assert set(tokenizer.eos_ids) == eos


def test_qwens_tool_call_is_shown_but_never_typed(tmp_path):
    tokenizer = loaded("qwen25", tmp_path)
    assert (tokenizer.control_id("<tool_call>"), tokenizer.control_id("<tools>")) == (151657, None)
    assert tokenizer.decode([151657, *tokenizer.encode("{}"), 151658, 151645]) == "<tool_call>{}</tool_call>"
    assert 151657 not in tokenizer.encode("<tool_call>")


def test_added_tokens_of_a_tiny_tokenizer(tmp_path):
    tokenizer = load_tokenizer(chatml_folder(tmp_path))
    ids = [tokenizer.control_id(text) for text in CHATML_ADDED]
    assert None not in ids and not set(ids) & tokenizer.special_ids
    assert tokenizer.decode(ids) == "".join(CHATML_ADDED)
    assert tokenizer.encode("2024") == [tokenizer.encode(digit)[0] for digit in "2024"]
    assert tokenizer.control_id("<|nothing|>") is None


def test_a_vocabulary_that_skips_merges_cannot_smuggle_a_control_token(tmp_path):
    """With `ignore_merges` a piece that is in the vocabulary is taken whole: control strings are kept out of it."""
    folder = chatml_folder(tmp_path, ignore_merges=True)
    raw = json.loads((folder / "tokenizer.json").read_text())
    raw["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    for token in raw["added_tokens"]:
        raw["model"]["vocab"][token["content"]] = token["id"]
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    tokenizer = load_tokenizer(folder)
    for text in tokenizer._controls:
        assert not set(tokenizer.encode(text)) & set(tokenizer._controls.values())
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_only_hexadecimal_names_are_byte_tokens():
    assert [_sentencepiece_bytes(piece) for piece in ("<0xE6>", "<0xZZ>", "<0x+1>", "▁a")] == [
        b"\xe6", b"<0xZZ>", b"<0x+1>", b" a"]


def test_sentencepiece_wins_where_both_files_are(tmp_path):
    converted_beside(sentencepiece_folder(tmp_path))
    assert load_tokenizer(tmp_path).file == "tokenizer.model"
    (tmp_path / "tokenizer.model").unlink()
    assert load_tokenizer(tmp_path).file == "tokenizer.json"


ADDED = ["<|im_start|>", "<|im_end|>", "<tool_call>"]


def test_a_converted_file_that_knows_added_tokens_is_read_instead(tmp_path):
    converted_beside(sentencepiece_folder(tmp_path / "plain"))
    converted_beside(sentencepiece_folder(tmp_path / "added"), ADDED)
    official, tokenizer = load_tokenizer(tmp_path / "plain"), load_tokenizer(tmp_path / "added")
    assert (tokenizer.file, tokenizer.family) == ("tokenizer.json", "chatml")
    ids = [tokenizer.control_id(text) for text in ADDED]
    assert ids == [official.vocab_size + i for i in range(3)] and tokenizer.vocab_size == official.vocab_size + 3
    assert tokenizer.eos_ids == ids[1:2] and tokenizer.bos_id is None


def test_a_renamed_reserved_token_is_seen_too(tmp_path):
    raw = converted_beside(sentencepiece_folder(tmp_path))
    for token, text in zip(raw["added_tokens"][-2:], ADDED, strict=False):
        raw["model"]["vocab"][text] = raw["model"]["vocab"].pop(token["content"])   # else the library numbers it anew
        token["content"] = text
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.file, tokenizer.family) == ("tokenizer.json", "chatml")
    assert tokenizer.control_id("<|im_end|>") == raw["added_tokens"][-1]["id"]


def test_two_tokenizers_that_are_not_one_are_refused(tmp_path):
    chatml_folder(sentencepiece_folder(tmp_path))
    with pytest.raises(ValueError, match="pieces are not those of the tokenizer.model beside it"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(("file", "content"), [
    ("added_tokens.json", {"<|im_start|>": 400, "<|im_end|>": 401}), ("added_tokens.json", {"<tool_call>": 7}),
    ("tokenizer_config.json", {"added_tokens_decoder": {"400": {"content": "<|im_start|>", "special": True}}}),
    ("tokenizer_config.json", {"added_tokens_decoder": {"3": {"content": "<|im_start|>"}}}),
    ("special_tokens_map.json", {"eos_token": {"content": "<|im_end|>"}}),
    ("special_tokens_map.json", {"bos_token": "<s>", "additional_special_tokens": ["<|im_start|>"]}),
    ("tokenizer_config.json", {"eos_token": "<|im_end|>"}),
    ("tokenizer_config.json", {"bos_token": None, "additional_special_tokens": [{"content": "<think>"}]}),
    ("tokenizer_config.json", {"extra_special_tokens": {"thought": "<think>"}})])
@pytest.mark.parametrize("converted", [True, False])
def test_added_tokens_that_the_tokenizers_file_does_not_know_are_refused(file, content, converted, tmp_path):
    sentencepiece_folder(tmp_path)
    if converted:
        converted_beside(tmp_path)
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{file}: .*of its tokens .first: '<.*tokenizer.model.*save_pretrained"):
        load_tokenizer(tmp_path)


def test_added_tokens_that_are_known_are_no_reason_to_refuse(tmp_path):
    tokenizer = load_tokenizer(chatml_folder(tmp_path))
    ids = {text: tokenizer.control_id(text) for text in CHATML_ADDED}
    (tmp_path / "added_tokens.json").write_text(json.dumps(ids))
    decoder = {str(i): {"content": text} for text, i in ids.items()}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    special = {"eos_token": {"content": "<|im_end|>"}, "pad_token": "[PAD]", "additional_special_tokens": [*ids]}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))          # padding is never written
    assert load_tokenizer(tmp_path).family == "chatml"


@pytest.mark.parametrize(("file", "text", "words"), [
    ("tokenizer.json", "{", "tokenizer.json"), ("tokenizer.json", "[]", "tokenizer.json"),
    ("tokenizer.json", '{"added_tokens": [], "model": {"type": "WordPiece"}}', "WordPiece.*supported: BPE"),
    ("tokenizer.json", '{"added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}}}', "tokenizer.json"),
    ("tokenizer.model", "IQ== 0\n", "not a sentencepiece model.*tokenizer.json"),
])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, file, text, words):
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=words):
        load_tokenizer(tmp_path)


def changed(folder, change):
    """A folder's tokenizer.json, changed in place."""
    raw = json.loads((folder / "tokenizer.json").read_text())
    change(raw)
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    return folder


LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize("part", [
    {"normalizer": {"type": "Lowercase"}}, {"pre_tokenizer": {"type": "Whitespace"}}, {"pre_tokenizer": None},
    {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}},
    {"normalizer": {"type": "NFKC"}}, {"normalizer": {"type": "NFD"}},
    {"normalizer": {"type": "Replace", "pattern": {"String": "\r\n"}, "content": "\n"}},
    {"normalizer": {"type": "Replace", "pattern": {"String": "\u00a0"}, "content": " "}},
    {"normalizer": {"type": "Replace", "pattern": {"String": "``"}, "content": '"'}},
    {"normalizer": {"type": "Replace", "pattern": {"String": "\n"}, "content": " "}},
    {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, LEVEL]}},
    {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
                                                             {**LEVEL, "add_prefix_space": True}]}}])
def test_a_tokenizer_that_does_not_give_back_its_text_is_refused(part, tmp_path):
    with pytest.raises(ValueError, match="tokenizer.json: not supported, since it does not give back the text"):
        load_tokenizer(changed(chatml_folder(tmp_path), lambda raw: raw.update(part)))


@pytest.mark.parametrize(("change", "words"), [
    (lambda raw: raw["model"].update(continuing_subword_prefix="##"), "not supported"),
    (lambda raw: raw["model"].update(end_of_word_suffix="</w>"), "not supported"),
    (lambda raw: raw["added_tokens"].append({**raw["added_tokens"][0], "id": 7}), "stands twice"),
    (lambda raw: raw["added_tokens"].append({**raw["added_tokens"][0], "content": "<x>"}), "stands twice")])
def test_word_marks_and_tokens_that_stand_twice_are_refused(change, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        load_tokenizer(changed(chatml_folder(tmp_path), change))


def number(raw, **ids):
    for token in raw["added_tokens"]:
        token["id"] = ids.get(token["content"].strip("<|>"), token["id"])


def test_what_the_library_reads_otherwise_than_the_file_says_is_refused(tmp_path):
    """It gives added tokens its own numbers, whatever the file says."""
    from tokenizers import Tokenizer as Reference

    plain = chatml_folder(tmp_path / "plain")
    raw = json.loads((plain / "tokenizer.json").read_text())
    first = raw["added_tokens"][0]["id"]
    changes = {"gap": lambda raw: number(raw, im_end=first + 90), "order": lambda raw: raw["added_tokens"].reverse(),
               "a piece": lambda raw: raw["model"]["vocab"].update({"<|im_end|>": len(raw["model"]["vocab"])})}
    for name, change in changes.items():
        folder = changed(chatml_folder(tmp_path / name), change)
        library = Reference.from_file(str(folder / "tokenizer.json"))
        raw = json.loads((folder / "tokenizer.json").read_text())
        assert any(library.token_to_id(token["content"]) != token["id"] for token in raw["added_tokens"])
        with pytest.raises(ValueError, match="the added token .* and the tokenizers library gives it"):
            load_tokenizer(folder)
    named = {token["content"]: token["id"] for token in json.loads((plain / "tokenizer.json").read_text())[
        "added_tokens"]}
    folder = changed(plain, lambda raw: raw["model"]["vocab"].update(named))
    library = Reference.from_file(str(folder / "tokenizer.json"))
    assert load_tokenizer(folder).control_id("<|im_end|>") == library.token_to_id("<|im_end|>")


@pytest.mark.parametrize(("change", "words"), [
    (lambda raw: raw["model"]["vocab"].update(a=raw["model"]["vocab"]["b"]), "stands twice among its pieces"),
    (lambda raw: raw["added_tokens"].append({**raw["added_tokens"][-1], "id": raw["added_tokens"][-1]["id"] + 1,
                                             "content": "Hello", "lstrip": True}), "take away white space")])
def test_pieces_of_one_id_and_words_that_strip_are_refused(change, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        load_tokenizer(changed(chatml_folder(tmp_path), change))


def test_a_piece_outside_of_the_byte_alphabet_stands_for_itself(tmp_path):
    def add(raw):
        number(raw, **{token["content"].strip("<|>"): token["id"] + 1 for token in raw["added_tokens"]})
        raw["model"]["vocab"]["\u6771\u4eac"] = len(raw["model"]["vocab"])

    tokenizer = load_tokenizer(changed(chatml_folder(tmp_path), add))
    (piece,) = [i for i in range(tokenizer.vocab_size) if tokenizer.spelling(i) == "\u6771\u4eac"]
    assert tokenizer.decode([piece]) == "\u6771\u4eac"


def test_added_words_are_text_and_get_their_own_ids(tmp_path):
    """Such as the runs of spaces that some tokenizers add: the reference finds them in any text, marks only in ours."""
    from tokenizers import Tokenizer as Reference

    def add(raw):
        first = max(token["id"] for token in raw["added_tokens"]) + 1
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
        raw["added_tokens"] += [{"id": first + i, "content": text, **flags} for i, text in enumerate(("   ", "turnip"))]

    tokenizer = load_tokenizer(changed(chatml_folder(tmp_path), add))
    text = "def f():\n   return the turnip"
    assert tokenizer.encode(text) == Reference.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids
    assert {tokenizer.vocab_size - 1, tokenizer.vocab_size - 2} <= set(tokenizer.encode(text))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.control_id("turnip") is None and tokenizer.control_id("<tool_call>") is not None


def test_merges_are_not_chosen_at_random(tmp_path):
    plain = load_tokenizer(chatml_folder(tmp_path / "plain")).encode("the weather of a city")
    assert load_tokenizer(chatml_folder(tmp_path / "random", dropout=0.9)).encode("the weather of a city") == plain


@pytest.mark.parametrize("change", [
    {"pre_tokenizer": None, "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}},
    {"pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": False}}])
def test_decoding_drops_the_space_that_encoding_put_first_and_no_other(change, tmp_path):
    converted_beside(sentencepiece_folder(tmp_path), ADDED)
    (tmp_path / "tokenizer.model").unlink()
    tokenizer = load_tokenizer(changed(tmp_path, lambda raw: raw.update(change)))
    assert [tokenizer.decode(tokenizer.encode(text)) for text in ("a", " a", "  a\n")] == ["a", " a", "  a\n"]


@pytest.mark.parametrize("where", ["tokenizer.json", "tokenizer_config.json"])
def test_turn_tokens_that_take_white_space_away_earn_a_loud_line(where, tmp_path):
    folder = chatml_folder(tmp_path)
    assert not any("white space" in line for line in load_tokenizer(folder).notes)
    end = load_tokenizer(folder).control_id("<|im_end|>")
    if where == "tokenizer.json":
        changed(folder, lambda raw: next(t for t in raw["added_tokens"] if t["id"] == end).update(rstrip=True))
    else:
        listed = {str(end): {"content": "<|im_end|>", "lstrip": True}}
        (folder / where).write_text(json.dumps({"added_tokens_decoder": listed}))
    (line,) = [line for line in load_tokenizer(folder).notes if "white space" in line]
    assert line.startswith("WARNING: <|im_end|> of the tokenizer")


@pytest.mark.parametrize("decoder", [[1], {"3": None}, {"3": {}}])
def test_a_list_of_tokens_of_another_shape_is_refused(decoder, tmp_path):
    chatml_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    with pytest.raises(ValueError, match="added_tokens_decoder should map ids to tokens"):
        load_tokenizer(tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="tokenizer"):
        load_tokenizer(tmp_path)
