"""Attach over a WebSocket: each message of the client is input, each piece of output is a message.

Source: the API description of GET /containers/{id}/attach/ws; frames and close codes as the real engine's.
"""

from __future__ import annotations

import asyncio
from collections import deque

from wherry.api import hijack
from wherry.api.app import Call
from wherry.api.rawstream import ClientGone, RawStream
from wherry.api.server import Answer
from wherry.api.services import Session
from wherry.model import websockets
from wherry.model.websockets import Broken, Decoder

BINARY_SINCE = (1, 28)  # before, output came as text, whatever was in it


async def refuse_handshake(call: Call) -> bool:
    """Whether the request is none that opens a WebSocket; it was answered then, as by the real engine."""
    headers = call.headers
    more = ""
    if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in headers.get("connection", "").lower():
        why = "not websocket protocol"
    elif headers.get("sec-websocket-version") != "13":
        why, more = "missing or bad WebSocket Version", "Sec-WebSocket-Version: 13\r\n"
    elif not websockets.is_key(headers.get("sec-websocket-key", "")):
        why = "mismatch challenge/response"
    elif "," in headers.get("sec-websocket-protocol", ""):
        why = "missing or bad WebSocket Protocol"
    else:
        return False
    await (await call.take_over(f"HTTP/1.1 400 Bad Request\r\n{more}\r\n{why}".encode())).finish()
    return True


async def serve(call: Call, session: Session, keys: bytes) -> Answer:
    """Run a session over the caller's connection until its output ends, the client leaves or detaches."""
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {websockets.accept(call.headers['sec-websocket-key'])}",
    ]
    if protocol := call.headers.get("sec-websocket-protocol"):
        lines.append(f"Sec-WebSocket-Protocol: {protocol}")
    stream = await call.take_over(("\r\n".join(lines) + "\r\n\r\n").encode())
    opcode = websockets.BINARY if call.version >= BINARY_SINCE else websockets.TEXT
    return await hijack.carry(call, WebSocket(stream, opcode), session, keys, multiplexed=False)


class WebSocket:
    """A connection taken over, carrying messages (`wherry.api.hijack.Stream`)."""

    def __init__(self, stream: RawStream, opcode: int) -> None:
        self._stream = stream
        self._opcode = opcode
        self._decoder = Decoder()
        self._messages: deque[tuple[int, bytes]] = deque()
        self._code = websockets.NORMAL

    @property
    def gone(self) -> asyncio.Future[None]:
        return self._stream.gone

    async def read(self) -> bytes:
        """The next message; b"" where the client ended without a word. Raises Farewell, ClientGone."""
        while True:
            while self._messages:
                opcode, data = self._messages.popleft()
                if opcode == websockets.CLOSE:
                    raise hijack.Farewell
                if opcode == websockets.PING:
                    await self._stream.write(websockets.frame(websockets.PONG, data))
                elif opcode == websockets.BINARY and data:
                    return data
            received = await self._stream.read()
            if not received:
                return b""
            try:
                self._messages += self._decoder.feed(received)
            except Broken as error:
                self._code = error.code
                raise hijack.Farewell from None

    async def write(self, data: bytes) -> None:
        await self._stream.write(websockets.frame(self._opcode, data))

    async def finish(self) -> None:
        try:
            await self._stream.write(websockets.close_frame(self._code))
        except ClientGone:
            return
        await self._stream.finish()

    def abort(self) -> None:
        self._stream.abort()
