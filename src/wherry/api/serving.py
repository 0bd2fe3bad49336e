"""The whole API over one engine, served on sockets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from wherry.api import (
    build_cache,
    build_session,
    builds,
    containers,
    disk_usage,
    events,
    execs,
    files,
    images,
    networks,
    registries,
    resources,
    system,
    unsupported,
    volumes,
)
from wherry.api.app import App, Route
from wherry.api.server import Listener
from wherry.engine.engine import Engine
from wherry.engine.images.service import Images
from wherry.engine.registries import Registries
from wherry.errors import WherryError


class ImageNames:
    """What the list of containers asks of the images."""

    def __init__(self, service: Images) -> None:
        self._images = service

    def id_of(self, ref: str) -> str | None:
        try:
            return self._images.resolve(ref).id
        except WherryError:
            return None

    def descendants(self, ref: str) -> Collection[str]:
        """The image and all that were built on it; empty if there is no such image."""
        first = self.id_of(ref)
        found = {first} - {None}
        while grown := {image.id for image in self._images.all() if image.parent in found} - found:
            found |= grown
        return {image for image in found if image}


def routes(engine: Engine) -> list[Route]:
    """Every route; what is not done comes last."""
    return [
        *system.routes(engine.facts),
        *containers.routes(engine.containers, engine.execs, ImageNames(engine.images), engine.host),
        *resources.routes(
            engine.containers.get, engine.resources.meter, engine.resources.updater, engine.resources.tops
        ),
        *execs.routes(engine.execs),
        *files.routes(engine.files, engine.commits),
        *registries.routes(Registries(engine.registries)),
        *images.routes(engine.images, engine.pulls, engine.pushes, engine.imports),
        *volumes.routes(engine.volumes),
        *disk_usage.routes(engine.disk_usage, ImageNames(engine.images).id_of, engine.builds.uses),
        *networks.routes(engine.networks, engine.containers.all, engine.containers.connector),
        *events.routes(engine.events),
        *build_cache.routes(engine.builds),
        *build_session.routes(engine.builds),
        *builds.routes(engine.builds, engine.builds.platform),
        *unsupported.routes(engine.containers.get),
    ]


@asynccontextmanager
async def open_api(
    engine: Engine, sockets: Sequence[socket.socket], tls: Callable[[], ssl.SSLContext] | None = None
) -> AsyncIterator[None]:
    """Serve the engine on listening sockets until the block ends; with `tls`, those of TCP speak what it says."""
    async with Listener(App(routes(engine)), sockets, tls=tls):
        yield
