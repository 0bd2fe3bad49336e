"""JSON bodies into structs, by Go's rules and in its words.

Unknown keys are ignored, keys match whatever their case, null leaves the default, a command is a string or a list.
The real engine's messages name Go types (`json: cannot unmarshal string into Go struct field ...`): the tables below
say how Docker's source spells the types where a Python annotation cannot tell.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from wherry.api import gojson
from wherry.errors import InvalidParameter
from wherry.model import config as shapes
from wherry.model.config import Config, HostConfig, NetworkingConfig, UpdateConfig

T = TypeVar("T")
MAX_BODY = 8 << 20  # bytes of JSON; the largest real bodies are a few kilobytes

# Go's name of a struct, with its package, where it is not `container.<the same name>`.
STRUCTS: dict[str, str] = {
    "Healthcheck": "container.HealthcheckConfig",
    "PortBinding": "nat.PortBinding",
    "WeightDevice": "blkiodev.WeightDevice",
    "ThrottleDevice": "blkiodev.ThrottleDevice",
    "Ulimit": "units.Ulimit",
    "BindOptions": "mount.BindOptions",
    "DriverConfig": "mount.Driver",
    "VolumeOptions": "mount.VolumeOptions",
    "TmpfsOptions": "mount.TmpfsOptions",
    "ImageOptions": "mount.ImageOptions",
    "Mount": "mount.Mount",
    "EndpointIPAM": "network.EndpointIPAMConfig",
    "EndpointConfig": "network.EndpointSettings",
    "NetworkingConfig": "network.NetworkingConfig",
    "VolumeCreate": "volume.CreateOptions",
    "NetworkCreate": "types.NetworkCreateRequest",
}

# Go's type of a field where it is not the plain one (string, bool, int64).
FIELDS: dict[tuple[type, str], str] = {
    (shapes.Healthcheck, "interval"): "time.Duration",
    (shapes.Healthcheck, "timeout"): "time.Duration",
    (shapes.Healthcheck, "start_period"): "time.Duration",
    (shapes.Healthcheck, "start_interval"): "time.Duration",
    (shapes.Healthcheck, "retries"): "int",
    (Config, "stop_timeout"): "int",
    (Config, "exposed_ports"): "nat.PortSet",
    (Config, "cmd"): "strslice",
    (Config, "entrypoint"): "strslice",
    (Config, "shell"): "strslice",
    (HostConfig, "cap_add"): "strslice",
    (HostConfig, "cap_drop"): "strslice",
    (HostConfig, "network_mode"): "container.NetworkMode",
    (HostConfig, "port_bindings"): "nat.PortMap",
    (HostConfig, "console_size"): "uint",
    (HostConfig, "cgroupns_mode"): "container.CgroupnsMode",
    (HostConfig, "ipc_mode"): "container.IpcMode",
    (HostConfig, "cgroup"): "container.CgroupSpec",
    (HostConfig, "pid_mode"): "container.PidMode",
    (HostConfig, "uts_mode"): "container.UTSMode",
    (HostConfig, "userns_mode"): "container.UsernsMode",
    (HostConfig, "isolation"): "container.Isolation",
    (HostConfig, "oom_score_adj"): "int",
    (HostConfig, "blkio_weight"): "uint16",
    (HostConfig, "io_maximum_iops"): "uint64",
    (HostConfig, "io_maximum_bandwidth"): "uint64",
    (shapes.RestartPolicy, "name"): "container.RestartPolicyMode",
    (shapes.RestartPolicy, "maximum_retry_count"): "int",
    (shapes.WeightDevice, "weight"): "uint16",
    (shapes.ThrottleDevice, "rate"): "uint64",
    (shapes.DeviceRequest, "count"): "int",
    (shapes.BindOptions, "propagation"): "mount.Propagation",
    (shapes.TmpfsOptions, "mode"): "fs.FileMode",
    (shapes.Mount, "type"): "mount.Type",
    (shapes.Mount, "consistency"): "mount.Consistency",
}

# Fields that Docker's HostConfig takes from the embedded struct `Resources`; its name is part of a field's path.
RESOURCES = frozenset(
    """cpu_shares memory nano_cpus cgroup_parent blkio_weight blkio_weight_device blkio_device_read_bps
    blkio_device_write_bps blkio_device_read_iops blkio_device_write_iops cpu_period cpu_quota cpu_realtime_period
    cpu_realtime_runtime cpuset_cpus cpuset_mems devices device_cgroup_rules device_requests kernel_memory
    kernel_memory_tcp memory_reservation memory_swap memory_swappiness oom_kill_disable pids_limit ulimits cpu_count
    cpu_percent io_maximum_iops io_maximum_bandwidth""".split()
)

_RANGES = {
    "int64": range(-(2**63), 2**63),
    "int": range(-(2**63), 2**63),
    "time.Duration": range(-(2**63), 2**63),
    "uint": range(2**64),
    "uint64": range(2**64),
    "uint32": range(2**32),
    "fs.FileMode": range(2**32),
    "uint16": range(2**16),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the body a value is: Go's struct type, and the path of keys from the top."""

    struct: str
    path: str

    def wrong(self, found: str, wanted: str) -> InvalidParameter:
        where = f"struct field {self.struct}.{self.path}" if self.path else "value"
        return InvalidParameter(f"invalid JSON: json: cannot unmarshal {found} into Go {where} of type {wanted}")


Converter = Callable[[Any, Place], Any]


class Readable(Protocol):
    """What `bounded` reads from; `wherry.api.server.Body`."""

    async def read(self) -> bytes: ...


async def bounded(content: Readable, limit: int = MAX_BODY) -> bytes:
    """The whole body, of JSON. Raises InvalidParameter if it breaks off or is larger than `limit` bytes."""
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := await content.read():
            size += len(piece)
            if size > limit:
                break
            pieces.append(piece)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid JSON: {error}") from None
    if size > limit:
        raise InvalidParameter(f"request body is larger than {limit} bytes")
    return b"".join(pieces)


def body(kind: type[T], content_type: str | None, data: bytes, *, optional: bool = True) -> T:
    """A body as a struct. An absent one is the struct's defaults if `optional`.

    Raises InvalidParameter in the real engine's words.
    """
    check_content_type(content_type, data)
    if not data and optional:
        return kind()
    if not data.strip():
        raise InvalidParameter("invalid JSON: got EOF while reading request body")
    return convert(kind, _parsed(data))


def _parsed(data: bytes) -> Any:
    value = gojson.loads(data)
    if b"\\u0000" in data and (text := _with_nul(value)) is not None:
        raise InvalidParameter(f"invalid JSON: {json.dumps(text)}: no text may contain a NUL character")
    return value


def _with_nul(value: Any) -> str | None:
    """A string with a NUL in it, which programs and system calls would cut there."""
    if isinstance(value, str):
        return value if "\0" in value else None
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((text for part in parts if (text := _with_nul(part)) is not None), None)


def create_body(
    content_type: str | None, data: bytes
) -> tuple[Config | None, HostConfig | None, NetworkingConfig | None]:
    """The body of POST /containers/create: Config's keys at the top, HostConfig and NetworkingConfig beside them.

    None where no key of that part is given.
    """
    check_content_type(content_type, data)
    if not data.strip():
        raise InvalidParameter("invalid JSON: got EOF while reading request body")
    value = _parsed(data)
    if value is None:
        return None, None, None
    if not isinstance(value, dict):
        raise Place("", "").wrong(_kind_of(value), "runconfig.ContainerConfigWrapper")
    wrapper = "ContainerConfigWrapper"
    config = _struct(Config, value, Place(wrapper, "Config")) if _has_keys_of(Config, value) else None
    host: HostConfig | None = None
    networking: NetworkingConfig | None = None
    for key, part in value.items():
        if part is None:
            continue
        if key.lower() == "hostconfig":
            host = _converter(HostConfig, "")(part, Place(wrapper, "HostConfig"))
        elif key.lower() == "networkingconfig":
            networking = _converter(NetworkingConfig, "")(part, Place(wrapper, "NetworkingConfig"))
    return config, host, networking


def convert(kind: type[T], value: Any, go_name: str = "") -> T:
    """A decoded JSON value as `kind` (a struct, or a map), by Go's rules. null is the struct's defaults."""
    if get_origin(kind) is not None:
        made: T = {} if value is None else _converter(kind, "")(value, Place("", ""))
        return made
    name = go_name or _go_struct(kind)
    if value is None:
        return kind()
    if not isinstance(value, dict):
        raise Place("", "").wrong(_kind_of(value), name)
    return _struct(kind, value, Place(name.rpartition(".")[2], ""))


_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_MEDIA_TYPE = re.compile(rf"(?P<type>{_TOKEN})(?:(?P<slash>/)(?P<subtype>{_TOKEN})?)?(?P<rest>.*)", re.DOTALL)
_PARAMETER = re.compile(rf';\s*{_TOKEN}=(?:{_TOKEN}|"(?:[^"\\]|\\.)*")\s*')


def check_content_type(written: str | None, data: bytes) -> None:
    """Raises InvalidParameter, in the real engine's words, unless the body is said to be JSON or is absent."""
    if not written and not data:
        return
    header = written or ""
    media, semicolon, rest = header.partition(";")
    media = media.strip().lower()
    problem = _media_problem(media)
    if not problem and semicolon and _PARAMETER.sub("", semicolon + rest).strip(" ;"):
        problem = "mime: invalid media parameter"
    if problem:
        raise InvalidParameter(f"malformed Content-Type header ({header}): {problem}")
    if media != "application/json":
        raise InvalidParameter(f"unsupported Content-Type header ({header}): must be 'application/json'")


def _media_problem(media: str) -> str:
    match = _MEDIA_TYPE.fullmatch(media)
    if match is None:
        return "mime: no media type"
    if match["slash"] and not match["subtype"]:
        return "mime: expected token after slash"
    if match["rest"]:
        return (
            "mime: unexpected content after media subtype"
            if match["slash"]
            else "mime: expected slash after first token"
        )
    return ""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    path: str
    convert: Converter


_KNOWN: dict[type[Any], dict[str, _Field]] = {}


def _fields(kind: type[Any]) -> dict[str, _Field]:
    """Folded JSON keys of a struct, each with how to read it; worked out once per struct."""
    if kind not in _KNOWN:
        _KNOWN[kind] = dict(_describe(kind))
    return _KNOWN[kind]


def _describe(kind: type[Any]) -> Iterator[tuple[str, _Field]]:
    hints = get_type_hints(kind)
    owner = HostConfig if issubclass(kind, HostConfig) else kind
    for field in msgspec.structs.fields(kind):
        resource = owner is HostConfig and field.name in RESOURCES
        if kind is UpdateConfig and not resource and field.name != "restart_policy":
            continue  # an unknown key to Docker
        embedded = "Resources." if resource else ""
        read = _converter(hints[field.name], FIELDS.get((owner, field.name), ""))
        yield field.encode_name.lower(), _Field(field.name, embedded + field.encode_name, read)


def _has_keys_of(kind: type, value: dict[str, Any]) -> bool:
    fields = _fields(kind)
    return any(key.lower() in fields for key in value)


def _struct(kind: type[T], value: dict[str, Any], place: Place) -> T:
    fields = _fields(kind)
    given: dict[str, Any] = {}
    prefix = place.path + "." if place.path else ""
    for key, part in value.items():
        field = fields.get(key.lower())
        if field is not None and part is not None:
            given[field.name] = field.convert(part, Place(place.struct, prefix + field.path))
    return kind(**given)


def _converter(annotation: Any, go_type: str) -> Converter:
    """How to read a value of this annotation. `go_type` overrides the name of the type in messages."""
    origin = get_origin(annotation)
    if origin is Union or origin is types.UnionType:
        (inner,) = (part for part in get_args(annotation) if part is not types.NoneType)
        return _converter(inner, go_type)
    if go_type == "strslice":
        return _string_or_list
    if annotation is str or annotation is bool:
        return _plain(annotation, go_type or {str: "string", bool: "bool"}[annotation])
    if annotation is int:
        return _integer(go_type or "int64")
    if annotation is Any:
        return lambda value, place: value
    if origin is list:
        return _list(get_args(annotation)[0])
    if origin is tuple:
        return _array(len(get_args(annotation)), _integer(go_type or "int64"), go_type)
    if origin is dict:
        return _map(get_args(annotation)[1], go_type)
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return _nested(annotation)
    raise TypeError(f"no rule to decode {annotation}")


def _plain(kind: type, go_type: str) -> Converter:
    def read(value: Any, place: Place) -> Any:
        if type(value) is not kind:
            raise place.wrong(_kind_of(value), go_type)
        return value

    return read


def _integer(go_type: str) -> Converter:
    limits = _RANGES[go_type]

    def read(value: Any, place: Place) -> int:
        if type(value) is int and value in limits:
            return value
        found = f"number {value}" if type(value) in (int, float) else _kind_of(value)
        raise place.wrong(found, go_type)

    return read


def _list(item: Any) -> Converter:
    read_item = _converter(item, "")
    empty = _empty(item)
    go_type = "[]" + _go_type(item)

    def read(value: Any, place: Place) -> list[Any]:
        if not isinstance(value, list):
            raise place.wrong(_kind_of(value), go_type)
        inner = _element_place(item, place)
        return [empty() if part is None else read_item(part, inner) for part in value]

    return read


def _array(length: int, read_item: Converter, go_type: str) -> Converter:
    """A Go array: what is missing is zero, what is too much is dropped."""

    def read(value: Any, place: Place) -> tuple[int, ...]:
        if not isinstance(value, list):
            raise place.wrong(_kind_of(value), f"[{length}]{go_type}")
        items = [0 if part is None else read_item(part, place) for part in value[:length]]
        return tuple(items + [0] * (length - len(items)))

    return read


def _map(item: Any, go_type: str) -> Converter:
    optional = types.NoneType in get_args(item)
    read_item = _converter(item, "") if not _is_empty_struct(item) else _empty_struct
    empty = (lambda: None) if optional else _empty(item)
    go_type = go_type or "map[string]" + ("*" if optional else "") + _go_type(item)

    def read(value: Any, place: Place) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise place.wrong(_kind_of(value), go_type)
        inner = _element_place(item, place)
        return {key: empty() if part is None else read_item(part, inner) for key, part in value.items()}

    return read


def _nested(kind: type) -> Converter:
    go_type = _go_struct(kind)
    name = go_type.rpartition(".")[2]

    def read(value: Any, place: Place) -> Any:
        if not isinstance(value, dict):
            raise place.wrong(_kind_of(value), go_type)
        return _struct(kind, value, Place(name, place.path))

    return read


def _empty_struct(value: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.wrong(_kind_of(value), "struct {}")
    return {}


def _string_or_list(value: Any, place: Place) -> list[str]:
    """Docker's strslice: `"sh"` is `["sh"]`. Its own decoder speaks of a string whatever was wrong."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(part, str | None) for part in value):
        return [part or "" for part in value]
    raise place.wrong(_kind_of(value), "string")


def _element_place(item: Any, place: Place) -> Place:
    """Elements are at their list's place: Go does not name the index."""
    return place


def _empty(item: Any) -> Callable[[], Any]:
    """Go's zero value of an element given as null."""
    origin = get_origin(item)
    if origin in (Union, types.UnionType):
        return lambda: None
    if isinstance(origin, type):
        return origin
    return item if isinstance(item, type) else dict


def _is_empty_struct(item: Any) -> bool:
    return bool(item == dict[str, Any])


def _go_struct(kind: type) -> str:
    return STRUCTS.get(kind.__name__, f"container.{kind.__name__}")


def _go_type(item: Any) -> str:
    origin = get_origin(item)
    if origin in (Union, types.UnionType):
        (inner,) = (part for part in get_args(item) if part is not types.NoneType)
        return _go_type(inner)
    if origin is list:
        return "[]" + _go_type(get_args(item)[0])
    if _is_empty_struct(item):
        return "struct {}"
    if isinstance(item, type) and issubclass(item, msgspec.Struct):
        return _go_struct(item)
    return {str: "string", bool: "bool", int: "int64"}.get(item, "interface {}")


def _kind_of(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"
