"""A build session from the client's side: the order goes out, then what the engine asks for is answered until the end.

Everything happens in one thread but for SSH agents, whose connections have one each.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from wherry.client.build_files import Directory
from wherry.client.cache_directory import CacheDirectory
from wherry.client.connection import Connection, ProtocolError
from wherry.client.engine import Engine, EngineError
from wherry.model import file_list, jsontext
from wherry.model.build_session import LARGEST, UPGRADE, BuildOrder, Frames, Malformed, frame, frame_head

Json = dict[str, Any]


class BuildFailed(Exception):
    """What the engine said: a message, the exit code of a process that failed, lines of the Dockerfile."""

    def __init__(self, error: Json) -> None:
        super().__init__(error.get("message", ""))
        self.message: str = error.get("message", "")
        self.code: int = error.get("code", 0)
        self.lines: tuple[int, int] | None = tuple(error["lines"]) if error.get("lines") else None


class Session:
    """One build. `directories` are the contexts by name, `secrets` are values by ID, `agents` sockets by ID.

    `archive` are the bytes of a context that is a tar; `outputs` take the pieces of each output that comes here;
    `caches` are directories by their number.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        directories: Mapping[str, Directory],
        secrets: Mapping[str, bytes],
        agents: Mapping[str, str],
        archive: Iterable[bytes],
        outputs: Mapping[int, Callable[[Iterator[bytes]], None]],
        caches: Sequence[CacheDirectory],
        tell: Callable[[Json], None],
    ) -> None:
        self._directories = directories
        self._secrets = secrets
        self._agents = agents
        self._archive = archive
        self._outputs = outputs
        self._caches = caches
        self._tell = tell
        self._sending = threading.Lock()
        self._inward: dict[int, socket.socket] = {}
        version = engine.negotiate()
        self._connection = Connection(engine.host)
        self._connection.send("POST", f"/v{version}/wherry/build", {"Connection": "Upgrade", "Upgrade": UPGRADE}, None)
        answer = self._connection.receive("POST")
        if answer.status != 101:
            data = answer.read()
            try:
                message = str(jsontext.loads(data)["message"])
            except (ValueError, KeyError, TypeError):
                message = f"the engine does not do build sessions: status {answer.status}"
            raise EngineError(answer.status, message)
        self._raw, ahead = answer.detach()
        self._frames = Frames()
        self._pending = self._frames.feed(ahead)

    def run(self, order: BuildOrder) -> Json:
        """What came of it. Raises BuildFailed, ProtocolError, OSError (a file cannot be read)."""
        self._say({"build": order})
        while True:
            number, data = self._next()
            if number:
                self._inward_data(number, data)
                continue
            message = msgspec.json.decode(data)
            ((verb, details),) = message.items()
            if verb == "done":
                done: Json = details
                return done
            if verb == "error":
                raise BuildFailed(details)
            self._answer(verb, details)

    def close(self) -> None:
        self._raw.close()

    def _answer(self, verb: str, details: Any) -> None:
        match verb:
            case "progress":
                for message in details:
                    self._tell(message)
            case "list":
                found = self._directories[details["context"]].entries(details["include"], details["exclude"])
                self._stream(details["stream"], [file_list.encode(found)])
            case "send":
                directory = self._directories[details["context"]]
                digests = map(bytes.fromhex, details["contents"])
                for piece in directory.contents(digests):
                    self._send_piece(details["stream"], piece)
                self._send_piece(details["stream"], b"")
            case "archive":
                self._stream(details["stream"], self._archive)
            case "secret":
                self._stream(details["stream"], [self._secrets[details["id"]]])
            case "agent":
                self._connect(details["stream"], self._agents[details["id"]])
            case "cache_has":
                there = self._caches[details["directory"]].has(details["path"])
                self._stream(details["stream"], [b"1"] if there else [])
            case "cache_read":
                self._stream(details["stream"], self._caches[details["directory"]].read(details["path"]))
            case "cache_write":
                self._caches[details["directory"]].write(details["path"], self._pieces(details["stream"]))
            case "output":
                self._outputs[details["number"]](self._pieces(details["stream"]))

    def _pieces(self, stream: int) -> Iterator[bytes]:
        """An output to its end; what else comes meanwhile is seen to. Raises BuildFailed where the engine gives up."""
        while True:
            number, data = self._next()
            if number == stream:
                if not data:
                    return
                yield data
            elif number:
                self._inward_data(number, data)
            else:
                for verb, details in msgspec.json.decode(data).items():
                    if verb == "error":
                        raise BuildFailed(details)
                    self._answer(verb, details)

    def _next(self) -> tuple[int, bytes]:
        while not self._pending:
            data = self._raw.recv(1 << 18)
            if not data:
                raise ProtocolError("the engine ended in the middle of the build")
            try:
                self._pending = self._frames.feed(data)
            except Malformed as error:
                raise ProtocolError(str(error)) from None
        return self._pending.pop(0)

    def _say(self, message: Json) -> None:
        self._send(frame(0, msgspec.json.encode(message)))

    def _send(self, data: bytes) -> None:
        with self._sending:
            self._raw.sendall(data)

    def _send_piece(self, number: int, piece: bytes | memoryview) -> None:
        """One frame, its bytes not put together with its head first."""
        with self._sending:
            self._raw.sendall(frame_head(number, len(piece)))
            self._raw.sendall(piece)

    def _stream(self, number: int, pieces: Iterable[bytes]) -> None:
        """Small pieces go together."""
        waiting = bytearray()
        for piece in pieces:
            waiting += piece
            while len(waiting) >= LARGEST:
                self._send(frame(number, bytes(waiting[:LARGEST])))
                del waiting[:LARGEST]
        if waiting:
            self._send(frame(number, bytes(waiting)))
        self._send(frame(number, b""))

    # agents

    def _connect(self, number: int, path: str) -> None:
        agent = socket.socket(socket.AF_UNIX)
        try:
            agent.connect(path)
        except OSError:
            agent.close()
            self._send(frame(number, b""))
            return
        self._inward[number] = agent
        threading.Thread(target=self._carry, args=(number, agent), daemon=True).start()

    def _carry(self, number: int, agent: socket.socket) -> None:
        try:
            while data := agent.recv(1 << 16):
                self._send(frame(number, data))
            self._send(frame(number, b""))
        except OSError:
            pass

    def _inward_data(self, number: int, data: bytes) -> None:
        agent = self._inward.get(number)
        if agent is None:
            return
        try:
            if data:
                agent.sendall(data)
            else:
                agent.shutdown(socket.SHUT_WR)
        except OSError:
            pass
