"""The same Redis as its clients write it: redis-py, kombu, Celery's results and Flower, over TLS too."""

from __future__ import annotations

import re
import ssl
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

REDIS_SCHEMES: Final = ("redis", "rediss", "redis+socket", "unix")
POSTGRES_SCHEMES: Final = ("postgresql", "postgres")
_HALF_ESCAPED: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
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


def checked_url(name: str, url: str, schemes: tuple[str, ...]) -> str:
    """The URL, if its clients can read it. They would quote what they cannot, and that may be a password.

    Raises:
        ValueError: of another scheme or form. What is wrong is named, and nothing of the URL.
    """
    try:
        parts = urlsplit(url)
        # libpq knows several hosts; each would have its port.
        _ = parts.port if "," not in parts.netloc else None
    except ValueError:
        parts = None
    if parts is None or _HALF_ESCAPED.search(url):
        raise ValueError(
            f"{name}: expected {schemes[0]}://USER:PASSWORD@HOST:PORT/..., got what cannot be read so; what is special in a "
            "password is written as % and two hex digits (/ is %2F, @ is %40, % is %25)"
        )
    if parts.scheme not in schemes:
        raise ValueError(f"{name}: expected a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    return url


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
