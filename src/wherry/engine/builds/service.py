"""Builds: from a target to an image. What the rest of the engine knows of this package.

    async with builds.open(client, settings, listener) as build:
        plan = await plan_dockerfile(data, options, build)        # asks `build` for base images
        image = await build.image(plan.target, names)

Killed anywhere, what vertices have come to is kept, and nothing is half there: layers exist whole or not at all, and
only a record makes one findable.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform as machine
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from wherry.engine.builds import file_outputs
from wherry.engine.builds.attesting import Attestations, Report, attest
from wherry.engine.builds.bases import BaseImages, Puller
from wherry.engine.builds.cache import CACHE_MOUNT, STATES, Cache, Cached
from wherry.engine.builds.contexts import Contexts
from wherry.engine.builds.documents import document
from wherry.engine.builds.dressing import Dressing, Part, Style
from wherry.engine.builds.exports import export, results_of
from wherry.engine.builds.file_outputs import Folder
from wherry.engine.builds.histories import Same, match
from wherry.engine.builds.imports import CacheImports, offered_by
from wherry.engine.builds.layout_images import take as take_image
from wherry.engine.builds.layouts import Layout
from wherry.engine.builds.making import Making
from wherry.engine.builds.operations import Operations, Outcome
from wherry.engine.builds.progress import Listener, Progress, Warned
from wherry.engine.builds.publishing import Pusher, publish
from wherry.engine.builds.shop import Shop
from wherry.engine.builds.solving import AT_ONCE, Known, Solve
from wherry.engine.builds.sources import BuildSources
from wherry.engine.builds.trees import Client, Settings, Tree
from wherry.engine.images.service import Images
from wherry.engine.transfers.needs import Repository
from wherry.engine.transfers.shared import Shared
from wherry.errors import Conflict, NotFound, WherryError
from wherry.model import build_caches, platforms
from wherry.model.attestations import Attested, purl
from wherry.model.build_caches import Result
from wherry.model.build_graph import ImageSource, Target, Vertex, ordered
from wherry.model.build_session import CachePlace
from wherry.model.cache_rules import SENT, CacheRules, Rule, Space
from wherry.model.dockerfile.options import BaseImage
from wherry.model.image import Image, chain_ids
from wherry.model.manifests import Descriptor
from wherry.model.platforms import Platform
from wherry.model.provenance import Material
from wherry.model.reference import Reference, parse, parse_any
from wherry.storage.database import Database

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrunedCache:
    ids: list[str]
    reclaimed: int  # bytes


@dataclass(frozen=True)
class CacheUse:
    """One entry of the cache, as lists show it."""

    cached: Cached
    in_use: bool
    shared: bool  # an image or container needs its layer too
    parents: tuple[str, ...] = ()  # the one that it stands on, where that is kept

    @property
    def id(self) -> str:
        return self.cached.id

    @property
    def kind(self) -> str:
        return self.cached.kind

    @property
    def description(self) -> str:
        return self.cached.description


class Builds:
    """See the module."""

    def __init__(
        self,
        shop: Shop,
        images: Images,
        dressing: Dressing,
        puller: Puller,
        pusher: Pusher,
        database: Database,
        cache: Cache,
        root: Path,
        cache_rules: CacheRules,
    ) -> None:
        self._shop = shop
        self._images = images
        self.dressing = dressing
        self.puller = puller
        self.pusher = pusher
        self._database = database
        self.platform = platforms.from_machine(machine.machine())
        self.cache = cache
        self.contents = shop.contents
        self.contexts = Contexts(shop.contents, cache, root)
        self.root = root
        self._cache_rules = cache_rules
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._makings: Shared[Making] = Shared()
        self._running = 0
        self._gate = asyncio.Lock()  # while contents are collected no build begins, which would be told they are there
        self._operations = Operations(shop)

    async def recover(self) -> None:
        """At start, after the images: forget results whose files are gone, and sweep files that no record names."""
        chains = await asyncio.to_thread(self._shop.snapshots.chains)
        mounts = await asyncio.to_thread(self._shop.cache_mounts.there)
        gone = self.cache.forget(
            lambda cached: cached.id in mounts if cached.kind == CACHE_MOUNT else cached.chain_id in chains | {""}
        )
        if gone:
            log.warning("%d results of the build cache have lost their files and are forgotten", len(gone))
        await asyncio.to_thread(self._shop.cache_mounts.sweep)

    @contextlib.asynccontextmanager
    async def using(self) -> AsyncIterator[None]:
        """Around everything that a build is: what has been sent is not collected inside, nor layers that it is in."""
        async with self._gate:
            self._running += 1
        try:
            async with self._images.admission.holding():
                yield
        finally:
            self._running -= 1
            self.cache.save_uses()
            await self._collect()

    @contextlib.asynccontextmanager
    async def open(self, client: Client, settings: Settings, listener: Listener) -> AsyncIterator[Build]:
        """One build. Nothing that it uses is collected meanwhile."""
        async with self.using():
            build = Build(
                self, self._shop, self._operations, self._images, self._slots, self._makings, client, settings, listener
            )
            try:
                yield build
            finally:
                await build.close()

    def keep(self, cached: Cached, outcome: Outcome, keys: Sequence[str]) -> None:
        """Record what a vertex came to, and the blobs of its layers."""
        records = self._images.records
        with records.transaction() as connection:
            for layer in outcome.layers:
                if layer.diff_id not in records.blobs:
                    records.put_blob(connection, layer.diff_id, layer.blob)
            records.drop_fetched(connection, [layer.blob.digest for layer in outcome.layers])
            self.cache.keep(connection, cached, keys)

    # outputs

    async def saved(self, image: Image, names: Sequence[Reference]) -> AsyncIterator[bytes]:
        """An image as `docker save` writes it, which is an OCI layout too."""
        refs = [name.familiar for name in names if name in self._images.records.references(image.id)] or [image.id]
        async for piece in await self._images.save(refs):
            yield piece

    async def saved_dressed(self, image: Image, top: Descriptor, names: Sequence[Reference]) -> AsyncIterator[bytes]:
        """The same of an image as `Build.dressed` made it."""
        async for piece in await self._images.save_dressed(image, top, names):
            yield piece

    def known(self) -> set[str]:
        """IDs of all images."""
        return set(self._images.records.images)

    async def forget(self, image: Image) -> None:
        """An image that was made to be sent away; one with names or users stays."""
        if not self._images.records.references(image.id):
            with contextlib.suppress(Conflict, NotFound):
                await self._images.remove(image.id, prune=False)

    def packed(self, folders: Sequence[Folder]) -> AsyncIterator[bytes]:
        """Root filesystems as a tar."""
        return file_outputs.packed(self._shop, folders)

    async def file_digests(self, tree: Tree) -> dict[str, str]:
        """See `file_outputs.digests`."""
        return await asyncio.to_thread(file_outputs.digests, self._shop, tree)

    async def refuse_conflicts(self, trees: Mapping[str, Tree]) -> None:
        """See `file_outputs.refuse_conflicts`."""
        await asyncio.to_thread(file_outputs.refuse_conflicts, self._shop, trees)

    # the cache's end

    def uses(self, *, parents: bool = True) -> list[CacheUse]:
        """Everything in the cache; what each stands on only if asked for."""
        needed = {chain for image in self._images.all() for chain in _lineage(image)}
        users = self._shop.cache_mounts.users
        found = [cached for cached in self.cache.results.values() if cached.kind != STATES]
        chains = {tuple(cached.diff_ids): cached.id for cached in found if cached.diff_ids}
        return [
            CacheUse(
                cached,
                bool(users[cached.id]),
                bool(cached.chain_id) and cached.chain_id in needed,
                _parents(cached, chains) if parents else (),
            )
            for cached in found
        ]

    async def prune(self, rule: Rule | None = None) -> PrunedCache:
        """Remove what nobody uses and the rule is about, longest unused first, until no more is used than may stay.

        Without bounds all of it goes, and what has been sent to builds as well, unless one runs or only a part is asked
        for.
        """
        rule = rule or Rule()
        pruned = await self._prune(rule)
        if rule.space == Space():
            if rule.all:
                self.cache.forget(lambda cached: cached.kind != STATES)
            if not rule.wanted.until:
                await self._drop_contents([context for context, _, _ in self.cache.lists()])
        return pruned

    async def _prune(self, rule: Rule) -> PrunedCache:
        found = sorted(self.uses(parents=bool(rule.wanted.parent)), key=lambda use: use.cached.used_ns)
        before_ns = rule.wanted.before_ns
        used = sum(use.cached.size for use in found if not use.shared)
        kept = rule.space.kept(used, self._disk()[1])
        victims: list[CacheUse] = []
        for use in found:
            if kept and used <= kept:
                break
            late = before_ns and use.cached.used_ns >= before_ns
            if use.in_use or late or (use.shared and not rule.all) or not rule.wanted.matches(use):
                continue
            victims.append(use)
            used -= 0 if use.shared else use.cached.size
        await self._remove([use.cached for use in victims])
        return PrunedCache(
            [use.cached.id for use in victims], sum(use.cached.size for use in victims if not use.shared)
        )

    async def _remove(self, results: list[Cached]) -> None:
        if not results:
            return
        with self._images.records.transaction() as connection:
            self.cache.drop(connection, results)
            self._images.keeper.forget_blobs(connection)
        await self._images.release()
        await asyncio.to_thread(self._shop.cache_mounts.sweep)

    async def _drop_contents(self, contexts: list[str]) -> bool:
        """False if a build runs: nothing is done then."""
        async with self._gate:
            if self._running:
                return False
            self.cache.drop_lists(contexts)
            await asyncio.to_thread(self.contents.collect, self.cache.listed())
            return True

    async def _collect(self) -> None:
        """Called after each build: what is longest unused goes where more is used than the rules let stay."""
        if self._running:
            return
        for rule in self._cache_rules.completed(self._disk()[0]):
            await self._prune(rule)
            if not rule.wanted.kinds or SENT in rule.wanted.kinds:
                await self._forget_old_lists(rule)

    async def _forget_old_lists(self, rule: Rule) -> None:
        """What clients have sent: the latest directory stays."""
        before_ns = rule.wanted.before_ns
        lists = [context for context, used_ns, _ in self.cache.lists() if not before_ns or used_ns < before_ns]
        occupied = await asyncio.to_thread(self.contents.occupied)
        kept = rule.space.kept(occupied, self._disk()[1])
        while occupied > kept and len(lists) > 1 and await self._drop_contents([lists.pop(0)]):
            occupied = await asyncio.to_thread(self.contents.occupied)

    def _disk(self) -> tuple[int, int]:
        """Bytes it has, and those that are free."""
        found = os.statvfs(self.root)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


class Build:
    """One build while it runs; also where a plan gets its base images from."""

    def __init__(
        self,
        builds: Builds,
        shop: Shop,
        operations: Operations,
        images: Images,
        slots: asyncio.Semaphore,
        makings: Shared[Making],
        client: Client,
        settings: Settings,
        listener: Listener,
    ) -> None:
        self._builds = builds
        self._images = images
        self._blobs = shop.blobs
        self._shop = shop
        self._client = client
        self._settings = settings
        self._progress = Progress(listener)
        self._bases = BaseImages(images, builds.puller, settings, self._progress)
        self._taken: list[Image] = []  # images of directories, which nobody needs after the build
        sources = BuildSources(self._bases.find, shop.contents, builds.root, settings.known_hosts)
        self._sources = sources
        self._imports = CacheImports(builds.puller, shop.snapshots.chains, self._progress, images.host)
        self._solve = Solve(
            operations,
            sources,
            builds.cache,
            builds.keep,
            settings,
            client,
            self._progress,
            slots,
            makings,
            self._imports,
        )

    async def close(self) -> None:
        """Give up what is under way, and what was only taken for the build."""
        await self._bases.close()
        for image in self._taken:
            await self._builds.forget(image)

    def offer(self, reference: str, shelf: Layout, ref: str) -> None:
        """Let a base image of that name be what is under `ref` in a directory of the client's."""

        async def take(platform: Platform) -> Image:
            before = set(self._images.records.images)
            image = await take_image(shelf, ref, platform, self._builds.puller, self._images.admission, self._progress)
            if image.id not in before:
                self._taken.append(image)
            return image

        self._bases.offer(reference, take)

    def image_of(self, vertex: Vertex) -> Image | None:
        """The image that a source vertex stands for, if it has been looked up."""
        operation = vertex.operation
        if not isinstance(operation, ImageSource):
            return None
        return self._bases.known(operation.reference, operation.platform)

    async def base_image(self, reference: str, platform: Platform) -> BaseImage:
        """See `wherry.model.dockerfile.options.BaseImages`."""
        image = await self._bases.find(reference, platform)
        text = await asyncio.to_thread(self._blobs.read, image.id)
        return BaseImage(reference, msgspec.json.decode(text))

    async def solve(self, target: Target) -> tuple[Tree, dict[Vertex, Known]]:
        """Raises WherryError."""
        return await self._solve.solve(target.vertex, _states(target))

    async def image(self, target: Target, names: Iterable[Reference] = (), *, inline_cache: bool = False) -> Image:
        """Build the target as an image with these names, and the records of its steps in it. Raises WherryError."""
        tree, known = await self.solve(target)
        base = None
        if target.base is not None:
            base = await self._bases.find(*_image_of(target.base))
        if base is not None and not target.history and await self._says_the_same(target, base):
            await self.name(base, names)
            return base
        cache = ""
        if inline_cache:
            cache = build_caches.inline(await results_of(self._solve, self._builds.cache, known, tree), tree.diff_ids)
        text = document(target, tree, known, base, time.time_ns(), self._settings.epoch, cache)
        return await self._images.admission.admit(text, (), names=names)

    async def below(self, target: Target) -> frozenset[str]:
        """The layers that a target begins with, by diff ID."""
        base = await self._bases.find(*_image_of(target.base)) if target.base is not None else None
        return frozenset(base.diff_ids) if base is not None else frozenset()

    async def dressed(
        self, parts: Sequence[Part], meant: Image, names: Iterable[Reference], style: Style
    ) -> Descriptor:
        """Images with manifests of their own, and an index, which the names mean then: see `Dressing`."""
        return await self._builds.dressing.dress(parts, meant, names, style)

    async def attest(self, report: Report, wanted: Attestations, name: str) -> list[Attested]:
        """What is said of what was built."""
        return await attest(self._shop, self, report, wanted, name)

    async def tree_of(self, vertex: Vertex) -> Tree:
        """What a vertex comes to. Raises WherryError."""
        tree, _ = await self._solve.solve(vertex)
        return tree

    def materials(self, vertices: Iterable[Vertex]) -> list[Material]:
        """What came from elsewhere into a build that has been carried out."""
        found: dict[str, Material] = {}
        for vertex in vertices:
            material = self._sources.materials.get(vertex)
            if (image := self.image_of(vertex)) is not None and isinstance(vertex.operation, ImageSource):
                material = self._image_material(vertex.operation, image)
            if material is not None:
                found.setdefault(material.uri, material)
        return list(found.values())

    def _image_material(self, operation: ImageSource, image: Image) -> Material:
        """With the digest that a registry has it under; that of its configuration if none is known to have it."""
        name = parse_any(operation.reference)
        if isinstance(name, str):
            return Material(f"pkg:docker/{image.id}", image.id)
        target = self._images.records.targets.get(name.canonical) or name.digest
        platform = operation.platform or Platform(image.os, image.architecture, image.variant)
        return Material(purl(name, platform), target or image.id)

    async def push(self, name: Reference, *, by_digest: bool = False) -> str:
        """Send what the name means to its registry; the digest it has there. Raises WherryError."""
        credentials = self._settings.credentials_for(name)
        return await publish(self._builds.pusher, name, credentials, self._progress, by_digest=by_digest)

    async def take_from(self, place: CachePlace, shelf: Layout) -> None:
        """Let steps be found in a cache of elsewhere; `shelf` is a directory's. Raises InvalidParameter (its name)."""
        if place.type == "local":
            await self._imports.add(place.shown, shelf, place.digest or place.tag)
            return
        reference = parse(place.ref).with_default_tag()
        if not await self.take_from_image(reference, tell=False):
            repository = self._repository(reference)
            await self._imports.add(reference.familiar, repository, reference.digest or reference.tag)

    async def take_from_image(self, reference: Reference, *, tell: bool = True) -> bool:
        """Let steps be found in the inline cache of an image that is here; False if there is none."""
        try:
            image = self._images.resolve(reference.familiar)
            offer = await asyncio.to_thread(lambda: offered_by(self._blobs.read(image.id), ()))
        except WherryError as error:
            if tell:
                self._progress.tell(Warned(f"the cache {reference.familiar} is not used: {error}"))
            return False
        self._imports.add_offer(reference.familiar, self._repository(reference), offer)
        return True

    async def take_by_history(self, reference: Reference, target: Target, same: Same) -> tuple[int, Image | None]:
        """Let steps be found in an image that is here by what its history says: how many there are, and the image if
        it is just what is to be built. None where there is no such image.
        """
        try:
            image = self._images.resolve(reference.familiar)
        except WherryError as error:
            self._progress.tell(Warned(f"the cache {reference.familiar} is not used: {error}"))
            return 0, None
        base = await self._bases.find(*_image_of(target.base)) if target.base is not None else None
        matched = await asyncio.to_thread(match, target.history, base, image, same)
        if matched.results:
            self._imports.add_matched(reference.familiar, self._repository(reference), matched.results)
        return matched.steps, image if matched.whole else None

    async def name(self, image: Image, names: Iterable[Reference]) -> None:
        """Give an image more names."""
        for name in names:
            await self._images.tag(image.id, name.name, name.tag)

    async def give_to(self, place: CachePlace, shelf: Layout, targets: Iterable[Target]) -> None:
        """Keep what the build came to for builds elsewhere. Raises WherryError."""
        every = place.mode == "max"
        results: dict[str, Result] = {}
        for target in targets:
            states = [vertex for vertex in ordered(target.vertex) if vertex.inputs] if every else _states(target)
            tree, known = await self._solve.solve(target.vertex, states, fetch=every)
            results |= await results_of(self._solve, self._builds.cache, known, None if every else tree)
        pusher = self._builds.pusher
        if place.type == "local":
            await export(place, shelf, place.tag, results, pusher, self._progress)
            return
        reference = parse(place.ref).with_default_tag()
        await export(place, self._repository(reference), reference.tag, results, pusher, self._progress)

    def _repository(self, reference: Reference) -> Repository:
        return self._builds.puller.repository(reference, self._settings.credentials_for(reference))

    async def _says_the_same(self, target: Target, base: Image) -> bool:
        """A target that adds nothing to its image is that image."""
        own = msgspec.json.decode(await asyncio.to_thread(self._blobs.read, base.id))
        left_out = ("rootfs", "history", "created")
        return all(value == own.get(key) for key, value in target.config.items() if key not in left_out)


def _states(target: Target) -> list[Vertex]:
    return [step.vertex for step in target.history if step.vertex is not None]


def _image_of(vertex: Vertex) -> tuple[str, Platform | None, str]:
    operation = vertex.operation
    if not isinstance(operation, ImageSource):
        raise NotFound(f"{vertex.name} is no image")
    return operation.reference, operation.platform, operation.pull


def _parents(cached: Cached, chains: Mapping[tuple[str, ...], str]) -> tuple[str, ...]:
    """The result with most of its layers, but for itself."""
    for length in range(len(cached.diff_ids) - 1, 0, -1):
        if found := chains.get(tuple(cached.diff_ids[:length])):
            return (found,)
    return ()


def _lineage(image: Image) -> list[str]:
    return chain_ids(image.diff_ids)
