"""What the database keeps of networks, in memory for reading."""

from __future__ import annotations

import builtins
import secrets
import time
from collections.abc import Callable, Iterator

import msgspec

from wherry.errors import SystemFailure
from wherry.model.filters import Filters
from wherry.model.networks import Forwarding, Network, Networked
from wherry.model.timestamps import parse_when
from wherry.storage.database import Database

_FILTERS = frozenset("dangling driver id label name scope type".split())


_PRUNE_FILTERS = frozenset({"label", "label!", "until"})


def prune_selection(filters: Filters) -> Callable[[Network], bool]:
    """A predicate on unused networks. Raises InvalidParameter for filters that prune does not know."""
    filters.validate(_PRUNE_FILTERS)
    moments = [parse_when(value) for value in filters.get("until")]

    def selected(network: Network) -> bool:
        if any(network.created_at >= moment for moment in moments):
            return False
        if "label!" in filters and filters.labels("label!", network.labels):
            return False
        return filters.labels("label", network.labels)

    return selected


class Records:
    """The one place that adds, changes and removes records of networks.

    One that is hidden (being made or removed) is found by nobody; the next start finishes or undoes it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_name: dict[str, Network] = {}
        self.find = Networked(self._by_name)

    def load(self) -> list[Network]:
        """Read all, make those that every engine has; gives the hidden ones."""
        hidden = []
        for (record,) in self._database.connection.execute("SELECT record FROM networks").fetchall():
            network = msgspec.json.decode(record, type=Network)
            if network.hidden:
                hidden.append(network)
            else:
                self._by_name[network.name] = network
        for name, driver in (("bridge", "bridge"), ("host", "host"), ("none", "null")):
            if name not in self._by_name:
                self.show(Network(id=secrets.token_hex(32), name=name, driver=driver, created_at=time.time_ns()))
        return hidden

    @property
    def default(self) -> Network:
        return self._by_name["bridge"]

    def __iter__(self) -> Iterator[Network]:
        return iter(list(self._by_name.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def keep(self, network: Network) -> None:
        """Write a record that nobody finds yet, or any more; its name is free."""
        if self._by_name.get(network.name) is network:
            del self._by_name[network.name]
        self._write(network, f"#{network.id}")

    def show(self, network: Network) -> None:
        """Write a record and let it be found."""
        self._by_name[network.name] = network
        self._write(network, network.name)

    def forget(self, network: Network) -> None:
        with self._database.transaction() as writing:
            writing.execute("DELETE FROM networks WHERE id = ?", (network.id,))

    def _write(self, network: Network, name: str) -> None:
        with self._database.transaction() as writing:
            writing.execute(
                "INSERT INTO networks (id, name, record) VALUES (?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record",
                (network.id, name, msgspec.json.encode(network)),
            )

    def list(self, filters: Filters, in_use: Callable[[Network], bool]) -> builtins.list[Network]:
        """The networks that the filters leave. Raises InvalidParameter, SystemFailure."""
        filters.validate(_FILTERS)
        dangling = filters.boolean("dangling", False)
        for kind in filters.get("type"):
            if kind not in ("builtin", "custom"):
                raise SystemFailure(f"invalid filter: 'type'='{kind}'")
        return [
            network
            for network in self
            if filters.pattern("name", network.name)
            and filters.pattern("id", network.id)
            and filters.exact("driver", network.driver)
            and filters.exact("scope", network.scope)
            and filters.labels("label", network.labels)
            and ("dangling" not in filters or dangling != (network.predefined or in_use(network)))
            and ("type" not in filters or ("builtin" if network.predefined else "custom") in filters.get("type"))
        ]

    def forwarding(self, boot_id: str, on: bool, bridges: builtins.list[str]) -> Forwarding | None:
        """That forwarding is on because of us, in this boot; recorded before it is turned on. None: it was on."""
        connection = self._database.connection
        found = connection.execute("SELECT record FROM forwarding WHERE boot_id = ?", (boot_id,)).fetchone()
        if found:
            return msgspec.json.decode(found[0], type=Forwarding)
        if on:
            return None
        record = Forwarding(boot_id=boot_id, bridges=bridges)
        with self._database.transaction() as writing:
            writing.execute("DELETE FROM forwarding")
            writing.execute(
                "INSERT INTO forwarding (boot_id, record) VALUES (?, ?)", (boot_id, msgspec.json.encode(record))
            )
        return record
