"""A pod as a node's agent runs it: a real process with an address of its own in 127.0.0.0/8, probed, told of, and ended."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.kubelet import Kubelet

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
_PROBE_S = 0.05
_addresses = itertools.count(os.getpid() % 200 * 256 + 2)


class PodRun:
    """One pod from its node's first sight of it to its end."""

    def __init__(self, kubelet: Kubelet, pod: Json) -> None:
        self._kubelet = kubelet
        self._pod = pod
        self.name, self.namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        self.uid = pod["metadata"]["uid"]
        self.node = pod["spec"]["nodeName"]
        self._path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{self.name}"
        self._container = pod["spec"]["containers"][0]
        number = next(_addresses)
        self.address = f"127.{1 + number // 65_536 % 250}.{number // 256 % 256}.{number % 256}"
        self.process: asyncio.subprocess.Process | None = None
        self.deleted, self.gone, self.evicted = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.grace_s = 0.0

    def kill(self, signum: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signum)

    async def live(self) -> None:
        if self._container["image"] in self._kubelet.broken_images:
            for reason in ("ErrImagePull", "ImagePullBackOff"):
                await self._say("Pending", {"waiting": {"reason": reason, "message": "manifest unknown"}})
            await self._first(self.deleted, self.gone)
            await self._delete()
            return
        self.process = await asyncio.create_subprocess_exec(
            *self._command(),
            env=self._environment(),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        running = {"running": {"startedAt": now()}}
        await self._say("Running", running)
        ended = asyncio.ensure_future(self.process.wait())
        probing = asyncio.ensure_future(self._probed())
        waits = [asyncio.ensure_future(event.wait()) for event in (self.deleted, self.gone, self.evicted)]
        try:
            await asyncio.wait([ended, probing, *waits], return_when=asyncio.FIRST_COMPLETED)
            if probing.done() and not ended.done():
                await self._say("Running", running, ready=True)
                await asyncio.wait([ended, *waits], return_when=asyncio.FIRST_COMPLETED)
            if self.node in self._kubelet.frozen:
                return
            await self._end(ended)
        finally:
            for task in [ended, probing, *waits]:
                task.cancel()

    async def _end(self, ended: asyncio.Future[int]) -> None:
        if self.evicted.is_set():
            self.kill(signal.SIGKILL)
            await ended
            await self._say("Failed", None, reason="Evicted")
        elif self.deleted.is_set() or self.gone.is_set():
            self.kill(signal.SIGTERM)
            _, late = await asyncio.wait([ended], timeout=self.grace_s)
            if late:
                self.kill(signal.SIGKILL)
                await ended
        else:
            code = ended.result()
            phase = "Succeeded" if code == 0 else "Failed"
            await self._say(
                phase, {"terminated": {"exitCode": code & 0xFF, "reason": "Error" if code else "Completed"}}
            )
        await self._first(self.deleted, self.gone)
        await self._delete()

    async def _delete(self) -> None:
        if not self.gone.is_set():
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
            await self._kubelet.asked("DELETE", self._path, body)

    async def _say(self, phase: str, state: Json | None, *, ready: bool = False, reason: str = "") -> None:
        conditions = [
            {"type": kind, "status": "True" if true else "False", "lastTransitionTime": now()}
            for kind, true in (
                ("PodScheduled", True),
                ("Initialized", True),
                ("ContainersReady", ready),
                ("Ready", ready),
            )
        ]
        status: Json = {"phase": phase, "conditions": conditions, "podIP": self.address, "hostIP": "127.0.0.1"}
        if state is not None:
            facts = {
                "image": self._container["image"],
                "imageID": "",
                "restartCount": 0,
                "ready": ready,
                "state": state,
            }
            status["containerStatuses"] = [{"name": self._container["name"], **facts}]
        if reason:
            status["reason"] = reason
        await self._kubelet.asked("PATCH", f"{self._path}/status", {"metadata": {"uid": self.uid}, "status": status})

    async def _probed(self) -> None:
        probe = self._container.get("readinessProbe") or {}
        port = int((probe.get("httpGet") or probe.get("tcpSocket") or {"port": 0})["port"])
        while port:
            with suppress(OSError, EOFError):
                reader, writer = await asyncio.open_connection(self.address, port)
                try:
                    if "tcpSocket" in probe:
                        return
                    writer.write(
                        f"GET {probe['httpGet']['path']} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n".encode()
                    )
                    if (await reader.readline()).split()[1:2] == [b"200"]:
                        return
                finally:
                    writer.close()
            await asyncio.sleep(_PROBE_S)

    def _command(self) -> list[str]:
        return [
            sys.executable if part == "python3" else _expanded(part, self._environment())
            for part in self._container.get("command") or ("sleep", "infinity")
        ]

    def _environment(self) -> dict[str, str]:
        fields = {"status.podIP": self.address, "spec.nodeName": self.node, "metadata.name": self.name}
        environment = {"PATH": os.environ["PATH"]}
        for one in self._container.get("env") or ():
            if "valueFrom" in one:
                environment[one["name"]] = fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                environment[one["name"]] = _expanded(one.get("value", ""), environment)
        return environment

    @staticmethod
    async def _first(*events: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _expanded(text: str, variables: Mapping[str, str]) -> str:
    """As a real node's agent does: ``$(NAME)`` is the variable, ``$$(NAME)`` is itself."""
    parts = text.split("$$(")
    for name, value in variables.items():
        parts = [part.replace(f"$({name})", value) for part in parts]
    return "$(".join(parts)


def now() -> str:
    """As the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
