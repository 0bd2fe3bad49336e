"""The engine as a client sees it: requests in, decoded answers out, refusals as EngineError."""

from __future__ import annotations

from wherry.client.connection import Connection, ConnectionFailed, ProtocolError, Response, TlsFiles
from wherry.model import jsontext
from wherry.model.gotext import escape
from wherry.model.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

OLDEST_API = (1, 24)
NEWEST_API = (1, 51)


class EngineError(Exception):
    """The engine refused. `message` is in the engine's words, `status` the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        self.message = visible(message)  # it may quote a registry, an image, a file
        super().__init__(self.message)
        self.status = status


class ApiMismatch(Exception):
    """The engine's newest API is older than the oldest that this client speaks."""


def query_string(query: dict[str, Any]) -> str:
    """`?a=1&b=2` in key order; None is left out, True is 1, False 0, a list repeats its key, a dict is JSON."""
    parts = []
    for key, value in sorted(query.items()):
        if value is None:
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, bool):
                item = "1" if item else "0"
            elif isinstance(item, dict):
                item = jsontext.dumps(item)
            parts.append(f"{key}={escape(str(item))}")
    return "?" + "&".join(parts) if parts else ""


class Engine:
    """A client of the engine at `host`. One kept connection serves requests in turn; streams open their own."""

    def __init__(self, host: str, tls: TlsFiles | None = None) -> None:
        self.host = host
        self.tls = tls
        self.version = ""
        self.ping_headers: dict[str, str] = {}
        self._idle: Connection | None = None

    def negotiate(self) -> str:
        """The API version to speak: the engine's newest that this client knows, asked once. Raises ApiMismatch."""
        if self.version:
            return self.version
        response = self._exchange("HEAD", "/_ping", {}, None)
        self._finish(response)
        self.ping_headers = response.headers
        announced = response.headers.get("api-version", "1.24")
        try:
            major, minor = (int(part) for part in announced.split("."))
        except ValueError:
            major, minor = OLDEST_API
        if (major, minor) < OLDEST_API:
            oldest = "{}.{}".format(*OLDEST_API)
            raise ApiMismatch(f"the engine speaks API {announced}, this client needs {oldest} or later")
        self.version = "{}.{}".format(*min((major, minor), NEWEST_API))
        return self.version

    def at_least(self, minor: int) -> bool:
        """Whether the negotiated version is 1.`minor` or later."""
        return int(self.negotiate().split(".")[1]) >= minor

    def open(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        *,
        json: Any = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        private: bool = False,
    ) -> Response:
        """Ask, and answer with the body yet to be read. `private` takes a connection of its own, for streams that
        stay open beside other requests. Raises EngineError for a refusal, ConnectionFailed, ProtocolError."""
        version = self.negotiate()
        target = f"/v{version}{path}{query_string(query or {})}"
        headers = dict(headers or {})
        if json is not None:
            body = jsontext.dumps(json, sort=False).encode("utf-8", "surrogateescape")
            headers["Content-Type"] = "application/json"
        response = self._exchange(method, target, headers, body, private)
        if response.status >= 400:
            raise self._refusal(response, path)
        return response

    def open_each(self, paths: list[str], query: dict[str, Any]) -> list[Response | EngineError]:
        """GET every path over a connection of its own: all are asked before any answer is read. A refusal is an
        answer here. Raises ConnectionFailed, ProtocolError."""
        version, words = self.negotiate(), query_string(query)
        connections = []
        for path in paths:
            connections.append(Connection(self.host, self.tls))
            connections[-1].send("GET", f"/v{version}{path}{words}", {})
        answers: list[Response | EngineError] = []
        for path, connection in zip(paths, connections, strict=True):
            response = connection.receive("GET")
            answers.append(self._refusal(response, path) if response.status >= 400 else response)
        return answers

    def call(
        self, method: str, path: str, query: dict[str, Any] | None = None, *, json: Any = None, body: Any = None
    ) -> Any:
        """Ask, and answer the decoded body, None if it is empty."""
        response = self.open(method, path, query, json=json, body=body)
        data = self.finish(response)
        return jsontext.loads(data) if data.strip() else None

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        return self.call("GET", path, query)

    def post(self, path: str, query: dict[str, Any] | None = None, json: Any = None) -> Any:
        return self.call("POST", path, query, json=json)

    def finish(self, response: Response) -> bytes:
        """Read the body to its end and keep the connection for the next request."""
        data = response.read()
        self._finish(response)
        return data

    def close(self) -> None:
        """Give up the kept connection."""
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def _finish(self, response: Response) -> None:
        if response.reusable and self._idle is None:
            self._idle = response.connection
        elif response.connection is not self._idle:
            response.connection.close()

    def _exchange(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes | Iterable[bytes] | None,
        private: bool = False,
    ) -> Response:
        connection, self._idle = (None, self._idle) if private else (self._idle, None)
        if connection is not None and connection.stale:
            connection.close()
            connection = None
        if connection is not None and (body is None or isinstance(body, bytes)):
            try:
                connection.send(method, target, headers, body)
                return connection.receive(method)
            except (BrokenPipeError, ConnectionResetError, ProtocolError):
                connection.close()
                if method not in ("GET", "HEAD"):
                    raise
        elif connection is not None:
            connection.close()
        connection = Connection(self.host, self.tls)
        try:
            connection.send(method, target, headers, body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused in the middle of the body: the answer says why
        try:
            return connection.receive(method)
        except OSError:
            connection.close()
            raise

    def _refusal(self, response: Response, path: str) -> EngineError:
        data = self.finish(response)
        message = data.decode("utf-8", "replace").strip()
        if "json" in response.headers.get("content-type", ""):
            try:
                message = str(jsontext.loads(data)["message"]).strip()
            except (ValueError, KeyError, TypeError):
                pass
        if not message:
            message = (
                f"request returned {response.status} for API route and version {path}, "
                "check if the server supports the requested API version"
            )
        return EngineError(response.status, message)


__all__ = ["ApiMismatch", "ConnectionFailed", "Engine", "EngineError", "ProtocolError", "query_string"]
