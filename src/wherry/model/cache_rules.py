"""Which results of builds are removed, when asked for and by themselves: filters, space, and the rules of `builder.gc`.

Source: dockerd reference, "builder"; manual, "Build garbage collection"; the filters of `POST /build/prune`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct, field, structs

from wherry.errors import InvalidParameter
from wherry.model.filters import Filters
from wherry.model.sizes import ram_in_bytes
from wherry.model.timestamps import parse_when

FILTERS = frozenset(
    ("until", "id", "parent", "type", "description", "inuse", "shared", "private", "label", "label!", "unused-for")
)
SENT = "source.local"
KINDS = frozenset(("regular", "exec.cachemount", "internal", "frontend", "source.git.checkout", SENT))
_FLAGS = ("inuse", "shared", "private")
_UNTIL = ("until", "unused-for")


class Described(Protocol):
    """A result, as filters see it. `shared`: an image or container needs its layer too."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def in_use(self) -> bool: ...
    @property
    def shared(self) -> bool: ...
    @property
    def parents(self) -> tuple[str, ...]: ...


class Wanted(Struct, frozen=True):
    """What is to go, all of it holding; "" or None asks nothing. `until` is a moment or a time before now."""

    id: str = ""
    kinds: tuple[str, ...] = ()
    description: str = ""
    parent: str = ""
    label: bool = False
    flags: Mapping[str, bool] = field(default_factory=dict)
    until: str = ""

    def matches(self, found: Described) -> bool:
        """Nothing here has a label, so that none is chosen by having one."""
        facts = {"inuse": found.in_use, "shared": found.shared, "private": not found.shared}
        return (
            not self.label
            and (not self.id or re.search(self.id, found.id) is not None)
            and (not self.kinds or found.kind in self.kinds)
            and (not self.description or self.description == found.description)
            and (not self.parent or self.parent in found.parents)
            and all(facts[name] == value for name, value in self.flags.items())
        )

    @property
    def before_ns(self) -> int:
        """Only what was last used before; 0 for all."""
        return parse_when(self.until) if self.until else 0


def wanted(filters: Filters) -> Wanted:
    """Raises InvalidParameter in Docker's words."""
    filters.validate(FILTERS)
    if all(filters.get(name) for name in _UNTIL):
        raise InvalidParameter('conflicting filters: "until" and "unused-for"')
    if any(len(filters.get(name)) > 1 for name in FILTERS - {"label", "label!"}):
        raise InvalidParameter("filters expect only one value")
    values = {name: next(iter(filters.get(name)), "") for name in FILTERS}
    for name in _UNTIL:
        if values[name]:
            _check_moment(name, values[name])
    try:
        re.compile(values["id"])
    except re.error:
        raise InvalidParameter(f"invalid filter: id={values['id']}") from None
    return Wanted(
        values["id"],
        (values["type"],) if values["type"] else (),
        values["description"],
        values["parent"],
        bool(filters.get("label")),
        {name: filters.boolean(name, False) for name in _FLAGS if values[name]},
        values["until"] or values["unused-for"],
    )


def _check_moment(name: str, text: str) -> None:
    try:
        parse_when(text)
    except InvalidParameter as error:
        raise InvalidParameter(f"\"{name}\" filter expects a duration (e.g., '24h') or a timestamp: {error}") from None


class Space(Struct, frozen=True):
    """Bytes; 0 for no such bound. `reserved` may stay in any case, `max_used` is the most that may, `min_free` is what
    the disk should have free."""

    reserved: int = 0
    max_used: int = 0
    min_free: int = 0

    def kept(self, used: int, free: int) -> int:
        """How much of what is used may stay."""
        bounds = [self.max_used] if self.max_used else []
        if free < self.min_free:
            bounds.append(used - (self.min_free - free))
        elif self.min_free and not bounds:
            bounds.append(used)
        return max(min(bounds, default=0), self.reserved)


class Rule(Struct, frozen=True):
    """`all`: what images need too."""

    wanted: Wanted = field(default_factory=Wanted)
    space: Space = field(default_factory=Space)
    all: bool = False


class CacheRules(Struct, frozen=True):
    """What is done after each build. Without a `policy` one rule with `space`, which a disk's size completes."""

    enabled: bool = True
    space: Space = field(default_factory=Space)
    policy: tuple[Rule, ...] = ()

    def completed(self, disk: int) -> tuple[Rule, ...]:
        """All with their space: where none is said a tenth of the disk, of so many bytes, and at least 2 GB."""
        if not self.enabled:
            return ()
        usual = Space(reserved=max(2 * 10**9, disk // 10))
        space = self.space if self.space != Space() else usual
        if not self.policy:
            return (Rule(space=space),)
        return tuple(
            Rule(rule.wanted, rule.space if rule.space != Space() else space, rule.all) for rule in self.policy
        )


# the configuration


def read(value: Any) -> CacheRules:
    """The key `builder` of the daemon's file. Raises InvalidParameter."""
    given = _object(value, "builder", {"gc": _collection, "entitlements": _entitlements})
    found: CacheRules = given.get("gc", CacheRules())
    return found


def _collection(value: Any) -> CacheRules:
    sizes = {"defaultKeepStorage", "defaultReservedSpace", "defaultMaxUsedSpace", "defaultMinFreeSpace"}
    given = _object(value, "gc", {"enabled": _flag, "policy": _policy, **dict.fromkeys(sizes, _size)})
    space = _space(given, "defaultKeepStorage", "defaultReservedSpace", "defaultMaxUsedSpace", "defaultMinFreeSpace")
    return CacheRules(given.get("enabled", True), space, given.get("policy", ()))


def _policy(value: Any) -> tuple[Rule, ...]:
    if not isinstance(value, list):
        raise InvalidParameter(f"policy must be a list of rules, not {value!r}")
    return tuple(map(_rule, value))


def _rule(value: Any) -> Rule:
    sizes = {"keepStorage", "reservedSpace", "maxUsedSpace", "minFreeSpace"}
    readers = {"all": _flag, "filter": _filter, "keepDuration": _text, **dict.fromkeys(sizes, _size)}
    given = _object(value, "policy", readers)
    found: Wanted = given.get("filter", Wanted())
    if duration := given.get("keepDuration"):
        if found.until:
            raise InvalidParameter('conflicting filters: "unused-for" and keepDuration')
        _check_moment("keepDuration", duration)
        found = structs.replace(found, until=duration)
    space = _space(given, "keepStorage", "reservedSpace", "maxUsedSpace", "minFreeSpace")
    return Rule(found, space, given.get("all", False))


def _space(given: Mapping[str, Any], older: str, reserved: str, max_used: str, min_free: str) -> Space:
    if older in given and reserved in given:
        raise InvalidParameter(f"{older} is the older name of {reserved}: give one of them")
    return Space(given.get(reserved, given.get(older, 0)), given.get(max_used, 0), given.get(min_free, 0))


def _filter(value: Any) -> Wanted:
    """`["type=a", "unused-for=48h"]`; the alternatives of a type may stand behind one another: `type=a,type=b`."""
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise InvalidParameter(f"filter must be a list such as ['unused-for=48h'], not {value!r}")
    fields: dict[str, tuple[str, ...]] = {}
    kinds: list[str] = []
    for entry in value:
        name, equals, text = entry.partition("=")
        name, text = name.strip().lower(), text.strip()
        if not equals or not text:
            raise InvalidParameter(f"invalid filter {entry!r}: it is NAME=VALUE")
        if name == "type":
            kinds += [kind.strip().removeprefix("type=").lstrip("=") for kind in text.split(",")]
        else:
            fields[name] = (*fields.get(name, ()), text)
    if unknown := set(kinds) - KINDS:
        raise InvalidParameter(f"unknown type {min(unknown)!r} in a filter: known are {', '.join(sorted(KINDS))}")
    return structs.replace(wanted(Filters(fields)), kinds=tuple(kinds))


def _entitlements(value: Any) -> None:
    given = _object(value, "entitlements", {"network-host": _flag, "security-insecure": _flag})
    if given.get("security-insecure"):
        raise InvalidParameter("security-insecure is not supported: builds are not given more than containers")
    if not given.get("network-host", True):
        raise InvalidParameter("network-host cannot be turned off: a build has it only if its client allows it")


def _object(value: Any, name: str, readers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidParameter(f"{name} must be an object, not {value!r}")
    if unknown := sorted(set(value) - set(readers)):
        raise InvalidParameter(f"{name} has no option {', '.join(unknown)}: there are {', '.join(sorted(readers))}")
    return {key: readers[key](entry) for key, entry in value.items()}


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidParameter(f"must be true or false, not {value!r}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidParameter(f"must be a string, not {value!r}")
    return value


def _size(value: Any) -> int:
    """As `docker run --memory` reads sizes: k is 1024."""
    try:
        return ram_in_bytes(_text(value))
    except ValueError as error:
        raise InvalidParameter(str(error)) from None
