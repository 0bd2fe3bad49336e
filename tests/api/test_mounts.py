"""Binds, volumes, tmpfs: what is mounted, how it is seeded, what inspect says of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.images import base_tar, docker_archive


def test_bind(engine: Engine) -> None:
    with engine.folder() as (here, seen):
        (here / "given").write_text("given\n")
        out = engine.output("cat /b/given; echo made >/b/made; stat -c %a /b", host={"Binds": [f"{seen}:/b"]})
        assert out == "given\n755\n"
        assert (here / "made").read_text() == "made\n"


def test_read_only_bind(engine: Engine) -> None:
    with engine.folder() as (_, seen):
        container = engine.run(["touch", "/b/x"], host={"Binds": [f"{seen}:/b:ro"]})
        assert engine.wait(container) == 1
        assert b"Read-only file system" in engine.logs(container)[1]
        (mount,) = engine.inspect(container)["Mounts"]
        assert mount == {
            "Type": "bind",
            "Source": seen,
            "Destination": "/b",
            "Mode": "ro",
            "RW": False,
            "Propagation": "rprivate",
        }


def test_bind_of_a_file(engine: Engine) -> None:
    with engine.folder() as (here, seen):
        (here / "file").write_text("mine\n")
        assert engine.output(["cat", "/etc/motd"], host={"Binds": [f"{seen}/file:/etc/motd:ro"]}) == "mine\n"


def test_missing_bind_source(engine: Engine) -> None:
    """`-v` makes it, `--mount` refuses."""
    with engine.folder() as (here, seen):
        assert engine.output(["stat", "-c", "%F %u:%g %a", "/b"], host={"Binds": [f"{seen}/new/deep:/b"]}) == (
            "directory 0:0 755\n"
        )
        assert (here / "new/deep").is_dir()
        mount = {"Type": "bind", "Source": f"{seen}/other", "Target": "/b"}
        answer = engine.try_create(["true"], host={"Mounts": [mount]})
        assert (answer.status, answer.message) == (
            400,
            f'invalid mount config for type "bind": bind source path does not exist: {seen}/other',
        )
        mount["BindOptions"] = {"CreateMountpoint": True}  # type: ignore[assignment]
        assert engine.output(["ls", "/b"], host={"Mounts": [mount]}) == ""
        assert (here / "other").is_dir()


def test_mounts_written_out(engine: Engine) -> None:
    with engine.folder() as (here, seen):
        (here / "x").write_text("x")
        mounts = [
            {"Type": "bind", "Source": seen, "Target": "/b", "ReadOnly": True},
            {"Type": "volume", "Source": "wt-mv", "Target": "/v"},
            {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o700}},
        ]
        script = (
            "cat /b/x; touch /b/y 2>/dev/null || echo ' ro'; touch /v/z; stat -c %a /t;"
            " df -k /t | tail -1 | awk '{print $2}'"
        )
        container = engine.run(["sh", "-c", script], host={"Mounts": mounts})
        assert engine.wait(container) == 0
        assert engine.logs(container)[0] == b"x ro\n700\n1024\n"
        shown = {mount["Destination"]: mount for mount in engine.inspect(container)["Mounts"]}
        assert (shown["/b"]["Type"], shown["/b"]["RW"]) == ("bind", False)
        assert (shown["/v"]["Type"], shown["/v"]["Name"], shown["/v"]["RW"]) == ("volume", "wt-mv", True)
        assert shown["/t"]["Type"] == "tmpfs"
        assert engine.inspect(container)["HostConfig"]["Mounts"][1] == mounts[1]


def test_named_volume(engine: Engine) -> None:
    host = {"Binds": ["wt-named:/v"]}
    assert engine.output("echo kept >/v/file", host=host) == ""
    container = engine.run(["cat", "/v/file"], host=host)
    engine.wait(container)
    assert engine.logs(container)[0] == b"kept\n"
    volume = engine.http.get("/volumes/wt-named").json()
    (mount,) = engine.inspect(container)["Mounts"]
    assert mount == {
        "Type": "volume",
        "Name": "wt-named",
        "Source": volume["Mountpoint"],
        "Destination": "/v",
        "Driver": "local",
        "Mode": "z",
        "RW": True,
        "Propagation": "",
    }
    assert (volume["Driver"], volume["Scope"], volume["Labels"]) == ("local", "local", None)


SEEDED = """
stat -c '%n %F %u:%g %a' /seeded /seeded/file /seeded/sub /seeded/sub/deep
readlink /seeded/soft
cat /seeded/file /seeded/sub/deep
test /seeded/file -ef /seeded/hard && echo linked
"""
SEED = """\
/seeded directory 1000:77 750
/seeded/file regular file 1000:77 640
/seeded/sub directory 0:0 700
/seeded/sub/deep regular file 0:0 4755
file
seed
deep
linked
"""


@pytest.mark.parametrize("kind", ["named", "anonymous", "config", "mount"])
def test_volumes_are_seeded(engine: Engine, kind: str) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "named": {"host": {"Binds": ["wt-seed:/seeded"]}},
        "anonymous": {"host": {"Binds": ["/seeded"]}},
        "config": {"Volumes": {"/seeded": {}}},
        "mount": {"host": {"Mounts": [{"Type": "volume", "Source": "wt-seed", "Target": "/seeded"}]}},
    }
    assert engine.output(SEEDED, **kinds[kind]) == SEED


def test_volume_of_the_image(engine: Engine) -> None:
    engine.load(docker_archive([base_tar()], ["wt-vol:1"], Env=["PATH=/bin"], Volumes={"/seeded": {}}))
    assert engine.output(SEEDED, Image="wt-vol:1") == SEED
    container = engine.create(["true"], Image="wt-vol:1")
    (mount,) = engine.inspect(container)["Mounts"]
    assert (mount["Type"], mount["Destination"], len(mount["Name"])) == ("volume", "/seeded", 64)
    engine.tidy()
    engine.http.delete("/images/wt-vol:1")


def test_seeded_once(engine: Engine) -> None:
    host = {"Binds": ["wt-seed:/seeded"]}
    engine.output("rm /seeded/file; echo new >/seeded/mine", host=host)
    assert engine.output("ls /seeded", host=host) == "hard\nmine\nsoft\nsub\n"


def test_a_volume_with_content_is_not_seeded(engine: Engine) -> None:
    engine.output("echo mine >/v/mine", host={"Binds": ["wt-seed:/v"]})
    assert engine.output("ls /seeded", host={"Binds": ["wt-seed:/seeded"]}) == "mine\n"


def test_nocopy(engine: Engine) -> None:
    assert engine.output("ls /seeded", host={"Binds": ["wt-seed:/seeded:nocopy"]}) == ""
    mount = {"Type": "volume", "Source": "wt-seed2", "Target": "/seeded", "VolumeOptions": {"NoCopy": True}}
    assert engine.output("ls /seeded", host={"Mounts": [mount]}) == ""


def test_volumes_from(engine: Engine) -> None:
    engine.create(["true"], name="wt-source", host={"Binds": ["wt-shared:/v", "/anonymous"]})
    assert engine.output("echo x >/v/x; touch /anonymous/y", host={"VolumesFrom": ["wt-source"]}) == ""
    script = "cat /v/x; ls /anonymous; touch /v/z 2>/dev/null || echo ro"
    assert engine.output(script, host={"VolumesFrom": ["wt-source:ro"]}) == "x\ny\nro\n"


def test_tmpfs(engine: Engine) -> None:
    script = "grep ' /t ' /proc/mounts | cut -d' ' -f3,4; touch /t/x; stat -c %a /t"
    out = engine.output(script, host={"Tmpfs": {"/t": "size=1m,mode=1770,noexec"}}).split()
    options = out[1].split(",")
    assert out[0] == "tmpfs"
    assert {"rw", "nosuid", "nodev", "noexec", "size=1024k"} <= set(options)
    assert out[2] == "1770"
    assert engine.output("stat -c %a /t", host={"Tmpfs": {"/t": ""}}) == "1777\n"
    container = engine.create(["true"], host={"Tmpfs": {"/t": ""}})
    assert engine.inspect(container)["Mounts"] == []
    assert engine.inspect(container)["HostConfig"]["Tmpfs"] == {"/t": ""}


def test_mounts_below_mounts(engine: Engine) -> None:
    """Shorter paths first, whatever the order asked."""
    with engine.folder() as (here, seen):
        (here / "in").mkdir()
        host = {"Binds": [f"{seen}/in:/a/b", "wt-outer:/a"], "Tmpfs": {"/a/b/c": ""}}
        assert (
            engine.output("touch /a/b/c/tmp /a/b/bind /a/vol; ls /a /a/b", host=host)
            == "/a:\nb\nvol\n\n/a/b:\nbind\nc\n"
        )
        assert (here / "in" / "bind").exists()
        assert not (here / "in" / "c" / "tmp").exists()


def test_mount_point_is_a_symlink_in_the_image(engine: Engine) -> None:
    """The target is resolved inside the container's root."""
    from tests.support.images import base_entries, symlink, tar

    layer = tar([*base_entries(), symlink("link", "/../../www")])
    engine.load(docker_archive([layer], ["wt-link:1"], Env=["PATH=/bin"], Cmd=["sh"]))
    assert engine.output("ls /www", Image="wt-link:1", host={"Binds": ["wt-linked:/link:nocopy"]}) == ""
    engine.tidy()
    engine.http.delete("/images/wt-link:1")


def test_volume_api(engine: Engine) -> None:
    made = engine.http.post("/volumes/create", {"Name": "wt-api", "Labels": {"a": "b"}})
    assert made.status == 201
    volume = made.json()
    assert (volume["Name"], volume["Driver"], volume["Labels"], volume["Options"]) == (
        "wt-api",
        "local",
        {"a": "b"},
        None,
    )
    again = engine.http.post("/volumes/create", {"Name": "wt-api"})
    assert (again.status, again.json()["CreatedAt"]) == (201, volume["CreatedAt"])
    assert engine.http.get("/volumes/wt-api").json()["Mountpoint"] == volume["Mountpoint"]
    listed = engine.http.get("/volumes", filters={"name": ["wt-api"]}).json()
    assert [v["Name"] for v in listed["Volumes"]] == ["wt-api"]
    assert engine.http.get("/volumes", filters={"label": ["a=b"], "name": ["wt-"]}).json()["Volumes"]
    unnamed = engine.http.post("/volumes/create", {}).json()
    assert len(unnamed["Name"]) == 64
    assert engine.http.delete(f"/volumes/{unnamed['Name']}").status == 204
    answer = engine.http.post("/volumes/create", {"Name": "-bad"})
    assert answer.status == 400
    assert '"-bad" includes invalid characters for a local volume name' in answer.message
    assert engine.http.delete("/volumes/wt-api").status == 204
    assert engine.http.get("/volumes/wt-api").status == 404


def test_volume_is_made_by_create_and_left_by_remove(engine: Engine) -> None:
    container = engine.create(["true"], host={"Binds": ["wt-made:/v"]})
    assert engine.http.get("/volumes/wt-made").status == 200
    engine.http.delete(f"/containers/{container}", v=1)
    assert engine.http.get("/volumes/wt-made").status == 200


def test_masked_and_generated_files(engine: Engine) -> None:
    mounts = engine.output("cut -d' ' -f2 /proc/mounts").split()
    assert {"/", "/proc", "/dev", "/dev/pts", "/sys", "/dev/mqueue", "/dev/shm"} <= set(mounts)
    assert {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} <= set(mounts)
    assert engine.output("cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c") == "0\n"
    assert engine.output("ls /proc/acpi /sys/firmware 2>/dev/null | grep -v ':' | tr -d '\\n'") == ""
    assert "ro" in engine.output("grep ' /proc/sys ' /proc/mounts | cut -d' ' -f4").split(",")
    assert engine.output("echo x >/etc/hosts && cat /etc/hosts") == "x\n"


def test_own_etc_files(engine: Engine) -> None:
    """A bind over a generated file wins."""
    with engine.folder() as (here, seen):
        (here / "hosts").write_text("127.0.0.9 mine\n")
        assert engine.output(["cat", "/etc/hosts"], host={"Binds": [f"{seen}/hosts:/etc/hosts"]}) == "127.0.0.9 mine\n"


def test_propagation(engine: Engine) -> None:
    with engine.folder() as (_, seen):
        container = engine.create(["true"], host={"Binds": [f"{seen}:/b:rslave"]})
        (mount,) = engine.inspect(container)["Mounts"]
        assert mount["Propagation"] == "rslave"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"Volumes": {"/bin/busybox": {}}}, r"cannot mount volume over existing file, file exists /.*/bin/busybox"),
        ({"host": {"Binds": ["wt-over:/bin/busybox"]}}, r"source /.*/bin/busybox is not directory"),
    ],
)
def test_a_volume_over_a_file_is_refused_at_creation(engine: Engine, settings: dict[str, Any], message: str) -> None:
    answer = engine.try_create(["true"], name="wt-over", **settings)
    assert answer.status == 500
    assert re.fullmatch(message, answer.message)
    assert engine.http.get("/containers/wt-over/json").status == 404


@pytest.mark.parametrize("path", ["", "/", ".", "/a/.."])
def test_a_volume_in_place_of_the_root_is_refused_at_the_start(engine: Engine, path: str) -> None:
    container = engine.create(["true"], Volumes={path: {}})
    assert engine.inspect(container)["Config"]["Volumes"] == {path: {}}
    answer = engine.http.post(f"/containers/{container}/start")
    assert answer.status == 400
    state = engine.state(container)
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 127, answer.message)
