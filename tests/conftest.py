"""Real engines for every test: started once, an empty database and an empty Redis for each test."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from config.settings import Settings
from scheduler.store.database import Database
from scheduler.store.sync import apply_settings
from tasks.celery_app import make_app
from tasks.context import Context
from tests.support import profiles
from tests.support.fleet import Fleet
from tests.support.servers import Servers, running_servers
from tests.support.wiretap import Wiretap, tapped

# A shell that runs this in the background has it ignore interrupts, and so would every process that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An example of a property is stopped by pytest's timeout alone: on a busy machine any of them may stand still for a moment.
hypothesis.settings.register_profile("stoker", deadline=None)
hypothesis.settings.load_profile("stoker")

# Where tests start whole deployments, or many processes.
LONG = {"stack", "demo", "bench", "transport"}

MakeSettings = Callable[..., Settings]
MakeContext = Callable[[Settings], Context]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With STOKER_REQUIRE=all what a test needs has to be there: a skip is a failure, for in CI nobody reads skips."""
    report = yield
    if report.skipped and os.environ.get("STOKER_REQUIRE") == "all" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and STOKER_REQUIRE=all forbids it: {report.longrepr}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of few long tests first, in whatever order chance has given them: at the end, one process would wait for another."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with running_servers() as running:
        yield running


@pytest.fixture(scope="session")
def lent_database(servers: Servers) -> Iterator[str]:
    with servers.database() as url:
        yield url


@pytest.fixture
def database_url(servers: Servers, lent_database: str) -> str:
    """A database without a row in it."""
    servers.empty(lent_database)
    return lent_database


@pytest.fixture
def own_database_url(servers: Servers) -> Iterator[str]:
    """A database for who changes its schema."""
    with servers.database() as url:
        yield url


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url, connections=40)) as database:
        yield database


@pytest.fixture
def make_settings(servers: Servers, database_url: str, tmp_path: Path) -> MakeSettings:
    """Settings of any sections, on this test's database."""

    def make(**sections: Any) -> Settings:
        sections = {"profiles": {"echo": profiles.echo(floor=2), "other": profiles.echo()}, **sections}
        path = profiles.write(tmp_path / "stoker.toml", sections)
        engines = {"database_url": database_url, "redis_url": servers.redis_url, "state_dir": servers.state_dir}
        return profiles.settings_of(path, **engines)

    return make


@pytest.fixture
def settings(make_settings: MakeSettings, db: Database) -> Settings:
    """Two profiles of echo workers, in force."""
    made = make_settings()
    apply_settings(db, made)
    return made


@pytest.fixture
def fleet(db: Database, settings: Settings) -> Fleet:
    return Fleet(db, settings)


@contextmanager
def _opened(settings: Settings) -> Iterator[Context]:
    app = make_app("stoker-test", settings, set_as_current=False)
    context = Context(settings, app)
    try:
        yield context
    finally:
        context.pool.tallies.flush()  # or it would be in the next test's figures
        context.db.close()
        # Not close: a waiting room may still be listening on a connection that is in use.
        context.hints._redis.connection_pool.disconnect(inuse_connections=False)
        app.close()


@pytest.fixture
def make_context(servers: Servers) -> Iterator[MakeContext]:
    """Contexts of any settings, as a process of Stoker has one. What they publish, nobody takes."""
    servers.flush()
    with ExitStack() as down:
        yield lambda settings: down.enter_context(_opened(settings))


@pytest.fixture
def context(make_context: MakeContext, settings: Settings) -> Context:
    return make_context(settings)


@pytest.fixture
def wiretap(database_url: str) -> Iterator[Wiretap]:
    """This test's database by a URL on which round trips are counted."""
    with tapped(database_url) as tap:
        yield tap


@pytest.fixture
def tapped_db(wiretap: Wiretap) -> Iterator[Database]:
    with closing(Database(wiretap.url)) as database:
        yield database
