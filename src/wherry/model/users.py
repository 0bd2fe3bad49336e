"""Who a container's process is: user and groups by name or number, looked up in the image's own files.

The rules are those that Docker and runc share: the first matching line wins, a number needs no line, membership counts
only when the group is not named. The files come from an image and are not trusted: a malformed line is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from wherry.errors import SystemFailure

MAX_ID = 2**31 - 1


@dataclass(frozen=True)
class User:
    """A line of passwd(5)."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str = ""


@dataclass(frozen=True)
class Group:
    """A line of group(5)."""

    name: str
    gid: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResolvedUser:
    """What a process runs as. `groups` are the supplementary ones, the primary first, as Docker sets them."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str = "/"
    name: str = ""


_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}\Z", re.ASCII)


def _number(text: str) -> int | None:
    return int(text) if _DECIMAL.match(text) else None


def _identity(text: str) -> int | None:
    number = _number(text)
    return number if number is not None and 0 <= number <= MAX_ID else None


def _lines(text: str, fields: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) >= fields:
            yield parts


def parse_passwd(text: str) -> Iterator[User]:
    """The lines of passwd(5) that are well formed."""
    for parts in _lines(text, 4):
        uid, gid = _identity(parts[2]), _identity(parts[3])
        if uid is not None and gid is not None:
            rest = [*parts[4:7], "", "", ""]
            yield User(parts[0], uid, gid, rest[1], rest[2])


def parse_group(text: str) -> Iterator[Group]:
    """The lines of group(5) that are well formed."""
    for parts in _lines(text, 3):
        gid = _identity(parts[2])
        if gid is not None:
            members = parts[3].split(",") if len(parts) > 3 and parts[3] else []
            yield Group(parts[0], gid, tuple(members))


def _in_range(number: int) -> int:
    if not 0 <= number <= MAX_ID:
        raise SystemFailure(f"uids and gids must be in range 0-{MAX_ID}")
    return number


def _first_group(groups: Iterable[Group], matches: Callable[[Group], bool]) -> Group | None:
    return next(filter(matches, groups), None)


def _named_group(spec: str, groups: Sequence[Group]) -> int:
    number = _number(spec)
    found = _first_group(groups, lambda g: g.gid == number if number is not None else g.name == spec)
    if found:
        return found.gid
    if number is None:
        raise SystemFailure(f"unable to find group {spec}: no matching entries in group file")
    return _in_range(number)


def _added_group(spec: str, groups: Sequence[Group]) -> int:
    found = _first_group(groups, lambda g: g.name == spec or str(g.gid) == spec)
    if found:
        return found.gid
    number = _number(spec)
    if number is None:
        raise SystemFailure(f"Unable to find group {spec}: no matching entries in group file")
    return _in_range(number)


def resolve(user: str, group_add: Sequence[str] | None, passwd: str, group: str) -> ResolvedUser:
    """Resolve `--user` ("", "u", "u:g", "1000:2000") and `--group-add` by the texts of passwd(5) and group(5).

    Raises SystemFailure in Docker's words, as Docker does when the container starts.
    """
    name, _, rest = user.partition(":")
    group_name = rest.partition(":")[0]
    number = _number(name) if name else 0
    groups = list(parse_group(group))

    found = next((u for u in parse_passwd(passwd) if (u.uid == number if number is not None else u.name == name)), None)
    if found:
        uid, gid, home, found_name = found.uid, found.gid, found.home, found.name
    elif number is None:
        raise SystemFailure(f"unable to find user {name}: no matching entries in passwd file")
    else:
        uid, gid, home, found_name = _in_range(number), 0, "/", ""

    member_of: list[int] = []
    if group_name:
        gid = _named_group(group_name, groups)
    elif found_name:
        member_of = [g.gid for g in groups if found_name in g.members]
    added = [_added_group(spec, groups) for spec in group_add or ()]
    supplementary = tuple(dict.fromkeys([gid, *member_of, *added]))
    return ResolvedUser(uid, gid, supplementary, home or "/", found_name)
