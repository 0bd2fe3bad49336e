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
