"""Events of containers, as Docker words them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

from wherry.engine.containers.needs import EventSink
from wherry.model.container import Container
from wherry.model.events import Event


class Announcer(Protocol):
    def __call__(self, container: Container, action: str, /, **attributes: str) -> None: ...


def announcer(events: EventSink) -> Announcer:
    """A function that emits an event of a container: its labels, image and name, and what else is given.

    Before a start and an end it tells of the volumes that were mounted and unmounted for it.
    """

    def announce(container: Container, action: str, /, **attributes: str) -> None:
        for event in _volume_events(container, action):
            events.emit(event)
        every = dict(container.config.labels or {})
        every |= {"image": container.image_ref, "name": container.name, **attributes}
        events.emit(Event(time_ns=time.time_ns(), type="container", action=action, id=container.id, attributes=every))

    return announce


def _volume_events(container: Container, action: str) -> Iterator[Event]:
    for mount in container.mounts:
        if mount.type != "volume" or action not in ("start", "die"):
            continue
        attributes = {"container": container.id, "driver": mount.driver}
        if action == "start":
            attributes |= {
                "destination": mount.destination,
                "propagation": mount.propagation,
                "read/write": str(mount.read_write).lower(),
            }
        what = "mount" if action == "start" else "unmount"
        yield Event(time_ns=time.time_ns(), type="volume", action=what, id=mount.name, attributes=attributes)
