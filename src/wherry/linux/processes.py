"""Processes: starting them without forking the daemon's memory, knowing them again, and hearing of their end.

Ends are heard through pidfds (pidfd_open(2)) on the event loop: no thread, no SIGCHLD handler, and it works for
processes that are not children.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.linux import libc
from wherry.model.container import ProcessIdentity


def boot_id() -> str:
    """Names this boot of the kernel (random(4), /proc/sys/kernel/random/boot_id)."""
    return os.environ.get("WHERRY_BOOT_ID") or Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which it started (proc_pid_stat(5), field 22); None if there is none or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def identify(pid: int, boot: str) -> ProcessIdentity | None:
    """The identity of a process that is alive now."""
    started = start_time(pid)
    return None if started is None else ProcessIdentity(pid, started, boot)


def alive(identity: ProcessIdentity | None, boot: str) -> bool:
    """Whether that very process still runs."""
    return identity is not None and identity.boot_id == boot and start_time(identity.pid) == identity.start_time


def open_pidfd(identity: ProcessIdentity, boot: str) -> int | None:
    """A pidfd of exactly that process, or None if it is gone. The caller closes it."""
    if identity.boot_id != boot:
        return None
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if start_time(identity.pid) != identity.start_time:
        os.close(pidfd)
        return None
    return pidfd


def send_signal(identity: ProcessIdentity | None, number: int, boot: str) -> bool:
    """Signal exactly that process; False if it is gone."""
    pidfd = open_pidfd(identity, boot) if identity is not None else None
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def kill_group(identity: ProcessIdentity | None, boot: str) -> bool:
    """SIGKILL that process and all of its process group, unless that is our own; False if it is gone.

    A runtime gives each exec a session, and so a group, of its own; its leader may have ended (setpgid(2)).
    """
    pidfd = open_pidfd(identity, boot) if identity is not None else None
    if pidfd is None or identity is None:
        return False
    try:
        group = os.getpgid(identity.pid)
        if group == os.getpgrp():
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        else:
            os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def parent(pid: int) -> int | None:
    """PID of a process's parent (proc_pid_stat(5), field 4); None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[1])


async def readable(fd: int) -> None:
    """Return when a descriptor is readable; a pidfd becomes so when its process has ended (pidfd_open(2))."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def wait_gone(identity: ProcessIdentity | None, boot: str, seconds: float) -> bool:
    """Wait until the process is gone; False if it is still there after `seconds`."""
    pidfd = open_pidfd(identity, boot) if identity is not None else None
    if pidfd is None:
        return True
    try:
        await asyncio.wait_for(readable(pidfd), seconds)
    except TimeoutError:
        return False
    finally:
        os.close(pidfd)
    return True


def spawn(argv: Sequence[str], environment: Mapping[str, str], descriptors: Mapping[int, int]) -> int:
    """posix_spawn(3) a program with exactly the descriptors given: number in the child -> ours. Returns its PID.

    posix_spawn shares the daemon's memory until exec, where a fork would copy its page tables. Signals start at their
    defaults.
    """
    with contextlib.ExitStack() as stack:
        moved = {number: _out_of_the_way(stack, fd) for number, fd in descriptors.items()}
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in moved.items()]
        return os.posix_spawn(
            argv[0],
            list(argv),
            dict(environment),
            file_actions=actions,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        )


def _out_of_the_way(stack: contextlib.ExitStack, fd: int) -> int:
    """A copy above the numbers that the child will use, so that one dup2 cannot overwrite the next one's source."""
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64)
    stack.callback(os.close, copy)
    return copy


async def reap(pid: int) -> int:
    """Wait for a child of ours; its exit code, or -N for signal N."""
    pidfd = os.pidfd_open(pid)
    try:
        await readable(pidfd)
    finally:
        os.close(pidfd)
    _, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 (it has ended: the pidfd said so)
    return os.waitstatus_to_exitcode(status)


@dataclass(frozen=True)
class Finished:
    """A program's end: exit code and what it wrote."""

    code: int
    output: bytes
    errors: bytes


async def run(argv: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a program to its end without standard input and return what it wrote (kept in memory files)."""
    output, errors = os.memfd_create("output"), os.memfd_create("errors")
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        code = await reap(spawn(argv, environment or {"PATH": os.defpath}, {0: null, 1: output, 2: errors}))
        return Finished(code, _whole(output), _whole(errors))
    finally:
        for fd in (output, errors, null):
            os.close(fd)


def _whole(memory_file: int) -> bytes:
    return os.pread(memory_file, os.fstat(memory_file).st_size, 0)


def command_lines() -> Iterator[tuple[int, list[bytes]]]:
    """PID and arguments of every process of the host that has any."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")[:-1]
                if words:
                    yield int(entry), words


def limit_open_files(pid: int, soft: int, hard: int) -> None:
    """Set RLIMIT_NOFILE of another process; blocks. Raises PermissionError, ProcessLookupError.

    Without CAP_SYS_RESOURCE the caller's real user and group must be the process's (prlimit(2)): a thread of its own
    takes them, and ends.
    """
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    except PermissionError:
        _as_its_user(pid, (soft, hard))


def _as_its_user(pid: int, limits: tuple[int, int]) -> None:
    failed: list[OSError] = []

    def run() -> None:
        try:
            libc.set_real_ids(*_real_ids(pid))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="another's limits")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _real_ids(pid: int) -> tuple[int, int]:
    """Real user and group (proc_pid_status(5))."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(fields["Uid"].split()[0]), int(fields["Gid"].split()[0])
