"""A container's record as an OCI runtime spec (opencontainers/runtime-spec, config.md and config-linux.md).

A pure function of values: everything that has to be looked up on the host or inside the image is in `SpecInputs`.
What comes out is what the real engine hands to its runtime, but for the paths.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wherry.errors import SystemFailure
from wherry.model import capabilities, cdi, devices, security
from wherry.model.config import HostConfig, ThrottleDevice, Ulimit, WeightDevice
from wherry.model.container import Container, MountPoint
from wherry.model.devices import ANY, Device, DeviceRule
from wherry.model.host import CgroupLayout, Host
from wherry.model.merge import DEFAULT_PATH
from wherry.model.mounts import clean, merge_tmpfs_options
from wherry.model.users import ResolvedUser

Json = dict[str, Any]

OCI_VERSION = "1.0.2"
INIT_PATH = "/sbin/docker-init"  # where `--init` is seen, as in Docker
RECURSIVE_READ_ONLY = (5, 12)  # mount_setattr(2)

# sched(7) bandwidth: the period in which `--cpus` counts.
_PERIOD = 100_000

RUNTIME_FILES = 64  # open files that any runtime does with

_RLIMITS = frozenset(
    "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK".split()
)
_UNLIMITED = 2**64 - 1

_IPC_SYSCTLS = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax kernel.shmmni "
    "kernel.shm_rmid_forced".split()
)

# Network settings that Docker gives every container with a network of its own.
_NETWORK_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}

# Files of /proc that a mount may replace, as systems like lxcfs do.
_PROC_MOUNTS = frozenset(
    f"/proc/{name}" for name in "cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo net/dev".split()
)

# Mounts that stay writable under a read-only root.
_ALWAYS_WRITABLE = frozenset({"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"})


@dataclass(frozen=True)
class EtcFiles:
    """Host paths of the files generated for one container; "" where it has none of its own."""

    hosts: str = ""
    hostname: str = ""
    resolv_conf: str = ""


@dataclass(frozen=True, kw_only=True)
class SpecInputs:
    """What `build` needs besides the record. Paths are the host's, absolute.

    `netns`, `user_ns`, `pid_ns` and `ipc_ns` are paths of namespaces to join, "" for none of another's; those of
    network and users are always made beforehand, so "" there means the host's. `mounts` are the record's, their sources
    there; `restrictions` are, by destination, the words for what the mounts of their sources forbid. `shm` is what
    /dev/shm shows when it is not the container's own. `seccomp` and `annotations` come from
    `wherry.linux.seccomp.as_spec`. `block_devices` numbers the devices that limits name. `linked` are the variables
    that links give, `ulimits` the limits of the container and the defaults, `edits` what devices add, their nodes
    numbered.
    """

    host: Host
    rootfs: str
    cgroup: str
    user: ResolvedUser
    hostname: str
    linked: Sequence[str] = ()
    mounts: Sequence[MountPoint] = ()
    restrictions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    etc: EtcFiles = field(default_factory=EtcFiles)
    ulimits: Sequence[Ulimit] = ()
    netns: str = ""
    user_ns: str = ""
    pid_ns: str = ""
    ipc_ns: str = ""
    shm: str = ""
    init: str = ""
    devices: Sequence[Device] = ()
    device_rules: Sequence[DeviceRule] = ()
    block_devices: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    seccomp: Json | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    edits: Sequence[cdi.Edits] = ()


def runtime_refusal(reason: str) -> SystemFailure:
    """A start refused here for what the real engine leaves to its runtime to refuse, in the words that come of it."""
    prefix = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create "
    return SystemFailure(f"{prefix}failed: {reason}: unknown")


def build(container: Container, inputs: SpecInputs) -> Json:
    """The whole spec, ready for config.json.

    Raises SystemFailure or InvalidParameter for what Docker only refuses when a container starts.
    """
    host = container.host
    args = [container.path, *container.args]
    if inputs.init:
        args = [INIT_PATH, "--", *args]
    spec: Json = {
        "ociVersion": OCI_VERSION,
        "process": process(
            container,
            host=inputs.host,
            user=inputs.user,
            args=args,
            env=environment(container, inputs.hostname, tty=container.config.tty, linked=inputs.linked),
            cwd=container.config.working_dir,
            terminal=container.config.tty,
            console_size=host.console_size,
            ulimits=early_limits(inputs.ulimits),
        ),
        "root": {"path": inputs.rootfs, **({"readonly": True} if host.readonly_rootfs else {})},
        "mounts": _mounts(container, inputs),
        "linux": _linux(container, inputs),
    }
    if host.uts_mode != "host":
        spec["hostname"] = inputs.hostname
    if annotations := {**(host.annotations or {}), **inputs.annotations}:
        spec["annotations"] = annotations
    cdi.apply(spec, inputs.edits)
    return spec


def environment(
    container: Container, hostname: str, *, tty: bool, linked: Iterable[str] = (), extra: Iterable[str] = ()
) -> list[str]:
    """Docker's variables, those of links, the container's, then `extra`.

    Later ones replace, a name without "=" removes.
    """
    variables: dict[str, str] = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if tty:
        variables["TERM"] = "xterm"
    for entry in (*linked, *(container.config.env or ()), *extra):
        name, separator, value = entry.partition("=")
        if separator:
            variables[name] = value
        else:
            variables.pop(name, None)
    return [f"{name}={value}" for name, value in variables.items()]


def process(
    container: Container,
    *,
    host: Host,
    user: ResolvedUser,
    args: Sequence[str],
    env: Sequence[str],
    cwd: str,
    terminal: bool,
    console_size: tuple[int, int] | None = None,
    privileged: bool = False,
    ulimits: Sequence[Ulimit] = (),
) -> Json:
    """The spec's `process`, of a container or of an exec in it. `console_size` is height and width."""
    settings = container.host
    options = security.parse(settings.security_opt)
    held = capability_set(settings, host, privileged=privileged or settings.privileged)
    made: Json = {
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": list(args),
        "env": [*env, *([] if any(entry.startswith("HOME=") for entry in env) else [f"HOME={user.home}"])],
        "cwd": cwd or "/",
        "capabilities": {name: list(held) for name in ("bounding", "effective", "permitted")},
        "oomScoreAdj": settings.oom_score_adj,
        "noNewPrivileges": options.no_new_privileges,
    }
    if terminal:
        made["terminal"] = True
        if console_size and console_size != (0, 0):
            made["consoleSize"] = {"height": console_size[0], "width": console_size[1]}
    if ulimits:
        made["rlimits"] = [_rlimit(limit) for limit in ulimits]
    if host.apparmor and options.apparmor and not settings.privileged:
        made["apparmorProfile"] = options.apparmor
    return made


def early_limits(ulimits: Sequence[Ulimit]) -> list[Ulimit]:
    """Those that the runtime sets."""
    return [limit for limit in ulimits if not _is_late(limit)]


def late_limits(ulimits: Sequence[Ulimit]) -> list[Ulimit]:
    """Limits too low for the runtime itself, which sets them before its own work is done (crun 1.8.1: some 30 files).

    Whoever starts the container sets them on its first process before that runs.
    """
    return [limit for limit in ulimits if _is_late(limit)]


def _is_late(limit: Ulimit) -> bool:
    """One that cannot be at all, soft above hard, is left to the runtime to refuse."""
    return (
        limit.name.upper() == "NOFILE"
        and 0 <= limit.soft < RUNTIME_FILES
        and (limit.hard < 0 or limit.soft <= limit.hard)
    )


def capability_set(settings: HostConfig, host: Host, *, privileged: bool) -> tuple[str, ...]:
    """What a process of the container may hold. The seccomp profile depends on it."""
    return capabilities.resolve(settings.cap_add, settings.cap_drop, privileged=privileged, available=host.capabilities)


def _rlimit(limit: Ulimit) -> Json:
    name = limit.name.upper()
    if name not in _RLIMITS:
        raise runtime_refusal(f"wrong rlimit value: RLIMIT_{name}")
    # -1 is "unlimited" (setrlimit(2)): the kernel's number is unsigned.
    return {"type": f"RLIMIT_{name}", "soft": limit.soft & _UNLIMITED, "hard": limit.hard & _UNLIMITED}


# --- mounts


def _mount(destination: str, kind: str, source: str, *options: str) -> Json:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _own_mounts(settings: HostConfig, inputs: SpecInputs) -> list[Json]:
    """What every container has."""
    privileged = settings.privileged
    read_only = [] if privileged else ["ro"]
    mounts = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", *read_only),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *read_only, "nosuid", "noexec", "nodev"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
    ]
    if inputs.shm:
        mounts.append(_mount("/dev/shm", "bind", inputs.shm, "rbind", "rprivate"))
    elif settings.ipc_mode != "none":
        options = ("nosuid", "noexec", "nodev", "mode=1777", f"size={settings.shm_size}")
        mounts.append(_mount("/dev/shm", "tmpfs", "shm", *options))
    return mounts


def _etc_mounts(etc: EtcFiles, *, read_only: bool) -> list[Json]:
    files = (("/etc/resolv.conf", etc.resolv_conf), ("/etc/hostname", etc.hostname), ("/etc/hosts", etc.hosts))
    ro = ["ro"] if read_only else []
    return [_mount(path, "bind", source, "bind", *ro, "rprivate") for path, source in files if source]


def _check_proc(point: MountPoint, rootfs: str) -> None:
    """Nothing may stand in for /proc: what runtimes write there, such as security labels, would go astray (runc)."""
    place = point.destination
    if place == "/proc" and point.source != "/proc":
        problem = "it is not of type proc"
    elif place.startswith("/proc/") and place not in _PROC_MOUNTS:
        problem = "it is inside /proc"
    else:
        return
    raise runtime_refusal(
        "unable to start container process: error during container init: "
        f'error mounting "{point.source}" to rootfs at "{place}": create mount destination for {place} mount: '
        f'check proc-safety of {place} mount: "{rootfs}{place}" cannot be mounted because {problem}'
    )


def _asked_mount(point: MountPoint, host: Host, restrictions: Sequence[str]) -> Json:
    if point.type == "tmpfs":
        return _mount(point.destination, "tmpfs", "tmpfs", *merge_tmpfs_options(point.tmpfs_options))
    options = ["bind" if point.non_recursive else "rbind"]
    if not point.read_write:
        options.append(_read_only_word(point, host))
    elif point.read_only_non_recursive or point.read_only_force_recursive:
        name = "ReadOnlyNonRecursive" if point.read_only_non_recursive else "ReadOnlyForceRecursive"
        raise SystemFailure(f"mount options conflict: !ReadOnly && BindOptions.{name}")
    options += [word for word in restrictions if word != "ro" or point.read_write]
    if point.propagation:
        options.append(point.propagation)
    return _mount(point.destination, "bind", point.source, *options)


def _read_only_word(point: MountPoint, host: Host) -> str:
    """Read-only with everything mounted below, where the kernel can."""
    if point.read_only_non_recursive and point.read_only_force_recursive:
        raise SystemFailure("mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")
    if host.kernel >= RECURSIVE_READ_ONLY:
        return "ro" if point.read_only_non_recursive else "rro"
    if point.read_only_force_recursive:
        raise SystemFailure("rro requires kernel >= 5.12")
    return "ro"


def _mounts(container: Container, inputs: SpecInputs) -> list[Json]:
    """In the order in which they are made: outer ones first."""
    settings = container.host
    for point in inputs.mounts:
        _check_proc(point, inputs.rootfs)
    asked: dict[str, Json] = {
        path: _mount(path, "tmpfs", "tmpfs", *merge_tmpfs_options(data)) for path, data in _tmpfs(settings)
    }
    asked |= {
        point.destination: _asked_mount(point, inputs.host, inputs.restrictions.get(point.destination, ()))
        for point in inputs.mounts
    }
    own = [
        mount
        for mount in _own_mounts(settings, inputs)
        if mount["destination"] not in asked and not ("/dev" in asked and mount["destination"].startswith("/dev/"))
    ]
    etc = [
        mount
        for mount in _etc_mounts(inputs.etc, read_only=settings.readonly_rootfs)
        if mount["destination"] not in asked
    ]
    if settings.readonly_rootfs:
        for mount in own:
            if mount["destination"] not in _ALWAYS_WRITABLE and "ro" not in mount["options"]:
                mount["options"].append("ro")
    added = sorted([*asked.values(), *etc], key=lambda mount: mount["destination"].count("/"))
    if inputs.init:
        own.append(_mount(INIT_PATH, "bind", inputs.init, "bind", "ro"))
    return [*own, *added]


def _tmpfs(settings: HostConfig) -> Iterable[tuple[str, str]]:
    for path, data in (settings.tmpfs or {}).items():
        yield clean(path), data


def _root_propagation(points: Iterable[MountPoint]) -> str:
    """A mount inside can only be shared with, or follow, the host's if the root that holds it does."""
    words = {point.propagation for point in points}
    if words & {"shared", "rshared"}:
        return "shared"
    return "rslave" if words & {"slave", "rslave"} else ""


# --- linux


def _linux(container: Container, inputs: SpecInputs) -> Json:
    settings = container.host
    linux: Json = {
        "resources": _resources(settings, inputs),
        "cgroupsPath": inputs.cgroup,
        "namespaces": _namespaces(settings, inputs),
    }
    if sysctls := _sysctls(container, inputs):
        linux["sysctl"] = sysctls
    if inputs.devices:
        linux["devices"] = [_device(device) for device in inputs.devices]
    if inputs.seccomp:
        linux["seccomp"] = inputs.seccomp
    if propagation := _root_propagation(inputs.mounts):
        linux["rootfsPropagation"] = propagation
    for key, paths in (("maskedPaths", settings.masked_paths), ("readonlyPaths", settings.readonly_paths)):
        if paths and not settings.privileged:
            linux[key] = paths
    return linux


def _namespaces(settings: HostConfig, inputs: SpecInputs) -> list[Json]:
    namespaces: list[Json] = [{"type": "mount"}]
    if inputs.netns:
        namespaces.append({"type": "network", "path": inputs.netns})
    if inputs.user_ns:
        namespaces.append({"type": "user", "path": inputs.user_ns})
    if settings.uts_mode != "host":
        namespaces.append({"type": "uts"})
    for kind, mode, path in (("pid", settings.pid_mode, inputs.pid_ns), ("ipc", settings.ipc_mode, inputs.ipc_ns)):
        if path:
            namespaces.append({"type": kind, "path": path})
        elif mode != "host":
            namespaces.append({"type": kind})
    if settings.cgroupns_mode == "private":
        namespaces.append({"type": "cgroup"})
    return namespaces


def _sysctls(container: Container, inputs: SpecInputs) -> Json:
    settings = container.host
    own_network = bool(inputs.netns) and container.sandbox.mode.partition(":")[0] != "container"
    sysctls: Json = dict(_NETWORK_SYSCTLS) if own_network else {}
    if own_network and container.ids is not None:  # groups that there are none of cannot be named
        sysctls["net.ipv4.ping_group_range"] = f"0 {container.ids.size - 1}"
    if container.config.domainname and settings.uts_mode != "host":
        sysctls["kernel.domainname"] = container.config.domainname
    for name, value in (settings.sysctls or {}).items():
        _check_sysctl(name.replace("/", ".") if "/" in name.partition(".")[0] else name, settings, inputs)
        sysctls[name] = value
    return sysctls


def _check_sysctl(name: str, settings: HostConfig, inputs: SpecInputs) -> None:
    """Only settings of a namespace that the container has to itself: any other would change the host's."""
    if name.startswith("net."):
        if not inputs.netns:
            raise runtime_refusal(f'sysctl "{name}" not allowed in host network namespace')
    elif name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        if settings.ipc_mode == "host":
            raise runtime_refusal(f'sysctl "{name}" is not allowed in the hosts ipc namespace')
    elif name == "kernel.hostname" and settings.uts_mode != "host":
        raise runtime_refusal(f'sysctl "{name}" is not allowed as it conflicts with the OCI "hostname" field')
    elif name != "kernel.domainname" or settings.uts_mode == "host":
        raise runtime_refusal(f'sysctl "{name}" is not in a separate kernel namespace')


def _device(device: Device) -> Json:
    return {
        "path": device.path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": device.uid,
        "gid": device.gid,
    }


def _rule(rule: DeviceRule) -> Json:
    made: Json = {"allow": rule.allow, "access": rule.access}
    if rule.kind != "a":
        made["type"] = rule.kind
    for name, number in (("major", rule.major), ("minor", rule.minor)):
        if number != ANY:
            made[name] = number
    return made


def device_rules(settings: HostConfig, mapped: Sequence[tuple[Device, str]]) -> list[DeviceRule]:
    """Rules beyond the default ones: everything for a privileged container, else its devices and its own rules."""
    if settings.privileged:
        return [devices.EVERYTHING]
    for device, access in mapped:
        if not access:
            raise runtime_refusal(f"device access of {device.path} cannot be empty")
        if unknown := next((word for word in access if word not in devices.PERMISSIONS), None):
            raise runtime_refusal(f"device access of {device.path}: unknown permission {unknown}")
    rules = [DeviceRule(True, device.kind, device.major, device.minor, access) for device, access in mapped]
    return rules + [devices.parse_rule(text) for text in settings.device_cgroup_rules or ()]


# --- resources


def _resources(settings: HostConfig, inputs: SpecInputs) -> Json:
    rules = [*devices.DEFAULT_RULES, *inputs.device_rules]
    resources: Json = {"devices": [_rule(rule) for rule in rules]}
    for key, values in (
        ("memory", _memory(settings, inputs.host)),
        ("cpu", _cpu(settings)),
        ("blockIO", _block_io(settings, inputs.block_devices)),
    ):
        if values:
            resources[key] = values
    if settings.pids_limit and settings.pids_limit > 0:
        resources["pids"] = {"limit": settings.pids_limit}
    return resources


def _memory(settings: HostConfig, host: Host) -> Json:
    memory: Json = {}
    if settings.memory > 0:
        memory["limit"] = settings.memory
    if settings.memory_reservation > 0:
        memory["reservation"] = settings.memory_reservation
    if settings.memory_swap > 0:
        memory["swap"] = settings.memory_swap
    if settings.memory_swappiness is not None:
        memory["swappiness"] = settings.memory_swappiness
    if settings.oom_kill_disable and host.cgroups is not CgroupLayout.V2:
        memory["disableOOMKiller"] = True
    return memory


def _cpu(settings: HostConfig) -> Json:
    shares = settings.cpu_shares
    if shares < 0:
        raise SystemFailure("shares: invalid argument")
    prefix = "unable to start container process: error during container init: error setting cgroup config for procHooks"
    if shares == 1:
        raise runtime_refusal(f"{prefix} process: the minimum allowed cpu-shares is 2")
    if shares > 262144:
        raise runtime_refusal(f"{prefix} process: the maximum allowed cpu-shares is 262144")
    quota, period = settings.cpu_quota, settings.cpu_period
    if settings.nano_cpus > 0:
        quota, period = settings.nano_cpus * _PERIOD // 10**9, _PERIOD
    values = {
        "shares": shares,
        "quota": quota,
        "period": period,
        "realtimePeriod": settings.cpu_realtime_period,
        "realtimeRuntime": settings.cpu_realtime_runtime,
        "cpus": settings.cpuset_cpus,
        "mems": settings.cpuset_mems,
    }
    return {name: value for name, value in values.items() if value and value != -1}  # -1: unlimited, as without


def _block_io(settings: HostConfig, numbers: Mapping[str, tuple[int, int]]) -> Json:
    io: Json = {"weight": settings.blkio_weight} if settings.blkio_weight else {}
    if settings.blkio_weight_device:
        io["weightDevice"] = [
            {**_numbered(device, numbers), "weight": device.weight} for device in settings.blkio_weight_device
        ]
    for name, throttled in (
        ("throttleReadBpsDevice", settings.blkio_device_read_bps),
        ("throttleWriteBpsDevice", settings.blkio_device_write_bps),
        ("throttleReadIOPSDevice", settings.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", settings.blkio_device_write_iops),
    ):
        if throttled:
            io[name] = [{**_numbered(device, numbers), "rate": device.rate} for device in throttled]
    return io


def _numbered(device: WeightDevice | ThrottleDevice, numbers: Mapping[str, tuple[int, int]]) -> Json:
    major, minor = numbers[device.path]
    return {"major": major, "minor": minor}


def limited_devices(settings: HostConfig) -> Collection[str]:
    """Paths of the block devices that the limits name, to be numbered for `SpecInputs.block_devices`."""
    lists = (
        settings.blkio_weight_device,
        settings.blkio_device_read_bps,
        settings.blkio_device_write_bps,
        settings.blkio_device_read_iops,
        settings.blkio_device_write_iops,
    )
    return {device.path for entries in lists for device in entries or ()}
