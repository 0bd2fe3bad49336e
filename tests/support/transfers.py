"""What tests of pulls and pushes share."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from tests.support.images import Entry, tar

BIG = tar([Entry("big", random.Random(7).randbytes(300_000))])


def packed(layer: bytes) -> bytes:
    return gzip.compress(layer, 1, mtime=0)


async def told(messages: AsyncGenerator[dict[str, Any], None]) -> list[str]:
    """The words of all messages, "id status" each, bars left out."""
    async with aclosing(messages):
        return [
            f"{message.get('id', '')} {message['status']}".strip()
            async for message in messages
            if "status" in message and not message.get("progress")
        ]


async def until(condition: Callable[[], bool]) -> None:
    """Let the others go on until it holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in the fake's own code
            await asyncio.sleep(0.01)
