"""`RUN --mount` (Dockerfile reference, "RUN --mount"): fields, defaults, what goes with what."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from msgspec import Struct

from wherry.model.dockerfile.source import DockerfileError, suggesting
from wherry.model.gotext import quote
from wherry.model.sizes import ram_in_bytes

KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")
_FIELDS = (
    "type from source target readonly id sharing required mode uid gid src dst destination ro rw readwrite size env"
).split()
_VARIABLE = re.compile(r"\$.")
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class RunMount(Struct):
    """One mount as asked for. `env` None: not given; mode, uid and gid likewise. `size` in bytes, 0 for no limit."""

    kind: str = "bind"
    source_from: str = ""
    source: str = ""
    target: str = ""
    readonly: bool = False
    id: str = ""
    sharing: str = ""
    required: bool = False
    size: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None


def check_unexpanded(text: str) -> str:
    """What can be said before variables are known: the value of `from`, "" if none. Raises DockerfileError."""
    found = ""
    for field in csv_fields(text):
        key, _, value = field.partition("=")
        if key.lower() == "from":
            if _VARIABLE.search(value):
                raise DockerfileError("'from' doesn't support variable expansion, define alias stage instead")
            found = value
    return found


def kind_of(text: str) -> str:
    """The mount's type as far as it is known before variables are."""
    kinds = [value for key, _, value in (field.partition("=") for field in csv_fields(text)) if key.lower() == "type"]
    return kinds[-1].lower() if kinds else "bind"


def parse_mount(text: str, expand: Callable[[str], str]) -> RunMount:
    """`type=cache,target=/x`, values passed through `expand`. Raises DockerfileError."""
    mount = RunMount()
    readonly: bool | None = None
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals:
            match key:
                case "readonly" | "ro":
                    readonly = True
                case "readwrite" | "rw":
                    readonly = False
                case "required" if mount.kind in ("secret", "ssh"):
                    mount.required = True
                case "required":
                    raise DockerfileError(f"unexpected key '{key}' for mount type '{mount.kind}'")
                case _:
                    raise DockerfileError(f"invalid field '{field}' must be a key=value pair")
            continue
        value = expand(value)
        match key:
            case "type":
                mount.kind = value.lower()
                if mount.kind not in KINDS:
                    raise DockerfileError(suggesting(f"unsupported mount type {quote(value)}", value, KINDS))
            case "from":
                mount.source_from = value
            case "source" | "src":
                mount.source = value
            case "target" | "dst" | "destination":
                mount.target = value
            case "readonly" | "ro":
                readonly = _bool(key, value)
            case "readwrite" | "rw":
                readonly = not _bool(key, value)
            case "required" if mount.kind in ("secret", "ssh"):
                mount.required = _bool(key, value)
            case "size" if mount.kind == "tmpfs":
                mount.size = _size(key, value)
            case "required" | "size":
                raise DockerfileError(f"unexpected key '{key}' for mount type '{mount.kind}'")
            case "id":
                mount.id = value
            case "sharing":
                mount.sharing = value.lower()
                if mount.sharing not in SHARING:
                    raise DockerfileError(suggesting(f"unsupported sharing value {quote(value)}", value, SHARING))
            case "mode":
                mount.mode = _number(key, value, 8)
            case "uid":
                mount.uid = _number(key, value, 10)
            case "gid":
                mount.gid = _number(key, value, 10)
            case "env":
                mount.env = value
            case _:
                raise DockerfileError(suggesting(f"unexpected key '{key}' in '{field}'", key, _FIELDS))
    _check(mount)
    mount.readonly = readonly if readonly is not None else mount.kind not in ("cache", "tmpfs")
    return mount


def _check(mount: RunMount) -> None:
    if mount.kind not in ("secret", "ssh", "cache"):
        for name, value in (("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)):
            if value is not None:
                raise DockerfileError(f"{name} not allowed for {quote(mount.kind)} type mounts")
    if mount.env is not None and mount.kind != "secret":
        raise DockerfileError(f"unexpected key 'env' for mount type '{mount.kind}'")
    if mount.kind == "secret":
        if mount.source_from:
            raise DockerfileError("secret mount should not have a from")
        if mount.sharing:
            raise DockerfileError("secret mount should not define sharing")
        if not mount.source and not mount.target and not mount.id and not mount.env:
            raise DockerfileError("invalid secret mount. one of source, target required")
        if mount.source and mount.id:
            raise DockerfileError("both source and id can't be set")
    if mount.kind == "tmpfs" and mount.source:
        raise DockerfileError("unexpected key 'source' for mount type 'tmpfs'")
    if mount.sharing and mount.kind != "cache":
        raise DockerfileError(f"invalid cache sharing set for {mount.kind} mount")


def _bool(key: str, value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise DockerfileError(f"invalid value for {key}: {value}")


def _size(key: str, value: str) -> int:
    try:
        return ram_in_bytes(value)
    except ValueError:
        raise DockerfileError(f"invalid value for {key}: {value}") from None


def _number(key: str, value: str, base: int) -> int:
    digits = "01234567" if base == 8 else "0123456789"
    if value and all(character in digits for character in value) and len(value) <= 32:
        number = int(value, base)
        if number < 1 << 32:
            return number
    raise DockerfileError(f"invalid value {value} for {key}")


def csv_fields(text: str) -> list[str]:
    """One record of comma-separated values (RFC 4180), as strict as Go's reader. Raises DockerfileError."""
    if not text:
        raise DockerfileError("failed to parse csv mounts: EOF")
    return list(_csv_fields(text.split("\n")[0].rstrip("\r")))


def _csv_fields(text: str) -> Iterator[str]:
    position = 0
    while True:
        if not text.startswith('"', position):
            end = text.find(",", position)
            field = text[position:] if end < 0 else text[position:end]
            if '"' in field:
                column = position + field.index('"') + 1
                raise DockerfileError(
                    f'failed to parse csv mounts: parse error on line 1, column {column}: bare " in non-quoted field'
                )
            yield field
            if end < 0:
                return
            position = end + 1
            continue
        parts: list[str] = []
        position += 1
        while True:
            end = text.find('"', position)
            if end < 0:
                raise DockerfileError(
                    "failed to parse csv mounts: parse error on line 1, "
                    f'column {len(text) + 1}: extraneous or missing " in quoted-field'
                )
            parts.append(text[position:end])
            position = end + 1
            if not text.startswith('"', position):
                break
            parts.append('"')
            position += 1
        yield "".join(parts)
        if position >= len(text):
            return
        if text[position] != ",":
            raise DockerfileError(
                f"failed to parse csv mounts: parse error on line 1, column {position}: "
                'extraneous or missing " in quoted-field'
            )
        position += 1
