"""What was built as files: a tar of a root filesystem, or of several, each in a folder of its own."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

from wherry.engine.builds.shop import Shop
from wherry.engine.builds.trees import Tree
from wherry.errors import InvalidParameter
from wherry.storage.packing import END, Found, header, pack, walk
from wherry.storage.streams import flow
from wherry.storage.tar import BLOCK, REGULAR, Entry


@dataclass(frozen=True)
class Folder:
    """`name` "": its files are at the top. `documents` lie beside them, by name, as old as `time_ns`."""

    tree: Tree
    name: str = ""
    documents: Mapping[str, bytes] = field(default_factory=dict)
    time_ns: int = 0

    def within(self, path: bytes) -> bytes | None:
        """The name of a member; the top of the archive has none."""
        return b"/".join(filter(None, (self.name.encode(), path))) or None


async def packed(shop: Shop, folders: Sequence[Folder]) -> AsyncIterator[bytes]:
    """One tar of all of them."""

    def pieces() -> Generator[bytes, None, None]:
        for folder in folders:
            with _opened(shop, folder.tree) as root:
                yield from pack(walk(root), lambda found, folder=folder: folder.within(found.path))  # type: ignore[misc]
            for name, data in folder.documents.items():
                yield _document(folder.within(name.encode()) or b"", data, folder.time_ns)
        yield END

    async with aclosing(flow(pieces())) as stream:
        async for piece in stream:
            yield piece


def digests(shop: Shop, tree: Tree) -> dict[str, str]:
    """SHA-256 of every regular file, by path. Blocking."""
    with _opened(shop, tree) as root:
        return {os.fsdecode(found.path): _digest(found) for found in walk(root) if stat.S_ISREG(found.stat.st_mode)}


def refuse_conflicts(shop: Shop, trees: Mapping[str, Tree]) -> None:
    """Of trees by platform that shall be one. Raises InvalidParameter in BuildKit's words. Blocking."""
    seen: dict[bytes, str] = {}
    for platform, tree in trees.items():
        with _opened(shop, tree) as root:
            for found in walk(root):
                if stat.S_ISDIR(found.stat.st_mode):
                    continue
                earlier = seen.setdefault(found.path, platform)
                if earlier != platform:
                    path = os.fsdecode(found.path)
                    raise InvalidParameter(
                        f"cannot overwrite {path} from {earlier} with {platform} when split option is disabled"
                    )


@contextmanager
def _opened(shop: Shop, tree: Tree) -> Iterator[int]:
    with shop.view(tree) as view:
        root = os.open(f"/proc/self/fd/{view.root}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield root
        finally:
            os.close(root)


def _digest(found: Found) -> str:
    with open(f"/proc/self/fd/{found.fd}", "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _document(name: bytes, data: bytes, time_ns: int) -> bytes:
    entry = Entry()
    entry.kind, entry.name, entry.mode, entry.size = REGULAR, name, 0o600, len(data)
    entry.mtime_ns = time_ns // 10**9 * 10**9
    return header(entry) + data + bytes(-len(data) % BLOCK)
