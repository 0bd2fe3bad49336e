"""The kernel's capabilities (capabilities(7)), and which of them a container's first process may hold."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from wherry.errors import InvalidParameter

# include/uapi/linux/capability.h, in the order of their numbers.
ALL: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

NUMBERS: dict[str, int] = {name: number for number, name in enumerate(ALL)}

# What Docker gives a container that asks for nothing.
DEFAULT: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

EVERYTHING = "ALL"


def normalise(names: Sequence[str] | None) -> list[str]:
    """Capability names in the kernel's spelling; "ALL" stays. Raises InvalidParameter naming an unknown one."""
    normalised = []
    for name in names or ():
        upper = name.upper()
        if upper != EVERYTHING and not upper.startswith("CAP_"):
            upper = f"CAP_{upper}"
        if upper != EVERYTHING and upper not in NUMBERS:
            raise InvalidParameter(f'unknown capability: "{upper}"')
        normalised.append(upper)
    return normalised


def _check_available(name: str, available: Collection[str]) -> None:
    if name != EVERYTHING and name not in available:
        raise InvalidParameter(
            f'capability not supported by your kernel or not available in the current environment: "{name}"'
        )


def validate(add: Sequence[str] | None, drop: Sequence[str] | None, available: Collection[str] = ALL) -> None:
    """Raises InvalidParameter, in Docker's words, for a capability that is unknown or cannot be had."""
    for field, names in (("CapAdd", add), ("CapDrop", drop)):
        try:
            for name in normalise(names):
                _check_available(name, available)
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid {field}: {error}") from None


def resolve(
    add: Sequence[str] | None,
    drop: Sequence[str] | None,
    *,
    privileged: bool,
    available: Collection[str] = ALL,
) -> tuple[str, ...]:
    """The bounding set of a container. `available` are those the engine itself holds: it can hand out no others.

    Docker's precedence: adding ALL beats everything but single drops; dropping ALL leaves what is added.
    Raises InvalidParameter for a name that is unknown or not available.
    """
    everything = tuple(name for name in ALL if name in available)
    if privileged:
        return everything
    added, dropped = normalise(add), normalise(drop)
    if EVERYTHING in added:
        return tuple(name for name in everything if name not in dropped)
    for name in added:
        _check_available(name, available)
    base = () if EVERYTHING in dropped else tuple(name for name in DEFAULT if name not in dropped)
    return tuple(name for name in dict.fromkeys([*base, *added]) if name in available)
