"""Devices that a vendor describes, and what a container needs to have one (the Container Device Interface, SPEC.md).

A request names devices, "vendor.com/class=name"; the vendor's files say what that adds to the container: variables,
device nodes, mounts, hooks, groups. Pure: `wherry.linux.cdi` reads the files and numbers the nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct, field

from wherry.errors import InvalidParameter, NotSupported, SystemFailure
from wherry.model.config import DeviceRequest

Json = dict[str, Any]

DRIVER = "cdi"
GPU = "gpu"
VENDORS = {"nvidia": "nvidia.com", "amd": "amd.com"}  # by driver, of those whose devices `--gpus` means
ALL = "all"

_KIND = re.compile(r"[A-Za-z](?:[\w.-]*[A-Za-z0-9])?/[A-Za-z](?:[\w.-]*[A-Za-z0-9])?", re.ASCII)
_DEVICE = re.compile(r"[A-Za-z0-9](?:[\w.:-]*[A-Za-z0-9])?", re.ASCII)
_HOOKS = frozenset("prestart createRuntime createContainer startContainer poststart poststop".split())


class DeviceNode(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """A node to make. What is left out is taken from the host's node at `host_path`, or `path`."""

    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class CdiMount(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    host_path: str
    container_path: str
    options: list[str] = field(default_factory=list)
    type: str = ""


class Hook(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    hook_name: str
    path: str
    args: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    timeout: int | None = None


class Edits(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`containerEdits`: what to add to a container."""

    env: list[str] = field(default_factory=list)
    device_nodes: list[DeviceNode] = field(default_factory=list)
    hooks: list[Hook] = field(default_factory=list)
    mounts: list[CdiMount] = field(default_factory=list)
    intel_rdt: Json | None = None
    additional_gids: list[int] = field(default_factory=list)
    net_devices: list[Json] = field(default_factory=list)


class CdiDevice(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    name: str
    annotations: dict[str, str] = field(default_factory=dict)
    container_edits: Edits = field(default_factory=Edits)


class Spec(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """One file. Its own `container_edits` come with any of its devices."""

    cdi_version: str
    kind: str
    annotations: dict[str, str] = field(default_factory=dict)
    devices: list[CdiDevice] = field(default_factory=list)
    container_edits: Edits = field(default_factory=Edits)


@dataclass(frozen=True)
class Found:
    """The specifications that there are, by directory: a later directory's devices replace an earlier's."""

    directories: Sequence[Sequence[Spec]] = ()

    def lookup(self, name: str) -> tuple[Spec, CdiDevice] | None:
        """The device of a full name; None where there is none, or several in one directory."""
        kind, _, wanted = name.partition("=")
        for specs in reversed(self.directories):
            matches = [
                (spec, device)
                for spec in specs
                if spec.kind == kind
                for device in spec.devices
                if device.name == wanted
            ]
            if matches:
                return matches[0] if len(matches) == 1 else None
        return None

    def devices(self, kind: str) -> list[str]:
        """Names of the devices of a kind, numbers in their order first."""
        names = {
            device.name for specs in self.directories for spec in specs if spec.kind == kind for device in spec.devices
        }
        return sorted(names, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))


def check_spec(spec: Spec) -> None:
    """Raises InvalidParameter for one that cannot be, NotSupported for one with what containers here cannot have."""
    if not _KIND.fullmatch(spec.kind):
        raise InvalidParameter(f"invalid kind {spec.kind!r}: must be vendor/class")
    if not spec.devices:
        raise InvalidParameter("no devices")
    for device in spec.devices:
        if not _DEVICE.fullmatch(device.name):
            raise InvalidParameter(f"invalid device name {device.name!r}")
    for edits in (spec.container_edits, *(device.container_edits for device in spec.devices)):
        if unknown := next((hook.hook_name for hook in edits.hooks if hook.hook_name not in _HOOKS), None):
            raise InvalidParameter(f"invalid hook name {unknown!r}")
        for what, given in (("intelRdt", edits.intel_rdt), ("netDevices", edits.net_devices)):
            if given:
                raise NotSupported(f"{what} of a device's specification is not supported by this engine yet")


def wanted(requests: Iterable[DeviceRequest], found: Found) -> list[str]:
    """Full names of the devices that the requests come to, each once, in their order.

    Raises SystemFailure in Docker's words for a request that no driver takes, InvalidParameter.
    """
    names: list[str] = []
    for request in requests:
        if request.device_ids and request.count:
            raise InvalidParameter("cannot set both Count and DeviceIDs on device request")
        if request.options:
            raise NotSupported("options of a device request are not supported by this engine yet")
        if request.driver == DRIVER:
            if not request.device_ids:
                raise InvalidParameter("a device request for the driver cdi needs DeviceIDs")
            names += request.device_ids
        else:
            names += _gpus(request, found)
    return list(dict.fromkeys(names))


def _gpus(request: DeviceRequest, found: Found) -> list[str]:
    """`--gpus`: the first so many, all of them, or those named."""
    vendors = [vendor for driver, vendor in VENDORS.items() if request.driver in ("", driver)]
    kinds = [f"{vendor}/{GPU}" for vendor in vendors if any(GPU in group for group in request.capabilities or ())]
    kind = next((kind for kind in kinds if found.devices(kind)), None)
    if kind is None:
        asked = " ".join(f"[{' '.join(group)}]" for group in request.capabilities or ())
        raise SystemFailure(f'could not select device driver "{request.driver}" with capabilities: [{asked}]')
    if request.device_ids:
        return [name if "=" in name else f"{kind}={name}" for name in request.device_ids]
    devices = found.devices(kind)
    single = [name for name in devices if name != ALL]
    if request.count < 0:
        return [f"{kind}={name}" for name in ([ALL] if ALL in devices else single)]
    numbered = [name for name in single if name.isdigit()] or single
    if request.count > len(numbered):
        raise SystemFailure(f"{request.count} devices of {kind} are asked for, and there are {len(numbered)}")
    return [f"{kind}={name}" for name in numbered[: request.count]]


def select(names: Iterable[str], found: Found) -> list[Edits]:
    """What the devices add, a file's own edits before those of its first device.

    Raises SystemFailure in Docker's words.
    """
    names = list(names)
    chosen = {name: found.lookup(name) for name in names}
    if missing := [name for name in names if chosen[name] is None]:
        raise SystemFailure(f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}")
    edits: list[Edits] = []
    seen: list[Spec] = []
    for place in chosen.values():
        assert place is not None
        spec, device = place
        if not any(spec is other for other in seen):
            seen.append(spec)
            edits.append(spec.container_edits)
        edits.append(device.container_edits)
    return edits


def apply(spec: Json, edits: Iterable[Edits]) -> None:
    """Put the edits into an OCI specification, in place. Nodes are numbered already (`wherry.linux.cdi.numbered`)."""
    for edit in edits:
        _add_environment(spec["process"], edit.env)
        for node in edit.device_nodes:
            _add_node(spec["linux"], node)
        for mount in edit.mounts:
            _add_mount(spec["mounts"], mount)
        for hook in edit.hooks:
            made = {"path": hook.path, "args": hook.args, "env": hook.env, "timeout": hook.timeout}
            hooks = spec.setdefault("hooks", {}).setdefault(hook.hook_name, [])
            hooks.append({key: value for key, value in made.items() if value})
        groups = spec["process"]["user"]["additionalGids"]
        groups += [gid for gid in edit.additional_gids if gid and gid not in groups]


def _add_environment(process: Json, given: Iterable[str]) -> None:
    variables = dict(entry.partition("=")[::2] for entry in process["env"])
    variables.update(entry.partition("=")[::2] for entry in given)
    process["env"] = [f"{name}={value}" for name, value in variables.items()]


def _add_node(linux: Json, node: DeviceNode) -> None:
    made: Json = {"path": node.path, "type": node.type, "major": node.major, "minor": node.minor}
    for key, value in (("fileMode", node.file_mode), ("uid", node.uid), ("gid", node.gid)):
        if value is not None:
            made[key] = value
    devices = [device for device in linux.get("devices", ()) if device["path"] != node.path]
    linux["devices"] = [*devices, made]
    if node.type in ("b", "c"):
        rule = {"allow": True, "type": node.type, "major": node.major, "minor": node.minor}
        linux["resources"]["devices"].append({**rule, "access": node.permissions or "rwm"})


def _add_mount(mounts: list[Json], mount: CdiMount) -> None:
    mounts[:] = [other for other in mounts if other["destination"] != mount.container_path]
    options = list(mount.options)
    if not mount.type and not {"bind", "rbind"} & set(options):
        options.insert(0, "rbind")
    made = {"destination": mount.container_path, "type": mount.type or "bind", "source": mount.host_path}
    mounts.append({**made, "options": options})
