"""Binds a worker to a tenant and unbinds it: one bounded call to the worker, by HTTP or by a command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from config.profile import ExecCall, HttpCall
from config.settings import python_command
from tasks.launchers import wire
from tasks.launchers.environment import shareable
from tasks.launchers.marks import ACTIVATION_KEY, ENDPOINT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.profile import Call, Profile

Reason: TypeAlias = Literal["refused", "timeout", "unreachable"]

_REMEDIES: Final[dict[Reason, str]] = {
    "refused": "read the worker's log; a worker bound to another tenant or a later epoch refuses for good",
    "timeout": "raise the profile's activate_s, or see what keeps the worker busy",
    "unreachable": "read the worker's log; it ended, or does not listen where it was told to",
}


class ActivationFailed(Exception):  # noqa: N818 - named after what happened
    """The worker did not say yes. After `timeout` and `unreachable` it may have acted all the same.

    Carries neither the token nor the key, nor anything that the worker answered, which might.
    """

    def __init__(self, reason: Reason, what: str, got: str) -> None:
        super().__init__(reason, what, got)
        self.reason = reason
        self.what = what
        self.got = got

    def __str__(self) -> str:
        return f"{self.what}: expected a yes, got {self.got}; {_REMEDIES[self.reason]}"


@dataclass(frozen=True)
class _Worker:
    profile: Profile
    endpoint: str
    activation_key: str = field(repr=False)


def activate(  # noqa: PLR0917 - the facts of one claim, each of them needed
    profile: Profile, endpoint: str, activation_key: str, tenant: str, epoch: int, token: str, timeout_s: float
) -> None:
    """Tell the worker which tenant it serves from now on, at which epoch, and by which token. No hook, nothing to do.

    Raises:
        ActivationFailed: the worker refused, could not be reached, or took longer than `timeout_s` seconds in all.
    """
    worker = _Worker(profile, endpoint, activation_key)
    _call(profile.activation, "activate", worker, {"tenant": tenant, "epoch": epoch, "token": token}, timeout_s)


def deactivate(  # noqa: PLR0917 - as activate
    profile: Profile, endpoint: str, activation_key: str, tenant: str, epoch: int, token: str, timeout_s: float
) -> None:
    """Tell the worker that the claim of this epoch has ended. No hook, nothing to do.

    Raises:
        ActivationFailed: as for `activate`.
    """
    worker = _Worker(profile, endpoint, activation_key)
    _call(profile.deactivation, "deactivate", worker, {"tenant": tenant, "epoch": epoch, "token": token}, timeout_s)


def _call(call: Call | None, verb: str, worker: _Worker, claim: dict[str, str | int], timeout_s: float) -> None:
    what = f"{verb} a worker of {worker.profile.name} at {worker.endpoint}"
    match call:
        case None:
            return
        case HttpCall():
            request = wire.post(worker.endpoint, call.path, worker.activation_key, json.dumps(claim).encode())
            _exchange(what, worker.endpoint, request, timeout_s)
        case ExecCall():
            environment = {
                **shareable(),
                **worker.profile.environment,
                **{f"STOKER_{name.upper()}": str(value) for name, value in claim.items()},
                ENDPOINT: worker.endpoint,
                ACTIVATION_KEY: worker.activation_key,
            }
            _run(what, python_command(call.command), environment, timeout_s)


def _exchange(what: str, endpoint: str, request: bytes, timeout_s: float) -> None:
    # A socket and not http.client: its timeout is for each read, so a worker that drips its answer would hold this call
    # past the deadline that the ladder of deadlines promises.
    deadline = time.monotonic() + timeout_s
    try:
        with socket.create_connection(wire.address(endpoint), timeout_s) as connection:
            connection.settimeout(_left(deadline))
            connection.sendall(request)
            line = _status_line(connection, deadline)
    except TimeoutError as error:
        raise ActivationFailed("timeout", what, f"no answer in {timeout_s:g} s") from error
    except OSError as error:
        raise ActivationFailed("unreachable", what, error.strerror or type(error).__name__) from error
    code = wire.status(line)
    if code is None:
        raise ActivationFailed("unreachable", what, "an answer that is not HTTP" if line else "a closed connection")
    if not wire.is_yes(code):
        raise ActivationFailed("refused", what, f"status {code}")


def _status_line(connection: socket.socket, deadline: float) -> bytes:
    line = b""
    while b"\n" not in line and len(line) < wire.STATUS_LINE_BYTES_MAX:
        connection.settimeout(_left(deadline))
        chunk = connection.recv(wire.STATUS_LINE_BYTES_MAX)
        if not chunk:
            break
        line += chunk
    return line


def _left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _run(what: str, command: tuple[str, ...], environment: Mapping[str, str], timeout_s: float) -> None:
    try:
        # Its output is dropped: a hook that prints its environment would write the token into our log.
        hook = subprocess.Popen(  # noqa: S603 - the operator's own command, as an argument list, no shell
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise ActivationFailed("unreachable", what, f"{error.strerror} ({command[0]})") from error
    try:
        code = hook.wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ActivationFailed("timeout", what, f"no end in {timeout_s:g} s ({command[0]})") from error
    finally:
        if hook.returncode is None:
            # The whole session: a script's children would outlive it.
            with suppress(ProcessLookupError):
                os.killpg(hook.pid, signal.SIGKILL)
            hook.wait()
    if code != 0:
        raise ActivationFailed("refused", what, f"exit code {code} ({command[0]})")
