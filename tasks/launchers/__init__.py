"""Where workers run: the contract of every platform (base) and the platforms."""

from __future__ import annotations

from tasks.launchers.base import (
    ForeignHandle,
    Handle,
    Launcher,
    LaunchError,
    LaunchPermanent,
    LaunchSpec,
    LaunchTemporary,
    Placement,
    Running,
)
from tasks.launchers.notify import NotifyListener
from tasks.launchers.probes import wait_ready
from tasks.launchers.process import ProcessLauncher

__all__ = [
    "ForeignHandle",
    "Handle",
    "LaunchError",
    "LaunchPermanent",
    "LaunchSpec",
    "LaunchTemporary",
    "Launcher",
    "NotifyListener",
    "Placement",
    "ProcessLauncher",
    "Running",
    "wait_ready",
]
