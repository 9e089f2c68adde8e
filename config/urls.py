"""The same Redis as its clients write it: redis-py, kombu, Celery's results and Flower, over TLS too."""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

_VERIFY: Final = "ssl_cert_reqs"
_VERIFIES: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def redis_client_url(broker_url: str) -> str:
    """A broker's URL as redis-py reads it: Celery and redis-py write the same socket each in its own way."""
    url = urlsplit(broker_url)
    if url.scheme not in {"redis+socket", "unix"}:
        return broker_url
    number = parse_qs(url.query).get("virtual_host", ["0"])[0]
    # Not urlunsplit: without a host it leaves out the slashes that redis-py asks for.
    return f"unix://{url.netloc}{url.path}?db={number}"


def completed_redis_url(url: str) -> str:
    """The URL with what has to be said of TLS: that the server's certificate is verified, unless the URL says otherwise.

    redis-py verifies without a word, and Celery's result backend refuses to start without one.

    Raises:
        ValueError: `ssl_cert_reqs` is none of the three; or the URL has it, and no TLS.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme != "rediss":
        if unused := sorted(key for key in query if key.startswith("ssl_")):
            raise ValueError(
                f"redis_url: expected rediss:// with {', '.join(unused)}, got {parts.scheme}://, which has no TLS"
            )
        return url
    verify = query.get(_VERIFY, "required").lower().removeprefix("cert_")
    if verify not in _VERIFIES:
        raise ValueError(f"redis_url: expected {_VERIFY} to be one of {', '.join(_VERIFIES)}, got {verify!r}")
    # Not urlunsplit, which would write anew what stands before the query.
    return f"{url.partition('?')[0]}?{urlencode({**query, _VERIFY: verify})}"


def redis_tls(url: str) -> dict[str, Any] | None:
    """What a completed URL says of TLS, as Celery and Flower take it from their configuration; None without TLS."""
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return None
    said: dict[str, Any] = {key: value for key, value in parse_qsl(parts.query) if key.startswith("ssl_")}
    if "ssl_check_hostname" in said:
        said["ssl_check_hostname"] = said["ssl_check_hostname"].lower() != "false"
    return {**said, _VERIFY: _VERIFIES[said[_VERIFY]]}
