"""Volumes: named directories that outlive containers. The local driver is the only one."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct, field

from wherry.engine.volume_mounts import VolumeMounts, has_device, unmount_below
from wherry.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from wherry.model.events import Event
from wherry.model.failpoints import failpoint
from wherry.model.filters import Filters
from wherry.storage.database import Database
from wherry.storage.trees import copy_attributes, copy_tree
from wherry.storage.usage import disk_usage

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_OPTIONS = ("type", "o", "device", "size")  # what Docker's local driver knows
_NEEDS = {"type": ("device",), "device": ("type",), "o": ("device", "type")}
LIST_FILTERS = frozenset(("dangling", "name", "driver", "label"))
PRUNE_FILTERS = frozenset(("label", "label!", "all"))


class Volume(Struct, kw_only=True):
    """A volume's record."""

    name: str
    mountpoint: str
    created_at: int  # ns since the epoch
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    anonymous: bool = False
    driver: str = field(default="local")


@dataclass(frozen=True)
class Pruned:
    names: list[str]
    reclaimed: int  # bytes


class Volumes:
    """Records and directories `ROOT/NAME/_data`. `in_use` answers with the IDs of the containers that use a name."""

    def __init__(
        self,
        database: Database,
        root: Path,
        emit: Callable[[Event], None],
        in_use: Callable[[str], Sequence[str]],
    ) -> None:
        self._database = database
        self._root = root
        self._emit = emit
        self._in_use = in_use
        self._volumes: dict[str, Volume] = {}
        self._mounts = VolumeMounts()
        self._leaving: dict[str, asyncio.Event] = {}  # names whose directories are about to be free
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        for (record,) in database.connection.execute("SELECT record FROM volumes"):
            volume = msgspec.json.decode(record, type=Volume)
            self._volumes[volume.name] = volume

    async def recover(self) -> None:
        """At start: directories that no record owns go, a directory that is missing comes back, empty."""
        await asyncio.to_thread(self._recover)

    def _recover(self) -> None:
        for name in set(os.listdir(self._root)) - self._volumes.keys():
            unmount_below(self._root / name)
            _remove_tree(self._root / name)
        for volume in self._volumes.values():
            data = Path(volume.mountpoint)
            data.mkdir(mode=0o755, parents=True, exist_ok=True)
            if has_device(volume):
                continue
            _remove_tree(_making(volume))
            if _ready(volume).exists():
                _move_in(_ready(volume), data)

    def hold(self, name: str, container_id: str) -> None:
        """Mount a volume's device, if it has one, until the container releases it. Blocking.

        Raises NotFound, SystemFailure in Docker's words.
        """
        self._mounts.hold(self.get(name), container_id)

    def holds(self, container_id: str) -> bool:
        """Whether the container has the device of a volume mounted."""
        return self._mounts.holds(container_id)

    def release(self, container_id: str) -> None:
        """Unmount what only this container held. Blocking, idempotent."""
        self._mounts.release(container_id)

    def adopt(self, holders: Mapping[str, Collection[str]]) -> None:
        """At start: which containers run with which volumes; other devices are unmounted. Blocking."""
        self._mounts.adopt(self._root, dict(self._volumes), holders)

    async def create(
        self,
        name: str | None,
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        anonymous: bool = False,
    ) -> Volume:
        """A new volume, or the one of that name. None or "" makes an anonymous one.

        Raises InvalidParameter (name, options), NotFound (driver), NotSupported (options).
        """
        if not name:
            name, anonymous = secrets.token_hex(32), True
        while (leaving := self._leaving.get(name)) is not None:
            await leaving.wait()
        if (known := self._volumes.get(name)) is not None:
            if driver not in ("", "local"):
                raise _no_driver(name, driver)
            return known
        if driver not in ("", "local"):
            raise _no_driver(name, driver)
        _check_name(name)
        _check_options(name, options or {})
        shown = dict(labels) if labels is not None else None
        if anonymous:
            shown = {**(shown or {}), ANONYMOUS_LABEL: ""}
        volume = Volume(
            name=name,
            mountpoint=str(self._root / name / "_data"),
            created_at=time.time_ns(),
            labels=shown,
            options=dict(options) if options else None,
            anonymous=anonymous,
        )
        _make_directories(volume)
        failpoint("volumes.create.made")
        try:
            with self._database.transaction() as connection:
                record = msgspec.json.encode(volume)
                connection.execute("INSERT INTO volumes (name, record) VALUES (?, ?)", (name, record))
                self._event("create", name)
        except SystemFailure:
            await asyncio.to_thread(_remove_tree, self._root / name)
            raise
        self._volumes[name] = volume
        failpoint("volumes.create.recorded")
        return volume

    def get(self, name: str) -> Volume:
        """Raises NotFound ("get x: no such volume")."""
        volume = self._volumes.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def select(self, filters: Filters) -> list[Volume]:
        """In order of their names. Raises InvalidParameter."""
        filters.validate(LIST_FILTERS)
        dangling = filters.boolean("dangling", False) if "dangling" in filters else None
        return [
            volume
            for name, volume in sorted(self._volumes.items())
            if filters.pattern("name", name)
            and filters.exact("driver", volume.driver)
            and filters.labels("label", volume.labels or {})
            and (dangling is None or (not self._in_use(name)) == dangling)
        ]

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume and its content. `force` makes a missing one no error. Raises NotFound, Conflict."""
        volume = self._volumes.get(name)
        if volume is None:
            if force:
                return
            raise NotFound(f"get {name}: no such volume")
        if users := self._in_use(name):
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        await self._remove(volume)

    async def prune(self, filters: Filters) -> Pruned:
        """Remove unused anonymous volumes, with `all` named ones too, but none with options: as Docker does.

        Raises InvalidParameter.
        """
        filters.validate(PRUNE_FILTERS)
        everything = _all_filter(filters)
        names: list[str] = []
        reclaimed = 0
        for volume in list(self._volumes.values()):
            labels = volume.labels or {}
            if volume.name not in self._volumes or self._in_use(volume.name) or volume.options:
                continue
            if not everything and ANONYMOUS_LABEL not in labels:
                continue
            if not filters.labels("label", labels) or ("label!" in filters and filters.labels("label!", labels)):
                continue
            reclaimed += await asyncio.to_thread(disk_usage, volume.mountpoint)
            if not self._in_use(volume.name):
                await self._remove(volume)
                names.append(volume.name)
        self._emit(
            Event(
                time_ns=time.time_ns(), type="volume", action="prune", id="", attributes={"reclaimed": str(reclaimed)}
            )
        )
        return Pruned(names, reclaimed)

    def size(self, volume: Volume) -> int:
        """Bytes on disk of its files. Blocking."""
        return disk_usage(volume.mountpoint)

    def users(self, name: str) -> int:
        """How many containers have it."""
        return len(self._in_use(name))

    def seed(self, volume: Volume, source: Path) -> None:
        """Fill an empty volume with what the image has at the mount's destination: owners, modes, xattrs, links.

        Does nothing for a volume that holds anything. `source` is a directory that nobody changes meanwhile and whose
        path is resolved already. After a crash the volume is empty or, once `recover` has run, complete; the
        directory itself stays the same one, since other containers may have it mounted. Blocking.
        """
        target = Path(volume.mountpoint)
        making, ready = _making(volume), _ready(volume)
        if not source.is_dir() or {*os.listdir(target)} - {making.name, ready.name}:
            return
        _remove_tree(making)
        try:
            making.mkdir(mode=0o700)
            copy_tree(source, making / "content")
            (making / "attributes").mkdir()  # of the top, which moving its content out would change
            copy_attributes(str(making / "content"), str(making / "attributes"))
            failpoint("volumes.seed.copied")
            os.rename(making, ready)
            failpoint("volumes.seed.ready")
            _move_in(ready, target)
        finally:
            _remove_tree(making)

    async def _remove(self, volume: Volume) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM volumes WHERE name = ?", (volume.name,))
            self._event("destroy", volume.name)
        del self._volumes[volume.name]
        failpoint("volumes.remove.recorded")
        leaving = self._root / f".{volume.name}.{secrets.token_hex(4)}"
        free = self._leaving[volume.name] = asyncio.Event()
        try:
            await asyncio.to_thread(self._mounts.drop, volume)  # its directory holds nothing of the device's now
            os.rename(self._root / volume.name, leaving)
        finally:
            del self._leaving[volume.name]
            free.set()
        await asyncio.to_thread(_remove_tree, leaving)

    def _event(self, action: str, name: str) -> None:
        self._emit(Event(time_ns=time.time_ns(), type="volume", action=action, id=name, attributes={"driver": "local"}))


def _making(volume: Volume) -> Path:
    """Where the seed is copied to, on the file system of the volume."""
    if has_device(volume):
        return Path(volume.mountpoint) / ".wherry-seeding"
    return Path(volume.mountpoint).with_name("seeding")


def _ready(volume: Volume) -> Path:
    """Where a complete seed waits to be moved in."""
    if has_device(volume):
        return Path(volume.mountpoint) / ".wherry-seed"
    return Path(volume.mountpoint).with_name("seed")


def _move_in(ready: Path, target: Path) -> None:
    for name in os.listdir(ready / "content"):
        place = target / name
        if not os.path.lexists(place):
            os.rename(ready / "content" / name, place)
            failpoint("volumes.seed.moved-one")
    copy_attributes(str(ready / "attributes"), str(target))
    _remove_tree(ready)


def _make_directories(volume: Volume) -> None:
    data = Path(volume.mountpoint)
    data.parent.mkdir(mode=0o700)
    data.mkdir(mode=0o700)
    os.chmod(data, 0o755)
    os.chmod(data.parent, 0o701)


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def _no_driver(name: str, driver: str) -> NotFound:
    return NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')


def _check_name(name: str) -> None:
    if len(name) == 1:
        raise InvalidParameter(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only'
            ' "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    if len(name) > 255:
        raise InvalidParameter(f"create {name}: the volume name is longer than the 255 characters of a file name")


def _check_options(name: str, options: Mapping[str, str]) -> None:
    for option in options:
        if option not in _OPTIONS:
            raise InvalidParameter(f'create {name}: invalid option: "{option}"')
    for option in options:
        for needed in _NEEDS.get(option, ()):
            if needed not in options:
                raise InvalidParameter(f'create {name}: missing required option: "{needed}"')
    if "size" in options:
        raise InvalidParameter(f"create {name}: quota size requested but no quota support")


def _all_filter(filters: Filters) -> bool:
    values = filters.get("all")
    if len(values) > 1:
        raise InvalidParameter("invalid filter 'all': only one value is expected")
    if not values:
        return False
    if values[0] in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if values[0] in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise InvalidParameter(f"invalid filter 'all': strconv.ParseBool: parsing \"{values[0]}\": invalid syntax")
