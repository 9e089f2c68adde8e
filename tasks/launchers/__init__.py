"""Where workers run: the contract of every platform (base) and the platforms."""

from __future__ import annotations

from tasks.launchers.base import (
    Exit,
    ForeignHandle,
    Handle,
    Launcher,
    LaunchError,
    LaunchPermanent,
    LaunchSpec,
    LaunchTemporary,
    LaunchUnknown,
    Outcome,
    Placement,
    Running,
    Starting,
)
from tasks.launchers.notify import NotifyListener
from tasks.launchers.probes import wait_ready
from tasks.launchers.process import ProcessLauncher

__all__ = [
    "Exit",
    "ForeignHandle",
    "Handle",
    "LaunchError",
    "LaunchPermanent",
    "LaunchSpec",
    "LaunchTemporary",
    "LaunchUnknown",
    "Launcher",
    "NotifyListener",
    "Outcome",
    "Placement",
    "ProcessLauncher",
    "Running",
    "Starting",
    "wait_ready",
]
