"""Published ports as text: neighbouring ports of one address that map onto themselves are shown as a range."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def join(address: str, port: int | str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def displayable(ports: list[dict[str, Any]]) -> str:
    """The Ports of a container list's entry as `ps` shows them."""
    done: list[str] = []
    mappings: list[str] = []
    groups: dict[str, list[int]] = {}
    for port in sorted(ports, key=_order):
        private, address, protocol = port["PrivatePort"], port.get("IP", ""), port.get("Type", "")
        key = protocol
        if address:
            if port.get("PublicPort", 0) != private:
                mappings.append(f"{join(address, port.get('PublicPort', 0))}->{private}/{protocol}")
                continue
            key = f"{address}/{protocol}"
        span = groups.setdefault(key, [private, private - 1])
        if private != span[1] + 1:
            done.append(_group(key, span))
            span[0] = private
        span[1] = private
    return ", ".join(done + [_group(key, span) for key, span in groups.items()] + mappings)


def _order(port: dict[str, Any]) -> tuple[int, str, int, str]:
    return port["PrivatePort"], port.get("IP", ""), port.get("PublicPort", 0), port.get("Type", "")


def _group(key: str, span: list[int]) -> str:
    address, _, protocol = key.rpartition("/")
    text = str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"
    return f"{join(address, text)}->{text}/{protocol}" if address else f"{text}/{protocol}"
