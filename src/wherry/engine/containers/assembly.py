"""How the parts of the containers' service are put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from wherry.engine.bundles import Bundles
from wherry.engine.containers.announce import announcer
from wherry.engine.containers.connecting import Connector
from wherry.engine.containers.creating import Creator
from wherry.engine.containers.files import Files
from wherry.engine.containers.index import Index
from wherry.engine.containers.live import Lives
from wherry.engine.containers.log_limits import Trimmer
from wherry.engine.containers.metering import Meter
from wherry.engine.containers.needs import EventSink, ImageSource, NetworkPlane, SnapshotStore, VolumeStore
from wherry.engine.containers.recovery import Recovery
from wherry.engine.containers.removing import Remover
from wherry.engine.containers.runtimes import Runtimes
from wherry.engine.containers.service import Containers
from wherry.engine.containers.standby import Standby
from wherry.engine.containers.starting import Starter
from wherry.engine.containers.supervisor import Supervisor
from wherry.engine.containers.tops import Tops
from wherry.engine.containers.updating import Updater
from wherry.engine.containers.views import Views
from wherry.engine.execs import Execs
from wherry.engine.health import HealthChecks
from wherry.linux import cgroups
from wherry.linux.inotify import Watcher
from wherry.linux.seccomp import Profiles
from wherry.model.config import Ulimit
from wherry.model.container import Container
from wherry.model.container_defaults import ContainerDefaults
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


@dataclass(frozen=True)
class Resources:
    """What containers use and may use."""

    meter: Meter
    updater: Updater
    tops: Tops


@contextlib.asynccontextmanager
async def open_containers(
    host: Host,
    index: Index,
    runtimes: Runtimes,
    neighbours: Neighbours,
    watcher: Watcher,
    defaults: Callable[[], ContainerDefaults],
) -> AsyncIterator[tuple[Containers, Execs, Resources, Files]]:
    """Recover what a predecessor left, then serve; leaving stops watching, containers run on."""
    announce = announcer(neighbours.events)
    snapshots, networks, volumes = neighbours.snapshots, neighbours.networks, neighbours.volumes

    def make_hub(container: Container) -> Hub:
        config = container.config
        return Hub(host.roots.data, tty=config.tty, stdin_once=config.stdin_once and not config.tty)

    def ulimits(container: Container) -> list[Ulimit]:
        return defaults().limits(container.host.ulimits)

    lives = Lives(make_hub)
    bundles = Bundles(
        host,
        Profiles(host.kernel),
        index.seek,
        host_gateway=networks.host_gateway,
        takes_bpf=lambda container: runtimes.of(container).takes_bpf,
        ulimits=ulimits,
    )
    views = Views(host, index, lives, snapshots)
    standby = Standby(host, runtimes)
    starter = Starter(
        host,
        runtimes,
        standby,
        snapshots,
        networks.attachments,
        volumes,
        index.save,
        bundles.make,
        bundles.shared_users,
        views.held,
        ulimits,
    )
    execs = Execs(host, index, runtimes, bundles.write_process, announce)
    trimmer = Trimmer(host, watcher)
    health = HealthChecks(index, execs, announce)
    supervisor = Supervisor(
        host, index, lives, starter, runtimes, networks.attachments, volumes, announce, health, trimmer
    )
    remover = Remover(host, index, lives, supervisor, standby, neighbours.images, snapshots, volumes, announce)
    supervisor.auto_remove = remover.remove_ended
    views.settled = supervisor.settled
    creator = Creator(
        host,
        index,
        neighbours.images,
        snapshots,
        neighbours.volumes,
        runtimes,
        networks,
        standby,
        remover,
        announce,
        defaults,
    )
    connector = Connector(host, index, lives, networks)
    supervisor.started = connector.tell_linked
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
        health,
    )
    recovery = Recovery(host, index, lives, supervisor, remover, runtimes, networks, volumes, connector)
    warming = asyncio.create_task(asyncio.to_thread(bundles.warm_up))
    resources = Resources(Meter(host, index), Updater(host, index, lives, announce), Tops(host, index, announce))
    await recovery.run()
    await execs.recover()
    await resources.updater.recover()
    health.recover()
    await recovery.start_by_policy()
    try:
        yield containers, execs, resources, Files(index, views, snapshots, announce)
    finally:
        await asyncio.gather(warming, return_exceptions=True)
        await trimmer.close()
        await health.close()
        await execs.close()
        await supervisor.close()
        await standby.close()
        cgroups.remove_if_empty(host.cgroups, host.roots.cgroup_parent)
