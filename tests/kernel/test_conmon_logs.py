"""Logs of real containers: conmon and crun run a shell, the reader shows what it wrote."""

import asyncio
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from wherry.linux.inotify import Watcher
from wherry.model.logging_options import LogLimits
from wherry.model.logs import STDERR, STDOUT, LogEntry, LogOptions
from wherry.storage.logs import read_log, trim


class Run:
    """One container with its monitor, started by hand; nothing of it is left after `clean`."""

    def __init__(self, directory: Path, script: str) -> None:
        self.id = f"wherry-log-{uuid.uuid4().hex[:12]}"
        self.bundle = directory / "bundle"
        self.state = directory / "state"
        self.log = directory / "log" / "ctr.log"
        self.ended = asyncio.Event()
        root = self.bundle / "rootfs"
        for name in ("bin", "proc", "dev", "sys"):
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin" / "busybox")
        for name in ("sh", "sleep", "head", "tr", "seq", "cat"):
            (root / "bin" / name).symlink_to("busybox")
        self.log.parent.mkdir()
        self._runtime("spec", "--bundle", str(self.bundle))
        config = json.loads((self.bundle / "config.json").read_text())
        config["process"].update(terminal=False, args=["sh", "-c", script])
        (self.bundle / "config.json").write_text(json.dumps(config))

    async def create(self) -> None:
        pid_file = self.bundle / "conmon.pid"
        ready, tell = os.pipe()
        conmon = await asyncio.create_subprocess_exec(
            *("conmon", "--api-version", "1", "--cid", self.id, "--cuuid", self.id, "--name", self.id),
            *("--runtime", shutil.which("crun") or "crun", f"--runtime-arg=--root={self.state}"),
            *("--bundle", str(self.bundle), "--container-pidfile", str(self.bundle / "pid")),
            *("--conmon-pidfile", str(pid_file), "--log-path", f"k8s-file:{self.log}", "--no-sync-log"),
            *("--full-attach", "--socket-dir-path", str(self.bundle)),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "_OCI_SYNCPIPE": str(tell)},
            pass_fds=[tell],
        )
        os.close(tell)
        await conmon.wait()
        created = json.loads(await asyncio.to_thread(os.read, ready, 4096))
        os.close(ready)
        assert created["data"] > 0, created
        self._monitor = os.pidfd_open(int(await asyncio.to_thread(pid_file.read_text)))
        asyncio.get_running_loop().add_reader(self._monitor, self._monitor_ended)

    def start(self) -> None:
        self._runtime("start", self.id)

    def _monitor_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._monitor)
        os.close(self._monitor)
        self.ended.set()

    def clean(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self._runtime("delete", "--force", self.id)

    def _runtime(self, *arguments: str) -> None:
        command = ["crun", "--root", str(self.state), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=20)


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.close()


@asynccontextmanager
async def run(directory: Path, script: str) -> AsyncIterator[Run]:
    """The container, created; the caller starts it."""
    container = await asyncio.to_thread(Run, directory, script)
    try:
        await container.create()
        yield container
    finally:
        await asyncio.to_thread(container.clean)


async def entries(container: Run, watcher: Watcher, options: LogOptions) -> list[LogEntry]:
    return [entry async for entry in read_log(container.log, options, ended=container.ended, watcher=watcher)]


def joined(found: list[LogEntry], stream: int) -> bytes:
    return b"".join(entry.data for entry in found if entry.stream == stream)


async def test_what_a_container_writes_is_what_is_shown(tmp_path: Path, watcher: Watcher) -> None:
    script = (
        "echo one; echo two >&2; printf par; sleep 0.2; echo tial; echo; head -c 204800 /dev/zero | tr '\\0' x; echo; "
        "printf '\\377\\001\\033binary\\r\\n'; echo err >&2; printf end"
    )
    async with run(tmp_path, script) as container:
        container.start()
        found = await entries(container, watcher, LogOptions(follow=True))
        expected = b"one\npartial\n\n" + b"x" * 204800 + b"\n\xff\x01\x1bbinary\r\nend"
        assert joined(found, STDOUT) == expected
        assert joined(found, STDERR) == b"two\nerr\n"
        assert [len(entry.data) for entry in found if entry.data.startswith(b"xx")] == [16384] * 12 + [8193]
        assert sorted(await entries(container, watcher, LogOptions())) == sorted(found)
        tail = await entries(container, watcher, LogOptions(tail=1))
        assert [entry.data for entry in tail] in ([b"end"], [b"err\n"])
        times = [entry.time_ns for entry in found if entry.stream == STDOUT]
        assert times == sorted(times)


async def test_a_fast_writer_is_followed_without_loss(tmp_path: Path, watcher: Watcher) -> None:
    async with run(tmp_path, "seq 1 200000") as container:
        followers = [
            asyncio.ensure_future(entries(container, watcher, LogOptions(follow=True))),
            asyncio.ensure_future(entries(container, watcher, LogOptions(follow=True, tail=0))),
        ]
        await asyncio.sleep(0.05)
        container.start()
        expected = "".join(f"{number}\n" for number in range(1, 200_001)).encode()
        for follower in followers:
            assert joined(await follower, STDOUT) == expected


async def test_trimming_keeps_the_newest_and_followers_lose_nothing(tmp_path: Path, watcher: Watcher) -> None:
    script = "i=0; while [ $i -lt 400 ]; do echo line $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); sleep 0.002; done"
    async with run(tmp_path, script) as container:
        follower = asyncio.ensure_future(entries(container, watcher, LogOptions(follow=True)))
        container.start()
        limits = LogLimits(max_size=5000, max_files=2)
        while not container.ended.is_set():
            await asyncio.to_thread(trim, container.log, limits)
            await asyncio.sleep(0.02)
        await asyncio.to_thread(trim, container.log, limits)
        lines = [b"line %d %s\n" % (number, b"x" * 30) for number in range(400)]
        assert joined(await follower, STDOUT) == b"".join(lines)
        kept = joined(await entries(container, watcher, LogOptions()), STDOUT).splitlines(keepends=True)
        assert 100 < len(kept) < 150 and kept == lines[-len(kept) :]
        tail = await entries(container, watcher, LogOptions(tail=50))
        assert joined(tail, STDOUT) == b"".join(lines[-50:])
