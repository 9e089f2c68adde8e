"""The broker as operators have it: behind a password, with few rights, in another database, over TLS, watched by a sentinel."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis

from tests.support.eventually import eventually
from tests.support.guarded import valkey_with_users
from tests.support.queue_app import LATER, URGENT
from tests.support.queue_lab import WAIT_S, Lab
from tests.support.queue_servers import HOST, certificate, tcp_server, tls_in_front_of, watched
from tests.transport.conftest import Broker

PASSWORD = "a:b/c@d%20"  # noqa: S105 - of a server that lives for one test


def lab_on(broker: Broker, url: str, store: redis.Redis, **how: Any) -> Any:
    return closing(Lab(url, store, broker.stage_url, broker.logs, **how))


def works(lab: Lab, key: str, pool: str = "prefork") -> None:
    """Tasks run and their results come, a paused worker answers, and nothing is left."""
    worker = lab.joined(pool)
    first = lab.send("late", key, 1, 2, 3)
    assert [each.get(timeout=WAIT_S) for each in first] == [1, 2, 3]
    assert lab.app.control.ping(destination=[worker.hostname], timeout=10, limit=1)
    lab.send("late", key, 4, hold=True)
    lab.stage.hear("begins", key, 4)
    # A result comes before its message is acknowledged.
    eventually(lambda: lab.held() == 1, "only what runs is held", within_s=WAIT_S)
    lab.stage.let(key)
    lab.until_idle()


def test_a_password(broker: Broker, tmp_path: Path, key: str) -> None:
    with tcp_server(tmp_path / "server", f'requirepass "{PASSWORD}"') as port:
        store = redis.Redis(HOST, port, password=PASSWORD, decode_responses=True)
        with lab_on(broker, f"redis://:{quote(PASSWORD, safe='')}@{HOST}:{port}/0", store) as lab:
            works(lab, key)


def test_a_user_who_may_do_what_is_needed_and_nothing_else(broker: Broker, tmp_path: Path, key: str) -> None:
    short = {"visibility_timeout": 600, "unacked_restore_interval": 0.2, "unacked_restore_throttle": 1}
    conf = {"broker_transport_options": short}
    with (
        valkey_with_users(tmp_path / "server", PASSWORD, also=f"~{URGENT} ~{LATER}") as server,
        lab_on(broker, server.url, server.watcher(), conf=conf) as lab,
    ):
        try:
            works(lab, key)
            lab.app.control.purge()
        finally:
            # Said here, for a worker that is refused something tries again and again.
            assert sorted(server.refused()) == []


def test_a_database_and_a_prefix(broker: Broker, key: str) -> None:
    options = {"global_keyprefix": "acme:"}
    conf = {"broker_transport_options": options, "result_backend_transport_options": options}
    with broker.lab(7, conf=conf, prefix="acme:") as lab:
        lab.store.flushdb()
        works(lab, key, "gevent")
        assert not [name for name in lab.store.scan_iter() if not name.startswith("acme:")]


def test_tls(broker: Broker, tmp_path: Path, key: str) -> None:
    cert = certificate(tmp_path)
    with tcp_server(tmp_path / "server") as port, tls_in_front_of(port, cert) as tls:
        store = redis.Redis(HOST, port, decode_responses=True)
        query = f"ssl_cert_reqs=required&ssl_ca_certs={quote(str(cert.path), safe='')}"
        with lab_on(broker, f"rediss://{HOST}:{tls}/0?{query}", store) as lab:
            works(lab, key)


def test_a_failover_in_the_middle_of_work(broker: Broker, tmp_path: Path, key: str) -> None:
    with watched(tmp_path) as servers:
        options = {"master_name": "broker", "socket_timeout": 5, "socket_connect_timeout": 5}
        conf = {
            "broker_transport_options": options,
            "result_backend_transport_options": {"master_name": "broker"},
            "task_ignore_result": True,
            "result_backend": None,
        }
        store = servers.client(servers.master())
        with lab_on(broker, f"sentinel://{HOST}:{servers.sentinel}/0", store, conf=conf) as lab:
            lab.joined("prefork")
            lab.send("late", key, 0)
            lab.stage.hear("ends", key)
            lab.until_idle()
            lab.send("late", key, 1, 2, 3, 4, hold=True)
            lab.stage.hear("begins", key, 3)
            servers.catch_up()
            servers.fail_over()
            lab.store = servers.client(servers.master())
            lab.stage.let(key, 20)
            lab.send("late", key, 5, 6)
            eventually(lambda: set(lab.stage.said("ends", key)) == set(range(7)), "all have ended", within_s=30)
            lab.until_idle()
            # What was acknowledged before stays so.
            assert lab.stage.said("begins", key).count(0) == 1
