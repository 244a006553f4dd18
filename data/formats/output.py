"""The four output files of a conversion, written aside as lines arrive and renamed together at the end."""

import hashlib
import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from data.files import naming

FILES = ("tools.jsonl", "examples.jsonl", "queries.jsonl", "rejected.jsonl")


class Outputs(AbstractContextManager):
    """Line writers that hash and count what they write. As a context manager: an exception leaves no file behind."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.aside = {name: folder / f".{name}.{os.getpid()}.tmp" for name in FILES}
        self.files = {name: path.open("wb") for name, path in self.aside.items()}
        self.hashes = {name: hashlib.sha256() for name in FILES}
        self.lines = dict.fromkeys(FILES, 0)

    def write(self, name: str, data: bytes) -> None:
        with naming(self.folder / name):
            self.files[name].write(data)
        self.hashes[name].update(data)
        self.lines[name] += 1

    def report(self) -> dict[str, Any]:
        return {name: {"lines": self.lines[name], "sha256": self.hashes[name].hexdigest()} for name in FILES}

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._place()
        finally:
            for name, file in self.files.items():
                with suppress(OSError):                     # what could not be written is not wanted any more
                    file.close()
                self.aside[name].unlink(missing_ok=True)

    def _place(self) -> None:
        """Put all files in their place once every one of them is whole on the disk."""
        for name, file in self.files.items():
            with naming(self.folder / name):
                file.flush()
                os.fsync(file.fileno())
        for name in self.files:
            os.replace(self.aside[name], self.folder / name)


class Seen:
    """Which tool documents were written already, in constant memory.

    A direct-mapped table of 128-bit hashes: a repeat is recognised unless another document has taken its slot since.
    `split` removes what remains.
    """

    def __init__(self, slots: int = 1 << 18) -> None:
        self.slots = slots
        self.table = bytearray(16 * slots)

    def add(self, data: bytes) -> bool:
        """Remember the document; True if it was not there before."""
        digest = hashlib.blake2b(data, digest_size=16).digest()
        at = 16 * (int.from_bytes(digest[:8], "little") % self.slots)
        if self.table[at:at + 16] == digest:
            return False
        self.table[at:at + 16] = digest
        return True
