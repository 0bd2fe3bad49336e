"""`--output`: what shall come out of a build, and who takes it here."""

from __future__ import annotations

import os
import re
import sys

from wherry.cli.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wherry.model.build_session import Output

    Taker = Callable[[Iterator[bytes]], None]

_TYPES = ("image", "registry", "docker", "oci", "tar", "local")
_ONE_WAY = {
    "registry.insecure": ("false", "name the registry in the engine's insecure-registries"),
    "unpack": ("true", "an image is always unpacked"),
    "store": ("true", "an image is always kept: type=oci writes one that is not"),
    "name-canonical": ("false", "an image is found by its digest without a name for it"),
    "oci-artifact": ("false", "what is attested is stored as BuildKit does without it"),
    "dangling-name-prefix": ("", "give the image a name"),
    "context": ("", "the engine that builds is the one that keeps the image"),
}
"""Options that there is one way of doing: the value that says so, and why there is no other."""


def read_outputs(given: list[str]) -> tuple[dict[int, Taker], list[Output]]:
    """What takes each output here, by number, and the outputs as the order names them. Raises Failure."""
    takers: dict[int, Taker] = {}
    asked: list[Output] = []
    for text in given:
        fields = (
            fields_of(text, "--output") if "=" in text else {"type": "tar" if text == "-" else "local", "dest": text}
        )
        kind = fields.pop("type", "")
        if kind not in _TYPES:
            raise Failure(f"--output {text}: unknown type {kind or 'of output'}: {', '.join(_TYPES)}")
        destination = fields.pop("dest", "")
        whole = _on(fields.pop("tar", "true"), f"--output {text}: tar")
        output = _output(text, kind, fields)
        if kind in ("image", "registry") and (destination or not whole):
            raise Failure(f"--output {text}: what {kind} makes is no file: type=oci or docker writes one")
        if kind not in ("image", "registry") and (destination or kind != "docker"):
            if not whole and kind not in ("oci", "docker"):
                raise Failure(f"--output {text}: tar=false is of oci and docker")
            takers[len(asked)] = _taker(text, kind, destination, whole=whole)
        elif not whole:
            raise Failure(f"--output {text}: tar=false needs dest")
        else:
            output.type = "image"
        asked.append(output)
    return takers, asked


def _output(text: str, kind: str, fields: dict[str, str]) -> Output:
    """Takes all fields. Raises Failure for those that nothing can come of."""
    from wherry.model.build_session import Output

    for name, (only, why) in _ONE_WAY.items():
        if name in fields and fields.pop(name).lower() != only:
            raise Failure(f"--output {text}: {name} is not supported: {why}")

    def on(name: str) -> bool | None:
        return _on(fields.pop(name), f"--output {text}: {name}") if name in fields else None

    output = Output({"local": "tar", "registry": "image"}.get(kind, kind), fields.pop("name", ""))
    output.annotations = [_annotation(key, fields.pop(key)) for key in list(fields) if key.startswith("annotation")]
    output.push = bool(on("push")) or kind == "registry"
    output.push_by_digest = bool(on("push-by-digest"))
    output.compression = fields.pop("compression", "")
    output.force_compression = bool(on("force-compression"))
    output.oci_mediatypes = on("oci-mediatypes")
    output.rewrite_timestamp = on("rewrite-timestamp")
    output.platform_split = on("platform-split")
    output.attestation_prefix = fields.pop("attestation-prefix", "")
    level = fields.pop("compression-level", "")
    if level:
        if not (level.isascii() and level.isdigit()):
            raise Failure(f"--output {text}: compression-level={level} is no number")
        output.compression_level = int(level)
    if output.push and output.type != "image":
        raise Failure(f"--output {text}: only type=image can be pushed")
    if fields:
        raise Failure(f"--output {text}: {min(fields)} is not supported by this version")
    return output


def fields_of(text: str, what: str) -> dict[str, str]:
    """`key=value,…` as a dictionary. Raises Failure."""
    from wherry.cli.values import csv_fields

    found = {}
    for field in csv_fields(text):
        key, separator, value = field.partition("=")
        if not separator:
            raise Failure(f"invalid field '{field}' must be a key=value pair: {what} {text}")
        key = key.strip()
        found[key if key.startswith("annotation") else key.lower()] = value
    return found


def _annotation(key: str, value: str) -> str:
    """An output's `annotation[-TYPE][[PLATFORM]].KEY=VALUE` as `--annotation` has it."""
    match = re.fullmatch(r"annotation(?:-([a-z-]+))?(\[[^\]]*\])?\.(.+)", key)
    if match is None:
        raise Failure(f"--output: invalid annotation {key}={value}: it is annotation[-TYPE].KEY=VALUE")
    return f"{match[1] or 'manifest'}{match[2] or ''}:{match[3]}={value}"


def _on(text: str, what: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise Failure(f"{what}: {text} is neither true nor false")
    return text.lower() in ("true", "1")


# what is taken here


def _taker(text: str, kind: str, destination: str, *, whole: bool) -> Taker:
    """Into a file, unless it is a directory's files or no archive as a `whole`."""
    if kind == "local" or not whole:
        if not destination:
            raise Failure(f"--output {text}: dest is required for {kind} output")
        if not whole and os.path.exists(destination) and (not os.path.isdir(destination) or os.listdir(destination)):
            raise Failure(f"--output {text}: {destination} is there already: tar=false writes a new directory")
        return _unpacker(destination)
    if not destination or destination == "-":
        if sys.stdout.isatty():
            raise Failure(f"dest file is required for {kind} exporter. refusing to write to console")
        destination = ""
    folder = os.path.dirname(destination)
    if folder and not os.path.isdir(folder):
        raise Failure(f"--output {text}: open {destination}: no such file or directory")
    return _keeper(destination)


def _keeper(path: str) -> Taker:
    from wherry.cli.commands.archives import keep

    return lambda pieces: keep(pieces, path, 0o666)


def _unpacker(directory: str) -> Taker:
    from wherry.cli.tarball import unpack

    def take(pieces: Iterator[bytes]) -> None:
        os.makedirs(directory, exist_ok=True)
        unpack(_Stream(pieces), directory, lambda name: name)

    return take


class _Stream:
    """Pieces as a file to read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        size = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
