"""What a container uses and may use: stats, top, update."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import msgspec

from wherry.api.app import Call, Route
from wherry.api.server import Answer
from wherry.errors import InvalidParameter
from wherry.model import usage
from wherry.model.config import HostConfig, UpdateConfig
from wherry.model.container import Container
from wherry.model.pslist import ProcessList
from wherry.model.usage import Reading

_encode = msgspec.json.Encoder().encode

PAIR = 0.5  # seconds between two readings that somebody waits for: enough to tell the share of a CPU


class Meter(Protocol):
    async def read(self, container: Container) -> Reading | None: ...
    def follow(
        self, container: Container, interval: float = 1.0, /
    ) -> AsyncGenerator[tuple[Reading | None, Reading | None], None]: ...


class Updater(Protocol):
    async def update(self, ref: str, given: HostConfig) -> list[str]: ...


class Tops(Protocol):
    async def list(self, ref: str, arguments: str) -> ProcessList: ...


class Find(Protocol):
    def __call__(self, ref: str, /) -> Container:
        """Raises NotFound."""
        ...


def routes(find: Find, meter: Meter, updater: Updater, tops: Tops) -> list[Route]:
    """The routes over these services."""

    async def stats(call: Call) -> Answer:
        container = find(call.path["name"])
        stream = call.query.boolean("stream", True)
        one_shot = call.version >= (1, 41) and call.query.boolean("one-shot")
        if stream and one_shot:
            raise InvalidParameter("cannot have stream=true and one-shot=true")
        if not stream and not container.state.status.alive:
            return call.json(_frame(container, None, None))
        if one_shot:
            return call.json(usage.frame(await meter.read(container), None))
        if not stream:
            return call.json(await call.while_connected(second(container)))
        response = await call.stream("application/json")

        async def tell() -> None:
            async with aclosing(meter.follow(container)) as readings:
                async for reading, before in readings:
                    await response.write(_encode(_frame(container, reading, before)) + b"\n")

        await call.while_connected(tell())
        await response.write_eof()
        return response

    async def second(container: Container) -> usage.Json:
        """The second reading of a stream: the first that has one before it."""
        shown = _frame(container, None, None)
        async with aclosing(meter.follow(container, PAIR)) as readings:
            first = True
            async for reading, before in readings:
                shown = _frame(container, reading, before)
                if not first:
                    break
                first = False
        return shown

    async def top(call: Call) -> Answer:
        found = await tops.list(call.path["name"], call.query.text("ps_args"))
        return call.json({"Processes": found.processes, "Titles": found.titles})

    async def update(call: Call) -> Answer:
        given = await call.body(UpdateConfig, optional=True)
        if call.version < (1, 40):
            given.pids_limit = None
        if call.version >= (1, 42):
            given.kernel_memory = 0  # gone from the API since
        warnings = await updater.update(call.path["name"], given)
        return call.json({"Warnings": warnings or None})

    name = "/containers/{name:.*}"
    return [
        Route("GET", f"{name}/stats", stats),
        Route("GET", f"{name}/top", top),
        Route("POST", f"{name}/update", update),
    ]


def _frame(container: Container, reading: Reading | None, before: Reading | None) -> usage.Json:
    return usage.frame(reading, before, name=container.name, container_id=container.id)
