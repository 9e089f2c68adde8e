"""Every block of Python in docs/api.md does what it says, in one program of a user's, against a real deployment."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.engines import EmbeddedValkey
from tests.support.coalescing_lab import valkey
from tests.support.deployment import Deployment

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "api.md").read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def broker_apart(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with valkey(tmp_path / "state") as server:
        yield server


def test_the_examples_of_the_api_hold(deployment: Deployment, broker_apart: EmbeddedValkey, tmp_path: Path) -> None:
    program = tmp_path / "examples.py"
    # The deployment's profile of that contract has another name here.
    program.write_text("\n".join(BLOCKS).replace('"duckdb"', '"desk"'))
    socket = broker_apart.locations.valkey_socket
    said = subprocess.run(
        [sys.executable, program],
        cwd=ROOT,
        env={
            **deployment.environment(),
            "PYTHONPATH": str(ROOT),
            "BROKER": deployment.settings.broker_url,
            "MY_BROKER": f"redis+socket://{socket}?virtual_host=0",
        },
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert said.returncode == 0, said.stderr[-3000:]
    assert re.match(r"10\.60\.0\.\d+ [0-9a-f:]{17}\n", said.stdout)
