"""Reading tar archives as a stream: V7, ustar, PAX, GNU and star headers, long names, sparse files.

Formats: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual, "Basic Tar Format"
and "Storing Sparse Files". Names are bytes throughout, as the kernel has them. Nothing here touches the file system.
"""

from __future__ import annotations

import base64
import binascii
import os
import struct
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from wherry.errors import InvalidParameter
from wherry.storage.appending import write_all

BLOCK = 512
_BUFFER = 1 << 20
_SPECIAL_MAX = 1 << 20  # longest accepted PAX record set or GNU long name, bytes (as Go's archive/tar)
_SPARSE_MAX = 1 << 16  # most extents of one sparse file

_TIME_MAX = (1 << 63) - 1  # ns; the year 2262

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12s")
_ZERO_BLOCK = bytes(BLOCK)

REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_HEADER_ONLY = frozenset((LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_REGULAR_KINDS = frozenset((b"0", b"\0", b"7"))

_PAX_TEXTS = frozenset((b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name"))
_XATTR_PREFIX = b"SCHILY.xattr."
_XATTR_PREFIX_BASE64 = b"LIBARCHIVE.xattr."


class BadArchive(InvalidParameter):
    """The stream is no tar archive, or ends too early."""


class Source(Protocol):
    """A blocking stream of bytes: up to `size` bytes, b"" at the end."""

    def read(self, size: int, /) -> bytes: ...


@runtime_checkable
class Copying(Protocol):
    """A source that can put its bytes into a file by itself, without their passing through Python's objects."""

    def copy_to(self, descriptor: int, limit: int, /) -> int:
        """Write what comes next, at most `limit` bytes; how many. 0 at the end. Raises OSError."""
        ...


class Entry:
    """One member. `kind` is one of the constants above; `size` the length of its content as read by the caller."""

    __slots__ = (
        "extents",
        "gid",
        "kind",
        "link",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "size",
        "stored",
        "uid",
        "xattrs",
    )

    def __init__(self) -> None:
        self.name = b""
        self.link = b""
        self.kind = REGULAR
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.size = 0
        self.stored = 0  # bytes of content in the archive; less than `size` for a sparse file
        self.mtime_ns = 0
        self.major = 0
        self.minor = 0
        self.xattrs: dict[bytes, bytes] = {}
        self.extents: list[tuple[int, int]] | None = None  # (offset, length) of what is stored, None when not sparse


class TarReader:
    """Iterate over it; the content of the entry at hand is read with `read`, `chunks` or `write_to`, else skipped.

    Raises BadArchive in the words of Go's archive/tar, which clients know. Without `padded` the last file may end where
    its content does: Docker's client sends such archives to builds.
    """

    def __init__(self, source: Source, *, padded: bool = True) -> None:
        self._read = source.read
        self._copy = source.copy_to if isinstance(source, Copying) else None
        self._padded = padded
        self._buffer = b""
        self._position = 0
        self._remaining = 0  # content bytes of the entry at hand that were not read
        self._padding = 0
        self._globals: dict[bytes, bytes] = {}
        self._global_size = 0

    def __iter__(self) -> Iterator[Entry]:
        while True:
            entry = self._next()
            if entry is None:
                self._drain()
                return
            yield entry

    def chunks(self) -> Iterator[bytes]:
        """The stored content of the entry at hand."""
        while self._remaining:
            piece = self._some(min(self._remaining, _BUFFER))
            self._remaining -= len(piece)
            yield piece

    def read(self, limit: int) -> bytes:
        """The whole content of the entry at hand. Raises BadArchive if it is longer than `limit`."""
        if self._remaining > limit:
            raise BadArchive(f"an entry of {self._remaining} bytes where at most {limit} are expected")
        return b"".join(self.chunks())

    def write_to(self, fd: int, entry: Entry) -> None:
        """The content of a regular file into an empty one, holes left as holes. Raises OSError, BadArchive."""
        if entry.extents is None:
            if self._remaining <= len(self._buffer) - self._position:  # the common small file: one write
                start, size = self._position, self._remaining
                self._position += size
                self._remaining = 0
                if size:
                    write_all(fd, memoryview(self._buffer)[start : start + size])
                return
            while self._remaining:
                self._remaining -= self._pass_on(fd)
            return
        for offset, length in entry.extents:
            os.lseek(fd, offset, os.SEEK_SET)
            while length:
                piece = self._some(min(length, _BUFFER))
                self._remaining -= len(piece)
                length -= len(piece)
                write_all(fd, memoryview(piece))
        os.ftruncate(fd, entry.size)

    def _pass_on(self, fd: int) -> int:
        """Write some of the content at hand."""
        if self._copy is not None and self._position == len(self._buffer):
            size = self._copy(fd, self._remaining)
            if not size:
                raise BadArchive("unexpected EOF")
            return size
        piece = self._some(min(self._remaining, _BUFFER))
        write_all(fd, memoryview(piece))
        return len(piece)

    def _next(self) -> Entry | None:
        records: dict[bytes, bytes] = {}
        long_name = long_link = None
        while True:
            self._skip()
            block = self._block()
            if block is None:
                if records or long_name is not None or long_link is not None:
                    raise BadArchive("unexpected EOF")
                return None
            fields = _HEADER.unpack(block)
            kind: bytes = fields[7]
            if kind in b"xgLK":
                size = _number(fields[4])
                if size > _SPECIAL_MAX:
                    raise BadArchive("archive/tar: header field too long")
                _check(block, fields[6])
                self._content(size)
                data = self.read(_SPECIAL_MAX)
                if kind == b"x":
                    records = _pax(data)
                elif kind == b"g":
                    self._global_size += size
                    if self._global_size > _SPECIAL_MAX:
                        raise BadArchive("archive/tar: header field too long")
                    self._globals.update(_pax(data))
                elif kind == b"L":
                    long_name = data.split(b"\0", 1)[0]
                else:
                    long_link = data.split(b"\0", 1)[0]
                continue
            _check(block, fields[6])
            if kind == b"V":  # a GNU volume label names the archive, nothing in it
                self._content(_number(fields[4]))
                continue
            return self._entry(block, fields, {**self._globals, **records}, long_name, long_link)

    def _entry(
        self,
        block: bytes,
        fields: tuple[bytes, ...],
        records: dict[bytes, bytes],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Entry:
        entry = Entry()
        name = fields[0].split(b"\0", 1)[0]
        magic, version, kind = fields[9], fields[10], fields[7]
        if magic == b"ustar\0":
            prefix = fields[15]
            if fields[16][8:] == b"tar\0":  # star keeps times in the prefix's tail
                prefix = prefix[:131]
            prefix = prefix.split(b"\0", 1)[0]
            if prefix:
                name = prefix + b"/" + name
        if magic in (b"ustar\0", b"ustar ") and kind in (CHARACTER, BLOCK_DEVICE):
            entry.major, entry.minor = _number(fields[13]), _number(fields[14])
        entry.name = name if long_name is None else long_name
        entry.link = fields[8].split(b"\0", 1)[0] if long_link is None else long_link
        entry.mode = _number(fields[1]) & 0o7777
        entry.uid, entry.gid = _number(fields[2]), _number(fields[3])
        size = _number(fields[4])
        entry.mtime_ns = _number(fields[5]) * 1_000_000_000
        sparse: dict[bytes, bytes] = {}
        if records:
            size, sparse = _apply(entry, records, size)
        if size < 0 or not 0 <= entry.major < 1 << 32 or not 0 <= entry.minor < 1 << 32:
            raise BadArchive("archive/tar: invalid tar header")
        if abs(entry.mtime_ns) > _TIME_MAX:
            entry.mtime_ns = 0  # as Docker: a time that the kernel cannot keep becomes the epoch

        if kind in _REGULAR_KINDS:
            kind = DIRECTORY if entry.name.endswith(b"/") and not sparse else REGULAR
        elif kind == b"D":  # GNU dump directory: its content is a list of names
            kind = DIRECTORY
        old_sparse = kind == b"S" and magic == b"ustar " and version == b" \0"
        if old_sparse:
            kind = REGULAR
        elif kind not in _HEADER_ONLY and kind != REGULAR:
            raise BadArchive(f"unhandled tar header type {kind[0]}: {_show(entry.name)}")
        entry.kind = kind

        self._content(0 if kind in _HEADER_ONLY and fields[7] != b"D" else size)
        entry.size = self._remaining if kind == REGULAR else 0
        if old_sparse:
            self._old_sparse(entry, block, size)
        elif sparse:
            self._pax_sparse(entry, sparse)
        entry.stored = self._remaining
        return entry

    def _old_sparse(self, entry: Entry, block: bytes, stored: int) -> None:
        extents = _sparse_pairs(block, 386, 4)
        more, entry.size = block[482], _number(block[483:495])
        self._remaining = self._padding = 0  # the extension headers come before the content
        while more:
            extension = self._exactly(BLOCK)
            extents += _sparse_pairs(extension, 0, 21)
            more = extension[504]
            if len(extents) > _SPARSE_MAX:
                raise BadArchive("archive/tar: header field too long")
        self._content(stored)
        entry.extents = _checked_extents(extents, entry.size, stored)

    def _pax_sparse(self, entry: Entry, sparse: dict[bytes, bytes]) -> None:
        if sparse.get(b"major") == b"1":
            entry.size = _decimal(sparse.get(b"realsize", b""))
            extents = self._sparse_map()
        else:
            entry.size = _decimal(sparse.get(b"size", sparse.get(b"realsize", b"")))
            numbers = [_decimal(n) for n in sparse.get(b"map", b"").split(b",") if n]
            if len(numbers) % 2:
                raise BadArchive("archive/tar: invalid tar header")
            extents = list(zip(numbers[::2], numbers[1::2], strict=True))
        if name := sparse.get(b"name"):
            entry.name = name
        entry.extents = _checked_extents(extents, entry.size, self._remaining)

    def _sparse_map(self) -> list[tuple[int, int]]:
        """The map of GNU sparse format 1.0: decimal lines in blocks at the head of the content."""
        data = b""

        def lines(count: int) -> list[int]:
            nonlocal data
            while data.count(b"\n") < count:
                if self._remaining < BLOCK or len(data) > _SPARSE_MAX * 42:
                    raise BadArchive("archive/tar: invalid tar header")
                data += self._exactly(BLOCK)
                self._remaining -= BLOCK
            *taken, data = data.split(b"\n", count)
            return [_decimal(line) for line in taken]

        (count,) = lines(1)
        if count > _SPARSE_MAX:
            raise BadArchive("archive/tar: header field too long")
        numbers = lines(2 * count)
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def _content(self, size: int) -> None:
        if size < 0:
            raise BadArchive("archive/tar: invalid tar header")
        self._remaining = size
        self._padding = -size % BLOCK

    def _skip(self) -> None:
        left = self._remaining + self._padding
        self._remaining = self._padding = 0
        while left:
            if not self._padded and left < BLOCK and not self._more():
                return
            left -= len(self._some(min(left, _BUFFER)))

    def _block(self) -> bytes | None:
        """The next header; None at the end: two zero blocks, or one, or the end of the stream between entries."""
        block = self._at_most(BLOCK)
        if not block:
            return None
        if len(block) < BLOCK:
            raise BadArchive("unexpected EOF")
        if block != _ZERO_BLOCK:
            return block
        second = self._at_most(BLOCK)
        if second and second != _ZERO_BLOCK[: len(second)]:
            raise BadArchive("archive/tar: invalid tar header")
        return None

    def _drain(self) -> None:
        """Read what follows the end mark, so that whoever hashes the stream has seen all of it."""
        self._buffer, self._position = b"", 0
        while self._read(_BUFFER):
            pass

    def _some(self, limit: int) -> bytes:
        """Between 1 and `limit` bytes. Raises BadArchive at the end."""
        if self._position == len(self._buffer):
            if limit >= _BUFFER // 2:  # big content goes straight through
                piece = self._read(limit)
                if not piece:
                    raise BadArchive("unexpected EOF")
                return piece
            self._buffer, self._position = self._read(_BUFFER), 0
            if not self._buffer:
                raise BadArchive("unexpected EOF")
        piece = self._buffer[self._position : self._position + limit]
        self._position += len(piece)
        return piece

    def _more(self) -> bool:
        if self._position == len(self._buffer):
            self._buffer, self._position = self._read(_BUFFER), 0
        return bool(self._buffer)

    def _at_most(self, size: int) -> bytes:
        end = self._position + size
        if end <= len(self._buffer):
            piece = self._buffer[self._position : end]
            self._position = end
            return piece
        piece = self._buffer[self._position :]
        while len(piece) < size:
            more = self._read(_BUFFER)
            if not more:
                break
            piece += more
        self._buffer, self._position = piece, min(size, len(piece))
        return piece[:size]

    def _exactly(self, size: int) -> bytes:
        piece = self._at_most(size)
        if len(piece) < size:
            raise BadArchive("unexpected EOF")
        return piece


def _check(block: bytes, checksum: bytes) -> None:
    """The header's sum with the checksum itself as spaces; old writers summed signed bytes."""
    expected = _number(checksum)
    if sum(block) - sum(checksum) + 256 == expected:
        return
    signed = sum(struct.unpack("512b", block)) - sum(struct.unpack("8b", checksum)) + 256
    if signed != expected:
        raise BadArchive("archive/tar: invalid tar header")


def _number(raw: bytes) -> int:
    """Octal digits, or base 256 in two's complement when the first bit is set (GNU)."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big") & ((1 << (8 * len(raw) - 1)) - 1)
        if raw[0] & 0x40:
            value -= 1 << (8 * len(raw) - 1)
        return value
    digits = raw.strip(b" \0")
    if not digits:
        return 0
    try:
        return int(digits.split(b"\0", 1)[0], 8)
    except ValueError:
        raise BadArchive("archive/tar: invalid tar header") from None


def _decimal(raw: bytes) -> int:
    if not raw.isdigit() or len(raw) > 19:
        raise BadArchive("archive/tar: invalid tar header")
    return int(raw)


def _seconds_ns(raw: bytes) -> int:
    """A PAX time: decimal seconds with any number of fractional digits, perhaps negative."""
    whole, _, fraction = raw.partition(b".")
    try:
        nanoseconds = int(fraction[:9].ljust(9, b"0")) if fraction else 0
        if fraction and not fraction.isdigit():
            raise ValueError
        return int(whole) * 1_000_000_000 + (-nanoseconds if whole.startswith(b"-") else nanoseconds)
    except ValueError:
        raise BadArchive("archive/tar: invalid tar header") from None


def _pax(data: bytes) -> dict[bytes, bytes]:
    """PAX records: "LENGTH KEY=VALUE\\n", the length counting itself."""
    records: dict[bytes, bytes] = {}
    sparse_map: list[bytes] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 12)
        digits = data[position:space] if space > 0 else b""
        if not digits.isdigit():
            raise BadArchive("archive/tar: invalid tar header")
        end = position + int(digits)
        record = data[space + 1 : end]
        if end > len(data) or not record.endswith(b"\n") or b"=" not in record:
            raise BadArchive("archive/tar: invalid tar header")
        key, _, value = record[:-1].partition(b"=")
        if b"\0" in key or (b"\0" in value and key in _PAX_TEXTS):
            raise BadArchive("archive/tar: invalid tar header")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):  # format 0.0 repeats its keys
            sparse_map.append(value)
        else:
            records[key] = value
        position = end
    if sparse_map:
        records[b"GNU.sparse.map"] = b",".join(sparse_map)
    return records


def _apply(entry: Entry, records: dict[bytes, bytes], size: int) -> tuple[int, dict[bytes, bytes]]:
    """Overlay PAX records on the header's values; returns the stored size and what is said about sparseness.

    An empty value takes a record back (POSIX).
    """
    sparse: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key.startswith(_XATTR_PREFIX):
            entry.xattrs[key[len(_XATTR_PREFIX) :]] = value
        elif key.startswith(_XATTR_PREFIX_BASE64):
            try:
                entry.xattrs.setdefault(
                    key[len(_XATTR_PREFIX_BASE64) :], base64.b64decode(value + b"=" * (-len(value) % 4))
                )
            except binascii.Error:
                raise BadArchive("archive/tar: invalid tar header") from None
        elif key.startswith(b"GNU.sparse."):
            sparse[key[len(b"GNU.sparse.") :]] = value
        elif not value:
            continue
        elif (apply := _PAX_FIELDS.get(key)) is not None:
            apply(entry, value)
        elif key == b"size":
            size = _decimal(value)
    is_sparse = sparse.keys() & {b"major", b"map"}
    return size, sparse if is_sparse else {}


def _set_name(entry: Entry, value: bytes) -> None:
    entry.name = value


def _set_link(entry: Entry, value: bytes) -> None:
    entry.link = value


def _set_uid(entry: Entry, value: bytes) -> None:
    entry.uid = _decimal(value)


def _set_gid(entry: Entry, value: bytes) -> None:
    entry.gid = _decimal(value)


def _set_mtime(entry: Entry, value: bytes) -> None:
    entry.mtime_ns = _seconds_ns(value)


_PAX_FIELDS: dict[bytes, Callable[[Entry, bytes], None]] = {
    b"path": _set_name,
    b"linkpath": _set_link,
    b"uid": _set_uid,
    b"gid": _set_gid,
    b"mtime": _set_mtime,
}


def _sparse_pairs(block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    pairs = []
    for position in range(start, start + 24 * count, 24):
        if block[position] == 0:
            break
        pairs.append((_number(block[position : position + 12]), _number(block[position + 12 : position + 24])))
    return pairs


def _checked_extents(extents: list[tuple[int, int]], size: int, stored: int) -> list[tuple[int, int]]:
    """In order, without overlap, inside the file, and together exactly what is stored."""
    end = 0
    for offset, length in extents:
        if offset < end or length < 0 or offset + length > size:
            raise BadArchive("archive/tar: invalid tar header")
        end = offset + length
    if sum(length for _, length in extents) != stored:
        raise BadArchive("archive/tar: invalid tar header")
    return extents


def is_header(head: bytes) -> bool:
    """Whether an archive with these first bytes begins with a member in one of the formats with a magic."""
    return len(head) >= BLOCK and head[257:262] == b"ustar"


def _show(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
