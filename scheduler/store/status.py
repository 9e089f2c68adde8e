"""What is so now, for people and programs to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.store.database import Database, Row

_POOL = """
select p.name, p.family, p.floor, p.max_workers, p.is_current, p.draining, p.failures,
       case when p.backoff_until > now() then extract(epoch from p.backoff_until - now())::float end as backoff_s,
       coalesce(k.waiting, 0)::int as waiting, k.oldest_wait_s,
       coalesce(w.spawning, 0)::int as spawning, coalesce(w.idle, 0)::int as idle, coalesce(w.cordoned, 0)::int as cordoned,
       coalesce(w.activating, 0)::int as activating,
       coalesce(w.active, 0)::int as active, coalesce(w.hot_idle, 0)::int as hot_idle, coalesce(w.draining, 0)::int as stopping
from profiles p
left join (select profile, count(*) filter (where state = 'spawning') as spawning,
                  count(*) filter (where state = 'idle' and not cordoned) as idle,
                  count(*) filter (where state = 'idle' and cordoned) as cordoned,
                  count(*) filter (where state = 'activating') as activating, count(*) filter (where state = 'active') as active,
                  count(*) filter (where state = 'hot_idle') as hot_idle, count(*) filter (where state = 'draining') as draining
           from workers where ended_at is null group by profile) w on w.profile = p.name
left join (select profile, count(*) as waiting, extract(epoch from now() - min(asked_at))::float as oldest_wait_s
           from tickets where worker_id is null and expires_at > now() group by profile) k on k.profile = p.name
where p.is_current or w.profile is not null
order by p.is_current desc, p.family, p.name
"""
_WORKERS = """
select id, profile, state, epoch, tenant, node, endpoint, handle, failure,
       extract(epoch from now() - state_since)::float as in_state_s, extract(epoch from now() - created_at)::float as age_s,
       extract(epoch from lease_until - now())::float as lease_left_s
from workers
where (ended_at is null or %(ended)s) and (%(state)s::text is null or state = %(state)s)
  and (%(tenant)s::text is null or tenant = %(tenant)s) and (%(profile)s::text is null or profile = %(profile)s)
order by id desc limit %(most)s
"""
_NODES = """
select n.name, n.first_seen, n.cordoned or n.unschedulable as cordoned, count(w.id)::int as workers,
       count(w.id) filter (where w.state = 'idle')::int as idle
from nodes n left join workers w on w.node = n.name and w.ended_at is null group by n.name order by n.first_seen
"""


def pool(db: Database) -> list[Row]:
    """A row a profile: its floor and caps, its workers by state, who waits and for how long (seconds).

    Idle workers of closed nodes, which no claim gets, are `cordoned`.
    """
    return db.rows(_POOL)


def workers(
    db: Database,
    *,
    limit: int = 200,
    state: str | None = None,
    tenant: str | None = None,
    profile: str | None = None,
    ended: bool = False,
) -> list[Row]:
    """Workers, newest first. Keys of workers are no part of it."""
    return db.rows(_WORKERS, most=limit, state=state, tenant=tenant, profile=profile, ended=ended)


def nodes(db: Database) -> list[Row]:
    """Nodes by the time each was first seen, with their live workers."""
    return db.rows(_NODES)


def tenants(db: Database) -> list[Row]:
    """Tenants with their caps and live claims."""
    return db.rows(
        "select t.name, t.max_workers, count(w.id)::int as live from tenants t"
        " left join workers w on w.tenant = t.name and w.lease_until is not null"
        " group by t.name, t.max_workers order by live desc, t.name limit 200"
    )
