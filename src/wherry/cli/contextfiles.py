"""A context as a file that goes elsewhere: a tar or zip with meta.json and tls/docker/*.pem, as Docker writes it."""

from __future__ import annotations

import io
import tarfile
import zipfile

from wherry.cli.contexts import FILES, StoredContext
from wherry.cli.errors import Failure
from wherry.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SIZE = 10 << 20  # bytes of the file, and of each in it


def pack(context: StoredContext) -> bytes:
    """A tar with private modes and no times."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        document = jsontext.dumps(context.document, sort=False).encode("utf-8", "surrogateescape")
        _add(archive, "meta.json", 0o644, document)
        _add(archive, "tls", 0o700)
        if context.tls:
            _add(archive, "tls/docker", 0o700)
        for name, data in sorted(context.tls.items()):
            _add(archive, f"tls/docker/{name}", 0o600, data)
    return target.getvalue()


def _add(archive: tarfile.TarFile, name: str, mode: int, data: bytes | None = None) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    if data is None:
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    else:
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))


def unpack(name: str, data: bytes) -> StoredContext:
    """The context of an exported file, under a new name. Raises Failure for anything but such a file."""
    if len(data) > MAX_SIZE:
        raise Failure(f"the file is larger than {MAX_SIZE} bytes: it is no exported context")
    document = None
    tls = {}
    try:
        for path, content in _entries(data):
            if path == "meta.json":
                document = jsontext.loads(content)
            elif path.startswith("tls/docker/") and path.removeprefix("tls/docker/") in FILES:
                tls[path.removeprefix("tls/docker/")] = content
            else:
                raise Failure(f"unexpected file in the exported context: {path}")
    except (tarfile.TarError, zipfile.BadZipFile, ValueError, EOFError, RuntimeError) as error:
        raise Failure(f"not an exported context: {error}") from None
    if not isinstance(document, dict):
        raise Failure("invalid context: no metadata found")
    return StoredContext(name, {**document, "Name": name}, tls)


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as zipped:
            for member in zipped.infolist():
                if not member.is_dir():
                    yield member.filename, _bounded(member.file_size, lambda member=member: zipped.read(member))
        return
    padded = data + bytes(-len(data) % tarfile.BLOCKSIZE)  # docker leaves the padding of the last file out
    with tarfile.open(fileobj=io.BytesIO(padded)) as archive:
        for entry in archive:
            if entry.isfile():
                content = archive.extractfile(entry)
                assert content is not None
                yield entry.name, _bounded(entry.size, content.read)
            elif not entry.isdir():
                raise Failure(f"unexpected kind of file in the exported context: {entry.name}")


def _bounded(size: int, read):  # type: ignore[no-untyped-def]
    if size > MAX_SIZE:
        raise Failure(f"a file in the exported context is larger than {MAX_SIZE} bytes")
    return read()
