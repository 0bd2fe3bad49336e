"""Processes of builds: containers that the runtime runs in the foreground, their output read from pipes.

Nothing has to outlive the daemon here, so there is no monitor. What a kill of the daemon leaves, the next start ends as
it ends everything in the exec root that no record owns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from wherry.errors import SystemFailure
from wherry.linux import processes
from wherry.runtime.oci import ENVIRONMENT, Runtime, start_failure

_PIECE = 1 << 16

Tell = Callable[[int, bytes], Awaitable[None]]
"""Takes a piece of output: stream 1 or 2, and the data. The process waits as long as it does."""


async def run(runtime: Runtime, container_id: str, bundle: Path, argv0: str, tell: Tell) -> int:
    """Run the bundle's process to its end; its exit code, 128 + N for signal N.

    Cancelled, it kills the process and returns when all of it is gone. Raises StartFailed, SystemFailure.
    """
    log, pid_file = bundle / "runtime.log", bundle / "pid"
    words = [str(runtime.executable), *runtime.arguments, "--root", str(runtime.state)]
    words += ["--log", str(log), "--log-format", "json", "run", "--bundle", str(bundle), "--pid-file", str(pid_file)]
    with contextlib.ExitStack() as stack:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        ends = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        try:
            for reading, _ in ends:
                os.set_blocking(reading, False)
                stack.callback(os.close, reading)
            child = processes.spawn([*words, container_id], ENVIRONMENT, {0: null, 1: ends[0][1], 2: ends[1][1]})
        finally:
            for fd in (null, ends[0][1], ends[1][1]):
                os.close(fd)
        reaped = asyncio.create_task(processes.reap(child))
        outputs = [asyncio.create_task(_read(ends[number][0], number + 1, tell)) for number in range(2)]
        try:
            await asyncio.wait([reaped, *outputs], return_when=asyncio.ALL_COMPLETED)
        except asyncio.CancelledError:
            await _kill(runtime, container_id, reaped)
            raise
        finally:
            for task in outputs:
                task.cancel()
            await asyncio.gather(*outputs, return_exceptions=True)
    code = reaped.result()
    if not pid_file.exists() or not pid_file.stat().st_size:
        raise start_failure(_said(log) or f"exit code {code}", argv0, verb="create", runtime=runtime.name)
    return code if code >= 0 else 128 - code


async def _read(fd: int, stream: int, tell: Tell) -> None:
    while True:
        await processes.readable(fd)
        piece = os.read(fd, _PIECE)
        if not piece:
            return
        await tell(stream, piece)


async def _kill(runtime: Runtime, container_id: str, reaped: asyncio.Task[int]) -> None:
    """Whatever the runtime was about: once its state is there, `delete` ends the container and with it the runtime."""
    deadline = asyncio.get_running_loop().time() + 30
    while not reaped.done():
        await asyncio.shield(runtime.delete(container_id))
        await asyncio.wait({reaped}, timeout=0.05)
        if asyncio.get_running_loop().time() > deadline:
            raise SystemFailure(f"container {container_id} of a build does not end")
    await asyncio.shield(runtime.delete(container_id))


def _said(log: Path) -> str:
    """The runtime's last error (crun and runc write one JSON object a line)."""
    said = ""
    with contextlib.suppress(OSError):
        for line in log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, AttributeError):
                entry = json.loads(line)
                if entry.get("level") == "error":
                    said = str(entry.get("msg", ""))
    return said
