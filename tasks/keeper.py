"""The keeper: one event loop in the spawning Celery worker that sees every worker become ready, end, or be ended.

A thousand spawns in flight are a thousand coroutines, so none holds a slot that another needs. It is level-triggered: every
few seconds it looks at the rows again, so a keeper that starts after another was killed takes over where that one stood.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from scheduler.core.states import CLAIMED, WorkerState
from scheduler.errors import Temporary
from scheduler.store import launches
from tasks import correlation, lifecycle
from tasks.launchers.base import NO_PROFILE, NODE_CLOSED, LaunchError, Starting
from tasks.launchers.notify import NotifyListener

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from config.profile import Profile
    from scheduler.store.launches import Launched
    from tasks.context import Context
    from tasks.launchers.base import Exit, Placement

log = structlog.get_logger(__name__)
T = TypeVar("T")

_LOOK_AGAIN_S: Final = 2.0
_DATABASE_THREADS: Final = 8
_CLOSE_S: Final = 5.0
# A new node is open a moment before the news of it; one that stays closed longer leaves its new workers to nobody.
_OPENS_S: Final = 10.0
_OPENS_LOOK_S: Final = 0.25
_SWITCH_S: Final = 0.0005


class Keeper:
    """Watches all launched workers of this launcher. `watch` may be called from any thread, as often as one likes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._watched: dict[int, asyncio.Task[None]] = {}
        self._draining: dict[int, asyncio.Event] = {}
        self._protected: dict[int, bool] = {}
        self._cordons: dict[str, bool] = {}
        self._asides: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._notices = NotifyListener(context.notify_socket)
        self._closed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="stoker-keeper", daemon=True)

    def start(self) -> None:
        """Begin to watch; what already runs is adopted at the first look."""
        # This process also launches, in threads that keep the interpreter busy; by default each of them may hold it for 5 ms
        # before the loop hears that a worker is ready.
        sys.setswitchinterval(_SWITCH_S)
        self._thread.start()

    def close(self) -> None:
        """Stop watching. The workers live on, and the next keeper adopts them."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._closed.set)
        self._thread.join(timeout=_CLOSE_S)

    def watch(self, known: Launched) -> None:
        """Watch a worker from the state it is in; if it drains, stop it."""
        with suppress(RuntimeError):  # closed meanwhile: the next keeper's first look finds it
            self._loop.call_soon_threadsafe(self._see, known)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._keep())

    async def _keep(self) -> None:
        # Calls into the database block; bounded in number, and never on the loop itself.
        with ThreadPoolExecutor(_DATABASE_THREADS, thread_name_prefix="stoker-keeper") as executor:
            self._loop.set_default_executor(executor)
            async with self._notices:
                self._aside(self._follow_cordons())
                while not self._closed.is_set():
                    try:
                        for known in await self._call(launches.all_launched, self._context.db):
                            self._see(known)
                        await self._mark_cordons()
                    except Temporary as error:
                        log.warning("the keeper cannot see its rows; looks again", error=str(error))
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._closed.wait(), _LOOK_AGAIN_S)
                running = [*self._watched.values(), *self._asides]
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    def _see(self, known: Launched) -> None:
        if not self._context.launcher.owns(known.handle):
            return
        if known.state is WorkerState.SPAWNING:
            self._protected[known.worker_id] = False  # nobody had it yet
        elif known.state is not WorkerState.DRAINING and self._protected.get(known.worker_id) is not (
            known.state in CLAIMED
        ):
            self._aside(self._protect(known))
        drain = self._draining.setdefault(known.worker_id, asyncio.Event())
        if known.state is WorkerState.DRAINING:
            drain.set()
        if known.worker_id not in self._watched:
            watch = self._loop.create_task(self._live(known, drain))
            self._watched[known.worker_id] = watch
            watch.add_done_callback(lambda done: self._forget(known.worker_id, done))

    async def _protect(self, known: Launched) -> None:
        """Have the platform move no worker that somebody uses. Off the path of claims: it may come a look too late."""
        claimed = known.state in CLAIMED
        self._protected[known.worker_id] = claimed
        try:
            await self._context.launcher.protect(known.handle, claimed=claimed)
        except LaunchError as error:
            log.warning("worker not protected; tried again", worker=known.worker_id, error=str(error))
            self._protected.pop(known.worker_id, None)

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    def _forget(self, worker_id: int, done: asyncio.Task[None]) -> None:
        self._watched.pop(worker_id, None)
        self._draining.pop(worker_id, None)
        self._protected.pop(worker_id, None)
        if not done.cancelled() and (error := done.exception()) is not None:
            # The row still stands, so the next look starts over.
            log.warning("watch broke off; starts over", worker=worker_id, error=repr(error))

    async def _live(self, known: Launched, drain: asyncio.Event) -> None:
        """One worker from here to its end: ready, perhaps drained, gone."""
        launcher = self._context.launcher
        gone = asyncio.ensure_future(launcher.wait_exit(known.handle))
        asked = asyncio.ensure_future(drain.wait())
        try:
            if known.state is WorkerState.SPAWNING:
                # Part of the story of the claim that it was made for; later it may be another's.
                with correlation.within(known.correlation_id):
                    await self._become_ready(known, gone, asked)
            await asyncio.wait({gone, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                kind = self._context.settings.profile(known.profile)
                grace_s = kind.stop_grace_s if kind else 0.0
                await launcher.stop(known.handle, self._context.pool_id, known.worker_id, grace_s)
                await gone
            end = gone.result()
            await self._call(lifecycle.ended, self._context, known, str(end), end.outcome)
        finally:
            gone.cancel()
            asked.cancel()

    async def _become_ready(self, known: Launched, gone: asyncio.Future[Exit], asked: asyncio.Future[Any]) -> None:
        """Wait for readiness, the end, a drain or the end of the budget, whichever comes first."""
        kind = self._context.settings.profile(known.profile)
        give_up = functools.partial(self._call, lifecycle.give_up, self._context, known.worker_id, gone=False)
        if kind is None:
            await give_up(NO_PROFILE.name, outcome=NO_PROFILE)
            return
        starting = Starting(known.worker_id, kind, known.handle, known.endpoint)
        within_s = min(max(0.0, kind.spawn_budget_s - known.age_s), kind.ready_s)
        with self._notices.expect(known.worker_id) as nudge:
            ready = asyncio.ensure_future(self._context.launcher.wait_ready(starting, nudge, within_s))
            try:
                waits: set[asyncio.Future[Any]] = {ready, gone, asked}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ready.cancel()
        if not ready.done():
            return
        try:
            place = ready.result()
        except LaunchError as error:
            await give_up(f"{error.outcome.name}: {error}", outcome=error.outcome)
        else:
            if not await self._parks(known, kind, place, gone, asked):
                reason = f"{NODE_CLOSED.name}: it is ready, and its node has been closed to claims for {_OPENS_S:.0f} s"
                await give_up(reason, outcome=NODE_CLOSED)

    async def _parks(
        self,
        known: Launched,
        kind: Profile,
        place: Placement | None,
        gone: asyncio.Future[Exit],
        asked: asyncio.Future[Any],
    ) -> bool:
        """Offer a worker that is ready, as soon as its node is open. False: it stays closed."""
        late = self._loop.time() + _OPENS_S
        while not (gone.done() or asked.done()):
            closed = place is not None and self._cordons.get(place.node or "", False)
            state = await self._call(lifecycle.became_ready, self._context, known, kind, place, unschedulable=closed)
            if state is not WorkerState.SPAWNING:
                break
            if self._loop.time() >= late:
                return False
            place = None  # recorded; what is asked again is only whether its node is open
            await asyncio.wait({gone, asked}, timeout=_OPENS_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        return True

    async def _follow_cordons(self) -> None:
        """Offer no worker of a node that the platform has closed, from the moment it says so."""
        while True:
            # Before the database knows: a worker that becomes ready in between brings the mark along.
            self._cordons = await self._context.launcher.wait_cordons(self._cordons)
            await self._mark_cordons()

    async def _mark_cordons(self) -> None:
        if not self._cordons:
            return
        try:
            await self._call(lifecycle.cordons_changed, self._context, self._cordons)
        except Temporary as error:
            log.warning("cordons not recorded; the next look does it", error=str(error))

    async def _call(self, work: Callable[..., T], *args: Any, **options: Any) -> T:  # noqa: ANN401 - passes them on
        return await asyncio.to_thread(work, *args, **options)


_keeper: Keeper | None = None


def running_keeper() -> Keeper | None:
    """This process's keeper. None in any other process: what it would be told, a keeper sees at its next look."""
    return _keeper


def start_keeper() -> None:
    """Start this process's keeper."""
    global _keeper  # noqa: PLW0603 - one a process, started and stopped with it
    from tasks.context import current  # noqa: PLC0415 - the context's launchers are loaded when a worker starts

    _keeper = Keeper(current())
    _keeper.start()


def stop_keeper() -> None:
    """Stop it."""
    global _keeper  # noqa: PLW0603 - as above
    if _keeper is not None:
        _keeper.close()
        _keeper = None
