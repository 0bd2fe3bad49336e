"""Volumes with a device, and parts of volumes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine import Engine, eventually


def make(engine: Engine, name: str, **options: str) -> str:
    """A volume with options; where it lies."""
    answer = engine.http.post("/volumes/create", {"Name": name, "DriverOpts": options})
    assert answer.status == 201, answer.body
    assert answer.json()["Options"] == options
    return str(answer.json()["Mountpoint"])


def test_tmpfs(engine: Engine) -> None:
    make(engine, "wt-tm", type="tmpfs", device="tmpfs", o="size=1m,uid=1000,noexec")
    script = "df -k /t | tail -1 | awk '{print $2}'; stat -c %u /t; grep ' /t ' /proc/mounts | grep -c noexec"
    assert engine.output(script, host={"Binds": ["wt-tm:/t"]}) == "1024\n1000\n1\n"


def test_one_mount_for_all_who_use_it(engine: Engine) -> None:
    make(engine, "wt-one", type="tmpfs", device="tmpfs")
    first = engine.idle(host={"Binds": ["wt-one:/t"]})
    assert engine.output("echo told >/t/f", host={"Binds": ["wt-one:/t"]}) == ""
    second = engine.idle(host={"Binds": ["wt-one:/other"]})
    assert engine.exec(first, ["cat", "/t/f"])[1] == "told\n"
    engine.remove(first)
    assert engine.exec(second, ["cat", "/other/f"])[1] == "told\n"
    engine.remove(second)
    assert engine.output(["ls", "/t"], host={"Binds": ["wt-one:/t"]}) == ""  # a new one by now


def test_bind_outlives_the_volume(engine: Engine) -> None:
    with engine.folder() as (here, seen):
        (here / "kept").write_text("kept\n")
        make(engine, "wt-bd", type="none", device=seen, o="bind")
        assert engine.output("cat /b/kept; echo new >/b/new", host={"Binds": ["wt-bd:/b"]}) == "kept\n"
        engine.tidy()
        assert engine.http.get("/volumes/wt-bd").status == 404
        assert sorted(path.name for path in here.iterdir()) == ["kept", "new"]


def test_read_only_bind(engine: Engine) -> None:
    with engine.folder() as (_, seen):
        make(engine, "wt-ro", type="none", device=seen, o="bind,ro")
        code, _, err = engine.result(["touch", "/b/x"], host={"Binds": ["wt-ro:/b"]})
        assert (code, b"Read-only file system" in err) == (1, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"type": "none", "device": "/nonesuch", "o": "bind"},
            "mount /nonesuch:{place}, flags: 0x1000: no such file or directory",
        ),
        ({"type": "nonsense", "device": "/x"}, "mount /x:{place}: no such device"),
        (
            {"type": "tmpfs", "device": "tmpfs", "o": "uid=1000,noexec,bogus=1"},
            "mount tmpfs:{place}, flags: 0x8, data: uid=1000,bogus=1: invalid argument",
        ),
    ],
)
def test_mount_that_fails(engine: Engine, options: dict[str, str], words: str) -> None:
    place = make(engine, "wt-bad", **options)
    answer = engine.failed_start(["true"], host={"Binds": ["wt-bad:/b"]})
    told = words.format(place=place)
    assert (answer.status, answer.message) == (
        500,
        f"error while mounting volume '{place}': failed to mount local volume: {told}",
    )


def test_of_a_mount_written_out(engine: Engine) -> None:
    options = {"DriverConfig": {"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs", "o": "size=2m"}}}
    mount = {"Type": "volume", "Source": "wt-mw", "Target": "/t", "VolumeOptions": options}
    assert engine.output("df -k /t | tail -1 | awk '{print $2}'", host={"Mounts": [mount]}) == "2048\n"
    assert engine.http.get("/volumes/wt-mw").json()["Options"]["o"] == "size=2m"


def test_not_pruned_and_not_counted(engine: Engine) -> None:
    make(engine, "wt-np", type="tmpfs", device="tmpfs")
    answer = engine.http.post("/volumes/prune", filters='{"all":["1"],"label!":["com.docker.volume.anonymous"]}')
    assert "wt-np" not in (answer.json()["VolumesDeleted"] or [])
    assert engine.http.get("/volumes/wt-np").status == 200
    usage = engine.http.get("/system/df", type="volume").json()
    assert "wt-np" not in [volume["Name"] for volume in usage["Volumes"]]


def subpath(path: str) -> dict[str, Any]:
    return {"Mounts": [{"Type": "volume", "Source": "wt-sp", "Target": "/m", "VolumeOptions": {"Subpath": path}}]}


@pytest.fixture
def filled(engine: Engine) -> str:
    """A volume with folders and links; where it lies."""
    script = "mkdir -p /m/a/b; echo hi >/m/a/f; ln -s /etc /m/evil; ln -s a /m/la; ln -s ../../.. /m/up"
    engine.output(script, host={"Binds": ["wt-sp:/m"]})
    return str(engine.http.get("/volumes/wt-sp").json()["Mountpoint"])


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("path", "script", "shown"),
    [("a", "ls /m", "b\nf\n"), ("la", "ls /m", "b\nf\n"), ("a/f", "cat /m", "hi\n"), ("a/../a/b", "ls /m", "")],
)
def test_subpath(engine: Engine, path: str, script: str, shown: str) -> None:
    assert engine.output(script, host=subpath(path)) == shown


def test_subpath_in_inspect_and_for_others(engine: Engine, filled: str) -> None:
    container = engine.create(["true"], host=subpath("a"))
    (mount,) = engine.inspect(container)["Mounts"]
    assert (mount["Source"], mount["Name"], mount["Destination"]) == (filled, "wt-sp", "/m")
    assert engine.output(["ls", "/m"], host={"VolumesFrom": [container]}) == "b\nf\n"


@pytest.mark.parametrize("path", ["evil", "up", "evil/passwd"])
def test_subpath_that_escapes(engine: Engine, filled: str, path: str) -> None:
    answer = engine.failed_start(["true"], host=subpath(path))
    assert (answer.status, answer.message) == (
        400,
        f"path concatenation escapes the base directory, base: {filled}, subpath: {path}",
    )


@pytest.mark.parametrize(("path", "missing"), [("nope", "nope"), ("a/x/y", "a/x")])
def test_subpath_that_is_missing(engine: Engine, filled: str, path: str, missing: str) -> None:
    answer = engine.failed_start(["true"], host=subpath(path))
    assert answer.status == 404
    assert answer.message == f"cannot access path {filled}/{path}: lstat {filled}/{missing}: no such file or directory"


@pytest.mark.usefixtures("filled")
def test_subpath_never_escapes_a_race(engine: Engine) -> None:
    """Somebody swaps a folder and a link to the host's /etc as fast as it goes."""
    script = "mkdir /m/r; echo up; while :; do rmdir /m/r; ln -s /etc /m/r; rm /m/r; mkdir /m/r; done 2>/dev/null"
    swapper = engine.run(["sh", "-c", script], host={"Binds": ["wt-sp:/m"]})
    eventually(lambda: engine.logs(swapper)[0])
    for _ in range(12):
        container = engine.create(["ls", "-A", "/m"], host=subpath("r"))
        answer = engine.http.post(f"/containers/{container}/start")
        if answer.status == 204:
            engine.wait(container)
            assert engine.logs(container)[0] == b""  # the folder, empty, and never /etc
        else:
            assert answer.status >= 400  # a link that leads out, or a folder that is gone again
        engine.remove(container)
