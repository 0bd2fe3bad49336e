"""What a container has changed: as a list, and as a layer that gives the same files again."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.images import Entry, folder, symlink, tar
from tests.support.trees import inventory
from wherry.linux.mounts import mount_overlay, unmount
from wherry.model.filechanges import Kind
from wherry.storage.snapshots import OverlaySnapshots
from wherry.storage.streams import Pieces

BASE = tar(
    [
        *(folder(name) for name in ("etc", "a", "a/b", "c")),
        Entry("a/one", b"1"),
        Entry("a/b/two", b"2"),
        Entry("c/three", b"3"),
        Entry("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
        symlink("link", "a/one"),
    ]
)


class Container:
    """A snapshot to write into."""

    def __init__(self, root: Path) -> None:
        self.snapshots = OverlaySnapshots(root / "snapshots")
        self.chain = self.snapshots.unpack(io.BytesIO(BASE), "")
        self.snapshots.prepare("key", self.chain)
        self.root = root / "root"
        self.root.mkdir()

    @contextmanager
    def mounted(self, key: str = "key") -> Iterator[Path]:
        mount_overlay(self.snapshots.mount_plan(key, volatile=False), self.root)
        try:
            yield self.root
        finally:
            unmount(self.root)

    def changes(self) -> list[str]:
        return [f"{'CAD'[change.kind]} {change.path}" for change in self.snapshots.changes("key")]


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


def test_kinds_of_change(container: Container) -> None:
    with container.mounted() as root:
        (root / "new").mkdir()
        (root / "new" / "file").write_bytes(b"n")
        (root / "a" / "one").write_bytes(b"changed")
        shutil.rmtree(root / "a" / "b")
        os.chmod(root / "c", 0o700)
        os.unlink(root / "link")
        os.mkfifo(root / "link")
        assert "A /new/file" in container.changes()  # also while it runs
    assert container.changes() == ["C /a", "D /a/b", "C /a/one", "C /c", "C /link", "A /new", "A /new/file"]


def test_a_folder_made_anew_hides_what_was_in_the_old_one(container: Container) -> None:
    with container.mounted() as root:
        shutil.rmtree(root / "a")
        (root / "a").mkdir()
        (root / "a" / "fresh").write_bytes(b"")
    assert container.changes() == ["C /a", "D /a/b", "A /a/fresh", "D /a/one"]


def test_what_was_put_back_has_not_changed(container: Container) -> None:
    with container.mounted() as root:
        found = os.stat(root / "a" / "one")
        os.chmod(root / "a" / "one", 0o600)
        os.chmod(root / "a" / "one", stat.S_IMODE(found.st_mode))
        (root / "gone").write_bytes(b"")
        os.unlink(root / "gone")
    assert container.changes() == []


def test_mount_points_of_the_engine_are_no_changes(container: Container) -> None:
    with container.mounted() as root:
        assert {".dockerenv", "dev", "proc", "sys", "etc"} <= set(os.listdir(root))
        assert (root / "etc" / "passwd").exists()
        (root / "etc" / "extra").write_bytes(b"")
    assert container.changes() == ["C /etc", "A /etc/extra"]
    names = b"".join(container.snapshots.diff("key"))
    assert b"dockerenv" not in names and b"etc/hosts" not in names


PATHS = ("a", "a/one", "a/b", "a/b/two", "c", "c/three", "x", "x/y", "link", "a/b/new")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("write", "mkdir", "remove", "chmod", "link", "symlink", "rename")),
        st.sampled_from(PATHS),
        st.sampled_from(PATHS),
    ),
    max_size=12,
)


def _do(root: Path, verb: str, first: str, second: str) -> None:
    path = root / first
    if verb == "write":
        path.write_bytes(f"{first} {second}".encode())
    elif verb == "mkdir":
        path.mkdir()
    elif verb == "remove":
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    elif verb == "chmod":
        os.chmod(path, 0o750)
    elif verb == "link":
        os.link(path, root / second, follow_symlinks=False)
    elif verb == "symlink":
        os.symlink(second, path)
    else:
        os.rename(path, root / second)


def _shown(root: Path) -> dict[str, dict[str, object]]:
    """Everything but times, and links that overlayfs breaks at the first write."""
    found = inventory(root, times=False)
    found.pop(".")
    return {path: {k: v for k, v in one.items() if k not in ("same as", "xattrs")} for path, one in found.items()}


@given(STEPS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_diff_unpacked_gives_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    container = Container(tmp_path_factory.mktemp("diff"))
    with container.mounted() as root:
        before = _shown(root)
        for step in steps:
            try:
                _do(root, *step)
            except OSError:
                continue
        after = _shown(root)
    top = container.snapshots.unpack(Pieces(container.snapshots.diff("key")), container.chain)
    container.snapshots.prepare("again", top)
    with container.mounted("again") as root:
        assert _shown(root) == after
    listed = {change.path[1:]: change.kind for change in container.snapshots.changes("key")}
    for path in before.keys() - after.keys():
        parents = [path[:at] for at in range(len(path) + 1) if at == len(path) or path[at] == "/"]
        assert any(listed.get(parent) in (Kind.DELETED, Kind.MODIFIED) for parent in parents), path
    for path in after.keys() - before.keys():
        assert listed[path] is Kind.ADDED


def test_a_settled_snapshot_is_the_layer_that_its_diff_would_be(container: Container, tmp_path: Path) -> None:
    with container.mounted() as root:
        (root / "new").mkdir(mode=0o750)
        os.chown(root / "new", 7, 8)
        (root / "new" / "file").write_bytes(b"n")
        shutil.rmtree(root / "a")
        (root / "a").mkdir()
        os.unlink(root / "link")
        os.chmod(root, 0o700)  # of which no layer tells
    layer = b"".join(container.snapshots.diff("key"))
    digest = "sha256:" + hashlib.sha256(layer).hexdigest()
    copied = container.snapshots.copy("key")
    container.snapshots.remove_chain(copied)
    settled = container.snapshots.settle("key")
    assert copied == settled
    container.snapshots.remove("key")
    other = OverlaySnapshots(tmp_path / "other")
    unpacked = other.unpack(io.BytesIO(layer), other.unpack(io.BytesIO(BASE), ""), digest)
    assert settled == unpacked
    assert container.snapshots.layer(settled) == other.layer(unpacked)
    again = container.snapshots.tar(digest)
    assert again is not None
    with again:
        assert b"".join(iter(lambda: again.read(700), b"")) == layer
    assert container.snapshots.tar_size(digest) == len(layer)
    trees = []
    for store, chain in ((container.snapshots, settled), (other, unpacked)):
        store.prepare("again", chain, container=False)
        mount_overlay(store.mount_plan("again", volatile=False), container.root)
        found = inventory(container.root)  # an archive's times are whole seconds
        trees.append({path: {**entry, "mtime": entry["mtime"] // 10**9} for path, entry in found.items()})
        unmount(container.root)
    assert trees[0] == trees[1]
