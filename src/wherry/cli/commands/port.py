"""`port`: where a container's ports are published."""

from __future__ import annotations

from wherry.cli.errors import Failure
from wherry.cli.paths import container
from wherry.cli.ports import join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.context import Context


def run(context: Context) -> int:
    name = context.arguments[0]
    found = context.engine.get(container(name, "json"))
    ports = (found.get("NetworkSettings") or {}).get("Ports") or {}
    lines = []
    if len(context.arguments) > 1:
        wanted, _, protocol = context.arguments[1].partition("/")
        key = f"{wanted}/{protocol or 'tcp'}"
        if not (wanted.isascii() and wanted.isdecimal()):
            from wherry.model.gotext import quote

            raise Failure(f"Error: invalid port ({wanted}): strconv.ParseUint: parsing {quote(wanted)}: invalid syntax")
        lines = [join(binding["HostIp"], binding["HostPort"]) for binding in ports.get(key) or ()]
        if not lines:
            raise Failure(f"Error: No public port '{context.arguments[1]}' published for {name}")
    else:
        for key, bindings in ports.items():
            lines += [f"{key} -> {join(binding['HostIp'], binding['HostPort'])}" for binding in bindings or ()]
    if lines:
        print("\n".join(sorted(lines, key=_natural)))
    return 0


def _natural(line: str) -> list[tuple[int, str]]:
    """An order in which numbers count as numbers."""
    parts: list[tuple[int, str]] = []
    digits = ""
    for char in line + "\0":
        if char.isdigit():
            digits += char
            continue
        if digits:
            parts.append((int(digits), ""))
            digits = ""
        parts.append((-1, char))
    return parts
