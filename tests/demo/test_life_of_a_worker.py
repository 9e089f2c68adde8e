"""One worker from launch to end through the real parts: launcher, its word that it is ready, activation, query, stop."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import tempfile
from pathlib import Path

import pytest

from config.profile import HttpCall, HttpProbe, Profile
from config.settings import ProcessLauncher as ProcessSettings
from tasks.activation import ActivationFailed, activate, deactivate
from tasks.launchers import LaunchSpec, NotifyListener, ProcessLauncher, wait_ready

NEVER_S = 600.0  # a probe period that no test outlasts: only the worker's own word can end the wait
LIMIT_S = 20.0
ECHO = Profile(
    name="echo",
    command=("{python}", "-m", "demo.echo_server"),
    readiness=HttpProbe(period_s=NEVER_S),
    activation=HttpCall(),
    deactivation=HttpCall(path="/deactivate"),
)


def status_of_query(endpoint: str, tenant: str, token: str) -> int:
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=LIMIT_S)
    headers = {"Authorization": f"Bearer {token}", "X-Stoker-Tenant": tenant}
    connection.request("POST", "/sql", json.dumps({"sql": "select 1"}), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_worker_lives_as_the_pool_wants_it_to(tmp_path: Path) -> None:
    config = ProcessSettings(first_port=29_000 + os.getpid() % 900, ports=50)
    pool = f"life-{os.getpid()}"

    async def life(folder: str) -> None:
        async with NotifyListener(Path(folder) / "notify") as listener:
            launcher = ProcessLauncher(config, tmp_path, listener.path)
            with listener.expect(1) as nudge:
                placement = launcher.launch(LaunchSpec(1, pool, ECHO, "key"))
                try:
                    async with asyncio.timeout(LIMIT_S):
                        await wait_ready(ECHO.readiness, placement.endpoint, {}, LIMIT_S, nudge)
                    await asyncio.to_thread(serve, placement.endpoint)
                finally:
                    await launcher.stop(placement.handle, pool, 1, LIMIT_S)
            assert not launcher.alive(placement.handle)

    def serve(endpoint: str) -> None:
        activate(ECHO, endpoint, "key", "acme", 1, "token", LIMIT_S)
        assert status_of_query(endpoint, "acme", "token") == 200
        assert status_of_query(endpoint, "globex", "token") == 403
        with pytest.raises(ActivationFailed, match="409") as refusal:
            activate(ECHO, endpoint, "key", "globex", 2, "token", LIMIT_S)
        assert refusal.value.reason == "refused"
        deactivate(ECHO, endpoint, "key", "acme", 1, "token", LIMIT_S)
        assert status_of_query(endpoint, "acme", "token") == 401

    with tempfile.TemporaryDirectory(prefix="stoker-") as folder:
        asyncio.run(life(folder))
