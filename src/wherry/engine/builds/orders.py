"""Carrying out what a build session asks for: from a client's order to what it gets."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from wherry.engine.builds import outputs
from wherry.engine.builds.attesting import Report
from wherry.engine.builds.exports import check
from wherry.engine.builds.layouts import Directory, Layout
from wherry.engine.builds.outputs import Wanted, deliver
from wherry.engine.builds.progress import Ended, Listener, Message, Warned
from wherry.engine.builds.service import Builds
from wherry.engine.builds.shop import together
from wherry.engine.builds.trees import Client, Settings
from wherry.engine.builds.uploads import Uploaded
from wherry.errors import InvalidParameter, NotFound, NotSupported, WherryError
from wherry.model import platforms, reference
from wherry.model.annotations import INDEX, INDEX_DESCRIPTOR, Annotation, parse_annotation
from wherry.model.attestations import check_options
from wherry.model.build_graph import GitSource, HttpSource, Ulimit, Vertex
from wherry.model.build_session import BuildOrder, ContextOffer, Output
from wherry.model.config import HostConfig
from wherry.model.credentials import decode_many
from wherry.model.dockerfile.git_urls import is_web, parse_git_url
from wherry.model.dockerfile.options import (
    MAIN_CONTEXT,
    Context,
    ImageContext,
    LocalContext,
    PlanOptions,
    VertexContext,
)
from wherry.model.dockerfile.planning import plan_dockerfile
from wherry.model.file_list import FileList
from wherry.model.ids import new_id
from wherry.model.platforms import Platform
from wherry.model.provenance import Invocation, Material
from wherry.model.reference import Reference

EPOCH = "SOURCE_DATE_EPOCH"
_NETWORKS = {"": "", "default": "", "bridge": "", "none": "none", "host": "host"}


class Delivery(Client, Protocol):
    """A client that outputs can be sent to, and that may have its context as an archive."""

    async def archive(self) -> FileList: ...
    async def deliver(self, number: int, pieces: AsyncIterator[bytes]) -> None: ...
    def directory(self, number: int) -> Directory:
        """One where caches are kept."""


class _Archived:
    """A client whose main context has come as a whole."""

    def __init__(self, client: Delivery, files: FileList) -> None:
        self._files = Uploaded(files)
        self.secret = client.secret
        self.agent = client.agent
        self._client = client

    async def files(self, name: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> FileList:
        chosen = self._files if name == MAIN_CONTEXT else self._client
        return await chosen.files(name, include, exclude)


async def carry_out(builds: Builds, order: BuildOrder, client: Delivery, listener: Listener) -> dict[str, Any]:
    """Build, deliver, and say what came of it. Raises WherryError."""
    _check(order)
    names = _names(order)
    host = builds.platform
    built_for = _platforms(order, host)
    annotations = _annotations(order, host, built_for)
    epoch = epoch_of(order.build_args.get(EPOCH, ""))
    for output, said in zip(order.outputs, annotations, strict=False):
        outputs.check(output, several=len(built_for) > 1, said=bool(said or order.attestations), epoch=epoch)
    started_ns = time.time_ns()
    if not names and any(output.push for output in order.outputs):
        raise InvalidParameter("tag is needed when pushing to registry")
    async with builds.using():
        main: Client = client
        dockerfile = order.dockerfile
        material = None
        if order.context != "local":
            files, material = await _remote_files(builds, order, client)
            builds.contexts.remember(files, builds.contexts.name_of(files, order.dockerfile_name))
            main = _Archived(client, files)
            if not dockerfile:
                dockerfile = await asyncio.to_thread(_dockerfile_in, builds, files, order.dockerfile_name)
        settings = Settings(
            HostConfig(cgroup_parent=order.cgroup_parent),
            epoch,
            "" if order.network in _NETWORKS else order.network,
            order.pull,
            decode_many(order.registry_auth),
            order.known_hosts,
        )
        watching = _Watching(listener)
        async with builds.open(main, settings, watching) as build:
            options = [
                _plan_options(builds, order, epoch, platform, several=len(built_for) > 1) for platform in built_for
            ]
            for name, offer in order.contexts.items():
                if offer.layout is not None:
                    build.offer(_layout_name(name, offer.layout), Layout(client.directory(offer.layout)), offer.ref)
            plans = await together(
                plan_dockerfile(dockerfile, each, build, elsewhere=asyncio.to_thread) for each in options
            )
            for warning in dict.fromkeys(warning for plan in plans for warning in plan.target.warnings):
                listener.tell(Warned(warning))
            asked_for = invocation(order, dockerfile, host, material)
            told_as = new_id()[:25]
            reports = [
                Report(asked_for, plan, build.materials, started_ns, epoch, told_as, (platform or host).normal())
                for platform, plan in zip(built_for, plans, strict=True)
            ]
            for place in order.cache_from:
                await build.take_from(place, Layout(client.directory(place.directory)))
            try:
                told = await deliver(
                    builds, build, Wanted(order, names, annotations, _inline(order), epoch), reports, client
                )
                for place in order.cache_to:
                    if place.type != "inline":
                        targets = [plan.target for plan in plans]
                        await build.give_to(place, Layout(client.directory(place.directory)), targets)
                return told
            except WherryError as error:
                asked = next((plan.places[watching.failed] for plan in plans if watching.failed in plan.places), None)
                error.place = error.place or ((asked.first, asked.last) if asked is not None else None)
                raise


class _Watching:
    """Tells on, and remembers the vertex that failed first."""

    def __init__(self, listener: Listener) -> None:
        self.room = listener.room
        self.failed = ""
        self._tell = listener.tell

    def tell(self, message: Message, /) -> None:
        if isinstance(message, Ended) and message.error and not self.failed:
            self.failed = message.vertex
        self._tell(message)


async def _remote_files(builds: Builds, order: BuildOrder, client: Delivery) -> tuple[FileList, Material | None]:
    if order.context == "archive":
        return await client.archive(), None
    return await builds.contexts.remote(order.context, order.dockerfile_name, client, order.known_hosts)


def _dockerfile_in(builds: Builds, files: FileList, name: str) -> bytes:
    found = builds.contexts.read(files, name)
    if found is None:
        raise NotFound(f"failed to read dockerfile: open {name}: no such file or directory")
    return found


def _inline(order: BuildOrder) -> bool:
    return wants_inline(order.build_args) or any(place.type == "inline" for place in order.cache_to)


def wants_inline(build_args: Mapping[str, str]) -> bool:
    """Asked for by a build argument, as older clients do."""
    return build_args.get("BUILDKIT_INLINE_CACHE", "").lower() in ("1", "true")


def epoch_of(text: str) -> int | None:
    """SOURCE_DATE_EPOCH. Raises InvalidParameter."""
    if not text:
        return None
    if not text.isdigit():
        raise InvalidParameter(f"invalid {EPOCH}: {text}: it is a number of seconds")
    return int(text)


def _check(order: BuildOrder) -> None:
    if wrong := check(order.cache_from, written=False) or check(order.cache_to, written=True):
        raise InvalidParameter(wrong)
    check_options(order.attestations)
    unknown = set(order.allow) - {"network.host"}
    if unknown:
        raise NotSupported(f"the entitlement {min(unknown)} is not supported by this version of Wherry")


def _platforms(order: BuildOrder, host: Platform) -> list[Platform | None]:
    """Those to build for, each once; None alone: nothing was said. Raises InvalidParameter."""
    if not order.platform:
        return [None]
    return list(dict.fromkeys(platforms.parse(text.strip(), host).normal() for text in order.platform.split(",")))


def _annotations(order: BuildOrder, host: Platform, built: Sequence[Platform | None]) -> list[list[Annotation]]:
    """Of each output. Raises InvalidParameter."""
    own = [(platform or host).normal() for platform in built]
    indexed = bool(order.attestations) or len(built) > 1
    found = []
    for output in order.outputs or [Output()]:
        texts = [*order.annotations, *output.annotations]
        if output.type == "tar" and output.annotations:
            raise InvalidParameter("annotations are of images: a tar or a directory of files has none")
        found.append([] if output.type == "tar" else [each for text in texts for each in parse_annotation(text, host)])
        for each in found[-1]:
            if each.platform is not None and each.platform.normal() not in own:
                raise InvalidParameter(f"the annotation {each.key} is for {each.platform}, which is not built")
            if each.kind in (INDEX, INDEX_DESCRIPTOR) and not indexed:
                raise InvalidParameter(
                    f"the annotation {each.key} is of an index, which an image of one platform without attestations"
                    " has none of"
                )
    if order.annotations and not any(found):
        raise InvalidParameter("annotations are of images: a tar or a directory of files has none")
    return found


def _names(order: BuildOrder) -> list[Reference]:
    found: dict[Reference, None] = {}
    named = [name for output in order.outputs for name in output.name.split(",") if name]
    for name in (*order.names, *named):
        parsed = reference.parse(name)
        if parsed.digest:
            raise InvalidParameter("build tag cannot contain a digest")
        found[parsed.with_default_tag()] = None
    return list(found)


def _plan_options(
    builds: Builds, order: BuildOrder, epoch: int | None, platform: Platform | None, *, several: bool
) -> PlanOptions:
    no_cache = frozenset(order.no_cache_filter) if order.no_cache_filter else None
    return PlanOptions(
        host=builds.platform,
        target=order.target,
        platform=platform,
        name_platforms=several,
        build_args=order.build_args,
        labels=order.labels,
        no_cache_stages=frozenset() if order.no_cache else no_cache,
        pull=order.pull,
        network=_NETWORKS.get(order.network, ""),
        extra_hosts=tuple(order.extra_hosts),
        shm_size=order.shm_size,
        ulimits=tuple(Ulimit(limit.name, limit.soft, limit.hard) for limit in order.ulimits),
        main=LocalContext(MAIN_CONTEXT, tuple(order.exclude) if order.context == "local" else ()),
        contexts={name: _context(name, offer) for name, offer in order.contexts.items()},
        epoch=epoch,
        allow=frozenset(order.allow),
    )


def _layout_name(name: str, number: int) -> str:
    """What an image of a directory's is called in the build."""
    shown = "-".join(re.findall("[a-z0-9]+", name.lower()))
    return reference.parse(f"oci-layout/{shown or 'context'}-{number}").with_default_tag().canonical


def _context(name: str, offer: ContextOffer) -> Context:
    if offer.layout is not None:
        return ImageContext(_layout_name(name, offer.layout))
    if offer.image:
        return ImageContext(offer.image)
    if offer.local:
        return LocalContext(name, tuple(offer.exclude))
    git = parse_git_url(offer.url)
    if git is not None:
        keep_git = bool(git.keep_git)
        source = GitSource(git.remote, git.ref, git.subdir, keep_git=keep_git, checksum=git.checksum)
        return VertexContext(Vertex(source, name=f"[context {name}] {offer.url}"))
    if is_web(offer.url):
        return VertexContext(Vertex(HttpSource(offer.url), name=f"[context {name}] {offer.url}"))
    raise InvalidParameter(f"the build context {name} is no directory, image, URL or Git repository")


def invocation(order: BuildOrder, dockerfile: bytes, host: Platform, context: Material | None) -> Invocation:
    """What was asked for, with the names that BuildKit has for it."""
    found = {f"build-arg:{name}": value for name, value in order.build_args.items()}
    found |= {f"label:{name}": value for name, value in order.labels.items()}
    for name, offer in order.contexts.items():
        image = f"docker-image://{offer.image}" if offer.image else ""
        if offer.layout is not None:
            image = f"oci-layout://{name}" + (f":{offer.ref}" if offer.ref else "").replace(":sha256:", "@sha256:")
        found[f"context:{name}"] = f"local:{name}" if offer.local else image or offer.url
    given = {
        "target": order.target,
        "platform": order.platform,
        "add-hosts": ",".join(text.replace(":", "=", 1) for text in order.extra_hosts),
        "force-network-mode": _NETWORKS.get(order.network, order.network),
        "cgroup-parent": order.cgroup_parent,
        "image-resolve-mode": "pull" if order.pull else "",
        "shm-size": str(order.shm_size or ""),
        "ulimit": ",".join(f"{limit.name}={limit.soft}:{limit.hard}" for limit in order.ulimits),
    }
    found |= {name: value for name, value in given.items() if value}
    if order.no_cache or order.no_cache_filter:
        found["no-cache"] = ",".join(order.no_cache_filter)
    locals_ = [name for name, offer in order.contexts.items() if offer.local]
    if order.context == "local":
        locals_ += [MAIN_CONTEXT, "dockerfile"]
    return Invocation(order.dockerfile_name, dockerfile, found, locals_, host, context)
