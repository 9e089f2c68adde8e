"""What metrics are made of: counts of what is so now, and what the record says has happened since it was last read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.store.database import Database, Row

# An id is given before its row can be seen: a transaction that commits late has a smaller one than what was read before it.
# So what is younger than this is read again. No transaction of the pool may last as long.
_SETTLED_S = 60
_SPAWNS = """
select e.id, p.family, e.kind = 'worker.idle' as was_ready,
       extract(epoch from e.at - w.created_at)::float as took_s
from events e join profiles p on p.name = e.profile left join workers w on w.id = e.worker_id
where e.id > %(after)s and e.kind in ('worker.idle', 'worker.draining', 'worker.lost') and e.detail ->> 'from' = 'spawning'
order by e.id limit %(most)s
"""
_SCHEDULE = """
select name, sent, missed, case when coalesce((settings || overrides) ->> 'enabled', 'true')::boolean
    then greatest(0, extract(epoch from clock_timestamp() - due_at))::float else 0 end as overdue_s
from schedule order by name
"""
_FOLDS = """
select labels ->> 'step' as step, coalesce(sum(many) filter (where metric = 'stoker_step_requests'), 0)::bigint as requests,
       coalesce(sum(many) filter (where metric = 'stoker_folds'), 0)::bigint as folded,
       coalesce(sum(many) filter (where metric = 'stoker_folds_missed'), 0)::bigint as missed
from tallies where metric in ('stoker_step_requests', 'stoker_folds', 'stoker_folds_missed') group by 1 order by 1
"""


def newest_event(db: Database) -> int:
    """The id of the latest event; 0 if there is none."""
    row = db.row("select coalesce(max(id), 0) as id from events")
    return 0 if row is None else int(row["id"])


def settled_event(db: Database) -> int:
    """The id up to which no event can still appear; 0 if there is none."""
    row = db.row(
        "select id from events where at < clock_timestamp() - make_interval(secs => %(settled)s) order by id desc limit 1",
        settled=_SETTLED_S,
    )
    return 0 if row is None else int(row["id"])


def spawns(db: Database, after: int, most: int) -> list[Row]:
    """Spawns that ended, well or not, of events beyond that id, the first of them."""
    return db.rows(_SPAWNS, after=after, most=most)


def operations(db: Database) -> dict[str, int]:
    """How many operations have not ended, by state."""
    return {
        row["state"]: row["many"]
        for row in db.rows("select state, count(*) as many from operations where ended_at is null group by state")
    }


def schedule(db: Database) -> list[Row]:
    """Of each entry how often it was sent and missed, and for how long it has been due; 0 of one that is disabled."""
    return db.rows(_SCHEDULE)


def folds(db: Database) -> list[Row]:
    """Of each step that was counted: how often it was asked for, folded, and ran beside an equal one."""
    return db.rows(_FOLDS)
