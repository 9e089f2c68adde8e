"""`stoker doctor`: every assumption, checked, with the remedy of each that does not hold."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from typing import Final

import psycopg
from redis.exceptions import NoPermissionError
from sqlalchemy import create_engine, inspect

from config.ladder import broken_rungs
from config.settings import Settings, load, python_command
from scheduler.redis.connection import connect
from scheduler.redis.queues import policy
from scheduler.store import beat, queues, revision, schedule
from scheduler.store.database import Database
from scheduler.store.migrate import sqlalchemy_url
from scheduler.store.schema import metadata
from tasks.cli import kubernetes_checks, network_checks, schedule_checks, schedule_views
from tasks.cli.check import Check
from tasks.engines import check_postgres, check_redis

_RIGHTS: Final = (
    "give Stoker's user on Redis what deploy/valkey/users.acl lists; `ACL LOG` there names what was refused"
)

# As Python's ssl and libpq say it.
_UNVERIFIED: Final = ("certificate verify failed", "does not match host name")
_TLS: Final = (
    "have the URL name the authority that vouches for the server (ssl_ca_certs of Redis, sslrootcert of PostgreSQL), "
    "and the server by a name or address in its certificate"
)


def examine() -> Iterator[Check]:
    """Check in the order in which a start would fail. What cannot be asked because of an earlier fault is left out."""
    enough = sys.version_info >= (3, 11)
    yield Check("python", enough, sys.version.split()[0], "" if enough else "install Python 3.11 or later")
    yield Check(
        "celery",
        version("celery").startswith("5.7."),
        f"celery {version('celery')}, kombu {version('kombu')}",
        "run `make` again: requirements.lock pins 5.7",
    )
    try:
        settings = load()
    except ValueError as error:
        yield Check("settings", ok=False, found=str(error), remedy="mend the keys named")
        return
    yield Check("settings", ok=True, found=f"{len(settings.profiles)} profiles: {', '.join(settings.profiles)}")
    yield from _profiles(settings)
    yield _queues(settings)
    yield network_checks.leases(settings)
    yield from network_checks.networks(settings.network)
    yield from kubernetes_checks.cluster(settings)
    yield _attempt("postgresql", lambda: _postgres(settings), "start it with `stoker up`, or mend STOKER_DATABASE_URL")
    yield _attempt("schema", lambda: _schema(settings), "run `stoker migrate`")
    yield _attempt("redis", lambda: _redis(settings), "start it with `stoker up`, or mend STOKER_REDIS_URL")
    yield _attempt("rights on redis", lambda: _rights(settings), "see what else Redis refuses: `ACL LOG`")
    remedy = "the next sweep does it: see that beat and the control worker run (`stoker status`)"
    yield _attempt("policies of queues", lambda: _policies(settings), remedy)
    remedy = "`stoker schedule set` what it names, or mend [schedule] in the settings and run `stoker migrate`"
    yield _attempt("schedule", lambda: _schedule(settings), remedy)
    yield _attempt("beat", lambda: _beat(settings), "start one: `stoker up` runs two, or `celery -A tasks beat`")


def _profiles(settings: Settings) -> Iterator[Check]:
    for profile in settings.profiles.values():
        wrong = broken_rungs(profile, settings.timeouts)
        parts_s = profile.ready_s + profile.connect_s + profile.activate_s
        ladder = f"{parts_s:g} < {profile.spawn_budget_s:g} < {settings.timeouts.stuck_spawning_s:g} s"
        yield Check(f"deadlines of {profile.name}", not wrong, "; ".join(wrong) or ladder, "raise the outer one")
        if settings.launcher.kind == "process":
            program = python_command(profile.command)[0]
            found = shutil.which(program)
            yield Check(
                f"command of {profile.name}",
                found is not None,
                found or f"{program} not found",
                "install it, or mend the command",
            )
        if profile.max_workers == 0:
            yield Check(
                f"cap of {profile.name}", ok=True, found="max_workers 0: unbounded, what it runs on is the ceiling"
            )


def _queues(settings: Settings) -> Check:
    """That they hold together is checked when the settings are read."""
    reserved = sum(queue.reserve for queue in settings.queues.values())
    found = f"{', '.join(settings.classes)}; {reserved:.0%} reserved"
    return Check("queues", ok=True, found=found)


def _attempt(name: str, check: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(name, ok=True, found=check())
    except NoPermissionError as error:
        return Check(name, ok=False, found=f"NOPERM: {error}", remedy=_RIGHTS)
    except Exception as error:  # noqa: BLE001 - whatever is wrong is what is to be shown
        found = str(error).strip() or repr(error)
        return Check(name, ok=False, found=found, remedy=_TLS if any(word in found for word in _UNVERIFIED) else remedy)


def _postgres(settings: Settings) -> str:
    with psycopg.connect(settings.database_dsn, connect_timeout=3) as connection:
        check_postgres(connection)
        return f"PostgreSQL {connection.info.server_version // 10_000}, {'by URL' if settings.database_url else 'embedded'}"


def _schema(settings: Settings) -> str:
    engine = create_engine(sqlalchemy_url(settings.database_dsn), connect_args={"connect_timeout": 3})
    missing = set(metadata.tables) - set(inspect(engine).get_table_names())
    engine.dispose()
    if missing:
        what = f"tables missing: {', '.join(sorted(missing))}"
        raise LookupError(what)
    with psycopg.connect(settings.database_dsn, connect_timeout=3) as connection:
        found = revision.revision(connection)
    revision.check_not_older(found)
    return f"{len(metadata.tables)} tables, revision {found}"


def _redis(settings: Settings) -> str:
    client = connect(settings.redis_client_url, timeout_s=3.0)
    check_redis(client)
    info = client.info("server")
    name = "Valkey" if "valkey_version" in info else "Redis"
    return f"{name} {info.get('valkey_version') or info['redis_version']}, {'by URL' if settings.redis_url else 'embedded'}"


def _rights(settings: Settings) -> str:
    """A queue that an operator has added is a key that the user may not have."""
    refused = []
    with closing(connect(settings.redis_client_url, timeout_s=3.0)) as client:
        for queue in settings.all_queues:
            try:
                client.llen(queue)
            except NoPermissionError:
                refused.append(f"~{queue}")
    if refused:
        raise NoPermissionError(f"no access to queues; missing: {' '.join(refused)}")
    return f"{len(settings.all_queues)} queues can be read"


def _schedule(settings: Settings) -> str:
    from tasks.celery_app import app  # noqa: PLC0415 - it reads the settings, which are checked by now

    with closing(Database(settings.database_dsn, connections=1, timeout_s=3.0)) as db:
        entries = schedule.entries(db)
    wrong = schedule_checks.faults(entries, app, settings)
    if wrong:
        raise LookupError("; ".join(wrong))
    return schedule_views.words(schedule_views.summary(entries))


def _beat(settings: Settings) -> str:
    with closing(Database(settings.database_dsn, connections=1, timeout_s=3.0)) as db:
        holder = beat.active_beat(db)
    if holder is None:
        what = "no beat is active: no tick is sent"
        raise LookupError(what)
    return f"process {holder.pid} on {holder.host} sends, heard of {holder.age_s:.1f} s ago"


def _policies(settings: Settings) -> str:
    with closing(Database(settings.database_dsn, connections=1, timeout_s=3.0)) as db:
        wanted = policy.texts(queues.policies(db))
    with closing(connect(settings.redis_client_url, timeout_s=3.0)) as client:
        found = policy.read(client)
    if found != wanted:
        what = f"workers read {found or 'no changes'}, and SQL says {wanted or 'none'}"
        raise LookupError(what)
    return f"{len(found)} changed by operators: {', '.join(found)}" if found else "as in the settings"
