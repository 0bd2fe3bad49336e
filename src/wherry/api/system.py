"""GET /version, /info and /_ping: what this engine and its host are."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import time
from dataclasses import dataclass
from typing import Any

from wherry.api import as_of, versions
from wherry.api.app import HEADERS, VERSION, Call, Route
from wherry.api.server import Answer, Response
from wherry.engine.facts import Facts
from wherry.model.host import CgroupLayout
from wherry.model.registry_options import LOOPBACK, RegistryOptions, network
from wherry.model.states import Status
from wherry.model.timestamps import rfc3339_nano

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
PING = HEADERS | {
    "Builder-Version": "1",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
    "Content-Type": "text/plain; charset=utf-8",
}


def routes(facts: Facts) -> list[Route]:
    """The routes that tell these facts."""

    def ping(call: Call) -> Response:
        return Response(200, PING, b"" if call.method == "HEAD" else b"OK")

    def version(call: Call) -> Response:
        return call.json(encode_version(facts))

    async def info(call: Call) -> Answer:
        present = await asyncio.to_thread(look)
        runtimes = await asyncio.to_thread(_runtimes, facts)
        return call.json(as_of.info(call.version, encode_info(facts, runtimes, present, time.time_ns())))

    return [
        Route("GET", "/_ping", ping),
        Route("HEAD", "/_ping", ping),
        Route("GET", "/version", version),
        Route("GET", "/info", info),
    ]


def encode_version(facts: Facts) -> dict[str, Any]:
    """SystemVersion: ours, and the programs that do the isolating."""
    machine = platform.machine()
    own = {
        "ApiVersion": versions.text(versions.NEWEST),
        "Arch": ARCHITECTURES.get(machine, machine),
        "BuildTime": facts.build_time,
        "Experimental": "false",
        "GitCommit": facts.commit,
        "GoVersion": f"python{platform.python_version()}",
        "KernelVersion": os.uname().release,
        "MinAPIVersion": versions.text(versions.OLDEST),
        "Os": "linux",
    }
    components: list[dict[str, Any]] = [{"Name": "Engine", "Version": VERSION, "Details": own}]
    components += [
        {"Name": program.name, "Version": program.version, "Details": {"GitCommit": program.commit}}
        for program in facts.programs
    ]
    return {
        "Platform": {"Name": "Wherry"},
        "Components": components,
        "Version": VERSION,
        **{key: own[key] for key in ("ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch")},
        "KernelVersion": own["KernelVersion"],
        "BuildTime": own["BuildTime"],
    }


@dataclass(frozen=True)
class Present:
    """What the kernel says at this moment."""

    forwarding: bool
    bridge_filter: bool
    bridge_filter6: bool
    open_files: int


def look() -> Present:
    """Blocking: reads /proc."""
    return Present(
        forwarding=_sysctl("net/ipv4/ip_forward"),
        bridge_filter=_sysctl("net/bridge/bridge-nf-call-iptables"),
        bridge_filter6=_sysctl("net/bridge/bridge-nf-call-ip6tables"),
        open_files=len(os.listdir("/proc/self/fd")),
    )


def encode_info(facts: Facts, runtimes: dict[str, Any], present: Present, now_ns: int) -> dict[str, Any]:
    """SystemInfo, all keys of API 1.45."""
    host = facts.host
    statuses = [container.state.status for container in facts.containers()]
    paused = statuses.count(Status.PAUSED)
    alive = sum(status in (Status.RUNNING, Status.RESTARTING) for status in statuses)
    features = host.cgroup_features
    v1 = host.cgroups is not CgroupLayout.V2
    return {
        "ID": facts.id,
        "Containers": len(statuses),
        "ContainersRunning": alive,
        "ContainersPaused": paused,
        "ContainersStopped": len(statuses) - alive - paused,
        "Images": facts.image_count(),
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", facts.backing_filesystem], ["Supports d_type", "true"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": None,
            "Log": ["json-file", "local", "none"],
        },
        "MemoryLimit": "memory" in features,
        "SwapLimit": "memory.swap" in features,
        "KernelMemoryTCP": False,
        "CpuCfsPeriod": "cpu.cfs" in features,
        "CpuCfsQuota": "cpu.cfs" in features,
        "CPUShares": "cpu.shares" in features,
        "CPUSet": "cpuset" in features,
        "PidsLimit": "pids" in features,
        "IPv4Forwarding": present.forwarding,
        "BridgeNfIptables": present.bridge_filter,
        "BridgeNfIp6tables": present.bridge_filter6,
        "Debug": facts.settings.debug,
        "NFd": present.open_files,
        "OomKillDisable": "memory.oom_kill_disable" in features,
        "NGoroutines": facts.tasks(),
        "SystemTime": rfc3339_nano(now_ns),
        "LoggingDriver": facts.settings.defaults.log_driver,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "1" if v1 else "2",
        "NEventsListener": facts.listeners(),
        "KernelVersion": os.uname().release,
        "OperatingSystem": facts.operating_system,
        "OSVersion": facts.os_version,
        "OSType": "linux",
        "Architecture": platform.machine(),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": encode_registries(facts.settings.registries),
        "NCPU": host.cpus,
        "MemTotal": host.memory,
        "GenericResources": None,
        "DockerRootDir": str(host.roots.data),
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": socket.gethostname(),
        "Labels": list(facts.settings.labels),
        "ExperimentalBuild": False,
        "ServerVersion": VERSION,
        "Runtimes": runtimes,
        "DefaultRuntime": facts.default_runtime(),
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": host.binaries.init.name if host.binaries.init else "",
        "ContainerdCommit": {"ID": "", "Expected": ""},
        "RuncCommit": {"ID": facts.runtime_commit, "Expected": facts.runtime_commit},
        "InitCommit": {"ID": "", "Expected": ""},
        "SecurityOptions": _security_options(facts),
        "CDISpecDirs": list(map(str, host.cdi_directories)),
        "Warnings": list(facts.warnings()) or None,
    }


def _runtimes(facts: Facts) -> dict[str, Any]:
    """Blocking."""
    return {name: _runtime(str(path), facts.features(path)) for name, path in facts.runtimes().items()}


def _runtime(path: str, features: str) -> dict[str, Any]:
    status = {"status": {"org.opencontainers.runtime-spec.features": features}} if features else {}
    return {"path": path, **status}


def encode_registries(options: RegistryOptions) -> dict[str, Any]:
    """RegistryServiceConfig."""
    mirrors = list(options.mirrors)
    hosts = [entry for entry in options.insecure if network(entry) is None]
    networks = dict.fromkeys(entry for entry in (*options.insecure, LOOPBACK) if entry not in hosts)
    indexes = {"docker.io": {"Name": "docker.io", "Mirrors": mirrors, "Secure": True, "Official": True}}
    indexes |= {host: {"Name": host, "Mirrors": [], "Secure": False, "Official": False} for host in hosts}
    restricted = options.nondistributable
    return {
        "AllowNondistributableArtifactsCIDRs": [entry for entry in restricted if network(entry) is not None] or None,
        "AllowNondistributableArtifactsHostnames": [entry for entry in restricted if network(entry) is None] or None,
        "InsecureRegistryCIDRs": list(networks),
        "IndexConfigs": indexes,
        "Mirrors": mirrors or None,
    }


def _security_options(facts: Facts) -> list[str]:
    options = ["name=seccomp,profile=builtin"] if facts.host.seccomp else []
    if facts.host.cgroups is CgroupLayout.V2:
        options.append("name=cgroupns")
    if facts.host.id_map is not None:
        options.append("name=userns")
    return options


def _sysctl(name: str) -> bool:
    try:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False
