"""Weights in and out of Hugging Face folders: safetensors only, every name and shape checked before memory is taken."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .config import MAX_JSON_BYTES, ModelConfig
from .sharding import as_sharded, is_slice, of_all, read_rows, shard_blocks, warm
from .transformer import Transformer

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\.safetensors")


def load_model(path: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu",
               mesh: "DeviceMesh | None" = None,
               meeting: Callable[[], AbstractContextManager[None]] = nullcontext) -> Transformer:
    """Load a checkpoint folder, tensor by tensor from a memory map to `dtype` and `device`; returns it in eval mode.

    Args:
        path: a folder with config.json and model.safetensors, or model.safetensors.index.json and its shards.
        dtype: torch.float32, torch.bfloat16 or torch.float16.
        mesh: processes that share the blocks' weights out: each reads its rows of them alone (see sharding.py). All of
            them have to call this.
        meeting: around all that waits for those processes.

    Raises:
        FileNotFoundError: the folder, its config or its weights are not there.
        ValueError: the model is not supported, the files are damaged or point outside the folder, tensors are missing,
            left over or of the wrong shape (all are listed), or values are not finite or do not fit into fp16 (named).
    """
    path = Path(path)
    if dtype not in DTYPES.values():
        raise ValueError(f"cannot load to {dtype}; choose torch.float32, torch.bfloat16 or torch.float16")
    config = ModelConfig.load(path)
    headers = {file: read_header(file) for file in weight_files(path)}
    _check_index(path, headers)
    _check_shapes(path, config, {name: info["shape"] for header in headers.values() for name, info in header.items()})
    with torch.device("meta"):                                  # no memory yet
        model = Transformer(config)
    if mesh is not None:
        shard_blocks(model, mesh)
    try:
        if config.tie_word_embeddings:
            _drop_tied_copy(path, headers)
        largest = _fill(model, headers, dtype, torch.device(device), sharded=True)
        if mesh is not None:                                    # now: two blocks are gathered, and there is room
            with meeting():
                warm(model)
        largest |= _fill(model, headers, dtype, torch.device(device), sharded=False)
    except SafetensorError as error:
        raise ValueError(f"{path}: {error}; a file of weights is damaged, copy it again") from error
    if mesh is not None:
        with meeting():
            largest = of_all(largest, mesh)
    _refuse_values(path, largest, dtype)
    model.tie_weights()
    return model.eval()


def _fill(model: Transformer, headers: dict[Path, dict], dtype: torch.dtype, device: torch.device,
          sharded: bool) -> dict[str, float]:
    """Put this process's rows of every `sharded` weight, or all others whole, in their places.

    Returns the largest magnitude of each, by name.
    """
    places, largest = dict(model.named_parameters()), {}
    for file, names in headers.items():
        wanted = [name for name in names if is_slice(places[name]) == sharded]
        with safe_open(file, framework="pt") as shard:          # one shard mapped at a time
            for name in sorted(wanted, key=lambda n: names[n]["data_offsets"]):
                stored = read_rows(shard.get_slice(name), places[name]) if sharded else shard.get_tensor(name)
                largest[name] = _largest(stored) if device.type != "meta" else 0.0
                weight = stored.to(device=device, dtype=dtype, copy=True)
                set_parameter(model, name, as_sharded(weight, places[name]) if sharded else weight)
    return largest


def _refuse_values(path: Path, largest: dict[str, float], dtype: torch.dtype) -> None:
    """ValueError with the names of the tensors that hold what no model holds, or what this dtype cannot."""
    broken = [name for name, value in largest.items() if not isfinite(value)]
    if broken:
        raise ValueError(f"{path}: {len(broken)} tensors hold values that are not finite (NaN or infinity): "
                         f"{', '.join(broken[:20])}; the checkpoint is damaged, or its training failed")
    overflows = [f"{name} (largest value {value:.6g})" for name, value in largest.items()
                 if torch.tensor(value).to(dtype).isinf()]                      # rounding gives infinity
    if overflows:
        raise ValueError(f"{path}: {len(overflows)} tensors do not fit into {str(dtype).removeprefix('torch.')}: "
                         f"{', '.join(overflows)}; load in {'bfloat16 or ' * (dtype == torch.float16)}float32")


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a folder: the single one, else the shards that its index names.

    A shard may be a link, as in Hugging Face's own cache, but its name may not lead out of the folder.
    """
    if (path / SINGLE).is_file():
        return [path / SINGLE]
    return [path / shard for shard in sorted(set(_read_index(path).values()))]


def read_header(file: Path) -> dict[str, dict]:
    """What a safetensors file says it holds, {name: {"dtype", "shape", "data_offsets"}}, checked against its size.

    Format: 8 bytes little-endian N, N bytes of JSON, then the data, each tensor at its offsets and nothing between
    (https://github.com/huggingface/safetensors, "Format").
    """
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_JSON_BYTES):
            raise ValueError(f"{file}: header of {length} bytes in a file of {size}; "
                             "the file is truncated or damaged, copy it again")
        text = stream.read(length)
    try:
        header = _strict_json(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: its header is not JSON ({error}); the file is damaged, copy it again") from error
    if not isinstance(header, dict):
        raise ValueError(f"{file}: its header is not an object; the file is damaged, copy it again")
    notes = header.pop("__metadata__", None)
    if notes is not None and not (isinstance(notes, dict) and all(isinstance(note, str) for note in notes.values())):
        raise ValueError(f"{file}: __metadata__ in its header should map names to text; the file is damaged, copy it "
                         "again")
    end = 0
    for name, info in sorted(header.items(), key=lambda item: _offsets(file, *item)):
        start, stop = info["data_offsets"]
        bytes_expected = prod(info["shape"]) * DTYPES[info["dtype"]].itemsize
        if start != end or stop - start != bytes_expected:
            raise ValueError(f"{file}: {name} {info['dtype']} {info['shape']} should take {bytes_expected} bytes from "
                             f"{end}, but its header says {start} to {stop}; the file is damaged, copy it again")
        end = stop
    if end != size - 8 - length:
        raise ValueError(f"{file}: {size - 8 - length} bytes of data where its header says {end}; "
                         "the file is truncated or damaged, copy it again")
    return header


def save_model(model: Transformer, path: str | Path, shard_gb: float = 5.0) -> None:
    """Write config.json and model.safetensors (or shards of up to `shard_gb` 1e9 bytes and their index) into `path`.

    Tied lm_head weights are left out, as Hugging Face does. Each file is written aside and renamed.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    state = {name: weight.detach().contiguous() for name, weight in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop(HEAD, None)
    _check_shapes(path, model.config, {name: list(weight.shape) for name, weight in state.items()})
    shards = _split(state, shard_gb * 1e9)
    count = len(shards)
    names = [SINGLE] if count == 1 else [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    for name, shard in zip(names, shards):
        _replace(path / name, lambda aside, shard=shard: save_file(
            {key: weight.cpu() for key, weight in shard.items()}, aside, metadata={"format": "pt"}))
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(w.nbytes for w in state.values())},
                 "weight_map": {key: name for name, shard in zip(names, shards) for key in shard}}
        _replace(path / INDEX, lambda aside: aside.write_text(json.dumps(index, indent=2)))
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    config = json.dumps(model.config.to_dict(dtype), indent=2) + "\n"
    _replace(path / "config.json", lambda aside: aside.write_text(config))
    stale = {*path.glob(SINGLE), *path.glob("model-?????-of-?????.safetensors")} - {path / name for name in names}
    for file in stale | ({path / INDEX} if len(shards) == 1 else set()):
        file.unlink(missing_ok=True)


def _read_index(path: Path) -> dict[str, str]:
    file = path / INDEX
    if not file.is_file():
        raise FileNotFoundError(f"{path}: neither {SINGLE} nor {INDEX}; only safetensors weights are read")
    if file.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{file}: {file.stat().st_size} bytes, more than any index needs; copy it again")
    try:
        weight_map = _strict_json(file.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file}: not a safetensors index ({error!r})") from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{file}: weight_map should map tensors to shards, found {type(weight_map).__name__}")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not PLAIN_NAME.fullmatch(shard):
            raise ValueError(f"{file}: {name} is said to be in {shard!r}; "
                             "a shard must be a plain *.safetensors name in the same folder")
        if not (path / shard).is_file():
            raise FileNotFoundError(f"{file}: {name} is said to be in {shard}, which is not in the folder; "
                                    "the download is incomplete")
    return weight_map


def _strict_json(text: bytes) -> object:
    """JSON in UTF-8 whose objects name nothing twice; ValueError else, and for NaN and lone surrogates."""
    def pairs(items: list[tuple[str, object]]) -> dict:
        found = dict(items)
        if len(found) < len(items):
            raise ValueError("a name stands twice in one object")
        "".join(found).encode()                                 # a lone surrogate is no text
        return found

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")
    return json.loads(text.decode("utf-8"), object_pairs_hook=pairs, parse_constant=refuse)


def _check_index(path: Path, headers: dict[Path, dict]) -> None:
    """With an index: each shard holds the tensors that the index puts there, and no other."""
    if (path / SINGLE).is_file():
        return
    promised = {(name, shard) for name, shard in _read_index(path).items()}
    held = {(name, file.name) for file, header in headers.items() for name in header}
    if promised != held:
        raise ValueError(f"{path}: index and shards disagree; " + "; ".join(_listed({
            "in the index only": [f"{name} in {shard}" for name, shard in promised - held],
            "in the shards only": [f"{name} in {shard}" for name, shard in held - promised]})))


def _check_shapes(path: Path, config: ModelConfig, found: dict[str, list[int]]) -> None:
    """Every tensor that the config asks for, in its shape, and no other; else ValueError with all that is wrong."""
    with torch.device("meta"):
        expected = {name: list(weight.shape) for name, weight in Transformer(config).state_dict().items()}
    if config.tie_word_embeddings and HEAD not in found:
        del expected[HEAD]
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "left over": sorted(found.keys() - expected.keys()),
        "wrong shape": [f"{name} {found[name]}, expected {expected[name]}"
                        for name in sorted(expected.keys() & found.keys()) if found[name] != expected[name]],
    }
    if any(problems.values()):
        raise ValueError(f"{path}: weights and config.json disagree; " + "; ".join(_listed(problems)))


def _drop_tied_copy(path: Path, headers: dict[Path, dict]) -> None:
    """Some tied checkpoints hold lm_head.weight all the same: it is left out, if it is the embedding once more."""
    where = {name: file for file, header in headers.items() for name in header}
    if HEAD not in where:
        return
    with safe_open(where[EMBEDDING], framework="pt") as one, safe_open(where[HEAD], framework="pt") as other:
        embedding, head = one.get_tensor(EMBEDDING), other.get_tensor(HEAD)             # mapped, not copied
        if embedding.dtype != head.dtype or not torch.equal(embedding, head):
            raise ValueError(f"{path}: weights and config.json disagree; left over (1): {HEAD}, which is not "
                             f"{EMBEDDING} again, though tie_word_embeddings is true; set that to false if the "
                             "checkpoint is not tied")
    del headers[where[HEAD]][HEAD]


def _listed(problems: dict[str, list[str]], limit: int = 20) -> Iterator[str]:
    for kind, names in problems.items():
        if names:
            rest = f" and {len(names) - limit} more" if len(names) > limit else ""
            yield f"{kind} ({len(names)}): {', '.join(sorted(names)[:limit])}{rest}"


def _offsets(file: Path, name: str, info: object) -> tuple[int, int]:
    """Check the form of one header entry; returns its offsets, to sort by."""
    def whole(values: object) -> bool:
        return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**48 for value in values)
    if not isinstance(info, dict) or not whole(info.get("shape")) or not whole(info.get("data_offsets")) \
            or len(info["data_offsets"]) != 2 or len(info["shape"]) > 8:
        raise ValueError(f"{file}: the header entry of {name} is malformed: {str(info)[:200]}")
    if not isinstance(info.get("dtype"), str) or info["dtype"] not in DTYPES:
        raise ValueError(f"{file}: {name} has dtype {info.get('dtype')!r}; supported: {', '.join(DTYPES)}")
    return tuple(info["data_offsets"])


def _largest(weight: Tensor) -> float:
    """The largest magnitude; NaN where there is one."""
    if not weight.numel():
        return 0.0
    low, high = torch.aminmax(weight)
    return max(-low.item(), high.item())


def set_parameter(model: nn.Module, name: str, weight: Tensor) -> None:
    """Put a weight in the place that a model built on the meta device has for it."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, nn.Parameter(weight, requires_grad=not is_slice(weight)))


def _split(state: dict[str, Tensor], limit: float) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for name, weight in state.items():
        if shards[-1] and used + weight.nbytes > limit:
            shards.append({})
            used = 0
        shards[-1][name] = weight
        used += weight.nbytes
    return shards


def _replace(file: Path, write) -> None:
    """Write aside, flush to disk, rename: a reader never sees half a file."""
    aside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        aside.touch()
        mode = aside.stat().st_mode                             # what the umask leaves; safetensors makes its own 0600
        write(aside)
        aside.chmod(mode)
        with open(aside, "rb+") as stream:
            os.fsync(stream.fileno())
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
