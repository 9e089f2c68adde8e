"""Secrets that come as files: STOKER_DATABASE_URL_FILE, STOKER_REDIS_PASSWORD_FILE, ... as Docker and Kubernetes mount them.

A variable can be read in the process table by its user, is inherited by every child and ends up in crash reports; a
file is none of that. What stands in one is never part of an error.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

ENGINES: Final = ("database", "redis")
LONGEST_BYTES: Final = 4_096
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class SecretFileError(ValueError):
    """A file that holds a secret cannot be used: the variable that names it, what was expected, what is there, the remedy."""


def variables(engine: str) -> tuple[str, str]:
    """The two variables by which an engine's secret is named: a file with the whole URL, or with its password alone."""
    name = f"STOKER_{engine.upper()}"
    return f"{name}_URL_FILE", f"{name}_PASSWORD_FILE"


def is_named(engine: str, environ: Mapping[str, str]) -> bool:
    """Whether a secret of this engine comes as a file."""
    return any(environ.get(variable) for variable in variables(engine))


def engine_url(engine: str, configured: str | None, environ: Mapping[str, str]) -> str | None:
    """The URL of an engine whose secret is in a file; None where no file is named, and what is configured holds.

    Raises:
        SecretFileError: a file cannot be used, or the same thing is given twice.
    """
    by_url, by_password = variables(engine)
    url_file, password_file = environ.get(by_url), environ.get(by_password)
    if url_file:
        plain = by_url.removesuffix("_FILE")
        if environ.get(plain):
            raise SecretFileError(f"{by_url} and {plain}: expected one of them, got both; unset one")
        configured = read_secret(by_url, Path(url_file))
    if not password_file:
        return configured if url_file else None
    if not configured:
        remedy = f"set STOKER_{engine.upper()}_URL, without a password"
        raise SecretFileError(f"{by_password}: expected a URL into which the password goes, got none; {remedy}")
    return with_password(by_password, configured, read_secret(by_password, Path(password_file)))


def with_password(variable: str, url: str, password: str) -> str:
    """The URL with this password in it, written so that every character of it survives."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    if ":" in user:
        raise SecretFileError(f"{variable}: expected a URL without a password, got one with; take it out of the URL")
    if not parts.netloc:
        raise SecretFileError(f"{variable}: expected a URL of a host, got one of a socket; unset {variable}")
    start = url.index("//") + 2
    return f"{url[:start]}{user}:{quote(password, safe='')}@{host}{url[start + len(parts.netloc) :]}"


def read_secret(variable: str, path: Path) -> str:
    """What the file holds, without the white space around it.

    Raises:
        SecretFileError: there is none, it holds nothing, more than one line or more than 4 KiB, or it is this user's and
            others may read it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            held = file.read(LONGEST_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SecretFileError(
            f"{variable}: expected a file with a secret at {path}, got {reason}; mount it, or mend the path"
        ) from None
    if is_exposed(status, os.geteuid()):
        raise SecretFileError(
            f"{variable}: expected a file that its owner alone can read, got mode {status.st_mode & 0o777:04o};"
            f" run: chmod 600 {path}"
        )
    try:
        text = held.decode().strip()
    except UnicodeDecodeError:
        text = "\0"  # refused below, as what is no line of text
    if not text:
        raise SecretFileError(f"{variable}: expected a secret in {path}, got an empty file; write one into it")
    if len(held) > LONGEST_BYTES or not text.isprintable():
        raise SecretFileError(
            f"{variable}: expected one line of text in {path}, of at most {LONGEST_BYTES} bytes, got more; name the right file"
        )
    return text


def is_exposed(status: os.stat_result, user: int) -> bool:
    """Whether others can read a file that its reader could have kept from them.

    A mounted secret belongs to whoever mounted it, with the mode that he gave it: Docker's and Kubernetes' are read by
    other users on purpose, and root reads whatever it is given.
    """
    return user != 0 and status.st_uid == user and bool(status.st_mode & _OTHERS)
