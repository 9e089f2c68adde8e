"""Flower asks for a password that its owner alone can read, and hands nobody the result of a claim."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.flower_files import FLOWER_USER, FlowerFileError, secret
from tests.support import beside, profiles
from tests.support.eventually import eventually

PORT = 20_900 + beside.NUMBER
PASSWORD = "correct-horse"  # noqa: S105 - a test's own


def flower(folder: Path, password: Path) -> subprocess.Popen[str]:
    """Flower alone: what it refuses, it refuses whatever its broker does."""
    toml = profiles.write(folder / "stoker.toml", {"profiles": {"echo": profiles.echo()}, "flower": {"port": PORT}})
    env = {
        **os.environ,
        "STOKER_CONFIG": str(toml),
        "STOKER_STATE_DIR": str(folder),
        "STOKER_REDIS_URL": "redis://127.0.0.1:1/0",
        "STOKER_FLOWER_PASSWORD_FILE": str(password),
    }
    # As from an installed wheel: nobody says where the configuration is, and no file of this folder is it.
    argv = [sys.executable, "-m", "celery", "-A", "tasks", "flower"]
    return subprocess.Popen(argv, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def status(path: str, password: str | None = None) -> int:
    """What a request is answered with; 0: nobody listens."""
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}")
    if password is not None:
        key = base64.b64encode(f"{FLOWER_USER}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {key}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code
    except urllib.error.URLError:
        return 0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("flower")
    password = folder / "password"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    with flower(folder, password) as process:
        eventually(lambda: status("/healthcheck") == 200, "Flower answers", within_s=30.0)
        yield
        process.kill()
        process.communicate()


@pytest.mark.parametrize("password", [None, "", "wrong", PASSWORD + "x"])
@pytest.mark.parametrize("path", ["/tasks", "/workers", "/broker", "/api/workers", "/api/task/types"])
@pytest.mark.usefixtures("running")
def test_without_the_password_nothing_is_shown(path: str, password: str | None) -> None:
    assert status(path, password) == 401


@pytest.mark.usefixtures("running")
def test_with_the_password_pages_are_shown() -> None:
    assert status("/tasks", PASSWORD) == 200
    assert status("/api/task/types", PASSWORD) == 200


@pytest.mark.usefixtures("running")
def test_a_result_is_shown_to_nobody() -> None:
    """A claim's holds the token of its worker. Nor can it be written over."""
    assert status("/api/task/abort/7", PASSWORD) == 404
    assert status("/api/task/result/7", PASSWORD) == 404
    assert status("/api/task/apply/pool.claim", PASSWORD) == 404


@pytest.mark.parametrize(("text", "said"), [(None, "No such file"), ("\n", "an empty file")])
def test_flower_does_not_start_with_a_bad_password_file(tmp_path: Path, text: str | None, said: str) -> None:
    password = tmp_path / "password"
    if text is not None:
        password.write_text(text)
    with flower(tmp_path, password) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said in told
    assert "Traceback" not in told


def test_a_secret_is_made_once_and_its_owners_alone(tmp_path: Path) -> None:
    made = secret(tmp_path / "new" / "password")
    assert len(made) >= 32
    assert secret(tmp_path / "new" / "password") == made
    assert stat.S_IMODE((tmp_path / "new" / "password").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["password"]


def test_a_secret_of_ours_that_others_can_read_is_refused(tmp_path: Path) -> None:
    made = tmp_path / "password"
    secret(made)
    made.chmod(0o644)
    with pytest.raises(FlowerFileError, match="chmod 600"):
        secret(made)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FlowerFileError, match="expected a file of ASCII text"):
        secret(tmp_path)
