"""Sampling by several processes, and after a kill: each takes its share of the items and writes its own file.

Item i belongs to process i % world_size. Processes meet only when the caller reads all files at the end; while they
generate there is no collective, so none waits for another. On a restart every item that is whole in any file is left
out, also when the number of processes has changed. Because a completion depends on (seed, item id, sample, step) and
not on who draws it, the files together say the same as one process would have.

A file: one line of settings, then one line per item, {"item_id", "prompt_sha256", "completions": [[ids, logprob,
finish_reason], ...]}. The same folder takes further items later; those that are there are not drawn again.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.files import append_record, append_to, naming, refuse_changes, sha256_text, whole_lines

from .engine import generate
from .options import Completion, Options

LASTING = ("num_samples", "max_new_tokens", "temperature", "top_k", "top_p", "seed", "eos_ids", "vocab_size",
           "banned_ids", "first_samples", "max_prompt_tokens", "long_prompts")


def place_in_world() -> tuple[int, int]:
    """(dist_rank, world_size) as torchrun sets them; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def generate_share(model, prompts: Sequence[Sequence[int]], folder: str | Path, *, item_ids: Sequence[int | str],
                   dist_rank: int, world_size: int, about: dict | None = None, **options) -> int:
    """Generate this process's share of the items that no file in `folder` holds yet; return how many those were.

    Args:
        about: whatever else the answers depend on (the model's hash, say); kept with the settings.
        options: see `options.Options`; `on_item` and `on_sample` get the index within this call's share.

    Raises:
        ValueError: the files in `folder` were made with other settings, which are named, or hold an item that is not
            asked here, or was asked by another prompt.
    """
    settings = _settings(about or {}, Options(**options))
    hashes = dict(zip(item_ids, map(_prompt_sha256, prompts), strict=True))
    done = read_shares(folder, settings, hashes)
    mine = [i for i in range(dist_rank, len(prompts), world_size) if item_ids[i] not in done]
    path = Path(folder, f"completions-{dist_rank}.jsonl")
    with naming(path), append_to(path) as file:             # on a full disk closing fails like the last write did
        if file.tell() == 0:
            append_record(file, {"settings": settings})
        told = options.pop("on_item", None)

        def on_item(index: int, completions: list[Completion]) -> None:
            rows = [[c.ids, c.logprob, c.finish_reason] for c in completions]
            item = item_ids[mine[index]]
            append_record(file, {"item_id": item, "prompt_sha256": hashes[item], "completions": rows})
            if told is not None:
                told(index, completions)

        generate(model, [prompts[i] for i in mine], item_ids=[item_ids[i] for i in mine], on_item=on_item, **options)
        os.fsync(file.fileno())
    return len(mine)


def read_shares(folder: str | Path, settings: dict | None = None,
                hashes: Mapping[int | str, str] | None = None) -> dict[int | str, list[Completion]]:
    """All whole items of all files, by item id. A line torn by a kill at a file's end is not an item.

    Args:
        hashes: that of the prompt of every item that may be there; None: any.

    Raises:
        ValueError: a line is not what `generate_share` writes, or a file has other settings or prompts than those
            given.
    """
    items: dict[int | str, list[Completion]] = {}
    for path in sorted(Path(folder).glob("completions-*.jsonl")):
        for number, line in enumerate(whole_lines(path), start=1):
            try:
                record = json.loads(line)
                if number > 1:
                    item = record["item_id"]
                    if hashes is not None and hashes.get(item) != record["prompt_sha256"]:
                        raise ValueError(f"{path}, line {number}: item {item!r} is not asked now, or by another "
                                         "prompt; ask as before to go on, or choose another folder")
                    items[item] = [Completion(*row) for row in record["completions"]]
                elif settings is not None:
                    refuse_changes(path, record["settings"], settings)
            except (KeyError, TypeError, json.JSONDecodeError) as error:
                raise ValueError(f"{path}, line {number}: not a line of completions ({error!r}); "
                                 "move the file away") from error
    return items


def _prompt_sha256(prompt: Sequence[int]) -> str:
    return sha256_text(json.dumps(list(prompt)))


def _settings(about: dict, options: Options) -> dict:
    values = {name: getattr(options, name) for name in LASTING}
    values |= {name: sorted(values[name]) for name in ("eos_ids", "banned_ids")}
    return json.loads(json.dumps(about | values))
