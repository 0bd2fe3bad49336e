"""The routes of the API and what every request goes through: version, lookup, handler, headers, errors.

Each module of the API offers `routes(service, ...) -> list[Route]`; `App` serves their union. A handler takes a
`Call` and returns an `Answer`; what it raises becomes a status and a message in `wherry.api.errors`. One that never
waits is a plain function, which spares the loop a task.

    def routes(volumes: VolumesService) -> list[Route]:
        def inspect(call: Call) -> Response:
            return call.json(describe(volumes.get(call.path["name"])))
        return [Route("GET", "/volumes/{name:.*}", inspect)]
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from wherry import errors
from wherry.api import decode, versions
from wherry.api.errors import body_of, message_of, status_of
from wherry.api.jsontext import encode
from wherry.api.query import Query
from wherry.api.rawstream import ClientGone, RawStream
from wherry.api.server import Answer, Request, Response, Streaming

T = TypeVar("T")
VERSION = "0.1.0"
HEADERS = {
    "Api-Version": versions.text(versions.NEWEST),
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Wherry/{VERSION} (linux)",
}
UNVERSIONED = {name: value for name, value in HEADERS.items() if name != "Docker-Experimental"}  # as Docker: no version
JSON = HEADERS | {"Content-Type": "application/json"}


class Call:
    """One request, as a handler sees it."""

    __slots__ = ("_request", "content", "headers", "method", "path", "query", "streaming", "version")

    def __init__(self, request: Request, version: tuple[int, ...], path: dict[str, str]) -> None:
        self._request = request
        self.version = version
        self.method = request.method
        self.path = path  # the named parts of the route's path
        self.query = Query(request.query)
        self.headers = request.headers  # by name, whatever its case
        self.content = request.body
        self.streaming = False  # the head of an answer has been sent

    async def body(self, kind: type[T], *, optional: bool = False) -> T:
        """The JSON body as a struct, read as Go's encoding/json reads it (see `wherry.api.decode`).

        With `optional` an absent body is the struct's defaults. Raises InvalidParameter in the real engine's words.
        """
        return decode.body(
            kind, self.headers.get("content-type"), await decode.bounded(self.content), optional=optional
        )

    def json(self, value: Any, status: int = 200) -> Response:
        """A JSON answer, from anything msgspec encodes; see `jsontext`."""
        return self.encoded(encode(value), status)

    def encoded(self, body: bytes, status: int = 200) -> Response:
        """A JSON answer whose bytes are ready."""
        return Response(status, JSON, body + b"\n")

    def empty(self, status: int = 204, headers: Mapping[str, str] | None = None) -> Response:
        return Response(status, {**HEADERS, **(headers or {})})

    async def stream(self, content_type: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Streaming:
        """Send the headers of an answer whose body follows in pieces (`write`, `write_eof`). Raises ClientGone."""
        own = {**HEADERS, **(headers or {}), "Content-Type": content_type}
        response = await self._request.connection.stream(self._request, status, own)
        self.streaming = True
        return response

    async def last(self, response: Streaming, value: Any) -> Streaming:
        """End a streamed answer with one JSON value."""
        await response.write(encode(value) + b"\n")
        await response.write_eof()
        return response

    async def take_over(self, head: bytes) -> RawStream:
        """Make the connection a raw stream (see `Connection.take_over`); the handler then returns None."""
        stream = await self._request.connection.take_over(self._request, head)
        self.streaming = True
        return stream

    async def while_connected(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it, but stop when the client goes away or the daemon stops (raises ClientGone).

        For reading only: what changes state must not stop half-way because a client hung up, and is awaited plainly.
        """
        return await self._request.connection.while_connected(work)


Handler = Callable[[Call], Response | Awaitable[Answer]]


@dataclass(frozen=True)
class Route:
    """`path` has named parts: `{name}` is one segment, `{name:.*}` may contain slashes (image names do)."""

    method: str
    path: str
    handler: Handler


class App:
    """Finds the handler of a request and turns its errors into answers. It is the handler of a `Listener`."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[tuple[str, str], Handler] = {}
        self._patterns: dict[tuple[str, str], list[tuple[re.Pattern[str], Handler]]] = {}
        for route in routes:
            if "{" in route.path:  # the first that matches counts
                first = route.path.split("/", 2)[1]
                self._patterns.setdefault((route.method, first), []).append((_pattern(route.path), route.handler))
            else:
                self._exact.setdefault((route.method, route.path), route.handler)

    def __call__(self, request: Request) -> Response | Coroutine[Any, Any, Answer]:
        headers: Mapping[str, str] = {}  # as in Docker, whose own headers come after the look-up
        try:
            path = unquote(request.path) if "%" in request.path else request.path
            if (cleaned := _cleaned(path)) != path:
                return Response(301, {"Location": _target(cleaned, request.query)})
            written, path = versions.split(path)
            handler, parts = self.find(request.method, path)
            headers = UNVERSIONED
            version = versions.spoken(written)
            headers = HEADERS
            call = Call(request, version, parts)
            answer = handler(call)
        except Exception as error:
            return _failure(error, headers)
        return answer if isinstance(answer, Response) else _awaited(call, answer)

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """The handler and the named parts of a decoded path without version. Raises NotFound."""
        handler = self._exact.get((method, path))
        if handler is not None:
            return handler, {}
        if method == "OPTIONS":
            return _nothing, {}
        first = path.split("/", 2)[1] if path.startswith("/") else ""
        for pattern, candidate in self._patterns.get((method, first), ()):
            match = pattern.fullmatch(path)
            if match is not None:
                return candidate, match.groupdict()
        raise errors.NotFound("page not found")


def _nothing(call: Call) -> Response:
    return call.empty(200)


def _cleaned(path: str) -> str:
    """Without empty segments, `.` and `..`, to which the real engine redirects."""
    if not path.startswith("/") or ("//" not in path and "/." not in path):
        return path
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    end = "/" if segments and path.endswith("/") else ""
    return f"/{'/'.join(segments)}{end}"


def _target(path: str, query: str) -> str:
    return quote(path, safe="/:@!$&'()*+,;=~", errors="surrogateescape") + (f"?{query}" if query else "")


def _pattern(path: str) -> re.Pattern[str]:
    def named(match: re.Match[str]) -> str:
        return f"(?P<{match[1]}>{match[2] or '[^/]+'})"

    return re.compile(re.sub(r"{(\w+)(?::([^}]+))?}", named, path), re.DOTALL)


async def _awaited(call: Call, work: Awaitable[Answer]) -> Answer:
    try:
        return await work
    except ClientGone:
        return None
    except Exception as error:
        if call.streaming:  # too late for a status: the answer breaks off, as it must
            message_of(error)
            return None
        return _failure(error, HEADERS)


def _failure(error: Exception, headers: Mapping[str, str]) -> Response:
    status = status_of(error)
    if status == 304:
        return Response(status, headers)
    return Response(status, {**headers, "Content-Type": "application/json"}, body_of(message_of(error)))
