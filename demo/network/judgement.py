"""What must hold of networks, judged as the pool is. Pure."""

from __future__ import annotations

from typing import Any, Final

from demo.judgement import Check

DNSMASQ_RUNS_MOST: Final = 2


def judge_networks(figures: dict[str, Any]) -> list[Check]:
    """The figures of the network part that have a bar, most telling first."""
    starts, alone = figures["incident"]["with"], figures["incident"]["without"]
    least, most = figures["incident"]["dnsmasq_runs_least"], figures["incident"]["dnsmasq_runs_most"]
    return [
        Check(
            f"dnsmasq runs of {starts['operations']} starts",
            str(most),
            f"1 or {DNSMASQ_RUNS_MOST}",
            ok=1 <= least <= most <= DNSMASQ_RUNS_MOST,
            # How many ask before it begins is also a matter of what else the machine does; that none shares is not.
            must=not 1 <= least <= most < starts["operations"] and figures["driver"] != "dry_run",
            means="Who asks before a run begins shares it, who asks later leads the next one, with all who ask by then;"
            f" each for itself it was {alone['dnsmasq_runs']}. The most of {figures['incident']['rounds']} rounds.",
        ),
        _none(
            "lost updates",
            figures["lost_updates"],
            f"Each of {figures['compared']} pairs of a network and a node was compared with what SQL wants:"
            " devices, peers, neighbours, ports, DHCP hosts, floating addresses.",
        ),
        _none(
            "operations not succeeded",
            figures["not_succeeded"],
            f"Of {figures['operations']:,} submitted, and of the starts that shared nothing.",
        ),
        *_reach(figures),
    ]


def _reach(figures: dict[str, Any]) -> list[Check]:
    if figures["driver"] == "dry_run":
        why = "Nothing to ping: " + figures["words"] + "."
        return [Check("pings answered", "0 of 0", "all", ok=figures["pings"] == 0, must=True, means=why)]
    return [
        _all(
            "leases by DHCP",
            figures["leases_ok"],
            figures["leases"],
            "Every instance asked for its address when its own operation had ended, and was given the one that SQL chose.",
        ),
        _all(
            "names resolved",
            figures["names_ok"],
            figures["names"],
            "Every instance asked its gateway for the others of its network.",
        ),
        _all(
            "pings answered",
            figures["pings_ok"],
            figures["pings"],
            "Every instance pinged every other of its network; most are behind another node.",
        ),
        _none(
            "strangers reached",
            figures["strangers_reached"],
            f"Pings from one network into another that were answered, of {figures['strangers']}.",
        ),
    ]


def _all(name: str, got: int, bar: int, means: str) -> Check:
    return Check(name, f"{got} of {bar}", "all", ok=got == bar > 0, must=True, means=means)


def _none(name: str, got: int, means: str) -> Check:
    return Check(name, str(got), "0", ok=got == 0, must=True, means=means)
