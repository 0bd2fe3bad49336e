"""Where the files of one container are. Names are fixed, so that a start that died can be undone by the next daemon."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from wherry.model.container import Container
from wherry.model.host import Roots
from wherry.model.mounts import clean
from wherry.runtime.conmon import Launch


@dataclass(frozen=True)
class Layout:
    roots: Roots
    container_id: str
    cgroup_parent: str = ""  # "" for the engine's own

    @classmethod
    def of(cls, roots: Roots, container: Container) -> Layout:
        """With what the record says of places: needed by who asks for the cgroup."""
        return cls(roots, container.id, container.host.cgroup_parent)

    @cached_property
    def durable(self) -> Path:
        return self.roots.container(self.container_id)

    @cached_property
    def bundle(self) -> Path:
        return self.roots.bundle(self.container_id)

    @cached_property
    def rootfs(self) -> Path:
        """Mount point of the root filesystem while it runs."""
        return self.bundle / "rootfs"

    @property
    def shm(self) -> Path:
        """Mount point of /dev/shm where other containers may share it."""
        return self.bundle / "shm"

    @property
    def parts(self) -> Path:
        """Directory of mount points of images, and of parts of volumes and images."""
        return self.bundle / "parts"

    def part(self, number: int) -> Path:
        """Of the mount of this number in the record."""
        return self.parts / str(number)

    def mapped(self, number: int) -> Path:
        """Of a volume whose files are shown with other owners."""
        return self.parts / f"{number}.mapped"

    def image(self, number: int) -> Path:
        return self.parts / f"{number}.image"

    @property
    def log(self) -> Path:
        return self.durable / "container.log"

    @cached_property
    def exit_file(self) -> Path:
        return self.durable / "exit" / self.container_id

    @cached_property
    def cgroup(self) -> str:
        """Its path in every hierarchy. A parent that was asked for is meant from the hierarchy's root."""
        parent = clean(f"/{self.cgroup_parent}").rstrip("/") if self.cgroup_parent else self.roots.cgroup_parent
        return f"{parent}/{self.container_id}"

    def launch(self, container: Container) -> Launch:
        """How this container's monitor is started."""
        config = container.config
        return Launch(
            container_id=self.container_id,
            bundle=self.bundle,
            exit_dir=self.exit_file.parent,
            log=None if container.host.log_config.type == "none" else self.log,
            terminal=config.tty,
            stdin=config.open_stdin,
            leave_stdin_open=config.tty or not config.stdin_once,
            limited=container.host.memory > 0 or container.host.privileged,
        )
