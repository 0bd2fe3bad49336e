"""What the container and exec routes need of the engine. The caller declares it; the engine's services fit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from msgspec import Struct

from wherry.model.config import Config, HostConfig, NetworkingConfig
from wherry.model.container import Container
from wherry.model.filters import Filters
from wherry.model.logs import LogEntry, LogOptions


class Session(Protocol):
    """An attached client's view of a process: its output, and its input if that is attached.

    session = await containers.attach(ref, stdin=True, stdout=True, stderr=True)
    await session.write(b"ls\\n")
    await session.close_stdin()               # the process reads end of file
    async for stream, data in session.output():
        ...                                   # 1 stdout (or the terminal), 2 stderr; ends when the process has
    await session.close()                     # always, whatever happened before; idempotent
    """

    tty: bool

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """What the process writes. Bounded: a consumer that does not take it never stalls the process."""
        ...

    async def write(self, data: bytes) -> None:
        """Feed the process; returns when there is room for more. Raises OSError once it is closed."""
        ...

    async def close_stdin(self) -> None: ...

    async def close(self) -> None: ...


class Created(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def warnings(self) -> list[str]: ...


class WaitResult(Protocol):
    @property
    def exit_code(self) -> int: ...
    @property
    def error(self) -> str: ...


class Pruned(Protocol):
    @property
    def ids(self) -> list[str]: ...
    @property
    def reclaimed(self) -> int: ...


class ContainersService(Protocol):
    async def create(
        self, name: str, config: Config, host: HostConfig, networking: NetworkingConfig, platform: str = ""
    ) -> Created: ...
    def get(self, ref: str) -> Container: ...
    def all(self) -> list[Container]: ...
    async def start(self, ref: str) -> None: ...
    async def stop(self, ref: str, grace: int | None, signal: str | None, /) -> None: ...
    async def restart(self, ref: str, grace: int | None, signal: str | None, /) -> None: ...
    async def kill(self, ref: str, signal: str, /) -> None: ...
    async def pause(self, ref: str) -> None: ...
    async def unpause(self, ref: str) -> None: ...
    async def rename(self, ref: str, name: str, /) -> None: ...
    async def remove(self, ref: str, force: bool, volumes: bool, link: bool, /) -> None: ...
    async def prune(self, filters: Filters, /) -> Pruned: ...
    def wait(self, ref: str, condition: str, /) -> asyncio.Future[WaitResult]: ...
    async def attach(
        self, ref: str, *, stdin: bool, stdout: bool, stderr: bool, stream: bool = True, logs: bool = False
    ) -> Session: ...
    def logs(self, ref: str, options: LogOptions, /) -> AsyncIterator[LogEntry]: ...
    async def resize(self, ref: str, height: int, width: int, /) -> None: ...
    async def size(self, ref: str) -> tuple[int, int]: ...


class ExecConfig(Struct, rename="pascal", kw_only=True):
    """What to run in a running container: the body of POST /containers/{id}/exec."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | None = None


class Exec(Protocol):
    """One process run in a running container, as created. `exit_code` is None until it has ended."""

    @property
    def id(self) -> str: ...
    @property
    def container_id(self) -> str: ...
    @property
    def config(self) -> ExecConfig: ...
    @property
    def running(self) -> bool: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def pid(self) -> int: ...


class ExecsService(Protocol):
    async def create(self, ref: str, config: ExecConfig) -> str: ...
    def get(self, exec_id: str) -> Exec: ...
    def of_container(self, container_id: str) -> list[str]: ...
    async def start(
        self, exec_id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] | None = None
    ) -> Session | None: ...
    async def resize(self, exec_id: str, height: int, width: int, /) -> None: ...
