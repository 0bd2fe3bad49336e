"""`images --tree`: how it looks."""

from __future__ import annotations

import pytest

from wherry.cli.commands import imagetree
from wherry.cli.errors import Failure

Row = dict[str, object]


def manifest(digit: str, architecture: str, content: int, total: int, *containers: str, variant: str = "") -> Row:
    return {
        "ID": "sha256:" + digit * 64,
        "Kind": "image",
        "Available": bool(total),
        "Size": {"Content": content, "Total": total},
        "ImageData": {
            "Platform": {"os": "linux", "architecture": architecture, "variant": variant},
            "Containers": list(containers),
        },
    }


def image(digit: str, created: int, size: int, names: list[str], *manifests: Row) -> Row:
    about: Row = {"Id": "sha256:" + digit * 64, "Created": created, "Size": size, "RepoTags": names}
    return {**about, "Manifests": list(manifests)}


MANY = image(
    "a",
    1_700_000_000,
    1_000_000,
    ["app:1", "app:latest"],
    manifest("1", "amd64", 4_000_000, 13_000_000, "c" * 64),
    manifest("2", "arm64", 0, 0, variant="v8"),
)
NAMELESS = image("b", 1_700_000_001, 123, [], manifest("4", "amd64", 0, 1_980_000))
LONG = image("d", 1_700_000_002, 123, ["registry.example.com:5000/some/long/name:tag"], manifest("5", "arm", 3, 7))


def test_a_tree(capsys: pytest.CaptureFixture[str]) -> None:
    imagetree.show([MANY, NAMELESS, LONG], all=False)
    assert capsys.readouterr().out.splitlines() == [
        "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.",
        "                                                              Info ->  U In Use",
        "",
        "IMAGE                           ID             DISK USAGE   CONTENT SIZE   EXTRA",
        "registry.example.com:5000/so…   dddddddddddd           7B             3B",
        "└─ linux/arm                    555555555555           7B             3B",
        "",
        "app:latest",
        "app:1                           aaaaaaaaaaaa         13MB            4MB   U",
        "├─ linux/amd64                  111111111111         13MB            4MB   U",
        "└─ linux/arm64/v8               222222222222           0B             0B",
    ]


def test_images_without_a_name_come_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    imagetree.show([NAMELESS], all=False)
    assert "bbbb" not in capsys.readouterr().out
    imagetree.show([NAMELESS], all=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split() == ["<untagged>", "bbbbbbbbbbbb", "1.98MB", "0B"]


def test_an_engine_that_does_not_tell() -> None:
    with pytest.raises(Failure, match=r"1\.47"):
        imagetree.show([{"Id": "sha256:x", "Created": 1, "Size": 1, "RepoTags": ["a:1"]}], all=False)
