"""Archives made to harm: too deep, too many, too large. Each is refused with a reason and leaves nothing."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.image_store import BASE, Store
from tests.support.images import Entry, config_json, digest, docker_archive, folder, oci_archive, tar
from wherry.errors import InvalidParameter, SystemFailure, WherryError
from wherry.linux import libc
from wherry.linux.mounts import unmount
from wherry.storage.layers import unpack
from wherry.storage.streams import Decompressed

PACKERS = {
    "gzip": lambda data: gzip.compress(data, 9),
    "zstd": zstandard.ZstdCompressor(level=3, write_checksum=True).compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
MEGABYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB."""
    place = tmp_path / "small"
    place.mkdir()
    libc.mount("small", str(place), "tmpfs", 0, "size=64m")
    yield place
    unmount(place)


def archive(config: bytes, layers: list[bytes], listed: list[Any]) -> bytes:
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["app:1"], "Layers": listed}]).encode()
    members = [Entry(f"{number}.tar", layer) for number, layer in enumerate(layers)]
    return tar([Entry("manifest.json", manifest), Entry("c.json", config), *members])


def nested(depth: int) -> bytes:
    return b'{"architecture":"amd64","os":"linux","x":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


def many_indexes() -> bytes:
    """Each index names the next a thousand times."""
    blobs: dict[str, bytes] = {}
    data = b'{"schemaVersion":2,"manifests":[]}'
    for _ in range(4):
        blobs[digest(data)] = data
        one = {
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": digest(data),
            "size": len(data),
        }
        data = json.dumps({"schemaVersion": 2, "manifests": [one] * 1000}).encode()
    members = [Entry("blobs/sha256/" + name.removeprefix("sha256:"), blob) for name, blob in blobs.items()]
    return tar([Entry("oci-layout", b"{}"), Entry("index.json", data), *members])


HOSTILE = {
    "a configuration nested 10,000 deep": (archive(nested(10_000), [], []), "invalid image configuration"),
    "a manifest nested 10,000 deep": (
        tar([Entry("manifest.json", b"[" * 10_000 + b"]" * 10_000)]),
        "invalid archive: manifest.json",
    ),
    "a manifest of a million layers": (
        archive(config_json([BASE]), [BASE], ["0.tar"] * 1_000_000),
        "layers length mismatch",
    ),
    "an image of 1,000 layers": (archive(config_json([BASE] * 1000), [BASE], ["0.tar"] * 1000), "max depth exceeded"),
    "a hundred thousand images": (
        tar([Entry("c", b"{}"), Entry("manifest.json", json.dumps([{"Config": "c"}] * 100_000).encode())]),
        "more than 1000 images",
    ),
    "indexes that name one another": (many_indexes(), "JSON documents"),
    "a layer's digest that is a path": (
        archive(b'{"os":"linux","rootfs":{"diff_ids":["../../active"]}}', [BASE], ["0.tar"]),
        "invalid layer digest",
    ),
    "thirty thousand members": (
        tar([Entry(f"m{number}") for number in range(30_000)]),
        "not an image archive",
    ),
    "a document of 17 MB": (
        archive(b'{"x":"' + bytes(17 * MEGABYTE) + b'"}', [], []),
        "at most",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_refused(store: Store, what: str) -> None:
    data, reason = HOSTILE[what]
    with pytest.raises(InvalidParameter, match=reason):
        await store.load(data)
    assert store.images.all() == []
    await store.images.recover()
    assert await store.left() == []


# --- layers ---


def header(name: bytes, kind: bytes, size: bytes) -> bytes:
    fields = (name, b"0000644", b"0000000", b"0000000", size, b"00000000000", b" " * 8, kind, b"", b"ustar\x0000")
    block = struct.pack("100s8s8s8s12s12s8sc100s8s247x", *fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def with_pax(key: bytes, value: bytes, kind: bytes = b"x") -> bytes:
    data = record(key, value)
    extended = header(b"pax", kind, b"%011o" % len(data)) + data + bytes(-len(data) % 512)
    return extended + header(b"f", b"0", b"00000000000") + bytes(1024)


BAD_LAYERS = {
    "a size below zero": header(b"f", b"0", b"\xff" * 12) + bytes(1024),
    "a size of exabytes": header(b"f", b"0", b"\x80" + b"\x7f" * 11) + bytes(1024),
    "PAX records of 4 GB": header(b"pax", b"x", b"%011o" % (4 << 30)) + bytes(4096),
    "a GNU name of 4 GB": header(b"././@LongLink", b"L", b"%011o" % (4 << 30)) + bytes(4096),
    "a PAX size below zero": with_pax(b"size", b"-1"),
    "a PAX size of 10^18": with_pax(b"size", b"1" + b"0" * 18),
    "NUL in a PAX name": with_pax(b"path", b"a\0b"),
    "NUL in a PAX link": with_pax(b"linkpath", b"a\0b"),
    "NUL in the name of an attribute": with_pax(b"SCHILY.xattr.user.a\0b", b"x"),
    "an attribute without a namespace that is too long": with_pax(b"SCHILY.xattr.user." + b"n" * 300, b"x"),
    "PAX records that do not add up": header(b"pax", b"x", b"%011o" % 9) + b"99 path=a" + bytes(503 + 1024),
    "a name of 5,000 bytes": with_pax(b"path", b"n/" * 2500),
}


@pytest.mark.parametrize("what", BAD_LAYERS)
def test_layers_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "layer").mkdir()
    with pytest.raises(InvalidParameter):
        unpack(io.BytesIO(BAD_LAYERS[what]), str(tmp_path / "layer"))


@pytest.mark.parametrize("name", ["a\nb", "a\tb\x1b[31m", "\udcff\udcfe", "-rf", "a\\b", " "])
def test_strange_names_are_names(tmp_path: Path, name: str) -> None:
    """As the kernel has it: any byte but NUL and the slash."""
    target = tmp_path / "layer"
    target.mkdir()
    unpack(io.BytesIO(tar([Entry(name, b"x")])), str(target))
    assert [path.name for path in target.iterdir()] == [name]


def holds(folder: Path, size: int) -> bool:
    """Whether the file system has files of that many bytes."""
    try:
        with open(folder / "probe", "wb") as file:
            file.truncate(size)
    except OSError as error:
        assert error.errno == errno.EFBIG
        return False
    return True


def test_a_sparse_file_of_exabytes(tmp_path: Path) -> None:
    """Takes no disk. What the file system cannot hold is refused."""
    target = tmp_path / "layer"
    target.mkdir()
    pax = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,0"}
    for size in (1 << 40, 1 << 62):
        fits = holds(tmp_path, size)
        layer = tar([Entry(f"f{size}", pax={**pax, "GNU.sparse.size": str(size)})])
        if fits:
            unpack(io.BytesIO(layer), str(target))
            found = (target / f"f{size}").stat()
            assert (found.st_size, found.st_blocks) == (size, 0)
        else:
            with pytest.raises(InvalidParameter, match="file too large"):
                unpack(io.BytesIO(layer), str(target))


def test_global_records_without_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "layer").mkdir()
    data = b"".join(with_pax(b"k%d" % number, b"v" * 500_000, b"g")[:-1536] for number in range(5))
    with pytest.raises(InvalidParameter, match="too long"):
        unpack(io.BytesIO(data + header(b"f", b"0", b"00000000000") + bytes(1024)), str(tmp_path / "layer"))


def test_the_attributes_of_many_folders_wait_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all were kept in memory: the last word on a folder counts, and filling it does not change its time."""
    monkeypatch.setattr("wherry.storage.layers._RECENT_MAX", 3)
    entries = [folder(".", 0o711, 3, 4), *(folder(f"d{number}", 0o700, number, number) for number in range(8))]
    entries += [Entry(f"d{number}/f", b"x") for number in range(8)]
    entries += [folder("d1", 0o755, 70, 71), Entry("implied/x"), Entry("d2/.wh..wh..opq"), folder("d3", 0o1777)]
    entries = [replace(entry, mtime=1_000_000) for entry in entries]
    target = tmp_path / "layer"
    target.mkdir()
    unpacked = unpack(io.BytesIO(tar(entries)), str(target))
    assert unpacked.implied == (b"implied",)
    found = {path.name: path.stat() for path in [target, *target.iterdir()]}
    shown = {name: (one.st_mode & 0o7777, one.st_uid) for name, one in found.items()}
    assert (shown["layer"], shown["d1"], shown["d3"]) == ((0o711, 3), (0o755, 70), (0o1777, 0))
    assert {one.st_mtime for name, one in found.items() if name != "implied"} == {1_000_000}


def test_more_marks_than_anybody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.storage.layers._MARKS_MAX", 10)
    for number, entries in enumerate(
        ([Entry(f"i{n}/x") for n in range(11)], [Entry(f"o{n}/.wh..wh..opq") for n in range(11)])
    ):
        target = tmp_path / f"layer-{number}"
        target.mkdir()
        with pytest.raises(InvalidParameter, match="more than 10 directories"):
            unpack(io.BytesIO(tar(entries)), str(target))


# --- compression ---


_BOMB = """
import resource, sys, io
from wherry.storage.streams import Decompressed
source = Decompressed(open(sys.argv[1], "rb", buffering=0))
total = 0
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
while piece := source.read(1 << 20):
    assert len(piece) <= 1 << 20
    total += len(piece)
print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("how", PACKERS)
def test_a_bomb_takes_no_memory(tmp_path: Path, how: str) -> None:
    """A few kilobytes that become 400 MB; 10 MB of a stream in memory at a time are more than enough."""
    size = (100 if how in ("xz", "bzip2") else 400) * MEGABYTE
    bomb = tmp_path / "bomb"
    bomb.write_bytes(PACKERS[how](bytes(size)))
    run = [sys.executable, "-c", _BOMB, str(bomb)]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    total, kilobytes = map(int, subprocess.run(run, capture_output=True, check=True, env=environment).stdout.split())
    assert total == size
    assert kilobytes < 20_000


def test_a_window_of_gigabytes_is_refused() -> None:
    """The frame asks for 2 GB of memory."""
    parameters = zstandard.ZstdCompressionParameters(window_log=31, compression_level=1)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = stream.compress(b"x" * 1000) + stream.flush()
    with pytest.raises(InvalidParameter, match="memory"):
        Decompressed(io.BytesIO(data)).read(10)


@pytest.mark.parametrize("how", PACKERS)
async def test_a_disk_that_is_too_small_for_a_bomb(small_disk: Path, how: str) -> None:
    """The reason is told, nothing is left, and what is loaded next fits."""
    store = Store(small_disk / "data")
    layer = tar([Entry("large", bytes(200 * MEGABYTE))])
    bomb = archive(config_json([layer]), [PACKERS[how](layer)], ["0.tar"])
    with pytest.raises(SystemFailure, match="no space left on device"):
        await store.load(bomb)
    assert store.images.all() == []
    await store.images.recover()
    assert await store.left() == []
    await store.load(docker_archive([BASE], ["base:1"]))
    store.database.close()


async def test_an_archive_that_is_a_bomb_itself(small_disk: Path) -> None:
    store = Store(small_disk / "data")
    with pytest.raises(SystemFailure, match="no space left on device"):
        await store.load(gzip.compress(tar([Entry("stray", bytes(200 * MEGABYTE))])))
    assert await store.left() == []
    store.database.close()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PACKERS)), st.data())
def test_cut_or_spoilt_streams_are_noticed(how: str, data: st.DataObject) -> None:
    """Of a stream cut short, all is noticed; of a changed byte, where a checksum is."""
    plain = data.draw(st.binary(min_size=1, max_size=3000)) * data.draw(st.integers(1, 50))
    half = len(plain) // 2
    whole = PACKERS[how](plain[:half]) + PACKERS[how](plain[half:])
    assert read_all(whole) == plain
    cut = data.draw(st.integers(7, len(whole) - 1))
    try:
        got = read_all(whole[:cut])
    except InvalidParameter:
        return
    assert got == plain[:half] or how == "gzip"  # cut just between the two


def read_all(data: bytes) -> bytes:
    source = Decompressed(io.BytesIO(data))
    pieces = []
    while piece := source.read(997):
        pieces.append(piece)
    return b"".join(pieces)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_a_spoilt_archive_is_refused_or_understood(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Any bytes changed, any end cut off: an image that is whole, or a reason and nothing left."""
    make = data.draw(st.sampled_from([docker_archive, oci_archive]))
    name = "app:1" if make is oci_archive else ["app:1"]
    whole = bytearray(make([BASE, tar([Entry("x", b"y" * 600)])], name))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(1, len(whole)))
    store = Store(tmp_path_factory.mktemp("spoilt") / "data")
    try:
        await store.load(bytes(whole[:cut]))
    except WherryError:
        assert store.images.all() == []
    else:
        for image in store.images.all():
            assert await store.save(image.id)
            await store.images.remove(image.id, force=True)
    await store.images.recover()
    assert await store.left() == []
    store.database.close()
