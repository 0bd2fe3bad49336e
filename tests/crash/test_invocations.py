"""Daemons that cannot be: each says what is wrong and how to mend it, and leaves everything as it was."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.conftest import Box
from tests.support import inventory
from tests.support.daemon import SOURCE, Wherryd, temporary_folder
from tests.support.engine import Engine, eventually
from tests.support.images import Entry, base_tar, docker_archive, tar


@pytest.fixture
def daemon() -> Iterator[Wherryd]:
    """One that is not started yet."""
    daemon = Wherryd(temporary_folder())
    yield daemon
    daemon.dispose()


def refused(daemon: Wherryd, *arguments: str) -> str:
    """The message of a daemon that ends instead of serving; never a traceback."""
    daemon.start(*arguments, wait=False)
    assert daemon.process
    assert daemon.process.wait(15) in (1, 2)
    message = daemon.tail()
    assert "Traceback" not in message
    return message


def test_second_daemon_on_one_data_root(box: Box, daemon: Wherryd) -> None:
    before = inventory.take(box.daemon)
    daemon.data = box.daemon.data
    message = refused(daemon)
    assert f"data root {box.daemon.data} is in use by another daemon (PID {box.daemon.pid})" in message
    assert box.engine.http.get("/_ping").status == 200
    assert inventory.take(box.daemon) == before
    assert box.engine.output(["echo", "alive"]) == "alive\n"


def test_second_daemon_on_one_socket(box: Box, daemon: Wherryd) -> None:
    daemon.socket = box.daemon.socket
    message = refused(daemon)
    assert str(box.daemon.socket) in message
    assert box.engine.http.get("/_ping").status == 200


def test_unknown_key(daemon: Wherryd) -> None:
    config = daemon.folder / "daemon.json"
    config.write_text(json.dumps({"log-level": "info", "nonsense-key": 1}))
    message = refused(daemon, "--config-file", str(config))
    assert "nonsense-key" in message
    assert str(config) in message
    assert not daemon.data.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"log-level": 3}', "log-level"),
        ("{", "daemon.json"),
        ('{"bip": "nonsense"}', "bip"),
        ("[]", "JSON object"),
    ],
)
def test_bad_files(daemon: Wherryd, content: str, words: str) -> None:
    config = daemon.folder / "daemon.json"
    config.write_text(content)
    assert words in refused(daemon, "--config-file", str(config))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nonsense"], "--nonsense"),
        (["--log-level", "loud"], "loud"),
        (["-H", "tcp://0.0.0.0:1"], "tcp://0.0.0.0:1"),
        (["--config-file", "/wt-nope.json"], "/wt-nope.json"),
        (["--default-runtime", "nope"], "nope"),
        (["--group", "wt-nope"], "wt-nope"),
        (["--data-root", "relative"], "relative"),
    ],
)
def test_bad_flags(daemon: Wherryd, arguments: list[str], words: str) -> None:
    assert words in refused(daemon, *arguments)
    assert (daemon.data.exists(), list(daemon.run.iterdir())) == (False, [])


def test_a_flag_and_a_key_for_one_thing(daemon: Wherryd) -> None:
    config = daemon.folder / "daemon.json"
    config.write_text(json.dumps({"data-root": "/elsewhere"}))
    assert "data-root" in refused(daemon, "--config-file", str(config))


def test_validate(daemon: Wherryd) -> None:
    def validate(content: str) -> subprocess.CompletedProcess[str]:
        config = daemon.folder / "daemon.json"
        config.write_text(content)
        return subprocess.run(
            [sys.executable, "-m", "wherry.daemon", "--validate", "--config-file", str(config)],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    good = validate('{"log-level": "debug"}')
    assert (good.returncode, good.stdout) == (0, "configuration OK\n")
    bad = validate('{"nonsense-key": 1}')
    assert bad.returncode == 1
    assert "nonsense-key" in bad.stderr
    for content, words in (
        ('{"default-runtime": "kata"}', "default runtime kata is not known; known are "),
        ('{"group": "nobody-has-this"}', "group nobody-has-this not found"),
    ):
        bad = validate(content)
        assert (bad.returncode, bad.stdout) == (1, "")
        assert bad.stderr.startswith(f"wherryd: {words}")
        started = refused(daemon, "--config-file", str(daemon.folder / "daemon.json"))
        assert bad.stderr.strip() in started
    assert validate('{"default-runtime": "kata", "runtimes": {"kata": {"path": "/bin/true"}}}').returncode == 0


def test_newer_schema(daemon: Wherryd) -> None:
    daemon.start()
    daemon.stop()
    (database,) = [path for path in daemon.data.iterdir() if path.suffix == ".db"]
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    message = refused(daemon)
    assert "999" in message
    assert "upgrade Wherry or choose another --data-root" in message


def test_newer_layout(daemon: Wherryd) -> None:
    daemon.start()
    daemon.stop()
    (daemon.data / "version").write_text("999\n")
    message = refused(daemon)
    assert "999" in message
    assert "upgrade Wherry or choose another --data-root" in message


def test_somebody_elses_folder(daemon: Wherryd) -> None:
    daemon.data.mkdir()
    (daemon.data / "thesis.txt").write_text("mine")
    message = refused(daemon)
    assert "thesis.txt" in message
    assert os.listdir(daemon.data) != []
    assert (daemon.data / "thesis.txt").read_text() == "mine"


def test_data_root_is_a_file(daemon: Wherryd) -> None:
    daemon.data.write_text("")
    assert str(daemon.data) in refused(daemon)


def test_stale_socket_and_pidfile(daemon: Wherryd) -> None:
    daemon.start()
    daemon.kill()
    assert daemon.socket.exists()
    daemon.start()
    assert Engine("wherry", daemon.socket).http.get("/_ping").status == 200


@pytest.fixture
def full(daemon: Wherryd) -> Iterator[Wherryd]:
    """A data root with room for little: an ext4 of 16 MiB on a loop device."""
    disk = daemon.folder / "disk"
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-F", disk], check=True)
    daemon.data.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, daemon.data], check=True)
    try:
        yield daemon
    finally:
        daemon.stop()
        for point in sorted(inventory.take(daemon).mounts, key=len, reverse=True):
            subprocess.run(["umount", point], check=True)


def test_full_disk(full: Wherryd) -> None:
    """Load, create and start fail clearly and leave nothing; with room again, all work."""
    full.start()
    engine = Engine("wherry", full.socket)
    engine.prepare()
    container = engine.create(["sh", "-c", "echo up; sleep 60"], name="wt-before")
    before = inventory.take(full)
    noise = os.urandom(12 << 20)
    answer = engine.load(docker_archive([base_tar(), tar([Entry("noise", noise)])], ["wt-big:1"]))
    told = answer.message if answer.status >= 400 else next(e["error"] for e in answer.json_lines() if "error" in e)
    assert "no space left on device" in told.lower()
    assert engine.http.get("/images/wt-big:1/json").status == 404
    eventually(lambda: inventory.take(full).beyond(before) == [])

    ballast = full.data / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while file.write(noise[:size]) == size:
                    pass
            except OSError:
                continue
    answer = engine.try_create(["true"], name="wt-full")
    assert answer.status >= 400
    assert "no space left on device" in answer.message.lower()
    assert engine.http.get("/containers/wt-full/json").status == 404
    answer = engine.http.post(f"/containers/{container}/start")
    assert answer.status in (204, 500)  # a start may need no room at all
    if answer.status == 500:
        assert "no space left on device" in answer.message.lower()
        assert not engine.state(container)["Running"]
    ballast.unlink()
    if answer.status == 500:
        engine.start(container)
    assert engine.exec(container, ["echo", "ok"]) == (0, "ok\n", "")
    assert engine.output(["echo", "fine"]) == "fine\n"
    engine.tidy()
    engine.tidy_images()


def test_read_only_data_root(full: Wherryd) -> None:
    subprocess.run(["mount", "-o", "remount,ro", full.data], check=True)
    assert str(full.data) in refused(full)


def test_modes_of_the_socket_and_the_roots(daemon: Wherryd) -> None:
    daemon.start()
    assert daemon.socket.stat().st_mode & 0o777 == 0o660
    assert daemon.data.stat().st_mode & 0o077 == 0


def test_several_sockets(daemon: Wherryd) -> None:
    second = Path(daemon.folder / "second.sock")
    daemon.start("-H", f"unix://{second}")
    assert Engine("wherry", second).http.get("/_ping").status == 200
    assert daemon.stop() == 0
    assert not second.exists()
