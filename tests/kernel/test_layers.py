"""Layers on real file systems: what a tar says arrives exactly, and no tar reaches out of its layer."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.images import Entry, folder, hard_link, symlink, tar
from tests.support.layer_strategy import entries, packed
from tests.support.trees import inventory
from wherry.errors import InvalidParameter, WherryError
from wherry.linux.mounts import mount_overlay, unmount
from wherry.model.manifests import LAYERS_MAX
from wherry.storage.layers import inherit, unpack
from wherry.storage.snapshots import OverlaySnapshots

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep (linux/capability.h)


def apply(layer: bytes, target: Path, lowers: Sequence[Path] = ()) -> int:
    target.mkdir()
    unpacked = unpack(io.BytesIO(layer), str(target))
    inherit(str(target), unpacked.implied, [str(lower) for lower in lowers])
    return unpacked.size


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """A tree with one of everything a layer can hold."""
    root = tmp_path / "original"
    root.mkdir()
    (root / "folder" / "empty").mkdir(parents=True)
    (root / "file").write_bytes(b"content\n")
    os.chown(root / "file", 100_000, 3_000_000_000)
    os.chmod(root / "file", 0o6751)
    (root / "big").write_bytes(os.urandom(3 << 20))
    os.setxattr(root / "big", "user.note", b"a\nb=c\0d")
    os.setxattr(root / "big", "security.capability", CAPABILITY)
    os.link(root / "big", root / "folder" / "big-again")
    os.symlink("/nowhere/at all", root / "dangling")
    os.lchown(root / "dangling", 7, 8)
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    os.mknod(root / "disk", 0o60600, os.makedev(259, 1000))
    long = root / ("n" * 150) / ("m" * 150)
    long.mkdir(parents=True)
    (long / ("f" * 200)).write_bytes(b"deep\n")
    os.symlink("t" * 300, root / "long-target")
    (root / "käse").write_bytes(b"utf-8")
    with open(os.fsencode(root) + b"/latin-\xe4", "wb") as file:
        file.write(b"bytes")
    with open(root / "sparse", "wb") as sparse:
        for offset in range(0, 60 << 20, 1 << 20):
            sparse.seek(offset)
            sparse.write(b"island")
        sparse.truncate(100 << 20)
    os.chmod(root / "folder", 0o3777)
    os.chown(root / "folder", 1, 2)
    os.setxattr(root / "folder", "user.on-folder", b"yes")
    os.chmod(root, 0o711)
    for position, path in enumerate(sorted(root.rglob("*"), key=lambda path: -len(path.parts))):
        moment = 1_700_000_000_123_456_789 + position
        os.utime(path, ns=(moment, moment), follow_symlinks=False)
    os.utime(root, ns=(-5_000_000_000, -5_000_000_000))
    return root


@pytest.mark.parametrize("sparse", ["0.0", "0.1", "1.0"])
def test_pax_brings_everything(everything: Path, tmp_path: Path, sparse: str) -> None:
    layer = subprocess.run(
        [
            "tar",
            "--format=posix",
            f"--sparse-version={sparse}",
            "-S",
            "--xattrs",
            "--xattrs-include=*",
            "-cf",
            "-",
            ".",
        ],
        cwd=everything,
        check=True,
        capture_output=True,
    ).stdout
    apply(layer, tmp_path / "layer")
    assert inventory(tmp_path / "layer") == inventory(everything)
    assert os.stat(tmp_path / "layer" / "sparse").st_blocks <= os.stat(everything / "sparse").st_blocks


@pytest.mark.parametrize("form", ["gnu", "oldgnu"])
def test_gnu_brings_all_but_xattrs_and_fractions(everything: Path, tmp_path: Path, form: str) -> None:
    command = ["tar", f"--format={form}", "-S", "-cf", "-", "."]
    layer = subprocess.run(command, cwd=everything, check=True, capture_output=True).stdout
    apply(layer, tmp_path / "layer")
    (tmp_path / "reference").mkdir()
    subprocess.run(["tar", "-xpf", "-", "-C", tmp_path / "reference"], input=layer, check=True)
    assert inventory(tmp_path / "layer") == inventory(tmp_path / "reference")


@pytest.mark.parametrize("form", ["ustar", "v7"])
def test_old_formats(tmp_path: Path, form: str) -> None:
    root = tmp_path / "original"
    (root / ("a" * 60) / ("b" * 60) if form == "ustar" else root / "a").mkdir(parents=True)
    (root / "file").write_bytes(b"x" * 1000)
    os.symlink("file", root / "link")
    os.link(root / "file", root / "hard")
    layer = subprocess.run(
        ["tar", f"--format={form}", "-cf", "-", "."], cwd=root, check=True, capture_output=True
    ).stdout
    apply(layer, tmp_path / "layer")
    assert inventory(tmp_path / "layer", times=False) == inventory(root, times=False)


@settings(max_examples=60, deadline=None)
@given(entries(), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_as_gnu_tar_unpacks_it(tmp_path_factory: pytest.TempPathFactory, members: list[Entry], form: int) -> None:
    """Any names, owners, modes, times, links, devices: GNU tar makes the same of the archive."""
    place = tmp_path_factory.mktemp("both")
    layer = packed(members, form)
    apply(layer, place / "ours")
    (place / "theirs").mkdir()
    command = ["tar", "-x", "-p", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner"]
    command += ["--delay-directory-restore", "-C"]
    subprocess.run([*command, str(place / "theirs")], input=layer, check=True, capture_output=True)
    ours, theirs = inventory(place / "ours"), inventory(place / "theirs")
    del ours["."], theirs["."]  # not in the archive
    subprocess.run(["rm", "-rf", place], check=True)
    assert ours == theirs


def test_the_size_is_what_the_files_take(tmp_path: Path) -> None:
    layer = tar([Entry("a", b"12345"), hard_link("b", "a"), symlink("c", "abc"), folder("d"), Entry("a", b"1234567")])
    assert apply(layer, tmp_path / "layer") == 15


def test_root_and_parents_that_the_tar_leaves_out(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    apply(tar([folder(".", 0o750, 3, 4), folder("tmp", 0o1777), folder("home", 0o700, 5, 6)]), lower)
    apply(tar([Entry("tmp/x"), Entry("home/y"), Entry("new/z")]), tmp_path / "upper", [lower])
    shown = {name: (one["mode"], one["owner"]) for name, one in inventory(tmp_path / "upper").items()}
    assert shown["."] == (oct(0o40750), (3, 4))
    assert shown["tmp"] == (oct(0o41777), (0, 0))
    assert shown["home"] == (oct(0o40700), (5, 6))
    assert shown["new"] == (oct(0o40755), (0, 0))
    apply(tar([Entry("x")]), tmp_path / "plain")
    assert oct((tmp_path / "plain").stat().st_mode) == oct(0o40755)


def test_whiteouts_hide_what_is_below(tmp_path: Path) -> None:
    snapshots = OverlaySnapshots(tmp_path / "snapshots")
    below = tar(
        [folder(name) for name in ("gone", "opaque", "replaced", "kept")]
        + [Entry(f"{name}/old", b"old") for name in ("gone", "opaque", "replaced", "kept")]
        + [Entry("file", b"old"), Entry("again", b"old")]
    )
    above = tar(
        [
            Entry(".wh.file"),
            Entry(".wh.gone"),
            folder("opaque"),
            Entry("opaque/.wh..wh..opq"),
            Entry("opaque/new", b"new"),
            Entry(".wh.replaced"),
            folder("replaced"),
            Entry("replaced/new", b"new"),
            Entry("again", b"new"),
            Entry(".wh.again"),
            Entry("kept/new", b"new"),
            Entry(".wh..wh.plnk", b"of aufs"),
        ]
    )
    base = snapshots.unpack(io.BytesIO(below), "")
    top = snapshots.unpack(io.BytesIO(above), base)
    snapshots.prepare("key", top)
    target = tmp_path / "mounted"
    target.mkdir()
    mount_overlay(snapshots.mount_plan("key", volatile=False), target)
    try:
        names = {str(path.relative_to(target)) for path in target.rglob("*")}
        names = {name for name in names if name.split("/")[0] not in (".dockerenv", "dev", "etc", "proc", "sys")}
        content = (target / "again").read_bytes()
        (target / "written").write_bytes(b"12345")
    finally:
        unmount(target)
    assert names == {
        "opaque", "opaque/new", "replaced", "replaced/new", "kept", "kept/old", "kept/new", "again"
    }  # fmt: skip
    assert content == b"new"
    assert snapshots.usage("key") == 5


def test_more_layers_than_a_page_of_mount_options_holds(tmp_path: Path) -> None:
    snapshots = OverlaySnapshots(tmp_path / "snapshots")
    chain_id = ""
    for number in range(LAYERS_MAX):
        chain_id = snapshots.unpack(io.BytesIO(tar([Entry(f"layer-{number}")])), chain_id)
    snapshots.prepare("key", chain_id)
    target = tmp_path / "mounted"
    target.mkdir()
    mount_overlay(snapshots.mount_plan("key", volatile=True), target)
    try:
        assert len([name for name in os.listdir(target) if name.startswith("layer-")]) == LAYERS_MAX
    finally:
        unmount(target)


# --- hostile ---


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the layer that must stay as it is."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_bytes(b"secret\n")
    before = inventory(tmp_path / "outside"), sorted(os.listdir(tmp_path))
    yield place
    after = inventory(tmp_path / "outside"), sorted(set(os.listdir(tmp_path)) - {"layer"})
    assert after == before


def refused(tmp_path: Path, *entries: Entry) -> None:
    with pytest.raises(InvalidParameter):
        apply(tar(entries), tmp_path / "layer")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "../outside/secret", "a/../..", "/../x"])
def test_names_that_lead_out(tmp_path: Path, outside: Path, name: str) -> None:
    refused(tmp_path, Entry(name, b"bad"))


def test_absolute_names_are_the_layers_own(tmp_path: Path, outside: Path) -> None:
    apply(tar([Entry(f"{outside}/secret", b"bad"), Entry("//x", b"fine")]), tmp_path / "layer")
    assert (tmp_path / "layer" / "x").read_bytes() == b"fine"
    assert (tmp_path / f"layer{outside}" / "secret").read_bytes() == b"bad"


def test_parents_that_are_links_stay_inside(tmp_path: Path, outside: Path) -> None:
    apply(
        tar(
            [
                symlink("up", "../../.."),
                Entry("up/x", b"1"),
                folder("etc"),
                symlink("abs", "/etc"),
                Entry("abs/y", b"2"),
            ]
        ),
        tmp_path / "layer",
    )
    assert (tmp_path / "layer" / "x").read_bytes() == b"1"
    assert (tmp_path / "layer" / "etc" / "y").read_bytes() == b"2"


def test_a_link_to_the_outside_as_parent(tmp_path: Path, outside: Path) -> None:
    refused(tmp_path, symlink("a", str(outside)), Entry("a/secret", b"bad"))


def test_links_that_go_in_circles(tmp_path: Path, outside: Path) -> None:
    refused(tmp_path, symlink("a", "b"), symlink("b", "a"), Entry("a/x", b"bad"))


def test_a_file_in_the_place_of_a_link_replaces_it(tmp_path: Path, outside: Path) -> None:
    secret = outside / "secret"
    layer = tar(
        [
            symlink("a", str(secret)),
            Entry("a", b"bad", mode=0o777, uid=5),
            symlink("d", str(outside)),
            folder("d", 0o777, 5, 5),
            symlink("f", str(outside / "fifo")),
            Entry("f", kind=tarfile.FIFOTYPE),
        ]
    )
    apply(layer, tmp_path / "layer")
    assert (tmp_path / "layer" / "a").read_bytes() == b"bad"
    assert (tmp_path / "layer" / "d").is_dir() and not (tmp_path / "layer" / "d").is_symlink()


@pytest.mark.parametrize("target", ["../outside/secret", "../../etc/passwd", "/etc/passwd", "missing", ".", "folder"])
def test_hard_links_to_what_is_not_in_the_layer(tmp_path: Path, outside: Path, target: str) -> None:
    refused(tmp_path, folder("folder"), hard_link("a", target))


def test_a_hard_link_to_a_link_is_the_link(tmp_path: Path, outside: Path) -> None:
    apply(tar([symlink("a", str(outside / "secret")), hard_link("b", "a")]), tmp_path / "layer")
    assert (tmp_path / "layer" / "b").is_symlink()


def test_a_hard_link_through_a_link_to_the_outside(tmp_path: Path, outside: Path) -> None:
    refused(tmp_path, symlink("a", str(outside)), hard_link("b", "a/secret"))


@pytest.mark.parametrize("name", [".wh..", ".wh...", ".wh.", "a/.wh...", "a/.wh.."])
def test_whiteouts_of_nothing(tmp_path: Path, outside: Path, name: str) -> None:
    refused(tmp_path, folder("a"), Entry(name))


def test_overlays_own_attributes_are_not_taken(tmp_path: Path, outside: Path) -> None:
    pax = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.fine": "1"}
    apply(tar([Entry("a", b"x", pax=pax)]), tmp_path / "layer")
    assert os.listxattr(tmp_path / "layer" / "a") == ["user.fine"]


def test_a_folder_in_the_place_of_a_file(tmp_path: Path, outside: Path) -> None:
    apply(tar([Entry("a", b"x"), folder("a"), Entry("a/b", b"y"), Entry("a", b"z")]), tmp_path / "layer")
    assert (tmp_path / "layer" / "a").read_bytes() == b"z"


def test_a_file_as_parent(tmp_path: Path, outside: Path) -> None:
    refused(tmp_path, Entry("a", b"x"), Entry("a/b", b"y"))


@pytest.mark.parametrize("entry", [Entry("a", pax={"uid": "4294967295"}), Entry("n" * 256), Entry("a/" * 2100 + "b")])
def test_values_that_the_kernel_cannot_hold(tmp_path: Path, outside: Path, entry: Entry) -> None:
    refused(tmp_path, entry)


_NAMES = st.sampled_from(
    ["a", "b", "a/b", "b/a", "a/b/c", "../a", "/a", "a/../b", ".wh.a", "b/.wh..wh..opq", "./a", "."]
)
_TARGETS = st.sampled_from(["a", "b", "../outside", "/outside", "..", "/", "a/b", ".", "../outside/secret"])
_ENTRIES = st.one_of(
    st.builds(lambda name: Entry(name, b"bad", uid=7, mode=0o6777), _NAMES),
    st.builds(lambda name: folder(name, 0o777, 7, 7), _NAMES),
    st.builds(symlink, _NAMES, _TARGETS),
    st.builds(hard_link, _NAMES, _TARGETS),
    st.builds(lambda name: Entry(name, kind=tarfile.CHRTYPE, device=(0, 0)), _NAMES),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_ENTRIES, min_size=2, max_size=7))
def test_no_sequence_of_entries_reaches_out(tmp_path: Path, entries: list[Entry]) -> None:
    outside = tmp_path / "outside"
    if not outside.exists():
        outside.mkdir()
        (outside / "secret").write_bytes(b"secret\n")
    before = inventory(outside)
    target = tmp_path / "layer"
    try:
        apply(tar(entries), target)
    except InvalidParameter:
        pass
    finally:
        subprocess.run(["rm", "-rf", target], check=True)
    assert inventory(outside) == before
    assert os.listdir(tmp_path) == ["outside"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_tar_is_refused_or_understood(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(tar([folder("d"), Entry("d/f", b"x" * 700), symlink("l", "d"), Entry("p", pax={"uid": "70000"})]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(whole)))
    target = tmp_path / "layer"
    try:
        apply(bytes(whole[:cut]), target)
    except WherryError:
        pass
    finally:
        subprocess.run(["rm", "-rf", target], check=True)
