"""The API's `filters` parameter: decoding and matching rules, and the choice that /containers/json makes with them.

The rules are those of the real engine (API 1.45): values of one key are alternatives, except for labels, where all must
hold; different keys must all hold; a key without values holds for everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import msgspec

from wherry.errors import InvalidParameter, SystemFailure

_LISTS = msgspec.json.Decoder(dict[str, list[str] | None] | None)
_SETS = msgspec.json.Decoder(dict[str, dict[str, bool] | None] | None)

_TRUE = {"1", "true"}
_FALSE = {"0", "false"}


@dataclass(frozen=True)
class Filters:
    """Decoded filters. `fields` keeps the order in which keys and values were given, each value once."""

    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def decode(cls, text: str | bytes | None) -> Filters:
        """From `{"status":["running"]}` or the older `{"status":{"running":true}}`; nothing, `""` or null is no filter.

        Raises InvalidParameter ("invalid filter").
        """
        if not text:
            return cls()
        decoded: Mapping[str, Iterable[str] | None] | None
        try:
            decoded = _LISTS.decode(text)
        except msgspec.DecodeError:
            try:
                decoded = _SETS.decode(text)
            except msgspec.DecodeError:
                raise InvalidParameter("invalid filter") from None
        return cls({key: tuple(dict.fromkeys(values or ())) for key, values in (decoded or {}).items()})

    def __bool__(self) -> bool:
        return bool(self.fields)

    def __contains__(self, key: str) -> bool:
        return key in self.fields

    def get(self, key: str) -> tuple[str, ...]:
        return self.fields.get(key, ())

    def validate(self, accepted: Collection[str]) -> None:
        """Raises InvalidParameter naming the first key that is not accepted ("invalid filter 'nonsense'")."""
        for key in self.fields:
            if key not in accepted:
                raise InvalidParameter(f"invalid filter '{key}'" if key else "invalid filter")

    def boolean(self, key: str, default: bool) -> bool:
        """Whether 1 or true is among the values, or else 0 or false; `default` without the key.

        Raises InvalidParameter where neither is, or both are.
        """
        if key not in self.fields:
            return default
        values = set(self.get(key))
        true, false = bool(values & _TRUE), bool(values & _FALSE)
        if true is not false:
            return true
        shown = f"{key}=[{' '.join(self.get(key))}]" if values else key
        raise InvalidParameter(f"invalid filter '{shown}'")

    def exact(self, key: str, value: str) -> bool:
        values = self.get(key)
        return not values or value in values

    def prefix(self, key: str, value: str) -> bool:
        values = self.get(key)
        return not values or value.startswith(values)

    def pattern(self, key: str, value: str) -> bool:
        """Equal to, or found by, one of the key's regular expressions. A broken expression finds nothing."""
        values = self.get(key)
        return not values or value in values or any(_found(expression, value) for expression in values)

    def labels(self, key: str, labels: Mapping[str, str]) -> bool:
        """Every `name` is there and every `name=value` is there with that value."""
        return all(_label_holds(wanted, labels) for wanted in self.get(key))


def _found(expression: str, value: str) -> bool:
    try:
        return re.search(expression, value) is not None
    except re.error:
        return False


def _label_holds(wanted: str, labels: Mapping[str, str]) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


# --- /containers/json ---

CONTAINER_FILTERS = frozenset(
    "ancestor before exited expose health id is-task isolation label name network publish since status volume".split()
)
_STATUSES = frozenset("created dead exited paused removing restarting running".split())
_HEALTHS = frozenset("none starting healthy unhealthy".split())


class ContainerView(Protocol):
    """What the filters look at. Only `id`, `status` and `created_at` are read where no filter asks for more."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str:
        """Without the slash."""

    @property
    def created_at(self) -> int:
        """Nanoseconds since the epoch."""

    @property
    def status(self) -> str:
        """Docker's `State.Status`."""

    @property
    def running(self) -> bool:
        """Has a process: also while paused or restarting, as in Docker's `State.Running`."""

    @property
    def exit_code(self) -> int: ...
    @property
    def started(self) -> bool:
        """Was started at least once."""

    @property
    def health(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def image_id(self) -> str: ...
    @property
    def volumes(self) -> Collection[str]:
        """Names of volumes and destinations of all mounts."""

    @property
    def networks(self) -> Mapping[str, str]:
        """Network ID by name."""

    @property
    def exposed(self) -> Collection[str]:
        """Container ports as `80/tcp`."""

    @property
    def published(self) -> Collection[str]:
        """Host ports as `8080/tcp`."""


View = TypeVar("View", bound=ContainerView)


@dataclass(frozen=True)
class ContainerQuery:
    """One question to /containers/json, checked and resolved."""

    filters: Filters
    all: bool
    limit: int
    exit_codes: frozenset[int] = frozenset()
    before: str = ""
    since: str = ""
    ancestors: frozenset[str] | None = None
    publish: frozenset[str] = frozenset()
    expose: frozenset[str] = frozenset()
    tasks: bool = False

    @classmethod
    def make(
        cls,
        filters: Filters,
        *,
        all: bool,
        limit: int,
        container_id: Callable[[str], str],
        image_ids: Callable[[str], Collection[str]],
    ) -> ContainerQuery:
        """Check the filters' keys and values and resolve the names in them.

        `container_id` gives the full ID of a reference or raises NotFound; `image_ids` gives the image's ID and those
        of the images made from it, nothing for an unknown one. Raises InvalidParameter, SystemFailure (broken ports,
        which the real engine answers with 500) and NotFound.
        """
        if not filters:
            return cls(filters, all, limit)
        filters.validate(CONTAINER_FILTERS)
        exit_codes = frozenset(_exit_code(value) for value in filters.get("exited"))
        for value in filters.get("status"):
            if value not in _STATUSES:
                raise InvalidParameter(f"invalid filter 'status={value}'")
        tasks = filters.boolean("is-task", False)
        for value in filters.get("health"):
            if value not in _HEALTHS:
                raise InvalidParameter(f"unrecognized filter value for health: {value}")
        before = [container_id(value) for value in filters.get("before")]
        since = [container_id(value) for value in filters.get("since")]
        ancestors = None
        if "ancestor" in filters:
            ancestors = frozenset(found for value in filters.get("ancestor") for found in image_ids(value))
        return cls(
            filters=filters,
            all=all or bool(filters.get("status")),
            limit=limit,
            exit_codes=exit_codes,
            before=before[-1] if before else "",
            since=since[-1] if since else "",
            ancestors=ancestors,
            publish=_ports("publish", filters),
            expose=_ports("expose", filters),
            tasks=tasks,
        )

    def select(self, views: Iterable[View]) -> list[View]:
        """The containers to show, newest first. A limit counts what the other filters leave, running or not."""
        chosen: list[View] = []
        waiting_for_before = bool(self.before)
        for view in sorted(views, key=lambda view: view.created_at, reverse=True):
            if waiting_for_before:
                waiting_for_before = view.id != self.before
                continue
            if view.id == self.since or (self.limit > 0 and len(chosen) == self.limit):
                break
            if (self.all or self.limit > 0 or view.running) and (not self.filters or self._holds(view)):
                chosen.append(view)
        return chosen

    def _holds(self, view: ContainerView) -> bool:
        filters = self.filters
        return (
            not self.tasks
            and (filters.pattern("name", view.name) or filters.pattern("name", f"/{view.name}"))
            and filters.pattern("id", view.id)
            and filters.labels("label", view.labels)
            and (not self.exit_codes or (view.exit_code in self.exit_codes and not view.running and view.started))
            and filters.exact("status", view.status)
            and filters.exact("health", view.health)
            and (not filters.get("volume") or not set(view.volumes).isdisjoint(filters.get("volume")))
            and (self.ancestors is None or view.image_id in self.ancestors)
            and (not filters.get("network") or _in_network(filters.get("network"), view.networks))
            and self._port_holds(view)
        )

    def _port_holds(self, view: ContainerView) -> bool:
        if not self.publish and not self.expose:
            return True
        return not (self.publish.isdisjoint(view.published) and self.expose.isdisjoint(view.exposed))


def _exit_code(text: str) -> int:
    if re.fullmatch(r"[+-]?\d+", text, re.ASCII) is None:
        raise InvalidParameter(f"invalid filter 'exited={text}': strconv.Atoi: parsing \"{text}\": invalid syntax")
    return int(text)


def _in_network(wanted: Sequence[str], networks: Mapping[str, str]) -> bool:
    """By name, or by a prefix of the ID."""
    return any(value in networks or any(id.startswith(value) for id in networks.values() if id) for value in wanted)


def _ports(key: str, filters: Filters) -> frozenset[str]:
    return frozenset(port for value in filters.get(key) for port in _port_range(key, value))


def _port_range(key: str, value: str) -> Iterable[str]:
    """`80`, `80/udp` or `80-90/tcp`, written out. Raises SystemFailure in Docker's words."""
    if ":" in value:
        raise SystemFailure(f"filter for '{key}' should not contain ':': {value}")
    ports, _, protocol = value.partition("/")
    if not ports:
        raise SystemFailure(f"error while looking up for {key} {value}: Empty string specified for ports.")
    first, dash, last = ports.partition("-")
    try:
        start = _port(first)
        end = _port(last) if dash else start
        if end < start:
            raise ValueError(f"Invalid range specified for the Port: {ports}")
    except ValueError as error:
        raise SystemFailure(f"error while looking up for {key} {value}: {error}") from None
    return (f"{port}/{protocol or 'tcp'}" for port in range(start, end + 1))


def _port(text: str) -> int:
    if re.fullmatch(r"\d+", text, re.ASCII) is None:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if len(text) > 9 or int(text) > 65535:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)
