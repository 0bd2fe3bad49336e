"""TLS for the API's listeners, with half-close: asyncio's own ends both directions when the client ends one.

The protocol `Tls` sits on a socket's transport, and gives the protocol above it a transport whose bytes are encrypted.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from wherry.errors import InvalidParameter

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 60.0
READ = 256 << 10


def server_context(cert: Path, key: Path, clients_ca: Path | None) -> ssl.SSLContext:
    """For a server of this certificate, TLS 1.2 at least.

    With `clients_ca` only clients with a certificate of that authority are served. Blocking. Raises InvalidParameter
    naming the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path in (cert, key, clients_ca):
        if path is not None and not path.is_file():
            raise InvalidParameter(f"could not load TLS file {path}: no such file")
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise InvalidParameter(f"could not load X509 key pair (cert: {cert}, key: {key}): {_words(error)}") from None
    if clients_ca is not None:
        try:
            context.load_verify_locations(clients_ca)
        except (OSError, ValueError) as error:
            raise InvalidParameter(f"could not read CA certificate {clients_ca}: {_words(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _words(error: Exception) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else "") or str(error)


class Tls(asyncio.Protocol):
    """Decrypts what comes for the protocol that `factory` makes once the handshake is done."""

    def __init__(
        self,
        factory: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._factory = factory
        self._loop = loop
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context().wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._transport: asyncio.Transport
        self._handshake: asyncio.TimerHandle | None = None
        self._ended = False  # the client has said that it sends no more
        self._paused = False
        self.above: asyncio.Protocol | None = None

    # What the socket's transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._handshake = self._loop.call_later(HANDSHAKE_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if self._handshake is None or self._shake_hands():
            self._pass_on()

    def eof_received(self) -> bool:
        """The socket's end: after TLS's own the client is gone, without it the client only closed one half."""
        if self.above is None or self._ended:
            return False
        return self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
        if self.above is not None:
            self.above.connection_lost(exc)

    def pause_writing(self) -> None:
        if self.above is not None:
            self.above.pause_writing()

    def resume_writing(self) -> None:
        if self.above is not None:
            self.above.resume_writing()

    # Between the two.

    def _shake_hands(self) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            log.debug("TLS handshake failed: %s", error)
            self._flush()  # the alert that tells the client why
            self._transport.close()
            return False
        self._flush()
        assert self._handshake is not None
        self._handshake.cancel()
        self._handshake = None
        self.above = self._factory()
        self.above.connection_made(Encrypted(self, self._transport))
        return True

    def _pass_on(self) -> None:
        """Give what can be decrypted to the protocol above."""
        while not self._paused and not self._ended and self.above is not None and not self._transport.is_closing():
            try:
                data = self.session.read(READ)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as error:
                log.debug("TLS connection broken: %s", error)
                self._transport.abort()
                return
            if data:
                self.above.data_received(data)
            elif not self._end():
                self._transport.close()
        self._flush()

    def _end(self) -> bool:
        """Tell the protocol above that no more will come; whether the connection stays open for what it writes."""
        assert self.above is not None
        self._ended = True
        return bool(self.above.eof_received())

    def _flush(self) -> None:
        if (data := self._outgoing.read()) and not self._transport.is_closing():
            self._transport.write(data)

    # What the transport of the protocol above calls.

    def encrypt(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._transport.is_closing():
            view = view[self.session.write(view) :]
            self._flush()

    def end_writing(self) -> None:
        """Say that no more will come, with TLS's own word for it."""
        with suppress(ssl.SSLError):  # it also waits for the client's: that need not come yet
            self.session.unwrap()
        self._flush()

    def regulate(self, paused: bool) -> None:
        self._paused = paused
        if not paused:
            self._loop.call_soon(self._pass_on)


class Encrypted(asyncio.Transport):
    """The transport that the protocol above sees."""

    def __init__(self, tls: Tls, below: asyncio.Transport) -> None:
        super().__init__()
        self._tls = tls
        self._below = below
        self._write_ended = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`ssl_object` as asyncio's own has it: it is how those who would read off the socket know that they cannot."""
        return self._tls.session if name == "ssl_object" else self._below.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._tls.above is not None
        return self._tls.above

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._tls.above = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._write_ended:
            self._tls.encrypt(bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._write_ended:
            self._write_ended = True
            self._tls.end_writing()

    def pause_reading(self) -> None:
        self._below.pause_reading()
        self._tls.regulate(paused=True)

    def resume_reading(self) -> None:
        self._below.resume_reading()
        self._tls.regulate(paused=False)

    def is_closing(self) -> bool:
        return self._below.is_closing()

    def close(self) -> None:
        if not self._below.is_closing():
            self.write_eof()
            self._below.close()

    def abort(self) -> None:
        self._below.abort()

    def get_write_buffer_size(self) -> int:
        return self._below.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._below.set_write_buffer_limits(high, low)
