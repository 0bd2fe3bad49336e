"""The host as a value: what this engine stands on, handed to whoever needs it.

Rootless will be another value, not another program.
"""

from __future__ import annotations

import enum
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from wherry.model import capabilities
from wherry.model.idmaps import IdMap

# Limits that some kernels or hierarchies lack, by the file that sets them in v1 (v2 has its own for each).
CGROUP_FEATURES = frozenset(
    {
        "memory",
        "memory.swap",
        "memory.swappiness",
        "memory.reservation",
        "memory.oom_kill_disable",
        "cpu.shares",
        "cpu.cfs",
        "cpu.realtime",
        "cpuset",
        "pids",
        "blkio.weight",
        "blkio.weight_device",
        "blkio.throttle",
    }
)


DEFAULT_DATA = Path("/var/lib/wherry")
DEFAULT_RUN = Path("/run/wherry")


class CgroupLayout(enum.Enum):
    """How cgroups are mounted (cgroups(7)): v2 alone, v1 alone, or v1 controllers beside an empty-handed v2 tree."""

    V1 = "v1"
    HYBRID = "hybrid"
    V2 = "v2"


@dataclass(frozen=True)
class Roots:
    """Where the engine keeps things. `data` survives a reboot; `run` (the exec root) is expected not to."""

    data: Path
    run: Path

    def container(self, container_id: str) -> Path:
        """Durable files of one container: generated /etc files, its log, its exit record."""
        return self.data / "containers" / container_id

    def bundle(self, container_id: str) -> Path:
        """Files of one container's current run: config.json, monitor pid file, control FIFO, attach socket."""
        return self.run / "containers" / container_id

    def exec_bundle(self, exec_id: str) -> Path:
        """Files of one exec, while it runs."""
        return self.run / "execs" / exec_id

    @property
    def cgroup_parent(self) -> str:
        """Parent of the containers' cgroups; each engine of the host has its own, as each has its own exec root."""
        if self.run == DEFAULT_RUN:
            return "/wherry"
        return f"/wherry-{hashlib.sha256(os.fsencode(self.run)).hexdigest()[:8]}"

    @property
    def runtime_state(self) -> Path:
        """The OCI runtime's own state directory (`crun --root`)."""
        return self.run / "runtime"


@dataclass(frozen=True)
class Binaries:
    """Absolute paths of the programs the engine runs; None where the host lacks one."""

    conmon: Path | None
    crun: Path | None
    runc: Path | None
    init: Path | None  # tini or catatonit, statically linked enough to run in any root


@dataclass(frozen=True)
class Host:
    """Facts of the host, probed once at start (`wherry.linux.host.probe`)."""

    roots: Roots
    binaries: Binaries
    cgroups: CgroupLayout
    controllers: frozenset[str]  # usable controllers: cpu, memory, pids, cpuset, io or blkio, ...
    kernel: tuple[int, int]
    boot_id: str
    cpus: int
    memory: int  # bytes
    nftables: bool
    ipv6: bool
    apparmor: bool
    selinux: bool
    seccomp: bool
    crun_version: tuple[int, ...] = ()
    capabilities: frozenset[str] = frozenset(capabilities.ALL)  # what the engine itself holds (its bounding set)
    cgroup_features: frozenset[str] = CGROUP_FEATURES  # which limits the mounted controllers can keep
    cpuset: str = ""  # CPUs that containers can have, "0-3"; "" where not known
    memory_nodes: str = ""  # NUMA nodes likewise
    id_map: IdMap | None = None  # of containers that do not say otherwise (--userns-remap)
    cdi_directories: tuple[Path, ...] = (Path("/etc/cdi"), Path("/var/run/cdi"))  # where vendors describe devices
    warnings: tuple[str, ...] = field(default=())  # one sentence each: what is missing, what it means, how to get it
