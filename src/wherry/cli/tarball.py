"""Tar archives of local files for `cp`: written as a stream, unpacked from one."""

from __future__ import annotations

import os
import stat
import tarfile

from wherry.cli.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

PIECE = 1 << 20


def pack(directory: str, base: str, name: str) -> Iterator[bytes]:
    """A tar of the entry `base` of a directory, and of what is below it, with `name` in its place."""
    links: dict[tuple[int, int], str] = {}
    source = os.path.join(directory, base)
    yield from _member(source, name, links)
    pending = [(source, name)] if os.path.isdir(source) and not os.path.islink(source) else []
    while pending:
        folder, above = pending.pop()
        inner = []
        for child in sorted(os.listdir(folder)):
            path, inside = os.path.join(folder, child), f"{above}/{child}"
            try:
                yield from _member(path, inside, links)
            except FileNotFoundError:
                continue  # gone meanwhile
            if os.path.isdir(path) and not os.path.islink(path):
                inner.append((path, inside))
        pending += reversed(inner)
    yield bytes(1024)


def _member(path: str, name: str, links: dict[tuple[int, int], str]) -> Iterator[bytes]:
    found = os.lstat(path)
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    info.mtime = int(found.st_mtime)
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFSOCK:
        return
    info.type = {
        stat.S_IFDIR: tarfile.DIRTYPE,
        stat.S_IFLNK: tarfile.SYMTYPE,
        stat.S_IFCHR: tarfile.CHRTYPE,
        stat.S_IFBLK: tarfile.BLKTYPE,
        stat.S_IFIFO: tarfile.FIFOTYPE,
    }.get(kind, tarfile.REGTYPE)
    if found.st_nlink > 1 and kind != stat.S_IFDIR:
        first = links.setdefault((found.st_dev, found.st_ino), name)
        if first != name:
            info.type, info.linkname = tarfile.LNKTYPE, first
    if info.type == tarfile.SYMTYPE:
        info.linkname = os.readlink(path)
    elif info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    if info.type != tarfile.REGTYPE:
        yield _header(info)
        return
    capability = _capability(path)
    if capability:
        info.pax_headers = {"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")}
    info.size = found.st_size
    with open(path, "rb", buffering=0) as file:
        yield _header(info)
        left = info.size
        while left:
            piece = file.read(min(left, PIECE)) or bytes(min(left, PIECE))  # one that shrinks is filled up
            left -= len(piece)
            yield piece
    yield bytes(-info.size % tarfile.BLOCKSIZE)


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _capability(path: str) -> bytes:
    try:
        return os.getxattr(path, "security.capability")
    except OSError:
        return b""


def unpack(stream: Any, directory: str, rename: Callable[[str], str]) -> None:
    """Unpack a tar below a local directory; what is made belongs to the user. Raises Failure for what cannot be.

    `stream` has `read(size)`. Names that lead out of the directory are refused, and so are those that go through a
    symlink of the archive's own.
    """
    extraction = _Extraction(directory, rename)
    with tarfile.open(fileobj=stream, mode="r|", bufsize=PIECE, encoding="utf-8", errors="surrogateescape") as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            extraction.take(archive, info)
    extraction.finish()


class _Extraction:
    def __init__(self, directory: str, rename: Callable[[str], str]) -> None:
        self._directory = directory
        self._rename = rename
        self._links: set[str] = set()
        self._times: list[tuple[str, float]] = []

    def take(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        name = os.path.normpath(self._rename(info.name).lstrip("/") or ".")
        if name.split("/")[0] == "..":
            raise Failure(f'"{name}" is outside of "{self._directory}"')
        path = os.path.join(self._directory, name)
        if self._through_link(name):
            raise Failure(f'invalid symlink on the way to "{path}"')
        if name == "." and os.path.isdir(path):
            return
        self._make_room(path, info)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if info.isdir():
            if not os.path.isdir(path):
                os.mkdir(path, 0o700)
        elif info.issym():
            os.symlink(info.linkname, path)
            self._links.add(name)
        elif info.islnk():
            target = os.path.normpath(self._rename(info.linkname).lstrip("/"))
            if target.split("/")[0] == ".." or self._through_link(target):
                raise Failure(f'invalid hardlink "{path}" -> "{info.linkname}"')
            os.link(os.path.join(self._directory, target), path, follow_symlinks=False)
        elif info.isfile():
            _write(archive, info, path)
        else:
            kind = stat.S_IFIFO if info.isfifo() else stat.S_IFCHR if info.ischr() else stat.S_IFBLK
            os.mknod(path, kind | info.mode, os.makedev(info.devmajor, info.devminor))
        self._finish(path, info)

    def _through_link(self, name: str) -> bool:
        parts = name.split("/")
        return any("/".join(parts[:depth]) in self._links for depth in range(1, len(parts)))

    def _make_room(self, path: str, info: tarfile.TarInfo) -> None:
        if not os.path.lexists(path):
            return
        there = os.path.isdir(path) and not os.path.islink(path)
        if there and not info.isdir():
            raise Failure(f'cannot overwrite directory "{path}" with non-directory "{self._directory}"')
        if not there and info.isdir():
            raise Failure(f'cannot overwrite non-directory "{path}" with directory "{self._directory}"')
        if not there:
            os.unlink(path)

    def _finish(self, path: str, info: tarfile.TarInfo) -> None:
        if info.issym():
            os.utime(path, (info.mtime, info.mtime), follow_symlinks=False)
            return
        if info.islnk():
            return
        os.chmod(path, info.mode)
        for key, value in info.pax_headers.items():
            if key.startswith("SCHILY.xattr."):
                try:
                    os.setxattr(path, key[13:], value.encode("utf-8", "surrogateescape"))
                except OSError:
                    pass  # not the user's to set, or a file system without
        if info.isdir():
            self._times.append((path, info.mtime))
        else:
            os.utime(path, (info.mtime, info.mtime))

    def finish(self) -> None:
        for path, mtime in self._times:
            os.utime(path, (mtime, mtime))


def _write(archive: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> None:
    content: Any = archive.extractfile(info)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb", buffering=0) as file:
        while data := content.raw.read(PIECE):
            view = memoryview(data)
            while view:
                view = view[file.write(view) or 0 :]
