"""What a message has to be before anybody acts on it: whoever can write to a queue can write anything there.

kombu and Celery take the form of a message for granted, and one that has another ends the worker that reads it: and, when its
time is over, the next one. What is wrong of form is set aside here; what is wrong of content is a task's own to refuse.
"""

from __future__ import annotations

from typing import Any, Final

from kombu.utils.json import loads

from scheduler.errors import Refused
from scheduler.redis.queues.keys import STAMP

# The header that tells a task when its message was published, in ms since the epoch.
ENQUEUED_AT: Final = "stoker_enqueued_at"
# Of names and ids in headers; Celery's own have 36.
TEXT_MOST: Final = 1_000
# The far end of the calendar, in ms since the epoch.
_LAST_MS: Final = 253_402_300_799_000

Kinds = tuple[type, ...]
_NONE: Final = type(None)
_TEXT: Final[Kinds] = (str, _NONE)
_NUMBER: Final[Kinds] = (int, float, _NONE)

_MESSAGE: Final[dict[str, Kinds]] = {
    "body": (str,),
    "headers": (dict,),
    "properties": (dict,),
    "content-type": _TEXT,
    "content-encoding": _TEXT,
}
_PROPERTIES: Final[dict[str, Kinds]] = {
    "delivery_tag": (str,),
    "delivery_info": (dict, _NONE),
    "body_encoding": _TEXT,
    "correlation_id": _TEXT,
    "reply_to": _TEXT,
    "priority": _NUMBER,
}
_TASK: Final[dict[str, Kinds]] = {
    "task": (str,),
    "id": (str,),
    "root_id": _TEXT,
    "parent_id": _TEXT,
    "group": _TEXT,
    "group_index": _NUMBER,
    "lang": _TEXT,
    "origin": _TEXT,
    "eta": _TEXT,
    "expires": (str, int, float, _NONE),
    "retries": _NUMBER,
    "timelimit": (list, _NONE),
    "argsrepr": _TEXT,
    "kwargsrepr": _TEXT,
    "shadow": _TEXT,
    "ignore_result": (bool, _NONE),
    "replaced_task_nesting": _NUMBER,
    "stamped_headers": (list, _NONE),
    "stamps": (dict, _NONE),
    "compression": _TEXT,
}
# Celery cuts them at 1,024 unless it is told otherwise; Flower and events show them.
_REPRESENTATIONS: Final = {"argsrepr", "kwargsrepr"}
_REPRESENTATION_MOST: Final = 16_384


class MalformedError(ValueError):
    """It is no message: what was expected, and what is there instead."""


def read_message(text: bytes, tag: str, most_bytes: int) -> dict[str, Any]:
    """The message of this text, by whose tag it is held, with its stamp among its headers.

    Raises:
        MalformedError: it is too long, no JSON, or has not the form of a message.
    """
    if len(text) > most_bytes:
        raise MalformedError(f"expected at most {most_bytes} bytes, got {len(text)}")
    try:
        payload = loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise MalformedError(f"expected JSON, got {error!r}") from error
    if not isinstance(payload, dict):
        raise MalformedError(f"expected an object, got {type(payload).__name__}")
    stamp = payload.pop(STAMP, None)
    _check("", payload, _MESSAGE)
    headers, properties = payload["headers"], payload["properties"]
    _check("properties.", properties, _PROPERTIES)
    if properties["delivery_tag"] != tag:
        raise MalformedError(f"its delivery tag is {properties['delivery_tag']!r}, the last one in its text is {tag!r}")
    if properties.get("body_encoding") not in {None, "base64"}:
        raise MalformedError(f"expected a body_encoding of base64 or none, got {properties['body_encoding']!r:.80}")
    if "task" in headers:
        _check("headers.", headers, _TASK)
        limits = headers.get("timelimit") or ()
        if not all(isinstance(limit, (int, float, _NONE)) for limit in limits) or len(limits) not in {0, 2}:
            raise MalformedError(f"expected headers.timelimit to be two numbers, got {limits!r:.80}")
    if isinstance(stamp, int | float) and 0 <= stamp <= _LAST_MS:
        headers[ENQUEUED_AT] = stamp
    return payload


def check_length(text: str, most_bytes: int) -> None:
    """Refuse to publish what no worker would read."""
    # ASCII, as it is written: a byte a character.
    if len(text) > most_bytes:
        raise Refused(
            "message too long",
            expected=f"at most {most_bytes} bytes (bounds.message_bytes)",
            got=f"{len(text)} bytes",
            remedy="keep what is large elsewhere, and send where it is",
        )


def _check(where: str, found: dict[str, Any], wanted: dict[str, Kinds]) -> None:
    for key, kinds in wanted.items():
        value = found.get(key)
        if not isinstance(value, kinds):
            names = " or ".join("nothing" if kind is _NONE else kind.__name__ for kind in kinds)
            raise MalformedError(f"expected {where}{key} to be {names}, got {type(value).__name__}")
        most = _REPRESENTATION_MOST if key in _REPRESENTATIONS else TEXT_MOST
        if where and isinstance(value, str) and len(value) > most:
            raise MalformedError(f"expected {where}{key} to have at most {most} characters, got {len(value)}")
