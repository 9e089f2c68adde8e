"""The code of the version before, out of this repository's history: what an upgrade has to live with."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
# The last commit whose tables were at revision 0004. The next release takes the one before it.
BEFORE: Final = "a51744430fff6330b43f03da3772407a730267b2"
_ROOMS: Final = ("config", "scheduler", "tasks", "demo")


def unpacked(into: Path) -> Path:
    """The rooms of that version under this folder.

    A shallow clone has no history to take them from: an expected failure, with the remedy. A whole clone that lacks the
    commit fails, for then somebody has rewritten what was released.
    """
    archived = _git("archive", BEFORE, *_ROOMS)
    if archived.returncode:
        if _git("rev-parse", "--is-shallow-repository").stdout.strip() == b"false":
            pytest.fail(f"the history has no {BEFORE}: {archived.stderr.decode()}")
        pytest.xfail("no history, so no version before; `git fetch --unshallow`")
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as archive:
        archive.extractall(into, filter="data")
    return into


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    # Whoever owns the clone: only its history is read.
    return subprocess.run(["git", "-c", "safe.directory=*", "-C", ROOT, *arguments], capture_output=True, check=False)
