"""Content-addressed blobs: a file's name is its digest, checked before it gets that name."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

from wherry.errors import InvalidParameter, NotFound
from wherry.model.failpoints import failpoint
from wherry.storage.appending import write_all
from wherry.storage.following import Follower
from wherry.storage.room import Room
from wherry.storage.usage import BLOCK, disk_usage


class Elsewhere(Protocol):
    """Contents that are kept in another form and can be made again. See `Snapshots.tar`."""

    def tar(self, digest: str, /) -> BinaryIO | None: ...
    def tar_size(self, digest: str, /) -> int | None: ...


class Blobs:
    """The store. Blocking methods; call them from threads. A blob is never changed once it has its name.

    What has no file here may be `elsewhere`: it is read like any other, takes no room here and has no descriptor.

    Example:

        with blobs.ingest() as ingest:
            for piece in pieces:
                ingest.write(piece)
            digest = ingest.commit(expected)     # without it, leaving the block removes the file
        with blobs.open(digest) as file: ...
    """

    def __init__(self, root: Path, elsewhere: Elsewhere | None = None) -> None:
        self._elsewhere = elsewhere
        self._root = root / "sha256"
        self._temporary = root / "tmp"
        for directory in (root, self._root, self._temporary):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise InvalidParameter(f"unsupported digest: {digest}")
        return self._root / value

    def has(self, digest: str) -> bool:
        """Whether it has a file."""
        return self.path(digest).exists()

    def size(self, digest: str) -> int:
        """Bytes. Raises NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            size = self._elsewhere.tar_size(digest) if self._elsewhere is not None else None
        if size is None:
            raise NotFound(f"blob {digest} not found")
        return size

    def occupied(self, digest: str | None = None) -> int:
        """Bytes on disk of one blob, 0 if it is not there, or of all."""
        if digest is None:
            return disk_usage(self._root)
        try:
            return self.path(digest).stat().st_blocks * BLOCK
        except FileNotFoundError:
            return 0

    def open(self, digest: str) -> BinaryIO:
        """Raises NotFound."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError:
            file = self._elsewhere.tar(digest) if self._elsewhere is not None else None
        if file is None:
            raise NotFound(f"blob {digest} not found")
        return file

    def read(self, digest: str) -> bytes:
        with self.open(digest) as file:
            return file.read()

    def put(self, data: bytes) -> str:
        """Store a small document; returns its digest."""
        with self.ingest() as ingest:
            ingest.write(data)
            return ingest.commit()

    def ingest(self, *, hashed: bool = True) -> Ingest:
        return Ingest(self, self._temporary / secrets.token_hex(16), hashed)

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def digests(self) -> set[str]:
        return {f"sha256:{name}" for name in os.listdir(self._root)}

    def collect(self, keep: Iterable[str]) -> None:
        """Remove every blob not in `keep`."""
        for digest in self.digests() - set(keep):
            self.remove(digest)

    def sweep(self, keep: Iterable[str]) -> None:
        """The same at start, while nobody ingests: what a crash left half-written goes too."""
        for name in os.listdir(self._temporary):
            (self._temporary / name).unlink()
        self.collect(keep)


class Ingest:
    """A blob that arrives: a file without a name yet, and the digest of what is in it.

    `hashed=False` leaves the hashing to a caller who does it anyway and then says `commit(digest)`.
    """

    def __init__(self, blobs: Blobs, path: Path, hashed: bool) -> None:
        self._blobs = blobs
        self._hash = hashlib.sha256() if hashed else None
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._room = Room(path.parent)
        self._changed = threading.Condition()
        self._complete = self._failed = False
        self.committed = False
        self.path = path
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append. Raises SystemFailure when the disk is full."""
        self._room.take(len(data))
        if self._hash is not None:
            self._hash.update(data)
        write_all(self._fd, data)
        with self._changed:
            self.size += len(data)
            self._changed.notify_all()

    def follow(self) -> Follower:
        """A source for another thread, which reads along while this one writes. Its end comes with `finish`."""
        return Follower(os.dup(self._fd), self._changed, lambda: (self.size, self._complete, self._failed))

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return "sha256:" + self._hash.hexdigest() if self._hash is not None else ""

    def finish(self) -> None:
        """Nothing more will be written; the descriptor is freed. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with self._changed:
            self._complete = not self._failed
            self._changed.notify_all()

    def commit(self, expected: str = "") -> str:
        """Give the blob its name, its digest. Raises InvalidParameter if that is not the expected one."""
        self.finish()
        digest = self.digest or expected
        if expected and digest != expected:
            raise InvalidParameter(f"blob digest mismatch: expected {expected}, got {digest}")
        failpoint("blobs.commit.written")
        os.rename(self.path, self._blobs.path(digest))
        failpoint("blobs.commit.renamed")
        self.committed = True
        return digest

    def discard(self) -> None:
        """Forget what was not committed; who follows what is not finished is told so. Idempotent."""
        self._failed = not self._complete
        self.finish()
        if not self.committed:
            self.path.unlink(missing_ok=True)
            self.committed = True

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()
