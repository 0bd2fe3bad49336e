"""Container routes: decode, one call of the service, encode."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from wherry.api import as_of, decode, encode, hijack, websocket
from wherry.api.app import Call, Route
from wherry.api.query import Query
from wherry.api.server import Answer, Response
from wherry.api.services import ContainersService, ExecsService
from wherry.errors import InvalidParameter, NotFound, NotSupported, SystemFailure, WherryError
from wherry.model import log_attributes
from wherry.model.config import HostConfig, NetworkingConfig
from wherry.model.container import Container
from wherry.model.filters import ContainerQuery, Filters
from wherry.model.host import Host
from wherry.model.logs import LogEntry, LogOptions
from wherry.model.timestamps import parse_unix, rfc3339_fixed

T = TypeVar("T")
CONDITIONS = ("not-running", "next-exit", "removed")
PRUNE_FILTERS = ("label", "label!", "until")
TOO_LONG_TO_BE_EMPTY = 7  # bytes: old clients send "{}" or "null" to start


class ImageNames(Protocol):
    """What the list needs of the images."""

    def id_of(self, ref: str) -> str | None:
        """The ID a reference means now, None for none."""
        ...

    def descendants(self, ref: str) -> Collection[str]:
        """IDs of the image a reference means and of the images made from it; empty for an unknown one."""
        ...


def routes(containers: ContainersService, execs: ExecsService, images: ImageNames, host: Host) -> list[Route]:
    """The routes over these services."""
    summaries = encode.Summaries()

    async def create(call: Call) -> Answer:
        data = await decode.bounded(call.content)
        config, given, networking = decode.create_body(call.headers.get("content-type"), data)
        if config is None:
            raise InvalidParameter("config cannot be empty in order to create a container")
        wanted = given or HostConfig()
        connected = networking or NetworkingConfig()
        outdated = as_of.create(call.version, config, wanted, connected)
        _name_default_network(wanted, connected)
        platform = call.query.text("platform") if call.version >= (1, 41) else ""
        created = await containers.create(call.query.text("name"), config, wanted, connected, platform)
        return call.json({"Id": created.id, "Warnings": [*outdated, *created.warnings]}, 201)

    plain = ContainerQuery(Filters(), all=False, limit=0)

    def asked(query: Query) -> ContainerQuery:
        return ContainerQuery.make(
            Filters.decode(query.text("filters")),
            all=query.boolean("all"),
            limit=query.integer("limit", failure=True) or 0,
            container_id=lambda ref: containers.get(ref).id,
            image_ids=images.descendants,
        )

    def list_(call: Call) -> Response | Awaitable[Answer]:
        query = asked(call.query) if call.query else plain
        chosen = [view.record for view in query.select(map(encode.View, containers.all()))]
        shown: dict[tuple[str, str], str] = {}
        for record in chosen:
            key = record.image_ref, record.image
            if key not in shown:
                shown[key] = encode.image_shown(record, images.id_of)
        names = [shown[record.image_ref, record.image] for record in chosen]
        if call.query.boolean("size"):
            return with_sizes(call, chosen, names)
        return call.encoded(summaries.encode(chosen, names, encode.now(), containers.names_of_links()))

    async def with_sizes(call: Call, chosen: Sequence[Container], names: Sequence[str]) -> Answer:
        sizes = await asyncio.gather(*(size_of(record) for record in chosen))
        now, others = encode.now(), containers.names_of_links()
        entries = zip(chosen, names, sizes, strict=True)
        return call.json(
            [
                encode.summary(record, name, now, size, other_names=others.get(record.id, ()))
                for record, name, size in entries
            ]
        )

    async def size_of(record: Container) -> tuple[int, int] | None:
        with suppress(NotFound):  # removed meanwhile
            return await containers.size(record.id)
        return None

    async def inspect(call: Call) -> Answer:
        record = containers.get(call.path["name"])
        size = await containers.size(record.id) if call.query.boolean("size") else None
        directory = host.roots.container(record.id)
        shown = encode.inspect(
            record,
            directory=directory,
            exec_ids=execs.of_container(record.id),
            links=containers.links_of(record),
            size=size,
        )
        return call.json(as_of.inspected(call.version, shown))

    async def start(call: Call) -> Answer:
        if call.content.length is None or call.content.length > TOO_LONG_TO_BE_EMPTY:
            raise InvalidParameter(
                "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
            )
        hijack.detach_keys(call.query.text("detachKeys"))
        await containers.start(call.path["name"])
        return call.empty()

    def chosen_signal(call: Call) -> str | None:
        return (call.query.text("signal") if call.version >= (1, 42) else "") or None

    async def stop(call: Call) -> Answer:
        await containers.stop(call.path["name"], call.query.integer("t", failure=True), chosen_signal(call))
        return call.empty()

    async def restart(call: Call) -> Answer:
        await containers.restart(call.path["name"], call.query.integer("t", failure=True), chosen_signal(call))
        return call.empty()

    async def kill(call: Call) -> Answer:
        name = call.path["name"]
        try:
            await containers.kill(name, call.query.text("signal"))
        except NotFound as error:
            raise NotFound(f"cannot kill container: {name}: {error}") from None
        return call.empty()

    async def pause(call: Call) -> Answer:
        await containers.pause(call.path["name"])
        return call.empty()

    async def unpause(call: Call) -> Answer:
        await containers.unpause(call.path["name"])
        return call.empty()

    async def rename(call: Call) -> Answer:
        name = call.query.text("name")
        if not name:
            raise InvalidParameter("Neither old nor new names may be empty")
        await containers.rename(call.path["name"], name)
        return call.empty()

    async def wait(call: Call) -> Answer:
        condition = (call.query.text("condition") if call.version >= (1, 30) else "") or "not-running"
        if condition not in CONDITIONS:
            raise InvalidParameter(f'invalid condition: "{condition}"')
        future = containers.wait(call.path["name"], condition)
        try:
            response = await call.stream("application/json")
            result = await call.while_connected(_awaited(future))
        finally:
            future.cancel()
        answer: dict[str, Any] = {"StatusCode": result.exit_code}
        if result.error and condition != "removed":
            answer["Error"] = {"Message": result.error}
        return await call.last(response, answer)

    async def attach(call: Call) -> Answer:
        query = call.query
        try:
            keys = hijack.detach_keys(query.text("detachKeys"))
            session = await containers.attach(
                call.path["name"],
                stdin=query.boolean("stdin"),
                stdout=query.boolean("stdout"),
                stderr=query.boolean("stderr"),
                stream=query.boolean("stream"),
                logs=query.boolean("logs"),
            )
        except WherryError as error:
            return await hijack.refuse(call, error)
        return await hijack.serve(call, session, keys)

    async def attach_websocket(call: Call) -> Answer:
        query = call.query
        keys = hijack.detach_keys(query.text("detachKeys"))
        record = containers.get(call.path["name"])
        if await websocket.refuse_handshake(call):
            return None
        session = await containers.attach(
            record.id,
            stdin=query.boolean("stdin"),
            stdout=query.boolean("stdout"),
            stderr=query.boolean("stderr"),
            stream=query.boolean("stream"),
            logs=query.boolean("logs"),
        )
        return await websocket.serve(call, session, keys)

    async def resize(call: Call) -> Answer:
        height, width = call.query.required_integer("h"), call.query.required_integer("w")
        await containers.resize(call.path["name"], height, width)
        return call.empty(200)

    async def logs(call: Call) -> Answer:
        options = _log_options(call)
        record = containers.get(call.path["name"])
        if record.host.log_config.type == "none":
            raise NotSupported("configured logging driver does not support reading")
        tty = record.config.tty
        timestamps = call.query.boolean("timestamps")
        details = _details(record, host.roots.container(record.id)) if call.query.boolean("details") else b""
        multiplexed = not tty and call.version >= (1, 42)
        response = await call.stream(hijack.MULTIPLEXED if multiplexed else hijack.RAW)

        async def copy() -> None:
            async for batch in containers.logs(record.id, options):
                lines = ((entry.stream, _log_line(entry, timestamps, details)) for entry in batch)
                await response.write(b"".join(line if tty else hijack.frame(stream, line) for stream, line in lines))

        await call.while_connected(copy())
        await response.write_eof()
        return response

    async def remove(call: Call) -> Answer:
        query = call.query
        await containers.remove(call.path["name"], query.boolean("force"), query.boolean("v"), query.boolean("link"))
        return call.empty()

    async def prune(call: Call) -> Answer:
        filters = Filters.decode(call.query.text("filters"))
        filters.validate(PRUNE_FILTERS)
        pruned = await containers.prune(filters)
        return call.json({"ContainersDeleted": pruned.ids or None, "SpaceReclaimed": pruned.reclaimed})

    name = "/containers/{name:.*}"
    return [
        Route("POST", "/containers/create", create),
        Route("POST", "/containers/prune", prune),
        Route("GET", "/containers/json", list_),
        Route("GET", f"{name}/json", inspect),
        Route("GET", f"{name}/logs", logs),
        Route("POST", f"{name}/start", start),
        Route("POST", f"{name}/stop", stop),
        Route("POST", f"{name}/restart", restart),
        Route("POST", f"{name}/kill", kill),
        Route("POST", f"{name}/pause", pause),
        Route("POST", f"{name}/unpause", unpause),
        Route("POST", f"{name}/rename", rename),
        Route("POST", f"{name}/wait", wait),
        Route("POST", f"{name}/attach", attach),
        Route("GET", f"{name}/attach/ws", attach_websocket),
        Route("POST", f"{name}/resize", resize),
        Route("DELETE", "/containers/{name:(?!.*/checkpoints/).*}", remove),
    ]


def _name_default_network(host: HostConfig, networking: NetworkingConfig) -> None:
    """`default`, and nothing, is the network `bridge`, as a mode and as the name of an endpoint."""
    if host.network_mode in ("", "default"):
        host.network_mode = "bridge"
    endpoints = networking.endpoints_config or {}
    if "default" in endpoints:
        endpoints.setdefault("bridge", endpoints.pop("default"))


def _log_options(call: Call) -> LogOptions:
    query = call.query
    stdout, stderr = query.boolean("stdout"), query.boolean("stderr")
    if not (stdout or stderr):
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    tail = query.text("tail")
    try:
        since, until = (
            parse_unix(query.text(key)) if query.text(key) not in ("", "0") else None for key in ("since", "until")
        )
    except InvalidParameter as error:
        raise SystemFailure(str(error)) from None
    return LogOptions(
        stdout=stdout,
        stderr=stderr,
        follow=query.boolean("follow"),
        since_ns=since,
        until_ns=until,
        tail=int(tail) if tail.isascii() and tail.isdigit() else None,  # "all", and whatever is no number: all
    )


def _details(record: Container, directory: Path) -> bytes:
    """What stands before each line with `details`: the attributes, of which there may be none, and a space."""
    try:
        found = log_attributes.attributes(
            record, log_path=str(directory / "container.log"), hostname=os.uname().nodename
        )
        return log_attributes.encoded(found).encode() + b" "
    except InvalidParameter as error:
        raise SystemFailure(str(error)) from None


def _log_line(entry: LogEntry, timestamps: bool, details: bytes) -> bytes:
    """One entry as sent."""
    stamp = rfc3339_fixed(entry.time_ns).encode() + b" " if timestamps else b""
    return stamp + details + entry.data


async def _awaited(future: asyncio.Future[T]) -> T:
    return await future
