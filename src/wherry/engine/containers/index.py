"""The records of all containers: in memory for reading, in the database for keeping, found by name, ID or prefix."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from wherry.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from wherry.model.container import Container
from wherry.model.ids import NAME, NAME_RULE, random_name
from wherry.storage.database import Database

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Container).decode


class Index:
    """The one place that adds, changes and removes container records.

    A record that is hidden (being made or removed) is kept in the database for the next start to finish or undo, but is
    found by nobody; its name is free, unless it is `promised`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, str] = {}
        self._promised: dict[str, str] = {}  # names of containers that are being made
        self._making: dict[str, Container] = {}  # and they themselves, by ID
        self._sorted: list[str] = []
        self._parents: dict[str, set[str]] = {}  # by ID: those with a link to it

    def load(self) -> list[Container]:
        """Read every record; the caller shows those that are whole."""
        rows = self._database.connection.execute("SELECT record FROM containers").fetchall()
        return [_decode(row[0]) for row in rows]

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    @property
    def users(self) -> list[Container]:
        """Whose images and volumes are in use: every container, and those that are being made."""
        return list({**self._making, **self._by_id}.values())

    @property
    def making(self) -> list[Container]:
        """Those that are being made and have perhaps no snapshot yet."""
        return list(self._making.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, reference: str) -> Container:
        """By whole ID, name, link ("PARENT/ALIAS"), or unique prefix of an ID, in this order.

        Raises NotFound, InvalidParameter.
        """
        if not reference:
            raise InvalidParameter("No container name or ID supplied")
        found = self._by_id.get(reference)
        if found is None and (named := self._by_name.get(reference.removeprefix("/"))) is not None:
            found = self._by_id[named]
        if found is None and "/" in reference.strip("/"):
            found = self._by_link(reference)
        return found if found is not None else self._by_prefix(reference)

    def _by_link(self, reference: str) -> Container | None:
        parent, alias = self.link(reference)
        if parent is None or alias not in parent.links:
            return None
        return self._by_id.get(parent.links[alias].id)

    def link(self, reference: str) -> tuple[Container | None, str]:
        """The container that has a link "PARENT/ALIAS", if that exists, and the alias."""
        name, _, alias = reference.removeprefix("/").partition("/")
        parent = self._by_id.get(self._by_name.get(name, ""))
        return parent, alias

    def names_of_links(self) -> dict[str, list[str]]:
        """By ID, what other containers' links call a container: "/PARENT/ALIAS", in order."""
        return {
            container_id: sorted(
                f"/{parent.name}/{alias}"
                for parent in self.linked_to(container_id)
                for alias, link in parent.links.items()
                if link.id == container_id
            )
            for container_id in self._parents
        }

    def linked_to(self, container_id: str) -> list[Container]:
        """The containers that have a link to this one, or had one."""
        parents = sorted(self._parents.get(container_id, ()))
        return [self._by_id[parent] for parent in parents if parent in self._by_id]

    def _by_prefix(self, reference: str) -> Container:
        at = bisect.bisect_left(self._sorted, reference)
        matches = [candidate for candidate in self._sorted[at : at + 2] if candidate.startswith(reference)]
        if len(matches) > 1:
            raise InvalidParameter(f"multiple IDs found with provided prefix: {reference}")
        if not matches:
            raise NotFound(f"No such container: {reference}")
        return self._by_id[matches[0]]

    def seek(self, reference: str) -> Container | None:
        """As `find`, but None if there is none."""
        try:
            return self.find(reference)
        except NotFound:
            return None

    def get(self, container_id: str) -> Container | None:
        """By whole ID only."""
        return self._by_id.get(container_id)

    def choose_name(self, wanted: str) -> str:
        """The name as asked for, or a fresh one. Raises InvalidParameter, Conflict."""
        if wanted:
            name = wanted.removeprefix("/")
            if not NAME.fullmatch(name):
                raise InvalidParameter(f"Invalid container name ({wanted}), only {NAME_RULE} are allowed")
            self.check_free(name)
            return name
        while self._holder(name := random_name()) is not None:
            pass
        return name

    @contextmanager
    def promised(self, container: Container) -> Iterator[None]:
        """Meanwhile nobody takes the name of a container that is being made, nor removes what it uses.

        Raises Conflict.
        """
        self.check_free(container.name)
        self._promised[container.name] = container.id
        self._making[container.id] = container
        try:
            yield
        finally:
            del self._promised[container.name]
            self._making.pop(container.id, None)

    def given_up(self, container: Container) -> None:
        """It will not be made: what it uses may be removed. Its name is promised until all of it is undone."""
        self._making.pop(container.id, None)

    def _holder(self, name: str) -> str | None:
        return self._by_name.get(name) or self._promised.get(name)

    def is_free(self, name: str, container: Container) -> bool:
        """Whether a name is nobody's or this container's."""
        return self._holder(name) in (None, container.id)

    def check_free(self, name: str) -> None:
        """Raises Conflict."""
        if (holder := self._holder(name)) is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )

    def keep(self, container: Container) -> None:
        """Write a record that nobody finds yet."""
        self._write(container, f"#{container.id}")

    def show(self, container: Container) -> None:
        """Write a record and let it be found."""
        self._write(container, container.name)
        self.adopt(container)

    def adopt(self, container: Container) -> None:
        """Let a record that the database already has be found."""
        if container.id not in self._by_id:
            bisect.insort(self._sorted, container.id)
        self._by_id[container.id] = container
        self._by_name[container.name] = container.id
        for link in container.links.values():
            self._parents.setdefault(link.id, set()).add(container.id)

    def save(self, container: Container) -> None:
        """Write a changed record."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE containers SET record = ? WHERE id = ?", (_encode(container), container.id))

    def note(self, container: Container) -> None:
        """Write what has happened already, whether or not it can be written: a full disk changes no fact.

        The next daemon finds the facts by itself.
        """
        try:
            self.save(container)
        except SystemFailure as error:
            log.error("container %s: %s", container.id, error)

    def rename(self, container: Container, name: str) -> None:
        self.check_free(name)
        old, container.name = container.name, name
        try:
            self._write(container, name)
        except SystemFailure:
            container.name = old
            raise
        del self._by_name[old]
        self._by_name[name] = container.id

    def hide(self, container: Container) -> None:
        """Let a record be found no more and free its name; it stays in the database until `forget`.

        On a full disk too: removing is what makes room.
        """
        try:
            self._write(container, f"#{container.id}")
        except SystemFailure as error:
            log.error("removal of container %s: %s", container.id, error)
        if self._by_id.pop(container.id, None) is not None:
            del self._sorted[bisect.bisect_left(self._sorted, container.id)]
            del self._by_name[container.name]
            for link in container.links.values():
                self._parents.get(link.id, set()).discard(container.id)
            if not self._parents.get(container.id, True):
                del self._parents[container.id]

    def forget(self, container: Container) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM containers WHERE id = ?", (container.id,))

    def _write(self, container: Container, name: str) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO containers (id, name, record) VALUES (?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record",
                (container.id, name, _encode(container)),
            )
