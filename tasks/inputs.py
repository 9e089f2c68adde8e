"""What a caller by name may send and be sent: names, numbers and lists of ids of bounded size, whichever task it is.

The tasks' own rules say more (which names there are, how long one may wait); these are those that all of them share, so that no
argument reaches SQL, a log or a key with a size or of a kind that nobody has thought of.
"""

from __future__ import annotations

import functools
import inspect
import json
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from scheduler.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

TEXT_MOST: Final = 255  # characters; names have at most 63
LIST_MOST: Final = 1_000
INTEGER_MOST: Final = 2**63 - 1  # of SQL's bigint
ANSWER_MOST_BYTES: Final = 1_048_576


def check_input(name: str, value: object) -> None:
    """Refuse what no argument can be.

    Raises:
        Refused: which argument, what it may be, and what it is.
    """
    if isinstance(value, list | tuple) and len(value) <= LIST_MOST:
        for part in value:
            whole = isinstance(part, int) and not isinstance(part, bool)
            _refuse(name, part, _wrong(part) if whole else "a list of whole numbers")
    else:
        _refuse(name, value, _wrong(value))


def _refuse(name: str, value: object, wrong: str) -> None:
    if wrong:
        raise Refused(name, expected=wrong, got=_brief(value), remedy="docs/api.md says what it takes")


def _wrong(value: object) -> str:
    match value:
        case None | bool():
            return ""
        case str():
            fits = len(value) <= TEXT_MOST and value.isprintable()
            return "" if fits else f"at most {TEXT_MOST} printable characters"
        case int():
            return "" if abs(value) <= INTEGER_MOST else "a number that SQL can hold"
        case list() | tuple():
            return f"at most {LIST_MOST} of them"
        case float():
            return ""  # whether it is finite is asked where it is compared
        case _:
            return "text, a number or a list of whole numbers"


def bounded(task: Callable[P, T]) -> Callable[P, T]:
    """The task, which refuses such arguments before it does anything."""
    signature = inspect.signature(task)

    @functools.wraps(task)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        names = [name for name in signature.parameters if name != "self"]
        given = args[1:] if "self" in signature.parameters else args
        for name, value in (*zip(names, given, strict=False), *kwargs.items()):
            check_input(name, value)
        return task(*args, **kwargs)

    # Celery compares a call with it before it is published; it does not look through a wrapper by itself.
    checked.__signature__ = signature  # type: ignore[attr-defined]
    return checked


def answering(task: Callable[P, dict[str, Any]]) -> Callable[P, dict[str, Any]]:
    """The same of a task whose answer is a dict: to refuse is an answer too, and no answer is longer than it may be."""
    inner = bounded(task)

    @functools.wraps(task)
    def answer(*args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        try:
            found = inner(*args, **kwargs)
        except Refused as refusal:
            return {"outcome": "refused", "reason": str(refusal)}
        size = len(json.dumps(found, default=str))
        if size <= ANSWER_MOST_BYTES:
            return found
        excess = Refused(
            "answer too long",
            expected=f"at most {ANSWER_MOST_BYTES} bytes",
            got=f"{size} bytes",
            remedy="ask for less of it",
        )
        return {"outcome": "refused", "reason": str(excess)}

    answer.__signature__ = inspect.signature(task)  # type: ignore[attr-defined]
    return answer


def _brief(value: object) -> str:
    match value:
        case str():
            return f"{len(value)} characters: {value[:40]!r}"
        case list() | tuple():
            return f"{len(value)} of them"
        case int() | float():
            return f"{float(value):g}" if abs(value) < 10**300 else "a greater one"
        case _:
            return type(value).__name__
