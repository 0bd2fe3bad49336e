"""Container records as the API shows them (ContainerInspect, ContainerList of API 1.45): key for key, null for null."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from wherry.model.config import Config, EndpointConfig, HostConfig
from wherry.model.container import Container, Endpoint, MountPoint, PublishedPort
from wherry.model.health import NONE as NO_CHECK
from wherry.model.health import Health
from wherry.model.networks import PREDEFINED
from wherry.model.timestamps import rfc3339_nano

DRIVER = "overlay2"
NETWORK_OF_MODE = {"none": "none", "host": "host"}  # shown as a network although there is no endpoint

_POINTERS = frozenset({"stop_timeout", "init"})  # of those, 0 and false are values

# Hours below which a duration is told in a unit of so many hours.
_SPANS = ((48, 1, "hours"), (24 * 14, 24, "days"), (24 * 60, 168, "weeks"), (24 * 730, 720, "months"))

# Keys that are left out while they have no value; all others are always there.
_OMITTED_CONFIG = frozenset(
    "exposed_ports healthcheck args_escaped network_disabled mac_address stop_signal stop_timeout shell".split()
)
_OMITTED_HOST = frozenset("annotations storage_opt tmpfs sysctls kernel_memory kernel_memory_tcp mounts init".split())


def shown_status(container: Container) -> str:
    """Docker's `State.Status`. A container that is being started shows as what it was before."""
    return str(container.state.shown.value)


def running(container: Container) -> bool:
    """Docker's `State.Running`: also while paused or waiting for a restart."""
    return shown_status(container) in ("running", "paused", "restarting")


def status_text(container: Container, now_ns: int) -> str:
    """The human text of `docker ps`: `Up 3 minutes`, `Exited (0) 2 days ago`."""
    state = container.state
    match shown_status(container):
        case "running":
            health = f" ({state.health.text})" if state.health is not None else ""
            return f"Up {human_duration(now_ns - state.started_at)}{health}"
        case "paused":
            return f"Up {human_duration(now_ns - state.started_at)} (Paused)"
        case "restarting":
            return f"Restarting ({state.exit_code}) {human_duration(now_ns - state.finished_at)} ago"
        case "removing":
            return "Removal In Progress"
        case "dead":
            return "Dead"
        case "created":
            return "Created"
    if not state.finished_at or not state.started_at:
        return "Created" if not state.started_at else ""
    return f"Exited ({state.exit_code}) {human_duration(now_ns - state.finished_at)} ago"


def human_duration(nanoseconds: int) -> str:
    """A duration in words, as Docker rounds it."""
    seconds = nanoseconds // 1_000_000_000
    minutes = seconds // 60
    hours = int(seconds / 3600 + 0.5)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    for below, unit, word in (
        (48, 1, "hours"),
        (24 * 14, 24, "days"),
        (24 * 60, 168, "weeks"),
        (24 * 730, 720, "months"),
    ):
        if hours < below:
            return f"{hours // unit} {word}"
    return f"{seconds // 3600 // 24 // 365} years"


def command_text(container: Container) -> str:
    """Path and arguments in one line; an argument with a space is quoted."""
    return " ".join([container.path, *(f"'{arg}'" if " " in arg else arg for arg in container.args)])


# --- networks and ports ---


def endpoint(
    found: Endpoint | None,
    *,
    requested: EndpointConfig,
    alive: bool,
    started: bool,
    names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """EndpointSettings. What is allocated shows while the container has a process, what is asked before the first."""
    place = found if alive else None
    return {
        "IPAMConfig": requested.ipam_config,
        "Links": requested.links,
        "Aliases": requested.aliases,
        "MacAddress": place.mac_address if place else "" if started else requested.mac_address,
        "NetworkID": found.network_id if found and started else "",
        "EndpointID": place.endpoint_id if place else "",
        "Gateway": place.gateway if place else "",
        "IPAddress": place.address if place else "",
        "IPPrefixLen": place.prefix_length if place else 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DriverOpts": requested.driver_opts,
        "DNSNames": names,
    }


def dns_names(container: Container, found: Endpoint) -> list[str] | None:
    """What a container is called in a user's network, once it has been connected to it."""
    if not found.named or found.network in PREDEFINED:
        return None
    names = (container.name, *(found.requested.aliases or ()), container.id[:12], container.config.hostname)
    return list(dict.fromkeys(name for name in names if name))


_NOTHING_ASKED = EndpointConfig()


def networks(container: Container) -> dict[str, Any]:
    """The `Networks` map: one entry a network."""
    alive, started = container.state.status.alive, bool(container.state.started_at)
    sandbox = container.sandbox
    shown = {
        name: endpoint(
            found, requested=found.requested, alive=alive, started=started, names=dns_names(container, found)
        )
        for name, found in sorted(sandbox.endpoints.items())
    }
    alone = NETWORK_OF_MODE.get(sandbox.mode)
    if alone and alone not in shown:
        shown[alone] = endpoint(None, requested=_NOTHING_ASKED, alive=alive, started=started)
    return shown


def exposed_ports(container: Container) -> set[str]:
    """Container ports as `80/tcp`: exposed by the image or the command line, or bound."""
    return set(container.config.exposed_ports or ()) | set(container.host.port_bindings or ())


def published(port: PublishedPort) -> str:
    return f"{port.container_port}/{port.protocol}"


def port_map(container: Container) -> dict[str, list[dict[str, str]] | None]:
    """`NetworkSettings.Ports` of a running container: null for a port that is exposed and not published."""
    ports: dict[str, list[dict[str, str]] | None] = dict.fromkeys(sorted(exposed_ports(container)))
    for port in container.sandbox.ports:
        bindings = ports.get(published(port)) or []
        bindings.append({"HostIp": port.host_ip, "HostPort": str(port.host_port)})
        ports[published(port)] = bindings
    return ports


def port_list(container: Container) -> list[dict[str, Any]]:
    """`Ports` in the list of containers."""
    shown: list[dict[str, Any]] = [
        {"IP": port.host_ip, "PrivatePort": port.container_port, "PublicPort": port.host_port, "Type": port.protocol}
        for port in container.sandbox.ports
    ]
    exposed = exposed_ports(container)
    if exposed:
        taken = {published(port) for port in container.sandbox.ports}
        for written in sorted(exposed - taken):
            number, _, protocol = written.partition("/")
            shown.append({"PrivatePort": int(number), "Type": protocol or "tcp"})
    return shown


def has_network(container: Container) -> bool:
    """Ports and addresses are shown only with a network of its own and a process in it."""
    return container.state.status.alive and container.sandbox.mode not in ("none", "host", "")


def mount(point: MountPoint) -> dict[str, Any]:
    shown: dict[str, Any] = {"Type": point.type}
    if point.name:
        shown["Name"] = point.name
    shown |= {"Source": point.source, "Destination": point.destination}
    if point.driver:
        shown["Driver"] = point.driver
    return shown | {"Mode": point.mode, "RW": point.read_write, "Propagation": point.propagation}


def mounts(container: Container) -> list[dict[str, Any]]:
    """`Mounts`: all but those of --tmpfs, which only HostConfig tells."""
    points = [point for point in container.mounts if point.type != "tmpfs" or point.from_mounts]
    return [mount(point) for point in sorted(points, key=lambda point: point.destination)]


# --- the list ---


def summary(
    container: Container,
    image: str,
    now_ns: int,
    size: tuple[int, int] | None = None,
    *,
    other_names: Sequence[str] = (),
) -> dict[str, Any]:
    """One container of the list. `image` is what to show as its image; `size` is (writable layer, all) in bytes.

    `other_names` are those that links of other containers give it.
    """
    shown: dict[str, Any] = {
        "Id": container.id,
        "Names": ["/" + container.name, *other_names],
        "Image": image,
        "ImageID": container.image,
        "Command": command_text(container),
        "Created": container.created_at // 1_000_000_000,
        "Ports": port_list(container) if has_network(container) else [],
    }
    if size is not None:
        written, whole = size
        if written:
            shown["SizeRw"] = written
        if whole:
            shown["SizeRootFs"] = whole
    shown["Labels"] = container.config.labels or {}
    shown["State"] = shown_status(container)
    shown["Status"] = status_text(container, now_ns)
    shown["HostConfig"] = {"NetworkMode": container.host.network_mode}
    shown["NetworkSettings"] = {"Networks": networks(container)}
    shown["Mounts"] = mounts(container)
    return shown


_NO_NAMES: Mapping[str, Sequence[str]] = {}


class Summaries:
    """The list's JSON, put together from pieces that are kept while nothing in them changes.

    Only `Status` tells the time, so an entry is what comes before it and what comes after. 200 entries take a fifth of
    the time that encoding them anew does.
    """

    def __init__(self) -> None:
        self._pieces: dict[str, tuple[tuple[Any, ...], bytes, bytes]] = {}

    def encode(
        self,
        chosen: Sequence[Container],
        images: Sequence[str],
        now_ns: int,
        other_names: Mapping[str, Sequence[str]] = _NO_NAMES,
    ) -> bytes:
        """The array of `chosen`, each with what to show as its image. `other_names` are as in `summary`, by ID."""
        if len(self._pieces) > 2 * len(chosen) + 64:
            self._pieces.clear()
        entries: list[bytes] = []
        for record, image in zip(chosen, images, strict=True):
            before, after = self._entry(record, image, other_names.get(record.id, ()))
            entries.append(before + status_text(record, now_ns).encode() + after)
        return b"[" + b",".join(entries) + b"]"

    def _entry(self, record: Container, image: str, other_names: Sequence[str]) -> tuple[bytes, bytes]:
        state, sandbox = record.state, record.sandbox
        seen = (
            image,
            record.name,
            other_names,
            state.status,
            state.run,
            state.started_at,
            state.finished_at,
            [(name, place.endpoint_id, place.named) for name, place in sandbox.endpoints.items()],
            len(sandbox.ports),
        )
        kept = self._pieces.get(record.id)
        if kept is None or kept[0] != seen:
            whole = summary(record, image, 0, other_names=other_names)
            tail = {key: whole.pop(key) for key in ("HostConfig", "NetworkSettings", "Mounts")}
            del whole["Status"]
            before = msgspec.json.encode(whole)[:-1] + b',"Status":"'
            kept = self._pieces[record.id] = (seen, before, b'",' + msgspec.json.encode(tail)[1:])
        return kept[1], kept[2]


class View:
    """A record as the list's filters look at it (`wherry.model.filters.ContainerView`)."""

    __slots__ = ("record",)

    def __init__(self, record: Container) -> None:
        self.record = record

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def created_at(self) -> int:
        return self.record.created_at

    @property
    def status(self) -> str:
        return shown_status(self.record)

    @property
    def running(self) -> bool:
        return running(self.record)

    @property
    def exit_code(self) -> int:
        return self.record.state.exit_code

    @property
    def started(self) -> bool:
        return bool(self.record.state.started_at)

    @property
    def health(self) -> str:
        health = self.record.state.health
        return health.status if health is not None else NO_CHECK

    @property
    def labels(self) -> Mapping[str, str]:
        return self.record.config.labels or {}

    @property
    def image_id(self) -> str:
        return self.record.image

    @property
    def volumes(self) -> Collection[str]:
        return [name for point in self.record.mounts for name in (point.name, point.destination) if name]

    @property
    def networks(self) -> Mapping[str, str]:
        found = {name: place.network_id for name, place in self.record.sandbox.endpoints.items()}
        alone = NETWORK_OF_MODE.get(self.record.sandbox.mode)
        return {alone: "", **found} if alone else found

    @property
    def exposed(self) -> Collection[str]:
        return exposed_ports(self.record)

    @property
    def published(self) -> Collection[str]:
        return [f"{port.host_port}/{port.protocol}" for port in self.record.sandbox.ports]


# --- inspect ---


def inspect(
    container: Container,
    *,
    directory: Path,
    exec_ids: Sequence[str],
    links: Sequence[str] = (),
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """One container in full. `directory` holds the files made for it (`Roots.container`)."""
    state = container.state
    started = state.run > 0
    made = ("hostname",) if container.config.network_disabled else ("hostname", "hosts", "resolv.conf")
    files = {
        key: str(directory / name) if started and name in made else ""
        for key, name in (("ResolvConfPath", "resolv.conf"), ("HostnamePath", "hostname"), ("HostsPath", "hosts"))
    }
    shown: dict[str, Any] = {
        "Id": container.id,
        "Created": rfc3339_nano(container.created_at),
        "Path": container.path,
        "Args": container.args,
        "State": state_of(container),
        "Image": container.image,
        **files,
        "LogPath": str(directory / "container.log") if started else "",
        "Name": "/" + container.name,
        "RestartCount": state.restart_count,
        "Driver": DRIVER,
        "Platform": container.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": list(exec_ids) or None,
        "HostConfig": host_config(container.host) | {"Links": list(links) or None},
        "GraphDriver": {"Data": None, "Name": DRIVER},
    }
    if size is not None:
        shown["SizeRw"], shown["SizeRootFs"] = size
    return shown | {
        "Mounts": mounts(container),
        "Config": config(container.config) | _asked_mac(container),
        "NetworkSettings": network_settings(container),
    }


def state_of(container: Container) -> dict[str, Any]:
    state = container.state
    status = shown_status(container)
    shown = {
        "Status": status,
        "Running": running(container),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": status == "dead",
        "Pid": state.process.pid if state.process and state.status.alive else 0,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": rfc3339_nano(state.started_at),
        "FinishedAt": rfc3339_nano(state.finished_at),
    }
    return shown if state.health is None else shown | {"Health": health_of(state.health)}


def health_of(health: Health) -> dict[str, Any]:
    return {
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": rfc3339_nano(result.start),
                "End": rfc3339_nano(result.end),
                "ExitCode": result.exit_code,
                "Output": result.output,
            }
            for result in health.log
        ],
    }


def _asked_mac(container: Container) -> dict[str, str]:
    """What was asked for in its first network, where older clients look for it."""
    place = container.sandbox.endpoints.get(container.host.network_mode)
    asked = place.requested.mac_address if place is not None else ""
    return {"MacAddress": asked} if asked else {}


def config(value: Config) -> dict[str, Any]:
    return _fields(value, _OMITTED_CONFIG) | {"Labels": value.labels or {}, "Volumes": value.volumes or None}


def host_config(value: HostConfig) -> dict[str, Any]:
    return _fields(value, _OMITTED_HOST) | {"Links": value.links or None}


def network_settings(container: Container) -> dict[str, Any]:
    """NetworkSettings: beside the map of networks, the default bridge's endpoint once more at the top."""
    sandbox = container.sandbox
    own = bool(sandbox.mode) and not sandbox.mode.startswith("container:")
    found = sandbox.endpoints.get("bridge")
    bridge = found if container.state.status.alive else None
    asked_mac = found.requested.mac_address if found and not container.state.started_at else ""
    return {
        "Bridge": "",
        "SandboxID": sandbox.id if own and container.state.run else "",
        "SandboxKey": sandbox.netns if own else "",
        "Ports": port_map(container) if has_network(container) and own else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": bridge.endpoint_id if bridge else "",
        "Gateway": bridge.gateway if bridge else "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": bridge.address if bridge else "",
        "IPPrefixLen": bridge.prefix_length if bridge else 0,
        "IPv6Gateway": "",
        "MacAddress": bridge.mac_address if bridge else asked_mac,
        "Networks": networks(container) if own else {},
    }


def _fields(value: msgspec.Struct, omitted: frozenset[str]) -> dict[str, Any]:
    shown = {}
    for name, key in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
        part = getattr(value, name)
        if name in omitted and (part is None or (not part and name not in _POINTERS)):
            continue
        shown[key] = part
    return shown


def image_shown(container: Container, id_of: Callable[[str], str | None]) -> str:
    """What the list shows as image: the reference as written while it still means this image, its ID otherwise."""
    return container.image_ref if id_of(container.image_ref) == container.image else container.image


def now() -> int:
    return time.time_ns()
