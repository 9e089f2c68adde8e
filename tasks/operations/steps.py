"""A step of an operation: a coalescing task whose begin and end stand in SQL too, for everybody who shares the run.

Redis decides who runs, SQL has the last word: a step whose turn it is not does nothing, a lane that SQL knows taken is
waited for, and the end of an execution that was given up for lost is not believed.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery.exceptions import Ignore

from scheduler.core.operations import Place, RunState, place
from scheduler.errors import Refused, Temporary
from scheduler.store import operations as store
from tasks import starts
from tasks.coalescing import CoalescingTask
from tasks.coalescing.coalescer import coalescer_of
from tasks.coalescing.payload import Payload
from tasks.context import current

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.redis.coalescing import Ask
    from scheduler.store.operations import BegunRun
    from tasks.coalescing import Execution

log = structlog.get_logger(__name__)

APART: Final = "apart"  # the header of a request that shares runs only with those of the same mark
_CHANGES_MOST: Final = 20  # kept of what one run changed
_SERVED_MOST: Final = 20  # named of those whom one run served beside its own operation
_FIRST_RETRY_S: Final = 0.5
_LAST_RETRY_S: Final = 10.0


class StepTask(CoalescingTask):
    """Base of all steps. A Temporary error is retried a few times, for all who share the run; any other ends them."""

    abstract = True
    # What a step changed stands in its operation's trail, which outlives a result in Redis.
    ignore_result = True
    max_retries = None  # execute counts: how often is the operator's to say

    def key_of(self, arguments: Mapping[str, Any]) -> str:
        """The key of the runs that serve a step of these arguments."""
        return f"{self.name}{self._key.read(self.name, (), arguments)}"

    def execute(self, execution: Execution, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Begin in SQL, run, end in SQL."""
        places = [place(execution.id), *(place(follower.id) for follower in execution.begun.followers)]
        try:
            begun = self._begin_in_sql(execution, places)
        except Temporary as error:
            raise self._later(error) from error
        if begun.verdict == "busy":
            self._wait_behind(execution, begun)
        if begun.verdict == "done":
            return []  # its operation goes on from here
        if begun.verdict == "ended":
            self.backend.mark_as_revoked(execution.id, "its operation has ended", request=self.request)
            raise Ignore("its operation has ended")
        execution.carries = begun.run
        if len(places) > 1:
            self._say_whom(execution, begun, places)
        starts.tell(self.app, self.request, execution.start)
        coalescer_of(self.app).heart.also(_renew)
        try:
            result = self.run(*args, **kwargs)
        except Temporary as error:
            again = self.request.retries < current().settings.operations.retries
            self._end(execution, places, RunState.RETRIED if again else RunState.FAILED, str(error))
            if again:
                raise self._later(error) from error
            raise
        except Exception as error:
            self._end(execution, places, RunState.FAILED, str(error) or type(error).__name__)
            raise
        self._end(execution, places, RunState.SUCCEEDED, changes=result)
        return result

    def was_revoked(self, id_: str) -> None:
        """Whoever revokes a step (in Flower, say) cancels its operation; else the sweep would publish the step again."""
        try:
            current().operations.cancel(place(id_).operation)
        except (Refused, Temporary) as error:
            log.warning("a revoked step's operation was not cancelled", id=id_, error=str(error))

    def _asked(self, args: Sequence[Any], kwargs: Mapping[str, Any], id_: str, options: Mapping[str, Any]) -> Ask:
        ask = super()._asked(args, kwargs, id_, options)
        mark = (options.get("headers") or {}).get(APART)
        return replace(ask, key=f"{ask.key} {mark}") if mark else ask

    def _say_whom(self, execution: Execution, begun: BegunRun, places: list[Place]) -> None:
        """One line, in the leader's story, that is found by the stories of those whom it serves."""
        followers = execution.begun.followers[:_SERVED_MOST]
        log.info(
            "runs for others too",
            run=begun.run,
            operation=places[0].operation,
            serves=[place.operation for place in places[1 : _SERVED_MOST + 1]],
            their_correlation_ids=[Payload.read(follower.payload).story for follower in followers],
            in_all=len(places) - 1,
        )

    def _begin_in_sql(self, execution: Execution, places: list[Place]) -> BegunRun:
        ask, begun, start = execution.ask, execution.begun, execution.start
        return store.begin_run(
            current().db,
            places,
            task_id=ask.id,
            task=self.name,
            key=ask.key,
            lane=ask.lane,
            queue=start.queue,
            attempt=begun.attempt,
            lane_wait_s=start.lane_wait_s,
            wait_s=start.wait_s,
            defers=start.defers,
            folded=start.folded,
            lease=_lease(self),
        )

    def _wait_behind(self, execution: Execution, holder: BegunRun) -> None:
        """Redis had forgotten who has the lane. It is told, and this run is woken when that one ends."""
        protocol = coalescer_of(self.app).protocol
        # An earlier execution of this very request has a name of its own, or it would wait for itself.
        name = holder.holder if holder.holder != execution.id else f"{execution.id}#{holder.run}"
        log.warning("Redis has forgotten who has a lane", lane=execution.ask.lane, id=execution.id, holder=name)
        protocol.behind(execution.id, execution.token, name, holder.lease_left_s)
        if not store.is_running(current().db, holder.run):
            protocol.done(name, "")
        raise Ignore(f"behind {name}")

    def _end(
        self,
        execution: Execution,
        places: list[Place],
        state: RunState,
        error: str | None = None,
        changes: Sequence[str] = (),
    ) -> None:
        leader = places[0]
        entries: list[dict[str, Any]] = [
            {
                "how": "ran",
                "served": len(places),
                "changes": list(changes)[:_CHANGES_MOST],
                **({"serves": [place.operation for place in places[1 : _SERVED_MOST + 1]]} if places[1:] else {}),
            }
        ]
        entries += [
            {"how": "folded", "into": leader.operation, "where": "at_worker" if p.position else "on_submit"}
            for p in places[1:]
        ]
        try:
            released = store.end_run(current().db, execution.carries, state, places, entries, error)
        except Temporary as unwritten:
            # It ran, and that is not written down: it runs once more when the database answers.
            raise self._later(unwritten) from unwritten
        execution.carries = None
        if released is None:
            raise self._later(Temporary("the run was given up for lost", remedy="it runs again"))
        current().operations.publish(released)

    def _later(self, error: Temporary) -> Exception:
        wait_s = min(_LAST_RETRY_S, _FIRST_RETRY_S * 2**self.request.retries)
        log.warning("a step is tried again", step=self.name, id=self.request.id, in_s=wait_s, error=str(error))
        retry: Exception = self.retry(exc=error, countdown=wait_s, throw=False)
        return retry


def _lease(task: CoalescingTask) -> timedelta:
    return timedelta(seconds=coalescer_of(task.app).protocol.lease_s)


def _renew(executions: Sequence[Execution]) -> None:
    runs = [execution.carries for execution in executions if execution.carries]
    if runs:
        context = current()
        store.renew_runs(context.db, runs, timedelta(seconds=coalescer_of(context.app).protocol.lease_s))
