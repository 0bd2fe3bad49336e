"""The engine as a library: `open_engine` yields the services, without globals and without signal handlers.

    async with open_engine(EngineConfig(data_root=Path("/var/lib/wherry"))) as engine:
        created = await engine.containers.create("web", Config(image="site"), HostConfig(), NetworkingConfig())
        await engine.containers.start(created.id)

The daemon is this and the API.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from wherry.engine.builds.assembly import make_builds
from wherry.engine.builds.cache import Cache
from wherry.engine.builds.service import Builds
from wherry.engine.commits import Commits
from wherry.engine.containers.announce import announcer
from wherry.engine.containers.assembly import Neighbours, Resources, open_containers
from wherry.engine.containers.files import Files
from wherry.engine.containers.index import Index
from wherry.engine.containers.runtimes import Runtimes
from wherry.engine.containers.service import Containers
from wherry.engine.disk_usage import DiskUsage
from wherry.engine.events import Events
from wherry.engine.execs import Execs
from wherry.engine.facts import Facts, Program
from wherry.engine.images.leases import Needed
from wherry.engine.images.removal import InUse
from wherry.engine.images.service import Images
from wherry.engine.networks import Networks
from wherry.engine.settings import Settings
from wherry.engine.transfers.imports import Imports
from wherry.engine.transfers.pulls import Pulls
from wherry.engine.transfers.pushes import Pushes
from wherry.engine.volumes import Volumes
from wherry.errors import InvalidParameter, Unavailable
from wherry.linux import cgroups, mounts, user_namespaces
from wherry.linux import host as hosts
from wherry.linux.inotify import Watcher
from wherry.linux.sealed import sealed_copy
from wherry.model.cache_rules import CacheRules
from wherry.model.container import Container
from wherry.model.daemon_config import check_default_runtime
from wherry.model.host import DEFAULT_DATA, DEFAULT_RUN, CgroupLayout, Host, Roots
from wherry.model.idmaps import IdMap
from wherry.registry.client import RegistryClient
from wherry.registry.web import fetch
from wherry.runtime.entering import with_script
from wherry.runtime.oci import Runtime
from wherry.storage.blobs import Blobs
from wherry.storage.database import Database, checkpoint
from wherry.storage.dataroot import open_data_root, open_exec_root
from wherry.storage.partials import Partials
from wherry.storage.snapshots import OverlaySnapshots

CHECKPOINT_SECONDS = 60.0
FIRST_FAMILIAR_CRUN = (1, 8)  # tried with 1.8.1 and 1.21
THREADS = 16


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is asked to be. "" takes the best default."""

    data_root: Path = DEFAULT_DATA
    exec_root: Path = DEFAULT_RUN
    bip: str = ""
    cdi_directories: tuple[Path, ...] = Host.cdi_directories
    userns_remap: str = ""
    builder: CacheRules = field(default_factory=CacheRules)


@dataclass(frozen=True)
class Engine:
    """The services."""

    host: Host
    facts: Facts
    images: Images
    volumes: Volumes
    networks: Networks
    containers: Containers
    execs: Execs
    files: Files
    commits: Commits
    resources: Resources
    events: Events
    disk_usage: DiskUsage
    registries: RegistryClient
    pulls: Pulls
    pushes: Pushes
    imports: Imports
    builds: Builds


@contextlib.asynccontextmanager
async def open_engine(config: EngineConfig, settings: Settings | None = None) -> AsyncIterator[Engine]:
    """Take data and exec root, recover what a predecessor left, and serve. Leaving stops serving; containers run on.

    The owner of `settings` may change them while the engine is open.
    Raises WherryError: a root is another daemon's, the data root of a newer Wherry, a setting cannot be, the host lacks
    what nothing works without.
    """
    settings = settings or Settings()
    async with contextlib.AsyncExitStack() as stack:
        roots = Roots(config.data_root, config.exec_root)
        stack.callback(os.close, await asyncio.to_thread(open_data_root, roots.data))
        stack.callback(os.close, await asyncio.to_thread(open_exec_root, roots.run))
        host = replace(await asyncio.to_thread(hosts.probe, roots), cdi_directories=config.cdi_directories)
        if config.userns_remap:
            host = replace(host, id_map=await asyncio.to_thread(_remapped, config.userns_remap, roots.run))
        stack.callback(_take_threads().shutdown, wait=False)
        runtimes = await asyncio.to_thread(_runtimes, host, settings, stack)
        roots.runtime_state.mkdir(mode=0o711, parents=True, exist_ok=True)
        database = Database.open(roots.data / "wherry.db")
        stack.callback(database.close)
        stack.enter_context(_checkpoints(roots.data / "wherry.db"))
        watcher = Watcher()
        stack.callback(watcher.close)

        index = Index(database)
        events = Events(database)
        snapshots = OverlaySnapshots(roots.data / "snapshots")
        blobs = Blobs(roots.data / "blobs", snapshots)
        images = Images(database, blobs, snapshots, events.emit, users_of_images(index))
        build_cache = Cache(database)
        images.keeper.owner(build_cache.needed)
        images.keeper.owner(lambda: Needed(chains=chains_of(index.making)))
        registries = await stack.enter_async_context(RegistryClient(lambda: settings.registries))
        partials = Partials(roots.data / "blobs" / "partial", blobs)
        pulls = Pulls(registries, images, blobs, partials, snapshots, events.emit, lambda: settings.registries)
        pushes = Pushes(registries, images, blobs, events.emit, lambda: settings.registries)
        volumes = Volumes(database, roots.data / "volumes", events.emit, users_of_volumes(index))
        await volumes.recover()
        networks = Networks(database, host, events.emit, bip=config.bip)
        stack.push_async_callback(networks.close)
        await networks.open()
        await images.recover({key for record in index.load() for key in record.snapshots})
        await pulls.recover()
        neighbours = Neighbours(images, snapshots, volumes, networks, events)
        containers, execs, resources, files = await stack.enter_async_context(
            open_containers(host, index, runtimes, neighbours, watcher, lambda: settings.defaults)
        )
        builds = make_builds(
            host,
            database,
            build_cache,
            runtimes,
            images,
            pulls,
            pushes.packing,
            pushes,
            snapshots,
            blobs,
            networks,
            defaults=lambda: settings.defaults,
            cache_rules=config.builder,
        )
        await builds.recover()
        commits = Commits(containers, images, announcer(events))
        facts = await asyncio.to_thread(_facts, settings, host, runtimes, index, images, networks, events)
        usage = DiskUsage(images, volumes, snapshots, containers.all)
        yield Engine(
            host,
            facts,
            images,
            volumes,
            networks,
            containers,
            execs,
            files,
            commits,
            resources,
            events,
            usage,
            registries,
            pulls,
            pushes,
            Imports(images, lambda url: fetch(registries.transport, url)),
            builds,
        )


def _remapped(asked: str, scratch: Path) -> IdMap:
    """The map of `--userns-remap`. Raises InvalidParameter, Unavailable where this host cannot do it."""
    ids = user_namespaces.configured(asked)
    if closed := next((place for place in scratch.parents if not place.stat().st_mode & 0o001), None):
        raise InvalidParameter(f"--userns-remap: containers' users cannot pass through {closed}: chmod o+x {closed}")
    try:
        mounts.check_mapped_overlay(ids, scratch)
    except OSError as error:
        raise Unavailable(
            "--userns-remap needs overlays of mounts with mapped IDs "
            f"(Linux 6.15, and a file system that has them, such as ext4, xfs or btrfs): {error}"
        ) from None
    return ids


def _take_threads() -> ThreadPoolExecutor:
    """Threads for what blocks: more than Python's default on a small machine, where unpacking could take them all."""
    executor = ThreadPoolExecutor(THREADS, thread_name_prefix="engine")
    asyncio.get_running_loop().set_default_executor(executor)
    return executor


def _runtimes(host: Host, settings: Settings, stack: contextlib.AsyncExitStack) -> Runtimes:
    """The host's runtimes and the configured ones. Raises Unavailable without any, InvalidParameter for the default."""
    state = host.roots.runtime_state
    found: dict[str, Runtime] = {}
    for name, path in (("crun", host.binaries.crun), ("runc", host.binaries.runc)):
        if path is not None:
            found[name] = Runtime(name, path, state)
    if "crun" in found and host.crun_version >= FIRST_FAMILIAR_CRUN:
        sealed = sealed_copy(found["crun"].path)
        stack.callback(os.close, sealed)
        program = Path(f"/proc/{os.getpid()}/fd/{sealed}")
        crun = replace(found["crun"], program=program, familiar=True, takes_bpf=True)
        hierarchies = [] if host.cgroups is CgroupLayout.V2 else cgroups.v1_hierarchies()
        found["crun"] = with_script(crun, hierarchies, host.roots.run / "enter") if hierarchies else crun
    if not (found or settings.runtimes):
        raise Unavailable("neither crun nor runc is installed: apt-get install crun")
    default = hosts.default_runtime(host)
    check_default_runtime(settings.default_runtime or default, {*found, *settings.runtimes})
    return Runtimes(found, default, state, settings, host.roots.run / "runtimes.json")


def users_of_images(index: Index) -> Callable[[str], list[InUse]]:
    """Who uses an image."""

    def containers(image_id: str) -> list[InUse]:
        return [
            InUse(container.id, container.name, container.state.status.alive)
            for container in index.users
            if image_id in container.images
        ]

    return containers


def chains_of(containers: Iterable[Container]) -> frozenset[str]:
    return frozenset(chain for container in containers for chain in container.snapshots.values() if chain)


def users_of_volumes(index: Index) -> Callable[[str], list[str]]:
    """Who uses a volume."""

    def containers(name: str) -> list[str]:
        return [container.id for container in index.users if any(mount.name == name for mount in container.mounts)]

    return containers


@contextlib.contextmanager
def _checkpoints(path: Path) -> Iterator[None]:
    """Fold the write-ahead log into the database now and then, in a thread, and once at the end."""

    async def run() -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            await asyncio.to_thread(checkpoint, path)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()


def _facts(
    settings: Settings,
    host: Host,
    runtimes: Runtimes,
    index: Index,
    images: Images,
    networks: Networks,
    events: Events,
) -> Facts:
    """What `info` and `version` tell. Blocking: runs programs with --version."""
    programs = []
    commit = ""
    for name in ("conmon", runtimes.default):
        path = host.binaries.conmon if name == "conmon" else runtimes.by_name[name].path
        if path is not None:
            numbers, commit = hosts.program_version(path)
            programs.append(Program(name, ".".join(map(str, numbers)), commit))
    system, version = hosts.operating_system()
    return Facts(
        host=host,
        id=_engine_id(host.roots.data / "engine-id"),
        operating_system=system,
        os_version=version,
        backing_filesystem=hosts.file_system(host.roots.data),
        default_runtime=lambda: runtimes.default,
        runtimes=lambda: {name: runtime.path for name, runtime in runtimes.by_name.items()},
        features=cache(hosts.runtime_features),
        programs=programs,
        runtime_commit=commit,
        settings=settings,
        containers=lambda: list(index),
        image_count=lambda: len(images.all()),
        listeners=lambda: events.listeners,
        tasks=lambda: len(asyncio.all_tasks()),
        warnings=lambda: [*settings.warnings, *host.warnings, *networks.warnings],
    )


def _engine_id(path: Path) -> str:
    """A UUID that stays with the data root."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        made = str(uuid.uuid4())
        path.write_text(made + "\n", encoding="ascii")
        return made
