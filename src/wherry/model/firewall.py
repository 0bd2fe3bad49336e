"""The firewall as text: nft scripts for a table of our own, made from values and run elsewhere (nft(8)).

What the table does, for a bridge `wherry0` with the subnet 172.17.0.0/16:

- leaving packets are masqueraded; containers reach one another, the outside and the host;
- from outside, only connections to published ports come in, even for a neighbour who routes to the subnet himself;
- published ports are elements of two maps, by protocol and port, and by address, protocol and port;
- the host's own connections are translated as well, those to 127.0.0.1 too. That needs `route_localnet` on the bridge,
  so packets from or to 127.0.0.0/8 that come in by the bridge are dropped before anything looks at them, and ports
  published on 127.0.0.1 are not translated for packets that come from outside (CVE-2020-8558 is the alternative);
- a container that talks to a published port, even its own, does so as the gateway: else the answer would go straight
  to it from an address that it never asked;
- if the engine turned the host's forwarding on, the host still forwards for containers only.

Every network has such a table. They keep networks apart: what goes into a bridge without having been published or asked
for is dropped by that bridge's table, whatever other tables accept. An internal network's drops what would leave, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from wherry.model.container import PublishedPort

ANY = "0.0.0.0"
GUARD = "not_a_router"  # the chain that is there if forwarding is on because of us


@dataclass(frozen=True)
class Redirection:
    """A published port and the container's address behind it."""

    port: PublishedPort
    address: str

    @property
    def map(self) -> str:
        return "published_any" if self.port.host_ip == ANY else "published"

    @property
    def key(self) -> str:
        key = f"{self.port.protocol} . {self.port.host_port}"
        return key if self.port.host_ip == ANY else f"{self.port.host_ip} . {key}"

    @property
    def element(self) -> str:
        return f"{self.key} : {self.address} . {self.port.container_port}"


@dataclass(frozen=True)
class Guard:
    """Forwarding is on because of us: which bridges were there before, and so belong to the host itself."""

    bridges: tuple[str, ...]


def redirections(ports: Iterable[PublishedPort], address: str) -> list[Redirection]:
    """What the firewall can do for these ports. IPv6 addresses are served by the engine's own proxy."""
    return [Redirection(port, address) for port in ports if ":" not in port.host_ip]


@dataclass(frozen=True)
class Segment:
    """One network as the firewall sees it: its table, its bridge, and what its options say."""

    table: str
    bridge: str
    subnet: IPv4Network
    internal: bool = False
    masquerade: bool = True


def whole_table(segment: Segment, published: Sequence[Redirection], guard: Guard | None) -> str:
    """The script that puts the table in place of whatever had its name; one transaction."""
    table = segment.table
    inside = _internal(segment) if segment.internal else _connected(segment, published, guard)
    return f"add table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n{inside}\n}}\n"


def _internal(segment: Segment) -> str:
    """Packets stay in the bridge, or go to and come from the host itself."""
    bridge = segment.bridge
    return f"""
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname "{bridge}" oifname "{bridge}" accept
        iifname "{bridge}" drop
        oifname "{bridge}" drop
    }}
"""


def _connected(segment: Segment, published: Sequence[Redirection], guard: Guard | None) -> str:
    bridge, subnet = segment.bridge, segment.subnet
    outgoing = f'ip saddr {subnet} oifname != "{bridge}" masquerade' if segment.masquerade else ""
    return f"""
    map published {{
        type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
        {_elements("published", published)}
    }}
    map published_any {{
        type inet_proto . inet_service : ipv4_addr . inet_service
        {_elements("published_any", published)}
    }}
    chain loopback_guard {{
        type filter hook prerouting priority raw; policy accept;
        iifname "{bridge}" ip saddr 127.0.0.0/8 drop
        iifname "{bridge}" ip daddr 127.0.0.0/8 drop
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr != 127.0.0.0/8 fib daddr type local jump publish
    }}
    chain output {{
        type nat hook output priority -100; policy accept;
        fib daddr type local jump publish
    }}
    chain publish {{
        dnat ip to ip daddr . ip protocol . th dport map @published
        dnat ip to ip protocol . th dport map @published_any
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        {outgoing}
        ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade
        ip saddr {subnet} oifname "{bridge}" ct status dnat masquerade
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname "{bridge}" accept
        oifname "{bridge}" ct state established,related accept
        oifname "{bridge}" ct status dnat accept
        oifname "{bridge}" drop
        {f"jump {GUARD}" if guard else ""}
    }}
{_not_a_router(guard) if guard else ""}
"""


def add_elements(table: str, published: Sequence[Redirection]) -> str:
    return "\n".join(f"add element ip {table} {entry.map} {{ {entry.element} }}" for entry in published)


def delete_elements(table: str, published: Sequence[Redirection]) -> str:
    return "\n".join(f"delete element ip {table} {entry.map} {{ {entry.key} }}" for entry in published)


def delete_table(table: str) -> str:
    return f"add table ip {table}\ndelete table ip {table}"


def _elements(map: str, published: Iterable[Redirection]) -> str:
    entries = ", ".join(entry.element for entry in published if entry.map == map)
    return f"elements = {{ {entries} }}" if entries else ""


def _not_a_router(guard: Guard) -> str:
    """Bridges that came after us are those of other engines and virtual machines, which forward on purpose."""
    known = f"iifname {{ {_names(guard)} }} oifname {{ {_names(guard)} }} drop" if guard.bridges else ""
    theirs = f"iifname != {{ {_names(guard)} }} " if guard.bridges else ""
    ours = f"oifname != {{ {_names(guard)} }} " if guard.bridges else ""
    return f"""
    chain {GUARD} {{
        {known}
        meta iifkind "bridge" {theirs}accept
        meta oifkind "bridge" {ours}accept
        ct state established,related accept
        drop
    }}
"""


def _names(guard: Guard) -> str:
    return ", ".join(f'"{name}"' for name in guard.bridges)


# --- beside others ---


@dataclass(frozen=True)
class Place:
    """Where another firewall lets us say what it must not drop: the head of this chain."""

    family: str
    table: str
    chain: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.chain}"

    @property
    def key(self) -> tuple[str, str, str]:
        return self.family, self.table, self.chain


DOCKER_USER = Place("ip", "filter", "DOCKER-USER")
UFW_USER = Place("ip", "filter", "ufw-user-forward")
IPTABLES = Place("ip", "filter", "FORWARD")
FIREWALLD = Place("inet", "firewalld", "filter_FORWARD")
PLACES = (DOCKER_USER, UFW_USER, IPTABLES, FIREWALLD)


def places(chains: Iterable[dict[str, Any]]) -> list[Place]:
    """Where accepts are needed: chains as `nft -j list chains` gives them.

    An accept in our own table cannot undo a drop in another. Docker has a chain for others to use and its FORWARD goes
    there first; without Docker, ufw has one for its user's rules; an iptables FORWARD that drops by default has none,
    and is used itself; so is firewalld's.
    """
    found = {(chain["family"], chain["table"], chain["name"]): chain for chain in chains}

    def there(place: Place) -> bool:
        return place.key in found

    wanted: list[Place] = []
    if there(DOCKER_USER):
        wanted.append(DOCKER_USER)
    elif there(UFW_USER):
        wanted.append(UFW_USER)
    elif there(IPTABLES) and found[IPTABLES.key].get("policy") == "drop":
        wanted.append(IPTABLES)
    if there(FIREWALLD):
        wanted.append(FIREWALLD)
    return wanted


def droppers(chains: Iterable[dict[str, Any]], own: str, reached: Iterable[Place]) -> list[str]:
    """Tables that drop forwarded packets by default and in which nothing is ours to write: `family table chain`."""
    handled = {(place.family, place.table) for place in reached}
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") == "forward"
        and chain.get("policy") == "drop"
        and chain["family"] in ("ip", "inet")
        and (chain["family"], chain["table"]) not in handled
        and chain["table"] != own
    ]


def is_accept(rule: dict[str, Any], direction: str, bridge: str) -> bool:
    """Is this rule our accept for one direction (`iifname` or `oifname`)? Told by what it does, not by its comment:
    saving and restoring through iptables loses the comment."""
    statements = [statement for statement in rule.get("expr", []) if "counter" not in statement]
    match = {"match": {"op": "==", "left": {"meta": {"key": direction}}, "right": bridge}}
    return statements == [match, {"accept": None}]


DIRECTIONS = ("iifname", "oifname")


def add_accepts(place: Place, bridge: str, missing: Iterable[str]) -> str:
    """One plain interface match a rule, never a set: iptables shows a rule with a set as one that accepts everything,
    and saving and restoring would make it that."""
    return "\n".join(
        f'insert rule {place} {direction} "{bridge}" counter accept comment "{bridge}: containers"'
        for direction in missing
    )


def delete_rules(place: Place, handles: Iterable[int]) -> str:
    return "\n".join(f"delete rule {place} handle {handle}" for handle in handles)
