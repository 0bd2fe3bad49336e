"""What is asked of a container, checked before anything is made.

In the order and the words of the real engine, so that a client sees the same refusal for the same mistake. What this
engine does not do yet is refused here too, and says so: no option is dropped silently.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterator

from wherry.errors import InvalidParameter, NotSupported, SystemFailure
from wherry.model import capabilities, cpusets, logging_options, mounts, security, signals
from wherry.model.config import Config, Healthcheck, HostConfig, NetworkingConfig, RestartPolicy
from wherry.model.container_defaults import SHM_SIZE
from wherry.model.host import CgroupLayout, Host
from wherry.model.mounts import parse_volumes_from

MINIMUM_MEMORY = 6 * 1024 * 1024
MINIMUM_NANO_CPUS = 10**7  # less is no quota that the kernel takes

# What Docker hides from a container, and what it shows without letting it be written.
MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

HOST_GATEWAY = "host-gateway"

_UNDEFINED = "can't be used with links. This would result in undefined behavior"
LINK_TO_HOST = f"conflicting options: host type networking {_UNDEFINED}"


def validate(
    config: Config,
    host_config: HostConfig,
    networking: NetworkingConfig,
    host: Host,
    *,
    exists: Callable[[str], bool],
    runtimes: Collection[str],
) -> list[str]:
    """Everything that can be refused before the image is looked at; the warnings of what is accepted and discarded.

    `exists` tells whether a path of the host does; `runtimes` are the names that `--runtime` may have. Discarded
    settings are cleared in `host_config` and the working directory is tidied, as inspect shows them afterwards. Ports,
    addresses and MAC addresses are `wherry.engine.networks`' to check.

    Raises InvalidParameter (Docker's 400), SystemFailure (500) or NotSupported (501: not done by this engine).
    """
    _check_network_mode(config, host_config)
    _check_foreign_settings(host_config)
    for mount in host_config.mounts or ():
        mounts.check_options_fit(mount)
    _check_config(config)
    _check_host_config(host_config, host, exists)
    warnings = [*_check_resources(host_config, host), *_check_platform(host_config, runtimes)]
    logging_options.validate(host_config.log_config)
    warnings += _check_security(host_config, host)
    _check_users(host_config, host)
    _refuse_what_is_not_done(config, host_config, networking, host)
    return warnings


def validate_update(given: HostConfig, host: Host) -> list[str]:
    """As `validate`, for what an update gives: resources and a restart policy. Raises InvalidParameter.

    Of what is accepted and cannot be kept, the fields are cleared.
    """
    if given.restart_policy.name:  # without a name it is not given, whatever its count
        _check_restart_policy(given.restart_policy)
    return list(_check_resources(given, host, update=True))


def is_container(mode: str) -> bool:
    """Whether a namespace mode names another container: "container:X"."""
    return mode.partition(":")[0] == "container"


def _conflict(what: str) -> InvalidParameter:
    return InvalidParameter(f"conflicting options: {what}")


def _check_network_mode(config: Config, host: HostConfig) -> None:
    mode = host.network_mode
    joins = is_container(mode)
    if joins and not mode.partition(":")[2]:
        raise InvalidParameter("Invalid network mode: invalid container format container:<name|id>")
    if host.uts_mode == "host" and config.hostname:
        raise _conflict("hostname and the UTS mode")
    if mode == "host" and host.links:
        raise InvalidParameter(LINK_TO_HOST)
    if not joins:
        return
    for wrong, what in (
        (config.hostname, "hostname and the network mode"),
        (host.links, f"container type network {_UNDEFINED}"),
        (host.dns, "dns and the network mode"),
        (host.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (config.mac_address, "mac-address and the network mode"),
        (host.port_bindings or host.publish_all_ports, "port publishing and the container type network mode"),
        (config.exposed_ports, "port exposing and the container type network mode"),
    ):
        if wrong:
            raise _conflict(what)


def _check_foreign_settings(host: HostConfig) -> None:
    """Settings that only other systems have. Docker answers 500 to these."""
    if host.isolation.lower() not in ("", "default"):
        raise SystemFailure(f"Invalid isolation: \"{host.isolation}\" - linux only supports 'default'")
    for given, what in ((host.io_maximum_bandwidth, "bandwidth"), (host.io_maximum_iops, "IOPs")):
        if given:
            raise SystemFailure(f"Invalid QoS settings: linux does not support configuration of maximum {what}")


def _check_config(config: Config) -> None:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    if config.working_dir:
        config.working_dir = mounts.clean(config.working_dir)
    if config.stop_signal:
        signals.parse(config.stop_signal)
    check_env(config.env or ())
    if config.healthcheck:
        _check_healthcheck(config.healthcheck)


def check_env(env: Collection[str]) -> None:
    """Raises InvalidParameter for a variable without a name."""
    for variable in env:
        if not variable or variable.startswith("="):
            raise InvalidParameter(f"invalid environment variable: {variable}")


def _check_healthcheck(check: Healthcheck) -> None:
    for name, nanoseconds in (
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ):
        if nanoseconds != 0 and nanoseconds < 1_000_000:
            raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")
    if check.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")


def _check_host_config(host: HostConfig, facts: Host, exists: Callable[[str], bool]) -> None:
    if host.auto_remove and host.restart_policy.name not in ("", "no"):
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    for mount in host.mounts or ():
        mounts.check_mount(mount, exists)
    for entry in host.extra_hosts or ():
        _check_extra_host(entry)
    _check_restart_policy(host.restart_policy)
    capabilities.validate(host.cap_add, host.cap_drop, facts.capabilities)
    if "" in (host.annotations or {}):
        raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")


def _check_extra_host(entry: str) -> None:
    name, separator, address = entry.partition(":")
    if not separator or not name:
        raise InvalidParameter(f'bad format for add-host: "{entry}"')
    if address == HOST_GATEWAY:
        return
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None


def _check_restart_policy(policy: RestartPolicy) -> None:
    known = ("no", "always", "on-failure", "unless-stopped")
    retries = policy.maximum_retry_count
    if policy.name == "on-failure":
        problem = "maximum retry count cannot be negative" if retries < 0 else ""
    elif policy.name in ("", *known):
        problem = "maximum retry count can only be used with 'on-failure'" if retries else ""
        problem += " and cannot be negative" if retries < 0 else ""
    else:
        problem = f"unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
    if problem:
        raise InvalidParameter(f"invalid restart policy: {problem}")


def _discarded(what: str, consequence: str) -> str:
    return f"Your kernel does not support {what} or the cgroup is not mounted. {consequence}"


def _check_resources(host: HostConfig, facts: Host, *, update: bool = False) -> Iterator[str]:
    yield from _check_memory(host, facts.cgroup_features, update=update)
    yield from _check_oom_and_pids(host, facts.cgroup_features, update=update)
    yield from _check_cpu(host, facts)
    _check_cpusets(host, facts)
    yield from _check_blkio(host, facts.cgroup_features)


def _check_memory(host: HostConfig, features: frozenset[str], *, update: bool = False) -> Iterator[str]:
    if host.memory_swappiness == -1:
        host.memory_swappiness = None
    if host.memory and host.memory < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if host.memory and "memory" not in features:
        host.memory, host.memory_swap = 0, -1
        yield _discarded("memory limit capabilities", "Limitation discarded.")
    if host.memory and host.memory_swap != -1 and "memory.swap" not in features:
        host.memory_swap = -1
        yield _discarded("swap limit capabilities", "Memory limited without swap.")
    if 0 < host.memory_swap < host.memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory == 0 and host.memory_swap > 0 and not update:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    if host.memory_swappiness is not None and "memory.swappiness" not in features:
        host.memory_swappiness = None
        yield _discarded("memory swappiness capabilities", "Memory swappiness discarded.")
    if host.memory_swappiness is not None and not 0 <= host.memory_swappiness <= 100:
        raise InvalidParameter(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    if host.memory_reservation > 0 and "memory.reservation" not in features:
        host.memory_reservation = 0
        yield _discarded("memory soft limit capabilities", "Limitation discarded.")
    if 0 < host.memory_reservation < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if 0 < host.memory < host.memory_reservation:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    if host.kernel_memory or host.kernel_memory_tcp:
        host.kernel_memory = host.kernel_memory_tcp = 0
        yield _discarded("kernel memory limit capabilities", "Limitation discarded.")


def _check_oom_and_pids(host: HostConfig, features: frozenset[str], *, update: bool = False) -> Iterator[str]:
    if host.oom_kill_disable is not None and "memory.oom_kill_disable" not in features:
        if host.oom_kill_disable:
            yield "Your kernel does not support OomKillDisable. OomKillDisable discarded."
        host.oom_kill_disable = None
    if host.oom_kill_disable and not host.memory:
        yield (
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    if host.pids_limit is not None and host.pids_limit <= 0:
        host.pids_limit = 0 if update else None
    if host.pids_limit is not None and "pids" not in features:
        host.pids_limit = None
        yield _discarded("PIDs limit capabilities", "PIDs limit discarded.")


def _check_cpu(host: HostConfig, facts: Host) -> Iterator[str]:
    features = facts.cgroup_features
    if host.nano_cpus > 0 and host.cpu_period > 0:
        raise _nano_conflict("CPU Period")
    if host.nano_cpus > 0 and host.cpu_quota > 0:
        raise _nano_conflict("CPU Quota")
    if host.nano_cpus > 0 and "cpu.cfs" not in features:
        raise InvalidParameter(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    if host.nano_cpus and not MINIMUM_NANO_CPUS <= host.nano_cpus <= facts.cpus * 10**9:
        raise InvalidParameter(
            f"Range of CPUs is from 0.01 to {facts.cpus}.00, as there are only {facts.cpus} CPUs available"
        )
    if host.cpu_shares > 0 and "cpu.shares" not in features:
        host.cpu_shares = 0
        yield _discarded("CPU shares", "Shares discarded.")
    if (host.cpu_period or host.cpu_quota) and "cpu.cfs" not in features:
        host.cpu_period = host.cpu_quota = 0
        yield _discarded("CPU CFS scheduler", "Period and quota discarded.")
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if (host.cpu_realtime_period or host.cpu_realtime_runtime) and "cpu.realtime" not in features:
        raise InvalidParameter("Your kernel does not support CPU real-time scheduler")
    if host.cpu_realtime_period < 0:
        raise InvalidParameter("cpu real-time period cannot be negative")
    if 0 < host.cpu_realtime_period < host.cpu_realtime_runtime:
        raise SystemFailure("cpu real-time runtime cannot be higher than cpu real-time period")
    for given, name in ((host.cpu_percent, "percent. Percent"), (host.cpu_count, "count. Count")):
        if given:
            yield f"linux does not support CPU {name} discarded."
    host.cpu_percent = host.cpu_count = 0


def _nano_conflict(other: str) -> InvalidParameter:
    return InvalidParameter(f"Conflicting options: Nano CPUs and {other} cannot both be set")


def _check_cpusets(host: HostConfig, facts: Host) -> None:
    for field, what, asked, available in (
        ("cpus", "CPUs", host.cpuset_cpus, facts.cpuset or f"0-{facts.cpus - 1}"),
        ("mems", "memory nodes", host.cpuset_mems, facts.memory_nodes or "0"),
    ):
        try:
            numbers = cpusets.parse(asked)
        except InvalidParameter as error:
            raise InvalidParameter(f"Invalid value {asked} for cpuset {field}: {error}") from None
        if not numbers <= cpusets.parse(available):
            raise InvalidParameter(f"Requested {what} are not available - requested {asked}, available: {available}")


def _check_blkio(host: HostConfig, features: frozenset[str]) -> Iterator[str]:
    if host.blkio_weight and "blkio.weight" not in features:
        host.blkio_weight = 0
        yield _discarded("Block I/O weight", "Weight discarded.")
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if host.blkio_weight_device and "blkio.weight_device" not in features:
        host.blkio_weight_device = []
        yield _discarded("Block I/O weight_device", "Weight-device discarded.")
    if "blkio.throttle" in features:
        return
    for field, what in (
        ("blkio_device_read_bps", "BPS Block I/O read"),
        ("blkio_device_write_bps", "BPS Block I/O write"),
        ("blkio_device_read_iops", "IOPS Block read"),
        ("blkio_device_write_iops", "IOPS Block write"),
    ):
        if getattr(host, field):
            setattr(host, field, [])
            yield _discarded(f"{what} limit", f"{what} limit discarded.")


def _check_platform(host: HostConfig, runtimes: Collection[str]) -> Iterator[str]:
    ipc, target = host.ipc_mode.partition(":")[0], host.ipc_mode.partition(":")[2]
    if ipc == "container":
        if not target:
            raise InvalidParameter('failed to join IPC namespace: invalid name or ID supplied: ""')
    elif host.ipc_mode not in ("", "none", "private", "shareable", "host"):
        raise InvalidParameter(f"invalid IPC mode: {host.ipc_mode}")
    pid_joins = is_container(host.pid_mode) and host.pid_mode.partition(":")[2] != ""
    if not pid_joins and host.pid_mode not in ("", "host"):
        raise InvalidParameter(f"invalid PID mode: {host.pid_mode}")
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if host.uts_mode not in ("", "host"):
        raise InvalidParameter(f"invalid UTS mode: {host.uts_mode}")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if host.network_mode == "host" and host.port_bindings:
        yield "Published ports are discarded when using host network mode"
    if host.runtime and host.runtime not in runtimes:
        raise InvalidParameter(f"unknown or invalid runtime name: {host.runtime}")
    for path in host.tmpfs or ():
        mounts.check_destination(path)
    if host.cgroupns_mode not in ("", "host", "private"):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host.cgroupns_mode}")


def _check_security(host: HostConfig, facts: Host) -> Iterator[str]:
    options = security.parse(host.security_opt)
    if options.apparmor not in ("", security.UNCONFINED) and not facts.apparmor:
        yield f"AppArmor is not enabled on this host. Profile {options.apparmor} discarded."
    if facts.selinux and any(label != "disable" for label in options.labels):
        raise NotSupported("SELinux labels are not supported: use --security-opt label=disable")


def _check_users(host: HostConfig, facts: Host) -> None:
    """What a container with users of its own cannot have. Docker answers 500 to these."""
    if facts.id_map is None or host.userns_mode == "host":
        return
    if host.privileged:
        raise SystemFailure(
            "privileged mode is incompatible with user namespaces.  "
            "You must run the container in the host namespace when running privileged mode"
        )
    if host.network_mode == "host":
        raise SystemFailure("cannot share the host's network namespace when user namespaces are enabled")
    if host.pid_mode == "host":
        raise SystemFailure("cannot share the host PID namespace when user namespaces are enabled")


def _refuse(given: object, what: str) -> None:
    if given:
        raise NotSupported(f"{what} not supported by this engine yet")


def _refuse_what_is_not_done(config: Config, host: HostConfig, networking: NetworkingConfig, facts: Host) -> None:
    """The list of what is known and not done. `docs/differences.md` has it for people."""
    elsewhere = "links (--link) in another network than the default one are"
    _refuse(host.links and host.network_mode not in ("", "default", "bridge", "none"), elsewhere)
    endpoints = (networking.endpoints_config or {}).values()
    _refuse(any(endpoint and endpoint.links for endpoint in endpoints), elsewhere)
    _refuse(host.cgroup, "joining a container's cgroup (HostConfig.Cgroup) is")
    if host.storage_opt:
        if unknown := next((name for name in host.storage_opt if name != "size"), None):
            raise SystemFailure(f"Unknown option {unknown}")
        raise SystemFailure("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    for name in host.annotations or {}:
        _refuse(name.startswith("run.oci."), f"annotation {name}: annotations of the runtime's own are")
    if facts.selinux:
        modes = [mounts.parse_mode(bind.rpartition(":")[2]) for bind in host.binds or () if ":" in bind]
        _refuse(any(mode and mode.label for mode in modes), "relabelling of mounts for SELinux (:z, :Z) is")
    for spec in host.volumes_from or ():
        parse_volumes_from(spec)


def adapt(host_config: HostConfig, host: Host, default_runtime: str, shm_size: int = SHM_SIZE) -> None:
    """Fill in what was left open, in place, as inspect shows it. Call after `validate`."""
    if host_config.network_mode in ("", "default"):
        host_config.network_mode = "bridge"
    if host_config.memory > 0 and host_config.memory_swap == 0:
        host_config.memory_swap = 2 * host_config.memory
    host_config.shm_size = host_config.shm_size or shm_size
    host_config.ipc_mode = host_config.ipc_mode or "private"
    if not host_config.cgroupns_mode:
        private = host.cgroups is CgroupLayout.V2 and not host_config.privileged
        host_config.cgroupns_mode = "private" if private else "host"
    if host_config.oom_kill_disable is None and "memory.oom_kill_disable" in host.cgroup_features:
        host_config.oom_kill_disable = False
    host_config.runtime = host_config.runtime or default_runtime
    host_config.restart_policy.name = host_config.restart_policy.name or "no"
    if not host_config.privileged:
        if host_config.masked_paths is None:
            host_config.masked_paths = list(MASKED_PATHS)
        if host_config.readonly_paths is None:
            host_config.readonly_paths = list(READONLY_PATHS)
    if host_config.privileged or "host" in (host_config.ipc_mode, host_config.pid_mode):
        host_config.security_opt = [*(host_config.security_opt or ()), "label=disable"]
