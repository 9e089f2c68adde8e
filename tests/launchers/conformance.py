"""What every launcher must do, whatever its platform. A platform's test file subclasses it and provides `case`."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from config.profile import TcpProbe
from tasks.launchers.base import ForeignHandle, Launcher, LaunchSpec, Placement, Starting
from tasks.launchers.probes import wait_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from config.profile import Profile

READY_S = 60.0
EXIT_S = 15.0
FAST_WORKERS = 12


@dataclass
class LauncherCase:
    """One platform under test."""

    launcher: Launcher
    relaunch: Callable[[], Launcher]  # a second launcher of the same platform, as after a restart
    polite: Profile  # listens on its endpoint; ends at SIGTERM
    stubborn: Profile  # listens on its endpoint; ignores SIGTERM, and ignored it before it listened
    foreign_handle: dict[str, str | int]
    pool_id: str
    started: list[tuple[Placement, str, int]] = field(default_factory=list)

    def spec(self, worker_id: int, *, pool_id: str | None = None, profile: Profile | None = None) -> LaunchSpec:
        return LaunchSpec(worker_id, pool_id or self.pool_id, profile or self.polite, f"key-of-{worker_id}")

    def launch(self, worker_id: int, *, pool_id: str | None = None, profile: Profile | None = None) -> Placement:
        spec = self.spec(worker_id, pool_id=pool_id, profile=profile)
        placement = self.launcher.launch(spec)
        self.started.append((placement, spec.pool_id, worker_id))
        return placement

    def listening(self, worker_id: int, *, profile: Profile | None = None) -> Placement:
        return self.ready(self.launch(worker_id, profile=profile), worker_id, profile=profile)

    def ready(self, placement: Placement, worker_id: int, *, profile: Profile | None = None) -> Placement:
        starting = Starting(worker_id, profile or self.polite, placement.handle, placement.endpoint)
        return asyncio.run(self.launcher.wait_ready(starting, asyncio.Event(), READY_S)) or placement

    def stop(self, placement: Placement, worker_id: int, grace_s: float = EXIT_S) -> None:
        asyncio.run(self.launcher.stop(placement.handle, self.pool_id, worker_id, grace_s))

    @contextmanager
    def cleaning_up(self) -> Iterator[LauncherCase]:
        try:
            yield self
        finally:
            for placement, pool_id, worker_id in self.started:
                asyncio.run(self.launcher.stop(placement.handle, pool_id, worker_id, 0))


def until_listening(placement: Placement) -> None:
    async def wait() -> None:
        async with asyncio.timeout(READY_S):
            assert placement.endpoint
            await wait_ready(TcpProbe(period_s=0.02), placement.endpoint, {}, 1.0, asyncio.Event())

    asyncio.run(wait())


class LauncherConformance:
    """The suite. `case` is the subclass's fixture."""

    @pytest.fixture
    def case(self) -> Iterator[LauncherCase]:
        raise NotImplementedError

    def test_launch_says_where_the_worker_is(self, case: LauncherCase) -> None:
        placement = case.launch(1)
        assert json.loads(json.dumps(placement.handle)) == placement.handle
        placement = case.ready(placement, 1)
        assert placement.endpoint
        assert placement.endpoint.startswith("http://")
        assert placement.node
        until_listening(placement)

    def test_a_launched_worker_is_alive_owned_and_listed(self, case: LauncherCase) -> None:
        placement = case.listening(2)
        assert case.launcher.owns(placement.handle)
        assert case.launcher.alive(placement.handle)
        (running,) = case.launcher.list(case.pool_id)
        assert (running.worker_id, running.handle) == (2, placement.handle)
        assert 0 <= running.age_s < READY_S

    def test_the_activation_key_is_nowhere_in_what_is_stored(self, case: LauncherCase) -> None:
        placement = case.launch(3)
        assert "key-of-3" not in repr(placement)
        assert "key-of-3" not in repr(case.spec(3))

    def test_a_launch_whose_answer_was_lost_is_found_at_once(self, case: LauncherCase) -> None:
        for worker_id in range(40, 40 + FAST_WORKERS):
            placement = case.launch(worker_id)
            found = case.launcher.find(case.pool_id, worker_id)
            assert found
            assert found.handle == placement.handle

    def test_find_knows_no_worker_that_was_never_launched(self, case: LauncherCase) -> None:
        case.launch(5)
        assert case.launcher.find(case.pool_id, 6) is None
        assert case.launcher.find(f"{case.pool_id}-other", 5) is None

    def test_another_launcher_of_the_platform_sees_and_ends_the_worker(self, case: LauncherCase) -> None:
        placement = case.listening(7)
        successor = case.relaunch()
        assert successor.alive(placement.handle)
        found = successor.find(case.pool_id, 7)
        assert found
        assert found.handle == placement.handle
        asyncio.run(successor.stop(placement.handle, case.pool_id, 7, EXIT_S))
        assert not case.launcher.alive(placement.handle)

    def test_list_leaves_other_pools_alone(self, case: LauncherCase) -> None:
        case.launch(8)
        case.launch(8, pool_id=f"{case.pool_id}-other")
        case.launch(9, pool_id=f"{case.pool_id}x")
        assert [running.worker_id for running in case.launcher.list(case.pool_id)] == [8]

    def test_many_threads_launch_at_once(self, case: LauncherCase) -> None:
        with ThreadPoolExecutor(FAST_WORKERS) as threads:
            placements = list(threads.map(case.launch, range(10, 10 + FAST_WORKERS)))
        assert len(case.launcher.list(case.pool_id)) == FAST_WORKERS
        ready = [case.ready(placement, 10 + n) for n, placement in enumerate(placements)]
        assert len({placement.endpoint for placement in ready}) == FAST_WORKERS

    def test_wait_exit_returns_once_the_worker_is_stopped(self, case: LauncherCase) -> None:
        placement = case.listening(30)

        async def stop_while_waiting() -> None:
            waiting = asyncio.create_task(case.launcher.wait_exit(placement.handle))
            await case.launcher.stop(placement.handle, case.pool_id, 30, EXIT_S)
            async with asyncio.timeout(EXIT_S):
                await waiting

        asyncio.run(stop_while_waiting())
        assert not case.launcher.alive(placement.handle)

    def test_wait_exit_of_a_worker_that_is_gone_returns_at_once(self, case: LauncherCase) -> None:
        placement = case.launch(31)
        case.stop(placement, 31)

        async def wait() -> None:
            async with asyncio.timeout(EXIT_S):
                await case.launcher.wait_exit(placement.handle)

        asyncio.run(wait())

    def test_a_stopped_worker_is_neither_listed_nor_found(self, case: LauncherCase) -> None:
        placement = case.launch(32)
        case.stop(placement, 32)
        assert case.launcher.list(case.pool_id) == []
        assert case.launcher.find(case.pool_id, 32) is None

    def test_stop_twice_is_stop_once(self, case: LauncherCase) -> None:
        placement = case.launch(33)
        case.stop(placement, 33)
        case.stop(placement, 33)

    def test_a_worker_that_will_not_end_is_made_to(self, case: LauncherCase) -> None:
        placement = case.listening(34, profile=case.stubborn)
        case.stop(placement, 34, grace_s=0.05)
        assert not case.launcher.alive(placement.handle)

    def test_stop_of_one_worker_spares_its_neighbours(self, case: LauncherCase) -> None:
        one, eleven = case.launch(1), case.launch(11)
        case.stop(one, 1)
        assert case.launcher.alive(eleven.handle)

    def test_a_handle_of_another_host_is_refused_not_reported_dead(self, case: LauncherCase) -> None:
        assert not case.launcher.owns(case.foreign_handle)
        with pytest.raises(ForeignHandle, match="expected"):
            case.launcher.alive(case.foreign_handle)
        with pytest.raises(ForeignHandle):
            asyncio.run(case.launcher.wait_exit(case.foreign_handle))
        with pytest.raises(ForeignHandle):
            asyncio.run(case.launcher.stop(case.foreign_handle, case.pool_id, 1, 0))

    def test_capacity_is_a_count_or_unbounded(self, case: LauncherCase) -> None:
        capacity = case.launcher.capacity(case.polite)
        assert capacity is None or capacity > 0
