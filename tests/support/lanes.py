"""A lane that is taken for the time of a block, so that what is submitted meanwhile folds and parks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scheduler.core.operations import RunState
from scheduler.store import operations as store
from tasks.coalescing.coalescer import coalescer_of
from tests.support.deployment import Deployment
from tests.support.eventually import eventually

WITHIN_S = 60.0


@contextmanager
def lane_taken(deployment: Deployment, network: str, node: str) -> Iterator[Callable[[int], None]]:
    """A run in a lane, which Redis has never heard of; yields a wait until so many others give way to it."""
    lane, holder = f'network/node["{network}","{node}"]', f"test-{network}"
    row = deployment.db.row(
        "insert into runs (task, key, lane, queue, operation_id, task_id, attempt, served, lane_wait_s, lease_until)"
        " values ('test', 'test', %(lane)s, 'test', 0, %(holder)s, 1, 1, 0, clock_timestamp() + interval '1 min')"
        " returning id",
        lane=lane,
        holder=holder,
    )
    assert row is not None
    protocol = coalescer_of(deployment.context.app).protocol

    def until_parked(count: int) -> None:
        members = protocol._client.zrange
        key = protocol._keys[5]

        def parked() -> bool:
            return sum(member.startswith(f"{lane}\0") for member in members(key, 0, -1)) == count

        eventually(parked, f"{count} give way", within_s=WITHIN_S)

    yield until_parked
    store.end_run(deployment.db, row["id"], RunState.SUCCEEDED, [], [])
    protocol.done(holder, "")
