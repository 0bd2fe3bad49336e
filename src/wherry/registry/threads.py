"""Threads of the registry client's own, for what blocks: names looked up, files of `certs.d` read.

The engine's threads may all be busy with consumers that wait for bytes of ours; waiting for one of those to fetch these
bytes would be for ever.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from aiohttp.abc import AbstractResolver, ResolveResult

P = ParamSpec("P")
T = TypeVar("T")
COUNT = 4


class Threads:
    """Started when they are first needed."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(COUNT, thread_name_prefix="registry")

    async def run(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*arguments, **named))

    async def addresses(self, host: str) -> list[str]:
        """What a name resolves to. Raises OSError, UnicodeError."""
        found = await self.run(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        return [str(entry[4][0]) for entry in found]

    def close(self) -> None:
        """Without waiting for a lookup that is still under way."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Resolver(AbstractResolver):
    """Names for connections, looked up in these threads (getaddrinfo(3): hosts file and DNS as everywhere)."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._threads.run(
            socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        return None
