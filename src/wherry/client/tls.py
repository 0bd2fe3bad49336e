"""TLS to an engine. What uses a connection sees a plain socket: a thread carries its bytes to and from TLS.

A socket pair, because the rest of this client polls, peeks, and closes one half; Python's own TLS sockets do none of
these. The end of input is told with TLS's own word, and cuts no output.
"""

from __future__ import annotations

import _socket
import select
import ssl
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.connection import TlsFiles

_PIECE = 1 << 16


def context(files: TlsFiles) -> ssl.SSLContext:
    """Raises OSError naming the file that is missing or is no certificate."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if not files.verify:
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        elif files.ca:
            made.load_verify_locations(files.ca)
        else:
            made.load_default_certs()
    except OSError as error:
        raise OSError(f"could not read CA certificate {files.ca!r}: {_words(error)}") from None
    if files.cert or files.key:
        try:
            made.load_cert_chain(files.cert, files.key, password=lambda: "")
        except (OSError, ValueError) as error:
            raise OSError(f"could not load X509 key pair {files.cert!r}, {files.key!r}: {_words(error)}") from None
    return made


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else "") or str(error)


def dial(raw: _socket.socket, name: str, files: TlsFiles) -> tuple[_socket.socket, Relay]:
    """Shake hands over a connected socket, and give the plain end. Raises OSError."""
    relay = Relay(raw, context(files), name)
    relay.shake_hands()
    ours, relay.plain = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    relay.thread.start()
    return ours, relay


class Relay:
    """Between a socket that carries TLS and one that carries what is inside."""

    plain: _socket.socket

    def __init__(self, raw: _socket.socket, made: ssl.SSLContext, name: str) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = made.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._problem = ""
        self.thread = threading.Thread(target=self._run, name="tls", daemon=True)

    def explain(self) -> str:
        """Why there is no answer, after the plain end has ended: an engine refuses a certificate only then."""
        self.thread.join()
        return self._problem or "the connection ended before an answer"

    def close(self) -> None:
        """The plain end was closed: the rest goes by itself."""

    def shake_hands(self) -> None:
        while True:
            try:
                self._session.do_handshake()
                return self._raw.sendall(self._outgoing.read())
            except ssl.SSLWantReadError:
                self._raw.sendall(self._outgoing.read())
                self._take()
            except ssl.SSLError:
                self._raw.sendall(self._outgoing.read())  # tells the engine why
                raise

    def _run(self) -> None:
        """Until both ends have ended, or one is gone."""
        try:
            self._carry()
        except OSError as error:
            self._problem = str(error)
        finally:
            self._raw.close()
            self.plain.close()

    def _carry(self) -> None:
        """Each direction blocks only itself where nothing is to be read from the other, as HTTP takes turns; a raw
        stream that is full both ways waits for its reader."""
        to_plain, to_raw = b"", b""
        plain_open, raw_open = True, True
        self._raw.setblocking(False)
        self.plain.setblocking(False)
        while plain_open or raw_open or to_plain or to_raw:
            poll = select.poll()
            plain_events = (select.POLLIN if plain_open and not to_raw else 0) | (select.POLLOUT if to_plain else 0)
            raw_events = (select.POLLIN if raw_open and not to_plain else 0) | (select.POLLOUT if to_raw else 0)
            if plain_events:
                poll.register(self.plain, plain_events)
            if raw_events:
                poll.register(self._raw, raw_events)
            ready = dict(poll.poll())
            if ready.get(self.plain.fileno(), 0) & ~select.POLLOUT and plain_open and not to_raw:
                if data := self.plain.recv(_PIECE):
                    self._session.write(data)
                else:
                    plain_open = False
                    self._say_the_end()
            if ready.get(self._raw.fileno(), 0) & ~select.POLLOUT and raw_open and not to_plain:
                self._take()
                to_plain, raw_open = self._inside()
                if not raw_open and not to_plain:
                    self.plain.shutdown(_socket.SHUT_WR)
            to_raw += self._outgoing.read()
            if to_raw:
                to_raw = to_raw[_send(self._raw, to_raw) :]
            if to_plain:
                to_plain = to_plain[_send(self.plain, to_plain) :]
                if not to_plain and not raw_open:
                    self.plain.shutdown(_socket.SHUT_WR)

    def _take(self) -> None:
        """Feed what came to TLS; its end too."""
        if data := self._raw.recv(_PIECE):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _inside(self) -> tuple[bytes, bool]:
        """All that can be decrypted, and whether more may come."""
        found = b""
        while True:
            try:
                data = self._session.read(_PIECE)
            except ssl.SSLWantReadError:
                return found, True
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return found, False
            if not data:
                return found, False
            found += data

    def _say_the_end(self) -> None:
        try:
            self._session.unwrap()
        except ssl.SSLError:  # it also waits for the engine's word: that comes with the end of the output
            pass


def _send(to: _socket.socket, data: bytes) -> int:
    try:
        return to.send(data, _socket.MSG_NOSIGNAL)
    except BlockingIOError:
        return 0
