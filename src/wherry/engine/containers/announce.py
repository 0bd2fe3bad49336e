"""Events of containers, as Docker words them."""

from __future__ import annotations

import time
from typing import Protocol

from wherry.engine.containers.needs import EventSink
from wherry.model.container import Container
from wherry.model.events import Event


class Announcer(Protocol):
    def __call__(self, container: Container, action: str, /, **attributes: str) -> None: ...


def announcer(events: EventSink) -> Announcer:
    """A function that emits an event of a container: its labels, image and name, and what else is given."""

    def announce(container: Container, action: str, /, **attributes: str) -> None:
        every = dict(container.config.labels or {})
        every |= {"image": container.image_ref, "name": container.name, **attributes}
        events.emit(Event(time_ns=time.time_ns(), type="container", action=action, id=container.id, attributes=every))

    return announce
