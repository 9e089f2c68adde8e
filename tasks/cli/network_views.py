"""Networks as people see them: what is wanted, and every difference marked. Rows in, renderables out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from tasks.cli.output import plain_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

_WORDS = {
    "hosts": "DHCP host",
    "ports": "port",
    "peers": "peer",
    "neighbours": "neighbour",
    "floating": "floating address",
}


def networks(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Each network: its interfaces, and its nodes with what differs there."""
    parts: list[RenderableType] = []
    for row in found:
        parts += [_head(row), _interfaces(row), _nodes(row)]
    return Group(*parts) if parts else Text("networks: none", style="dim")


def _head(row: Mapping[str, Any]) -> Text:
    going = "" if row["wanted"] else "  being deleted"
    return Text.assemble(
        (row["name"], "bold"),
        f"  {row['prefix']}  VNI {row['vni']}  gateway on {row['gateway_node']}",
        (going, "yellow"),
    )


def _interfaces(row: Mapping[str, Any]) -> RenderableType:
    table = plain_table()
    for column in ("interface", "node", "address", "floating", "MAC", "namespace", "plugged"):
        table.add_column(column, overflow="fold")
    plugged = {(look["node"], port) for look in row["seen"] if look["observed"] for port in look["observed"]["ports"]}
    looked = {look["node"] for look in row["seen"] if look["observed"]}
    for one in row["interfaces"]:
        is_there = (one["node"], f"if-{one['id']}") in plugged
        mark = ("yes", "green") if is_there else ("NO", "bold red") if one["node"] in looked else ("not seen", "dim")
        table.add_row(
            one["name"],
            one["node"],
            one["address"],
            one["floating"] or Text("-", style="dim"),
            one["mac"],
            one["namespace"],
            Text(*mark),
        )
    return table if row["interfaces"] else Text("  no interfaces", style="dim")


def _nodes(row: Mapping[str, Any]) -> RenderableType:
    ports = {f"if-{one['id']}": one["name"] for one in row["interfaces"]}
    lines: list[RenderableType] = []
    for look in row["seen"]:
        start = f"  on {look['node']}: "
        if look["observed"] is None:
            lines.append(Text.assemble(start, (f"not seen: {look['why']}", "dim")))
        elif not look["differences"]:
            lines.append(Text.assemble(start, ("as it should be" if row["wanted"] else "gone", "green")))
        else:
            lines.append(Text.assemble(start, ("differs", "bold red")))
            lines += [line for one in look["differences"] for line in _difference(one, ports)]
    return Group(*lines, Text())


def _difference(one: Mapping[str, Any], ports: Mapping[str, str]) -> list[Text]:
    word = _WORDS.get(one["what"], one["what"])
    return [
        Text(f"    {mark} {word}{_said(one['what'], value, ports)}{note}", style=style)
        for mark, note, style, values in (
            ("-", " is missing", "red", one["missing"]),
            ("+", " is not wanted", "yellow", one["extra"]),
        )
        for value in values
    ]


def _said(what: str, value: Any, ports: Mapping[str, str]) -> str:  # noqa: ANN401 - a field of Observed, as JSON
    if what == "dnsmasq":  # a number that means nothing to people
        return ""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        return f" {' = '.join(map(str, value))}"
    return f" {ports[value]} ({value})" if value in ports else f" {value}"
