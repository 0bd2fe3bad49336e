"""The classic build endpoint: a context as a tar or from elsewhere, the options in the query, JSON messages back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from wherry.api import build_options, classic_words
from wherry.api.app import Call, Route
from wherry.api.build_log import ClassicLog, step_ids
from wherry.api.build_options import BuildOptions
from wherry.api.errors import message_of
from wherry.api.server import Answer, Response
from wherry.engine.builds.orders import EPOCH, epoch_of, wants_inline
from wherry.engine.builds.progress import Ended, Message, Pulled, Warned
from wherry.engine.builds.service import Build, Builds
from wherry.engine.builds.trees import ProcessFailed, Settings
from wherry.engine.builds.uploads import Uploaded
from wherry.errors import InvalidParameter, NotFound, SystemFailure, WherryError
from wherry.model.build_graph import Target
from wherry.model.credentials import Credentials, decode_many
from wherry.model.dockerfile.options import BaseImage, PlanOptions
from wherry.model.dockerfile.planning import plan_dockerfile
from wherry.model.dockerfile.source import DockerfileError
from wherry.model.file_list import FileList, Listed
from wherry.model.image import Image
from wherry.model.platforms import Platform
from wherry.model.reference import short_id

Json = dict[str, Any]
_encode = msgspec.json.Encoder().encode
_WAITING_MAX = 256  # messages that a slow client has not taken; then the build's processes wait


def routes(builds: Builds, host: Platform) -> list[Route]:
    """The routes of this file. `host` is the platform that builds are for where nothing is said."""
    running: dict[str, asyncio.Task[None]] = {}

    async def build(call: Call) -> Answer:
        options = build_options.read(call.query, host)
        credentials = decode_many(call.headers.get("x-registry-config") or "")
        async with builds.using():
            files = await _context(builds, call, options)
            dockerfile = await asyncio.to_thread(_dockerfile, builds, files, options)
            builds.contexts.remember(files, builds.contexts.name_of(files, options.dockerfile))
            if not options.remote:
                files = await asyncio.to_thread(builds.contexts.without_told, files, options.dockerfile)
            answer = _Answering(options)
            work = asyncio.create_task(answer.run(builds, files, dockerfile, host, credentials))
            if options.build_id:
                running[options.build_id] = work
            try:
                return await call.while_connected(answer.send(call, work))
            finally:
                running.pop(options.build_id, None)
                work.cancel()
                await asyncio.wait({work})

    def cancel(call: Call) -> Response:
        task = running.get(call.query.text("id"))
        if task is not None:
            task.cancel()
        return call.empty(200)

    return [Route("POST", "/build", build), Route("POST", "/build/cancel", cancel)]


async def _context(builds: Builds, call: Call, options: BuildOptions) -> FileList:
    if options.remote:
        files, _ = await builds.contexts.remote(options.remote, options.dockerfile)
        return files
    return await builds.contexts.uploaded(call.content)


def _dockerfile(builds: Builds, files: FileList, options: BuildOptions) -> bytes:
    """Blocking. Raises SystemFailure, InvalidParameter in the real engine's words."""
    asked = options.dockerfile
    for name in (asked, *(("dockerfile",) if asked == "Dockerfile" else ())):
        found = builds.contexts.read(files, name)
        if found is not None:
            if not found:
                raise InvalidParameter(f"the Dockerfile ({asked}) cannot be empty")
            classic_words.read(found, asked)
            return found
    raise SystemFailure(f"Cannot locate specified Dockerfile: {asked}")


def _pieces(builds: Builds, entry: Listed) -> Iterator[bytes]:
    with open(builds.contents.open(entry.digest, entry.size), "rb", buffering=0) as file:
        while piece := file.read(1 << 20):
            yield piece


class _Answering:
    """One build and the log of it, until the client has read it."""

    def __init__(self, options: BuildOptions) -> None:
        self._options = options
        self._waiting: deque[Json | None] = deque()  # None begins the answer
        self._news = asyncio.Event()
        self._taken = asyncio.Event()
        self._kept: list[Json] = []  # of a quiet build, told if it fails
        self._log = ClassicLog(self._say, remove=options.remove, force_remove=options.force_remove)
        self._failed = ""

    # the build

    async def run(
        self,
        builds: Builds,
        files: FileList,
        dockerfile: bytes,
        host: Platform,
        credentials: Mapping[str, Credentials],
    ) -> None:
        """Raises WherryError, after the log has been told of it."""
        options = self._options
        epoch = epoch_of(options.build_args.get(EPOCH, ""))
        settings = Settings(options.limits, epoch, options.named_network, options.pull, credentials)
        async with builds.open(Uploaded(files), settings, self) as build:
            bases_of = _Bases(self, build, dockerfile)
            try:
                plan = await plan_dockerfile(
                    dockerfile, _plan_options(options, host, epoch), bases_of, elsewhere=asyncio.to_thread
                )
            except DockerfileError as error:
                if classic_words.begins(error):
                    self._begin()
                raise classic_words.planning_failed(error) from None
            target = await asyncio.to_thread(classic_words.with_classic_history, plan.target, files, options.labels)
            self._begin()
            bases = {
                step.vertex.digest: image.id
                for step in target.steps
                if step.vertex is not None and (image := build.image_of(step.vertex)) is not None
            }
            matched, image = (0, None) if options.no_cache else await self._from_images(build, target, files, builds)
            states = classic_words.states_of(target, step_ids(target), matched)
            knows = builds.cache.knows
            known = (lambda state: False) if options.no_cache else (lambda state: state in states or knows(state))
            self._log.plan(target, known, bases)
            try:
                inline = wants_inline(options.build_args)
                if image is None:
                    image = await build.image(target, options.names, inline_cache=inline)
                else:
                    await build.name(image, options.names)
            except NotFound as error:
                self._log.fail(self._failed)
                raise classic_words.copy_failed(error, target, self._failed) from None
            except Exception:
                self._log.fail(self._failed)
                raise
            self._log.finish()
            builds.cache.remember(step_ids(target))
            self._finish(image, classic_words.unused_arguments(dockerfile, (*options.build_args, *options.unset_args)))

    async def _from_images(
        self, build: Build, target: Target, files: FileList, builds: Builds
    ) -> tuple[int, Image | None]:
        """Caches that are named: how many steps one of them has by its history, and the image if it has all."""
        best = 0
        for name in self._options.cache_from:
            if await build.take_from_image(name, tell=False):
                continue
            same = partial(classic_words.same_step, files=files, contents=partial(_pieces, builds))
            found, whole = await build.take_by_history(name, target, same)
            if whole is not None:
                return found, whole
            best = max(best, found)
        return best, None

    def _finish(self, image: Image, unused: list[str]) -> None:
        if self._options.quiet:
            self._send({"stream": f"{image.id}\n"})
            return
        self._send({"aux": {"ID": image.id}})
        if unused:
            self._send({"stream": f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n"})
        self._send({"stream": f"Successfully built {short_id(image.id)}\n"})
        for name in self._options.names:
            self._send({"stream": f"Successfully tagged {name.familiar}\n"})

    # as a listener of the build

    def tell(self, message: Message, /) -> None:
        if isinstance(message, Ended) and message.error:
            self._failed = message.vertex
        if isinstance(message, Pulled):
            self._say(message.message)
        if isinstance(message, Warned):
            self._say({"stream": f"[Warning] {message.text}\n"})
        self._log.tell(message)

    async def room(self) -> None:
        while len(self._waiting) > _WAITING_MAX:
            self._taken.clear()
            await self._taken.wait()

    # the answer

    def _begin(self) -> None:
        """From here on an error is a message: the build is under way."""
        if not self._waiting:
            self._waiting.append(None)
            self._news.set()

    begin = _begin

    def _say(self, message: Json) -> None:
        if self._options.quiet:
            self._kept.append(message)
        else:
            self._send(message)

    def _send(self, message: Json) -> None:
        self._waiting.append(message)
        self._news.set()

    async def send(self, call: Call, work: asyncio.Task[None]) -> Answer:
        """The messages as they come; what fails before the first one is the answer's status."""
        work.add_done_callback(lambda _: self._news.set())
        await self._news.wait()
        if not self._waiting:
            await work
        response = await call.stream("application/json")
        while True:
            await self._news.wait()
            self._news.clear()
            messages = [message for message in self._waiting if message is not None]
            self._waiting.clear()
            self._taken.set()
            if messages:
                await response.write(b"".join(_encode(message) + b"\r\n" for message in messages))
            if work.done() and not self._waiting:
                break
        for message in self._last(work):
            await response.write(_encode(message) + b"\r\n")
        await response.write_eof()
        return response

    def _last(self, work: asyncio.Task[None]) -> list[Json]:
        if work.cancelled():
            return [_error("context canceled")]
        failure = work.exception()
        if failure is None:
            return []
        if isinstance(failure, ProcessFailed):
            text = f"The command '{failure.command}' returned a non-zero code: {failure.exit_code}"
            return [*self._kept, _error(text, failure.exit_code)]
        return [*self._kept, _error(message_of(failure))]


class _Bases:
    """The build as a plan asks it for base images: from the first question on the build is under way."""

    def __init__(self, answer: _Answering, build: Build, dockerfile: bytes) -> None:
        self._answer = answer
        self._build = build
        self._dockerfile = dockerfile

    async def base_image(self, reference: str, platform: Platform) -> BaseImage:
        self._answer.begin()
        try:
            return await self._build.base_image(reference, platform)
        except WherryError as error:
            raise classic_words.base_failed(error, reference, self._dockerfile) from None


def _error(text: str, code: int = 0) -> Json:
    detail: Json = {"code": code, "message": text} if code else {"message": text}
    return {"errorDetail": detail, "error": text}


def _plan_options(options: BuildOptions, host: Platform, epoch: int | None) -> PlanOptions:
    return PlanOptions(
        host=host,
        target=options.target,
        platform=options.platform,
        build_args=options.build_args,
        labels=options.labels,
        no_cache_stages=frozenset() if options.no_cache else None,
        pull=options.pull,
        network=options.network,
        extra_hosts=options.extra_hosts,
        shm_size=options.shm_size,
        ulimits=options.ulimits,
        epoch=epoch,
        allow=frozenset({"network.host"}),
    )
