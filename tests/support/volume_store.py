"""One engine's volumes without a daemon, and a process that works on them until a failpoint kills it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from wherry.engine.volumes import Volumes
from wherry.model.events import Event
from wherry.storage.database import Database


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.database = Database.open(root / "wherry.db")
        self.events: list[Event] = []
        self.users: dict[str, list[str]] = {}
        self.volumes = Volumes(
            self.database, root / "volumes", self.events.append, lambda name: self.users.get(name, [])
        )

    def told(self) -> list[tuple[str, str]]:
        return [(event.action, event.id) for event in self.events]


def fill(folder: Path) -> Path:
    """A folder with what a volume is seeded with."""
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "file").write_bytes(b"content\n")
    os.chown(folder / "file", 1000, 77)
    os.chmod(folder / "file", 0o4750)
    os.setxattr(folder / "file", "user.origin", b"image")
    os.link(folder / "file", folder / "sub" / "hard")
    os.symlink("../file", folder / "sub" / "soft")
    os.mkfifo(folder / "fifo", 0o600)
    os.mknod(folder / "null", 0o20666, os.makedev(1, 3))
    with open(folder / "sparse", "wb") as sparse:
        sparse.seek(8 << 20)
        sparse.write(b"end")
    os.chmod(folder / "sub", 0o2700)
    os.chmod(folder, 0o1770)
    os.chown(folder, 5, 6)
    for path in sorted(folder.rglob("*"), key=lambda path: -len(path.parts)):
        os.utime(path, ns=(1_700_000_000_123_456_789,) * 2, follow_symlinks=False)
    os.utime(folder, ns=(1_600_000_000_000_000_000,) * 2)
    return folder


async def _work(root: Path, source: Path) -> None:
    store = Store(root)
    volume = await store.volumes.create("data")
    await asyncio.to_thread(store.volumes.seed, volume, source)
    await store.volumes.remove("data")


if __name__ == "__main__":
    asyncio.run(_work(Path(sys.argv[1]), Path(sys.argv[2])))
