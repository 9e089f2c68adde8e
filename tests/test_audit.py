"""An audit that could look nothing up says so, and never passes for one that found nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import audit

GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("dependencies", "verdict"),
    [
        ([GOOD], (0, ["1 dependencies looked up (pypi), 0 known faults"])),
        ([GOOD, BAD], (1, ["bad 2: PYSEC-1, mended in 3", "2 dependencies looked up (pypi), 1 known faults"])),
        (
            [GOOD, SKIPPED],
            (0, ["1 dependencies looked up (pypi), 0 known faults; 1 are unknown there and were NOT looked up"]),
        ),
        ([SKIPPED, SKIPPED], None),
        ([], None),
    ],
)
def test_what_was_looked_up_is_counted(dependencies: list[Any], verdict: Any) -> None:
    assert audit.judge({"dependencies": dependencies}, "pypi") == verdict


def test_without_a_network_it_says_that_nothing_was_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "one.lock"
    lock.write_text("attrs==25.1.0 --hash=sha256:" + "0" * 64 + "\n")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert audit.main(["pypi"], lock) == 0
    assert "NOT AUDITED" in capsys.readouterr().out
