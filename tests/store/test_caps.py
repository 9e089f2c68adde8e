"""Caps that change while their tenant's claims come and go: counted under a cap only, and never wrong."""

from __future__ import annotations

from scheduler.core.misses import MissReason
from scheduler.store import history
from scheduler.store.claims import Claim
from tests.support import racers
from tests.support.crowd import crowd
from tests.support.fleet import Fleet

PROCESSES = 6
CHANGES = 150


def do(step: str, *arguments: object) -> object:
    return getattr(racers, step)(*arguments)


def test_a_cap_set_among_claims_that_begin_and_end_counts_every_one(fleet: Fleet, database_url: str) -> None:
    fleet.idle(PROCESSES)
    fleet.tenant("acme")
    visits = [("come_and_go", database_url, "acme", fleet.profile(), 120)] * PROCESSES
    caps = [cap for _ in range(CHANGES) for cap in (0, 3)]
    counts = crowd(do, [*visits, ("change_caps", database_url, "acme", caps)])
    assert sum(int(str(count)) for count in counts[:-1]) > PROCESSES
    assert fleet.db.rows("select max_workers, live from tenants where name = 'acme'") == [{"max_workers": 3, "live": 0}]
    assert not history.miscounted_tenants(fleet.db)


def test_a_cap_below_what_is_held_ends_nothing_and_grants_nothing_more(fleet: Fleet) -> None:
    fleet.idle(4)
    held = [fleet.hold("acme") for _ in range(3)]
    racers.change_caps(fleet.db.dsn, "acme", [2])
    assert fleet.claim("acme") is MissReason.TENANT_CAP
    assert fleet.release(held.pop()) == "hot_idle"
    assert fleet.claim("acme") is MissReason.TENANT_CAP
    assert fleet.release(held.pop()) == "hot_idle"
    assert isinstance(fleet.claim("acme"), Claim)
    assert not history.miscounted_tenants(fleet.db)


def test_a_cap_taken_away_is_counted_no_more(fleet: Fleet) -> None:
    fleet.idle(3)
    fleet.tenant("acme", cap=1)
    first = fleet.hold("acme")
    assert fleet.claim("acme") is MissReason.TENANT_CAP
    racers.change_caps(fleet.db.dsn, "acme", [0])
    assert isinstance(fleet.claim("acme"), Claim)
    assert fleet.release(first) == "hot_idle"
    assert fleet.db.rows("select live from tenants where name = 'acme'") == [{"live": 0}]
