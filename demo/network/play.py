"""The network part of a run: the six starts, the same six apart, the two hundred; then what history and nodes say."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from demo.lab import NODES
from demo.network import churn, incident
from demo.network.crew import Crew
from demo.network.record import NetworkRecording
from demo.network.remembered import remembered_operations, remembered_runs
from demo.network.truth import compare

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from demo.network.ground import Ground, Site
    from tasks.context import Context


def play_networks(
    context: Context, ground: Ground, site: Site, over: threading.Event, say: Callable[[str], None]
) -> NetworkRecording:
    """Play it to its end. `say` is told what begins.

    Raises:
        StokerError: a client could not play its part.
    """
    began = time.monotonic()
    crew = Crew(context.operations, over)
    starts = incident.Incident(context, site, crew)
    say("networks: one is made, with an instance on each node")
    starts.prepare()
    say(f"networks: {incident.STARTS} instances start on a new one at once, then {incident.STARTS} that share no run")
    starts.play()
    if ground.is_real:
        say("networks: every instance resolves and pings the others")
        starts.look_around()
    say(f"networks: {churn.OPERATIONS} operations on {churn.NETWORKS} of them, {churn.CLIENTS} clients at once")
    churn.Churn(context, site, crew).run()
    say("networks: what the nodes have, beside what SQL wants")
    compared = compare(context, site)
    return NetworkRecording(
        driver=ground.network.driver,
        way=ground.way,
        words=ground.words,
        networks=churn.NETWORKS,
        nodes=len(NODES),
        compared=compared.places,
        took_s=time.monotonic() - began,
        seen=crew.seen,
        operations=remembered_operations(context.db),
        runs=remembered_runs(context.db),
        differences=compared.differences,
    )
