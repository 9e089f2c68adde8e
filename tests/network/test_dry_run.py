"""The driver that only writes down."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.network import Network
from tasks.network import DryRunDriver, driver
from tests.network.conformance import DriverCase, DriverConformance


class TestDryRun(DriverConformance):
    @pytest.fixture
    def case(self, tmp_path: Path) -> DriverCase:
        made = driver(Network(), tmp_path)
        assert isinstance(made, DryRunDriver)
        return DriverCase(made, lambda: DryRunDriver(Network(), tmp_path), ("one", "two"))
