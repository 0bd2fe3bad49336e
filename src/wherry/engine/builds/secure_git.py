"""Git over SSH with the client's agent and what it knows of hosts: nothing of this host's keys or settings."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

from wherry.engine.builds.trees import Connect
from wherry.errors import SystemFailure

_ADDRESS_MAX = 107  # bytes (unix(7))


@contextlib.asynccontextmanager
async def reached_by_ssh(folder: Path, agent: Connect, known_hosts: str) -> AsyncIterator[dict[str, str]]:
    """The environment for Git. `folder` is private to this; a host that is not known is believed at first sight."""
    socket, hosts = folder / "agent", folder / "known_hosts"
    if len(str(socket).encode()) > _ADDRESS_MAX:
        raise SystemFailure(f"{socket}: too long for the address of a socket: choose a shorter data root")
    await asyncio.to_thread(hosts.write_text, known_hosts, "utf-8")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await agent(reader, writer)

    options = {
        "BatchMode": "yes",
        "IdentityFile": "none",
        "PreferredAuthentications": "publickey",
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": str(hosts),
        "UpdateHostKeys": "no",
    }
    words = ["ssh", "-F", "none", *(f"-o{name}={value}" for name, value in options.items())]
    server = await asyncio.start_unix_server(serve, str(socket))
    try:
        yield {
            "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
            "GIT_SSH_COMMAND": shlex.join(words),
            "GIT_SSH_VARIANT": "ssh",
            "SSH_AUTH_SOCK": str(socket),
        }
    finally:
        server.close()
