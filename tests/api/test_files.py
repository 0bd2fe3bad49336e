"""Containers' files: archive in and out, changes, export, commit."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.http import Response
from tests.support.images import Entry, folder, hard_link, symlink, tar

TREE = tar(
    [
        folder("d", mode=0o750),
        Entry("d/file", b"content\n"),
        hard_link("d/again", "d/file"),
        symlink("d/link", "file"),
        folder("d/sub"),
    ]
)


def put(engine: Engine, container: str, path: str, archive: bytes, **query: Any) -> Response:
    headers = {"Content-Type": "application/x-tar"}
    return engine.http.request(
        "PUT", f"/containers/{container}/archive", body=archive, headers=headers, path=path, **query
    )


def get(engine: Engine, container: str, path: str) -> Response:
    return engine.http.get(f"/containers/{container}/archive", path=path)


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {info.name: info for info in opened}


def content(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        file = opened.extractfile(name)
        assert file is not None
        return file.read()


def stat_of(answer: Response) -> dict[str, Any]:
    found = json.loads(base64.b64decode(answer.headers["x-docker-container-path-stat"]))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("running", [False, True])
def test_in_and_out(engine: Engine, running: bool) -> None:
    container = engine.idle() if running else engine.create(["true"])
    assert put(engine, container, "/tmp", TREE).status == 200
    answer = get(engine, container, "/tmp/d")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-tar"
    found = members(answer.body)
    assert list(found) == ["d", "d/again", "d/file", "d/link", "d/sub"]
    assert found["d"].mode & 0o777 == 0o750
    assert (found["d/file"].type, found["d/file"].linkname) == (tarfile.LNKTYPE, "d/again")
    assert found["d/link"].linkname == "file"
    assert content(answer.body, "d/again") == b"content\n"
    if running:
        assert engine.exec(container, ["cat", "/tmp/d/file"])[1] == "content\n"


def test_names_follow_the_path(engine: Engine) -> None:
    container = engine.create(["true"])
    put(engine, container, "/tmp", TREE)
    for path, names in (
        ("/tmp/d/", ["d", "d/again", "d/file", "d/link", "d/sub"]),
        ("/tmp/d/.", [".", "./again", "./file", "./link", "./sub"]),
        ("tmp/d/link", ["link"]),
        ("/tmp/d/../d/sub", ["sub"]),
    ):
        assert list(members(get(engine, container, path).body)) == names, path


def test_stat(engine: Engine) -> None:
    container = engine.create(["true"])
    put(engine, container, "/tmp", TREE)
    answer = engine.http.head(f"/containers/{container}/archive", path="/tmp/d/link")
    assert answer.status == 200
    found = stat_of(answer)
    assert found.pop("mtime")
    assert found == {"name": "link", "size": 4, "mode": 0o777 | 1 << 27, "linkTarget": "/tmp/d/file"}
    found = stat_of(get(engine, container, "/tmp/"))
    assert (found["name"], found["mode"]) == ("tmp", 0o777 | 1 << 31 | 1 << 20)


def test_a_chain_of_links_stays_inside(engine: Engine) -> None:
    container = engine.create(["true"])
    links = tar([symlink("up", "/etc"), symlink("broken", "/nowhere/at/all")])
    assert put(engine, container, "/tmp", links).status == 200
    head = engine.http.head(f"/containers/{container}/archive", path="/tmp/broken")
    assert stat_of(head)["linkTarget"] == "/nowhere/at/all"
    assert b"root:x:0:0" in get(engine, container, "/tmp/up/passwd").body
    assert put(engine, container, "/tmp/up", tar([Entry("made", b"inside")])).status == 200
    assert content(get(engine, container, "/etc/made").body, "made") == b"inside"


def test_errors(engine: Engine) -> None:
    container = engine.create(["true"], name="wt-files")
    for method in ("GET", "HEAD", "PUT"):
        answer = engine.http.request(method, "/containers/wt-files/archive", path="/nothing")
        assert answer.status == 404
        if method != "HEAD":
            assert answer.message == "Could not find the file /nothing in container wt-files"
    assert get(engine, container, "").status == 400
    assert get(engine, container, "").message == "bad parameter: pathcannot be empty"
    assert get(engine, "wt-none", "/x").message == "No such container: wt-none"
    answer = get(engine, container, "/etc/passwd/x")
    assert (answer.status, answer.message) == (500, "lstat /etc/passwd/x: not a directory")
    answer = put(engine, container, "/etc/passwd", TREE)
    assert (answer.status, answer.message) == (500, "extraction point is not a directory")
    answer = put(engine, container, "/tmp", b"this is no archive")
    assert (answer.status, answer.message) == (500, "unexpected EOF")
    answer = put(engine, container, "/tmp", tar([Entry("../../x", b"")]))
    assert (answer.status, answer.message) == (500, '"../../x" is outside of "/tmp"')


def test_kinds_are_kept_where_asked(engine: Engine) -> None:
    container = engine.create(["true"])
    put(engine, container, "/tmp", TREE)
    answer = put(engine, container, "/tmp", tar([Entry("d", b"")]), noOverwriteDirNonDir="true")
    assert answer.status == 500
    assert answer.message == 'cannot overwrite directory "/tmp/d" with non-directory "/tmp"'
    answer = put(engine, container, "/tmp", tar([folder("d"), folder("d/file")]), noOverwriteDirNonDir="true")
    assert answer.message == 'cannot overwrite non-directory "/tmp/d/file" with directory "/tmp"'
    assert put(engine, container, "/tmp", tar([Entry("d", b"now a file")])).status == 200
    assert content(get(engine, container, "/tmp/d").body, "d") == b"now a file"


def test_read_only(engine: Engine) -> None:
    with engine.folder() as (_, seen):
        container = engine.create(["true"], host={"ReadonlyRootfs": True, "Binds": ["wt-files:/rw", f"{seen}:/ro:ro"]})
        answer = put(engine, container, "/tmp", TREE)
        assert (answer.status, answer.message) == (500, "container rootfs is marked read-only")
        answer = put(engine, container, "/ro", TREE)
        assert (answer.status, answer.message) == (500, "mounted volume is marked read-only")
        assert put(engine, container, "/rw", TREE).status == 200
    assert engine.output(["cat", "/v/d/file"], host={"Binds": ["wt-files:/v"]}) == "content\n"


def test_binds_of_a_stopped_container(engine: Engine) -> None:
    with engine.folder() as (here, seen):
        (here / "host").write_text("of the host\n")
        container = engine.create(["true"], host={"Binds": [f"{seen}:/b"]})
        assert content(get(engine, container, "/b/host").body, "host") == b"of the host\n"
        assert put(engine, container, "/b", TREE).status == 200
        assert (here / "d" / "file").read_text() == "content\n"


def test_a_copy_is_seen_by_the_start_that_follows(engine: Engine) -> None:
    container = engine.create(["cat", "/tmp/d/file"])
    put(engine, container, "/tmp", TREE)
    engine.start(container)
    assert engine.wait(container) == 0
    assert engine.logs(container)[0] == b"content\n"


def test_start_while_a_copy_is_under_way(engine: Engine) -> None:
    if engine.name == "docker":
        return  # it starts only when the copy is done
    container = engine.create(["sh", "-c", "cat /tmp/d/file; echo written > /tmp/during"])
    put(engine, container, "/tmp", TREE)
    put(engine, container, "/var", tar([Entry("big", bytes(8 << 20))]))
    with engine.http.stream("GET", f"/containers/{container}/archive", path="/var/big") as stream:
        next(stream.chunks())  # the rest waits for us
        engine.start(container)
        assert engine.wait(container) == 0
        assert engine.logs(container)[0] == b"content\n"
        assert content(get(engine, container, "/tmp/during").body, "during") == b"written\n"


def test_names_that_are_not_utf_8(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo au lait >/tmp/$(printf 'caf\\351')"])
    assert engine.wait(container) == 0
    found = engine.http.get(f"/containers/{container}/changes")
    assert found.status == 200, found.body
    assert {"Kind": 1, "Path": "/tmp/caf\ufffd"} in found.json()
    path = b"/tmp/caf\xe9"
    answer = engine.http.get(f"/containers/{container}/archive", path=path)
    assert (answer.status, stat_of(answer)["name"]) == (200, "caf\ufffd")
    with tarfile.open(fileobj=io.BytesIO(answer.body), errors="surrogateescape") as opened:
        assert [member.name for member in opened] == ["caf\udce9"]
    answer = engine.http.get(f"/containers/{container}/archive", path=path + b"s")
    assert answer.status == 404
    assert "/tmp/caf\ufffds" in answer.message


def test_changes(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo x > /new; rm /etc/group; mkdir /dir; echo y >> /etc/passwd"])
    engine.wait(container)
    answer = engine.http.get(f"/containers/{container}/changes")
    found = sorted((change["Path"], change["Kind"]) for change in answer.json())
    assert found == [("/dir", 1), ("/etc", 0), ("/etc/group", 2), ("/etc/passwd", 0), ("/new", 1)]
    untouched = engine.create(["true"])
    assert engine.http.get(f"/containers/{untouched}/changes").json() is None
    answer = engine.http.get("/containers/wt-none/changes")
    assert (answer.status, answer.message) == (404, "No such container: wt-none")


@pytest.mark.parametrize("running", [False, True])
def test_export(engine: Engine, running: bool) -> None:
    host = {"Binds": ["wt-export:/v"]}
    container = engine.idle(host=host) if running else engine.create(["true"], host=host)
    put(engine, container, "/v", TREE)
    put(engine, container, "/", tar([Entry("mine", b"m")]))
    answer = engine.http.get(f"/containers/{container}/export")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    found = members(answer.body)
    assert {".dockerenv", "bin/busybox", "etc/passwd", "etc/hosts", "dev", "proc", "sys", "v", "mine"} <= found.keys()
    assert "v/d" not in found
    assert found["etc/hosts"].size == 0


def test_commit(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo x > /new; rm /etc/group; mkdir -p /dir/deep"], Labels={"own": "1"})
    engine.wait(container)
    query = {"repo": "wt-commit", "tag": "v1", "comment": "msg", "author": "me"}
    changes = ["ENV Q=1", 'CMD ["cat","/new"]', "LABEL more=2"]
    answer = engine.http.post("/commit", container=container, changes=changes, **query)
    assert answer.status == 201
    image = engine.http.get("/images/wt-commit:v1/json").json()
    assert image["Id"] == answer.json()["Id"]
    assert (image["Author"], image["Comment"], image["Config"]["Cmd"]) == ("me", "msg", ["cat", "/new"])
    assert "Q=1" in image["Config"]["Env"]
    assert image["Config"]["Labels"] == {"own": "1", "more": "2"}
    base = engine.http.get("/images/wt-base/json").json()
    assert image["Parent"] == base["Id"]
    assert image["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]
    assert engine.output("cat /new; ls -d /dir/deep; ls /etc/group 2>/dev/null || echo none", Image="wt-commit:v1") == (
        "x\n/dir/deep\nnone\n"
    )
    history = engine.http.get("/images/wt-commit:v1/history").json()
    assert history[0]["CreatedBy"].startswith("sh -c echo x > /new")
    assert history[0]["Comment"] == "msg"
    engine.tidy_containers()
    engine.http.delete("/images/wt-commit:v1")


def test_commit_of_nothing_adds_no_layer(engine: Engine) -> None:
    container = engine.create(["true"])
    answer = engine.http.post("/commit", container=container, repo="wt-commit-empty")
    assert answer.status == 201
    image = engine.http.get("/images/wt-commit-empty/json").json()
    assert image["RootFS"] == engine.http.get("/images/wt-base/json").json()["RootFS"]
    engine.http.delete("/images/wt-commit-empty")


def test_commit_of_a_running_container_lets_it_run_on(engine: Engine) -> None:
    container = engine.idle()
    engine.exec(container, "echo live > /live")
    assert engine.http.post("/commit", container=container, repo="wt-commit-live").status == 201
    assert engine.state(container)["Status"] == "running"
    assert engine.output(["cat", "/live"], Image="wt-commit-live") == "live\n"
    engine.tidy_containers()
    engine.http.delete("/images/wt-commit-live")


def test_commit_errors(engine: Engine) -> None:
    container = engine.create(["true"])
    answer = engine.http.post("/commit", container="wt-none")
    assert (answer.status, answer.message) == (404, "No such container: wt-none")
    answer = engine.http.post("/commit", container=container, changes=["FROM x"])
    assert (answer.status, answer.message) == (400, "FROM is not a valid change command")
    answer = engine.http.post("/commit", container=container, repo="BAD")
    assert answer.status == 400
