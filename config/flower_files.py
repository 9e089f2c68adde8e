"""Flower's two secrets, each in a file that its owner alone can read: the password, and the key that signs cookies."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from config.by_file import read_secret

if TYPE_CHECKING:
    from config.locations import Locations

FLOWER_USER: Final = "stoker"
PASSWORD_FILE: Final = "STOKER_FLOWER_PASSWORD_FILE"  # noqa: S105 - the name of a variable

_OTHERS: Final = 0o077
_BYTES: Final = 24


class FlowerFileError(ValueError):
    """A secret of Flower's cannot be used: one line with what was expected, what is there and what to do."""


def password_file(locations: Locations) -> Path:
    """Where the password of Flower's user stands: where the environment says, else in the state folder."""
    given = os.environ.get(PASSWORD_FILE)
    return Path(given) if given else locations.state_dir / "flower-password"


def password(locations: Locations) -> str:
    """The password of Flower's user: what stands in the file that the environment names, else one of our own making.

    Raises:
        SecretFileError: the file that was named cannot be used.
        FlowerFileError: our own cannot be.
    """
    given = os.environ.get(PASSWORD_FILE)
    return read_secret(PASSWORD_FILE, Path(given)) if given else secret(password_file(locations))


def cookie_file(locations: Locations) -> Path:
    """Where the key of Flower's cookies stands, so that a restart logs nobody out."""
    return locations.state_dir / "flower-cookie-secret"


def secret(path: Path) -> str:
    """What the file holds; a new secret where there is no file.

    Raises:
        FlowerFileError: it is empty, others can read it, or it cannot be read or made.
    """
    try:
        _make(path)
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read().strip()
    except (OSError, ValueError) as error:
        raise FlowerFileError(f"{path}: expected a file of ASCII text that can be read or made, got {error}") from error
    if mode & _OTHERS:
        raise FlowerFileError(
            f"{path}: expected a file that its owner alone can read, got mode {mode & 0o777:04o}; run: chmod 600 {path}"
        )
    if not text:
        raise FlowerFileError(f"{path}: expected a password, got an empty file; write one, or delete it for a new one")
    return text


def _make(path: Path) -> None:
    """A new secret, unless the file is there. Nobody ever sees half of it, and of two who make one at once one wins."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(secrets.token_urlsafe(_BYTES) + "\n")
    try:
        os.link(new, path)
    except FileExistsError:
        pass
    finally:
        new.unlink()
