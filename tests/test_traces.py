"""Without the extra, or with traces switched off, nothing that traces is imported and nothing is done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import SettingsError, load
from tasks import traces
from tests.support import profiles

# A process that knows no OpenTelemetry, whatever is installed.
BLOCKED = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""
WORKS = """
from contextlib import nullcontext
from tasks import correlation, network_steps, operation_tasks, pool_tasks, traces
from tasks.celery_app import app
from tasks.context import current
with correlation.within("a-story"), traces.span("claim"):
    message = app.amqp.create_task_message("1", "pool.claim", (), {})
assert message.headers[correlation.HEADER] == "a-story" and "traceparent" not in message.headers
assert current().db._watch is None and traces.trace_id() is None
assert isinstance(traces.span("a"), nullcontext) and traces.span("a") is traces.following("b", {})
# redis-py looks for a part of its own, if it is installed.
ours = ("opentelemetry.sdk.trace", "opentelemetry.exporter")
print(sorted(name for name in sys.modules if name.startswith(ours)))
"""


def run(folder: Path, program: str, *, enabled: bool) -> subprocess.CompletedProcess[str]:
    document = {"profiles": {"echo": profiles.echo()}, "traces": {"enabled": enabled}}
    env = {**os.environ, "STOKER_CONFIG": str(profiles.write(folder / "stoker.toml", document))}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("blocked", ["import sys", BLOCKED], ids=["installed", "missing"])
def test_switched_off_nothing_is_imported_and_nothing_done(tmp_path: Path, blocked: str) -> None:
    said = run(tmp_path, blocked + WORKS, enabled=False)
    assert (said.returncode, said.stdout) == (0, "[]\n"), said.stderr


def test_switched_on_without_the_extra_a_start_says_what_to_install(tmp_path: Path) -> None:
    said = run(tmp_path, BLOCKED + "import tasks.celery_app", enabled=True)
    assert said.returncode != 0
    assert "pip install 'stoker[otel]', or set [traces] enabled = false" in said.stderr


def test_what_is_switched_off_costs_a_look_at_a_name() -> None:
    def send() -> None:
        """Celery's."""

    assert traces.sending(send) is send
    headers: dict[str, str] = {}
    traces.add_to(headers)
    traces.note(outcome="held")
    assert headers == {}
    assert traces.statements() is None


def test_an_endpoint_is_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = profiles.write(tmp_path / "stoker.toml", {"traces": {"endpoint": "collector:4318"}})
    monkeypatch.setenv("STOKER_CONFIG", str(path))
    with pytest.raises(SettingsError, match=r"traces\.endpoint"):
        load()
