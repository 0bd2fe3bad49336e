"""conmon, the monitor of one container or exec: it holds standard streams and exit code and writes the log.

How it is spoken to (conmon(8), and Podman's and CRI-O's use of it): it reads a byte from the start pipe before it goes
on, reports on the sync pipe one JSON line with the container's PID or with -1 and a message, listens on a sequenced
packet socket `attach` in the bundle, takes window sizes and log reopening through the FIFO `ctl`, and at the end writes
the exit code into EXIT_DIR/NAME and exits.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from wherry.errors import SystemFailure
from wherry.linux import processes
from wherry.runtime.oci import ENVIRONMENT, Runtime

SYNC, START, ATTACH = 3, 4, 5  # descriptor numbers in conmon
MONITOR_PID_FILE = "conmon.pid"  # in the bundle
ENV = "/usr/bin/env"


@dataclass(frozen=True)
class Launch:
    """How one monitor is started, as a value. Paths absolute."""

    container_id: str
    bundle: Path  # holds config.json; the monitor's own files go here too
    exit_dir: Path  # the exit code is written to exit_dir/container_id
    log: Path | None  # k8s-file; None discards
    terminal: bool = False
    stdin: bool = False
    leave_stdin_open: bool = False
    process_spec: Path | None = None  # of an exec
    limited: bool = False  # of a container whose memory may run out: conmon then makes a file in its working directory
    exec_attach: bool = False  # an exec that waits for its client before its output flows

    @property
    def attach_socket(self) -> Path:
        return self.bundle / "attach"

    @property
    def exit_file(self) -> Path:
        return self.exit_dir / self.container_id

    @property
    def monitor_pid_file(self) -> Path:
        return self.bundle / MONITOR_PID_FILE

    @property
    def pid_file(self) -> Path:
        return self.bundle / "pid"

    def argv(self, conmon: Path, runtime: Runtime) -> list[str]:
        words = [ENV, "-C", str(self.bundle)] if self.limited else []
        words += [str(conmon), "--api-version", "1", "-c", self.container_id, "-u", self.container_id]
        words += ["-n", self.container_id, "-r", str(runtime.executable)]
        for argument in (*runtime.arguments, f"--root={runtime.state}"):
            words += ["--runtime-arg", argument]
        words += ["-b", str(self.bundle), "-p", str(self.pid_file), "-P", str(self.monitor_pid_file)]
        words += ["--exit-dir", str(self.exit_dir), "--full-attach", "--no-sync-log", "--log-level", "error"]
        words += ["-l", "none" if self.log is None else f"k8s-file:{self.log}"]
        for wanted, flag in ((self.terminal, "-t"), (self.stdin, "-i"), (self.leave_stdin_open, "--leave-stdin-open")):
            if wanted:
                words.append(flag)
        if self.process_spec is not None:
            words += ["-e", "--exec-process-spec", str(self.process_spec)]
        if self.exec_attach:
            words.append("--exec-attach")
        return words


class RuntimeRefused(Exception):
    """The runtime could not create the container or exec; the text is what it said."""


class Monitor:
    """A monitor being started: spawned, then told to go, then heard.

    `async with Monitor(...) as monitor: pid = await monitor.created()`. Leaving closes the pipes, not the monitor.
    """

    def __init__(self, launch: Launch, conmon: Path, runtime: Runtime) -> None:
        self.launch = launch
        self._argv = launch.argv(conmon, runtime)
        self._stack = contextlib.ExitStack()
        self._sync = -1
        self._attach = -1
        self._start = -1
        self._open: set[int] = set()
        self._first = 0
        self._told = False

    async def __aenter__(self) -> Monitor:
        try:
            self._sync, sync_end = self._pipe()
            start_end, self._start = self._pipe()
            descriptors = {SYNC: sync_end, START: start_end}
            environment = {**ENVIRONMENT, "_OCI_SYNCPIPE": str(SYNC), "_OCI_STARTPIPE": str(START)}
            if self.launch.exec_attach:
                self._attach, attach_end = self._pipe()
                descriptors[ATTACH] = attach_end
                environment["_OCI_ATTACHPIPE"] = str(ATTACH)
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            self._stack.callback(os.close, null)
            errors = os.open(
                self.launch.bundle / "conmon.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
            )
            self._stack.callback(os.close, errors)
            self._first = processes.spawn(self._argv, environment, {0: null, 1: null, 2: errors, **descriptors})
            for fd in (sync_end, start_end, *([attach_end] if self._attach >= 0 else [])):
                self._close(fd)
        except BaseException:
            self._stack.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        if not self._told:  # it waits for a word, and would take the pipe's end for one
            os.kill(self._first, signal.SIGKILL)
        self._stack.close()
        code = await processes.reap(self._first)  # it forks its real self away at once
        if code != 0 and exc[0] is None:
            raise SystemFailure(f"conmon: exit code {code}: {self.errors()}")

    def go(self) -> None:
        """Let it start the runtime; for an exec once more, when its output may flow."""
        self._told = True
        with contextlib.suppress(BrokenPipeError):  # it is gone: `created` tells why
            os.write(self._start, b"0")

    async def created(self) -> int:
        """PID of the container's or exec's first process. Raises RuntimeRefused."""
        line = await self._line(self._sync)
        if not line:
            raise RuntimeRefused(self.errors() or "conmon ended without a word")
        report = json.loads(line)
        pid = int(report.get("data", report.get("pid", -1)))
        if pid <= 0:
            raise RuntimeRefused(str(report.get("message") or self.errors() or "no reason given").strip())
        return pid

    async def attachable(self) -> None:
        """Of an exec: return when its attach socket listens."""
        await self._line(self._attach)

    def errors(self) -> str:
        """What conmon and the runtime printed."""
        with contextlib.suppress(FileNotFoundError):
            return (self.launch.bundle / "conmon.log").read_text(errors="replace").strip()
        return ""

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe2(os.O_CLOEXEC)
        for fd in ends:
            self._open.add(fd)
            self._stack.callback(self._close, fd)
        return ends

    def _close(self, fd: int) -> None:
        if fd in self._open:
            self._open.discard(fd)
            os.close(fd)

    async def _line(self, fd: int) -> bytes:
        """The next line, or b"" at the end. What a detached exec sends behind its PID is in its exit file, too."""
        collected = b""
        while b"\n" not in collected:
            await processes.readable(fd)
            piece = os.read(fd, 4096)
            if not piece:
                break
            collected += piece
        return collected.partition(b"\n")[0]
