"""Secrets by file, as Docker and Kubernetes mount them: what is wrong with one is said before anything starts, without it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from config.by_file import LONGEST_BYTES, SecretFileError, is_exposed, read_secret, with_password
from config.settings import DEFAULT_FILE, SettingsError, load
from tasks.services import services
from tests.support import profiles

SECRET = "p@ss/w:rd %41?#é"  # noqa: S105 - a test's own
VARIABLE = "STOKER_REDIS_PASSWORD_FILE"


@pytest.fixture
def held(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_CONFIG", str(DEFAULT_FILE))
    for name in ("STOKER_DATABASE_URL", "STOKER_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_password_goes_into_the_url_that_is_given_beside_it(monkeypatch: pytest.MonkeyPatch, held: Path) -> None:
    monkeypatch.setenv("STOKER_DATABASE_URL", "postgresql://stoker@postgres:5432/stoker?sslmode=verify-full")
    monkeypatch.setenv("STOKER_DATABASE_PASSWORD_FILE", str(held))
    monkeypatch.setenv("STOKER_REDIS_URL", "redis://valkey:6379/3")
    monkeypatch.setenv(VARIABLE, str(held))
    settings = load()
    read = psycopg.conninfo.conninfo_to_dict(settings.database_dsn)
    assert read == {
        "user": "stoker",
        "password": SECRET,
        "host": "postgres",
        "port": "5432",
        "dbname": "stoker",
        "sslmode": "verify-full",
    }
    asked = redis.Redis.from_url(settings.redis_client_url).connection_pool.connection_kwargs
    assert (asked["password"], asked["host"], asked["db"]) == (SECRET, "valkey", 3)


def test_the_settings_file_may_have_the_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, held: Path) -> None:
    toml = profiles.write(tmp_path / "stoker.toml", {"redis_url": "rediss://worker@valkey/0"})
    monkeypatch.setenv(VARIABLE, str(held))
    with profiles.in_force(toml):
        found = urlsplit(load().broker_url)
    assert (found.scheme, found.username, unquote(found.password or ""), found.path) == (
        "rediss",
        "worker",
        SECRET,
        "/0",
    )


def test_a_whole_url_may_be_the_secret(monkeypatch: pytest.MonkeyPatch, held: Path) -> None:
    held.write_text("redis://u:p@valkey:6379/1\n")
    monkeypatch.setenv("STOKER_REDIS_URL_FILE", str(held))
    assert load().broker_url == "redis://u:p@valkey:6379/1"


def test_without_a_file_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_REDIS_URL_FILE", "")
    assert load().redis_url is None


def test_services_get_the_file_and_not_what_is_in_it(monkeypatch: pytest.MonkeyPatch, held: Path) -> None:
    monkeypatch.setenv("STOKER_REDIS_URL", "redis://valkey:6379/3")
    monkeypatch.setenv(VARIABLE, str(held))
    for service in services(load()):
        assert "STOKER_REDIS_URL" not in service.env
        assert not any(SECRET in value or "p%40ss" in value for value in (*service.env.values(), *service.argv))


@pytest.mark.parametrize(
    ("given_too", "url", "said"),
    [
        ({"STOKER_REDIS_URL_FILE": "{file}"}, "redis://h", "expected one of them, got both; unset one"),
        ({VARIABLE: "{file}"}, "", "set STOKER_REDIS_URL, without a password"),
        ({VARIABLE: "{file}"}, "redis://:other@h", "expected a URL without a password, got one with"),
        ({VARIABLE: "{file}"}, "redis+socket:///run/valkey.sock", "got one of a socket"),
        ({VARIABLE: "{file}-gone"}, "redis://h", "No such file or directory; mount it, or mend the path"),
        ({VARIABLE: "{folder}"}, "redis://h", "Is a directory"),
    ],
)
def test_what_cannot_be_is_said_by_the_name_of_the_variable(
    monkeypatch: pytest.MonkeyPatch, held: Path, given_too: dict[str, str], url: str, said: str
) -> None:
    monkeypatch.setenv("STOKER_REDIS_URL", url)
    for name, value in given_too.items():
        monkeypatch.setenv(name, value.format(file=held, folder=held.parent))
    with pytest.raises(SettingsError, match=said) as refused:
        load()
    assert next(iter(given_too)) in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "other" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b" \n", "got an empty file"),
        (b"one\ntwo", "expected one line of text"),
        (b"\xff\xfe", "expected one line of text"),
        (b"x" * (LONGEST_BYTES + 1), "at most 4096 bytes"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(held: Path, text: bytes, said: str) -> None:
    held.write_bytes(text)
    with pytest.raises(SecretFileError, match=said):
        read_secret(VARIABLE, held)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o604, 0o444])
@pytest.mark.parametrize("user", [0, 10_001, 1_000])
@pytest.mark.parametrize("owner", [0, 10_001, 1_000])
def test_a_user_keeps_others_from_a_secret_of_his_own(mode: int, user: int, owner: int) -> None:
    """Where it was mounted by somebody else, or root reads it, its mode is not the reader's to choose."""
    status = os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, owner, 9, 0, 0, 0))
    assert is_exposed(status, user) == (user == owner != 0 and mode not in {0o600, 0o400})


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1))
def test_every_password_survives_the_url(password: str) -> None:
    url = urlsplit(with_password(VARIABLE, "redis://user@valkey:6379/0?a=b", password))
    assert (url.username, unquote(url.password or ""), url.hostname, url.port) == ("user", password, "valkey", 6379)
    assert (url.path, url.query) == ("/0", "a=b")
