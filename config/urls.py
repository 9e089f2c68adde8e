"""The same Redis as its two clients write it."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit


def redis_client_url(broker_url: str) -> str:
    """A broker's URL as redis-py reads it: Celery and redis-py write the same socket each in its own way."""
    url = urlsplit(broker_url)
    if url.scheme not in {"redis+socket", "unix"}:
        return broker_url
    number = parse_qs(url.query).get("virtual_host", ["0"])[0]
    # Not urlunsplit: without a host it leaves out the slashes that redis-py asks for.
    return f"unix://{url.netloc}{url.path}?db={number}"
