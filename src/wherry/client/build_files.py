"""What of a directory goes to a build: walking it, and the digests of its files, remembered from build to build.

A digest is taken from memory where nothing about the file has changed (inode, size, times of content and status): a
second build reads only what is new. What was changed within the last moment before it was read is read again next time.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import time
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from wherry.model.dockerfile.ignore import IgnoreRules, Matched
from wherry.model.file_list import Listed

_PIECE = 1 << 20
_MOMENT = 2_000_000_000  # ns in which a file system may give two changes the same time
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Remembered(Struct, array_like=True, gc=False):
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: bytes


class Digests:
    """Digests of one directory's files, kept in the user's cache directory."""

    def __init__(self, directory: str) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:32]
        self._path = os.path.join(base, "wherry", "build", name)
        self._known: dict[bytes, _Remembered] = {}
        self._changed = False
        try:
            with open(self._path, "rb") as file:
                self._known = msgspec.msgpack.decode(file.read(), type=dict[bytes, _Remembered])
        except (OSError, msgspec.DecodeError):
            pass

    def of(self, path: bytes, whole: bytes, found: os.stat_result) -> tuple[bytes, int]:
        """Digest and size of a file. Raises OSError."""
        known = self._known.get(path)
        if known is not None and (known.inode, known.size, known.mtime_ns, known.ctime_ns) == (
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
        ):
            return known.digest, known.size
        began = time.time_ns()
        hashed, size = hashlib.sha256(), 0
        with os.fdopen(os.open(whole, _OPEN), "rb", buffering=0) as file:
            now = os.fstat(file.fileno())
            while piece := file.read(_PIECE):
                hashed.update(piece)
                size += len(piece)
        digest = hashed.digest()
        if max(now.st_mtime_ns, now.st_ctime_ns) < began - _MOMENT and size == now.st_size:
            self._known[path] = _Remembered(now.st_ino, size, now.st_mtime_ns, now.st_ctime_ns, digest)
            self._changed = True
        return digest, size

    def save(self) -> None:
        """Remember for the next build; a cache directory that cannot be written is no failure."""
        if not self._changed:
            return
        half = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.msgpack.encode(self._known))
            os.replace(half, self._path)
        except OSError:
            pass


class Directory:
    """A directory that a build may ask for: its list, then some of the files in it."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self._top = os.fsencode(self.path)
        self._digests = Digests(self.path)
        self._paths: dict[bytes, bytes] = {}  # by digest

    @property
    def identity(self) -> str:
        """The same for the same directory from one build to the next."""
        return f"{socket.gethostname()}:{self.path}"

    def entries(self, include: Iterable[str], exclude: Iterable[str]) -> list[Listed]:
        """Everything that the patterns let through, folders of it included. Raises OSError."""
        rules = IgnoreRules(exclude)
        wanted = set(include)
        while True:
            found = list(self._walk(rules, IgnoreRules(sorted(wanted))))
            more = _targets(found, wanted) - wanted if wanted else set()
            if not more:
                break
            wanted |= more
        self._digests.save()
        self._paths = {entry.digest: entry.path for entry in found if entry.digest}
        return found

    def content(self, digest: bytes) -> Iterator[bytes]:
        """A file's size, then its bytes, as a build takes them; nothing where it is gone."""
        path = self._paths.get(digest)
        if path is None:
            return
        try:
            file = os.fdopen(os.open(os.path.join(self._top, path), _OPEN), "rb", buffering=0)
        except OSError:
            return
        with file:
            left = os.fstat(file.fileno()).st_size
            yield left.to_bytes(8, "big")
            while left and (piece := file.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece

    def _walk(self, rules: IgnoreRules, taken: IgnoreRules) -> Iterator[Listed]:
        waiting: list[Listed] = []  # folders that come if something in them does
        pending: list[tuple[bytes, Matched, Matched]] = [(b"", rules.root, taken.root)]
        stack: list[tuple[bytes, Iterator[os.DirEntry[bytes]], Matched, Matched]] = []
        plain = not rules and not taken
        while pending or stack:
            if pending:
                path, out, into = pending.pop()
                with os.scandir(os.path.join(self._top, path)) as entries:
                    stack.append((path, iter(sorted(entries, key=lambda entry: entry.name)), out, into))
            path, children, out, into = stack[-1]
            child = next(children, None)
            if child is None:
                stack.pop()
                if waiting and waiting[-1].path == path:
                    waiting.pop()
                continue
            inner = path + b"/" + child.name if path else child.name
            text = "" if plain else os.fsdecode(inner)
            out = out if not rules else rules.enter(text, out)
            into = into if not taken else taken.enter(text, into)
            kept = not out.ignored and (not taken or into.ignored)
            folder = child.is_dir(follow_symlinks=False)
            if not kept and not folder:
                if out.ignored or not child.is_symlink() or not taken_below(taken, text):
                    continue
                kept = True  # a link on the way to something that is asked for
            if not kept and out.ignored and not rules.may_hold_exceptions(text):
                continue
            if not kept and taken and not taken_below(taken, text):
                continue
            listed = self._listed(inner, child)
            if listed is None:
                continue
            if kept:
                yield from waiting
                waiting.clear()
                yield listed
            elif folder:
                waiting.append(listed)
            if folder:
                pending.append((inner, out, into))

    def _listed(self, path: bytes, child: os.DirEntry[bytes]) -> Listed | None:
        """None for what builds do not take: sockets and devices, and what is gone meanwhile."""
        try:
            found = child.stat(follow_symlinks=False)
            kind = stat.S_IFMT(found.st_mode)
            mode = kind | found.st_mode & 0o7777
            if kind == stat.S_IFREG:
                digest, size = self._digests.of(path, child.path, found)
                return Listed(path, mode, 0, 0, found.st_mtime_ns, size, b"", digest)
            if kind == stat.S_IFLNK:
                return Listed(path, stat.S_IFLNK | 0o777, 0, 0, found.st_mtime_ns, 0, os.readlink(child.path))
            if kind in (stat.S_IFDIR, stat.S_IFIFO):
                return Listed(path, mode, 0, 0, found.st_mtime_ns)
        except FileNotFoundError:
            pass
        return None


def taken_below(taken: IgnoreRules, directory: str) -> bool:
    """Whether something below a directory may be asked for: patterns to take are those to leave out, turned around."""
    parts = directory.split("/")
    for pattern in taken.patterns:
        for part, component in zip(pattern.split("/"), parts, strict=False):
            if any(character in part for character in "*?[\\"):
                return True
            if part != component:
                break
        else:
            return True
    return False


def _targets(found: list[Listed], wanted: set[str]) -> set[str]:
    """Where the symlinks lead that were asked for, or that are on the way to what was."""
    links = {os.fsdecode(entry.path): os.fsdecode(entry.link) for entry in found if entry.link}
    more: set[str] = set()
    for path in wanted:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            link = links.get("/".join(parts[:depth]))
            if link is not None:
                base = "" if link.startswith("/") else "/".join(parts[: depth - 1])
                rest = parts[depth:]
                target = os.path.normpath("/" + "/".join([base, link, *rest])).strip("/")
                more.add(target or "*")
    return more
