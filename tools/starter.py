"""The starter image: busybox, the files that programs expect, and a page. Made on the spot, the same bytes each time.

The archive is what `docker save` writes (manifest.json, one configuration, one layer), so any engine loads it.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
from pathlib import Path

from tools.progress import Failure, run

NAME = "wherry/starter:latest"

FOLDERS = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "var": 0o755,
    "var/tmp": 0o1777,
    "www": 0o755,
}

FILES = {
    "etc/passwd": """\
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/www:/bin/false
nobody:x:65534:65534:nobody:/:/bin/false
""",
    "etc/group": """\
root:x:0:
tty:x:5:
www-data:x:33:
nogroup:x:65534:
""",
    "etc/profile": "export PS1='\\u@\\h:\\w\\$ '\n",
    "www/index.html": """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Wherry</title>
<h1>Your first container is afloat</h1>
<p>This page comes from a container that Wherry runs.</p>
</html>
""",
}

PAGE_SAYS = "Your first container is afloat"

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le"}
"""uname -m -> the image specification's name (GOARCH)."""


def busybox() -> Path:
    """The host's busybox. Raises Failure if there is none that runs without libraries."""
    found = shutil.which("busybox")
    if not found:
        raise Failure("busybox is missing: apt-get install busybox-static")
    path = Path(found).resolve()
    if b"ld-linux" in path.read_bytes()[:4096]:
        raise Failure(f"{path} needs libraries that an image lacks: apt-get install busybox-static")
    return path


def archive(program: Path) -> bytes:
    """The image archive, with a link in /bin for each of the program's applets."""
    layer = _layer(program, run([program, "--list"]).split())
    diff_id = hashlib.sha256(layer).hexdigest()
    machine = platform.machine()
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["sh"],
                "WorkingDir": "/",
                "Labels": {"org.opencontainers.image.title": "Wherry's starter image"},
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "busybox-static and a page"}],
        }
    ).encode()
    image_id = hashlib.sha256(config).hexdigest()
    members = {f"{diff_id}/layer.tar": layer, f"{image_id}.json": config}
    manifest = [{"Config": f"{image_id}.json", "RepoTags": [NAME], "Layers": [f"{diff_id}/layer.tar"]}]
    members["manifest.json"] = json.dumps(manifest).encode()
    return _tar([(_member(name, len(data)), data) for name, data in members.items()])


def _layer(program: Path, applets: list[str]) -> bytes:
    binary = program.read_bytes()
    members = [(_member(name, type=tarfile.DIRTYPE, mode=mode), b"") for name, mode in FOLDERS.items()]
    members.append((_member("bin/busybox", len(binary), mode=0o755), binary))
    links = sorted({*applets, "sh"} - {"busybox"})
    members += [(_member(f"bin/{link}", type=tarfile.SYMTYPE, mode=0o777, link="busybox"), b"") for link in links]
    members += [(_member(name, len(text.encode())), text.encode()) for name, text in FILES.items()]
    return _tar(members)


def _member(
    name: str, size: int = 0, *, type: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = ""
) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.mode, member.linkname = size, type, mode, link
    return member


def _tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()
