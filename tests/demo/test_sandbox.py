"""The demo in a folder where nothing has been yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.settings import load
from demo.sandbox import alone


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as somebody else")
def test_the_engines_user_may_pass_the_folder_that_the_demo_makes(tmp_path: Path) -> None:
    with alone(load(state_dir=tmp_path / "state" / "run")):
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o711
