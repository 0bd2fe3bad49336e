"""Test images made on the spot from the host's static busybox: plain root file systems and image archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
u:x:1000:1000:u:/home/u:/bin/sh
"""
GROUP = """\
root:x:0:
u:x:1000:
extra:x:77:u
nogroup:x:65534:
"""


def busybox() -> Path:
    """The host's static busybox. Raises AssertionError where there is none."""
    found = shutil.which("busybox")
    assert found, "the tests need busybox-static"
    return Path(found)


@dataclass(frozen=True)
class Entry:
    """One member of a layer tar."""

    name: str
    data: bytes = b""
    kind: bytes = tarfile.REGTYPE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    link: str = ""
    device: tuple[int, int] = (0, 0)
    mtime: int = 1_600_000_000
    pax: Mapping[str, str] = field(default_factory=dict)


def folder(name: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    return Entry(name, kind=tarfile.DIRTYPE, mode=mode, uid=uid, gid=gid)


def symlink(name: str, target: str) -> Entry:
    return Entry(name, kind=tarfile.SYMTYPE, mode=0o777, link=target)


def hard_link(name: str, target: str) -> Entry:
    return Entry(name, kind=tarfile.LNKTYPE, link=target)


def tar(entries: Iterable[Entry]) -> bytes:
    """An uncompressed tar; the same entries give the same bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type, info.mode, info.uid, info.gid = entry.kind, entry.mode, entry.uid, entry.gid
            info.linkname, info.mtime, info.pax_headers = entry.link, entry.mtime, dict(entry.pax)
            info.devmajor, info.devminor = entry.device
            info.size = len(entry.data)
            archive.addfile(info, io.BytesIO(entry.data))
    return stream.getvalue()


@cache
def base_entries() -> tuple[Entry, ...]:
    """A small root file system: busybox with its applets, users, a folder that volumes are seeded from."""
    applets = subprocess.run([busybox(), "--list"], check=True, capture_output=True, text=True).stdout.split()
    return (
        *(folder(name) for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "var", "www")),
        folder("tmp", 0o1777),
        folder("home/u", 0o755, 1000, 1000),
        Entry("bin/busybox", busybox().read_bytes(), mode=0o755),
        *(symlink(f"bin/{applet}", "busybox") for applet in applets if applet != "busybox"),
        Entry("etc/passwd", PASSWD.encode()),
        Entry("etc/group", GROUP.encode()),
        Entry("www/index.html", b"served\n"),
        folder("seeded", 0o750, 1000, 77),
        Entry("seeded/file", b"seed\n", mode=0o640, uid=1000, gid=77, pax={"SCHILY.xattr.user.origin": "image"}),
        Entry("seeded/hard", kind=tarfile.LNKTYPE, link="seeded/file", mode=0o640, uid=1000, gid=77),
        symlink("seeded/soft", "file"),
        folder("seeded/sub", 0o700),
        Entry("seeded/sub/deep", b"deep\n", mode=0o4755),
    )


@cache
def base_tar() -> bytes:
    return tar(base_entries())


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config_json(layers: Iterable[bytes], **config: Any) -> bytes:
    """An image configuration (OCI image-spec, config.md) for these uncompressed layers."""
    diff_ids = [digest(layer) for layer in layers]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-02T03:04:05Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": "2024-01-02T03:04:05Z", "created_by": f"layer {i}"} for i in range(len(diff_ids))],
    }
    return json.dumps(document).encode()


def docker_archive(layers: list[bytes], tags: list[str], config: bytes | None = None, **settings: Any) -> bytes:
    """What `docker save` wrote before version 25: manifest.json, a configuration, layer tars."""
    config = config or config_json(layers, **settings)
    name = digest(config).removeprefix("sha256:") + ".json"
    paths = [f"{digest(layer).removeprefix('sha256:')}/layer.tar" for layer in layers]
    manifest = [{"Config": name, "RepoTags": tags, "Layers": paths}]
    return tar(
        [
            Entry("manifest.json", json.dumps(manifest).encode()),
            Entry(name, config),
            *(Entry(path, layer) for path, layer in zip(paths, layers, strict=True)),
        ]
    )


OCI = "application/vnd.oci.image"


def oci_archive(
    layers: list[bytes],
    name: str,
    *,
    compress: bool = True,
    spoil: bytes = b"",
    config: bytes | None = None,
    **settings: Any,
) -> bytes:
    """An OCI image layout (image-layout.md) as a tar, layers gzipped. `spoil` is appended to the stored layers."""
    config = config or config_json(layers, **settings)
    blobs = {digest(config): config}
    descriptors: list[dict[str, Any]] = []
    for layer in layers:
        blob = gzip.compress(layer, 1, mtime=0) if compress else layer
        kind = f"{OCI}.layer.v1.tar+gzip" if compress else f"{OCI}.layer.v1.tar"
        descriptors.append({"mediaType": kind, "digest": digest(blob), "size": len(blob)})
        blobs[digest(blob)] = blob + spoil
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": {"mediaType": f"{OCI}.config.v1+json", "digest": digest(config), "size": len(config)},
            "layers": descriptors,
        }
    ).encode()
    blobs[digest(manifest)] = manifest
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": f"{OCI}.manifest.v1+json",
                "digest": digest(manifest),
                "size": len(manifest),
                "annotations": {
                    "io.containerd.image.name": name,
                    "org.opencontainers.image.ref.name": name.split(":")[-1],
                },
            }
        ],
    }
    # The real engine loads a layout through the manifest.json that a newer `docker save` writes beside it.
    legacy = [
        {
            "Config": "blobs/sha256/" + digest(config).removeprefix("sha256:"),
            "RepoTags": [name],
            "Layers": ["blobs/sha256/" + d["digest"].removeprefix("sha256:") for d in descriptors],
        }
    ]
    return tar(
        [
            Entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            Entry("index.json", json.dumps(index).encode()),
            Entry("manifest.json", json.dumps(legacy).encode()),
            folder("blobs"),
            folder("blobs/sha256"),
            *(Entry("blobs/sha256/" + d.removeprefix("sha256:"), blob) for d, blob in blobs.items()),
        ]
    )
