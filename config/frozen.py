"""The base of every settings model: immutable, and a misspelt key is an error that suggests the right one."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


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
            near = difflib.get_close_matches(str(key), model.model_fields, n=1)
            hint = f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(model.model_fields))}"
            msg = f"unknown key {key!r}{hint}"
            raise ValueError(msg)
