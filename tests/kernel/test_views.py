"""Views of a container's files: whole, seen by nobody else, gone with their owner, and not to be escaped from."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import Entry, folder, tar
from wherry.errors import SystemFailure
from wherry.linux.mounts import mounted_below, unmount
from wherry.linux.safepath import open_in_root
from wherry.linux.views import View, open_view
from wherry.model.mount_plans import BindPlan, OverlayPlan, ViewPlan
from wherry.storage.extracting import extract
from wherry.storage.packing import pack, walk


class Place:
    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("lower", "upper", "work", "scratch", "volume", "target"):
            (root / name).mkdir()
        (root / "lower" / "file").write_bytes(b"lower")
        (root / "volume" / "inside").write_bytes(b"volume")
        self.overlay = OverlayPlan((str(root / "lower"),), str(root / "upper"), str(root / "work"))

    def open(self, *, read_only_volume: bool = False, read_only: bool = False) -> View:
        bind = BindPlan(str(self.root / "volume"), "/made/volume", read_only_volume)
        return open_view(ViewPlan(self.overlay, binds=(bind,), read_only=read_only), self.root / "scratch")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def read(view: View, path: str) -> bytes:
    with open(open_in_root(view.root, path, os.O_RDONLY), "rb") as file:
        return file.read()


def test_root_and_volumes_are_seen_and_nothing_is_mounted_here(place: Place) -> None:
    with place.open() as view:
        assert read(view, "/file") == b"lower"
        assert read(view, "/made/volume/inside") == b"volume"
        assert mounted_below(place.root) == []
    assert (place.root / "upper" / "made" / "volume").is_dir()


def test_read_only_is_what_was_asked(place: Place) -> None:
    with place.open(read_only_volume=True) as view:
        with pytest.raises(OSError, match="Read-only"):
            open_in_root(view.root, "/made/volume/x", os.O_CREAT | os.O_WRONLY, mode=0o600)
        os.close(open_in_root(view.root, "/x", os.O_CREAT | os.O_WRONLY, mode=0o600))


def test_a_read_only_root_leaves_volumes_writable(place: Place) -> None:
    with place.open(read_only=True) as view:
        with pytest.raises(OSError, match="Read-only"):
            open_in_root(view.root, "/x", os.O_CREAT | os.O_WRONLY, mode=0o600)
        os.close(open_in_root(view.root, "/made/volume/x", os.O_CREAT | os.O_WRONLY, mode=0o600))


def test_the_same_root_can_be_mounted_for_a_start(place: Place) -> None:
    with place.open() as view:
        view.attach(place.root / "target")
        try:
            (place.root / "target" / "written").write_bytes(b"by the container")
            assert read(view, "/written") == b"by the container"
            assert os.listdir(place.root / "target" / "made" / "volume") == []
        finally:
            unmount(place.root / "target")


def test_no_device_can_be_opened_in_it_but_where_the_container_runs(place: Place) -> None:
    os.mknod(place.root / "upper" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with place.open() as view:
        with pytest.raises(PermissionError):
            open_in_root(view.root, "/null", os.O_RDONLY)
        found = {item.path: item.readable for item in walk(view.root, no_devices=view.no_devices)}
        assert (found[b"file"], found[b"null"]) == (True, False)
        view.attach(place.root / "target")
        try:
            assert (place.root / "target" / "null").read_bytes() == b""
        finally:
            unmount(place.root / "target")


def test_an_owner_that_is_killed_leaves_no_mount(place: Place) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.kernel.test_views import Place\n"
        "place = Place.__new__(Place); place.root = Path(sys.argv[1]); root = place.root\n"
        "from wherry.model.mount_plans import OverlayPlan\n"
        "place.overlay = OverlayPlan((str(root / 'lower'),), str(root / 'upper'), str(root / 'work'))\n"
        "view = place.open(); print('open', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(place.root)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == b"open\n"
        owner.send_signal(signal.SIGKILL)
    assert mounted_below(place.root) == []
    with place.open() as view:  # and the directories are free
        assert read(view, "/file") == b"lower"


@contextlib.contextmanager
def swapping(directory: Path, outside: Path) -> Iterator[None]:
    """As a hostile container: a folder and a symlink out of the root take turns at one name."""
    stop = threading.Event()
    (directory / "real").mkdir()
    os.symlink(outside, directory / "evil")
    os.rename(directory / "real", directory / "turn")

    def swap() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                os.rename(directory / "turn", directory / "real")
                os.rename(directory / "evil", directory / "turn")
                os.rename(directory / "turn", directory / "evil")
                os.rename(directory / "real", directory / "turn")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_copying_in_never_leaves_the_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    archive = tar([folder("turn"), Entry("turn/file", b"x" * 100), folder("turn/sub"), Entry("turn/sub/deep", b"y")])
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        with swapping(root, outside):
            for _ in range(300):
                with contextlib.suppress(SystemFailure):
                    extract(io.BytesIO(archive), fd, "/")
    finally:
        os.close(fd)
    assert os.listdir(outside) == []


def test_copying_out_never_leaves_the_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"the secret")
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        with swapping(root, outside):
            for _ in range(300):
                with contextlib.suppress(OSError):
                    assert b"the secret" not in b"".join(pack(walk(fd), lambda item: item.path or None))
    finally:
        os.close(fd)
