"""What /etc/hosts, /etc/hostname and /etc/resolv.conf say in a container (hosts(5), hostname(5), resolv.conf(5)).

Docker's contents. The values are computed here; `wherry.engine.etc_files` reads and writes the files.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from wherry.errors import SystemFailure

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""

# What a container asks where its host only has resolvers on its own loopback.
DEFAULT_NAMESERVERS = ("8.8.8.8", "8.8.4.4")
DEFAULT_NAMESERVERS_V6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")
HOST_GATEWAY = "host-gateway"


def hosts(
    extra_hosts: Iterable[str],
    *,
    hostname: str,
    domainname: str = "",
    links: Sequence[str] = (),
    addresses: Sequence[str] = (),
    gateway: str = "",
) -> str:
    """/etc/hosts. `extra_hosts` are "name:address", `addresses` the container's own, `gateway` is host-gateway's.

    `links` are whole lines (`wherry.model.links.host_line`).

    Raises SystemFailure where host-gateway is asked for and there is none.
    """
    lines = []
    for entry in extra_hosts:
        name, _, address = entry.partition(":")
        if address == HOST_GATEWAY:
            if not gateway:
                raise SystemFailure("unable to derive the IP value for host-gateway")
            address = gateway
        lines.append(f"{address}\t{name}\n")
    lines += links
    names = own_names(hostname, domainname)
    lines += [f"{address}\t{names}\n" for address in addresses]
    return _HOSTS + "".join(lines)


def own_names(hostname: str, domainname: str = "") -> str:
    """What a container's own addresses are called in its hosts file."""
    full = f"{hostname}.{domainname}" if domainname else hostname
    short = full.partition(".")[0]
    return f"{full} {short}" if short != full else full


def with_own_addresses(text: str, names: str, addresses: Sequence[str]) -> str:
    """A hosts file in which `names` stand for these addresses alone; all other lines as they were."""
    own = {f"{address}\t{names}\n" for address in addresses}
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if line in own or not line.endswith(f"\t{names}\n")]
    missing = [line for address in addresses if (line := f"{address}\t{names}\n") not in kept]
    if missing and kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    return "".join([*kept, *missing])


@dataclass(frozen=True)
class Resolver:
    """A resolv.conf, read. `other` are lines kept as they are."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)


def parse_resolver(text: str) -> Resolver:
    """resolv.conf(5): the last search or domain line counts, nameservers and options add up."""
    nameservers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    other: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or line.lstrip()[0] in "#;":
            continue
        match words[0]:
            case "nameserver":
                nameservers += [word for word in words[1:2] if _address(word)]
            case "search" | "domain":
                search = words[1:]
            case "options":
                options += words[1:]
            case _:
                other.append(line.strip())
    return Resolver(tuple(nameservers), tuple(search), tuple(options), tuple(other))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def only_stub(resolver: Resolver) -> bool:
    """Whether the host asks systemd-resolved's stub alone, whose real servers are in another file."""
    return resolver.nameservers == ("127.0.0.53",)


def override(resolver: Resolver, *, dns: Sequence[str], search: Sequence[str], options: Sequence[str]) -> Resolver:
    """With `--dns`, `--dns-search` and `--dns-option`; a search of "." is none at all.

    Raises SystemFailure for a nameserver that is no address, as Docker does when the container starts.
    """
    for server in dns:
        if not _address(server):
            raise SystemFailure(f'bad nameserver address {server}: ParseAddr("{server}"): unable to parse IP')
    changed = [name for name, given in (("nameservers", dns), ("search", search), ("options", options)) if given]
    notes = [f"Overrides: [{' '.join(changed)}]"]
    if any(option.startswith("ndots:") for option in options):
        notes.append("Option ndots from: override")
    elif any(option.startswith("ndots:") for option in resolver.options) and not options:
        notes.append("Option ndots from: host")
    return replace(
        resolver,
        nameservers=tuple(dns) or resolver.nameservers,
        search=tuple(word for word in search if word != ".") if search else resolver.search,
        options=tuple(options) or resolver.options,
        notes=(*resolver.notes, *notes),
    )


def for_own_network(resolver: Resolver, *, overridden: bool, ipv6: bool) -> Resolver:
    """As seen from a network namespace of its own: the host's loopback is not reached from there.

    Nameservers that were asked for (`overridden`) stay as they are. Without `ipv6` the container cannot reach a
    nameserver of that family, so the host's are left out.
    """
    if overridden:
        return resolver
    reached = [server for server in resolver.nameservers if _reached(server, ipv6=ipv6)]
    if reached:
        return replace(resolver, nameservers=tuple(reached))
    defaults = DEFAULT_NAMESERVERS + (DEFAULT_NAMESERVERS_V6 if ipv6 else ())
    return replace(resolver, nameservers=defaults, notes=("Used default nameservers.", *resolver.notes))


def _reached(server: str, *, ipv6: bool) -> bool:
    address = _address(server)
    return address is not None and not address.is_loopback and (address.version == 4 or ipv6)


def render_resolver(resolver: Resolver, source: str) -> str:
    """The text of a resolv.conf made from the file `source`."""
    lines = ["# Generated by Wherry, anew at each start of the container.", ""]
    lines += [f"nameserver {server}" for server in resolver.nameservers]
    if resolver.search:
        lines.append(f"search {' '.join(resolver.search)}")
    if resolver.options:
        lines.append(f"options {' '.join(resolver.options)}")
    lines += [*resolver.other, "", f"# Based on host file: '{source}'", *(f"# {note}" for note in resolver.notes)]
    return "\n".join(lines) + "\n"
