"""Repeating what failed for a reason that passes, with growing pauses; nothing else is repeated.

answer = await retries.run(lambda: request("..."))
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

from wherry.registry.errors import RegistryError, Untrusted

T = TypeVar("T")


@dataclass(frozen=True)
class Retries:
    """Up to `most` attempts; the pause doubles from `first` seconds to `longest`. A registry may ask for a pause.

    One that it wants longer than `patience` seconds is not waited for: the user is told instead.
    """

    most: int = 5
    first: float = 0.5
    longest: float = 8.0
    patience: float = 10.0

    def pause(self, failed: int, asked: float | None) -> float | None:
        """Seconds to wait after the `failed`th failure (from 1), None to give up."""
        if failed >= self.most or (asked is not None and asked > self.patience):
            return None
        grown = min(self.first * 2.0 ** (failed - 1), self.longest)
        return max(asked or 0.0, grown * random.uniform(0.5, 1.0))

    def pause_after(self, failed: int, error: RegistryError) -> float | None:
        """The same for an error; None for one that will not pass. Too many requests are repeated only on invitation."""
        if not error.retryable or isinstance(error, Untrusted):
            return None
        if error.status == 429 and error.retry_after is None:
            return None
        return self.pause(failed, error.retry_after)

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it until it succeeds, fails for good, or has failed too often."""
        failed = 0
        while True:
            try:
                return await work()
            except RegistryError as error:
                failed += 1
                pause = self.pause_after(failed, error)
                if pause is None:
                    raise
            await asyncio.sleep(pause)


ONCE = Retries(most=1)


def retry_after(text: str) -> float | None:
    """The header in seconds (RFC 9110 section 10.2.3): a number, or a date."""
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError):
        return None
