"""A task's key and lane: which of its arguments decide the effect, read from a call and written in one canonical way.

Two spellings of one thing must not be two keys, or nothing ever folds and nobody notices; and a column that is left out
makes two things one. So columns are parameters by name, checked against the function when the task is declared.
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import uuid
from typing import TYPE_CHECKING, Any, Final

from scheduler.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Made once: json.dumps makes an encoder for each call that differs from its defaults.
_ENCODE: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
OWN_KEY: Final = "the key"  # a lane of this value: runs of one key exclude each other, and no others
# All of its dashes or none. `uuid.UUID` alone would read much else (0x.., underscores) and make two things one.
_UUID: Final = re.compile(r"[0-9a-f]{8}(-?)[0-9a-f]{4}(\1[0-9a-f]{4}){2}\1[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


class Columns:
    """Some parameters of a function, as text."""

    def __init__(self, function: Callable[..., Any], names: Sequence[str] | None, *, bound: bool) -> None:
        parameters = list(inspect.signature(function).parameters.values())[1 if bound else 0 :]
        loose = [p.name for p in parameters if p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
        known = [p.name for p in parameters if p.name not in loose]
        wanted = known if names is None else list(names)
        unknown = [name for name in wanted if name not in known]
        if unknown or loose or len(set(wanted)) != len(wanted):
            what = f"{function.__name__}: its key and lane name its parameters, each once, and it takes no * or **"
            raise TypeError(f"{what}; expected some of {known}, got {wanted}{' beside ' + str(loose) if loose else ''}")
        places = {name: place for place, name in enumerate(known)}
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.names = tuple(wanted)
        self._columns = [(name, places[name], name in defaults, defaults.get(name)) for name in wanted]

    def read(self, task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """These columns of one call, as canonical JSON.

        Raises:
            Refused: a column is empty, or is of a kind of which equal values can be written in several ways.
            TypeError: a column is missing.
        """
        values = []
        for name, place, has_default, default in self._columns:
            if place < len(args):
                value = args[place]
            elif name in kwargs:
                value = kwargs[name]
            elif has_default:
                value = default
            else:
                raise TypeError(f"{task}() misses the argument {name!r}, which its key or lane needs")
            values.append(_canonical(task, name, value))
        return _ENCODE(values)


def _canonical(task: str, name: str, value: Any) -> Any:  # noqa: ANN401 - any argument of a task
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, str):
        if value and "\0" not in value:
            return str(uuid.UUID(value)) if _UUID.fullmatch(value) else value
    elif value is None or isinstance(value, int):
        return value
    elif isinstance(value, uuid.UUID):
        return str(value)
    elif isinstance(value, list | tuple):
        return [_canonical(task, name, part) for part in value]
    elif isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {_canonical(task, name, key): _canonical(task, name, part) for key, part in value.items()}
    what = f"{task}: argument {name!r} cannot be part of a key"
    expected = "text that is not empty, a whole number, an enum, a UUID, None, or lists and dicts of them by text"
    raise Refused(what, expected=expected, got=repr(value)[:80], remedy="name in `key` only what decides the effect")
