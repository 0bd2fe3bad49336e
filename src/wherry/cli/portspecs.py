"""--publish and --expose: from `ip:host:container/protocol` with ranges to ports and their bindings."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse(published: list[str], exposed: list[str]) -> tuple[list[str], dict[str, list[dict[str, str]]]]:
    """(exposed ports "80/tcp", bindings by port). Raises ValueError in docker's words."""
    ports: dict[str, None] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for text in published:
        for port, binding in one(_plain(text)):
            ports[port] = None
            bindings.setdefault(port, []).append(binding)
    for text in exposed:
        if ":" in text:
            raise ValueError(f"invalid port format for --expose: {text}")
        numbers, protocol = _protocol(text)
        try:
            first, last = _range(numbers)
        except ValueError as error:
            raise ValueError(f"invalid range format for --expose: {text}, error: {error}") from None
        ports.update(dict.fromkeys(f"{number}/{protocol}" for number in range(first, last + 1)))
    return list(ports), bindings


def _plain(text: str) -> str:
    """The long form target=80,published=8080,protocol=tcp in the short one."""
    if "=" not in text:
        return text
    fields: dict[str, Any] = {"protocol": "tcp"}
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals or not key:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{field}')")
        fields[key] = value
    return f"{fields.get('published', '')}:{fields.get('target', '')}/{fields['protocol']}"


def _protocol(text: str) -> tuple[str, str]:
    numbers, slash, protocol = text.partition("/")
    return numbers, (protocol if slash and protocol else "tcp")


def _range(text: str) -> tuple[int, int]:
    """(first, last) of "80" or "80-90". Raises ValueError."""
    if not text:
        raise ValueError("empty string specified for ports")
    first, dash, last = text.partition("-")
    start = _number(first)
    end = _number(last) if dash else start
    if end < start:
        raise ValueError(f"invalid range specified for port: {text}")
    return start, end


def _number(text: str) -> int:
    from wherry.model.gotext import quote

    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"strconv.ParseUint: parsing {quote(text)}: invalid syntax")
    if int(text) > 65535:
        raise ValueError(f"strconv.ParseUint: parsing {quote(text)}: value out of range")
    return int(text)


def _split(text: str) -> tuple[str, str, str]:
    """(address, host ports, container ports)."""
    parts = text.split(":")
    if len(parts) == 1:
        return "", "", parts[0]
    if len(parts) == 2:
        return "", parts[0], parts[1]
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    return ":".join(parts[:-2]), parts[-2], parts[-1]


def one(text: str) -> list[tuple[str, dict[str, str]]]:
    """The (port, binding) pairs of one --publish. Raises ValueError."""
    numbers, _, protocol = text.partition("/")
    protocol = protocol or "tcp"
    address, outside, inside = _split(numbers)
    if address:
        bare = address[1:-1] if address[0] == "[" and address[-1] == "]" else address
        from wherry.cli.values import ip_address

        if not ip_address(bare.partition("%")[0]):
            raise ValueError(f"invalid IP address: {address}")
        address = bare
    if not inside:
        raise ValueError(f"no port specified: {text}<empty>")
    try:
        first, last = _range(inside)
    except ValueError:
        raise ValueError(f"invalid containerPort: {inside}") from None
    start = end = 0
    if outside:
        try:
            start, end = _range(outside)
        except ValueError:
            raise ValueError(f"invalid hostPort: {outside}") from None
        if last - first != end - start and first != last:
            raise ValueError(f"invalid ranges specified for container and host Ports: {inside} and {outside}")
    protocol = protocol.lower()
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"invalid proto: {protocol}")
    made = []
    for offset in range(last - first + 1):
        host = ""
        if outside:
            host = f"{start}-{end}" if first == last and start != end else str(start + offset)
        made.append((f"{first + offset}/{protocol}", {"HostIp": address, "HostPort": host}))
    return made
