"""Devices of the Container Device Interface: which are meant, and what they add."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wherry.errors import InvalidParameter, NotSupported, SystemFailure
from wherry.linux import cdi as files
from wherry.model.cdi import DeviceNode, Edits, Found, Spec, apply, check_spec, select, wanted
from wherry.model.config import DeviceRequest

GPU = [["gpu"]]


def spec(kind: str, *names: str, **edits: Any) -> Spec:
    devices = [{"name": name, "containerEdits": {"env": [f"NAME={name}"]}} for name in names]
    document = {"cdiVersion": "0.6.0", "kind": kind, "devices": devices, "containerEdits": edits}
    return msgspec.convert(document, Spec)


FOUND = Found(
    (
        (spec("nvidia.com/gpu", "0", "1", "10", "2", "all"), spec("v.com/c", "a", "b", env=["OF=file"])),
        (spec("v.com/c", "a", env=["OF=later"]),),
    )
)


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (DeviceRequest("cdi", device_ids=["v.com/c=a"]), ["v.com/c=a"]),
        (DeviceRequest("", 2, capabilities=GPU), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]),
        (DeviceRequest("nvidia", 4, capabilities=GPU), [f"nvidia.com/gpu={name}" for name in ("0", "1", "2", "10")]),
        (DeviceRequest("", -1, capabilities=GPU), ["nvidia.com/gpu=all"]),
        (DeviceRequest("", device_ids=["1", "v.com/c=b"], capabilities=GPU), ["nvidia.com/gpu=1", "v.com/c=b"]),
    ],
)
def test_wanted(request_: DeviceRequest, names: list[str]) -> None:
    assert wanted([request_, request_], FOUND) == names


@pytest.mark.parametrize(
    ("request_", "kind", "message"),
    [
        (DeviceRequest("cdi"), InvalidParameter, "needs DeviceIDs"),
        (DeviceRequest("cdi", 1, ["a"]), InvalidParameter, "cannot set both Count and DeviceIDs on device request"),
        (
            DeviceRequest("x", 1, capabilities=[["gpu", "y"], ["z"]]),
            SystemFailure,
            'could not select device driver "x" with capabilities: [[gpu y] [z]]',
        ),
        (DeviceRequest("", 1), SystemFailure, 'could not select device driver "" with capabilities: []'),
        (DeviceRequest("amd", 1, capabilities=GPU), SystemFailure, 'could not select device driver "amd"'),
        (DeviceRequest("", 5, capabilities=GPU), SystemFailure, "5 devices of nvidia.com/gpu are asked for"),
        (DeviceRequest("cdi", device_ids=["a"], options={"a": "b"}), NotSupported, "options of a device request"),
    ],
)
def test_refused(request_: DeviceRequest, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as refused:
        wanted([request_], FOUND)
    assert message in str(refused.value)


def test_a_later_directory_counts_and_a_file_s_own_edits_come_once() -> None:
    assert [edit.env for edit in select(["v.com/c=a"], FOUND)] == [["OF=later"], ["NAME=a"]]
    earlier = Found(FOUND.directories[:1])
    assert [edit.env for edit in select(["v.com/c=a", "v.com/c=b"], earlier)] == [["OF=file"], ["NAME=a"], ["NAME=b"]]


def test_unknown_and_ambiguous_devices() -> None:
    twice = Found(((spec("v.com/c", "a"), spec("v.com/c", "a")),))
    for found, names in ((FOUND, ["v.com/c=z", "nope"]), (twice, ["v.com/c=a"])):
        with pytest.raises(SystemFailure) as refused:
            select(names, found)
        message = f"CDI device injection failed: unresolvable CDI devices {', '.join(names)}"
        assert str(refused.value) == message


def test_applied() -> None:
    made: dict[str, Any] = {
        "process": {"env": ["A=1", "B=2"], "user": {"additionalGids": [7]}},
        "mounts": [{"destination": "/m", "source": "old"}],
        "linux": {"resources": {"devices": []}},
    }
    document = {
        "env": ["B=3", "C=4=5"],
        "deviceNodes": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "permissions": "r"}],
        "mounts": [{"hostPath": "/h", "containerPath": "/m", "options": ["ro"]}],
        "hooks": [{"hookName": "createContainer", "path": "/bin/x", "args": ["x"], "timeout": 3}],
        "additionalGids": [0, 7, 8],
    }
    apply(made, [msgspec.convert(document, Edits)])
    assert made["process"] == {"env": ["A=1", "B=3", "C=4=5"], "user": {"additionalGids": [7, 8]}}
    assert made["mounts"] == [{"destination": "/m", "type": "bind", "source": "/h", "options": ["rbind", "ro"]}]
    assert made["hooks"] == {"createContainer": [{"path": "/bin/x", "args": ["x"], "timeout": 3}]}
    assert made["linux"]["devices"] == [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]
    assert made["linux"]["resources"]["devices"] == [
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}
    ]


@pytest.mark.parametrize(
    "broken",
    [
        spec("nokind", "a"),
        spec("v.com/c"),
        spec("v.com/c", "a/b"),
        spec("v.com/c", "a", hooks=[{"hookName": "never", "path": "/x"}]),
    ],
)
def test_broken_specifications(broken: Spec) -> None:
    with pytest.raises(InvalidParameter):
        check_spec(broken)


def test_what_is_not_done() -> None:
    with pytest.raises(NotSupported):
        check_spec(spec("v.com/c", "a", intelRdt={"closID": "x"}))


def test_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.yaml").write_text("cdiVersion: 0.6.0\nkind: v.com/y\ndevices:\n- {name: d, containerEdits: {}}\n")
    (tmp_path / "b.json").write_bytes(msgspec.json.encode(spec("v.com/j", "d")))
    (tmp_path / "c.json").write_text('{"cdiVersion": "0.6.0", "kind": "v.com/x", "devices": [], "nonsense": 1}')
    (tmp_path / "d.yaml").write_text("a: [")
    (tmp_path / "notes.txt").write_text("not one")
    found = files.read([tmp_path / "nothing", tmp_path])
    assert [one.kind for one in found.directories[1]] == ["v.com/y", "v.com/j"]
    assert [record.args[0].name for record in caplog.records if isinstance(record.args, tuple)] == ["c.json", "d.yaml"]


def test_numbers_come_from_the_host() -> None:
    (edit,) = files.numbered([Edits(device_nodes=[DeviceNode(path="/dev/mine", host_path="/dev/null")])])
    null, node = os.stat("/dev/null"), edit.device_nodes[0]
    assert (node.path, node.type, node.major, node.minor) == ("/dev/mine", "c", 1, 3)
    assert (node.file_mode, node.uid) == (stat.S_IMODE(null.st_mode), null.st_uid)
    with pytest.raises(SystemFailure, match="failed to stat CDI host device"):
        files.numbered([Edits(device_nodes=[DeviceNode(path="/dev/wt-nothing")])])
    with pytest.raises(SystemFailure, match="is not a device"):
        files.numbered([Edits(device_nodes=[DeviceNode(path="/dev/x", host_path="/etc/passwd")])])
