"""Workers as pods of one namespace, found again by their labels, watched by one stream."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from scheduler.core.backoff import Pace
from tasks.launchers.base import (
    Exit,
    ForeignHandle,
    Handle,
    LaunchError,
    LaunchPermanent,
    LaunchSpec,
    LaunchTemporary,
    LaunchUnknown,
    Placement,
    Running,
    Starting,
)
from tasks.launchers.kubernetes import outcomes, pod, refusals
from tasks.launchers.kubernetes.api import Api, Away, Refusal
from tasks.launchers.kubernetes.room import plan_room
from tasks.launchers.kubernetes.stream import Stream, trimmed_node, trimmed_pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from config.kubernetes import KubernetesLauncher as Cluster
    from config.profile import Profile
    from tasks.launchers.kubernetes.api import Counted, Json

log = structlog.get_logger(__name__)
T = TypeVar("T")

# Beyond the grace: the node's agent notices, kills, and reports; and the API server may be away for a while.
_ENDED_S: Final = 30.0
_ASK_AGAIN_S: Final = 0.5
_NEWS_S: Final = 0.5
_ROOM_AT_ONCE: Final = 50


class KubernetesLauncher:
    """Starts workers as pods of one namespace. A handle is ``{"cluster", "namespace", "pod", "uid"}``."""

    name: Final = "kubernetes"

    def __init__(self, cluster: Cluster, counted: Counted = lambda *_: None) -> None:
        self._cluster = cluster
        self._api = Api(cluster, counted)
        self.pods = Stream(self._api, self._api.pods, f"{cluster.label_prefix}/pool", trimmed_pod)
        self.nodes = Stream(self._api, self._api.nodes, "", trimmed_node)
        self._room_is_clear = False
        # Requests that coroutines make. Apart from the loop's own executor, whose threads are the database's.
        self._threads = ThreadPoolExecutor(cluster.connections, thread_name_prefix="stoker-kubernetes")

    def close(self) -> None:
        """End the watches."""
        self.pods.close()
        self.nodes.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def capacity(self, profile: Profile) -> None:
        """Unbounded: the cluster's autoscaler is the ceiling."""

    def launch(self, spec: LaunchSpec) -> Placement:
        """Create the pod, or adopt the one that an earlier try created. It has no address before it runs."""
        try:
            made = self._api.create(pod.manifest(spec, self._cluster))
        except Refusal as refusal:
            if refusal.reason != "AlreadyExists":
                raise self._why_refused(spec, refusal) from refusal
            made = self._adopted(spec)
        except Away as away:
            raise refusals.unknown(f"create the pod of worker {spec.worker_id}", away) from away
        return self._placement(made, spec.profile)

    def find(self, pool_id: str, worker_id: int) -> Placement | None:
        """The worker's pod, unless it has ended or is ending."""
        with refusals.asked(f"look for the pod of worker {worker_id}"):
            found = self._api.get(pod.name_of(pool_id, worker_id))
        return (
            self._placement(found, None)
            if found and self._is_ours(found, pool_id, worker_id) and _lives(found)
            else None
        )

    def list(self, pool_id: str) -> list[Running]:
        """Every pod of the pool, of one that has ended too: somebody has to delete it."""
        with refusals.asked("list the pool's pods"):
            found = self._api.pods_of(f"{self._cluster.label_prefix}/pool={pool_id}")
        now = datetime.now(UTC)
        return [
            Running(
                int(one["metadata"]["labels"].get(f"{self._cluster.label_prefix}/worker", 0)),
                self._handle(one),
                # By this host's clock and the server's: it is compared with a grace, of seconds.
                max(0.0, (now - datetime.fromisoformat(one["metadata"]["creationTimestamp"])).total_seconds()),
            )
            for one in found
        ]

    def keep_room(self, pool_id: str, profiles: Iterable[Profile]) -> int:
        """Create and delete placeholders until each profile has its headroom, a bounded number at a time; how many."""
        kinds = [kind for kind in profiles if kind.kubernetes is not None]
        # Without headroom nothing is asked, except where an earlier setting may have left some.
        if not any(kind.kubernetes and kind.kubernetes.headroom for kind in kinds) and self._room_is_clear:
            return 0
        with refusals.asked("keep headroom"):
            there = self._api.pods_of(f"{self._cluster.label_prefix}/room={pool_id}")
            plan = plan_room(there, kinds, pool_id, self._cluster, at_most=_ROOM_AT_ONCE)
            for name, uid in plan.delete:
                self._api.delete(name, uid, 0)
            for document in plan.create:
                self._create_unless_there(document)
        self._room_is_clear = not there
        return len(plan.create) + len(plan.delete)

    def alive(self, handle: Handle) -> bool:
        """Whether exactly this pod is there and its container has not ended."""
        name, uid = self._of(handle)
        with refusals.asked(f"look at pod {name}"):
            found = self._api.get(name)
        return found is not None and found["metadata"]["uid"] == uid and not outcomes.is_over(found)

    def owns(self, handle: Handle) -> bool:
        """Whether the handle is of this cluster and namespace."""
        return handle.get("cluster") == self._cluster.cluster and handle.get("namespace") == self._cluster.namespace

    async def wait_ready(self, starting: Starting, nudge: asyncio.Event, within_s: float) -> Placement:  # noqa: ARG002
        """Return once the pod's own condition says Ready, with its address and node; nobody probes it from here."""
        name, uid = self._of(starting.handle)
        seen = outcomes.Standing()
        try:
            async with asyncio.timeout(within_s):
                with self.pods.follow(name) as changed:
                    while True:
                        found = await self._seen(name, uid, changed)
                        seen = outcomes.standing(found) if found else outcomes.VANISHED
                        if seen.ready and found is not None:
                            return self._placement(found, starting.profile)
                        if seen.is_final:
                            raise refusals.not_ready(starting, seen, "a pod that becomes ready")
                        await changed.wait()
        except TimeoutError as late:
            raise refusals.not_ready(starting, seen, f"ready within {within_s:.0f} s") from late

    async def wait_exit(self, handle: Handle) -> Exit:
        """Return when the pod has ended, is gone, or its node is; what is left of it in the API is deleted."""
        name, uid = self._of(handle)
        with self.pods.follow(name) as changed, self.nodes.follow(None) as nodes:
            while True:
                nodes.clear()
                found = await self._seen(name, uid, changed)
                if found is None:
                    return Exit(None, outcomes.DELETED)
                if (end := await self._end(found)) is not None:
                    await self._request(self._api.delete, name, uid, 0)
                    return end
                await _either(changed, nodes)

    async def stop(self, handle: Handle, pool_id: str, worker_id: int, grace_s: float) -> None:  # noqa: ARG002 - in the handle
        """Delete exactly this pod: its node's agent asks, waits and insists. Returns once it is gone."""
        name, uid = self._of(handle)
        # Zero would take it out of the API at once and leave its container to whom nobody asks.
        grace = max(1, math.ceil(grace_s))
        try:
            async with asyncio.timeout(grace + _ENDED_S):
                if not await self._request(self._api.delete, name, uid, grace):
                    return
                with self.pods.follow(name) as changed, self.nodes.follow(None) as nodes:
                    nodes.clear()
                    while (found := await self._seen(name, uid, changed)) is not None:
                        if await self._end(found) is not None:
                            # Nobody is left there who would report that it is gone.
                            await self._request(self._api.delete, name, uid, 0)
                            return
                        await _either(changed, nodes)
                        nodes.clear()
        except TimeoutError as late:
            what, remedy = f"end of the pod {name}", "call stop again; see whether its node lives"
            raise LaunchTemporary(what, f"gone {grace + _ENDED_S:.0f} s after its deletion", "there", remedy) from late

    async def protect(self, handle: Handle, *, claimed: bool) -> None:
        """Annotate the pod of a claimed worker so that no autoscaler moves it, and take that off when it is free."""
        name, uid = self._of(handle)
        with self.pods.follow(name) as changed:
            found = await self._seen(name, uid, changed)
        if found is None:
            return
        has = found["metadata"].get("annotations") or {}
        wanted = {key: value if claimed else None for key, value in pod.UNDISRUPTED.items()}
        if any(has.get(key) != value for key, value in wanted.items()):
            await self._request(self._api.annotate, name, uid, wanted)

    async def wait_cordons(self, known: Mapping[str, bool]) -> dict[str, bool]:
        """Return when nodes, or whether they take more pods, are other than is known."""
        with self.nodes.follow(None) as changed:
            while True:
                changed.clear()
                seen = {one["metadata"]["name"]: one["closed"] for one in self.nodes.all()}
                if self.nodes.is_known and seen != known:
                    return seen
                await changed.wait()

    async def _seen(self, name: str, uid: str, changed: asyncio.Event) -> Json | None:
        """The pod as the stream has it, or else as the server has it: one that was made just now is not in the stream yet."""
        changed.clear()
        while not self.pods.is_known:
            await changed.wait()
            changed.clear()
        if (found := self._streamed(name, uid)) is not None or self.pods.is_gone(uid):
            return found
        # The news of it is on its way, mostly; else it went before this stream began.
        with suppress(TimeoutError):
            async with asyncio.timeout(_NEWS_S):
                await changed.wait()
        if (found := self._streamed(name, uid)) is not None or self.pods.is_gone(uid):
            return found
        asked = await self._request(self._api.get, name)
        return asked if asked is not None and asked["metadata"]["uid"] == uid else None

    def _streamed(self, name: str, uid: str) -> Json | None:
        found = self.pods.get(name)
        return found if found is not None and found["metadata"]["uid"] == uid else None

    async def _end(self, found: Json) -> Exit | None:
        """How a pod that is still in the API has ended; None while it has not."""
        if outcomes.is_over(found):
            return Exit(outcomes.exit_code(found), outcomes.ending(found))
        node = found["spec"].get("nodeName")
        if not node or not self.nodes.is_known:
            return None
        seen = self.nodes.get(node)
        # What the stream does not have may be a node whose news is still on its way.
        if seen is None and await self._request(self._api.node, node) is None:
            return Exit(None, outcomes.NODE_LOST)
        if seen is not None and not seen["reachable"] and found["metadata"].get("deletionTimestamp"):
            # Given up by the cluster, and its node is silent: nobody will ever report its end.
            return Exit(None, outcomes.NODE_LOST)
        return None

    async def _request(self, work: Callable[..., T], *args: Any) -> T:  # noqa: ANN401 - passes them on
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
            except Away as away:
                # Each has tried for as long as one may; who waits here has a deadline, or a worker's whole life.
                log.info("the API server does not answer; asked again", error=away.got)
                await asyncio.sleep(_ASK_AGAIN_S)
            except Refusal as refusal:
                raise refusals.denied("ask for a pod", refusal) from refusal

    def _create_unless_there(self, document: Json) -> None:
        try:
            self._api.create(document)
        except Refusal as refusal:
            if refusal.reason != "AlreadyExists":  # another control plane was first
                raise

    def _adopted(self, spec: LaunchSpec) -> Json:
        """The pod that bears our name: of an earlier try whose answer was lost, or somebody else's."""
        what = f"create the pod of worker {spec.worker_id}"
        with refusals.asked(what):
            found = self._api.get(pod.name_of(spec.pool_id, spec.worker_id))
        if found is None:
            raise LaunchUnknown(what, "a new pod", "one of that name that has gone meanwhile", "it is tried again")
        name = found["metadata"]["name"]
        if not self._is_ours(found, spec.pool_id, spec.worker_id):
            remedy = (
                f"delete it, or use a namespace of Stoker's own: kubectl -n {self._cluster.namespace} get pod {name}"
            )
            raise LaunchPermanent(
                what, "a free name", f"{name}, which is not marked as ours", remedy, outcomes.NAME_TAKEN
            )
        if not _lives(found):
            ended = outcomes.ending(found)
            raise LaunchTemporary(what, "a pod that lives", f"{name}, which has ended", "see its events", ended)
        log.info("adopted a pod that an earlier try created", worker=spec.worker_id, pod=name)
        return found

    def _why_refused(self, spec: LaunchSpec, refusal: Refusal) -> LaunchError:
        what = f"create the pod of worker {spec.worker_id} of profile {spec.profile.name}"
        allowed, over = True, False
        if refusal.reason == "Forbidden":
            need = {"pods": 1, "cpu": spec.profile.cpu, "memory": spec.profile.memory}
            with refusals.asked("ask why a pod was refused"):
                allowed = self._api.may("create", "pods")
                over = allowed and outcomes.over_quota(self._api.quotas(), need)
        outcome = outcomes.refused(refusal, allowed=allowed, over_quota=over)
        kind = LaunchPermanent if outcome.pace is Pace.LONGEST else LaunchTemporary
        got = f"{refusal.status} {refusal.reason}: {refusal.message}"
        return kind(
            what, "a yes of the API server", got, refusals.REMEDIES.get(outcome.name, "it is tried again"), outcome
        )

    def _placement(self, found: Json, profile: Profile | None) -> Placement:
        address = (found.get("status") or {}).get("podIP")
        node = (found.get("spec") or {}).get("nodeName")
        port = profile.kubernetes.port if profile and profile.kubernetes else None
        if not address or not node or port is None:
            return Placement(self._handle(found), None, None)
        host = f"[{address}]" if ":" in address else address
        return Placement(self._handle(found), f"http://{host}:{port}", node)

    def _handle(self, found: Json) -> dict[str, str | int]:
        meta = found["metadata"]
        return {
            "cluster": self._cluster.cluster,
            "namespace": self._cluster.namespace,
            "pod": meta["name"],
            "uid": meta["uid"],
        }

    def _of(self, handle: Handle) -> tuple[str, str]:
        if not self.owns(handle):
            ours = f"cluster {self._cluster.cluster!r}, namespace {self._cluster.namespace!r}"
            raise ForeignHandle("worker handle", ours, f"{dict(handle)!r}", "leave it to whose it is; `owns` tells")
        return str(handle["pod"]), str(handle["uid"])

    def _is_ours(self, found: Json, pool_id: str, worker_id: int) -> bool:
        labels = found["metadata"].get("labels") or {}
        return pod.labels_of(self._cluster, pool_id, worker_id).items() <= labels.items()


def _lives(found: Json) -> bool:
    return not outcomes.is_over(found) and not found["metadata"].get("deletionTimestamp")


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
