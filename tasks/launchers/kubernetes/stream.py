"""One list and one watch of a kind of object, in one thread, for all who wait for one of them.

A thousand spawns in flight are a thousand coroutines that are woken when their own pod changes. The watch is resumed where it
broke; only when the server no longer knows that place (410 Gone) is everything listed anew, and what changed meanwhile told.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from tasks.launchers.kubernetes.api import Away, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks.launchers.kubernetes.api import Api, Json

log = structlog.get_logger(__name__)

_GONE: Final = 410
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_CLOSE_S: Final = 5.0
# Autoscalers cordon no node that they are about to take away: they taint it.
_TAKEN_AWAY: Final = frozenset(
    {
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "ToBeDeletedByClusterAutoscaler",
        "node.kubernetes.io/out-of-service",
        "node.cloudprovider.kubernetes.io/shutdown",
    }
)
_GONE_MAX: Final = 4_096
_Follower = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class Stream:
    """What the server has of one kind of object, as of a moment ago. Runs while anybody follows, and a watch longer."""

    def __init__(self, api: Api, path: str, selector: str, keep: Callable[[Json], Json]) -> None:
        self._api = api
        self._path = path
        self._selector = selector
        self._keep = keep
        self._lock = threading.Lock()
        self._objects: dict[str, Json] = {}
        self._gone: dict[str, None] = {}  # oldest first
        self._followers: dict[str | None, set[_Follower]] = {}
        self._thread: threading.Thread | None = None
        self._response: Any = None
        self._closed = threading.Event()
        self._version: str | None = None
        self.listed = 0  # times that everything was listed

    @property
    def is_known(self) -> bool:
        """Whether everything was listed once, so that what `get` does not find was not there then."""
        return self.listed > 0

    def get(self, name: str) -> Json | None:
        """The object of that name, if it was there a moment ago."""
        with self._lock:
            return self._objects.get(name)

    def is_gone(self, uid: str) -> bool:
        """Whether the object of that uid was there and is no more; of those that went long ago it is not known any more."""
        with self._lock:
            return uid in self._gone

    def all(self) -> list[Json]:
        """Every object."""
        with self._lock:
            return list(self._objects.values())

    @contextmanager
    def follow(self, name: str | None) -> Iterator[asyncio.Event]:
        """An event of the running loop that is set when the object (None: any) changes, or all is listed. Clear it, then look."""
        follower = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._followers.setdefault(name, set()).add(follower)
            self._start()
        try:
            yield follower[1]
        finally:
            with self._lock:
                self._followers[name].discard(follower)
                if not self._followers[name]:
                    del self._followers[name]

    def close(self) -> None:
        """End the watch. Nobody may follow any more."""
        self._closed.set()
        self._shut()
        thread = self._thread
        if thread is not None:
            thread.join(_CLOSE_S)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._version, self.listed = None, 0
            self._objects.clear()
            self._thread = threading.Thread(target=self._run, name=f"stoker-watch {self._path}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._closed.is_set():
            with self._lock:
                if not self._followers and self._version is not None:
                    # Started anew by whoever follows next.
                    self._thread = None
                    return
            try:
                began = time.monotonic()
                if self._version is None:
                    self._list()
                self._watch(self._version or "")
                pause_s = _FIRST_PAUSE_S
                # A server that ends watches at once is not asked in a circle.
                self._closed.wait(max(0.0, _FIRST_PAUSE_S - (time.monotonic() - began)))
            except Refusal as refusal:
                if refusal.status == _GONE:
                    self._version = None
                    continue
                log.warning("watch refused; tried again", path=self._path, error=str(refusal))
                pause_s = self._pause(pause_s)
            except Away as away:
                pause_s = self._pause(pause_s)
                if not self._closed.is_set():  # by itself, not by us
                    log.info("watch broke off; resumed", path=self._path, error=away.got)
            except Exception:
                self._version = None
                log.exception("watch failed; begun anew", path=self._path)
                pause_s = self._pause(pause_s)

    def _pause(self, pause_s: float) -> float:
        # Of many control planes not all at once.
        self._closed.wait(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        return min(2 * pause_s, _LONGEST_PAUSE_S)

    def _list(self) -> None:
        items, version = self._api.list_all(self._path, self._selector)
        fresh = {item["metadata"]["name"]: self._keep(item) for item in items}
        with self._lock:
            there = {item["metadata"]["uid"] for item in fresh.values()}
            self._bury(*({item["metadata"]["uid"] for item in self._objects.values()} - there))
            self._objects = fresh
            self._version = version
            self.listed += 1
            self._tell(*self._followers)

    def _watch(self, version: str) -> None:
        for event in self._api.watch(self._path, self._selector, version, self._opened):
            seen = event["object"]
            if event["type"] == "ERROR":
                raise Refusal(int(seen.get("code") or 0), str(seen.get("reason") or ""), str(seen.get("message") or ""))
            with self._lock:
                self._version = seen["metadata"]["resourceVersion"]
                if event["type"] == "BOOKMARK":
                    continue
                name = seen["metadata"]["name"]
                before = self._objects.pop(name, None)
                after = None if event["type"] == "DELETED" else self._keep(seen)
                if after is not None:
                    self._objects[name] = after
                else:
                    self._bury(seen["metadata"]["uid"])
                # A node's heartbeat is no news: all who wait for a worker follow the nodes.
                if after != before:
                    self._tell(name, None)

    def _bury(self, *uids: str) -> None:
        self._gone.update(dict.fromkeys(uids))
        while len(self._gone) > _GONE_MAX:
            del self._gone[next(iter(self._gone))]

    def _tell(self, *names: str | None) -> None:
        for name in names:
            for loop, changed in self._followers.get(name, ()):
                with suppress(RuntimeError):  # its loop has ended, and it will not follow much longer
                    loop.call_soon_threadsafe(changed.set)

    def _opened(self, response: Any) -> None:  # noqa: ANN401 - urllib3's
        self._response = response
        if self._closed.is_set():
            self._shut()

    def _shut(self) -> None:
        response = self._response
        if response is not None:
            with suppress(Exception):  # it may have ended this very moment
                response.shutdown()


def trimmed_pod(pod: Json) -> Json:
    """What is looked at of a pod; a thousand of them stay in memory."""
    meta, spec = pod["metadata"], pod.get("spec") or {}
    kept = ("name", "uid", "labels", "annotations", "creationTimestamp", "deletionTimestamp")
    return {
        "metadata": {key: meta[key] for key in kept if key in meta},
        "spec": {"nodeName": spec.get("nodeName")},
        "status": pod.get("status") or {},
    }


def trimmed_node(node: Json) -> Json:
    """What is looked at of a node: whether it is heard of, and whether its workers may be offered to anybody."""
    spec = node.get("spec") or {}
    conditions = {one["type"]: one.get("status") for one in (node.get("status") or {}).get("conditions") or ()}
    reachable = conditions.get("Ready") == "True"
    taken_away = any(one["key"] in _TAKEN_AWAY for one in spec.get("taints") or ())
    return {
        "metadata": {"name": node["metadata"]["name"], "uid": node["metadata"]["uid"]},
        "closed": bool(spec.get("unschedulable")) or taken_away or not reachable,
        "reachable": reachable,
    }
