"""The desired state of networks: what is wanted, written under the network's row lock, and read as one node's view.

Whoever changes a network holds its row, so the next one who plans steps for it sees every node that the other has added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg import errors

from scheduler.core import netnames
from scheduler.core.netview import Floating, Host, Neighbour, NetworkView, Port
from scheduler.core.network_plans import Spread
from scheduler.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Address

    from scheduler.store.database import Connection, Database, Row

_MAC_TRIES: Final = 16
_CREATING: Final = 0x53544F4E45  # one creation at a time: each compares its prefix with all others

_VIEW: LiteralString = """
select n.name, n.vni, text(n.prefix) as prefix, n.gateway_node, n.wanted,
    array(select m.node from network_nodes m where m.network = n.name order by 1) as nodes,
    coalesce((select jsonb_agg(jsonb_build_object('id', i.id, 'name', i.name, 'node', i.node, 'namespace', i.namespace,
        'mac', i.mac, 'address', host(i.address), 'floating', (select host(f.address) from floating_addresses f
        where f.interface_id = i.id)) order by i.id) from interfaces i where i.network = n.name and i.wanted), '[]') as interfaces
from networks n where n.name = %(network)s and (n.wanted or %(unwanted)s)
"""
_FOUND: LiteralString = "select gateway_node from networks where name = %(name)s and (wanted or %(going)s)"
_HELD: LiteralString = _FOUND + " for update"
_WANTED: Final[dict[str, LiteralString]] = {
    "network": "select 1 from networks where name = %(network)s and wanted",
    "interface": "select 1 from interfaces where network = %(network)s and name = %(part)s and wanted",
    "floating": "select 1 from floating_addresses f join interfaces i on i.id = f.interface_id"
    " where i.network = %(network)s and f.address = %(part)s::inet",
}


@dataclass(frozen=True, slots=True)
class Underlay:
    """What a view needs to know of the machines: their addresses, and what a packet may weigh."""

    addresses: Mapping[str, str]
    mtu: int
    domain: str = "internal"


def create(connection: Connection, name: str, prefix: str, gateway_node: str) -> Spread:
    """Want a network of this prefix. Refused: its name is taken or malformed, or the prefix overlaps another's."""
    netnames.name("network", name)
    connection.execute("select pg_advisory_xact_lock(%(key)s)", {"key": _CREATING})
    rows = connection.execute("select name, vni, text(prefix) as prefix, wanted from networks").fetchall()
    for row in rows:
        if row["name"] == name:
            raise Refused(
                f"network {name}",
                expected="a name that is free",
                got="one that exists" if row["wanted"] else "one that is being deleted",
                remedy="choose another" if row["wanted"] else "wait for its deletion (`stoker op list`)",
            )
    netnames.prefix(prefix, {row["name"]: row["prefix"] for row in rows})
    connection.execute(
        "insert into networks (name, vni, prefix, gateway_node) values (%(name)s, %(vni)s, %(prefix)s, %(node)s)",
        {"name": name, "vni": _free_vni({row["vni"] for row in rows}), "prefix": prefix, "node": gateway_node},
    )
    connection.execute(
        "insert into network_nodes (network, node) values (%(name)s, %(node)s)", {"name": name, "node": gateway_node}
    )
    return Spread(name, (gateway_node,), gateway_node)


def spread(connection: Connection, network: str, *, changing: bool = True, going: bool = False) -> Spread:
    """Where a network is that is wanted, or also one that is `going`. Changing it: held until the transaction ends.

    Refused: there is no such network.
    """
    netnames.name("network", network)
    row = connection.execute(_HELD if changing else _FOUND, {"name": network, "going": going}).fetchone()
    if row is None:
        raise Refused(
            f"network {network}",
            expected="one that exists",
            got="no such network, or one that is being deleted",
            remedy="create it: stoker network create",
        )
    nodes = connection.execute("select node from network_nodes where network = %(name)s order by 1", {"name": network})
    return Spread(network, tuple(found["node"] for found in nodes.fetchall()), row["gateway_node"])


def unwant(connection: Connection, network: str) -> Spread:
    """Want the network gone; once more, if it is going: a deletion may have failed. Refused while it has interfaces."""
    found = spread(connection, network, going=True)
    plugged = connection.execute(
        "select name from interfaces where network = %(name)s and wanted order by 1", {"name": network}
    ).fetchall()
    if plugged:
        raise Refused(
            f"network {network}",
            expected="no interfaces",
            got=", ".join(row["name"] for row in plugged[:5]) + (" ..." if len(plugged) > 5 else ""),  # noqa: PLR2004
            remedy="unplug them first",
        )
    connection.execute("update networks set wanted = false where name = %(name)s", {"name": network})
    return found


def plug(
    connection: Connection, network: str, name: str, node: str, *, namespace: str, address: str = "", mac: str = ""
) -> tuple[Spread, Row]:
    """Want an interface on a node; its row has the address and MAC it was given."""
    netnames.name("interface", name)
    netnames.namespace(namespace)
    found = spread(connection, network)
    row = connection.execute("select prefix from networks where name = %(name)s", {"name": network}).fetchone()
    assert row is not None
    prefix = row["prefix"]
    others = connection.execute(
        "select name, host(address) as address, mac, wanted from interfaces where network = %(name)s", {"name": network}
    ).fetchall()
    if any(other["name"] == name and other["wanted"] for other in others):
        raise Refused(
            f"interface {name}",
            expected=f"a name that is free in {network}",
            got="one that is plugged",
            remedy="unplug it",
        )
    # An address that is being given up is somebody's until the unplugging has run.
    taken = {other["address"]: other["name"] for other in others}
    if address:
        wanted: IPv4Address | None = netnames.host_address(address, prefix)
        if address in taken:
            raise Refused(
                f"address {address}", expected="a free one", got=f"{taken[address]}'s", remedy="leave it to be chosen"
            )
    else:
        hosts = iter(prefix.hosts())
        next(hosts)  # the gateway's
        wanted = next((host for host in hosts if str(host) not in taken), None)
        if wanted is None:
            raise Refused(
                f"network {network}", expected="a free address", got=f"{len(taken)} taken", remedy="unplug some"
            )
    connection.execute(
        "insert into network_nodes (network, node) values (%(network)s, %(node)s) on conflict do nothing",
        {"network": network, "node": node},
    )
    if mac:
        netnames.mac(mac)
    for attempt in range(_MAC_TRIES):
        chosen = mac or netnames.port_mac(f"{network}/{name}", attempt)
        try:
            with connection.transaction():
                inserted = connection.execute(
                    "insert into interfaces (network, name, node, namespace, mac, address)"
                    " values (%(network)s, %(name)s, %(node)s, %(namespace)s, %(mac)s, %(address)s)"
                    " returning id, network, name, node, namespace, mac, host(address) as address",
                    {
                        "network": network,
                        "name": name,
                        "node": node,
                        "namespace": namespace,
                        "mac": chosen,
                        "address": str(wanted),
                    },
                ).fetchone()
        except errors.UniqueViolation as clash:
            if mac or clash.diag.constraint_name != "ux_interfaces_mac":
                raise Refused(
                    f"MAC {chosen}", expected="a free one", got="another interface's", remedy="leave it out"
                ) from clash
        else:
            assert inserted is not None
            return Spread(network, tuple(sorted({*found.nodes, node})), found.gateway_node), inserted
    raise Refused(f"interface {name}", expected="a free MAC", got=f"{_MAC_TRIES} taken ones", remedy="name a MAC")


def unplug(connection: Connection, network: str, name: str) -> tuple[Spread, str]:
    """Want an interface gone, and its floating address with it; the node where it is. Once more, if it is going."""
    netnames.name("interface", name)
    found = spread(connection, network)
    row = connection.execute(
        "update interfaces set wanted = false where network = %(network)s and name = %(name)s and wanted returning id, node",
        {"network": network, "name": name},
    ).fetchone()
    if row is None:
        going = interface_node(connection, network, name)
        if not going:
            raise _no_interface(network, name)
        return found, going
    given_up = connection.execute(
        "delete from floating_addresses where interface_id = %(id)s returning host(address) as address",
        {"id": row["id"]},
    ).fetchall()
    return replace(found, given_up=tuple(one["address"] for one in given_up)), row["node"]


def add_floating(connection: Connection, network: str, name: str, address: str) -> Spread:
    """Want an address of the underlay to stand for an interface. Refused: it is one inside a network, or taken."""
    netnames.name("interface", name)
    netnames.floating_address(address)
    found = spread(connection, network)
    inside = connection.execute(
        "select name, text(prefix) as prefix from networks where prefix >>= %(address)s::inet", {"address": address}
    ).fetchone()
    if inside is not None:
        raise Refused(
            f"floating address {address} for {network}/{name}",
            expected="an address of the underlay",
            got=f"one of network {inside['name']} ({inside['prefix']})",
            remedy="choose one that the nodes' own network routes to them",
        )
    row = connection.execute(
        "select id from interfaces where network = %(network)s and name = %(name)s and wanted",
        {"network": network, "name": name},
    ).fetchone()
    if row is None:
        raise _no_interface(network, name)
    try:
        with connection.transaction():
            connection.execute(
                "insert into floating_addresses (address, interface_id) values (%(address)s, %(id)s)",
                {"address": address, "id": row["id"]},
            )
    except errors.UniqueViolation as clash:
        raise Refused(
            f"floating address {address} for {network}/{name}",
            expected="a free address, and an interface without one",
            got=str(clash.diag.message_detail),
            remedy="remove it there first",
        ) from clash
    return found


def remove_floating(connection: Connection, network: str, address: str) -> Spread:
    """Want the address to stand for nobody."""
    netnames.address(address)
    found = spread(connection, network)
    gone = connection.execute(
        "delete from floating_addresses f using interfaces i where f.address = %(address)s and i.id = f.interface_id"
        " and i.network = %(network)s returning 1",
        {"address": address, "network": network},
    ).fetchone()
    if gone is None:
        raise Refused(
            f"floating address {address}", expected=f"one of {network}", got="none of its", remedy="stoker network show"
        )
    return found


def interface_node(connection: Connection, network: str, name: str) -> str:
    """The node of an interface that is wanted, or was; '' when there is none."""
    row = connection.execute(
        "select node from interfaces where network = %(network)s and name = %(name)s order by wanted desc limit 1",
        {"network": network, "name": name},
    ).fetchone()
    return row["node"] if row else ""


def wants(connection: Connection, family: str, network: str, part: str) -> bool:
    """Whether somebody wants what a target of this family (network, interface, floating) names."""
    found = connection.execute(_WANTED[family], {"network": network, "part": part or None}).fetchone()
    return found is not None


def view(db: Database, network: str, node: str, underlay: Underlay) -> NetworkView | None:
    """The network as it should be on this node; None when nobody wants it."""
    row = db.row(_VIEW, network=network, unwanted=False)
    if row is None:
        return None
    interfaces = row["interfaces"]
    gateway = row["gateway_node"] == node
    return NetworkView(
        name=row["name"],
        vni=row["vni"],
        prefix=row["prefix"],
        node=node,
        mtu=underlay.mtu,
        domain=underlay.domain,
        serves_dhcp=gateway,
        peers=tuple(underlay.addresses[n] for n in row["nodes"] if n != node and n in underlay.addresses),
        hosts=tuple(Host(i["mac"], i["address"], i["name"]) for i in interfaces),
        ports=tuple(Port(port_name(i["id"]), i["namespace"], i["mac"]) for i in interfaces if i["node"] == node),
        neighbours=tuple(
            Neighbour(i["mac"], underlay.addresses[i["node"]])
            for i in interfaces
            if i["node"] != node and i["node"] in underlay.addresses
        ),
        floating=tuple(Floating(i["floating"], i["address"]) for i in interfaces if gateway and i["floating"]),
    )


def port_name(interface_id: int) -> str:
    """What the interface is called on its node: a number is never used again, a name may be."""
    return f"if-{interface_id}"


def unwanted_ports(db: Database, network: str, node: str, name: str) -> list[str]:
    """The ports of interfaces of this name that nobody wants any more."""
    rows = db.rows(
        "select id from interfaces where network = %(network)s and node = %(node)s and name = %(name)s and not wanted",
        network=network,
        node=node,
        name=name,
    )
    return [port_name(row["id"]) for row in rows]


def forget_ports(db: Database, ports: list[str]) -> None:
    """These have been unplugged: their addresses are free."""
    numbers = [int(port.removeprefix("if-")) for port in ports]
    db.rows("delete from interfaces where id = any(%(ids)s) and not wanted", ids=numbers)


def vni(db: Database, network: str) -> int | None:
    """The number of a network that is wanted, or being deleted."""
    row = db.row("select vni from networks where name = %(network)s", network=network)
    return row["vni"] if row else None


def is_wanted(db: Database, network: str) -> bool:
    """Whether the network is to be there."""
    return db.row("select 1 from networks where name = %(network)s and wanted", network=network) is not None


def forget(db: Database, network: str) -> None:
    """It is gone from every node: its name, number and prefix are free."""
    db.rows("delete from networks where name = %(network)s and not wanted", network=network)


def show(db: Database, network: str | None = None) -> list[dict[str, Any]]:
    """Networks with their nodes and interfaces, as they should be."""
    names = [network] if network else [row["name"] for row in db.rows("select name from networks order by 1")]
    found = [db.row(_VIEW, network=name, unwanted=True) for name in names]
    return [row for row in found if row is not None]


def _free_vni(taken: set[int]) -> int:
    number = max(taken, default=0) + 1
    if number > netnames.LAST_VNI:
        number = next((n for n in range(1, netnames.LAST_VNI + 1) if n not in taken), number)
    return netnames.vni(number)


def _no_interface(network: str, name: str) -> Refused:
    return Refused(
        f"interface {name} of network {network}",
        expected="one that is plugged",
        got="none of that name",
        remedy="stoker network show",
    )
