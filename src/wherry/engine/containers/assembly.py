"""How the parts of the containers' service are put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from wherry.engine.bundles import Bundles
from wherry.engine.containers.announce import announcer
from wherry.engine.containers.connecting import Connector
from wherry.engine.containers.creating import Creator
from wherry.engine.containers.index import Index
from wherry.engine.containers.live import Lives
from wherry.engine.containers.log_limits import Trimmer
from wherry.engine.containers.needs import EventSink, ImageSource, NetworkPlane, SnapshotStore, VolumeStore
from wherry.engine.containers.recovery import Recovery
from wherry.engine.containers.removing import Remover
from wherry.engine.containers.runtimes import Runtimes
from wherry.engine.containers.service import Containers
from wherry.engine.containers.starting import Starter
from wherry.engine.containers.supervisor import Supervisor
from wherry.engine.execs import Execs
from wherry.linux import cgroups
from wherry.linux.inotify import Watcher
from wherry.linux.seccomp import Profiles
from wherry.model.container import Container
from wherry.model.host import Host
from wherry.runtime.attach import Hub


@dataclass(frozen=True)
class Neighbours:
    """The other services, as containers need them."""

    images: ImageSource
    snapshots: SnapshotStore
    volumes: VolumeStore
    networks: NetworkPlane
    events: EventSink


@contextlib.asynccontextmanager
async def open_containers(
    host: Host, index: Index, runtimes: Runtimes, neighbours: Neighbours, watcher: Watcher
) -> AsyncIterator[tuple[Containers, Execs]]:
    """Recover what a predecessor left, then serve; leaving stops watching, containers run on."""
    announce = announcer(neighbours.events)
    snapshots, networks = neighbours.snapshots, neighbours.networks

    def make_hub(container: Container) -> Hub:
        config = container.config
        return Hub(host.roots.run, tty=config.tty, stdin_once=config.stdin_once and not config.tty)

    lives = Lives(make_hub)
    bundles = Bundles(
        host,
        Profiles(host.kernel),
        index.seek,
        host_gateway=networks.host_gateway,
        takes_bpf=lambda container: runtimes.of(container).takes_bpf,
    )
    starter = Starter(host, runtimes, snapshots, networks, index.save, bundles.write)
    supervisor = Supervisor(host, index, lives, starter, runtimes, networks, announce)
    remover = Remover(host, index, lives, supervisor, neighbours.images, snapshots, neighbours.volumes, announce)
    supervisor.auto_remove = remover.remove_ended
    creator = Creator(
        host, index, neighbours.images, snapshots, neighbours.volumes, runtimes, networks, remover, announce
    )
    connector = Connector(host, index, lives, networks)
    execs = Execs(host, index, runtimes, bundles.write_process, announce)
    containers = Containers(
        host,
        index,
        lives,
        creator,
        supervisor,
        remover,
        runtimes,
        snapshots,
        neighbours.images,
        watcher,
        announce,
        connector,
    )
    recovery = Recovery(host, index, lives, supervisor, remover, runtimes, networks, connector)
    warming = asyncio.create_task(asyncio.to_thread(bundles.warm_up))
    await recovery.run()
    await execs.recover()
    trimming = asyncio.create_task(Trimmer(host, index).run())
    await recovery.start_by_policy()
    try:
        yield containers, execs
    finally:
        trimming.cancel()
        await asyncio.gather(trimming, warming, return_exceptions=True)
        await execs.close()
        await supervisor.close()
        cgroups.remove_if_empty(host.cgroups, host.roots.cgroup_parent)
