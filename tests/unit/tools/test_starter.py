"""The starter image as an archive."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tools import starter
from tools.progress import Failure


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Stands in for busybox: lists two applets."""
    path = tmp_path / "busybox"
    path.write_text("#!/bin/sh\necho sh; echo httpd\n")
    path.chmod(0o755)
    return path


def read(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore


def test_the_same_busybox_gives_the_same_bytes(program: Path) -> None:
    assert starter.archive(program) == starter.archive(program)


def test_digests_and_names_agree(program: Path) -> None:
    files = read(starter.archive(program))
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == [starter.NAME]
    assert entry["Config"] == hashlib.sha256(files[entry["Config"]]).hexdigest() + ".json"
    config = json.loads(files[entry["Config"]])
    layers = [files[name] for name in entry["Layers"]]
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]


def test_the_layer_is_a_root_file_system(program: Path) -> None:
    files = read(starter.archive(program))
    (entry,) = json.loads(files["manifest.json"])
    with tarfile.open(fileobj=io.BytesIO(files[entry["Layers"][0]])) as layer:
        members = {member.name: member for member in layer}
    assert members["bin/httpd"].linkname == "busybox"
    assert members["bin/busybox"].mode == 0o755
    assert members["tmp"].mode == 0o1777
    assert {"etc/passwd", "etc/group", "www/index.html", "proc", "sys", "dev"} <= set(members)
    assert all((member.uid, member.gid) == (0, 0) for member in members.values())


def test_a_busybox_that_needs_libraries_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "busybox").write_bytes(b"\x7fELF /lib64/ld-linux-x86-64.so.2")
    (tmp_path / "busybox").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failure, match="apt-get install busybox-static"):
        starter.busybox()
