"""The base of every settings model: immutable, and a misspelt key is an error that suggests the right one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, model_validator

if TYPE_CHECKING:
    from collections.abc import Sequence


class Frozen(BaseModel):
    """A settings section. Unknown keys are refused: a typo that is silently ignored is a setting that is not in force."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _suggest_known_keys(cls, values: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever the file held
        refuse_unknown_keys(cls, values)
        return values


def refuse_unknown_keys(model: type[BaseModel], values: object) -> None:
    """Raise ValueError for a key that the model does not have, naming the nearest that it has."""
    for key in values if isinstance(values, dict) else ():
        if key not in model.model_fields:
            msg = f"unknown key {key!r}{hint(str(key), sorted(model.model_fields))}"
            raise ValueError(msg)


def hint(name: str, known: Sequence[str]) -> str:
    """The nearest of the known names, or else all of them: what follows the unknown one in a message."""
    near = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
