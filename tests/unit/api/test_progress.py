"""Progress messages as lines of JSON, whatever a registry says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

from wherry.api.app import Call
from wherry.api.images import _progress
from wherry.errors import SystemFailure


class Stream:
    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.ended = False

    async def write(self, data: bytes) -> None:
        self.lines.append(data)

    async def write_eof(self) -> None:
        self.ended = True


class Asked:
    def __init__(self) -> None:
        self.answer = Stream()

    async def stream(self, content_type: str) -> Stream:
        return self.answer


async def test_half_a_character_and_controls_break_no_line() -> None:
    """A registry's JSON may have escapes that are no characters (RFC 8259 section 8.2)."""
    told = json.loads('"denied \\ud800\\r\\n{\\u001b[2J"')

    async def messages() -> AsyncIterator[dict[str, Any]]:
        yield {"status": told}
        raise SystemFailure(told)

    call = Asked()
    await _progress(cast(Call, call), messages())
    status, error = [json.loads(line) for line in b"".join(call.answer.lines).decode().splitlines()]
    assert status["status"] == error["error"] == "denied \ufffd\r\n{\x1b[2J"
    assert call.answer.ended
