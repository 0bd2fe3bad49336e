"""How views of containers' files are shared and closed, without a mount."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from wherry.engine.containers.views import Views


class SlowlyClosing:
    """A view whose disk has much to write."""

    def __init__(self) -> None:
        self.written = threading.Event()
        self.closed = False

    def close(self) -> None:
        self.written.wait()
        self.closed = True


def test_nobody_waits_for_a_view_to_close_but_who_wants_the_same_files(tmp_path: Path) -> None:
    container = cast(Any, SimpleNamespace(id="one", state=SimpleNamespace(status=SimpleNamespace(alive=True))))
    other = cast(Any, SimpleNamespace(id="other", state=container.state))
    made: list[SlowlyClosing] = []

    def make(container: Any) -> Any:
        made.append(SlowlyClosing())
        return made[-1]

    async def scenario() -> None:
        lives = {"one": SimpleNamespace(lock=asyncio.Lock()), "other": SimpleNamespace(lock=asyncio.Lock())}
        views = Views(
            cast(Any, SimpleNamespace(roots=SimpleNamespace(run=tmp_path))),
            cast(Any, SimpleNamespace(get=lambda ref: container)),
            cast(Any, SimpleNamespace(of=lambda container: lives[container.id])),
            cast(Any, None),
        )
        views._make = make  # type: ignore[method-assign]
        async with views.of(container) as first, views.of(container) as second:
            assert first is second
        async with views.of(other):  # meanwhile
            assert len(made) == 2
        made[1].written.set()

        async def start() -> bool:
            async with views.held("one") as view:
                return view is None and made[0].closed

        async def copy() -> bool:
            async with views.of(container) as view:
                return cast(Any, view) is made[2] and made[0].closed

        starting, copying = asyncio.create_task(start()), asyncio.create_task(copy())
        await asyncio.sleep(0)
        assert not starting.done()
        made[0].written.set()
        assert await starting
        assert await copying
        made[2].written.set()

    asyncio.run(scenario())
