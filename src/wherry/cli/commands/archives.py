"""`load`, `save` and `import`: images as tar files."""

from __future__ import annotations

import os
import stat
import sys

from wherry.cli.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from wherry.cli.context import Context

PIECE = 1 << 20


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise Failure(f"open {path}: {(error.strerror or '').lower()}") from None


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while data := os.read(file.fileno(), PIECE):
        yield data


def load(context: Context) -> int:
    from wherry.cli.progress import show

    flags = context.flags
    source = flags.text("input")
    if not source and sys.stdin.isatty():
        raise Failure("requested load from stdin, but stdin is empty")
    file = _open(source) if source else sys.stdin.buffer
    quiet = flags.on("quiet") or not sys.stdout.isatty()
    query = {"quiet": quiet, "platform": _platform(context)}
    headers = {"Content-Type": "application/x-tar"}
    response = context.engine.open("POST", "/images/load", query, body=_pieces(file), headers=headers)
    if "json" in response.headers.get("content-type", ""):
        show(response, sys.stdout)
    else:
        sys.stdout.write(response.read().decode("utf-8", "replace"))
    return 0


def _platform(context: Context) -> str | None:
    """The JSON form of --platform os/arch/variant, None where none was asked for."""
    text = context.flags.text("platform")
    if not text:
        return None
    context.needs("platform", 48)
    return platform_json(text)


def platform_json(text: str) -> str:
    """os/arch/variant as the API takes it."""
    from wherry.model.jsontext import dumps

    system, _, rest = text.partition("/")
    architecture, _, variant = rest.partition("/")
    parts = {"os": system, "architecture": architecture, "variant": variant}
    return dumps({key: value for key, value in parts.items() if value}, sort=False)


def save(context: Context) -> int:
    flags = context.flags
    target = flags.text("output")
    if not target and sys.stdout.isatty():
        raise Failure("failed to save image: cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if target:
        check_target(target, "failed to save image")
    query = {"names": context.arguments, "platform": _platform(context)}
    response = context.engine.open("GET", "/images/get", query)
    keep(response.pieces(), target)
    return 0


def keep(pieces: Iterable[bytes], target: str, mode: int = 0o600) -> None:
    """Write an answer to a file, which is there whole or not at all; to standard output where none is named.

    What is there and is no regular file (a device, a pipe) is written to and stays what it is.
    """
    if not target:
        from wherry.cli.pump import write

        for data in pieces:
            write(1, data)
        return
    if os.path.exists(target) and not os.path.isfile(target):
        with open(target, "wb") as file:
            file.writelines(pieces)
        return
    half = f"{target}.{os.getpid()}.part"
    try:
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            for data in pieces:
                file.write(data)
        os.replace(half, target)
    finally:
        if os.path.exists(half):
            os.unlink(half)


_NO_TARGETS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link directly",
    stat.S_IFCHR: "a character device file",
    stat.S_IFBLK: "a block device file",
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
}


def check_target(target: str, doing: str) -> None:
    """Before `keep`, which would put its file in the place of whatever is there. Raises Failure in Docker's words."""
    folder = os.path.dirname(target)
    if folder and not os.path.isdir(folder):
        raise Failure(f"{doing}: invalid output path: stat {folder}: no such file or directory")
    kind = stat.S_IFMT(os.lstat(target).st_mode) if os.path.lexists(target) else stat.S_IFREG
    if kind != stat.S_IFREG:
        raise Failure(f"{doing}: cannot write to {_NO_TARGETS[kind]}")


def import_image(context: Context) -> int:
    from wherry.cli.progress import show

    flags = context.flags
    source, *rest = context.arguments
    name = rest[0] if rest else ""
    body: Iterator[bytes] | bytes = b""
    origin = "-"
    if source == "-":
        body = _pieces(sys.stdin.buffer)
    elif source.startswith(("http://", "https://")):
        origin = source
    else:
        body = _pieces(_open(source))
    if name:
        from wherry.cli.imagenames import check

        check(name)
    query = {
        "fromSrc": origin,
        "repo": name or None,
        "message": flags.text("message") or None,
        "changes": flags.items("change"),
        "platform": flags.text("platform") or None,
    }
    headers = {"Content-Type": "text/plain"}
    response = context.engine.open("POST", "/images/create", query, body=body, headers=headers)
    show(response, sys.stdout)
    return 0
