"""What a URL says of TLS is said to every client of the same Redis, and what it leaves out is the safe way."""

from __future__ import annotations

import ssl
import traceback
from typing import Any

import pytest

from config.settings import SettingsError, load
from config.urls import completed_redis_url, redis_tls

SECRET = "Reineclaude"  # noqa: S105 - of no server
# What a client would quote when it cannot read it. `{}` is the secret.
BROKEN = {
    "redis_url": (
        "redis://stoker:{}/x@127.0.0.1:6379/0",
        "redis://stoker:{}%zz@127.0.0.1:6379/0",
        "redis://stoker:x@127.0.0.1:{}/0",
        "redis://stoker:{}@[::1/0",
        "rediss://stoker:{}@127.0.0.1:1/0?ssl_cert_reqs=maybe",
        "amqp://stoker:{}@127.0.0.1/0",
        "{}",
    ),
    "database_url": (
        "postgresql://guarded:{}%zz@127.0.0.1:1/guarded",
        "postgresql://guarded:{}/x@127.0.0.1:5432/guarded",
        "postgresql://guarded:x@127.0.0.1:{}/guarded",
        "host=127.0.0.1 port=1 password={}",
        "mysql://guarded:{}@127.0.0.1/guarded",
        "{}",
    ),
}


@pytest.mark.parametrize(
    ("given", "completed", "tls"),
    [
        ("redis://u:p%2F@h:1/0", "redis://u:p%2F@h:1/0", None),
        ("redis+socket:///x?virtual_host=0", "redis+socket:///x?virtual_host=0", None),
        ("rediss://u:p%2F@h/0", "rediss://u:p%2F@h/0?ssl_cert_reqs=required", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        (
            "rediss://h/0?ssl_ca_certs=%2Fca.pem&ssl_cert_reqs=CERT_NONE&ssl_check_hostname=false",
            "rediss://h/0?ssl_ca_certs=%2Fca.pem&ssl_cert_reqs=none&ssl_check_hostname=false",
            {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False},
        ),
    ],
)
def test_tls_is_verified_unless_the_url_says_otherwise(given: str, completed: str, tls: dict[str, Any] | None) -> None:
    assert completed_redis_url(given) == completed
    assert completed_redis_url(completed) == completed
    assert redis_tls(completed) == tls


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://u:geheim@h/0?ssl_ca_certs=x", "expected rediss:// with ssl_ca_certs, got redis://"),
        ("rediss://u:geheim@h/0?ssl_cert_reqs=maybe", "one of none, optional, required, got 'maybe'"),
    ],
)
def test_what_means_nothing_is_refused_without_the_password(url: str, said: str) -> None:
    with pytest.raises(ValueError, match="redis_url") as refusal:
        completed_redis_url(url)
    assert said in str(refusal.value)
    assert "geheim" not in str(refusal.value)


@pytest.mark.parametrize(("name", "url"), [(name, url) for name, urls in BROKEN.items() for url in urls])
def test_a_url_that_cannot_be_used_is_refused_and_not_quoted(name: str, url: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: expected") as refusal:
        load(**{name: url.format(SECRET)})
    assert SECRET not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize(
    "url",
    ["postgresql://a,b/x", "postgres://u:p%40@h:1/x", "postgresql:///x?host=%2Fvar%2Frun", "postgresql://h1:1,h2:2/x"],
)
def test_every_form_of_a_url_that_libpq_knows_is_taken(url: str) -> None:
    assert load(database_url=url).database_dsn == url
