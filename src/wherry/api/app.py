"""The routes of the API and what every request goes through: version, lookup, handler, headers, errors.

Each module of the API offers `routes(service, ...) -> list[Route]`; `App` serves their union. A handler takes a
`Call` and returns an aiohttp response; what it raises becomes a status and a message in `wherry.api.errors`.

    def routes(volumes: VolumesService) -> list[Route]:
        async def inspect(call: Call) -> web.StreamResponse:
            return call.json(describe(volumes.get(call.path["name"])))
        return [Route("GET", "/volumes/{name:.*}", inspect)]
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
from aiohttp import hdrs, web

from wherry import errors
from wherry.api import decode, versions
from wherry.api.errors import body_of, message_of, status_of
from wherry.api.query import Query
from wherry.api.server import Connection, Silent

T = TypeVar("T")
VERSION = "0.1.0"
HEADERS = {
    "Api-Version": versions.text(versions.NEWEST),
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Wherry/{VERSION} (linux)",
}


class Call:
    """One request, as a handler sees it."""

    __slots__ = ("http", "path", "query", "streaming", "version")

    def __init__(self, http: web.BaseRequest, version: tuple[int, ...], path: dict[str, str]) -> None:
        self.http = http
        self.version = version
        self.path = path  # the named parts of the route's path, percent-decoded
        self.streaming = False  # headers of an answer have been sent
        self.query = Query(http.rel_url.raw_query_string)

    @property
    def connection(self) -> Connection:
        connection = self.http.protocol
        assert isinstance(connection, Connection)
        return connection

    @property
    def headers(self) -> Any:
        return self.http.headers

    async def body(self, kind: type[T], *, optional: bool = False) -> T:
        """The JSON body as a struct, read as Go's encoding/json reads it (see `wherry.api.decode`).

        With `optional` an absent body is the struct's defaults. Raises InvalidParameter in the real engine's words.
        """
        return decode.body(
            kind, self.http.headers.get(hdrs.CONTENT_TYPE), await decode.bounded(self.http.content), optional=optional
        )

    def json(self, value: Any, status: int = 200) -> web.Response:
        """A JSON answer, from anything msgspec encodes."""
        return self.encoded(msgspec.json.encode(value), status)

    def encoded(self, body: bytes, status: int = 200) -> web.Response:
        """A JSON answer whose bytes are ready."""
        return web.Response(status=status, body=body + b"\n", headers=HEADERS, content_type="application/json")

    def empty(self, status: int = 204) -> web.Response:
        return web.Response(status=status, headers=HEADERS)

    async def stream(self, content_type: str, status: int = 200) -> web.StreamResponse:
        """Send the headers of an answer whose body follows in pieces (`write`, `write_eof`)."""
        response = web.StreamResponse(status=status, headers=HEADERS)
        response.content_type = content_type
        await response.prepare(self.http)
        self.streaming = True
        return response

    async def last(self, response: web.StreamResponse, value: Any) -> web.StreamResponse:
        """End a streamed answer with one JSON value."""
        await response.write(msgspec.json.encode(value) + b"\n")
        await response.write_eof()
        return response

    async def while_connected(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it, but stop when the client goes away or the daemon stops (raises ClientGone).

        For reading only: what changes state must not stop half-way because a client hung up, and is awaited plainly.
        """
        result: T = await self.connection.while_connected(work)
        return result


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Route:
    """`path` has named parts: `{name}` is one segment, `{name:.*}` may contain slashes (image names do)."""

    method: str
    path: str
    handler: Handler


class App:
    """Finds the handler of a request and turns its errors into answers. Call it with an aiohttp request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[tuple[str, str], Handler] = {}
        self._patterns: dict[tuple[str, str], list[tuple[re.Pattern[str], Handler]]] = {}
        for route in routes:
            if "{" in route.path:  # the first that matches counts
                first = route.path.split("/", 2)[1]
                self._patterns.setdefault((route.method, first), []).append((_pattern(route.path), route.handler))
            else:
                self._exact.setdefault((route.method, route.path), route.handler)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.serving()
        response = await self._answer(request)
        connection.answered(response)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Server": HEADERS["Server"]}
        call: Call | None = None
        try:
            version, path = versions.split(request.rel_url.raw_path)
            handler, parts = self.find(request.method, path)
            headers = HEADERS
            call = Call(request, version, parts)
            return await handler(call)
        except ConnectionError:
            return Silent()
        except Exception as error:
            if call is not None and call.streaming:  # too late for a status: the answer breaks off, as it must
                message_of(error)
                return Silent()
            return _failure(error, headers)

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """The handler and the named parts of a path without version. Raises NotFound."""
        handler = self._exact.get((method, path))
        if handler is not None:
            return handler, {}
        first = path.split("/", 2)[1] if path.startswith("/") else ""
        for pattern, candidate in self._patterns.get((method, first), ()):
            match = pattern.fullmatch(path)
            if match is not None:
                return candidate, {name: unquote(part) for name, part in match.groupdict().items()}
        raise errors.NotFound("page not found")


def _pattern(path: str) -> re.Pattern[str]:
    def named(match: re.Match[str]) -> str:
        return f"(?P<{match[1]}>{match[2] or '[^/]+'})"

    return re.compile(re.sub(r"{(\w+)(?::([^}]+))?}", named, path), re.DOTALL)


def _failure(error: Exception, headers: dict[str, str]) -> web.Response:
    status = status_of(error)
    if status == 304:
        return web.Response(status=status, headers=headers)
    return web.Response(
        status=status, body=body_of(message_of(error)), headers=headers, content_type="application/json"
    )
