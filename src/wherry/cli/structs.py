"""The Go types behind the API's JSON, so that templates see what docker's see: names of fields, zero values, order.

A type is a line of fields: `GoName=JsonName:type?`, where the JSON name is left out if it is the same and `?` marks
what JSON leaves out when empty. Types are s (string), i (integer), b (bool), d (duration), t (time), any, {} (empty
struct), `[]x`, `map:x`, `*x`, and the names below. (The shapes are those of Docker Engine API 1.50.)
"""

from __future__ import annotations

from wherry.model.jsontext import dumps, quote
from wherry.model.template.values import Nil, Typed, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TYPES = {
    "container.InspectResponse": (
        "ID=Id:s Created:s Path:s Args:[]s State:*container.State Image:s ResolvConfPath:s HostnamePath:s HostsPath:s "
        "LogPath:s Name:s RestartCount:i Driver:s Platform:s MountLabel:s ProcessLabel:s AppArmorProfile:s "
        "ExecIDs:[]s HostConfig:*container.HostConfig GraphDriver:storage.DriverData SizeRw:*i? SizeRootFs:*i? "
        "Mounts:[]container.MountPoint Config:*container.Config NetworkSettings:*container.NetworkSettings "
        "ImageManifestDescriptor:*any?"
    ),
    "container.State": (
        "Status:s Running:b Paused:b Restarting:b OOMKilled:b Dead:b Pid:i ExitCode:i Error:s StartedAt:s "
        "FinishedAt:s Health:*container.Health?"
    ),
    "container.Health": "Status:s FailingStreak:i Log:[]*container.HealthcheckResult",
    "container.HealthcheckResult": "Start:t End:t ExitCode:i Output:s",
    "container.HostConfig": (
        "Binds:[]s ContainerIDFile:s LogConfig:container.LogConfig NetworkMode:s PortBindings:map:[]nat.PortBinding "
        "RestartPolicy:container.RestartPolicy AutoRemove:b VolumeDriver:s VolumesFrom:[]s ConsoleSize:[]i "
        "Annotations:map:s? CapAdd:[]s CapDrop:[]s CgroupnsMode:s DNS=Dns:[]s DNSOptions=DnsOptions:[]s "
        "DNSSearch=DnsSearch:[]s ExtraHosts:[]s GroupAdd:[]s IpcMode:s Cgroup:s Links:[]s OomScoreAdj:i PidMode:s "
        "Privileged:b PublishAllPorts:b ReadonlyRootfs:b SecurityOpt:[]s StorageOpt:map:s? Tmpfs:map:s? UTSMode:s "
        "UsernsMode:s ShmSize:i Sysctls:map:s? Runtime:s? Isolation:s CPUShares=CpuShares:i Memory:i "
        "NanoCPUs=NanoCpus:i CgroupParent:s BlkioWeight:i BlkioWeightDevice:[]*blkiodev.WeightDevice "
        "BlkioDeviceReadBps:[]*blkiodev.ThrottleDevice BlkioDeviceWriteBps:[]*blkiodev.ThrottleDevice "
        "BlkioDeviceReadIOps:[]*blkiodev.ThrottleDevice BlkioDeviceWriteIOps:[]*blkiodev.ThrottleDevice "
        "CPUPeriod=CpuPeriod:i CPUQuota=CpuQuota:i CPURealtimePeriod=CpuRealtimePeriod:i "
        "CPURealtimeRuntime=CpuRealtimeRuntime:i CpusetCpus:s CpusetMems:s Devices:[]container.DeviceMapping "
        "DeviceCgroupRules:[]s DeviceRequests:[]container.DeviceRequest KernelMemory:i? KernelMemoryTCP:i? "
        "MemoryReservation:i MemorySwap:i MemorySwappiness:*i OomKillDisable:*b PidsLimit:*i "
        "Ulimits:[]*units.Ulimit CPUCount=CpuCount:i CPUPercent=CpuPercent:i IOMaximumIOps:i IOMaximumBandwidth:i "
        "Mounts:[]mount.Mount? MaskedPaths:[]s ReadonlyPaths:[]s Init:*b?"
    ),
    "container.LogConfig": "Type:s Config:map:s",
    "container.RestartPolicy": "Name:s MaximumRetryCount:i",
    "nat.PortBinding": "HostIP=HostIp:s HostPort:s",
    "blkiodev.WeightDevice": "Path:s Weight:i",
    "blkiodev.ThrottleDevice": "Path:s Rate:i",
    "container.DeviceMapping": "PathOnHost:s PathInContainer:s CgroupPermissions:s",
    "container.DeviceRequest": "Driver:s Count:i DeviceIDs:[]s Capabilities:[][]s Options:map:s",
    "units.Ulimit": "Name:s Hard:i Soft:i",
    "mount.Mount": (
        "Type:s? Source:s? Target:s? ReadOnly:b? Consistency:s? BindOptions:*mount.BindOptions? "
        "VolumeOptions:*mount.VolumeOptions? ImageOptions:*mount.ImageOptions? TmpfsOptions:*mount.TmpfsOptions? "
        "ClusterOptions:*any?"
    ),
    "mount.BindOptions": (
        "Propagation:s? NonRecursive:b? CreateMountpoint:b? ReadOnlyNonRecursive:b? ReadOnlyForceRecursive:b?"
    ),
    "mount.VolumeOptions": "NoCopy:b? Labels:map:s? Subpath:s? DriverConfig:*mount.Driver?",
    "mount.Driver": "Name:s? Options:map:s?",
    "mount.ImageOptions": "Subpath:s?",
    "mount.TmpfsOptions": "SizeBytes:i? Mode:i? Options:[][]s?",
    "container.MountPoint": "Type:s? Name:s? Source:s Destination:s Driver:s? Mode:s RW:b Propagation:s",
    "container.Config": (
        "Hostname:s Domainname:s User:s AttachStdin:b AttachStdout:b AttachStderr:b ExposedPorts:map:{}? Tty:b "
        "OpenStdin:b StdinOnce:b Env:[]s Cmd:[]s Healthcheck:*v1.HealthcheckConfig? ArgsEscaped:b? Image:s "
        "Volumes:map:{} WorkingDir:s Entrypoint:[]s NetworkDisabled:b? MacAddress:s? OnBuild:[]s Labels:map:s "
        "StopSignal:s? StopTimeout:*i? Shell:[]s?"
    ),
    "v1.HealthcheckConfig": "Test:[]s? Interval:d? Timeout:d? StartPeriod:d? StartInterval:d? Retries:i?",
    "container.NetworkSettings": (
        "Bridge:s SandboxID:s SandboxKey:s Ports:map:[]nat.PortBinding HairpinMode:b LinkLocalIPv6Address:s "
        "LinkLocalIPv6PrefixLen:i SecondaryIPAddresses:[]network.Address SecondaryIPv6Addresses:[]network.Address "
        "EndpointID:s Gateway:s GlobalIPv6Address:s GlobalIPv6PrefixLen:i IPAddress:s IPPrefixLen:i IPv6Gateway:s "
        "MacAddress:s Networks:map:*network.EndpointSettings"
    ),
    "network.Address": "Addr:s PrefixLen:i",
    "network.EndpointSettings": (
        "IPAMConfig:*network.EndpointIPAMConfig Links:[]s Aliases:[]s MacAddress:s DriverOpts:map:s GwPriority:i "
        "NetworkID:s EndpointID:s Gateway:s IPAddress:s IPPrefixLen:i IPv6Gateway:s GlobalIPv6Address:s "
        "GlobalIPv6PrefixLen:i DNSNames:[]s"
    ),
    "network.EndpointIPAMConfig": "IPv4Address:s? IPv6Address:s? LinkLocalIPs:[]s?",
    "storage.DriverData": "Data:map:s Name:s",
    "image.InspectResponse": (
        "ID=Id:s RepoTags:[]s RepoDigests:[]s Parent:s Comment:s Created:s? DockerVersion:s Author:s "
        "Config:*v1.DockerOCIImageConfig Architecture:s Variant:s? Os:s OsVersion:s? Size:i VirtualSize:i? "
        "GraphDriver:storage.DriverData RootFS:image.RootFS Metadata:image.Metadata Descriptor:*any? Manifests:[]any?"
    ),
    "image.RootFS": "Type:s? Layers:[]s?",
    "image.Metadata": "LastTagTime:t?",
    "v1.DockerOCIImageConfig": (
        "User:s? ExposedPorts:map:{}? Env:[]s? Entrypoint:[]s? Cmd:[]s? Volumes:map:{}? WorkingDir:s? Labels:map:s? "
        "StopSignal:s? ArgsEscaped:b? Healthcheck:*v1.HealthcheckConfig? OnBuild:[]s? Shell:[]s?"
    ),
    "network.Inspect": (
        "Name:s ID=Id:s Created:t Scope:s Driver:s EnableIPv4:b EnableIPv6:b IPAM:network.IPAM Internal:b "
        "Attachable:b Ingress:b ConfigFrom:network.ConfigReference ConfigOnly:b "
        "Containers:map:network.EndpointResource Options:map:s Labels:map:s Peers:[]any? Services:map:any?"
    ),
    "network.IPAM": "Driver:s Options:map:s Config:[]network.IPAMConfig",
    "network.IPAMConfig": "Subnet:s? IPRange:s? Gateway:s? AuxAddress=AuxiliaryAddresses:map:s?",
    "network.ConfigReference": "Network:s",
    "network.EndpointResource": "Name:s EndpointID:s MacAddress:s IPv4Address:s IPv6Address:s",
    "volume.Volume": (
        "ClusterVolume:*any? CreatedAt:s? Driver:s Labels:map:s Mountpoint:s Name:s Options:map:s Scope:s "
        "Status:map:any? UsageData:*volume.UsageData?"
    ),
    "volume.UsageData": "RefCount:i Size:i",
    "events.Message": (
        "Status=status:s? ID=id:s? From=from:s? Type:s Action:s Actor:events.Actor Scope=scope:s? Time=time:i? "
        "TimeNano=timeNano:i?"
    ),
    "system.versionInfo": "Client:system.clientVersion Server:*system.Version",
    "system.clientVersion": (
        "Platform:*system.Platform? Version:s? APIVersion=ApiVersion:s? DefaultAPIVersion:s? GitCommit:s? "
        "PythonVersion:s? Os:s? Arch:s? BuildTime:s? Context:s"
    ),
    "system.Version": (
        "Platform:system.Platform? Components:[]system.ComponentVersion? Version:s APIVersion=ApiVersion:s "
        "MinAPIVersion:s? GitCommit:s GoVersion:s Os:s Arch:s KernelVersion:s? Experimental:b? BuildTime:s?"
    ),
    "system.Platform": "Name:s",
    "system.ComponentVersion": "Name:s Version:s Details:map:s?",
    "events.Actor": "ID:s Attributes:map:s",
}


class Field:
    """One field of a Go struct."""

    __slots__ = ("json", "kind", "name", "omitted")

    def __init__(self, line: str) -> None:
        names, _, kind = line.partition(":")
        self.name, _, json = names.partition("=")
        self.json = json or self.name
        self.omitted = kind.endswith("?")
        self.kind = kind.removesuffix("?")


_parsed: dict[str, list[Field]] = {}


def fields_of(type_name: str) -> list[Field]:
    if type_name not in _parsed:
        _parsed[type_name] = [Field(line) for line in TYPES[type_name].split()]
    return _parsed[type_name]


class Duration(int):
    """Nanoseconds that print as a duration."""

    def __str__(self) -> str:
        from wherry.model.gotime import format_duration

        return format_duration(int(self))


class Moment(str):
    """A time in JSON's form that prints as Go's time.Time."""

    __slots__ = ()

    def __str__(self) -> str:
        from wherry.model.gotime import format_time

        return format_time(self[:])


class Struct(Typed):
    """A value of a Go struct type, over its JSON."""

    def __init__(self, type_name: str, value: dict[str, Any], *, pointer: bool = False) -> None:
        self.type_name = f"*{type_name}" if pointer else type_name
        self._type = type_name
        self._value = value

    def _field(self, name: str) -> Field | None:
        for field in fields_of(self._type):
            if field.name == name:
                return field
        return None

    def has_field(self, name: str) -> bool:
        return self._field(name) is not None

    def field(self, name: str, arguments: list[Any]) -> Any:
        field = self._field(name)
        assert field is not None
        return convert(field.kind, self._value.get(field.json))

    def text(self) -> str:
        if self._type == "units.Ulimit":  # the one type here that writes itself
            return "{Name}={Soft}:{Hard}".format(**self._value)
        return "{" + " ".join([text(self.field(field.name, [])) for field in fields_of(self._type)]) + "}"

    def to_json(self) -> str:
        out = []
        for field in fields_of(self._type):
            value = self.field(field.name, [])
            if field.omitted and _is_empty(value):
                continue
            out.append(f"{quote(field.json)}:{dumps(value)}")
        return "{" + ",".join(out) + "}"


class Empty(Typed):
    """struct{}{}, the value of a set."""

    type_name = "struct {}"

    def has_field(self, name: str) -> bool:
        return False

    def field(self, name: str, arguments: list[Any]) -> Any:
        return None

    def to_json(self) -> str:
        return "{}"


def _is_empty(value: Any) -> bool:
    return not isinstance(value, Typed) and (value is None or isinstance(value, Nil) or not value)


def convert(kind: str, value: Any) -> Any:
    """JSON's value as the Go type `kind` holds it, absent ones as the type's zero."""
    if kind == "s":
        return value or ""
    if kind == "i":
        return value or 0
    if kind == "b":
        return bool(value)
    if kind == "any":
        return value
    if kind == "d":
        return Duration(value or 0)
    if kind == "t":
        return Moment(value or "0001-01-01T00:00:00Z")
    if kind == "{}":
        return Empty()
    if kind.startswith("[]"):
        return Nil("slice", f"[]{_go(kind[2:])}") if value is None else [convert(kind[2:], item) for item in value]
    if kind.startswith("map:"):
        if value is None:
            return Nil("map", f"map[string]{_go(kind[4:])}")
        return {key: convert(kind[4:], item) for key, item in value.items()}
    if kind.startswith("*"):
        if value is None:
            return Nil("pointer", f"*{_go(kind[1:])}")
        return Struct(kind[1:], value, pointer=True) if kind[1:] in TYPES else convert(kind[1:], value)
    return Struct(kind, value or {})


def _go(kind: str) -> str:
    return {"s": "string", "i": "int", "b": "bool", "any": "interface {}", "{}": "struct {}"}.get(kind, kind)


def message(event: dict[str, Any]) -> Struct:
    """One event. (Older engines repeat the actor in status, id and from, which docker's own client drops.)"""
    return Struct("events.Message", {key: value for key, value in event.items() if key not in ("status", "id", "from")})


class _Info(Typed):
    """The engine's /info: its JSON under the names it has there."""

    type_name = "system.dockerInfo"

    def __init__(self, value: dict[str, Any]) -> None:
        self._value = value

    def has_field(self, name: str) -> bool:
        return name in self._value

    def field(self, name: str, arguments: list[Any]) -> Any:
        return self._value[name]

    def text(self) -> str:
        return text(self._value)

    def to_json(self) -> str:
        return dumps(self._value, sort=False)


def server_info(value: dict[str, Any]) -> Typed:
    return _Info(value)
