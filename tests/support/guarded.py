"""Engines as a deployment of several machines has them: users with few rights and a password each, over TLS."""

from __future__ import annotations

import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import redis
from psycopg import sql

from config.locations import POSTGRES_SOCKET_NAME, Locations
from tasks.engines import EmbeddedPostgres, wipe
from tasks.engines.binaries import valkey_program
from tasks.engines.launch import end, launch
from tests.support import profiles
from tests.support.deployment import Deployment, started
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.queue_servers import (
    HOST,
    START_S,
    as_postgresql_asks,
    certificate,
    listens,
    tls_in_front_of,
)

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "valkey"
# Beside those who are shipped, for the tests to look on.
WATCHER = "user watcher on nopass allkeys +@all\n"
# How a test calls its connections that ask for what they should be refused.
INTRUDER = "intruder"


@dataclass(frozen=True)
class Valkey:
    """One with users of its own."""

    port: int
    password: str
    log: Path

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int, scheme: str = "redis", **query: str) -> str:
        said = f"?{urlencode(query)}" if query else ""
        return f"{scheme}://stoker:{quote(self.password, safe='')}@{HOST}:{port}/0{said}"

    def watcher(self) -> redis.Redis:
        return redis.Redis(HOST, self.port, username="watcher", password="any", decode_responses=True)  # noqa: S106

    def stoker(self, name: str) -> redis.Redis:
        return redis.Redis(
            HOST, self.port, username="stoker", password=self.password, client_name=name, decode_responses=True
        )

    def refused(self) -> set[tuple[str, str]]:
        """What Stoker was refused: a command, a key or a channel, and which."""
        with self.watcher() as client:
            entries: Any = client.acl_log()
        return {
            (each["reason"], each["object"])
            for each in entries
            if each["username"] == "stoker" and each["reason"] != "auth" and each["client-info"]["name"] != INTRUDER
        }


@contextmanager
def valkey_with_users(folder: Path, password: str, *, also: str = "") -> Iterator[Valkey]:
    """Started by the script that deployments start it by; its user stoker may do this `also`."""
    port = free_port()
    folder.mkdir()
    served = shutil.copytree(SHIPPED, folder / "valkey")
    with (served / "users.acl").open("a") as users:
        users.write(f"{also}\n{WATCHER}")
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(stat.S_IRUSR)
    (folder / "valkey-server").symlink_to(valkey_program())
    child = launch(
        [str(served / "serve.sh"), "--port", str(port), "--bind", HOST, "--dir", str(folder)],
        log=folder / "log",
        env={"PATH": f"{folder}:/usr/bin:/bin", "VALKEY_PASSWORD_FILE": str(secret), "VALKEY_RUN_DIR": str(folder)},
        death_signal=signal.SIGKILL,
    )
    try:
        eventually(lambda: listens(port), "the server with users listens", within_s=START_S)
        yield Valkey(port, password, folder / "log")
    finally:
        end(child, grace_s=START_S)


@dataclass(frozen=True)
class Postgres:
    """One with a role that logs in by its password alone, in a database of its own."""

    socket: Path
    role: str
    password: str
    database: str

    def url_at(self, port: int, **query: str) -> str:
        return (
            f"postgresql://{self.role}:{quote(self.password, safe='')}@{HOST}:{port}/{self.database}?{urlencode(query)}"
        )


@contextmanager
def postgres_with_password(folder: Path, password: str) -> Iterator[Postgres]:
    """The embedded one, but for who may come in how."""
    locations = Locations.under(folder)
    with ExitStack() as down:
        down.callback(wipe, locations)
        server = EmbeddedPostgres(locations, durable=False)
        down.callback(server.stop)
        server.start()
        role = "guarded"
        with closing(psycopg.connect(locations.database_url, autocommit=True)) as admin:
            admin.execute(
                sql.SQL("create role {} login password {}").format(sql.Identifier(role), sql.Literal(password))
            )
            admin.execute(sql.SQL("create database {0} owner {0}").format(sql.Identifier(role)))
            access = locations.postgres_data / "pg_hba.conf"
            access.write_text(f"local all {role} scram-sha-256\n{access.read_text()}")
            admin.execute("select pg_reload_conf()")
        yield Postgres(locations.postgres_socket_dir / POSTGRES_SOCKET_NAME, role, password, role)


@dataclass(frozen=True)
class Engines:
    """Both of them, by URL."""

    folder: Path  # theirs, with their logs
    valkey: Valkey
    tls: int  # the Valkey's port
    postgres: Postgres
    postgres_tls: int
    authority: Path  # the certificate that vouches for both

    @property
    def redis_url(self) -> str:
        return self.valkey.url_at(self.tls, "rediss", ssl_ca_certs=str(self.authority))

    @property
    def database_url(self) -> str:
        return self.postgres.url_at(self.postgres_tls, sslmode="verify-full", sslrootcert=str(self.authority))


@contextmanager
def guarded_engines(redis_password: str, database_password: str) -> Iterator[Engines]:
    """Both, behind TLS."""
    with ExitStack() as down:
        # Not pytest's own folder: that is 0700, and as root PostgreSQL runs as somebody else.
        folder = Path(down.enter_context(tempfile.TemporaryDirectory(prefix="stoker-guarded-", dir="/var/tmp")))
        folder.chmod(0o711)
        cert = certificate(folder)
        valkey = down.enter_context(valkey_with_users(folder / "valkey", redis_password))
        postgres = down.enter_context(postgres_with_password(folder / "postgres", database_password))
        tls = down.enter_context(tls_in_front_of(valkey.port, cert))
        sql_tls = down.enter_context(tls_in_front_of(postgres.socket, cert, ask=as_postgresql_asks))
        yield Engines(folder, valkey, tls, postgres, sql_tls, cert.path)


@contextmanager
def guarded_deployment(folder: Path, engines: Engines) -> Iterator[Deployment]:
    """All services on them. At its end, nobody must have been refused what is needed."""
    document = {
        "profiles": {"echo": profiles.echo(floor=1), "later": profiles.echo(ready_after_s=1.0)},
        "flower": {"port": free_port()},
        "exporter": {"port": free_port()},
        "network": {"nodes": {"node1": {"address": "10.99.0.1", "namespace": "guarded1"}}},
    }
    try:
        with started(folder, engines.database_url, engines.redis_url, document, without=()) as deployment:
            yield deployment
    finally:
        # Said here, for a worker that is refused something tries again and again.
        assert sorted(engines.valkey.refused()) == [], "a word is missing in deploy/valkey/users.acl"
