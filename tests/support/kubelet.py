"""A small node agent: it keeps Node objects alive and runs each pod bound to one of them as a real process of this machine.

A pod's address is one of 127.0.0.0/8 of its own, so readiness, activation and SIGTERM with its grace are real. What goes wrong
with nodes and images is done by hand: `break_image`, `evict`, `freeze`, `remove`.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.kubernetes import KubernetesLauncher
from tasks.launchers.kubernetes.api import Api, Away, Refusal
from tests.support.eventually import eventually
from tests.support.pod_run import Json, PodRun, now
from tests.support.pods import AGENT, ANY_NODES, on

_BEAT_S = 2.0
_NODES_MAX = 100


class Kubelet:
    """The nodes of one control plane, in a thread of its own."""

    def __init__(
        self,
        kubeconfig: Path,
        *,
        nodes: int = 2,
        pods: int = 110,
        prefix: str = ANY_NODES,
        autoscale_s: float | None = None,
    ) -> None:
        cluster = KubernetesLauncher(
            kubeconfig=kubeconfig, qps=5_000, burst=5_000, connections=24, watch_s=60.0, request_s=20.0
        )
        self._api = Api(cluster)
        self._pods_per_node = pods
        self._prefix = prefix
        self._autoscale_s = autoscale_s
        self._first = nodes
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._closed = threading.Event()
        self._response: Any = None
        self._up = threading.Event()
        self.nodes: set[str] = set()
        self.frozen: set[str] = set()
        self.broken_images: set[str] = set()
        self._running: dict[str, PodRun] = {}  # by uid
        self._tasks: set[asyncio.Task[None]] = set()
        self._unschedulable: set[str] = set()
        self._coming = 0

    @property
    def placing(self) -> Json:
        """Of a profile's pods: to run on these nodes alone."""
        return on(self._prefix)

    def break_image(self, image: str) -> None:
        """Its pull fails from now on."""
        self.broken_images.add(image)

    def autoscale(self, after_s: float) -> None:
        """From now on pods that find no node bring one, so long after that was noticed."""
        self._autoscale_s = after_s

    def evict(self, namespace: str, pod: str) -> None:
        """The node ends that pod for its own sake."""
        run = next(run for run in self._running.values() if (run.namespace, run.name) == (namespace, pod))
        self._call(run.evicted.set)

    def freeze(self, node: str) -> None:
        """The node dies: its processes end, and nothing is heard of it any more."""
        self._call(lambda: self._freeze(node))

    def remove(self, node: str) -> None:
        """The node's machine is taken away, and its object with it."""
        self.freeze(node)
        self._ask("DELETE", f"/api/v1/nodes/{node}")

    def cordon(self, node: str, *, closed: bool = True) -> None:
        self._ask("PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": closed or None}})

    @contextmanager
    def running(self) -> Iterator[Kubelet]:
        self._thread.start()
        assert self._up.wait(30), "the kubelet has not come up"
        try:
            eventually(self._are_open, "its nodes take pods", within_s=60)
            yield self
        finally:
            self._closed.set()
            if self._response is not None:
                with suppress(Exception):
                    self._response.shutdown()
            self._call(self._stop)
            self._thread.join(10)
            # Left behind they would be nodes that are silent: of many such, a cluster takes no pod away any more.
            for node in self.nodes:
                with suppress(Away, Refusal):
                    self._ask("DELETE", f"/api/v1/nodes/{node}")

    def _are_open(self) -> bool:
        """A new node is closed until a controller has seen that it is well."""
        with suppress(Away, Refusal):
            nodes = {node["metadata"]["name"]: node for node in self._api.list_all("/api/v1/nodes", "")[0]}
            taints = [taint for name in self.nodes for taint in nodes[name]["spec"].get("taints") or ()]
            return {taint["key"] for taint in taints} == {AGENT}
        return False

    def _call(self, work: Any) -> None:
        done = threading.Event()

        def run() -> None:
            try:
                work()
            finally:
                done.set()

        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(run)
            done.wait(10)

    def _ask(self, method: str, path: str, body: Json | None = None) -> Json | None:
        try:
            return self._api.request(method, path, body=body)
        except Refusal as refusal:
            if refusal.reason in {"NotFound", "Conflict", "AlreadyExists"}:
                return None
            raise

    async def asked(self, method: str, path: str, body: Json | None = None) -> Json | None:
        while not self._closed.is_set():
            try:
                return await asyncio.to_thread(self._ask, method, path, body)
            except (Away, Refusal):
                await asyncio.sleep(0.2)
        return None

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            self._loop.set_default_executor(ThreadPoolExecutor(24))
            with suppress(asyncio.CancelledError):
                runner.run(self._main())

    async def _main(self) -> None:
        for _ in range(self._first):
            await self._add_node()
        threading.Thread(target=self._watch, name="kubelet-watch", daemon=True).start()
        self._up.set()
        self._stopping = asyncio.Event()
        await self._stopping.wait()
        for run in self._running.values():
            run.kill(signal.SIGKILL)
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _stop(self) -> None:
        self._stopping.set()

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Nodes.

    async def _add_node(self) -> None:
        name = f"{self._prefix}-{next(self._numbers)}"
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", AGENT: self._prefix}
        taints = [{"key": AGENT, "effect": "NoSchedule"}]
        await self.asked(
            "POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}
        )
        self.nodes.add(name)
        await self._beat(name)
        self._spawn(self._live(name))

    async def _live(self, name: str) -> None:
        while name in self.nodes and name not in self.frozen:
            await asyncio.sleep(_BEAT_S)
            if name not in self.frozen:
                await self._beat(name)

    async def _beat(self, name: str) -> None:
        room = {"cpu": "64", "memory": "256Gi", "pods": str(self._pods_per_node)}
        conditions = [
            {"type": kind, "status": status, "reason": "Kubelet", "lastHeartbeatTime": now()}
            for kind, status in (("Ready", "True"), ("MemoryPressure", "False"), ("DiskPressure", "False"))
        ]
        await self.asked(
            "PATCH",
            f"/api/v1/nodes/{name}/status",
            {"status": {"capacity": room, "allocatable": room, "conditions": conditions}},
        )
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": 40,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        if await self.asked("PATCH", f"{leases}/{name}", {"spec": spec}) is None:
            await self.asked("POST", leases, {"metadata": {"name": name}, "spec": spec})

    def _freeze(self, node: str) -> None:
        self.frozen.add(node)
        for run in self._running.values():
            if run.node == node:
                run.kill(signal.SIGKILL)

    async def _provision(self) -> None:
        assert self._autoscale_s is not None
        await asyncio.sleep(self._autoscale_s)
        self._coming -= 1
        await self._add_node()

    def _scale(self) -> None:
        if self._autoscale_s is None:
            return
        missing = -(-len(self._unschedulable) // self._pods_per_node)
        while self._coming < missing and len(self.nodes) + self._coming < _NODES_MAX:
            self._coming += 1
            self._spawn(self._provision())

    # Pods.

    def _watch(self) -> None:
        version: str | None = None
        while not self._closed.is_set():
            try:
                if version is None:
                    items, version = self._api.list_all("/api/v1/pods", "")
                    self._loop.call_soon_threadsafe(self._listed, items)
                for event in self._api.watch("/api/v1/pods", "", version, self._opened):
                    if event["type"] == "ERROR":
                        version = None
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._loop.call_soon_threadsafe(self._see, event["object"], event["type"])
            except Refusal:
                version = None
            except (Away, RuntimeError):
                self._closed.wait(0.1)

    def _opened(self, response: Any) -> None:
        self._response = response

    def _listed(self, items: list[Json]) -> None:
        there = {pod["metadata"]["uid"] for pod in items}
        for uid, run in self._running.items():
            if uid not in there:
                run.gone.set()
        for pod in items:
            self._see(pod)

    def _see(self, pod: Json, change: str = "ADDED") -> None:
        uid, node, gone = pod["metadata"]["uid"], pod["spec"].get("nodeName"), change == "DELETED"
        phase = (pod.get("status") or {}).get("phase")
        conditions = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}
        unschedulable = not node and conditions.get("PodScheduled", {}).get("reason") == "Unschedulable"
        if unschedulable and not gone and not pod["metadata"].get("deletionTimestamp"):
            self._unschedulable.add(uid)
            self._scale()
        else:
            self._unschedulable.discard(uid)
        run = self._running.get(uid)
        if run is None and not gone and phase == "Pending" and node in self.nodes and node not in self.frozen:
            run = self._running[uid] = PodRun(self, pod)
            self._spawn(self._guard(run))
        if run is None:
            return
        if gone:
            run.gone.set()
        if pod["metadata"].get("deletionTimestamp"):
            run.grace_s = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            run.deleted.set()

    async def _guard(self, run: PodRun) -> None:
        try:
            await run.live()
        finally:
            run.kill(signal.SIGKILL)
            if run.process is not None:
                await run.process.wait()
            self._running.pop(run.uid, None)
