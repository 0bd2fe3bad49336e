"""Where the time of one run goes, seen from outside: the same for every engine.

Two accounts are laid over each other. The client's: when each request of create, start, wait, remove went out and came
back. The kernel's: when processes became another program and ended, as its process connector tells (include/uapi/linux/
cn_proc.h; CONFIG_PROC_EVENTS; needs root). Of a wherryd started by `bench.inside` there is a third: which functions
took how long. All in CLOCK_MONOTONIC.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.engine import Engine
from bench.http import Connection
from bench.processes import pids_of_engine

_NETLINK_CONNECTOR = 11
_CN_IDX_PROC, _CN_VAL_PROC = 1, 1
_LISTEN, _IGNORE = 1, 2
_FORK, _EXEC, _EXIT = 0x1, 0x2, 0x80000000

_NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_CN_MSG = struct.Struct("=IIIIHH")  # idx, val, seq, ack, length, flags
_EVENT = struct.Struct("=IIQ")  # what, cpu, nanoseconds

T = TypeVar("T")


@dataclass(frozen=True)
class Moment:
    time_ns: int
    text: str


class ProcessWatcher:
    """Collects, while it is open, what becomes of `ancestors` and their descendants."""

    def __init__(self, ancestors: Iterable[int]) -> None:
        self.moments: list[Moment] = []
        self._names = {pid: _command(pid) for pid in ancestors}
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
        self._socket.bind((os.getpid(), _CN_IDX_PROC))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._collect)

    def __enter__(self) -> ProcessWatcher:
        self._control(_LISTEN)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.2)  # what ends after the last answer is part of the picture
        self._stop.set()
        self._thread.join()
        self._control(_IGNORE)
        self._socket.close()

    def _control(self, operation: int) -> None:
        body = _CN_MSG.pack(_CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0) + struct.pack("=I", operation)
        self._socket.send(_NLMSGHDR.pack(_NLMSGHDR.size + len(body), 3, 0, 0, os.getpid()) + body)

    def _collect(self) -> None:
        while not self._stop.is_set():
            if select.select([self._socket], [], [], 0.05)[0]:
                self._add(self._socket.recv(4096))

    def _add(self, data: bytes) -> None:
        at = _NLMSGHDR.size + _CN_MSG.size
        what, _cpu, time_ns = _EVENT.unpack_from(data, at)
        numbers = struct.unpack_from("=4I", data.ljust(at + 40, b"\0"), at + _EVENT.size)
        if what == _EXEC and numbers[1] in self._names:
            self._names[numbers[1]] = name = _command(numbers[1])
            self.moments.append(Moment(time_ns, f"exec {name} [{numbers[1]}]"))
        elif what == _FORK and numbers[2] == numbers[3] and numbers[1] in self._names:
            self._names[numbers[2]] = f"{self._names[numbers[1]]} (child)"
        elif what == _EXIT and numbers[0] == numbers[1] and numbers[0] in self._names:
            self.moments.append(Moment(time_ns, f"exit {self._names.pop(numbers[0])} [{numbers[0]}]"))


RUNS = 9
PAUSE = 0.3  # seconds, in which the engine clears what the run before has left


def trace(engine: Engine, work: str = "run", spans: Path | None = None) -> str:
    """The timeline, in ms, of one run in the default network or one exec: of several the one that took median time.

    `spans` is the file that `bench.inside` writes.
    """
    one = _one_exec if work == "exec" else _one_run
    if work == "exec":
        engine.keep_idle(1)
    for _ in range(3):
        one(engine, [])
    runs: list[list[Moment]] = []
    with ProcessWatcher(pids_of_engine(engine.socket)) as watcher:
        for _ in range(RUNS):
            time.sleep(PAUSE)
            runs.append([])
            one(engine, runs[-1])
    typical = sorted(runs, key=lambda run: run[-1].time_ns - run[0].time_ns)[RUNS // 2]
    others = watcher.moments
    if spans is not None:
        time.sleep(0.5)  # until the daemon has written them
        others = others + read_spans(spans, typical[0].time_ns)
    zero, end = typical[0].time_ns, typical[-1].time_ns + int(PAUSE / 2 * 1e9)
    everything = sorted(
        [*typical, *(moment for moment in others if zero <= moment.time_ns < end)], key=lambda moment: moment.time_ns
    )
    lines = [f"{engine.name}: {work}; ms"]
    lines += [f"{(moment.time_ns - zero) / 1e6:9.2f}  {moment.text}" for moment in everything]
    return "\n".join(lines)


def read_spans(path: Path, since_ns: int) -> list[Moment]:
    """The daemon's functions that began since then, indented by what they are within."""
    found = []
    for line in path.read_text().splitlines():
        *numbers, label = line.split(" ", 3)
        first, last, native = map(int, numbers)
        if first >= since_ns:
            found.append((first, last, native, label))
    found.sort(key=lambda span: (span[0], -span[1]))
    moments = []
    open_until: list[int] = []
    for began, ended, thread, name in found:
        while open_until and open_until[-1] < ended:
            open_until.pop()
        indent = "  " * (len(open_until) + 1)
        moments.append(Moment(began, f"{indent}{name}: {(ended - began) / 1e6:.2f} (thread {thread})"))
        open_until.append(ended)
    return moments


def _noted(moments: list[Moment], name: str, action: Callable[[], T]) -> T:
    moments.append(Moment(time.monotonic_ns(), f"-> {name}"))
    answer = action()
    moments.append(Moment(time.monotonic_ns(), f"<- {name}"))
    return answer


def _one_run(engine: Engine, moments: list[Moment]) -> None:
    container = _noted(moments, "create", lambda: engine.create("true"))
    _noted(moments, "start", lambda: engine.api.call("POST", f"/containers/{container}/start"))
    _noted(moments, "wait", lambda: engine.api.call("POST", f"/containers/{container}/wait"))
    _noted(moments, "remove", lambda: engine.api.call("DELETE", f"/containers/{container}"))


def _one_exec(engine: Engine, moments: list[Moment]) -> None:
    body = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}
    path = f"/containers/{engine.idle[0]}/exec"
    made = _noted(moments, "create exec", lambda: engine.api.call("POST", path, body)["Id"])
    with Connection(engine.socket) as attached:
        start = {"Detach": False, "Tty": False}
        _noted(moments, "start exec, output ends", lambda: attached.stream("POST", f"/exec/{made}/start", start))
    _noted(moments, "inspect exec", lambda: engine.api.call("GET", f"/exec/{made}/json"))


def _command(pid: int) -> str:
    """The program and its first arguments; only its name once it has ended, nothing once it is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        text = " ".join(word.decode(errors="replace") for word in words)
        text = text or f"({Path(f'/proc/{pid}/comm').read_text().strip()})"
    except OSError:
        return "?"
    return text if len(text) <= 90 else f"{text[:87]}..."
