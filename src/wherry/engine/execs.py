"""Execs: further processes in running containers, each with a monitor of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

from wherry.engine.containers.announce import Announcer
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.readying import monitor_identity
from wherry.engine.containers.runtimes import Runtimes
from wherry.engine.terminal import resize_terminal
from wherry.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from wherry.linux import processes
from wherry.model.config import ExecConfig
from wherry.model.container import Container, ProcessIdentity
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.ids import new_id
from wherry.model.states import Status
from wherry.runtime.attach import Hub, Session
from wherry.runtime.conmon import MONITOR_PID_FILE, Launch, Monitor, RuntimeRefused
from wherry.runtime.entering import for_exec
from wherry.runtime.oci import Runtime, start_failure

log = logging.getLogger(__name__)

FAILED = 126  # exit code of an exec that could not be started, whatever the reason, as in Docker
PROBE_MARK = "probe"  # in the bundle of a health check's exec
KEPT = 1000  # ended execs that can still be inspected

WriteProcess = Callable[[Container, ExecConfig, Path], None]
"""Write the process.json of an exec (blocking). Raises WherryError, such as for a user that the container lacks."""


@dataclass
class Exec:
    """One process run in a running container. `exit_code` is None until it has ended."""

    id: str
    container_id: str
    config: ExecConfig
    started: bool = False
    running: bool = False
    exit_code: int | None = None
    pid: int = 0
    process: ProcessIdentity | None = None
    probe: bool = False  # of a health check: it must not outlive who waits for it
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # set once the exit code is known


class Execs:
    """Creates, starts and knows execs. They are forgotten when the daemon ends; their processes run on."""

    def __init__(
        self, host: Host, index: Index, runtimes: Runtimes, write_process: WriteProcess, announce: Announcer
    ) -> None:
        self._host = host
        self._index = index
        self._runtimes = runtimes
        self._write_process = write_process
        self._announce = announce
        self._execs: dict[str, Exec] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def recover(self) -> None:
        """Of execs of a former daemon: those that run are let run and cleared up after, remains of others removed."""
        for exec_id in await asyncio.to_thread(_names, self._host.roots.exec_bundle("")):
            bundle = self._host.roots.exec_bundle(exec_id)
            monitor = monitor_identity(bundle / MONITOR_PID_FILE, self._host.boot_id)
            if (bundle / PROBE_MARK).exists():
                self._keep(self._end_probe(monitor, bundle))
            else:
                self._keep(self._clear_after(monitor, bundle))

    async def _end_probe(self, monitor: ProcessIdentity | None, bundle: Path) -> None:
        """Nobody would notice that a former daemon's probe takes too long: end it, it is asked anew."""
        boot = self._host.boot_id
        if monitor is not None and _is_monitor_of(monitor.pid, bundle):
            for _ in range(10):  # the monitor may be just about to start it
                processes.kill_group(_process_of(monitor, bundle / "pid", boot), boot)
                if await processes.wait_gone(monitor, boot, seconds=0.2):
                    break
            else:
                processes.send_signal(monitor, signal.SIGKILL, boot)
        await asyncio.to_thread(shutil.rmtree, bundle, ignore_errors=True)

    async def _clear_after(self, monitor: ProcessIdentity | None, bundle: Path) -> None:
        await self._ended(monitor)
        await asyncio.to_thread(shutil.rmtree, bundle, ignore_errors=True)

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def create(self, ref: str, config: ExecConfig, *, probe: bool = False) -> str:
        """`probe`: of a health check, ended with the daemon; the caller forgets it.

        Raises InvalidParameter without a command, Conflict if the container does not run.
        """
        container = self._index.find(ref)
        if not config.cmd:
            raise InvalidParameter("No exec command specified")
        _must_run(container)
        made = Exec(new_id(), container.id, config, probe=probe)
        self._forget_old()
        self._execs[made.id] = made
        self._announce(container, f"exec_create: {_told(made)}", execID=made.id)
        return made.id

    def get(self, exec_id: str) -> Exec:
        found = self._execs.get(exec_id)
        if found is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return found

    def of_container(self, container_id: str) -> list[str]:
        """Those that run or are still to be started."""
        return [
            found.id
            for found in self._execs.values()
            if found.container_id == container_id and (found.running or not found.started)
        ]

    async def start(
        self, exec_id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] | None = None
    ) -> Session | None:
        """Run it; a session on its streams unless detached.

        Raises Conflict if it has been started before or the container does not run, StartFailed.
        """
        made = self.get(exec_id)
        container = self._index.get(made.container_id)
        if container is None:
            raise NotFound(f"No such container: {made.container_id}")
        if made.running:
            raise Conflict(f"Error: Exec command {made.id} is already running")
        if made.started:
            raise Conflict(f"Error: Exec command {made.id} has already run")
        _must_run(container)
        made.started = True
        if console_size is not None:
            made.config.console_size = console_size
        try:
            return await self._run(container, made, attach=not detach)
        except BaseException:
            made.exit_code = FAILED
            made.ended.set()
            raise

    def kill(self, exec_id: str) -> None:
        """SIGKILL its process and what that process started in its own group; one that does not run is fine."""
        found = self._execs.get(exec_id)
        if found is not None and found.running:
            processes.kill_group(found.process, self._host.boot_id)

    async def ended(self, exec_id: str) -> int:
        """The exit code of a started one, once it is known."""
        made = self.get(exec_id)
        await made.ended.wait()
        assert made.exit_code is not None
        return made.exit_code

    def forget(self, exec_id: str) -> None:
        self._execs.pop(exec_id, None)

    async def _run(self, container: Container, made: Exec, *, attach: bool) -> Session | None:
        bundle = self._host.roots.exec_bundle(made.id)
        try:
            runtime = await asyncio.to_thread(self._prepare, container, made, bundle)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, bundle, ignore_errors=True)
            raise
        launch = Launch(
            container_id=container.id,
            bundle=bundle,
            exit_dir=bundle / "exit",
            log=None,
            terminal=made.config.tty,
            stdin=made.config.attach_stdin and attach,
            leave_stdin_open=made.config.tty,
            process_spec=bundle / "process.json",
            exec_attach=attach,
        )
        hub = Hub(self._host.roots.data, tty=made.config.tty, stdin_once=not made.config.tty, waits=True)
        session = None
        if attach:
            config = made.config
            session = hub.session(stdin=config.attach_stdin, stdout=config.attach_stdout, stderr=config.attach_stderr)
        try:
            made.pid = await self._launch(launch, runtime, hub, attach=attach)
        except RuntimeRefused as refused:
            await self._discard(bundle, hub)
            raise start_failure(str(refused), (made.config.cmd or [""])[0], verb="exec") from None
        except BaseException:
            await self._discard(bundle, hub)
            raise
        made.process = processes.identify(made.pid, self._host.boot_id)
        made.running = True
        self._announce(container, f"exec_start: {_told(made)}", execID=made.id)
        monitor = monitor_identity(launch.monitor_pid_file, self._host.boot_id)
        self._keep(self._follow(container, made, launch, hub, monitor))
        return session

    def _prepare(self, container: Container, made: Exec, bundle: Path) -> Runtime:
        """The files of one exec, and the runtime to run it with (blocking)."""
        (bundle / "exit").mkdir(parents=True, mode=0o700)
        if made.probe:
            (bundle / PROBE_MARK).touch()
        self._write_process(container, made.config, bundle / "process.json")
        failpoint("exec.prepared")
        runtime = self._runtimes.of(container)
        if not runtime.hierarchies:
            return runtime
        return for_exec(runtime, container.id, Layout.of(self._host.roots, container).cgroup, bundle)

    async def _launch(self, launch: Launch, runtime: Runtime, hub: Hub, *, attach: bool) -> int:
        binary = self._host.binaries.conmon
        if binary is None:
            raise SystemFailure("conmon is not installed: apt-get install conmon")
        async with Monitor(launch, binary, runtime) as monitor:
            failpoint("exec.spawned")
            monitor.go()
            if attach:
                await monitor.attachable()
                hub.connect(launch.attach_socket)
                monitor.go()
            pid = await monitor.created()
        failpoint("exec.started")
        return pid

    async def _follow(
        self, container: Container, made: Exec, launch: Launch, hub: Hub, monitor: ProcessIdentity | None
    ) -> None:
        """Until its monitor has ended; then tell the exit code and clear up."""
        await self._ended(monitor)
        hub.wait_no_more()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hub.drained(), 2)
        try:
            made.exit_code = int(launch.exit_file.read_text())
        except (FileNotFoundError, ValueError):
            made.exit_code = 137
            log.warning("exec %s: its monitor was killed, its exit code is not known", made.id)
        made.running = False
        made.ended.set()
        self._announce(container, "exec_die", execID=made.id, exitCode=str(made.exit_code))
        await self._discard(launch.bundle, hub)

    async def _ended(self, monitor: ProcessIdentity | None) -> None:
        pidfd = processes.open_pidfd(monitor, self._host.boot_id) if monitor is not None else None
        if pidfd is not None:
            try:
                await processes.readable(pidfd)
            finally:
                os.close(pidfd)

    async def _discard(self, bundle: Path, hub: Hub) -> None:
        hub.end()
        await asyncio.to_thread(shutil.rmtree, bundle, ignore_errors=True)

    async def resize(self, exec_id: str, height: int, width: int, /) -> None:
        made = self.get(exec_id)
        if not made.running:
            raise Conflict(f"Container {made.container_id} is not running")
        resize_terminal(self._host.roots.exec_bundle(exec_id), height, width)

    def _forget_old(self) -> None:
        ended = [found.id for found in self._execs.values() if found.exit_code is not None]
        for exec_id in ended[: max(0, len(ended) - KEPT)]:
            del self._execs[exec_id]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _told(made: Exec) -> str:
    """The command as events tell it: the program, a space, and the arguments if there are any."""
    program, *arguments = made.config.cmd or [""]
    return f"{program} {' '.join(arguments)}"


def _is_monitor_of(pid: int, bundle: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.fsencode(bundle) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def _process_of(monitor: ProcessIdentity, pid_file: Path, boot: str) -> ProcessIdentity | None:
    """The process that a monitor looks after, if it is there and really its child."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int(pid_file.read_text())
        return processes.identify(pid, boot) if processes.parent(pid) == monitor.pid else None
    return None


def _names(directory: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(directory)
    return []


def _must_run(container: Container) -> None:
    if container.state.shown is Status.RESTARTING:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if container.state.status is Status.PAUSED:
        raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
    if not container.state.status.alive:
        raise Conflict(f"container {container.id} is not running")
