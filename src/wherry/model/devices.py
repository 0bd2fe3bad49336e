"""Device nodes of a container, and which its cgroup lets it use (the kernel's cgroup-v1/devices.rst)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.errors import SystemFailure

PERMISSIONS = "rwm"
ANY = -1


@dataclass(frozen=True)
class Device:
    """A node to make. `kind` is "c" or "b"; `mode` the permission bits."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class DeviceRule:
    """A line of devices.allow or devices.deny. `kind` is "a", "b" or "c"; a number may be ANY."""

    allow: bool
    kind: str
    major: int
    minor: int
    access: str = PERMISSIONS


# What Docker allows a container, besides what every OCI runtime allows (null, zero, full, random, tty, pts, ptmx).
DEFAULT_RULES = (
    DeviceRule(False, "a", ANY, ANY),
    DeviceRule(True, "c", 1, 5),
    DeviceRule(True, "c", 1, 3),
    DeviceRule(True, "c", 1, 9),
    DeviceRule(True, "c", 1, 8),
    DeviceRule(True, "c", 5, 0),
    DeviceRule(True, "c", 5, 1),
    DeviceRule(False, "c", 10, 229),
)
EVERYTHING = DeviceRule(True, "a", ANY, ANY)

_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})\Z")


def parse_rule(text: str) -> DeviceRule:
    """`--device-cgroup-rule`: "c 7:* rw". Raises SystemFailure, as Docker does when the container starts."""
    matched = _RULE.match(text)
    if not matched:
        raise SystemFailure(f"invalid device cgroup rule format: '{text}'")
    kind, major, minor, access = matched.groups()
    return DeviceRule(True, kind, _number(major), _number(minor), access)


def _number(text: str) -> int:
    return ANY if text == "*" else int(text)
