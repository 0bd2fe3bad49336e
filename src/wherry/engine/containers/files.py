"""Containers' files: looking at them, copying in and out, exporting, and what was changed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Generator
from dataclasses import dataclass

from wherry.engine.containers.announce import Announcer
from wherry.engine.containers.index import Index
from wherry.engine.containers.needs import SnapshotStore
from wherry.engine.containers.views import Views
from wherry.errors import Conflict, NotFound, SystemFailure
from wherry.linux import users
from wherry.linux.safepath import open_in_root
from wherry.linux.user_namespaces import make_files_as_root_of
from wherry.model import paths
from wherry.model.container import Container
from wherry.model.filechanges import Change
from wherry.model.idmaps import IdMap
from wherry.model.states import Status
from wherry.storage.extracting import extract
from wherry.storage.packing import END, Found, pack, walk
from wherry.storage.streams import Decompressed, consume, flow
from wherry.storage.tar import Source

_LINKS_MAX = 255  # symlinks followed for showing where one leads


@dataclass(frozen=True)
class PathStat:
    """What a path in a container is. `mode` is the kernel's; times are nanoseconds since the epoch.

    `link_target` is where a symlink leads in the end, absolute, as far as that exists.
    """

    name: str
    size: int
    mode: int
    mtime_ns: int
    link_target: str


class Files:
    """See the module. Every verb raises NotFound for a container or path that does not exist, in Docker's words."""

    def __init__(self, index: Index, views: Views, snapshots: SnapshotStore, announce: Announcer) -> None:
        self._index = index
        self._views = views
        self._snapshots = snapshots
        self._announce = announce

    async def stat(self, ref: str, path: str) -> PathStat:
        container = self._find(ref)
        async with self._views.of(container) as view:
            return await asyncio.to_thread(_stat, view.root, paths.absolute(path), path, ref)

    @contextlib.asynccontextmanager
    async def read(self, ref: str, path: str) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
        """What the path is, and a tar of it: of a directory with all below, else of the one object."""
        container = self._find(ref)
        place = paths.absolute(path)
        async with self._views.of(container) as view:
            found = await asyncio.to_thread(_stat, view.root, place, path, ref)
            fd = await asyncio.to_thread(_open, view.root, place, path, ref)
            try:
                self._announce(container, "archive-path")
                async with contextlib.aclosing(
                    flow(_packed(fd, paths.base(place), view.no_devices, container.ids))
                ) as pieces:
                    yield found, pieces
            finally:
                os.close(fd)

    async def write(
        self, ref: str, path: str, stream: AsyncIterable[bytes], *, keep_kinds: bool = False, as_user: bool = False
    ) -> None:
        """Unpack a tar, compressed or not, into a directory of the container.

        With `keep_kinds` no directory is replaced by another kind of file or the reverse; with `as_user` everything
        belongs to the user that the container runs as. Raises SystemFailure (no directory, read-only,
        broken archive, disk).
        """
        container = self._find(ref)
        async with self._views.of(container) as view:
            directory = await asyncio.to_thread(_directory, view.root, path, ref)
            _check_writable(container, directory)

            def unpack(source: Source) -> None:
                owner = _owner(view.root, container) if as_user else None
                if container.ids is not None:  # in the thread of this work alone
                    make_files_as_root_of(container.ids)
                extract(
                    Decompressed(source), view.root, directory, keep_kinds=keep_kinds, owner=owner, ids=container.ids
                )

            await consume(stream, unpack)
        self._announce(container, "extract-to-dir")

    @contextlib.asynccontextmanager
    async def export(self, ref: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """A tar of the root filesystem, without what is mounted in it."""
        container = self._find(ref)
        if container.state.status in (Status.DEAD, Status.REMOVING):
            raise Conflict(f"You cannot export container {container.id} which is Dead")
        async with self._views.of(container) as view:
            root = await asyncio.to_thread(view.bare)
            try:
                async with contextlib.aclosing(flow(_exported(root, view.no_devices, container.ids))) as pieces:
                    yield pieces
                self._announce(container, "export")
            finally:
                os.close(root)

    async def changes(self, ref: str) -> list[Change]:
        container = self._find(ref)
        return await asyncio.to_thread(self._snapshots.changes, container.id)

    def _find(self, ref: str) -> Container:
        return self._index.find(ref)


def _missing(path: str, ref: str) -> NotFound:
    return NotFound(f"Could not find the file {path} in container {ref}")


def _open(root: int, place: str, path: str, ref: str) -> int:
    """An O_PATH descriptor of what is there; of a symlink, the link itself."""
    try:
        return open_in_root(root, place, os.O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise _missing(path, ref) from None
    except OSError as error:
        raise SystemFailure(f"lstat {place}: {(error.strerror or '').lower()}") from None


def _stat(root: int, place: str, path: str, ref: str) -> PathStat:
    fd = _open(root, place, path, ref)
    try:
        found = os.fstat(fd)
    finally:
        os.close(fd)
    target = resolved(root, place) if stat.S_ISLNK(found.st_mode) else ""
    return PathStat(paths.base(place), found.st_size, found.st_mode, found.st_mtime_ns, target)


def resolved(root: int, path: str) -> str:
    """Where a path leads with all symlinks followed inside the root, as far as it exists.

    A name to show or to compare, never to open: it may lead elsewhere by then.
    """
    pending = [part for part in path.split("/") if part not in ("", ".")][::-1]
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            done = done[:-1]
            continue
        done.append(part)
        target = _link(root, "/".join(done))
        if target is None:
            continue
        links += 1
        if links > _LINKS_MAX:
            break
        done = [] if target.startswith("/") else done[:-1]
        pending += [part for part in target.split("/") if part not in ("", ".")][::-1]
    return "/" + "/".join(done)


def _link(root: int, path: str) -> str | None:
    try:
        fd = open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return os.readlink("", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def _directory(root: int, path: str, ref: str) -> str:
    """The directory to unpack in, symlinks followed."""
    place = paths.absolute(path)
    try:
        fd = open_in_root(root, place, os.O_PATH)
    except FileNotFoundError:
        raise _missing(path, ref) from None
    except OSError as error:
        raise SystemFailure(f"lstat {place}: {(error.strerror or '').lower()}") from None
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise SystemFailure("extraction point is not a directory")
    finally:
        os.close(fd)
    return resolved(root, place)


def _check_writable(container: Container, directory: str) -> None:
    """For the message: the mounts themselves are read-only."""
    inside = [
        point for point in container.mounts if directory == point.destination or _below(directory, point.destination)
    ]
    if any(not point.read_write for point in inside):
        raise SystemFailure("mounted volume is marked read-only")
    if not inside and container.host.readonly_rootfs:
        raise SystemFailure("container rootfs is marked read-only")


def _below(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def _owner(root: int, container: Container) -> tuple[int, int] | None:
    if not container.config.user:
        return None
    user = users.resolve(root, container.config.user, None)
    return user.uid, user.gid


def _packed(fd: int, name: str, no_devices: bool, ids: IdMap | None) -> Generator[bytes, None, None]:
    """A tar of one object, and of what is below it, under its own name; "/" has none."""
    found = os.fstat(fd)
    if not stat.S_ISDIR(found.st_mode):
        yield from pack([Found(b"", fd, found)], lambda item: os.fsencode(name), ids=ids)
    else:
        prefix = b"" if name == "/" else os.fsencode(name)
        yield from pack(
            walk(fd, no_devices=no_devices), lambda item: prefix + b"/" + item.path if item.path else prefix, ids=ids
        )
    yield END


def _exported(root: int, no_devices: bool, ids: IdMap | None) -> Generator[bytes, None, None]:
    yield from pack(walk(root, no_devices=no_devices), lambda item: item.path or None, ids=ids)
    yield END
