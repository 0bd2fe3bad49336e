"""One engine's images without a daemon, and a process that works on them until a failpoint kills it."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import zstandard

from tests.support.images import Entry, folder, oci_archive, symlink, tar
from wherry.engine.images.removal import InUse
from wherry.engine.images.service import Images
from wherry.engine.transfers.needs import Registries
from wherry.engine.transfers.pulls import Pulls
from wherry.engine.transfers.pushes import Pushes
from wherry.model.events import Event
from wherry.model.filters import Filters
from wherry.model.registry_options import RegistryOptions
from wherry.storage.blobs import Blobs
from wherry.storage.database import Database
from wherry.storage.partials import Partials
from wherry.storage.snapshots import OverlaySnapshots

BASE = tar([folder("etc"), Entry("etc/base", b"base\n"), symlink("link", "etc")])
TOP = tar([Entry("etc/top", b"top\n")])


class Store:
    """One engine's images, and what they told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.database = Database.open(root / "wherry.db")
        self.snapshots = OverlaySnapshots(root / "snapshots")
        self.blobs = Blobs(root / "blobs", self.snapshots)
        self.events: list[Event] = []
        self.users: dict[str, list[InUse]] = {}
        self.images = Images(
            self.database, self.blobs, self.snapshots, self.events.append, lambda image: self.users.get(image, [])
        )

    def transfers(self, registry: Registries, options: RegistryOptions | None = None) -> tuple[Pulls, Pushes]:
        """What brings images from a registry into this store, and out of it."""
        chosen = options or RegistryOptions()
        partials = Partials(self.root / "blobs" / "partial", self.blobs)
        pulls = Pulls(registry, self.images, self.blobs, partials, self.snapshots, self.events.append, lambda: chosen)
        return pulls, Pushes(registry, self.images, self.blobs, self.events.append, lambda: chosen)

    async def load(self, archive: bytes, *, quiet: bool = True) -> list[dict[str, Any]]:
        return [message async for message in self.images.load(pieces(archive), quiet=quiet)]

    async def save(self, *refs: str) -> bytes:
        return b"".join([piece async for piece in await self.images.save(refs)])

    def told(self) -> list[tuple[str, str]]:
        told = [(event.action, event.attributes.get("name", "")) for event in self.events]
        self.events.clear()
        return told

    async def left(self) -> list[str]:
        """Every file and folder of layers and blobs there is."""
        return await asyncio.to_thread(self._left)

    def _left(self) -> list[str]:
        self.snapshots.purge()
        places = (
            "snapshots/layers",
            "snapshots/active",
            "snapshots/tmp",
            "snapshots/staging",
            "blobs/sha256",
            "blobs/tmp",
        )
        return [f"{place}/{name}" for place in places for name in os.listdir(self.root / place)]


async def pieces(data: bytes, size: int = 5000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def packed(archive: bytes, how: str) -> bytes:
    return {"": archive, "gzip": gzip.compress(archive), "zstd": zstandard.compress(archive)}[how]


async def dying(stream: AsyncIterator[bytes], at: int) -> AsyncIterator[bytes]:
    """The stream, until so many bytes have passed: then the process is killed."""
    passed = 0
    async for piece in stream:
        if passed + len(piece) > at:
            yield piece[: at - passed]
            os.kill(os.getpid(), signal.SIGKILL)
        passed += len(piece)
        yield piece


LARGER = tar([folder("many"), *(Entry(f"many/{number}", b"x" * number) for number in range(400))])


async def _work(root: Path, work: str, at: int) -> None:
    store = Store(root)
    if work == "load":
        archive = oci_archive([BASE, TOP, LARGER], "docker.io/library/app:1", compress=False)
        async for _ in store.images.load(dying(pieces(archive, 1000), at)):
            pass
    elif work == "import":
        await store.images.import_(dying(pieces(packed(LARGER, "gzip"), 100), at), repository="app")
    elif work == "save":
        async for _ in dying(await store.images.save(["app:1"]), at):
            pass
    elif work == "tag":
        await store.images.tag("app:1", "app", "2")
    elif work == "prune":
        await store.images.prune(Filters({"dangling": ("false",), "label": ("prune",)}))
    else:
        await store.images.remove("app:1")


if __name__ == "__main__":
    asyncio.run(_work(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
