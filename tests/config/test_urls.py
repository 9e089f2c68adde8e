"""What a URL says of TLS is said to every client of the same Redis, and what it leaves out is the safe way."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from config.urls import completed_redis_url, redis_tls


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
