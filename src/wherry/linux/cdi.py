"""Reading what vendors say of their devices: files of the Container Device Interface in /etc/cdi and /var/run/cdi."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from wherry.errors import InvalidParameter, SystemFailure, WherryError
from wherry.model.cdi import DeviceNode, Edits, Found, Spec, check_spec

log = logging.getLogger(__name__)

LARGEST = 16 << 20  # bytes of a file


def read(directories: Iterable[Path]) -> Found:
    """All specifications there are; a file that is none is logged and left out, as the interface wants it. Blocking."""
    return Found(tuple(tuple(_specs(directory)) for directory in directories))


def _specs(directory: Path) -> list[Spec]:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for name in names:
        path = directory / name
        if path.suffix not in (".json", ".yaml", ".yml"):
            continue
        try:
            found.append(_spec(path))
        except (OSError, ValueError, WherryError) as error:
            log.warning("the device specification %s is not used: %s", path, error)
    return found


def _spec(path: Path) -> Spec:
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise InvalidParameter(f"larger than {LARGEST} bytes")
    spec = msgspec.convert(_document(path, data), Spec)
    check_spec(spec)
    return spec


def _document(path: Path, data: bytes) -> Any:
    if path.suffix == ".json":
        return msgspec.json.decode(data)
    import yaml  # rare: not worth its time at each start of the daemon

    try:
        return yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise InvalidParameter(str(error)) from None


def numbered(edits: Sequence[Edits]) -> list[Edits]:
    """The edits with what they leave open about device nodes taken from the host's. Raises SystemFailure."""
    return [
        msgspec.structs.replace(edit, device_nodes=[_numbered(node) for node in edit.device_nodes]) for edit in edits
    ]


def _numbered(node: DeviceNode) -> DeviceNode:
    if node.type == "p" or (node.type and node.major):
        return node
    path = node.host_path or node.path
    try:
        found = os.stat(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SystemFailure(f'CDI device injection failed: failed to stat CDI host device "{path}": {reason}') from None
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b" if stat.S_ISBLK(found.st_mode) else ""
    if not kind or node.type not in ("", kind, "u"):
        raise SystemFailure(f'CDI device injection failed: "{path}" is not a device of type {node.type or "b or c"}')
    return msgspec.structs.replace(
        node, type=kind, major=os.major(found.st_rdev), minor=os.minor(found.st_rdev), **_owner(node, found)
    )


def _owner(node: DeviceNode, found: os.stat_result) -> dict[str, int]:
    """Mode and owner of the host's node, where none are said."""
    return {
        "file_mode": stat.S_IMODE(found.st_mode) if node.file_mode is None else node.file_mode,
        "uid": found.st_uid if node.uid is None else node.uid,
        "gid": found.st_gid if node.gid is None else node.gid,
    }
