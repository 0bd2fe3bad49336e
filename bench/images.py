"""The images that moving images is measured with, made once and kept outside of the repository.

    python -m bench.images                  # makes what is missing, prints the archives' paths
    large = large_archive()                 # a docker archive, plain tar: about 1.1 GB in 57,000 files, four layers
    many = many_layers_archive()            # forty layers of 256 kB

`large` is Debian with a compiler, kernel headers and Go, from mmdebstrap (package mmdebstrap; it needs Debian's
archive once). The same versions of packages give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

LARGE = "wherry-bench-large:1"
MANY_LAYERS = "wherry-bench-layers:1"
_SUITE = "bookworm"
_PACKAGES = (
    "build-essential",
    "git",
    "golang-go",
    "linux-headers-amd64",
    "linux-headers-rt-amd64",
    "manpages-dev",
    "python3-dev",
)
_EPOCH = 1735689600  # 2025-01-01
_UPPER = (("usr/share",), ("usr/src", "usr/lib/gcc", "usr/include"), ("usr/lib/go-1.19", "usr/share/go-1.19"))
"""What the layers above the lowest hold, bottom first; of two prefixes the later one counts."""
_LAYERS = 40
_LAYER_SIZE = 256 << 10


def cache() -> Path:
    """Where the archives are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "wherry-bench"


def large_archive() -> Path:
    """About 1.1 GB in 57,000 files, in four layers. Some minutes, the first time."""
    return _made("large-2.tar", _make_large)


def many_layers_archive() -> Path:
    """Forty layers of 256 kB that do not compress."""
    return _made("layers-1.tar", _make_many_layers)


def _made(name: str, make: Callable[[Path, Path], None]) -> Path:
    path = cache() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            making = Path(scratch) / name
            make(making, Path(scratch))
            making.rename(path)
    return path


def _make_large(target: Path, scratch: Path) -> None:
    root = scratch / "root.tar"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES)}", _SUITE, str(root)],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH)},
        check=True,
    )
    layers = [scratch / f"{number}.tar" for number in range(len(_UPPER) + 1)]
    _split(root, layers)
    write_archive(target, layers, LARGE, {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/bash"]})


def _split(root: Path, layers: Sequence[Path]) -> None:
    """A root file system into layers, each with the directories that lead to what it holds."""
    with tarfile.open(root) as whole, ExitStack() as stack:
        parts = [stack.enter_context(tarfile.open(path, "w", format=tarfile.PAX_FORMAT)) for path in layers]
        directories: dict[str, tarfile.TarInfo] = {}
        written: list[set[str]] = [set() for _ in parts]
        place: dict[str, int] = {}
        for member in whole:
            name = member.name = member.name.removeprefix("./").rstrip("/")
            number = place.get(member.linkname, 0) if member.islnk() else _layer_of(name)
            place[name] = number
            if member.isdir():
                directories[name] = member
            for parent in _parents(name):
                if parent in directories and parent not in written[number]:
                    written[number].add(parent)
                    parts[number].addfile(directories[parent])
            if name not in written[number]:
                parts[number].addfile(member, whole.extractfile(member) if member.isreg() else None)
                written[number].add(name)


def _layer_of(name: str) -> int:
    found = 0
    for number, prefixes in enumerate(_UPPER, start=1):
        if any(name == prefix or name.startswith(f"{prefix}/") for prefix in prefixes):
            found = number
    return found


def _parents(name: str) -> Iterator[str]:
    parts = name.split("/")
    for depth in range(1, len(parts)):
        yield "/".join(parts[:depth])


def _make_many_layers(target: Path, scratch: Path) -> None:
    content = random.Random(1)
    layers = []
    for number in range(_LAYERS):
        path = scratch / f"{number}.tar"
        with tarfile.open(path, "w") as part:
            member = tarfile.TarInfo(f"layer-{number}")
            member.size, member.mtime = _LAYER_SIZE, _EPOCH
            part.addfile(member, io.BytesIO(content.randbytes(_LAYER_SIZE)))
        layers.append(path)
    write_archive(target, layers, MANY_LAYERS, {"Cmd": ["/none"]})


def write_archive(target: Path, layers: Sequence[Path], name: str, config: dict[str, object]) -> None:
    """A docker archive of plain layers."""
    diff_ids = [_digest(path) for path in layers]
    document = json.dumps(
        {
            "architecture": "amd64",
            "config": config,
            "created": "2025-01-01T00:00:00Z",
            "history": [{"created": "2025-01-01T00:00:00Z", "created_by": f"layer {n}"} for n in range(len(layers))],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in diff_ids]},
        }
    ).encode()
    image_id = hashlib.sha256(document).hexdigest()
    manifest = json.dumps(
        [{"Config": f"{image_id}.json", "RepoTags": [name], "Layers": [f"{digest}/layer.tar" for digest in diff_ids]}]
    ).encode()
    with tarfile.open(target, "w") as archive:
        for digest, path in zip(diff_ids, layers, strict=True):
            member = tarfile.TarInfo(f"{digest}/layer.tar")
            member.size = path.stat().st_size
            with path.open("rb") as content:
                archive.addfile(member, content)
        for label, data in ((f"{image_id}.json", document), ("manifest.json", manifest)):
            member = tarfile.TarInfo(label)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    print(large_archive())
    print(many_layers_archive())
