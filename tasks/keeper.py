"""The keeper: one event loop in the spawning Celery worker that sees every worker become ready, end, or be ended.

A thousand spawns in flight are a thousand coroutines, so none holds a slot that another needs. It is level-triggered: every
few seconds it looks at the rows again, so a keeper that starts after another was killed takes over where that one stood.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from scheduler.core.states import WorkerState
from scheduler.errors import Temporary
from scheduler.store import launches
from tasks import correlation, lifecycle
from tasks.launchers.notify import NotifyListener
from tasks.launchers.probes import wait_ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.profile import Profile
    from scheduler.store.launches import Launched
    from tasks.context import Context

log = structlog.get_logger(__name__)
T = TypeVar("T")

_LOOK_AGAIN_S: Final = 2.0
_DATABASE_THREADS: Final = 8
_CLOSE_S: Final = 5.0
_SWITCH_S: Final = 0.0005


class Keeper:
    """Watches all launched workers of this launcher. `watch` may be called from any thread, as often as one likes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._watched: dict[int, asyncio.Task[None]] = {}
        self._draining: dict[int, asyncio.Event] = {}
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
                while not self._closed.is_set():
                    try:
                        for known in await self._call(launches.all_launched, self._context.db):
                            self._see(known)
                    except Temporary as error:
                        log.warning("the keeper cannot see its rows; looks again", error=str(error))
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._closed.wait(), _LOOK_AGAIN_S)
                for watch in self._watched.values():
                    watch.cancel()
                await asyncio.gather(*self._watched.values(), return_exceptions=True)

    def _see(self, known: Launched) -> None:
        if not self._context.launcher.owns(known.handle):
            return
        drain = self._draining.setdefault(known.worker_id, asyncio.Event())
        if known.state is WorkerState.DRAINING:
            drain.set()
        if known.worker_id not in self._watched:
            watch = self._loop.create_task(self._live(known, drain))
            self._watched[known.worker_id] = watch
            watch.add_done_callback(lambda done: self._forget(known.worker_id, done))

    def _forget(self, worker_id: int, done: asyncio.Task[None]) -> None:
        self._watched.pop(worker_id, None)
        self._draining.pop(worker_id, None)
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
            code = gone.result()
            await self._call(
                lifecycle.ended, self._context, known, f"exited with {code}" if code is not None else "exited"
            )
        finally:
            gone.cancel()
            asked.cancel()

    async def _become_ready(self, known: Launched, gone: asyncio.Future[Any], asked: asyncio.Future[Any]) -> None:
        """Wait for readiness, the end, a drain or the end of the budget, whichever comes first."""
        kind = self._context.settings.profile(known.profile)
        if kind is None:
            await self._call(lifecycle.give_up, self._context, known.worker_id, "profile_not_in_settings", gone=False)
            return
        with self._notices.expect(known.worker_id) as nudge:
            probing = asyncio.ensure_future(self._probe(kind, known, nudge))
            left_s = max(0.0, kind.spawn_budget_s - known.age_s)
            done, _ = await asyncio.wait(
                {probing, gone, asked}, timeout=min(left_s, kind.ready_s), return_when=asyncio.FIRST_COMPLETED
            )
            probing.cancel()
        if probing in done:
            probing.result()
            await self._call(lifecycle.became_ready, self._context, known, kind)
        elif not done:
            reason = f"not ready within {min(left_s, kind.ready_s):.0f} s"
            await self._call(lifecycle.give_up, self._context, known.worker_id, reason, gone=False)

    async def _probe(self, kind: Profile, known: Launched, nudge: asyncio.Event) -> None:
        environment = {**kind.environment, "STOKER_WORKER_ID": str(known.worker_id)}
        await wait_ready(kind.readiness, known.endpoint, environment, kind.connect_s, nudge)

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
