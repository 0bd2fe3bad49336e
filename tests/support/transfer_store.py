"""A process that pulls or pushes with a registry in its own memory until it is killed: at a failpoint, or at a byte."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

from tests.support.fake_registry import FakeRegistry
from tests.support.image_store import BASE, TOP, Store
from tests.support.images import Entry, docker_archive, tar
from wherry.model.reference import parse

NAME = "reg.test/team/app:1"
LAYERS = [BASE, TOP, tar([Entry("big", random.Random(3).randbytes(200_000))])]


def registry() -> FakeRegistry:
    """The same image, the same bytes, each time; as what an index leads to, with something attested."""
    made = FakeRegistry()
    image = made.put_image("team/app", "", LAYERS)
    made.put_index("team/app", "1", {"linux/amd64": image}, made.attest("team/app", image))
    return made


async def pull(store: Store, source: FakeRegistry) -> None:
    pulls, _ = store.transfers(source)
    await pulls.recover()
    async with aclosing(pulls.pull(parse(NAME))) as messages:
        async for _ in messages:
            pass


async def load(root: Path) -> None:
    """The same image as plain tars into a new store."""
    store = Store(root)
    await store.load(docker_archive(LAYERS, [NAME]))
    store.database.close()


async def push(store: Store, target: FakeRegistry) -> str:
    """The line that tells the digest."""
    _, pushes = store.transfers(target)
    last = ""
    async with aclosing(pushes.push(parse(NAME))) as messages:
        async for message in messages:
            last = message.get("status", last)
    return last


def killed_while(root: Path, work: str, place: str = "", byte: int = -1) -> None:
    """Run it in a process of its own. Raises AssertionError if that was not killed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.transfer_store", str(root), work, str(byte)],
        env={**os.environ, "WHERRY_FAILPOINT": place, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


async def _work(root: Path, work: str, byte: int) -> None:
    store = Store(root)
    if work == "pull":
        source = registry()
        source.kill_after = byte
        await pull(store, source)
    else:
        await push(store, FakeRegistry(kill_after=byte))


if __name__ == "__main__":
    asyncio.run(_work(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
