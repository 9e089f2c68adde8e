"""Operations: the row first, committed; then its first step published. What is lost in between, the sweep publishes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import redis
import structlog
from celery.exceptions import QueueNotFound
from kombu.exceptions import OperationalError

from config.names import OPERATION_QUEUES, USER_FACING_QUEUE, node_queue
from scheduler.core.network_plans import check_wanted, family, is_going, plan_operation, read_target
from scheduler.core.operations import Place, task_id
from scheduler.errors import Refused, check_wait
from scheduler.store import networks
from scheduler.store import operations as store
from scheduler.store.operations import ToPublish
from tasks import correlation, traces
from tasks.coalescing.coalescer import coalescer_of
from tasks.operations.steps import APART
from tasks.operations.waiting import Listener
from tasks.patience import patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scheduler.core.network_plans import Spread, Target
    from scheduler.core.operations import Step
    from scheduler.redis.coalescing import Protocol
    from scheduler.store.database import Connection, Row
    from scheduler.store.operations import Operation, Released
    from tasks.context import Context

log = structlog.get_logger(__name__)

_LINKS_MOST: Final = 1_000
_LAST_ID: Final = 2**63 - 1


class Operations:
    """Submit, wait for and cancel operations. One a process; safe for threads."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._listener = Listener(context.settings.database_dsn)

    def submit(
        self,
        kind: str,
        target: str,
        *,
        queue: str = USER_FACING_QUEUE,
        needs: Sequence[int] = (),
        after: Sequence[int] = (),
        correlation_id: str = "",
    ) -> Operation:
        """Ask for an operation on what is wanted now, and is not changed; its row stands when this returns.

        `needs` must have succeeded and `after` must have ended before it begins. A wholly equal one that has not begun is
        returned as it is. `correlation_id` names the story that begins here; by default that of the task it is a part of,
        else a new one.

        Raises:
            Refused: an unknown kind, target, queue or operation, no correlation id, or nothing to do; nothing was written.
            Temporary: the database did not answer.
        """
        about = read_target(kind, target)

        def plan(connection: Connection) -> tuple[Spread, str]:
            found = networks.spread(connection, about.network, changing=False, going=is_going(kind))
            wanted = networks.wants(connection, family(kind), about.network, about.part)
            check_wanted(kind, about, wanted=wanted)
            return found, networks.interface_node(connection, about.network, about.part) if about.part else ""

        with correlation.within(correlation.chosen(correlation_id)):
            return self.submit_change(kind, about, plan, queue=queue, needs=needs, after=after)

    def submit_change(
        self,
        kind: str,
        target: Target,
        change: Callable[[Connection], tuple[Spread, str]],
        *,
        queue: str,
        needs: Sequence[int] = (),
        after: Sequence[int] = (),
    ) -> Operation:
        """Change what is wanted and submit what makes it so, in one transaction. `change` says where its network is."""
        self._check(queue, needs, after)
        story = correlation.chosen()
        with correlation.within(story), traces.span(f"submit {kind}", target=target, queue=queue):
            operation, steps = self._write(kind, target, change, queue=queue, needs=needs, after=after)
            # The story of one that stood already is another's: both are in this line.
            others = {} if operation.is_new else {"stands_in": operation.correlation_id}
            traces.note(operation=operation.id, is_new=operation.is_new)
            log.info("submitted", operation=operation.id, kind=kind, target=str(target), queue=queue, **others)
            if operation.is_new and operation.state == "queued":
                self._send(ToPublish(Place(operation.id, 0, operation.token), queue, steps, story))
        return operation

    def _write(
        self,
        kind: str,
        target: Target,
        change: Callable[[Connection], tuple[Spread, str]],
        *,
        queue: str,
        needs: Sequence[int],
        after: Sequence[int],
    ) -> tuple[Operation, tuple[Step, ...]]:
        rank = coalescer_of(self._context.app).rank(queue)

        def write(connection: Connection) -> tuple[Operation, tuple[Step, ...]]:
            spread, node = change(connection)
            # A node that was taken out of the settings is gone, and nothing is left to be made so there.
            nodes = self._context.settings.network.nodes
            plan = plan_operation(
                kind, target, replace(spread, nodes=tuple(n for n in spread.nodes if n in nodes)), node
            )
            if gone := {step.node for step in plan.steps if step.node and step.node not in nodes}:
                raise Refused(
                    f"{kind} of {target}",
                    expected=f"nodes of [network.nodes]: {', '.join(nodes)}",
                    got=", ".join(sorted(gone)),
                    remedy="add it to the settings again",
                )
            if not self._context.settings.operations.coalesce:
                plan = plan.kept_apart(uuid4().hex)
            operation = store.submit(
                connection,
                kind,
                str(target),
                queue=queue,
                rank=rank,
                plan=plan,
                needs=needs,
                after=after,
                correlation_id=correlation.current(),
            )
            return operation, plan.steps

        return self._context.db.transaction(write)

    def wait(self, operation: int, timeout_s: float, *, task_id: str = "") -> Row:
        """Block until the operation has ended, at most so long; what is known of it then.

        The wait of a task that says its id can be ended by that (tasks/patience.py).

        Raises:
            Refused: no such operation, or a wait out of bounds.
        """
        self.check_wait(timeout_s)

        def ended() -> bool:
            found = store.await_end(self._context.db, operation)
            if found is None:
                raise _unknown(operation)
            return found

        if not ended() and timeout_s > 0:
            with patience(timeout_s, task_id) as left:
                self._listener.wait(operation, ended, left)
        return self.show(operation)

    def check_wait(self, timeout_s: float) -> None:
        """Refuse a wait that `wait` would refuse: for whoever changes something before he waits."""
        check_wait(timeout_s, self._context.settings.timeouts.claim_wait_max_s)

    def show(self, operation: int) -> Row:
        """All that is known of an operation. Refused: there is no such."""
        row = store.show(self._context.db, operation)
        if row is None:
            raise _unknown(operation)
        return row

    def show_with_runs(self, operation: int) -> Row:
        """The same, and in `runs` what its trail does not have: the run that serves it now, and those that were lost."""
        row = self.show(operation)
        key = None
        if row["state"] == "running":
            step = row["plan"][row["step"]]
            key = self._context.app.tasks[step["task"]].key_of(step["arguments"])
        return {**row, "runs": store.runs_beside(self._context.db, operation, key)}

    def cancel(self, operation: int) -> bool:
        """End an operation: no step of it begins any more. False: it had ended. Others who share its run lose nothing."""
        cancelled = store.cancel(self._context.db, operation)
        if cancelled is None:
            self.show(operation)
            return False
        place, released = cancelled
        self.publish(released)
        id_ = task_id(place)
        try:
            self._task_of(place).give_up_waiting(id_)
            self._context.app.backend.mark_as_revoked(id_, "cancelled", store_result=True)
        except (OperationalError, redis.RedisError) as error:
            log.warning("a cancelled step was not taken back; it begins nothing", operation=operation, error=str(error))
        return True

    def publish(self, operations: Iterable[Released]) -> None:
        """Publish the next step of each. A broker that does not answer is logged: the sweep finds what it was about."""
        for operation in operations:
            self._publish(operation.id)

    def sweep(self, unseen_s: float, at_most: int) -> dict[str, int]:
        """Give up runs that nobody lives to end, and publish again the steps of which Redis knows nothing."""
        db = self._context.db
        lost = store.lose_runs(db, at_most)
        places = store.unseen(db, timedelta(seconds=unseen_s), at_most)
        known = self._protocol.known([task_id(place) for place in places])
        forgotten = [place for place, is_known in zip(places, known, strict=True) if not is_known]
        for place in forgotten:
            self._publish(place.operation)
        return {"lost_runs": lost, "forgotten_steps": len(forgotten)}

    def close(self) -> None:
        """Stop listening for ends."""
        self._listener.close()

    def _publish(self, operation: int) -> None:
        found = store.steps(self._context.db, operation)
        if found is not None:
            self._send(found)

    def _send(self, what: ToPublish) -> None:
        """Publish the step at its place; the others are the rest of its chain."""
        with correlation.within(what.correlation_id):
            self._send_chain(what)

    def _send_chain(self, what: ToPublish) -> None:
        app, place, operation = self._context.app, what.place, what.place.operation
        ids = [task_id(Place(operation, position, place.token)) for position in range(len(what.steps))]
        first, *rest = [
            app.signature(
                step.task,
                kwargs=step.arguments,
                immutable=True,
                options={"task_id": id_, "queue": node_queue(what.queue, step.node), **_headers(step)},
            )
            for step, id_ in list(zip(what.steps, ids, strict=True))[place.position :]
        ]
        try:
            app.tasks[first.task].apply_async(
                kwargs=first.kwargs, chain=list(reversed(rest)), root_id=ids[0], retry=False, **first.options
            )
        except (OperationalError, redis.RedisError) as error:
            log.warning("a step was not published; the sweep publishes it", operation=operation, error=str(error))
        except QueueNotFound as error:
            # Of one operation alone: the sweep goes on to the next.
            log.error("a step's node is not in [network.nodes]", operation=operation, error=str(error))  # noqa: TRY400

    def _task_of(self, place: Place) -> Any:  # noqa: ANN401 - a Celery task
        row = self.show(place.operation)
        return self._context.app.tasks[row["plan"][place.position]["task"]]

    @cached_property
    def _protocol(self) -> Protocol:
        return coalescer_of(self._context.app).protocol

    def _check(self, queue: str, needs: Sequence[int], after: Sequence[int]) -> None:
        if queue not in OPERATION_QUEUES:
            raise Refused(
                f"queue {queue!r}", expected=f"one of {', '.join(OPERATION_QUEUES)}", remedy="name one of these"
            )
        for operation in (*needs, *after):
            if not 0 < operation <= _LAST_ID:
                raise _unknown(operation)
        if len(needs) + len(after) > _LINKS_MOST:
            raise Refused(
                "too many operations to wait for",
                expected=f"at most {_LINKS_MOST}",
                got=str(len(needs) + len(after)),
                remedy="wait for one that comes after them all",
            )


def _headers(step: Step) -> dict[str, Any]:
    # The rest of a chain is published by whoever ran the step before it, maybe for other operations as well.
    headers = {APART: step.apart} if step.apart else {}
    correlation.add_to(headers)
    return {"headers": headers} if headers else {}


def _unknown(operation: int) -> Refused:
    return Refused(
        f"operation {operation} is unknown",
        expected="one of `stoker op list`",
        remedy="its history may have been pruned",
    )
