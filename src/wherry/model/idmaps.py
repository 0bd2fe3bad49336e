"""Which users and groups of the host those of a container are (user_namespaces(7), subuid(5)). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from wherry.errors import InvalidParameter

NOBODY = 65534  # what the kernel shows for somebody who has no place (/proc/sys/fs/overflowuid)


class IdRange(Struct, frozen=True):
    """`size` IDs from `container` on are those from `host` on."""

    container: int
    host: int
    size: int


class IdMap(Struct, frozen=True):
    """The maps of users and of groups."""

    uids: tuple[IdRange, ...]
    gids: tuple[IdRange, ...]

    @property
    def root(self) -> tuple[int, int]:
        """The host's user and group that the container's root is."""
        return outside(self.uids, 0), outside(self.gids, 0)

    def to_container(self, uid: int, gid: int) -> tuple[int, int]:
        """What the container sees of an owner on the host."""
        return inside(self.uids, uid), inside(self.gids, gid)

    def to_host(self, uid: int, gid: int) -> tuple[int, int]:
        """The owner on the host. Raises InvalidParameter for one who has no place there."""
        return outside(self.uids, uid), outside(self.gids, gid)

    @property
    def size(self) -> int:
        """How many users and groups from 0 on both maps have."""
        return min(sum(part.size for part in self.uids), sum(part.size for part in self.gids))


def inside(ranges: Iterable[IdRange], host: int) -> int:
    for part in ranges:
        if part.host <= host < part.host + part.size:
            return part.container + host - part.host
    return NOBODY


def outside(ranges: Iterable[IdRange], container: int) -> int:
    """Raises InvalidParameter."""
    for part in ranges:
        if part.container <= container < part.container + part.size:
            return part.host + container - part.container
    raise InvalidParameter(f"Container ID {container} cannot be mapped to a host ID")


def kernel_text(ranges: Iterable[IdRange]) -> str:
    """The lines of /proc/PID/uid_map."""
    return "".join(f"{part.container} {part.host} {part.size}\n" for part in ranges)


def first_free(text: str, size: int, start: int = 100_000) -> int:
    """Where `size` IDs begin that no line of subuid(5) gives anybody, from `start` on."""
    taken = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[1].isdigit() and fields[2].isdigit():
            taken.append((int(fields[1]), int(fields[2])))
    for first, count in sorted(taken):
        if first < start + size and start < first + count:
            start = first + count
    return start


def parse_remap(value: str) -> tuple[str, str]:
    """User and group of "USER[:GROUP]", by name or number. Raises InvalidParameter."""
    user, separator, group = value.partition(":")
    if not user or (separator and not group) or ":" in group:
        raise InvalidParameter(f"must be default, USER or USER:GROUP, not {value!r}")
    return user, group or user


def ranges(text: str, owners: Sequence[str], *, file: str) -> tuple[IdRange, ...]:
    """All ranges that subuid(5) gives one of these owners (name and number), one after the other.

    Raises InvalidParameter naming the file and the remedy.
    """
    found: list[IdRange] = []
    start = 0
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in owners and fields[1].isdigit() and fields[2].isdigit() and int(fields[2]):
            found.append(IdRange(start, int(fields[1]), int(fields[2])))
            start += int(fields[2])
    if not found:
        raise InvalidParameter(
            f"no subordinate IDs for {owners[0]} in {file}: add a line such as {owners[0]}:100000:65536"
        )
    return tuple(found)
