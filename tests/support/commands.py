"""Commands and Celery tasks of a deployment, as their callers meet them."""

from __future__ import annotations

import contextlib
import io
import subprocess
from typing import Any, Protocol

import pytest
from celery.utils.nodenames import gethostname

from tasks.cli import main
from tasks.context import Context
from tests.support.deployment import Deployment
from tests.support.eventually import eventually

Ended = subprocess.CompletedProcess[str]


class HasContext(Protocol):
    """A deployment, or as much of one as a command needs that asks no worker."""

    @property
    def context(self) -> Context: ...


def here(deployment: HasContext, *arguments: str, width: int = 100) -> Ended:
    """The command in this process, on this deployment: most of a second of each other command is its start."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr("sys.argv", ["stoker", *arguments])
        patch.setattr("tasks.context._current", deployment.context)
        # Not COLUMNS: a console that was made where that was set keeps to it.
        patch.setattr("tasks.cli.output.console.width", width)
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    return Ended(arguments, code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def words(ended: Ended) -> str:
    """What it said, whatever the width and the frame that it was said in."""
    return " ".join((ended.stdout + ended.stderr).replace("│", " ").split())


def until_revoked(deployment: Deployment, *ids: str) -> None:
    """The worker that users wait for has heard of it."""
    node = f"user@{gethostname()}"
    # By name, for then the answer ends it; else it waits out its time for more of them.
    inspect = deployment.context.app.control.inspect([node], timeout=5.0)
    eventually(lambda: {*ids} <= {*(inspect.revoked() or {}).get(node, ())}, f"{ids} are revoked", within_s=60)


def call(deployment: Deployment, task: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The Celery task, by its name, in a worker."""
    answer: dict[str, Any] = deployment.context.app.send_task(task, args, kwargs).get(timeout=60)
    return answer
