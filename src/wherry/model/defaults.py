"""What Docker fills in where a HostConfig says nothing. Pure: the record keeps the result, inspect shows it."""

from __future__ import annotations

from wherry.model.config import HostConfig, LogConfig
from wherry.model.host import CgroupLayout

SHM_SIZE = 64 << 20  # bytes
LOG_DRIVER = "json-file"

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


def complete(host: HostConfig, *, cgroups: CgroupLayout, runtime: str) -> None:
    """Fill in, in place. Idempotent: what is given stays."""
    if host.network_mode in ("", "default"):
        host.network_mode = "bridge"
    if not host.restart_policy.name:
        host.restart_policy.name = "no"
    if not host.log_config.type:
        host.log_config = LogConfig(LOG_DRIVER, host.log_config.config)
    if host.log_config.config is None:
        host.log_config.config = {}
    if not host.ipc_mode:
        host.ipc_mode = "private"
    if not host.cgroupns_mode:
        host.cgroupns_mode = "private" if cgroups is CgroupLayout.V2 else "host"
    if not host.runtime:
        host.runtime = runtime
    if not host.shm_size:
        host.shm_size = SHM_SIZE
    if host.oom_kill_disable is None and cgroups is not CgroupLayout.V2:
        host.oom_kill_disable = False
    if host.memory > 0 and host.memory_swap == 0:
        host.memory_swap = 2 * host.memory
    if host.memory_swappiness == -1:
        host.memory_swappiness = None
    if host.pids_limit == 0:
        host.pids_limit = None
    if not host.privileged:
        host.masked_paths = list(MASKED_PATHS) if host.masked_paths is None else host.masked_paths
        host.readonly_paths = list(READONLY_PATHS) if host.readonly_paths is None else host.readonly_paths
    if host.security_opt is None and (host.privileged or "host" in (host.pid_mode, host.ipc_mode)):
        host.security_opt = ["label=disable"]
