"""Which processes make up an engine, and what they weigh.

Found, for any engine that speaks the Docker API:

- the daemon, by asking the kernel who listens on the socket (SO_PEERCRED, unix(7));
- its descendants, except containers: what starts at a container's first process (State.Pid) is the user's, not ours;
- monitors (conmon, containerd's shims): the parent of each container's first process, whoever has adopted it;
- processes of an engine's helpers that name the daemon's data root or exec root on their command line: containerd,
  docker-proxy, monitors that wait for a container not yet there.

The weight is PSS (proc_pid_smaps(5)): memory shared between processes is counted once, by shares.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.http import Connection

HELPERS = (
    "aardvark-dns",
    "conmon",
    "containerd",
    "containerd-shim",
    "crun",
    "docker-proxy",
    "netavark",
    "pasta",
    "rootlessport",
    "runc",
)


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Weight:
    megabytes: float
    processes: Mapping[str, int]  # how many of each name


def weigh(socket_path: str) -> Weight:
    """PSS of all processes of the engine that listens on the socket."""
    table = read_table()
    names: dict[str, int] = {}
    total = 0
    for pid in pids_of_engine(socket_path, table):
        try:
            total += _pss(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        names[table[pid].name] = names.get(table[pid].name, 0) + 1
    return Weight(total / 1024, dict(sorted(names.items())))


def pids_of_engine(socket_path: str, table: Mapping[int, Process] | None = None) -> set[int]:
    """All processes of the engine that listens on the socket."""
    table = read_table() if table is None else table
    return engine_processes(table, listener(socket_path), container_processes(socket_path), _roots(socket_path, table))


def engine_processes(
    table: Mapping[int, Process], daemon: int, containers: Iterable[int], roots: Iterable[str]
) -> set[int]:
    """The rule of this module's docstring, on a table of processes by PID."""
    containers, roots = set(containers), tuple(roots)
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    chosen: set[int] = set()
    seeds = {daemon} | {table[pid].parent for pid in containers if pid in table and table[pid].parent > 1}
    seeds |= {process.pid for process in table.values() if _names_a_root(process, roots)}
    waiting = [pid for pid in seeds if pid in table]
    while waiting:
        pid = waiting.pop()
        if pid in chosen or pid in containers:
            continue
        chosen.add(pid)
        waiting += children.get(pid, [])
    return chosen


def _names_a_root(process: Process, roots: tuple[str, ...]) -> bool:
    return process.name.startswith(HELPERS) and any(
        argument == root or argument.startswith(f"{root}/") or f":{root}/" in argument or f"={root}/" in argument
        for argument in process.arguments
        for root in roots
    )


def listener(socket_path: str) -> int:
    """PID of the process that listens on the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.connect(socket_path)
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def container_processes(socket_path: str) -> list[int]:
    """The first process of each running container."""
    with Connection(socket_path) as engine:
        running = [entry["Id"] for entry in engine.call("GET", "/containers/json")]
        states = [engine.call("GET", f"/containers/{container}/json")["State"] for container in running]
    return [state["Pid"] for state in states if state["Pid"]]


def read_table() -> dict[int, Process]:
    """Every process of the host, kernel threads apart."""
    table = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes()
            status = (entry / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        name, _, rest = status.partition("(")[2].rpartition(")")
        if arguments:
            words = tuple(word.decode(errors="replace") for word in arguments.rstrip(b"\0").split(b"\0"))
            table[int(entry.name)] = Process(int(entry.name), int(rest.split()[1]), name, words)
    return table


def _roots(socket_path: str, table: Mapping[int, Process]) -> list[str]:
    """The daemon's data root (GET /info) and what its command line gives as data root and exec root."""
    with Connection(socket_path) as engine:
        roots = [engine.call("GET", "/info")["DockerRootDir"]]
    arguments = table[listener(socket_path)].arguments
    for name in ("--data-root", "--exec-root", "--root", "--runroot"):
        for at, argument in enumerate(arguments):
            if argument == name and at + 1 < len(arguments):
                roots.append(arguments[at + 1])
            elif argument.startswith(f"{name}="):
                roots.append(argument.partition("=")[2])
    return [root.rstrip("/") for root in roots if root.strip("/")]


def _pss(pid: int) -> int:
    """Kilobytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
