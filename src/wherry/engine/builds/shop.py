"""What every step of a build works with: the stores, the host, and looking into results."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from wherry.engine.builds.mounts import CacheMounts
from wherry.engine.builds.processes import Tell
from wherry.engine.builds.trees import Client, Files, Result, Settings, Tree
from wherry.engine.bundles import Bundles
from wherry.engine.containers.needs import NetworkPlane
from wherry.engine.containers.runtimes import Runtimes
from wherry.engine.images.admission import Admission, KeptLayer
from wherry.linux.views import View, open_view
from wherry.model import build_graph as graph
from wherry.model.container_defaults import ContainerDefaults
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.mount_plans import ViewPlan
from wherry.storage import copying
from wherry.storage.blobs import Blobs
from wherry.storage.content import Contents
from wherry.storage.image_records import LayerBlob
from wherry.storage.moving import Moving
from wherry.storage.snapshots import Snapshots
from wherry.storage.source_trees import ListedTree, RootTree, SourceTree
from wherry.storage.streams import in_thread

T = TypeVar("T")


class LayerBlobs(Protocol):
    @property
    def blobs(self) -> dict[str, LayerBlob]: ...


@dataclass(frozen=True)
class Job:
    """One vertex to be executed. `inputs` are what its inputs came to, None for those it does not use."""

    vertex: graph.Vertex
    inputs: Sequence[Result | None]
    settings: Settings
    client: Client
    tell: Tell

    @property
    def base(self) -> Tree:
        """What input 0 came to; the solver makes a tree of it whatever it was."""
        base = self.inputs[0]
        assert isinstance(base, Tree)
        return base


@dataclass(frozen=True)
class Shop:
    """See the module. `scratch` is an empty directory where views are put together, `defaults` are containers'."""

    host: Host
    runtimes: Runtimes
    bundles: Bundles
    networks: NetworkPlane
    snapshots: Snapshots
    admission: Admission
    records: LayerBlobs
    blobs: Blobs
    contents: Contents
    cache_mounts: CacheMounts
    scratch: Path
    defaults: Callable[[], ContainerDefaults]

    @contextlib.contextmanager
    def view(self, tree: Tree) -> Iterator[View]:
        """A tree to be looked at. Blocking."""
        with open_view(ViewPlan(self.snapshots.view_plan(tree.chain_id)), self.scratch) as view:
            yield view

    @contextlib.contextmanager
    def source(self, result: Result) -> Iterator[SourceTree]:
        """A result to be copied from. Blocking."""
        if isinstance(result, Files):
            yield ListedTree(result.files, self.contents)
            return
        with self.view(result) as view:
            yield RootTree(view.root)

    def keep_filled(self, key: str, later: Mapping[bytes, copying.Later]) -> KeptLayer | None:
        """The same of one in which files still lack their contents: these are moved there from the store."""
        upper = self.snapshots.mount_plan(key, volatile=True).upper
        assert upper is not None
        with Moving(self.contents, upper) as moving:
            copying.fill(later, moving)
            failpoint("builds.file.filled")
            kept = self.admission.keep_snapshot(key, moving.moved)
            if kept is not None:
                moving.arrived(self.snapshots.view_plan(kept.chain_id).lower[0])
            return kept

    def keep(self, key: str, settings: Settings, *, mapped: bool = False) -> KeptLayer | None:
        """What was written in a snapshot, which is not mounted any more, as a layer; None if nothing was. Blocking.

        Files of one that was `mapped` have other owners on disk than in a layer: they are copied.
        """
        if settings.epoch is None and not mapped:
            return self.admission.keep_snapshot(key)
        newest = None if settings.epoch is None else settings.epoch * 10**9
        return self.admission.keep_copy(key, newest)


async def uninterrupted(work: Callable[[], T]) -> T:
    """In a thread; cancelled, it still waits for the thread's end, which cannot be torn from under it."""
    done = in_thread(work)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait((done,))
        done.exception()
        raise


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All at once. The first failure stops the others, and is raised when they have ended; so does cancelling."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
