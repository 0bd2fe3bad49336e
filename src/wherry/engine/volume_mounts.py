"""Volumes with a device: mounted when the first container that uses one starts, unmounted when the last has ended.

There is one mount a volume, at its data directory, whoever uses it. Nothing of this is recorded: after a death of the
daemon the mount table and the containers that run are the facts.

    mounts.hold(volume, container_id)      # mounts it, unless it is mounted for another
    ...
    mounts.release(container_id)           # unmounts what nobody else holds
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from wherry.errors import SystemFailure
from wherry.linux import mount_options, mounts
from wherry.model.failpoints import failpoint


class Mountable(Protocol):
    """A volume, as far as it is mounted."""

    @property
    def name(self) -> str: ...
    @property
    def mountpoint(self) -> str: ...
    @property
    def options(self) -> dict[str, str] | None: ...


def has_device(volume: Mountable) -> bool:
    """Whether something is mounted for this volume, rather than its directory being all there is."""
    options = volume.options or {}
    return bool(options.get("device") or options.get("type"))


class VolumeMounts:
    """Who holds what. All methods block: a mount over the network may take its time, and holds up its volume alone."""

    def __init__(self) -> None:
        self._holders: dict[str, set[str]] = {}  # volume name -> container IDs
        self._targets: dict[str, Path] = {}  # of the mounted ones
        self._locks: dict[str, threading.Lock] = {}

    def _lock(self, name: str) -> threading.Lock:
        return self._locks.setdefault(name, threading.Lock())

    def hold(self, volume: Mountable, holder: str) -> None:
        """Raises SystemFailure in Docker's words; the holder holds nothing new then."""
        if not has_device(volume):
            return
        with self._lock(volume.name):
            holders = self._holders.setdefault(volume.name, set())
            if not holders:
                self._mount(volume)
            holders.add(holder)

    def _mount(self, volume: Mountable) -> None:
        options, target = volume.options or {}, Path(volume.mountpoint)
        unmount_below(target)  # of a run whose end was not seen
        try:
            if not options.get("device"):
                raise SystemFailure("missing device in volume options")
            plan = mount_options.parse(options["device"], options.get("type", ""), options.get("o", ""))
            mount_options.mount_device(plan, target)
        except SystemFailure as error:
            raise SystemFailure(f"error while mounting volume '{target}': {error}") from None
        self._targets[volume.name] = target
        failpoint("volumes.mounted")

    def holds(self, holder: str) -> bool:
        """Whether it holds anything. Does not block."""
        return any(holder in holders for holders in list(self._holders.values()))

    def release(self, holder: str) -> None:
        """The container holds no volume any more; idempotent."""
        for name in [name for name, holders in list(self._holders.items()) if holder in holders]:
            with self._lock(name):
                holders = self._holders[name]
                holders.discard(holder)
                if not holders:
                    self._unmount(name)

    def _unmount(self, name: str) -> None:
        target = self._targets.pop(name, None)
        if target is not None:
            unmount_below(target)
            failpoint("volumes.unmounted")

    def drop(self, volume: Mountable) -> None:
        """Before its directory is removed: nothing is mounted there. Raises SystemFailure where something stays."""
        with self._lock(volume.name):
            self._holders.pop(volume.name, None)
            self._unmount(volume.name)
            unmount_below(Path(volume.mountpoint).parent)
        self._locks.pop(volume.name, None)

    def adopt(self, root: Path, volumes: Mapping[str, Mountable], holders: Mapping[str, Collection[str]]) -> None:
        """At start: `holders` are the containers that run, by volume. What none of them holds is unmounted."""
        mounted = {str(point) for point in mounts.mounted_below(root.resolve())}
        for name, volume in volumes.items():
            held = set(holders.get(name, ()))
            target = Path(volume.mountpoint)
            if not has_device(volume) or str(target.resolve()) not in mounted:
                continue
            if held:
                self._holders[name] = held
                self._targets[name] = target
            else:
                unmount_below(target)


def unmount_below(path: Path) -> None:
    """Unmount all at and under a directory. Raises SystemFailure where something stays."""
    place = path.resolve()
    for _ in range(2):
        found = mounts.mounted_below(place)
        for point in found:
            mounts.unmount(point)
        if not found:
            return
    if left := mounts.mounted_below(place):
        raise SystemFailure(f"{left[0]} is still mounted")
