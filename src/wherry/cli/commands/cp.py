"""`cp`: files between a container and here, as the rules of cp(1) say, with docker's differences.

A copy is a tar archive that one side packs and the other unpacks; the entry that is copied is renamed on the way where
the destination says so.
"""

from __future__ import annotations

import base64
import os
import stat
import sys

from wherry.cli.errors import Failure
from wherry.client.engine import EngineError
from wherry.model import jsontext
from wherry.model.gotext import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from wherry.cli.context import Context

GO_DIR, GO_LINK, GO_DEVICE, GO_IRREGULAR = 1 << 31, 1 << 27, 1 << 26, 1 << 19
LINKS_MAX = 10


def run(context: Context) -> int:
    source, destination = context.arguments
    if not source:
        raise Failure("source can not be empty")
    if not destination:
        raise Failure("destination can not be empty")
    from_container, source = split_argument(source)
    to_container, destination = split_argument(destination)
    if from_container and to_container:
        raise Failure("copying between containers is not supported")
    if from_container:
        return _copy_out(context, from_container, source, destination)
    if to_container:
        return _copy_in(context, to_container, source, destination)
    raise Failure("must specify at least one container source")


def split_argument(text: str) -> tuple[str, str]:
    """(container, path); no container for a local path: absolute, or "./with:colon", or without a colon."""
    container, colon, path = text.partition(":")
    if text.startswith("/") or not colon or container.startswith("."):
        return "", text
    return container, path


class Progress:
    """Counts, shows on a terminal, and says at the end what was copied."""

    def __init__(self, context: Context, header: str) -> None:
        self.quiet = context.flags.on("quiet") if context.flags.changed("quiet") else not sys.stdout.isatty()
        self._live = not self.quiet and sys.stderr.isatty()
        self._header = header
        self._size = 0
        self._shown = 0

    def count(self, size: int) -> None:
        self._size += size
        if self._live and self._size - self._shown >= 16 << 20:
            self._shown = self._size
            sys.stderr.write(f"\r\x1b[2K{self._header}{self._human()}")
            sys.stderr.flush()

    def _human(self) -> str:
        from wherry.cli.humanize import human_size

        return human_size(self._size, 3)

    def done(self, place: str) -> None:
        if self._live and self._shown:
            sys.stderr.write("\r\x1b[2K")
        if not self.quiet:
            sys.stderr.write(f"Successfully copied {self._human()} to {place}\n")


# out


def _copy_out(context: Context, container: str, source: str, destination: str) -> int:
    if destination != "-":
        destination = _local(destination)
        _check_output(destination)
    url = f"/containers/{escape(container)}/archive"
    name = ""
    if context.flags.on("follow-link"):
        found = _stat(context, url, source)
        if found is not None and found["mode"] & GO_LINK:
            source, name = rebased(source, _joined(source, found["linkTarget"]))
    response = context.engine.open("GET", url, {"path": source})
    if destination == "-":
        from wherry.cli.pump import write

        for data in response.pieces():
            write(1, data)
        return 0
    from wherry.cli.tarball import unpack

    found = _decoded(response.headers.get("x-docker-container-path-stat", ""))
    progress = Progress(context, "Copying from container - ")
    target = _local_target(destination)
    source_base = split_entry(source)[1]
    first = renaming(source_base, name) if name else _same
    directory, second = prepare(source_base, name, bool(found["mode"] & GO_DIR), target)
    try:
        unpack(_Stream(response, progress), directory, lambda entry: second(first(entry)))
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{what}{(error.strerror or str(error)).lower()}") from None
    progress.done(destination)
    return 0


class _Stream:
    """The body of an answer as a file to read from."""

    def __init__(self, response: Any, progress: Progress) -> None:
        self._response = response
        self._progress = progress

    def read(self, size: int) -> bytes:
        pieces, left = [], size
        while left and (data := self._response.piece(left)):
            pieces.append(data)
            left -= len(data)
        self._progress.count(size - left)
        return b"".join(pieces)


# in


def _copy_in(context: Context, container: str, source: str, destination: str) -> int:
    from wherry.cli.tarball import PIECE, pack

    if source != "-":
        source = _local(source)
    url = f"/containers/{escape(container)}/archive"
    given, found = destination, _stat(context, url, destination)
    if found is not None and found["mode"] & GO_LINK:
        destination = _joined(destination, found["linkTarget"])
        found = _stat(context, url, destination)
    mode = found["mode"] if found is not None else 0
    if mode & (GO_DEVICE | GO_IRREGULAR):
        kind = "a device" if mode & GO_DEVICE else "an irregular file"
        raise Failure(f'destination "{container}:{given}" must be a directory or a regular file: got {kind}')
    target = Target(destination, found is not None, bool(mode & GO_DIR))
    progress = Progress(context, "Copying to container - ")
    if source == "-":
        if not target.is_dir:
            raise Failure(f'destination "{container}:{given}" must be a directory')
        progress.quiet = True
        directory = target.path

        def archive() -> Iterator[bytes]:
            while data := os.read(0, PIECE):
                yield data
    else:
        source, name = _local_source(source, context.flags.on("follow-link"))
        folder, base = split_entry(source)
        directory, rename = prepare(base, name, stat.S_ISDIR(_lstat(source).st_mode), target)
        renamed = rename(name or base)

        def archive() -> Iterator[bytes]:
            for piece in pack(folder, base, renamed):
                progress.count(len(piece))
                yield piece

    query = {
        "path": directory,
        "noOverwriteDirNonDir": "true",
        "copyUIDGID": "true" if context.flags.on("archive") else None,
    }
    headers = {"Content-Type": "application/x-tar"}
    context.engine.finish(context.engine.open("PUT", url, query, body=archive(), headers=headers))
    progress.done(f"{container}:{target.path}")
    return 0


# what goes where


class Target:
    """A destination, links followed."""

    def __init__(self, path: str, exists: bool = False, is_dir: bool = False) -> None:
        self.path = path
        self.exists = exists
        self.is_dir = is_dir


def prepare(base: str, name: str, is_dir: bool, target: Target) -> tuple[str, Callable[[str], str]]:
    """The directory to unpack in and what becomes of the archive's names. Raises Failure for what cannot be.

    The archive holds `base`, or `name` where it was renamed already.
    """
    directory, new = split_entry(target.path)
    if target.exists and target.is_dir:
        return target.path, _same
    if target.exists and is_dir:
        raise Failure("cannot copy directory")
    if not target.exists and not is_dir and asserts_directory(target.path):
        raise Failure("no such directory")
    return directory, renaming(name or base, new)


def renaming(old: str, new: str) -> Callable[[str], str]:
    """The entry `old` of an archive becomes `new`."""
    old = "" if old == "/" else old
    return lambda name: name.replace(old, new, 1)


def _same(name: str) -> str:
    return name


def asserts_directory(path: str) -> bool:
    """Whether it can only mean a directory: it ends in a slash or a dot."""
    return path.endswith("/") or path.rpartition("/")[2] == "."


def split_entry(path: str) -> tuple[str, str]:
    """The directory a path is in, and its entry there; "." where the path says so."""
    clean = os.path.normpath(path)
    if path.rpartition("/")[2] == ".":
        return clean, "."
    directory, _, base = clean.rpartition("/")
    return directory or ("/" if clean.startswith("/") else "."), base


def rebased(path: str, resolved: str) -> tuple[str, str]:
    """A resolved path with the slash or dot that the path as written had at its end, and the name to keep, if any."""
    if path.rpartition("/")[2] == "." and resolved.rpartition("/")[2] != ".":
        resolved += "/."
    if path.endswith("/") and not resolved.endswith("/"):
        resolved += "/"
    name = _base(path)
    return resolved, name if name != _base(resolved) else ""


def _base(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or ("/" if path else ".")


def _joined(path: str, link: str) -> str:
    return os.path.normpath(os.path.join(split_entry(path)[0], link))


# this side


def _local(path: str) -> str:
    """Absolute, with the slash or dot at its end."""
    whole = os.path.abspath(path)
    if path.rpartition("/")[2] == ".":
        return whole.rstrip("/") + "/."
    return whole + "/" if path.endswith("/") and whole != "/" else whole


def _lstat(path: str) -> os.stat_result:
    try:
        return os.lstat(path)
    except OSError as error:
        raise Failure(f"lstat {path}: {(error.strerror or '').lower()}") from None


def _resolved(path: str) -> str:
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        raise Failure(f"lstat {error.filename}: {(error.strerror or '').lower()}") from None


def _local_source(path: str, follow: bool) -> tuple[str, str]:
    """The path with links followed, all or only those before its last part; and the name to keep, if another."""
    if follow:
        path, name = rebased(path, _resolved(path))
    else:
        directory, _, base = path.rpartition("/")
        resolved = os.path.join(_resolved(directory or "/"), base)
        name = _base(path) if path.endswith("/") and _base(path) != _base(resolved) else ""
        path = resolved + "/" if path.endswith("/") and not resolved.endswith("/") else resolved
    _lstat(path)
    return path, name


def _local_target(path: str) -> Target:
    original = path
    for _ in range(LINKS_MAX + 1):
        if not os.path.lexists(path):
            parent = split_entry(path)[0]
            if not os.path.isdir(parent):
                raise Failure(
                    "not a directory" if os.path.exists(parent) else f"stat {parent}: no such file or directory"
                )
            return Target(path)
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            return Target(path, True, os.path.isdir(path))
        path = _joined(path, os.readlink(path.rstrip("/")))
    raise Failure(f"too many symlinks in {original}")


def _check_output(path: str) -> None:
    directory = os.path.dirname(os.path.normpath(path))
    if not os.path.exists(directory):
        raise Failure(f'invalid output path: directory "{directory}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        kind = "a device" if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) else "an irregular file"
        raise Failure(f'invalid output path: "{path}" must be a directory or a regular file: got {kind}')


# the other side


def _stat(context: Context, url: str, path: str) -> dict[str, Any] | None:
    """What is there, None for nothing or an engine that cannot tell."""
    try:
        response = context.engine.open("HEAD", url, {"path": path})
    except EngineError:
        return None
    context.engine.finish(response)
    return _decoded(response.headers.get("x-docker-container-path-stat", ""))


def _decoded(header: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = jsontext.loads(base64.b64decode(header))
    except ValueError as error:
        raise Failure(f"unable to decode container path stat header: {error}") from None
    return found
