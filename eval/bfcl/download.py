"""`tooldev.py data bfcl`: put the leaderboard's data into a folder, with a manifest of hashes.

The data come from the `bfcl-eval` package through pip (downloaded, unpacked, never installed or imported), or without
any network from a package file or a clone given with --from. Data of 2024-09-20, the paper's, are in no package: they
need a clone of ShishirPatil/gorilla at 70b6a4a2144597b1f99d1f4d3185d35d7ee532a4.
"""

import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from data.files import claim, sha256_file, write_text
from eval.bfcl.benchmark import load
from eval.bfcl.entries import CATEGORIES, FILE, IRRELEVANCE, LATER_NAMES, SIZES_2024

PACKAGE = "bfcl-eval"
MAX_FILE_BYTES = 64_000_000
WANTED = {*CATEGORIES, *IRRELEVANCE}


def fetch_from(source: Path, out: Path, *, told: str = "", overwrite: bool = False) -> dict:
    """Copy the single-turn files of a folder, clone or package into `out` and write manifest.json; return it.

    Raises:
        FileNotFoundError, ValueError: the source is missing or holds no such data, or `out` holds something else.
    """
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file or folder; give a clone of the leaderboard or a package file")
    files = dict(_files(source))
    if not files:
        raise ValueError(f"{source}: no BFCL_v*_*.json of a single-turn category inside; is it {PACKAGE} or its "
                         "repository?")
    editions = sorted({FILE.search(name)[1] for name in files})
    newest = editions[-1]
    kept = {name: text for name, text in sorted(files.items()) if FILE.search(name)[1] == newest}
    written = {}
    with claim(out, "tooldev.py data", inputs=[(source.name, source)], writes=kept, overwrite=overwrite) as claimed:
        for name, text in kept.items():
            write_text(out / name, text)
            lines = sum(bool(line.strip()) for line in text.split("\n"))
            written[name] = {"sha256": sha256_file(out / name), "lines": lines}
        benchmark = load(out)
        counts = Counter(entry.category for entry in benchmark.entries.values())
        manifest = claimed.finish(
            written, benchmark="bfcl", edition=benchmark.edition, rules=benchmark.rules, source=told or str(source),
            licence="Apache-2.0", entries=counts,
            sizes_of_2024_09_20={c: counts.get(c) for c in SIZES_2024} == SIZES_2024)
    print(f"{out}: {benchmark.edition}, {sum(counts.values())} entries in {len(counts)} categories")
    if newest != "v3":
        print("these are not the data of the paper's table (2024-09-20): live scores are not comparable with it")
    return manifest


def _wanted(path: str) -> str | None:
    """The name a file gets in the output folder, None if it is not wanted."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    match = FILE.match(parts[-1]) if parts else None
    if not match or LATER_NAMES.get(match[2], match[2]) not in WANTED or "unused_datasets" in parts:
        return None
    return f"possible_answer/{parts[-1]}" if len(parts) > 1 and parts[-2] == "possible_answer" else parts[-1]


def _files(source: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of every wanted file of a folder, a wheel or a source package; nothing is written or run."""
    if source.is_dir():
        for path in sorted(source.rglob("BFCL_v*.json")):
            if name := _wanted(path.relative_to(source).as_posix()):
                yield name, _text(path.read_bytes(), path.name)
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as package:
            for member in package.infolist():
                if (name := _wanted(member.filename)) and member.file_size <= MAX_FILE_BYTES:
                    yield name, _text(package.read(member), member.filename)
    elif tarfile.is_tarfile(source):
        with tarfile.open(source) as package:
            for member in package:
                if (name := _wanted(member.name)) and member.isfile() and member.size <= MAX_FILE_BYTES:
                    yield name, _text(package.extractfile(member).read(), member.name)
    else:
        raise ValueError(f"{source}: neither a folder nor a wheel nor a source package")


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8 ({error.reason}); the package is damaged") from None
