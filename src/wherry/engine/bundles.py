"""What an OCI runtime is given for one start: config.json, the files of /etc, the process of an exec.

Here the record meets the host and the image: users are looked up, devices numbered, missing bind sources made.
Everything blocks, briefly, and belongs in a thread.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from wherry.engine import etc_files
from wherry.engine.containers.layout import Layout
from wherry.engine.working_dir import make_working_dir
from wherry.errors import Conflict, InvalidParameter, NotFound, SystemFailure, WherryError
from wherry.linux import cdi as cdi_files
from wherry.linux import devices, mounts, propagation, seccomp, users
from wherry.model import cdi, links, security
from wherry.model.config import ExecConfig, HostConfig, Ulimit
from wherry.model.container import Container, MountPoint
from wherry.model.devices import Device
from wherry.model.host import Host
from wherry.model.links import Link, Linked
from wherry.model.users import ResolvedUser
from wherry.runtime import spec
from wherry.runtime.spec import EtcFiles, SpecInputs

encode = msgspec.json.Encoder().encode  # of a spec

_DEFAULT_NETWORK = "bridge"


class Bundles:
    """Writes bundles. `find` looks a container up by ID, `host_gateway` is what `host-gateway` stands for.

    `takes_bpf` tells whether a container's runtime is one that takes compiled seccomp filters (crun); `ulimits` are the
    limits of a container's processes.
    """

    def __init__(
        self,
        host: Host,
        profiles: seccomp.Profiles,
        find: Callable[[str], Container | None],
        *,
        host_gateway: Callable[[], str],
        takes_bpf: Callable[[Container], bool],
        ulimits: Callable[[Container], list[Ulimit]],
    ) -> None:
        self._host = host
        self._profiles = profiles
        self._find = find
        self._host_gateway = host_gateway
        self._takes_bpf = takes_bpf
        self._ulimits = ulimits

    def warm_up(self) -> None:
        """Compile the filter that most containers take, so that the first one does not wait for it (blocking)."""
        if self._host.seccomp:
            held = spec.capability_set(HostConfig(), self._host, privileged=False)
            with contextlib.suppress(WherryError):  # the container that needs it will say what is missing
                self._profiles.filter(security.DEFAULT_PROFILE, held)

    def write(self, container: Container, layout: Layout, netns: str | None, user_ns: str = "") -> spec.Json:
        """What `make` returns, in config.json."""
        made = self.make(container, layout, netns, {}, user_ns)
        descriptor = os.open(layout.bundle / "config.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode(made))
        return made

    def make(
        self, container: Container, layout: Layout, netns: str | None, sources: Mapping[str, str], user_ns: str = ""
    ) -> spec.Json:
        """The spec of a container whose root is mounted. `netns` None: the host's network.

        Makes the files of /etc, the working directory and missing bind sources. `sources` replace those of the record's
        mounts, by destination. `user_ns` is the user namespace to join, "" for the host's.
        Raises SystemFailure, InvalidParameter, Conflict or NotFound in Docker's words.
        """
        settings = container.host
        hostname = self._hostname(container)
        user = self._prepare_root(container, layout)
        points = [
            replace(point, source=sources[point.destination])
            if point.destination in sources
            else prepared(point, str(self._host.roots.data))
            for point in container.mounts
        ]
        mapped = _mapped_devices(settings)
        linked = self._linked(container)
        filter_spec, annotations = self._seccomp(container)
        inputs = SpecInputs(
            host=self._host,
            rootfs=str(layout.rootfs),
            cgroup=layout.cgroup,
            user=user,
            hostname=hostname,
            linked=[variable for link in linked for variable in links.environment(link)],
            mounts=points,
            restrictions={
                point.destination: mounts.restrictions(point.source)
                for point in points
                if point.type in ("bind", "volume")
            },
            etc=self._etc_files(container, layout, hostname, linked),
            ulimits=self._ulimits(container),
            netns=netns or "",
            user_ns=user_ns,
            pid_ns=self._joined(settings.pid_mode, "pid", "PID"),
            ipc_ns=self._joined(settings.ipc_mode, "ipc", "IPC"),
            shm=self._shm(settings, layout),
            init=self._init(settings),
            devices=_nodes(settings, [device for device, _ in mapped]),
            device_rules=spec.device_rules(settings, mapped),
            block_devices={path: devices.block_number(path) for path in spec.limited_devices(settings)},
            seccomp=filter_spec,
            annotations=annotations,
            edits=self._edits(settings),
        )
        return spec.build(container, inputs)

    def write_process(self, container: Container, config: ExecConfig, path: Path) -> None:
        """process.json of an exec in a running container. Raises SystemFailure for a user it does not have."""
        layout = Layout(self._host.roots, container.id)
        with _Root(layout.rootfs) as root:
            user = users.resolve(root.fd, config.user or container.config.user, container.host.group_add)
        linked = [variable for link in self._linked(container) for variable in links.environment(link)]
        hostname = self._hostname(container)
        env = spec.environment(container, hostname, tty=config.tty, linked=linked, extra=config.env or ())
        process = spec.process(
            container,
            host=self._host,
            user=user,
            args=config.cmd or (),
            env=env,
            cwd=config.working_dir or container.config.working_dir,
            terminal=config.tty,
            console_size=config.console_size,
            privileged=config.privileged,
            ulimits=self._ulimits(container),
        )
        path.write_bytes(encode(process))

    def _prepare_root(self, container: Container, layout: Layout) -> ResolvedUser:
        """Look the user up and make the working directory, inside the root filesystem."""
        with _Root(layout.rootfs) as root:
            if container.config.working_dir:
                make_working_dir(root.fd, container.config.working_dir, container.ids)
            return users.resolve(root.fd, container.config.user, container.host.group_add)

    def _edits(self, settings: HostConfig) -> list[cdi.Edits]:
        """What the requested devices add. Raises SystemFailure, InvalidParameter."""
        if not settings.device_requests:
            return []
        found = cdi_files.read(self._host.cdi_directories)
        return cdi_files.numbered(cdi.select(cdi.wanted(settings.device_requests, found), found))

    def _seccomp(self, container: Container) -> tuple[spec.Json | None, dict[str, str]]:
        settings = container.host
        if settings.privileged or not self._host.seccomp:
            return None, {}
        held = spec.capability_set(settings, self._host, privileged=False)
        profile = security.parse(settings.security_opt).seccomp
        return seccomp.as_spec(self._profiles.filter(profile, held), compiled=self._takes_bpf(container))

    def _hostname(self, container: Container) -> str:
        other = self._other(container.host.network_mode)
        return other.config.hostname if other else container.config.hostname

    def _other(self, mode: str) -> Container | None:
        """The container that a namespace mode names, if it names one. Raises NotFound."""
        kind, _, name = mode.partition(":")
        if kind != "container":
            return None
        other = self._find(name)
        if other is None:
            raise NotFound(f"No such container: {name}")
        return other

    def _joined(self, mode: str, kind: str, words: str) -> str:
        other = self._other(mode)
        if other is None:
            return ""
        if other.state.process is None or not other.state.status.alive:
            message = f"failed to join {words} namespace: container {other.id} is not running"
            raise Conflict(message) if kind == "ipc" else SystemFailure(message)
        if kind == "ipc" and other.host.ipc_mode != "shareable":
            raise InvalidParameter(
                f"failed to join IPC namespace: container {other.id}: "
                "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            )
        return f"/proc/{other.state.process.pid}/ns/{kind}"

    def shared_users(self, container: Container) -> str:
        """The user namespace that owns those which it shares with others (user_namespaces(7)); "" if it shares none.

        Raises NotFound, Conflict (one does not run), SystemFailure (that cannot be one namespace).
        """
        if container.ids is None:
            return ""
        settings = container.host
        paths: dict[tuple[int, int], str] = {}
        for what, mode in (("network", settings.network_mode), ("PID", settings.pid_mode), ("IPC", settings.ipc_mode)):
            other = self._other(mode)
            if other is None:
                continue
            if other.ids != container.ids:
                raise SystemFailure(f"cannot share the {what} of container {other.id}: it has other users (--userns)")
            if other.state.process is None or not other.state.status.alive:
                if what == "network":
                    raise Conflict(f"cannot join network of a non running container: {other.id}")
                message = f"failed to join {what} namespace: container {other.id} is not running"
                raise Conflict(message) if what == "IPC" else SystemFailure(message)
            path = f"/proc/{other.state.process.pid}/ns/user"
            found = os.stat(path)
            paths[found.st_dev, found.st_ino] = path
        if len(paths) > 1:
            raise SystemFailure("cannot share namespaces of containers that have users of their own each (--userns)")
        return next(iter(paths.values()), "")

    def _shm(self, settings: HostConfig, layout: Layout) -> str:
        """What /dev/shm shows where it is not the container's own."""
        if settings.ipc_mode == "host":
            return "/dev/shm"
        if settings.ipc_mode == "shareable":
            return str(layout.shm)
        other = self._other(settings.ipc_mode)
        return str(Layout(self._host.roots, other.id).shm) if other else ""

    def _init(self, settings: HostConfig) -> str:
        if not settings.init or settings.pid_mode:
            return ""
        if self._host.binaries.init is None:
            raise SystemFailure("--init needs a static init on the host: install tini (tini-static) or catatonit")
        return str(self._host.binaries.init)

    def _linked(self, container: Container) -> list[Linked]:
        """What its links lead to now. Raises SystemFailure where one leads nowhere, in Docker's words."""
        if _DEFAULT_NETWORK not in container.sandbox.endpoints:
            return []
        return [self._at(link, f"/{container.name}/{alias}") for alias, link in sorted(container.links.items())]

    def _at(self, link: Link, path: str) -> Linked:
        other = self._find(link.id)
        if other is None or not other.state.status.alive:
            name = other.name if other else link.name
            raise SystemFailure(f"Cannot link to a non running container: /{name} AS {path}")
        place = other.sandbox.endpoints.get(_DEFAULT_NETWORK)
        if place is None:
            raise SystemFailure(f"Cannot link to /{other.name}, as it does not belong to the default network")
        config = other.config
        return Linked(path, other.name, config.hostname, place.address, config.exposed_ports or (), config.env or ())

    def _etc_files(self, container: Container, layout: Layout, hostname: str, linked: Sequence[Linked]) -> EtcFiles:
        """Made for this container, or those of the container whose network it shares."""
        other = self._other(container.host.network_mode)
        if other is not None:
            return etc_files.below(Layout(self._host.roots, other.id).durable)
        endpoints = container.sandbox.endpoints.values()
        extra = container.host.extra_hosts or ()
        files = etc_files.write(
            layout.durable,
            container.host,
            hostname=hostname,
            domainname=container.config.domainname,
            links=[links.host_line(link) for link in linked],
            addresses=[endpoint.address for endpoint in endpoints if endpoint.address],
            gateway=self._host_gateway() if any(entry.endswith(":host-gateway") for entry in extra) else "",
            ipv6=False,
        )
        if container.ids is not None:
            for path in (files.hosts, files.hostname, files.resolv_conf):
                os.chown(path, *container.ids.root)
        return EtcFiles(hostname=files.hostname) if container.config.network_disabled else files


class _Root:
    """A root filesystem held open, so that what is looked up in it stays in it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Root:
        self.fd = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def prepared(point: MountPoint, data_root: str) -> MountPoint:
    """The mount point once its source can be mounted: a missing host folder of `-v` is made."""
    if point.type != "bind":
        return point
    try:
        directory = stat.S_ISDIR(os.stat(point.source).st_mode)
    except FileNotFoundError:
        _make_source(point)
        directory = True
    except OSError as error:
        raise SystemFailure(f"error while creating mount source path '{point.source}': {error.strerror}") from None
    try:
        propagation.check(point.source, point.propagation)
    except SystemFailure:
        # Binds around the engine's own folder are rslave where that can be, whether or not anyone asked.
        if point.propagation != "rslave" or not _around(point.source, data_root):
            raise
        point = replace(point, propagation="rprivate")
    if directory or point.read_write:
        return point
    # Nothing can be mounted below a file, and crun 1.8 takes "rro" for folders alone.
    return replace(point, read_only_non_recursive=True, read_only_force_recursive=False)


def _make_source(point: MountPoint) -> None:
    if not point.create_source:
        raise InvalidParameter(f'invalid mount config for type "bind": bind source path does not exist: {point.source}')
    try:
        os.makedirs(point.source, mode=0o755, exist_ok=True)
    except OSError as error:
        raise SystemFailure(f"error while creating mount source path '{point.source}': {error}") from None


def _around(source: str, data_root: str) -> bool:
    inner, outer = sorted((source.rstrip("/") + "/", data_root.rstrip("/") + "/"), key=len, reverse=True)
    return inner.startswith(outer)


def _mapped_devices(settings: HostConfig) -> list[tuple[Device, str]]:
    return [
        (device, mapping.cgroup_permissions)
        for mapping in settings.devices or ()
        for device in devices.named(mapping.path_on_host, mapping.path_in_container)
    ]


def _nodes(settings: HostConfig, mapped: list[Device]) -> list[Device]:
    if not settings.privileged:
        return mapped
    by_path = {device.path: device for device in devices.every()}
    return list((by_path | {device.path: device for device in mapped}).values())
