"""Events of networks, as Docker words them."""

from __future__ import annotations

import time
from typing import Protocol

from wherry.model.events import Event
from wherry.model.networks import Network


class Announce(Protocol):
    def __call__(self, network: Network, action: str, /, **attributes: str) -> None: ...


class Emit(Protocol):
    def __call__(self, event: Event, /) -> None: ...


def announcer(emit: Emit) -> Announce:
    def announce(network: Network, action: str, /, **attributes: str) -> None:
        told = {**attributes, "name": network.name, "type": network.driver}
        emit(Event(time_ns=time.time_ns(), type="network", action=action, id=network.id, attributes=told))

    return announce
