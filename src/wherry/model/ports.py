"""Ports to publish: reading them as Docker does, and which of the host's each may get. Pure.

A binding is `{HostIp, HostPort}` under a container port (`80/tcp`); HostPort is empty or 0 (any), a port, or a range of
which the first free one is taken (API 1.45, PortMap). Docker's words for what is wrong are kept.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from wherry.errors import InvalidParameter, NotSupported
from wherry.model.config import PortBinding

ANY = ("0.0.0.0", "::")  # what a binding without an address means
_NUMBER = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, order=True)
class Wanted:
    """One binding, checked: any one port of `first..last` (0 and 0: any that is free) at all of `addresses`."""

    container_port: int
    protocol: str
    addresses: tuple[str, ...]
    first: int
    last: int
    implied: bool  # nobody named an address: where the host lacks IPv6, IPv4 alone will do


def parse_port(text: str) -> int:
    """A port number. Raises InvalidParameter."""
    if _NUMBER.fullmatch(text) is None or int(text) > 65535:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return int(text)


def parse_range(text: str) -> tuple[int, int]:
    """`80` or `80-90`. Raises InvalidParameter."""
    start, dash, end = text.partition("-")
    try:
        first = parse_port(start)
        last = parse_port(end) if dash else first
    except InvalidParameter:
        raise InvalidParameter(f'invalid port specification: "{text}"') from None
    if last < first:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return first, last


def parse_container_port(text: str) -> tuple[int, str]:
    """`80`, `80/tcp`, `53/UDP`: the port and its protocol. Raises InvalidParameter, or NotSupported for SCTP."""
    number, slash, protocol = text.partition("/")
    return parse_port(number), _protocol(protocol if slash else "tcp")


def wanted_ports(
    bindings: Mapping[str, list[PortBinding] | None] | None, exposed: Collection[str], publish_all: bool
) -> list[Wanted]:
    """Everything to publish, fixed ports before free ones so that these do not sit on those.

    An empty list of bindings publishes nothing; `publish_all` publishes what is exposed and has no binding. A port that
    is bound and not exposed is published too (the real engine ignores it). Raises InvalidParameter, NotSupported.
    """
    found: list[Wanted] = []
    bound: set[tuple[int, str]] = set()
    for text, values in (bindings or {}).items():
        port, protocol = parse_container_port(text)
        for value in values or ():
            bound.add((port, protocol))
            found.append(_wanted(port, protocol, value))
    if publish_all:
        for port, protocol in expand_exposed(exposed):
            if (port, protocol) not in bound:
                found.append(_wanted(port, protocol, PortBinding()))
    return sorted(found, key=lambda wanted: (wanted.first == 0, wanted.last != wanted.first, wanted))


def expand_exposed(exposed: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Exposed ports, ranges (`90-92/udp`) written out. Raises InvalidParameter, NotSupported."""
    for text in exposed:
        numbers, slash, protocol = text.partition("/")
        first, last = parse_range(numbers)
        for port in range(first, last + 1):
            yield port, _protocol(protocol if slash else "tcp")


def candidates(wanted: Wanted, ephemeral: range, start: int) -> Iterator[int]:
    """Host ports to try, in order: those of the range, or the ephemeral ones from `start` on and round."""
    if wanted.first:
        yield from range(wanted.first, wanted.last + 1)
        return
    offset = start - ephemeral.start if start in ephemeral else 0
    yield from ephemeral[offset:]
    yield from ephemeral[:offset]


def join(address: str, port: int) -> str:
    """`127.0.0.1:80`, `[::1]:80`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def already_allocated(address: str, port: int) -> str:
    """Docker's words where another of the engine's containers has the port."""
    return f"Bind for {join(address, port)} failed: port is already allocated"


def cannot_listen(protocol: str, address: str, port: int, reason: str) -> str:
    """Docker's words where the host refuses it; `reason` as in strerror(3)."""
    family = "6" if ":" in address else "4"
    return f"Error starting userland proxy: listen {protocol}{family} {join(address, port)}: bind: {reason.lower()}"


def _wanted(port: int, protocol: str, binding: PortBinding) -> Wanted:
    if port == 0:
        raise InvalidParameter('invalid port specification: "0"')
    first, last = parse_range(binding.host_port) if binding.host_port else (0, 0)
    addresses = (_address(binding.host_ip),) if binding.host_ip else ANY
    return Wanted(port, protocol, addresses, first, last, not binding.host_ip)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InvalidParameter(f"invalid IP address: {text}") from None


def _protocol(text: str) -> str:
    protocol = text.lower()
    if protocol == "sctp":
        raise NotSupported("SCTP ports are not supported by this version of Wherry")
    if protocol not in ("tcp", "udp"):
        raise InvalidParameter(f"invalid transport protocol: {text}")
    return protocol
