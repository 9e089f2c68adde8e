"""How networks are made: the contract of every driver (base) and the drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.network.base import Change, Changes, Driver, Observed
from tasks.network.dry_run import DryRunDriver

if TYPE_CHECKING:
    from pathlib import Path

    from config.network import Network

__all__ = ["Change", "Changes", "Driver", "DryRunDriver", "Observed", "driver"]


def driver(config: Network, state_dir: Path) -> Driver:
    """The driver that the settings name, with its files under `state_dir`."""
    if config.driver == "dry_run":
        return DryRunDriver(config, state_dir)
    # Its libraries are Linux's own: where nobody asks for it, nobody needs them.
    from tasks.network.linux import LinuxDriver  # noqa: PLC0415

    return LinuxDriver(config, state_dir)
