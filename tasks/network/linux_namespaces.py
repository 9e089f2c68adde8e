"""To act inside a network namespace, without a shell, a fork or a way to forget the way back."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from pyroute2 import netns

from scheduler.errors import Permanent, Temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMESPACES: Final = Path("/run/netns")
_Result = TypeVar("_Result")


def inside(namespace: str, work: Callable[[], _Result]) -> _Result:
    """Run `work` in the named network namespace; "" is the one that this process is in.

    It runs in a thread of its own, for a namespace is a property of the thread: the sockets that it opens and the
    processes that it starts belong there, and whatever happens no other thread ends up there.
    """
    if not namespace:
        return work()
    with opened(namespace) as fd, ThreadPoolExecutor(1, thread_name_prefix=f"netns-{namespace}") as thread:
        return thread.submit(_enter_and, fd, namespace, work).result()


@contextmanager
def opened(namespace: str) -> Iterator[int]:
    """A descriptor of the namespace, as the kernel wants to be told of one."""
    try:
        fd = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _absent(namespace, "no such namespace") from error
    try:
        yield fd
    finally:
        os.close(fd)


def identity() -> str:
    """Which network namespace this thread is in: a name may come to mean another one."""
    return str(Path("/proc/thread-self/ns/net").readlink())


def _enter_and(fd: int, namespace: str, work: Callable[[], _Result]) -> _Result:
    try:
        netns.setns(fd, flags=0)
    except PermissionError as error:
        raise Permanent(
            f"network namespace {namespace}",
            expected="the right to enter it",
            got=str(error),
            remedy="run as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN, or in a sandbox of tasks.network.sandbox",
        ) from error
    except OSError as error:  # a file where a namespace once was mounted
        raise _absent(namespace, str(error)) from error
    return work()


def _absent(namespace: str, got: str) -> Temporary:
    return Temporary(
        f"network namespace {namespace}",
        expected=f"one mounted at {NAMESPACES / namespace}",
        got=got,
        remedy="it is tried again; start what lives in it, or `ip netns add` it",
    )
