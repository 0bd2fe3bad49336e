"""What is told of a build while it runs: one message a happening, for whoever shows it.

Times are nanoseconds since the epoch. A vertex is named by its digest. Streams are 1 and 2, as a process has them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from msgspec import Struct

from wherry.errors import WherryError
from wherry.model.build_graph import Vertex


class Planned(Struct, frozen=True, tag="planned", omit_defaults=True):
    """A vertex that the target needs, before anything runs."""

    vertex: str
    name: str
    inputs: tuple[str, ...] = ()


class Started(Struct, frozen=True, tag="started", omit_defaults=True):
    vertex: str
    time: int


class Written(Struct, frozen=True, tag="written", omit_defaults=True):
    """A piece of a process's output."""

    vertex: str
    stream: int
    data: bytes


class Moved(Struct, frozen=True, tag="moved", omit_defaults=True):
    """How far a transfer is, `total` 0 where that is not known; `id` tells several of one vertex apart."""

    vertex: str
    id: str
    current: int
    total: int = 0


class Pulled(Struct, frozen=True, tag="pulled", omit_defaults=True):
    """How the pull of an image goes on: a message as pulls give them to Docker's clients."""

    reference: str
    message: dict[str, Any]


class Ended(Struct, frozen=True, tag="ended", omit_defaults=True):
    """A vertex has its tree, or has none because of `error`. One that is `cached` did not start."""

    vertex: str
    time: int
    cached: bool = False
    error: str = ""


class Warned(Struct, frozen=True, tag="warned", omit_defaults=True):
    text: str


Message = Planned | Started | Written | Moved | Pulled | Ended | Warned


class Listener(Protocol):
    """Who is told. `room` returns when it has caught up so far that more may be told."""

    def tell(self, message: Message, /) -> None: ...
    async def room(self) -> None: ...


class Progress:
    """Hands messages to a listener. One vertex starts and ends once."""

    def __init__(self, listener: Listener) -> None:
        self.tell = listener.tell
        self.room = listener.room
        self._started: set[str] = set()
        self._ended: set[str] = set()

    def planned(self, vertex: Vertex) -> None:
        self.tell(Planned(vertex.digest, vertex.name, tuple(other.digest for other in vertex.inputs)))

    def started(self, vertex: Vertex) -> None:
        if vertex.digest not in self._started:
            self._started.add(vertex.digest)
            self.tell(Started(vertex.digest, time.time_ns()))

    def ended(self, vertex: Vertex, *, cached: bool = False, error: str = "") -> None:
        if vertex.digest not in self._ended:
            self._ended.add(vertex.digest)
            self.tell(Ended(vertex.digest, time.time_ns(), cached, error))

    @contextmanager
    def activity(self, name: str) -> Iterator[Activity]:
        """Something that a build does and that is no vertex, shown as one: a push, a cache on its way."""
        activity = Activity(self, name)
        self.tell(Planned(name, name))
        self.tell(Started(name, time.time_ns()))
        try:
            yield activity
        except WherryError as error:
            self.tell(Ended(name, time.time_ns(), error=str(error)))
            raise
        self.tell(Ended(name, time.time_ns()))


class Activity:
    """See `Progress.activity`."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._tell = progress.tell
        self._name = name

    def say(self, text: str) -> None:
        """A line of it."""
        self._tell(Written(self._name, 1, f"{text}\n".encode()))

    def transfer(self, message: dict[str, Any]) -> None:
        """A message of a pull or push, as Docker's clients get it."""
        id = str(message.get("id", ""))
        if detail := message.get("progressDetail"):
            self._tell(Moved(self._name, id, detail["current"], detail["total"]))
        elif status := message.get("status"):
            self.say(f"{id}: {status}" if id else str(status))
