"""The files that one run is started from: config.json, and for an exec its process.json."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from wherry.engine import etc_files
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.runtimes import Runtimes
from wherry.errors import Conflict, SystemFailure
from wherry.linux import devices, safepath
from wherry.linux.seccomp import Profiles, as_spec
from wherry.model import security
from wherry.model.config import ExecConfig
from wherry.model.container import Container
from wherry.model.host import Host
from wherry.model.users import ResolvedUser
from wherry.model.users import resolve as resolve_user
from wherry.runtime import spec
from wherry.runtime.spec import SpecInputs

DATABASE_LIMIT = 4 * 1024 * 1024  # bytes of /etc/passwd or /etc/group that are read

_encode = msgspec.json.encode


class BundleWriter:
    """Looks up on the host and in the image what a spec needs, and writes it. Blocking: called in threads."""

    def __init__(self, host: Host, index: Index, runtimes: Runtimes, profiles: Profiles) -> None:
        self._host = host
        self._index = index
        self._runtimes = runtimes
        self._profiles = profiles

    def write(self, container: Container, layout: Layout, netns: str | None) -> None:
        """config.json and the generated /etc files of a container whose root is mounted.

        `netns` is the path of the network namespace to join, None for the host's. Raises WherryError.
        """
        settings = container.host
        root = os.open(layout.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            user = self._user(root, container.config.user, settings.group_add)
            self._make_working_directory(root, container)
        finally:
            os.close(root)
        for mount in container.mounts:
            if mount.create_source:
                Path(mount.source).mkdir(parents=True, exist_ok=True)
        mapped = [
            (device, mapping.cgroup_permissions)
            for mapping in settings.devices or ()
            for device in devices.named(mapping.path_on_host, mapping.path_in_container)
        ]
        seccomp, annotations = self._seccomp(container)
        inputs = SpecInputs(
            host=self._host,
            rootfs=str(layout.rootfs),
            cgroup=layout.cgroup,
            user=user,
            hostname=container.config.hostname,
            etc=etc_files.write(container, layout.durable, self._index.get),
            netns=netns or "",
            pid_ns=self._namespace("pid", settings.pid_mode),
            ipc_ns=self._namespace("ipc", settings.ipc_mode),
            shm=self._shm(container, layout),
            init=self._init(container),
            devices=devices.every() if settings.privileged else [device for device, _ in mapped],
            device_rules=spec.device_rules(settings, mapped),
            block_devices={path: devices.block_number(path) for path in spec.limited_devices(settings)},
            seccomp=seccomp,
            annotations=annotations,
        )
        (layout.bundle / "config.json").write_bytes(_encode(spec.build(container, inputs)))

    def write_exec(self, container: Container, asked: ExecConfig, path: Path) -> None:
        """process.json of an exec in a running container. Raises WherryError."""
        running = container.state.process
        if running is None:
            raise Conflict(f"container {container.id} is not running")
        root = os.open(f"/proc/{running.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            user = self._user(root, asked.user or container.config.user, container.host.group_add)
        finally:
            os.close(root)
        made = spec.process(
            container,
            host=self._host,
            user=user,
            args=asked.cmd or [],
            env=spec.environment(container, container.config.hostname, tty=asked.tty, extra=asked.env or ()),
            cwd=asked.working_dir or container.config.working_dir,
            terminal=asked.tty,
            console_size=asked.console_size,
            privileged=asked.privileged,
        )
        path.write_bytes(_encode(made))

    def _user(self, root: int, user: str, group_add: list[str] | None) -> ResolvedUser:
        passwd, group = (
            safepath.read_in_root(root, name, DATABASE_LIMIT).decode(errors="replace")
            for name in ("/etc/passwd", "/etc/group")
        )
        return resolve_user(user, group_add, passwd, group)

    def _make_working_directory(self, root: int, container: Container) -> None:
        if not (directory := container.config.working_dir).strip("/"):
            return
        try:
            os.close(safepath.make_dirs_in_root(root, os.path.normpath(directory)))
        except NotADirectoryError:
            raise SystemFailure(f"Cannot mkdir: {directory} is not a directory") from None

    def _seccomp(self, container: Container) -> tuple[spec.Json | None, dict[str, str]]:
        settings = container.host
        if settings.privileged or not self._host.seccomp:
            return None, {}
        profile = security.parse(settings.security_opt).seccomp
        held = spec.capability_set(settings, self._host, privileged=False)
        compiled = self._runtimes.of(container).takes_bpf
        return as_spec(self._profiles.filter(profile, held), compiled=compiled)

    def _namespace(self, kind: str, mode: str) -> str:
        """Path of the namespace that `--pid container:X` and `--ipc container:X` join; "" otherwise."""
        other = self._joined(kind, mode)
        if other is None:
            return ""
        process = other.state.process
        if process is None:
            raise Conflict(f"cannot join {kind.upper()} of a non running container: {other.id}")
        return f"/proc/{process.pid}/ns/{kind}"

    def _joined(self, kind: str, mode: str) -> Container | None:
        word, _, reference = mode.partition(":")
        if word != "container":
            return None
        other = self._index.find(reference)
        if kind == "ipc" and other.host.ipc_mode not in ("shareable", "host"):
            raise Conflict(f"non-shareable IPC (hint: use IpcMode:shareable for the donor container): {other.id}")
        return other

    def _shm(self, container: Container, layout: Layout) -> str:
        """What /dev/shm is where it is not the container's own."""
        mode = container.host.ipc_mode
        if mode == "shareable":
            return str(layout.shm)
        if mode == "host":
            return "/dev/shm"
        other = self._joined("ipc", mode)
        if other is None:
            return ""
        if other.host.ipc_mode == "host":
            return "/dev/shm"
        return str(Layout(self._host.roots, other.id).shm)

    def _init(self, container: Container) -> str:
        if not container.host.init:
            return ""
        if self._host.binaries.init is None:
            raise SystemFailure("--init needs a static init program on the host: apt-get install tini")
        return str(self._host.binaries.init)
