"""Claims are counted by whoever answers them, children of a pool and commands too, and no end of a process sets them back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from celery import Celery

from config.names import CLAIM_TASK
from config.settings import Settings
from scheduler.store import reaping
from scheduler.store.database import Database
from scheduler.store.sync import apply_settings
from tasks.celery_app import make_app
from tests.conftest import MakeSettings
from tests.exporter.test_exporter import Series, exporting, of, scrape
from tests.support.eventually import eventually
from tests.support.fleet import Fleet
from tests.support.servers import Servers

WITHIN_S = 60.0
CALLS = 20
ENDS = {"held": "warm", "miss": "draining"}
Claims = dict[str, float]


class Lab:
    """Real workers of Celery, of the pool of processes, on one database."""

    def __init__(self, settings: Settings, config: Path, app: Celery) -> None:
        self.settings, self._app = settings, app
        self._environment = {
            **os.environ,
            "STOKER_CONFIG": str(config),
            "STOKER_DATABASE_URL": settings.database_url or "",
            "STOKER_STATE_DIR": str(settings.locations.state_dir),
            "STOKER_REDIS_URL": settings.redis_url or "",
        }
        if settings.redis_url is None:
            del self._environment["STOKER_REDIS_URL"]

    @contextmanager
    def forking(self) -> Iterator[subprocess.Popen[bytes]]:
        """A worker with two children, that answers."""
        queue = self.settings.routes.get(CLAIM_TASK) or self._app.conf.task_default_queue
        arguments = ["worker", "--pool", "prefork", "-c", "2", "-Q", queue, "--without-gossip", "--without-mingle"]
        command = [sys.executable, "-m", "celery", "-A", "tasks", *arguments, "--loglevel", "WARNING"]
        with subprocess.Popen(command, env=self._environment, start_new_session=True) as process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def claims(self, tenants: Sequence[str], profile: str) -> list[str]:
        """How each claim ended that one of the children has answered."""
        sent = [self._app.send_task(CLAIM_TASK, (tenant, profile)) for tenant in tenants]
        return [str(one.get(timeout=WITHIN_S)["outcome"]) for one in sent]

    def command(self, *arguments: str) -> str:
        command = [sys.executable, "-c", "from tasks.cli import main; main()", *arguments]
        ended = subprocess.run(
            command, env=self._environment, timeout=WITHIN_S, capture_output=True, check=False, text=True
        )
        return ended.stdout + ended.stderr


@pytest.fixture
def lab(servers: Servers, make_settings: MakeSettings, db: Database, tmp_path: Path) -> Iterator[Lab]:
    servers.flush()
    plain = {"command": ["true"], "memory": "8Mi"}  # to be bound, it need not be told
    made = make_settings(profiles={"plain": plain, "shut": plain})
    apply_settings(db, made)
    Fleet(db, made).idle(CALLS, family="plain")
    assert reaping.set_draining(db, made.profiles["shut"].canonical, draining=True)
    with make_app("stoker-test", made, set_as_current=False) as app:
        yield Lab(made, tmp_path / "stoker.toml", app)


def claims(found: Series) -> Claims:
    """By outcome; those that did not end as they should are by their reason."""
    told = {
        (labels["outcome"], labels["reason"]): value
        for (name, pairs), value in found.items()
        if name == "stoker_claims_total" and value and (labels := dict(pairs))
    }
    return {outcome if ENDS.get(outcome) == reason else reason: value for (outcome, reason), value in told.items()}


def reaches(look: Callable[[], Claims], wanted: Claims) -> bool:
    found = look()
    assert all(found.get(name, 0) <= wanted[name] for name in wanted), f"counted twice: {found}"
    return found == wanted


def test_claims_are_counted_over_children_commands_and_exporters(lab: Lab, db: Database) -> None:
    with exporting(lab.settings) as first, exporting(lab.settings) as second:
        assert of(scrape(first), "stoker_claims_total", profile="shut", outcome="miss", reason="draining") == 0
        with lab.forking() as worker:
            assert set(lab.claims([f"t{n}" for n in range(CALLS)], "plain")) == {"held"}
            assert set(lab.claims(["acme"] * CALLS, "shut")) == {"miss"}
            # What the last second counted the children carry along when they end.
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(WITHIN_S) == 0
        assert "draining" in lab.command("pool", "claim", "acme", "shut")
        both = {"held": CALLS, "miss": CALLS + 1}
        assert claims(scrape(first)) == claims(scrape(second)) == both
    assert len(db.rows("select 1 from every_claim where activated_at is not null")) == CALLS, "as the record has it"

    with exporting(lab.settings) as anew:
        assert claims(scrape(anew)) == both, "a new one goes on from there"
        with lab.forking() as worker:
            assert lab.claims(["acme"] * CALLS, "shut") == ["miss"] * CALLS
            eventually(
                lambda: reaches(lambda: claims(scrape(anew)), {**both, "miss": 2 * CALLS + 1}),
                "they are carried without an end of anything",
                within_s=WITHIN_S,
            )
            before = claims(scrape(anew))
            lab.claims(["acme"], "shut")
            os.killpg(worker.pid, signal.SIGKILL)
        after = claims(scrape(anew))
        assert 0 <= after["miss"] - before["miss"] <= 1, "kill -9 loses what one second counted, and sets nothing back"
        seconds = of(scrape(anew), "stoker_claim_seconds_count", outcome="miss")
        assert seconds == after["miss"]
