"""Everything of one engine's that can be left over on a host, as values that can be compared.

clean = take(daemon)
...                                   # make things, kill the daemon, start it again, remove the things
assert take(daemon).beyond(clean) == []
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from tests.support.daemon import Wherryd
from wherry.model.host import Roots

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Inventory:
    mounts: frozenset[str]  # mount points
    links: frozenset[str]  # ports of our bridge
    namespaces: frozenset[str]  # network namespaces of our processes, or held open by the daemon
    cgroups: frozenset[str]
    rules: frozenset[str]  # elements of our table, and rules of ours in other tables
    files: frozenset[str]  # in data root and exec root
    processes: frozenset[str]  # that name our roots, or live in our cgroups
    ports: frozenset[str]  # sockets of the daemon's

    def beyond(self, other: Inventory) -> list[str]:
        """What is here and not there, one line each; of a tree of files its top alone."""
        return [
            f"{field.name}: {entry}"
            for field in fields(self)
            for entry in _tops(getattr(self, field.name) - getattr(other, field.name))
        ]


def _tops(entries: frozenset[str]) -> list[str]:
    return sorted(entry for entry in entries if os.path.dirname(entry) not in entries)


def take(daemon: Wherryd) -> Inventory:
    """The inventory of a daemon that runs or not."""
    bridge = daemon.bridge
    cgroups = list(_cgroups(daemon))
    processes = dict(_processes(daemon, cgroups))
    return Inventory(
        mounts=frozenset(_mounts(daemon)),
        links=frozenset(_names(Path(f"/sys/class/net/{bridge}/brif"))),
        namespaces=frozenset(_namespaces(daemon, list(processes))),
        cgroups=frozenset(str(path) for path in cgroups),
        rules=frozenset(_rules(bridge)),
        files=frozenset(_files(daemon)),
        processes=frozenset(processes.values()),
        ports=frozenset(_ports(daemon)),
    )


def assert_nothing_beyond(clean: Inventory, daemon: Wherryd, seconds: float = 5.0) -> None:
    """Nothing is left over, at the latest in some seconds: the kernel takes its time with some things."""
    deadline = time.monotonic() + seconds
    while left := take(daemon).beyond(clean):
        if time.monotonic() > deadline:
            raise AssertionError("left over:\n" + "\n".join(left))
        time.sleep(0.05)


def _mounts(daemon: Wherryd) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if point.startswith(f"{daemon.folder}/"):
            yield point


def _cgroups(daemon: Wherryd) -> Iterator[Path]:
    parent = Roots(daemon.data, daemon.run).cgroup_parent.lstrip("/")
    for hierarchy in (CGROUPS, *CGROUPS.iterdir()):
        top = hierarchy / parent
        if top.is_dir():
            yield from (Path(folder) for folder, _, _ in os.walk(top) if Path(folder) != top)


def _processes(daemon: Wherryd, cgroups: list[Path]) -> Iterator[tuple[int, str]]:
    """(PID, command line) of all but the daemon itself."""
    inside: set[int] = set()
    for group in cgroups:
        try:
            inside.update(map(int, (group / "cgroup.procs").read_text().split()))
        except OSError:
            continue
    for name in os.listdir("/proc"):
        if not name.isdigit() or (daemon.process and int(name) == daemon.process.pid):
            continue
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if int(name) in inside or f"{daemon.folder}/" in line:
            yield int(name), f"{name} {line}"


def _namespaces(daemon: Wherryd, pids: list[int]) -> Iterator[str]:
    host = os.readlink("/proc/self/ns/net")
    candidates = [Path(f"/proc/{pid}/ns/net") for pid in pids]
    if daemon.process:
        descriptors = Path(f"/proc/{daemon.process.pid}/fd")
        candidates += [descriptors / name for name in _names(descriptors)]
    for path in candidates:
        try:
            target = os.readlink(path)
        except OSError:
            continue
        if target.startswith("net:[") and target != host:
            yield target


def _rules(bridge: str) -> Iterator[str]:
    """Elements of the maps and sets of our table, and lines of any other table that name our bridge."""
    nft = shutil.which("nft") or "/usr/sbin/nft"
    shown = subprocess.run([nft, "-json", "list", "ruleset"], check=True, capture_output=True)
    for entry in json.loads(shown.stdout)["nftables"]:
        for kind in ("map", "set"):
            if (found := entry.get(kind)) and bridge and found["table"].startswith(bridge):
                yield from (f"{found['name']} {json.dumps(element)}" for element in found.get("elem", ()))
        if (found := entry.get("table")) and bridge and found["name"].startswith(f"{bridge}_"):
            yield f"table {found['name']}"
        if (rule := entry.get("rule")) and bridge and f'"{bridge}"' in json.dumps(rule.get("expr")):
            place = f"{rule['family']} {rule['table']} {rule['chain']}".replace(bridge, "BRIDGE")
            yield f"{place} {_without_counters(rule['expr'])}".replace(f'"{bridge}"', "BRIDGE")


def _without_counters(expressions: list[object]) -> str:
    return re.sub(r'"(packets|bytes)": \d+', r'"\1": 0', json.dumps(expressions))


def _files(daemon: Wherryd) -> Iterator[str]:
    """Paths below the roots, without following mounts; the database's companions come and go."""
    for root in (daemon.data, daemon.run):
        device = root.stat().st_dev if root.exists() else 0
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if _device(Path(folder, name)) == device]
            for name in (*folders, *names):
                if not name.endswith(("-wal", "-shm")):
                    yield str(Path(folder, name).relative_to(daemon.folder))


def _device(path: Path) -> int:
    try:
        return path.lstat().st_dev
    except OSError:
        return -1


_CONNECTED = ("01", "08")  # established, and closed by the other side


def _ports(daemon: Wherryd) -> Iterator[str]:
    """Local addresses of the daemon's TCP and UDP sockets (proc(5), /proc/net/tcp), but of connections that it made:
    those to registries are kept for a while."""
    if not daemon.process:
        return
    folder = Path(f"/proc/{daemon.process.pid}/fd")
    mine = set()
    for name in _names(folder):
        try:
            mine.add(os.readlink(folder / name))
        except OSError:
            continue
    for protocol in ("tcp", "udp", "tcp6", "udp6"):
        table = Path("/proc/net") / protocol
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            columns = line.split()
            connected = protocol.startswith("tcp") and columns[3] in _CONNECTED
            if f"socket:[{columns[9]}]" in mine and not connected:
                yield f"{protocol} {columns[1]}"


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
