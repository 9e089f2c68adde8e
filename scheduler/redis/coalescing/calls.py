"""A script called with as little in between as there can be: what never changes of the command is packed once.

For the one script that every submit waits for. redis-py's own way packs all keys anew and takes a connection out of a pool
and puts it back, which costs more than the script itself.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, cast

import redis
from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.commands.core import Script
    from redis.connection import AbstractConnection


class PackedCall:
    """One script on fixed keys. Each thread keeps a connection of its own; a forked child opens new ones."""

    def __init__(self, client: redis.Redis, script: Script, keys: Sequence[str]) -> None:
        self._client, self._script, self._keys = client, script, list(keys)
        fixed = ("EVALSHA", script.sha, str(len(keys)), *keys)
        self._head, self._count = b"".join(map(_bulk, fixed)), len(fixed)
        self._local = threading.local()

    def __call__(self, args: Sequence[str | int]) -> list[Any]:
        """The script's reply. For scripts that may run twice: a connection that broke is tried once more, opened anew."""
        command = b"*%d\r\n%b%b" % (self._count + len(args), self._head, _packed(args))
        connection = self._connection()
        try:
            connection.send_packed_command([command], check_health=False)  # type: ignore[no-untyped-call]
            return cast("list[Any]", connection.read_response())
        except NoScriptError:
            pass  # flushed, or the first call: redis-py's own way loads it
        except redis.ResponseError:
            raise
        except (redis.ConnectionError, redis.TimeoutError):
            self.close()
        except BaseException:
            # A time limit, say, between the question and its answer: the next caller would be given this one's.
            self.close()
            raise
        return cast("list[Any]", self._script(keys=self._keys, args=list(args), client=self._client))

    def close(self) -> None:
        """Close this thread's connection; the next call opens another."""
        mine: tuple[int, AbstractConnection] | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if mine is not None and mine[0] == os.getpid():
            mine[1].disconnect()  # type: ignore[no-untyped-call]

    def _connection(self) -> AbstractConnection:
        mine: tuple[int, AbstractConnection] | None = getattr(self._local, "connection", None)
        if mine is None or mine[0] != os.getpid():
            pool = self._client.connection_pool
            # Not taken out of the pool: that would keep it when its thread is gone.
            mine = self._local.connection = (os.getpid(), pool.connection_class(**pool.connection_kwargs))
        return mine[1]


def _packed(args: Sequence[str | int]) -> bytes:
    texts = [value if isinstance(value, str) else str(value) for value in args]
    packed = "".join([f"${len(text)}\r\n{text}\r\n" for text in texts])
    # As most are: then bytes are as many as characters, and one step encodes all.
    return packed.encode() if packed.isascii() else b"".join(map(_bulk, texts))


def _bulk(value: str | int) -> bytes:
    text = value.encode() if isinstance(value, str) else b"%d" % value
    return b"$%d\r\n%b\r\n" % (len(text), text)
