"""How much memory and time loading takes: a Llama-3.1-8B-shaped folder of random fp16 weights in shards.

    python benchmarks/load_model.py [--layers 32] [--dtype float16] [--folder DIR]

Makes the folder (16 GB; deleted afterwards unless --folder names it), reads its files once as raw bytes, and loads it,
each in a process of its own and each after asking the kernel to drop the files from its cache ("cold") and again with
them in it ("warm"). Prints one Markdown table. VmHWM, the peak of all resident memory, also counts mapped pages of the
files, which the kernel takes back when it needs them; RssAnon is what the process really owns.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from model.config import ModelConfig, RopeScaling
from model.transformer import Transformer
from model.weights import load_model, weight_files

LLAMA = {"vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
         "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
         "rope_theta": 500000.0, "rope_scaling": RopeScaling(8.0, 1.0, 4.0, 8192)}
SHARD_BYTES = 5e9


def make_folder(path: Path, layers: int) -> int:
    """Write config.json, shards and index; returns the bytes of the weights. One shard is in memory at a time."""
    config = ModelConfig(num_hidden_layers=layers, **LLAMA)
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in Transformer(config).state_dict().items()}
    total = sum(shape.numel() * 2 for shape in shapes.values())
    noise = (0.02 * torch.randn(2**24, generator=torch.Generator().manual_seed(0))).half()
    shard, used, weight_map = {}, 0, {}

    def flush() -> None:
        name = f"model-{len(set(weight_map.values())) + 1:05d}.safetensors"
        save_file(shard, path / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, name))
        shard.clear()

    for name, shape in shapes.items():
        if used + shape.numel() * 2 > SHARD_BYTES:
            flush()
            used = 0
        used += shape.numel() * 2
        shard[name] = noise.repeat(shape.numel() // noise.numel() + 1)[:shape.numel()].reshape(shape).clone()
    flush()
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (path / "config.json").write_text(json.dumps(config.to_dict("float16")))
    os.sync()
    return total


def forget(path: Path) -> None:
    """Ask the kernel to drop the files of a folder from its cache."""
    for file in weight_files(path):
        with open(file, "rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident() -> dict[str, float]:
    """VmHWM and RssAnon of this process, in 1e9 bytes."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return {line[0].rstrip(":"): int(line[1]) * 1024 / 1e9 for line in lines if line[0] in ("VmHWM:", "RssAnon:")}


def measure(what: str, path: Path, dtype: torch.dtype) -> dict[str, float]:
    """Read or load in this process: seconds, and resident memory; `added` is anonymous memory above the start."""
    before, start, start_cpu = resident()["RssAnon"], time.perf_counter(), time.process_time()
    if what == "read":
        buffer = bytearray(2**24)
        for file in weight_files(path):
            with open(file, "rb", buffering=0) as stream:
                while stream.readinto(buffer):
                    pass
    else:
        model = load_model(path, dtype=dtype)
    found = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - start_cpu, **resident()}
    found["added"] = found["RssAnon"] - before
    if what == "load":
        found["weights"] = sum(weight.nbytes for weight in model.state_dict().values()) / 1e9
    return found


def in_own_process(what: str, path: Path, dtype: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", what, "--folder", str(path), "--dtype", dtype]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32, help="decoder blocks; 32 is Llama-3.1-8B")
    parser.add_argument("--dtype", default="float16", choices=["float16", "bfloat16", "float32"], help="target type")
    parser.add_argument("--folder", type=Path, help="make the checkpoint here and keep it (default: temporary)")
    parser.add_argument("--measure", choices=["read", "load"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.folder, getattr(torch, args.dtype))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        path = args.folder or Path(temporary)
        path.mkdir(parents=True, exist_ok=True)
        size = make_folder(path, args.layers) / 1e9
        print(f"{size:.2f} GB of fp16 weights in {len(weight_files(path))} shards, loaded to {args.dtype}; "
              f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
              f"load average {os.getloadavg()[0]:.1f}\n")
        print("| | seconds | GB/s | CPU seconds | RssAnon, GB | of it loaded | loaded / weights | VmHWM, GB |\n"
              "|---|---|---|---|---|---|---|---|")
        for state in ("cold", "warm"):
            for what in ("read", "load"):
                if state == "cold":
                    forget(path)
                row = in_own_process(what, path, args.dtype)
                share = f"{row['added'] / row['weights']:.3f}" if what == "load" else ""
                print(f"| {what}, {state} | {row['seconds']:.1f} | {size / row['seconds']:.2f} | {row['cpu']:.1f} | "
                      f"{row['RssAnon']:.2f} | {row['added']:.2f} | {share} | {row['VmHWM']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
