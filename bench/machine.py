"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any


def describe(engines: dict[str, Any]) -> dict[str, Any]:
    """Facts of the machine; `engines` has each engine's version answer."""
    return {
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "processor": _field("/proc/cpuinfo", "model name"),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": _field("/etc/os-release", "PRETTY_NAME", "=").strip('"'),
        "cgroups": _cgroups(),
        "favordynmods": _favordynmods(),
        "rcu_normal": _read("/sys/kernel/rcu_normal"),
        "load_at_start": os.getloadavg()[0],
        "python": sys.version.split()[0],
        "client": _output("docker", "--version"),
        "crun": _output("crun", "--version"),
        "conmon": _output("conmon", "--version"),
        "engines": engines,
    }


def _cgroups() -> str:
    mounts = _read("/proc/self/mountinfo")
    kinds = {line.split(" - ")[1].split()[0] for line in mounts.splitlines() if "/sys/fs/cgroup" in line}
    return {True: "hybrid", False: "v2" if "cgroup2" in kinds else "v1"}[{"cgroup", "cgroup2"} <= kinds]


def _favordynmods() -> bool:
    """On for any cgroup mount: it then speeds up every engine's starts, and stays on until the next boot."""
    return any("favordynmods" in line for line in _read("/proc/self/mountinfo").splitlines())


def _field(path: str, name: str, separator: str = ":") -> str:
    for line in _read(path).splitlines():
        key, _, value = line.partition(separator)
        if key.strip() == name:
            return value.strip()
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return "not installed"
    return done.stdout.partition("\n")[0].strip()
