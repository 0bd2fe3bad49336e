"""What a running command has at hand: its flags and arguments, and the engine."""

from __future__ import annotations

import os

from wherry.cli import program
from wherry.cli.endpoint import Endpoint, context_name, resolve
from wherry.cli.errors import Failure
from wherry.client.connection import ConnectionFailed, ProtocolError
from wherry.client.engine import ApiMismatch, Engine, EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.commandline import Invocation


class Context:
    """One command's surroundings. `engine` connects when it is first asked."""

    def __init__(self, invocation: Invocation) -> None:
        self.path = invocation.path
        self.flags = invocation.flags
        self.arguments = invocation.arguments
        self.debug = invocation.root.on("debug")
        level = invocation.root.text("log-level", "info")
        if level not in ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"):
            raise Failure(f"Unable to parse logging level: {level}")
        self.root = invocation.root
        if folder := invocation.root.text("config"):
            os.environ["DOCKER_CONFIG"] = folder
        self._endpoint: Endpoint | None = None
        self._engine: Engine | None = None

    @property
    def endpoint(self) -> Endpoint:
        """The engine's address, looked up once. Raises Failure."""
        if self._endpoint is None:
            self._endpoint = resolve(self.root)
        return self._endpoint

    @property
    def name(self) -> str:
        """Of the context that counts."""
        return context_name(self.root)

    @property
    def host(self) -> str:
        return self.endpoint.host

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(self.endpoint.host, self.endpoint.tls)
        return self._engine

    def needs(self, flag: str, minor: int) -> None:
        """Raise Failure where the engine's API is older than 1.`minor`, which `flag` came with."""
        if not self.engine.at_least(minor):
            raise Failure(
                f'"--{flag}" requires API version 1.{minor}, but the {program.TITLE} daemon API version is '
                f"{self.engine.version}"
            )


def describe(error: Exception, host: str) -> str | None:
    """An error of the engine or of the way to it in docker's words; None for any other."""
    if isinstance(error, EngineError):
        return f"Error response from daemon: {error.message}"
    if isinstance(error, ConnectionFailed):
        if error.errno == 13:
            return (
                f"permission denied while trying to connect to the {program.TITLE} daemon socket at {host}: "
                f"{os.strerror(13).lower()}"
            )
        return f"Cannot connect to the {program.TITLE} daemon at {host}. Is the {program.NAME} daemon running?"
    if isinstance(error, ProtocolError):
        return f"error during connect: {error.args[-1]}"
    if isinstance(error, ApiMismatch):
        return f"Error response from daemon: {error}"
    return None
