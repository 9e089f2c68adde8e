"""The users of deploy/valkey: who starts it without a password is told, and no script of Stoker's is left out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "deploy" / "valkey"
# `publish` in _names.lua is given the command.
CALLED = re.compile(r"redis\.call\('(\w+)'|publish\('(\w+)'|push_again\([^)]*'(\w+)'\)")


def allowed() -> set[str]:
    words = (HERE / "users.acl").read_text().split()
    return {word[1:].upper() for word in words if word.startswith("+")}


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scheduler" / "redis").rglob("*.lua")))
def test_a_script_calls_what_the_user_may_call(script: str) -> None:
    (path,) = (ROOT / "scheduler" / "redis").rglob(script)
    called = {next(filter(None, names)) for names in CALLED.findall(path.read_text())}
    assert called <= allowed(), (
        "add it to deploy/valkey/users.acl, and say so in the CHANGELOG: whoever runs it must, too"
    )


def test_an_empty_password_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "empty"
    secret.touch()
    env = {"PATH": "/usr/bin:/bin", "VALKEY_PASSWORD_FILE": str(secret), "VALKEY_RUN_DIR": str(tmp_path)}
    ended = subprocess.run([HERE / "serve.sh"], env=env, capture_output=True, text=True, check=False, timeout=10)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "expected the password of the user stoker" in ended.stderr
