"""A container in the foreground: attached, resized, its signals passed on, its exit code waited for."""

from __future__ import annotations

import signal

from wherry.cli import detach, terminal
from wherry.cli.errors import Failure
from wherry.cli.pump import Detached, Pump, Signals, StreamFailed, all_signals
from wherry.client.engine import Engine, EngineError
from wherry.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from wherry.client.connection import Response

UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}


def keys_text(keys: bytes) -> str:
    """A key sequence in the words that the API takes."""
    words = []
    for key in keys:
        if key < 32:
            words.append("ctrl-" + (chr(key + 96) if 1 <= key <= 26 else chr(key + 64)))
        else:
            words.append(chr(key))
    return ",".join(words)


class Session:
    """One run of a container seen from the terminal. Attach before starting it, or nothing of its output is sure.

    `proxy_signals` passes signals on; `repaint` makes a program that already runs draw its screen again.
    """

    def __init__(self, engine: Engine, identifier: str, *, tty: bool, keys: bytes) -> None:
        self.engine = engine
        self.identifier = identifier
        self.tty = tty
        self.keys = keys
        self.proxy_signals = False
        self.repaint = False
        self._stdin = False
        self._stream: tuple[_socket.socket, bytes] | None = None
        self._waiting: Response | None = None

    def attach(self, streams: dict[str, bool], *, logs: bool = False) -> None:
        """Take the container's streams over. Raises EngineError."""
        query: dict[str, Any] = {"stream": True, **{name: True for name, wanted in streams.items() if wanted}}
        if logs:
            query["logs"] = True
        if self.keys != detach.DEFAULT:
            query["detachKeys"] = keys_text(self.keys)
        self._stdin = streams["stdin"]
        path = f"/containers/{self.identifier}/attach"
        response = self.engine.open("POST", path, query, headers=UPGRADE, private=True)
        self._stream = response.detach()

    def expect_exit(self, condition: str) -> None:
        """Ask for the exit code; the answer comes when `condition` does. Raises EngineError."""
        path = f"/containers/{self.identifier}/wait"
        self._waiting = self.engine.open("POST", path, {"condition": condition}, private=True)

    def run(self) -> int:
        """Be the container's terminal until it ends; its exit code, 0 if the user detached."""
        wanted = all_signals() if self.proxy_signals else set()
        if self.tty:
            wanted |= {int(signal.SIGWINCH), int(signal.SIGTERM), int(signal.SIGHUP)}
        signals = Signals(wanted)
        raw = terminal.Raw(0)
        try:
            if self.tty:
                if self.repaint:
                    self._resize(1)
                self._resize()
                if self._stdin:
                    raw.__enter__()
            self._pump(signals, raw)
            return self._exit_code(signals, raw)
        except Detached:
            return self.detached()
        finally:
            raw.restore()
            signals.close()
            self.close()

    def detached(self) -> int:
        return 0

    def close(self) -> None:
        if self._stream is not None:
            self._stream[0].close()
        if self._waiting is not None:
            self._waiting.connection.close()

    def _pump(self, signals: Signals, raw: terminal.Raw) -> None:
        assert self._stream is not None
        stream, ahead = self._stream
        pump = Pump(stream, ahead, tty=self.tty, stdin=self._stdin, keys=self.keys)
        try:
            pump.run(signals, lambda number: self._signalled(number, raw))
        except StreamFailed as error:
            raise Failure(f"error from daemon in stream: {error}") from None

    def _exit_code(self, signals: Signals, raw: terminal.Raw) -> int:
        if self._waiting is None:
            return 0
        import select

        poll = select.poll()
        poll.register(signals.fd, select.POLLIN)
        connection = self._waiting.connection
        poll.register(connection.socket, select.POLLIN)
        while not connection.ahead and not any(fd != signals.fd for fd, _ in poll.poll()):
            for number in signals.take():
                self._signalled(number, raw)
        answer = jsontext.loads(self._waiting.read())
        failure = (answer.get("Error") or {}).get("Message")
        if failure:
            raise Failure(f"Error waiting for container: {failure}", 125)
        return int(answer["StatusCode"])

    def _signalled(self, number: int, raw: terminal.Raw) -> None:
        if number == signal.SIGWINCH:
            self._resize()
        elif self.proxy_signals:
            name = signal.Signals(number).name.removeprefix("SIG")
            try:
                self.engine.post(f"/containers/{self.identifier}/kill", {"signal": name})
            except (EngineError, OSError):
                pass  # it may have ended meanwhile, or not begun
        else:
            raw.restore()
            raise Failure("", 128 + number)

    def _resize(self, more: int = 0) -> None:
        rows, columns = terminal.size()
        if rows and columns:
            try:
                self.engine.post(self.resize_path(), {"h": rows + more, "w": columns + more})
            except (EngineError, OSError):
                pass  # it may not run yet, or any more

    def resize_path(self) -> str:
        return f"/containers/{self.identifier}/resize"


class ExecSession(Session):
    """A further process in a container, in the foreground."""

    def start(self, body: dict[str, Any], *, stdin: bool) -> None:
        """Start it and take its streams over. Raises EngineError."""
        self._stdin = stdin
        path = f"/exec/{self.identifier}/start"
        response = self.engine.open("POST", path, json=body, headers=UPGRADE, private=True)
        self._stream = response.detach()

    def detached(self) -> int:
        raise Failure("read escape sequence")

    def resize_path(self) -> str:
        return f"/exec/{self.identifier}/resize"

    def _exit_code(self, signals: Signals, raw: terminal.Raw) -> int:
        return int(self.engine.get(f"/exec/{self.identifier}/json")["ExitCode"] or 0)
