"""The processes of a container as the host's ps(1) shows them."""

from __future__ import annotations

import asyncio

from wherry.engine.containers.announce import Announcer
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.errors import Conflict, SystemFailure
from wherry.linux import cgroups, processes
from wherry.linux.host import find
from wherry.model import pslist
from wherry.model.host import Host
from wherry.model.pslist import ProcessList
from wherry.model.states import Status


class Tops:
    """Lists of processes."""

    def __init__(self, host: Host, index: Index, announce: Announcer) -> None:
        self._host = host
        self._index = index
        self._announce = announce

    async def list(self, ref: str, arguments: str) -> ProcessList:
        """Run ps with `arguments` ("" for -ef) and keep the container's processes.

        Raises SystemFailure for arguments that ps refuses, NotFound, Conflict if the container does not run.
        """
        arguments = arguments or pslist.DEFAULT
        pslist.check_arguments(arguments)
        container = self._index.find(ref)
        if container.state.status is Status.RESTARTING:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        if not container.state.status.alive:
            raise Conflict(f"container {container.id} is not running")
        path = Layout.of(self._host.roots, container).cgroup
        pids = await asyncio.to_thread(cgroups.processes, self._host.cgroups, path)
        found = pslist.select(await _ps(arguments.split(" "), pids), pids)
        self._announce(container, "top")
        return found


async def _ps(arguments: list[str], pids: set[int]) -> str:
    """What ps prints, told to look at these PIDs alone where the arguments let it (some exclude -q)."""
    program = find("ps")
    if program is None:
        raise SystemFailure('ps: exec: "ps": executable file not found in $PATH')
    finished = await processes.run([str(program), *arguments, "-q" + ",".join(map(str, sorted(pids)))])
    if finished.code != 0:
        finished = await processes.run([str(program), *arguments])
    if finished.code != 0:
        said = finished.errors.decode(errors="replace").partition("\n")[0]
        raise SystemFailure(f"ps: {said.removeprefix('ps: ')}" if said else f"ps: exit status {finished.code}")
    return finished.output.decode(errors="replace")
