"""Reading what containers use: files of cgroups and of /proc, no process, no namespace entered. Blocking, briefly."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from wherry.linux.cgroups import ROOT
from wherry.model import usage
from wherry.model.host import CgroupLayout
from wherry.model.usage import Reading

_MOST = 1 << 16  # bytes of a file of a cgroup; the longest, memory.stat, has some two thousand


@dataclass(frozen=True)
class Subject:
    """What to look at: a cgroup's path, and the names of the host's ends of its veths."""

    cgroup: str
    interfaces: Sequence[str]


def read(layout: CgroupLayout, subjects: Sequence[Subject], machine_memory: int) -> list[Reading | None]:
    """A reading of each, None where there is no such cgroup. What they share is read once."""
    host = usage.host_time(_text("/proc/stat"))
    wanted = {name for subject in subjects for name in subject.interfaces}
    counted = usage.interfaces(_text("/proc/net/dev", most=None), wanted) if wanted else {}
    return [_one(layout, subject, host, counted, machine_memory) for subject in subjects]


def _one(
    layout: CgroupLayout,
    subject: Subject,
    host: usage.HostTime,
    counted: dict[str, usage.Json],
    machine_memory: int,
) -> Reading | None:
    path = subject.cgroup.lstrip("/")
    if layout is CgroupLayout.V2:
        texts = {name: _text(f"{ROOT}/{path}/{name}") for name in usage.FILES_V2}
        parts = usage.v2(texts, host, machine_memory)
    else:
        texts = {name: _text(f"{ROOT}/{controller}/{path}/{name}") for controller, name in usage.FILES_V1}
        parts = usage.v1(texts, host, machine_memory)
    if not any(texts.values()):
        return None
    cpu, memory, pids, block_io = parts
    return Reading(time.time_ns(), cpu, memory, pids, block_io, usage.networks(subject.interfaces, counted))


def _text(path: str, most: int | None = _MOST) -> str:
    """A file's text, "" where it cannot be read. Plain calls: some hundred of these make a reading."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        data = os.read(descriptor, most or _MOST)
        while most is None and (more := os.read(descriptor, _MOST)):
            data += more
        return data.decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
