"""Claims and operations by the calls that the version before has as well, until standard input ends: a program, run by the
code of one version or the other (PYTHONPATH), on one database.

What it does is told by the record that it leaves: its operations are of the kind that it was given.
"""

from __future__ import annotations

import os
import sys
import threading
from datetime import timedelta

from scheduler.core.operations import Place, RunState, Step, plan
from scheduler.store import claims, history, operations, tickets
from scheduler.store.claims import Claim
from scheduler.store.database import Database

MINUTE = timedelta(minutes=1)
TENANTS = 3


def main(url: str, profile: str, kind: str) -> None:
    """Until told to stop. Any error ends it, with a traceback."""
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    # Few connections, which so come to prepare what they send.
    db = Database(url, connections=2)
    turn = 0
    while not stop.is_set():
        turn += 1
        _claim(db, f"{kind}-{turn % TENANTS}", profile)
        _operate(db, kind, turn)
    db.close()


def _claim(db: Database, tenant: str, profile: str) -> None:
    held = claims.claim(db, tenant, profile, waiter="", lease=MINUTE)
    assert isinstance(held, Claim), held
    assert claims.activated(db, held, MINUTE)
    assert claims.renew(db, held.worker_id, held.epoch, tenant, MINUTE)
    released = claims.release(db, held.worker_id, held.epoch, tenant)
    assert released is not None
    assert released["became"] == "hot_idle"
    # One that waits, is granted its own worker again, and gives up.
    ticket = tickets.take(db, tenant, profile, waiter="w", wake_key="k", ttl=MINUTE, at_most=10)
    assert ticket is not None
    tickets.grant(db, profile, lease=MINUTE, at_most=10)
    granted = tickets.give_back(db, ticket)
    assert granted is not None
    assert claims.abandon(db, granted, "given up") is True
    db.rows("update workers set state = 'retired', ended_at = now() where id = %(id)s", id=granted.worker_id)
    # So that the next one finds one: what is used up is replaced.
    db.rows(
        "insert into workers (profile, state, ready_at, endpoint) values (%(profile)s, 'idle', now(), 'http://nowhere')",
        profile=profile,
    )


def _operate(db: Database, kind: str, turn: int) -> None:
    steps = plan([Step("step.a", {"network": "blue"}), Step("step.b", {"network": "blue"})])
    made = db.transaction(
        lambda connection: operations.submit(connection, kind, str(turn), queue="q", rank=2, plan=steps)
    )
    for position in range(2):
        place = Place(made.id, position, made.token)
        begun = operations.begin_run(
            db,
            [place],
            task_id=f"op{made.id}",
            task="step.a",
            key=kind,
            lane=kind,
            queue="q",
            attempt=1,
            lane_wait_s=0.0,
            lease=MINUTE,
        )
        assert begun.verdict == "run", begun
        assert operations.steps(db, made.id) is not None
        assert operations.end_run(db, begun.run, RunState.SUCCEEDED, [place], [{"how": "ran"}]) == []
    row = operations.show(db, made.id)
    assert row is not None
    assert row["state"] == "succeeded", row
    assert operations.recent(db, limit=2)
    assert history.events(db, limit=2)


if __name__ == "__main__":
    sys.stderr.write(f"scheduler of {os.path.dirname(operations.__file__)}\n")  # noqa: PTH120 - as text
    main(*sys.argv[1:])
