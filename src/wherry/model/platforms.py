"""Platforms: os/architecture[/variant], as containerd's `platforms` package reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.errors import InvalidParameter

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
}
_KNOWN_ARCHITECTURES = frozenset(
    "386 amd64 arm arm64 loong64 mips mipsle mips64 mips64le ppc64 ppc64le riscv64 s390x wasm".split()
)
_KNOWN_SYSTEMS = frozenset(
    "aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris windows".split()
)
_PART = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Platform:
    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def normal(self) -> Platform:
        """With the usual names: aarch64 is arm64, arm is arm/v7, amd64/v1 is amd64."""
        return Platform("darwin" if self.os == "macos" else self.os, *_normal(self.architecture, self.variant))

    def runs(self) -> list[Platform]:
        """What runs on it, best first: itself, lower variants, the 32 bits beside the 64 (containerd's `Only`)."""
        own = self.normal()
        found = [(own.architecture, own.variant)]
        number = own.variant.removeprefix("v")
        match own.architecture:
            case "amd64":
                found += [("amd64", f"v{n}" if n > 1 else "") for n in _lower(number, 1)] + [("386", "")]
            case "arm64":
                found += [("arm64", f"v{n}" if n > 8 else "") for n in _lower(number, 8)]
                found += [("arm", f"v{n}") for n in range(8, 4, -1)]
            case "arm":
                found += [("arm", f"v{n}") for n in _lower(number, 5)]
        return [Platform(own.os, architecture, variant) for architecture, variant in found]


def from_machine(machine: str) -> Platform:
    """From what uname(2) calls the machine."""
    architecture, variant = _ARCHITECTURES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def parse(text: str, host: Platform) -> Platform:
    """What the text leaves out is the host's. Raises InvalidParameter."""
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidParameter(f'"{text}": cannot parse platform specifier: invalid argument')
    if len(parts) == 1:
        if parts[0] in _KNOWN_SYSTEMS:
            return Platform(parts[0], host.architecture, host.variant)
        architecture, variant = _normal(parts[0], "")
        if architecture not in _KNOWN_ARCHITECTURES:
            raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')
        return Platform("linux", architecture, variant)
    return Platform(parts[0], parts[1], parts[2] if len(parts) == 3 else "").normal()


def _lower(number: str, least: int) -> range:
    """The variants below one, best first; variants with parts (v8.1) have none that are known."""
    return range(int(number) - 1, least - 1, -1) if number.isdecimal() and len(number) < 3 else range(0)


def _normal(architecture: str, variant: str) -> tuple[str, str]:
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
    variant = variant or implied
    if architecture == "arm64" and variant in ("8", "v8"):
        variant = ""
    if architecture == "arm":
        variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    if architecture == "amd64" and variant == "v1":
        variant = ""
    return architecture, variant
