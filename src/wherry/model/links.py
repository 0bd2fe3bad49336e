"""`--link` on the default bridge: what a container learns of another one, in its environment and its hosts file.

Docker's variables, names and words (`docker run --link`, "legacy container links").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from msgspec import Struct

from wherry.errors import SystemFailure

_PRIVATE = frozenset({"HOME", "PATH"})  # of the other's variables, those that are nobody else's business


class Link(Struct, frozen=True):
    """To the container of this ID, which was called `name` when the link was made."""

    id: str
    name: str


@dataclass(frozen=True)
class Linked:
    """A link at work. `path` is "/PARENT/ALIAS", `ports` and `env` are what the other exposes ("80/tcp") and knows."""

    path: str
    name: str
    hostname: str
    address: str
    ports: Iterable[str] = ()
    env: Iterable[str] = ()

    @property
    def alias(self) -> str:
        return self.path.rpartition("/")[2]


def parse(text: str) -> tuple[str, str]:
    """Name and alias of "NAME[:ALIAS]". Raises SystemFailure, as Docker does."""
    if not text:
        raise SystemFailure("empty string specified for links")
    parts = text.split(":")
    if len(parts) > 2:
        raise SystemFailure(f"bad format for links: {text}")
    name, alias = parts[0], parts[-1]
    if name.startswith("/") and "/" in alias:  # as inspect shows it: /name:/parent/alias
        return name[1:], alias.rpartition("/")[2]
    return name, alias


def host_line(link: Linked) -> str:
    """The line of /etc/hosts."""
    names = [link.alias, link.hostname, *([link.name] if link.name != link.alias else [])]
    return f"{link.address}\t{' '.join(names)}\n"


def environment(link: Linked) -> list[str]:
    """The variables, in Docker's order; a later one of a name replaces an earlier."""
    prefix = link.alias.replace("-", "_").upper()
    return [f"{prefix}_{name}={value}" for name, value in _variables(link)]


def _variables(link: Linked) -> Iterator[tuple[str, str]]:
    ports = sorted(_port(text) for text in link.ports)
    if ports:
        number, protocol = ports[0]
        yield "PORT", f"{protocol}://{link.address}:{number}"
    yield from _ranges(ports, link.address)
    for number, protocol in ports:
        prefix = f"PORT_{number}_{protocol.upper()}"
        yield prefix, f"{protocol}://{link.address}:{number}"
        yield f"{prefix}_ADDR", link.address
        yield f"{prefix}_PORT", str(number)
        yield f"{prefix}_PROTO", protocol
    yield "NAME", link.path
    for entry in link.env:
        name, separator, value = entry.partition("=")
        if separator and name not in _PRIVATE:
            yield f"ENV_{name}", value


def _ranges(ports: list[tuple[int, str]], address: str) -> Iterator[tuple[str, str]]:
    """Runs of neighbouring ports, told by their ends; whatever their protocols, that of the first is named."""
    at = 0
    while at < len(ports):
        first, protocol = ports[at]
        end = at + 1
        while end < len(ports) and ports[end][0] <= first + end - at:
            end += 1
        last = ports[end - 1][0]
        if end - at > 1:
            prefix = f"PORT_{first}_{protocol.upper()}"
            yield f"{prefix}_START", f"{protocol}://{address}:{first}"
            yield f"{prefix}_ADDR", address
            yield f"{prefix}_PROTO", protocol
            yield f"{prefix}_PORT_START", str(first)
            yield f"{prefix}_END", f"{protocol}://{address}:{last}"
            yield f"{prefix}_PORT_END", str(last)
        at = end


def _port(text: str) -> tuple[int, str]:
    number, _, protocol = text.partition("/")
    return int(number), protocol or "tcp"


def shown(links: Mapping[str, Link], parent: str, name_of: Mapping[str, str]) -> list[str]:
    """As inspect shows them: "/NAME:/PARENT/ALIAS". `name_of` are the names of the containers there are, by ID."""
    return [f"/{name_of.get(link.id, link.name)}:/{parent}/{alias}" for alias, link in sorted(links.items())]


def with_line(text: str, line: str) -> str:
    """A hosts file in which the names of `line` stand for its address; all other lines as they were."""
    names = line.partition("\t")[2]
    pattern = re.compile(rf"^[0-9a-f.:]+\t{re.escape(names)}", re.MULTILINE)
    return pattern.sub(lambda _: line, text)
