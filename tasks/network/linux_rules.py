"""What may pass between a network, its node and the rest of the world: one nftables table a network, replaced at once."""

from __future__ import annotations

import hashlib
import json
from string import Template
from typing import TYPE_CHECKING, Any, Final

from scheduler.core import netnames
from scheduler.core.netview import Floating
from tasks.network.base import Change
from tasks.network.linux_commands import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.core.netview import NetworkView

# Of the node a network reaches its gateway's DHCP, DNS and ping, and of the world nothing; who has a floating address
# reaches the world and is reached by it. Also over connections that began when that was otherwise.
_TABLE: Final = Template(
    """
table inet $table {
    set fixed { type ipv4_addr; }
    map to_fixed { type ipv4_addr : ipv4_addr; }
    map to_floating { type ipv4_addr : ipv4_addr; }
    chain arriving {
        type nat hook prerouting priority dstnat;
        dnat ip to ip daddr map @to_fixed comment "$mark"
    }
    chain leaving {
        type nat hook postrouting priority srcnat;
        oifname != "$bridge" snat ip to ip saddr map @to_floating comment "$mark"
        oifname "$bridge" ip saddr $prefix ct status dnat masquerade comment "$mark"
    }
    chain to_node {
        type filter hook input priority filter;
        iifname "$bridge" ip daddr { $gateway, 255.255.255.255 } udp dport { 53, 67 } accept comment "$mark"
        iifname "$bridge" ip daddr $gateway tcp dport 53 accept comment "$mark"
        iifname "$bridge" ip daddr $gateway icmp type echo-request accept comment "$mark"
        iifname "$bridge" drop comment "$mark"
    }
    chain through {
        type filter hook forward priority filter;
        iifname "$bridge" oifname "$bridge" accept comment "$mark"
        iifname "$bridge" ip saddr @fixed accept comment "$mark"
        iifname "$bridge" drop comment "$mark"
        oifname "$bridge" ip daddr @fixed ct status snat,dnat accept comment "$mark"
        oifname "$bridge" drop comment "$mark"
    }
}
"""
)
_RULES: Final = _TABLE.template.count("comment")
_SETS: Final = {"fixed": "set", "to_fixed": "map", "to_floating": "map"}


class Rules:
    """The table of one network in the namespace of this thread. `lock` stays held until the last nft of ours has ended."""

    def __init__(self, vni: int, lock: int | None = None) -> None:
        self._vni = vni
        self._table = f"stoker-{vni:06x}"
        # Or the nft of a killed call might write after the call that came next.
        self._keep = () if lock is None else (lock,)

    def fence(self, view: NetworkView) -> Iterator[Change]:
        """The table, with the translations of the view when it has to be written anew."""
        bridge = netnames.bridge_device(self._vni)
        names = {"table": self._table, "bridge": bridge, "prefix": view.prefix, "gateway": view.gateway}
        # nft lists a rule in other words than it was written in, and each release in its own: a mark tells which text it was.
        mark = hashlib.sha256(_TABLE.substitute(names, mark="").encode()).hexdigest()[:16]
        if [rule.get("comment") for rule in self._listed("rule")] != [mark] * _RULES:
            # Adding first, the deletion is valid whether or not there was a table; all of it happens at one instant.
            anew = f"table inet {self._table}\ndelete table inet {self._table}\n{_TABLE.substitute(names, mark=mark)}"
            self._apply(anew + self._fill(view.floating if view.serves_dhcp else ()))
            yield Change("rules", f"+{self._table}")

    def translate(self, floating: tuple[Floating, ...]) -> Iterator[Change]:
        """These translations and no others. The table is there."""
        have, want = self._held(), _elements(floating)
        if have != want:
            flush = "".join(f"flush {kind} inet {self._table} {name}\n" for name, kind in _SETS.items())
            self._apply(flush + self._fill(floating))
            for sign, some in (("-", have["to_fixed"] - want["to_fixed"]), ("+", want["to_fixed"] - have["to_fixed"])):
                for pair in sorted(some):
                    yield Change("floating", f"{sign}{' to '.join(pair)}")

    def translations(self) -> tuple[Floating, ...]:
        """The floating addresses that are translated now."""
        return tuple(Floating(address, fixed) for address, fixed in sorted(self._held()["to_fixed"]))

    def remove(self) -> Iterator[Change]:
        """No table."""
        if self._exists():
            self._apply(f"delete table inet {self._table}\n")
            yield Change("rules", f"-{self._table}")

    def _held(self) -> dict[str, set[tuple[str, ...]]]:
        held: dict[str, set[tuple[str, ...]]] = {name: set() for name in _SETS}
        for found in self._listed("set", "map"):
            # A set lists what it holds, a map lists pairs.
            held[found["name"]] = {(one,) if isinstance(one, str) else tuple(one) for one in found.get("elem", ())}
        return held

    def _fill(self, floating: tuple[Floating, ...]) -> str:
        return "".join(
            f"add element inet {self._table} {name} {{ {', '.join(' : '.join(one) for one in sorted(some))} }}\n"
            for name, some in _elements(floating).items()
            if some
        )

    def _exists(self) -> bool:
        answer = json.loads(run(("nft", "-j", "list", "tables", "inet"), keep=self._keep))
        return any(entry.get("table", {}).get("name") == self._table for entry in answer["nftables"])

    def _listed(self, *kinds: str) -> list[dict[str, Any]]:
        if not self._exists():
            return []
        answer = json.loads(run(("nft", "-j", "list", "table", "inet", self._table), keep=self._keep))
        return [body for entry in answer["nftables"] for kind, body in entry.items() if kind in kinds]

    def _apply(self, text: str) -> None:
        run(("nft", "-f", "-"), text, keep=self._keep)


def _elements(floating: tuple[Floating, ...]) -> dict[str, set[tuple[str, ...]]]:
    return {
        "fixed": {(one.fixed,) for one in floating},
        "to_fixed": {(one.address, one.fixed) for one in floating},
        "to_floating": {(one.fixed, one.address) for one in floating},
    }
