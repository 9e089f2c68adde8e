"""Whether an update was lost: what every node has, beside what SQL wants it to have.

Run as ``python -m demo.network.truth``: reads pairs of node and network number, writes what there is of each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from config.settings import load
from demo.network.record import Difference
from scheduler.store import networks
from tasks.network import compare as shared
from tasks.network import driver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from demo.network.ground import Site
    from scheduler.core.netview import NetworkView
    from tasks.context import Context
    from tasks.network import Driver

DEADLINE_S: Final = 60.0
_EYES: Final = 2
_HIGHEST_VNI: Final = "select count(*)::int as n from operations where kind = 'network.create'"


@dataclass(frozen=True)
class Compared:
    """How many networks of nodes were looked at, and what was not as wanted."""

    places: int
    differences: list[Difference]


def compare(context: Context, site: Site) -> Compared:
    """Look at every network that is, or was, on every node."""
    nodes = list(context.settings.network.nodes)
    names = {row["vni"]: row["name"] for row in context.db.rows("select vni, name from networks")}
    # Numbers count up from 1 and one that is free again may be used again: no network ever had a higher one than this.
    created = context.db.row(_HIGHEST_VNI)
    assert created is not None
    places = [(node, vni) for vni in range(1, max(created["n"], *names, 1) + 1) for node in nodes]
    found = _look(site, places)
    differences: list[Difference] = []
    for (node, vni), have in zip(places, found, strict=True):
        name = names.get(vni, "")
        view = networks.view(context.db, name, node, context.underlay) if name else None
        placed = view is not None and node in _nodes(context, name)
        want = wanted(view if placed else None)
        differences += different(name or f"deleted network {vni}", node, want, have)
    return Compared(len(places), differences)


def wanted(view: NetworkView | None) -> dict[str, Any]:
    """What there should be on a node that has the network; without a view, nothing."""
    return asdict(shared.wanted(view))


def different(network: str, node: str, want: dict[str, Any], have: dict[str, Any]) -> Iterable[Difference]:
    """One for each thing that is not as wanted. Of dnsmasq it counts that one runs, not which."""
    for what, should in _plain(want).items():
        has = _plain(have)[what]
        same = (has is None) == (should is None) if what == "dnsmasq" else has == should
        if not same:
            yield Difference(network, node, what, str(should), str(has))


def _nodes(context: Context, network: str) -> set[str]:
    rows = context.db.rows("select node from network_nodes where network = %(network)s", network=network)
    return {row["node"] for row in rows}


def _look(site: Site, places: list[tuple[str, int]]) -> list[dict[str, Any]]:
    # In a process of its own: it has to be where the networks are.
    done = subprocess.run(  # noqa: S603 - an argument list, no shell
        site.enter((sys.executable, "-m", "demo.network.truth")),
        input=json.dumps(places),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: what is compared has gone that way on one side."""
    plain: dict[str, Any] = json.loads(json.dumps(document))
    return plain


def _seen_at(place: tuple[str, int]) -> dict[str, Any]:
    return asdict(_driver().observe(*place))


@cache
def _driver() -> Driver:
    settings = load()
    return driver(settings.network, settings.locations.state_dir)


if __name__ == "__main__":
    with ProcessPoolExecutor(_EYES) as eyes:
        sys.stdout.write(json.dumps(list(eyes.map(_seen_at, json.load(sys.stdin), chunksize=4))))
