"""What a request needs to be published again, or to finish without ever having been: its arguments and options as JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from celery.app.task import Context
from celery.canvas import maybe_signature
from kombu.utils.json import JSONEncoder, loads

from tasks import correlation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery import Celery

_ENCODE: Final = JSONEncoder().encode  # made once: kombu's dumps makes an encoder for each call
# Of how a request was published, not of what it asks: a second publication chooses its own.
_NOT_KEPT: Final = frozenset(
    {"producer", "connection", "router", "retry", "retry_policy", "add_to_parent", "publisher"}
)


class Payload(NamedTuple):
    """A request: the task, and the arguments of `apply_async` that would publish it."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]

    @classmethod
    def read(cls, text: str) -> Payload:
        """From the text that stands in Redis."""
        return cls(*loads(text))

    def context(self, id_: str) -> Context:
        """What Celery's backends expect a request to be: for results, callbacks, chains, groups and chords."""
        options = self.options
        return Context(
            id=id_,
            args=self.args,
            kwargs=self.kwargs,
            root_id=options.get("root_id") or id_,
            parent_id=options.get("parent_id"),
            callbacks=_several(options.get("link")),
            errbacks=_several(options.get("link_error")),
            chain=options.get("chain"),
            chord=options.get("chord"),
            group=options.get("group_id"),
            group_index=options.get("group_index"),
            ignore_result=bool(options.get("ignore_result")),
            reply_to=options.get("reply_to"),
            expires=options.get("expires"),
            called_directly=False,
            delivery_info={"priority": options.get("priority"), "is_eager": False},
        )

    @property
    def story(self) -> str | None:
        """The correlation id of who asked."""
        return correlation.told(self.options.get("headers"))

    def has_expired(self) -> bool:
        """Whether its caller does not want it any more."""
        expires = self.options.get("expires")
        if isinstance(expires, str):
            expires = datetime.fromisoformat(expires)
        return expires is not None and expires < datetime.now(expires.tzinfo)


def write(task: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """A request as text. An expiry in seconds becomes an instant: it may be read much later."""
    kept = {name: value for name, value in options.items() if value is not None and name not in _NOT_KEPT}
    if isinstance(expires := kept.get("expires"), int | float):
        kept["expires"] = (datetime.now(UTC) + timedelta(seconds=expires)).isoformat()
    if not isinstance(kept.get("queue", ""), str):
        kept["queue"] = kept["queue"].name
    return _ENCODE((task, args, kwargs, kept))


def continue_with(app: Celery, context: Context, result: Any) -> None:  # noqa: ANN401 - any task's result
    """Publish what comes after a request that has succeeded: its callbacks, and the next step of its chain."""
    inherited = context.delivery_info["priority"] if app.conf.task_inherit_parent_priority else None
    follow_on = {"parent_id": context.id, "root_id": context.root_id, "priority": inherited}
    for callback in context.callbacks or ():
        maybe_signature(callback, app=app).apply_async((result,), **follow_on)
    if context.chain:
        *rest, following = context.chain
        maybe_signature(following, app=app).apply_async((result,), chain=rest, **follow_on)


def _several(signatures: Any) -> list[Any] | None:  # noqa: ANN401 - one, several or none, as Celery takes them
    if signatures is None or isinstance(signatures, list):
        return signatures
    return list(signatures) if isinstance(signatures, tuple) else [signatures]
