"""Contents of files by their SHA-256: what clients have sent to builds, kept so that nothing is sent twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from wherry.errors import InvalidParameter, NotFound
from wherry.linux.placement import spread
from wherry.model.failpoints import failpoint
from wherry.storage.appending import write_all
from wherry.storage.usage import disk_usage

FOLDER = 2000  # files
IN_MEMORY = 1 << 20  # bytes; what is smaller is hashed before a file is made for it


class Contents:
    """The store. Blocking methods, from any thread. A content has its name, its digest, once it is complete.

        missing = contents.missing(wanted)
        for digest in missing:
            contents.put(data, digest)
        with open(contents.path(digest), "rb") as file: ...
        contents.collect(needed)                 # the others go

    On disk: `HH/HEX` by the first byte, and `tmp/FOLDER` for what is on its way.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / "tmp"
        self._known: set[bytes] | None = None
        self._lock = threading.Lock()
        self._current = self._temporary
        self._left: list[Path] = []  # folders in which nothing is begun any more
        self._made = 0

    def _there(self) -> set[bytes]:
        with self._lock:
            if self._known is None:
                self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
                for name in os.listdir(self._temporary):
                    shutil.rmtree(self._temporary / name, ignore_errors=True)
                spread(self._temporary)
                self._known = {
                    bytes.fromhex(folder + name)
                    for folder in os.listdir(self._root)
                    if len(folder) == 2
                    for name in os.listdir(self._root / folder)
                }
            return self._known

    def path(self, digest: bytes) -> str:
        name = digest.hex()
        return f"{self._root}/{name[:2]}/{name[2:]}"

    def missing(self, digests: Iterable[bytes]) -> set[bytes]:
        return set(digests) - self._there()

    def open(self, digest: bytes, size: int) -> int:
        """A descriptor for reading. Raises NotFound, also for one that a power failure has cut short."""
        try:
            fd = os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._forget(digest)
            raise NotFound(f"the content {digest.hex()} is not there any more: build again") from None
        if os.fstat(fd).st_size != size:
            os.close(fd)
            self._forget(digest)
            raise NotFound(f"the content {digest.hex()} is damaged: build again")
        return fd

    def _forget(self, digest: bytes) -> None:
        self._there().discard(digest)

    def put(self, data: bytes, digest: bytes = b"") -> bytes:
        """Keep a content that is in memory; returns its digest. Raises InvalidParameter if it is not the given one."""
        found = hashlib.sha256(data).digest()
        if digest and found != digest:
            raise InvalidParameter(f"content with digest {found.hex()} where {digest.hex()} was announced")
        if found not in self._there():
            with self.begin() as writing:
                writing.write(data, hashed=False)
                writing.commit(found)
        return found

    def take_sparse(self, fill: Callable[[int], None]) -> tuple[int, bytes]:
        """Keep a file with holes, which `fill` writes into an empty one; its size and digest."""
        with self.begin() as writing:
            writing.fill(fill)
            return writing.size, writing.commit()

    def begin(self) -> Writing:
        """For a content that comes in pieces."""
        self._there()
        while True:
            folder = self._folder()
            with contextlib.suppress(FileNotFoundError):  # it was empty, and has just been collected
                return Writing(self, folder / secrets.token_hex(12))

    def _folder(self) -> Path:
        """Where files are made. A new folder now and then, so that the file system looks for room anew (`spread`)."""
        with self._lock:
            if self._made % FOLDER == 0:
                self._left.append(self._current)
                self._current = self._temporary / secrets.token_hex(8)
                self._current.mkdir(mode=0o700)
            self._made += 1
            return self._current

    def _leave(self) -> None:
        """The folders of what is on its way, but for those where something still is."""
        left = {*self._left, self._current} - {self._temporary}
        for folder in left:
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._left = [folder for folder in left if folder.exists()]
        self._current, self._made = self._temporary, 0

    def admit(self, path: Path, digest: bytes) -> None:
        """Give a complete file its name."""
        failpoint("contents.put.written")
        target = self.path(digest)
        with self._lock:
            try:
                os.rename(path, target)
            except FileNotFoundError:
                os.mkdir(os.path.dirname(target), mode=0o700)
                os.rename(path, target)
        self._there().add(digest)

    def collect(self, needed: Collection[bytes]) -> None:
        """Remove what is not needed."""
        with self._lock:
            self._leave()
        for digest in self._there() - set(needed):
            self._forget(digest)
            Path(self.path(digest)).unlink(missing_ok=True)
        with self._lock:
            for folder in self._root.glob("[0-9a-f][0-9a-f]"):
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()

    def occupied(self) -> int:
        """Bytes on disk."""
        return disk_usage(self._root) if self._root.exists() else 0


class Writing:
    """A content on its way in; leaving the block without `commit` forgets it."""

    def __init__(self, contents: Contents, path: Path) -> None:
        self._contents = contents
        self._path = path
        self._hash = hashlib.sha256()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.size = 0

    def write(self, data: bytes, *, hashed: bool = True) -> None:
        if hashed:
            self._hash.update(data)
        write_all(self._fd, data)
        self.size += len(data)

    def fill(self, fill: Callable[[int], None]) -> None:
        """Let somebody else write the whole file."""
        fill(self._fd)
        self.size = os.fstat(self._fd).st_size
        with open(self._path, "rb", buffering=0) as file:
            while piece := file.read(1 << 20):
                self._hash.update(piece)

    def commit(self, digest: bytes = b"") -> bytes:
        """`digest` where the caller has hashed the data. Returns the digest."""
        os.close(self._fd)
        self._fd = -1
        found = digest or self._hash.digest()
        self._contents.admit(self._path, found)
        return found

    def commit_as(self, digest: bytes) -> None:
        """Raises InvalidParameter if what was written is something else."""
        if self._hash.digest() != digest:
            raise InvalidParameter(f"content with digest {self._hash.hexdigest()} where {digest.hex()} was announced")
        self.commit(digest)

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._path.unlink(missing_ok=True)
