"""A folder's own chat template: recognised by what it says, followed, warned of or refused; it is never run."""

import json
import random

import pytest

from model import chat, load_tokenizer
from model.templates import QWEN_SYSTEM, chatml_template, says
from tests.model_tiny import data_folder
from tests.model_tokenizers import chatml_folder, converted_beside, llama_folder, sentencepiece_folder

USER = [{"role": "user", "content": "Hello"}]
ASKED = [{"role": "system", "content": "Be brief."}, *USER]
TURN = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
LAST = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
PLAIN = "{% for m in messages %}" + TURN + "{% endfor %}" + LAST
OTHERS = {
    "words": "{% for m in messages %}### {{ m.role }}: {{ m.content }}\n{% endfor %}### assistant:",
    "llama 2": "{{ bos_token }}{% for m in messages %}<<SYS>>{{ m.content }}<</SYS>>{% endfor %}",
    "zephyr": "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token }}{% endfor %}<|assistant|>\n",
    "gemma": "{% for m in messages %}{{ '<start_of_turn>' + m.role }}{% endfor %}",
    "vicuna": "{% for m in messages %}USER: {{ m.content }} ASSISTANT:{% endfor %}",
    "nothing": "{% for m in messages %}{{ m.content }}{% endfor %}", "no program": "hello",
}
CHANGED = {
    "trimmed": PLAIN.replace("m['content']", "m['content'] | trim"),
    "no last newline": PLAIN.replace("<|im_end|>\\n", "<|im_end|>"),
    "thinking": PLAIN.replace("assistant\\n", "assistant\\n<think>\\n"),
    "renamed": PLAIN.replace("m['role']", "'human'"),
    "a line before": "{{ 'A chat.\\n' }}" + PLAIN, "another end": PLAIN.replace("<|im_end|>", "<|endoftext|>"),
    "system shortened": PLAIN.replace("+ m['content']", "+ m['content'][:20]"), "no header": PLAIN.replace(LAST, ""),
    "two systems": chatml_template("A") + chatml_template("B"), "unclosed": PLAIN + "{% if x",
    "quote": PLAIN + "{{ ' }}",
    "raised": "{% if messages[0].role != 'user' %}{{ raise_exception('no') }}{% endif %}" + PLAIN,
}
SAME = {
    "other quotes": PLAIN.replace("'", '"'),
    "attributes": PLAIN.replace("m['role']", "m.role").replace("m['content']", "m.content"),
    "another name": PLAIN.replace("m[", "message[").replace("for m in", "for message in"),
    "parts": "{% for m in messages %}<|im_start|>{{ m.role }}{{ '\\n' }}{{- m.content -}}"
             "<|im_end|>\n{{ '' }}{% endfor %}"
             + LAST,
    "a comment": "{# ours #}\n" + PLAIN, "tilde": PLAIN.replace(" + ", " ~ "),
    "lines": "{%- for m in messages %}\n    {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}\n"
             "{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\n' }}\n{%- endif %}\n",
    "always a header": PLAIN.replace(LAST, "{{ '<|im_start|>assistant\\n' }}"),
}


def with_template(folder, template, file="tokenizer_config.json"):
    text = template if file.endswith(".jinja") else json.dumps({"chat_template": template})
    (folder / file).write_text(text)
    return folder


@pytest.mark.parametrize("name", SAME)
def test_a_template_is_known_in_any_spelling_and_without_a_default_there_is_no_system_turn(name, tmp_path):
    tokenizer = load_tokenizer(with_template(chatml_folder(tmp_path), SAME[name]))
    assert tokenizer.notes == ()
    assert chat.render(USER, tokenizer)[1] == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert chat.render(ASKED, tokenizer)[1].startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")


@pytest.mark.parametrize("default", [QWEN_SYSTEM, "You are a helpful assistant named Ada, made in Oslo"])
def test_the_default_system_text_is_the_templates(default, tmp_path):
    tokenizer = load_tokenizer(with_template(chatml_folder(tmp_path), chatml_template(default)))
    assert tokenizer.notes == ()
    assert chat.render(USER, tokenizer)[1].startswith(f"<|im_start|>system\n{default}<|im_end|>\n<|im_start|>user\n")
    assert default not in chat.render(ASKED, tokenizer)[1]
    ids, labels = chat.encode_chat([*USER, {"role": "assistant", "content": "Hi"}], tokenizer)
    prompt = chat.render(USER, tokenizer)[0]
    assert ids[:len(prompt)] == prompt and labels[0] == chat.IGNORE_INDEX


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_changed_template_earns_one_loud_line(name, file, tmp_path):
    tokenizer = load_tokenizer(with_template(chatml_folder(tmp_path), CHANGED[name], file))
    assert len(tokenizer.notes) == 1
    assert tokenizer.notes[0].startswith(f"WARNING: {file}: this chat template is not known here")


@pytest.mark.parametrize("name", OTHERS)
def test_a_template_of_other_turns_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="chat template writes turns otherwise.*the control tokens of ChatML"):
        load_tokenizer(with_template(chatml_folder(tmp_path), OTHERS[name]))


@pytest.mark.parametrize(("template", "words"), [
    ("{{ '<|start_header_id|>' }}", "as Llama 3, but the tokenizer has the control tokens of ChatML only"),
    ("{{ '[INST] ' + messages[0].content + '[/INST]' }}", "as Mistral, but the tokenizer"),
    (PLAIN.replace("'\\n' + m['content']", "'<|im_sep|>' + m['content']"), "writes <.im_sep.> in its turns"),
    ([{"name": "tool_use", "template": PLAIN}], "tool_use and no default"), (7, "should be text"),
    ([7], "should be text")])
def test_a_template_that_cannot_be_followed_is_refused(template, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        load_tokenizer(with_template(chatml_folder(tmp_path), template))


def test_of_named_templates_the_default_counts_and_a_file_of_its_own_wins(tmp_path):
    named = [{"name": "tool_use", "template": OTHERS["words"]}, {"name": "default", "template": PLAIN}]
    with_template(chatml_folder(tmp_path), named)
    assert load_tokenizer(tmp_path).notes == ()
    with_template(tmp_path, OTHERS["words"], "chat_template.jinja")
    with pytest.raises(ValueError, match="chat_template.jinja"):
        load_tokenizer(tmp_path)
    (tmp_path / "additional_chat_templates").mkdir()
    with_template(tmp_path / "additional_chat_templates", PLAIN, "default.jinja")
    assert load_tokenizer(tmp_path).notes == ()


def test_a_folder_without_a_template_is_written_by_its_tokens_with_a_note(tmp_path):
    tokenizer = load_tokenizer(chatml_folder(tmp_path))
    assert tokenizer.notes[0].startswith("no chat_template") and QWEN_SYSTEM in chat.render(USER, tokenizer)[1]


def add_tokens(folder, texts):
    """Further special tokens in the folder's tokenizer.json."""
    file = folder / "tokenizer.json"
    raw = json.loads(file.read_text())
    first = max([*raw["model"]["vocab"].values(), *(token["id"] for token in raw["added_tokens"])]) + 1
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    raw["added_tokens"] += [{"id": first + i, "content": text, **flags} for i, text in enumerate(texts)]
    file.write_text(json.dumps(raw))
    return folder


LLAMA = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]


def test_a_tokenizer_with_the_tokens_of_two_families_is_written_as_its_template_says(tmp_path):
    folder = add_tokens(chatml_folder(tmp_path), LLAMA)
    (folder / "special_tokens_map.json").write_text('{"bos_token": "<|begin_of_text|>"}')
    tokenizer = load_tokenizer(with_template(folder, "{{ bos_token }}" + PLAIN))
    assert (tokenizer.family, tokenizer.notes) == ("chatml", ())
    ids, text = chat.render(USER, tokenizer)
    assert text == "<|begin_of_text|><|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert ids[0] == tokenizer.bos_id and tokenizer.eos_ids[0] == tokenizer.control_id("<|im_end|>")
    tokenizer = load_tokenizer(with_template(folder, PLAIN))
    assert tokenizer.bos_id is None and chat.render(USER, tokenizer)[1].startswith("<|im_start|>user")
    llama = "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>' + m.content + '<|eot_id|>' }}"
    tokenizer = load_tokenizer(with_template(folder, llama))
    assert tokenizer.family == "llama3" and "no date lines" in tokenizer.notes[0]


def test_the_token_that_a_template_begins_with_is_the_folders_own(tmp_path):
    folder = chatml_folder(tmp_path)
    add_tokens(folder, ["<s>", "<|startoftext|>"])
    with_template(folder, "{{ bos_token }}" + PLAIN)
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        config = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
        for spelled in ("<|startoftext|>", {"content": "<|startoftext|>"}):
            (folder / file).write_text(json.dumps(config | {"bos_token": spelled}))
            assert chat.render(USER, load_tokenizer(folder))[1].startswith("<|startoftext|><|im_start|>user")
    with_template(folder, PLAIN)
    assert chat.render(USER, load_tokenizer(folder))[1].startswith("<|im_start|>user")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ bos_token }}" + PLAIN,
                                                              "bos_token": "<|nowhere|>"}))
    with pytest.raises(ValueError, match="bos_token '<|nowhere|>'.*no control token"):
        load_tokenizer(folder)


def test_a_token_to_begin_with_that_no_file_names_is_not_guessed(tmp_path):
    folder = with_template(add_tokens(chatml_folder(tmp_path), ["<s>"]), "{{ bos_token }}" + PLAIN)
    with pytest.raises(ValueError, match="no file says which token that is"):
        load_tokenizer(folder)


def test_llama_begins_with_its_own_token_or_is_refused(tmp_path):
    folder = add_tokens(chatml_folder(tmp_path), LLAMA)
    text = "{{ bos_token }}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>' + m.content + '<|eot_id|>' }}"
    for token in ("<|begin_of_text|>", "<|end_of_text|>"):
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": text, "bos_token": token}))
        if token == "<|begin_of_text|>":
            assert load_tokenizer(folder).bos_id == load_tokenizer(folder).control_id(token)
    with pytest.raises(ValueError, match="bos_token '<|end_of_text|>'"):
        load_tokenizer(folder)


@pytest.mark.parametrize(("written", "meant"), [("Caf\\u00e9", "Caf\u00e9"), ("\\x41da", "Ada"), ("a\\\\n", "a\\n"),
                                                ("\u6771", "\u6771"), ("it\\'s", "it's")])
def test_escapes_in_a_default_system_text_are_read_as_jinja_reads_them(written, meant, tmp_path):
    tokenizer = load_tokenizer(with_template(chatml_folder(tmp_path), chatml_template(written)))
    assert tokenizer.default_system == meant and tokenizer.notes == ()


def test_a_template_that_is_no_text_is_named(tmp_path):
    folder = chatml_folder(tmp_path)
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="chat_template.jinja: not UTF-8"):
        load_tokenizer(folder)


def test_native_tools_are_written_only_where_the_template_has_a_block_for_them(tmp_path):
    folder, tool = chatml_folder(tmp_path), {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert "<tools>" in chat.render(USER, load_tokenizer(folder), tools=[tool])[1]
    for template, written in ((PLAIN, False), (PLAIN + "{{ 1 }}", False), (PLAIN + "{{ tools }}", True)):
        tokenizer = load_tokenizer(with_template(folder, template))
        assert chat.render(USER, tokenizer)[1].startswith("<|im_start|>user")
        if written:
            assert "<tools>" in chat.render(USER, tokenizer, tools=[tool])[1]
            continue
        for write in (chat.render, chat.encode_chat):
            with pytest.raises(ValueError, match="no block for tools"):
                write([*USER, {"role": "assistant", "content": "Hi"}], tokenizer, tools=[tool])


def test_a_mistral_that_gained_chatml_tokens_is_written_as_its_template_says(tmp_path):
    converted_beside(sentencepiece_folder(tmp_path), ["<|im_start|>", "<|im_end|>"])
    inst = "{{ bos_token }}{% for m in messages %}{{ '[INST] ' + m.content + '[/INST]' }}{% endfor %}"
    tokenizer = load_tokenizer(with_template(tmp_path, inst))
    assert tokenizer.family == "mistral" and chat.render(USER, tokenizer)[1] == "<s>[INST] Hello[/INST]"
    tokenizer = load_tokenizer(with_template(tmp_path, PLAIN))
    assert (tokenizer.family, tokenizer.notes) == ("chatml", ())
    assert chat.render(USER, tokenizer)[1] == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_mistral_with_turns_for_the_system_text_is_refused(tmp_path):
    raw = converted_beside(sentencepiece_folder(tmp_path))
    (tmp_path / "tokenizer.model").unlink()
    raw["added_tokens"][-1]["content"] = "[SYSTEM_PROMPT]"
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=r"\[SYSTEM_PROMPT\]"):
        load_tokenizer(tmp_path)


def test_the_published_templates_are_known(tmp_path):
    for folder in ("qwen2.5", "mistral-7b-v0.3"):
        assert load_tokenizer(data_folder("models", folder)).notes == ()
    text = json.loads(data_folder("models", "qwen2.5", "tokenizer_config.json").read_text())["chat_template"]
    end = "message.content + '<|im_end|>'"
    for changed, known in ((text.replace(QWEN_SYSTEM, "You are Ada."), True), (text + "{# x #}", True),
                           (text.replace(end, end.replace("content", "content | trim")), False),
                           (text.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>'"), False)):
        tokenizer = load_tokenizer(with_template(chatml_folder(tmp_path), changed))
        assert (tokenizer.notes == ()) is known
    text = json.loads(data_folder("models", "mistral-7b-v0.3", "tokenizer_config.json").read_text())["chat_template"]
    changed = text.replace('"[INST] "', '"[INST]"')
    tokenizer = load_tokenizer(with_template(sentencepiece_folder(tmp_path / "m"), changed))
    assert "not known here" in tokenizer.notes[0]


def test_llamas_template_is_known_by_its_date_lines_only_where_they_are_there(tmp_path):
    folder = llama_folder(tmp_path)
    turns = "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}"
    tokenizer = load_tokenizer(with_template(folder, turns))
    assert "it writes no date lines" in tokenizer.notes[0]


def test_taking_a_template_apart_ends_and_raises_nothing_whatever_it_holds():
    draw = random.Random(0)
    bits = ["{{", "}}", "{%", "%}", "{#", "#}", "'", '"', "\\", "-", "+", "for m in messages", "m", "\n", " ", "(", "]"]
    for _ in range(2000):
        says("".join(draw.choices(bits, k=draw.randint(0, 30))))
    for hostile in ("{{" * 50_000, "{% '" * 30_000, "{{ '" + "\\" * 100_000, "'\"" * 50_000, "{#" * 60_000):
        says(hostile)
