"""A call as people read it in Flower, in `celery inspect` and in logs: each argument by its name, short, and no secret.

Celery's own text of it is a tuple and a dict of up to 1,024 characters each, with whatever a task was given: of a chain that
is the result before it, which after a claim is the token of a worker.
"""

from __future__ import annotations

import inspect
from datetime import date
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tasks.logs import hidden_if_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CALL_CHARACTERS: Final = 240
_VALUE_CHARACTERS: Final = 60
_PARTS: Final = 8  # of a list or dict, and of the arguments; the others are not looked at
_NESTED: Final = 3
_LOOKED_AT: Final = 2_000  # characters of a text in which a password is looked for
NOTHING: Final = "()"  # an empty text would be taken for none, and the arguments shown as they are


def shown(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:  # noqa: ANN401 - a Celery task, or None
    """One line of at most CALL_CHARACTERS. Of a task that is not known here arguments by place have no names."""
    names = _parameters(task.run) if task is not None else ()
    parts = [
        f"{names[place]}={_value(names[place], value)}" if place < len(names) else _value("", value)
        for place, value in enumerate(args[:_PARTS])
    ]
    parts += [f"{_named(str(name))}={_value(str(name), value)}" for name, value in islice(kwargs.items(), _PARTS)]
    if len(args) > _PARTS or len(kwargs) > _PARTS:
        parts.append("...")
    return _cut(", ".join(parts), CALL_CHARACTERS) or NOTHING


@lru_cache(maxsize=1_024)
def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of what can be given by place. A bound task's own is no argument of a call."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD})


def _named(name: str) -> str:
    return _cut(name if name.isidentifier() else repr(name))


def _value(name: str, value: Any) -> str:  # noqa: ANN401 - any argument
    return _cut(_text(_open(name, value), _NESTED))


def _open(name: str, value: Any) -> Any:  # noqa: ANN401
    return hidden_if_secret(name, value[:_LOOKED_AT] if isinstance(value, str) else value)


def _text(value: Any, levels: int) -> str:  # noqa: ANN401
    """Bounded at each level: neither a long list nor a deep one is written out to be cut."""
    match value:
        case str():
            return repr(value[: _VALUE_CHARACTERS + 1])
        case dict() | list() | tuple() if not levels:
            return "..."
        case dict():
            some = islice(value.items(), _PARTS)
            pairs = [f"{_text(key, 0)}: {_text(_open(str(key), part), levels - 1)}" for key, part in some]
            return f"{{{_listed(pairs, len(value))}}}"
        case list() | tuple():
            return f"[{_listed([_text(_open('', part), levels - 1) for part in value[:_PARTS]], len(value))}]"
        case None | bool() | int() | float() | UUID() | date() | Decimal():
            return str(value)
        case _:
            return type(value).__name__


def _listed(some: list[str], of: int) -> str:
    return ", ".join(some if len(some) == of else [*some, "..."])


def _cut(text: str, characters: int = _VALUE_CHARACTERS) -> str:
    return text if len(text) <= characters else f"{text[: characters - 3]}..."
