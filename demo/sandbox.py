"""The demo's own deployment: its settings, its state folder, its Celery client. It touches nothing of an operator's."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from config.settings import Settings, load
from demo.doors import PROFILE
from scheduler.errors import Permanent
from tasks.engines.folders import home_mode, locked_at_once, make_folder
from tasks.services import FLOWER_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

    from config.network import Network
    from tasks.context import Context

SETTINGS_FILE: Final = Path(__file__).with_name("stoker.toml")
WORKERS_MAX: Final = 52  # what the ramp comes to, with those that are being stopped


@contextmanager
def own_settings(network: Network) -> Iterator[Settings]:
    """The demo's settings with these networks, in force for every process started inside the block.

    STOKER_* variables are put aside: one that named an operator's database would have the demo's profiles written there.
    """
    aside = {name: value for name, value in os.environ.items() if name.startswith("STOKER_")}
    for name in aside:
        del os.environ[name]
    os.environ["STOKER_CONFIG"] = str(SETTINGS_FILE)
    os.environ["STOKER_NETWORK"] = network.model_dump_json()
    try:
        wanted = load()
        ports = {name: {"port": _free_port(getattr(wanted, name).port)} for name in ("flower", "exporter")}
        yield load(**ports)
    finally:
        del os.environ["STOKER_CONFIG"], os.environ["STOKER_NETWORK"]
        os.environ.update(aside)


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Be the only demo of this folder.

    Raises:
        Permanent: another one runs.
    """
    state = settings.locations.state_dir
    # As root PostgreSQL runs as somebody else, who has to pass it.
    make_folder(state.parent, home_mode())
    with locked_at_once(state.with_name(state.name + ".lock")) as held:
        if not held:
            what = f"a demo runs on {state} already"
            raise Permanent(
                what, expected="one per folder", remedy="wait for its end, or start this one in another folder"
            )
        yield


def celery_client(settings: Settings) -> Celery:
    """A Celery client of the demo's broker."""
    # The module also makes the app of whatever settings are in force: by now they are the demo's.
    from tasks.celery_app import make_app  # noqa: PLC0415

    return make_app("stoker-demo", settings)


def require_room(context: Context) -> None:
    """Refuse a machine that is too small, before anything is started on it.

    Raises:
        Permanent: it cannot hold the ramp's workers.
    """
    kind = context.settings.profiles[PROFILE]
    room = context.launcher.capacity(kind)
    if room is not None and room < WORKERS_MAX:
        what = "this machine is too small for the demo"
        raise Permanent(
            what,
            expected=f"room for {WORKERS_MAX} workers of {kind.memory / 2**20:.0f} MiB each",
            got=f"room for {room}",
            remedy="run it on a machine with 6 GiB of memory",
        )


def pool_note(settings: Settings) -> Path:
    """Where a run notes its pool's mark, by which a later one finds workers that it could not stop."""
    state = settings.locations.state_dir
    return state.with_name(state.name + ".pool")


def _free_port(wanted: int) -> int:
    """The wanted port of loopback, or any other if that is taken."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((FLOWER_ADDRESS, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return wanted
