"""Images: load, save, import, list, inspect, tag, remove."""

from __future__ import annotations

import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.images import (
    Entry,
    base_entries,
    base_tar,
    config_json,
    digest,
    docker_archive,
    folder,
    hard_link,
    oci_archive,
    symlink,
    tar,
)


@pytest.fixture(autouse=True)
def tidy_images(engine: Engine) -> Any:
    yield
    engine.tidy()
    for image in engine.http.get("/images/json").json():
        for name in image["RepoTags"] or []:
            if name.startswith("wt-") and name != "wt-base:latest":
                engine.http.delete(f"/images/{name}", force=1)


def small(name: str, text: bytes = b"small\n") -> bytes:
    return tar([folder("d"), Entry(f"d/{name}", text)])


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    answer = engine.http.get(f"/images/{name}/json")
    assert answer.status == 200, answer.body
    document = answer.json()
    assert isinstance(document, dict)
    return document


def test_load_an_archive(engine: Engine) -> None:
    config = config_json([base_tar(), small("a")], Env=["PATH=/bin", "A=1"], Cmd=["cat", "/d/a"], Labels={"l": "v"})
    answer = engine.load(docker_archive([base_tar(), small("a")], ["wt-load:1", "wt-load:2"], config))
    assert answer.status == 200
    streamed = "".join(line.get("stream", "") for line in answer.json_lines())
    assert streamed == "Loaded image: wt-load:1\nLoaded image: wt-load:2\n"
    image = inspect(engine, "wt-load:1")
    assert image["Id"] == digest(config)
    assert sorted(image["RepoTags"]) == ["wt-load:1", "wt-load:2"]
    assert image["RootFS"] == {"Type": "layers", "Layers": [digest(base_tar()), digest(small("a"))]}
    assert image["Config"]["Env"] == ["PATH=/bin", "A=1"]
    assert image["Config"]["Labels"] == {"l": "v"}
    assert (image["Os"], image["Architecture"]) == ("linux", "amd64")
    assert image["Created"] == "2024-01-02T03:04:05Z"
    assert image["Size"] > 1_000_000
    assert engine.output(["cat", "/d/a"], Image="wt-load:2") == "small\n"


def test_load_an_oci_layout(engine: Engine) -> None:
    for number, compress in enumerate((True, False)):
        layers = [base_tar(), small("b", b"%d" % number)]
        answer = engine.load(
            oci_archive(layers, f"wt-oci:{number}", compress=compress, Env=["PATH=/bin"], Cmd=["cat", "/d/b"])
        )
        assert answer.status == 200
        assert f"Loaded image: wt-oci:{number}" in answer.body.decode()
        assert inspect(engine, f"wt-oci:{number}")["RootFS"]["Layers"] == [digest(layer) for layer in layers]
        assert engine.output(["cat", "/d/b"], Image=f"wt-oci:{number}") == str(number)


def test_load_without_a_tag(engine: Engine) -> None:
    config = config_json([small("untagged")])
    answer = engine.load(docker_archive([small("untagged")], [], config))
    assert f"Loaded image ID: {digest(config)}" in answer.body.decode()
    assert inspect(engine, digest(config))["RepoTags"] == []
    assert engine.http.delete(f"/images/{digest(config)}").status == 200


def test_load_twice(engine: Engine) -> None:
    archive = docker_archive([small("twice")], ["wt-twice:1"])
    for _ in range(2):
        assert engine.load(archive).status == 200
    assert len([i for i in engine.http.get("/images/json").json() if "wt-twice:1" in i["RepoTags"]]) == 1


def test_load_moves_a_tag(engine: Engine) -> None:
    first, second = config_json([small("one")]), config_json([small("two")])
    engine.load(docker_archive([small("one")], ["wt-moved:1"], first))
    answer = engine.load(docker_archive([small("two")], ["wt-moved:1"], second))
    assert answer.status == 200
    assert inspect(engine, "wt-moved:1")["Id"] == digest(second)
    assert inspect(engine, digest(first))["RepoTags"] == []
    engine.http.delete(f"/images/{digest(first)}")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda archive: archive[: len(archive) // 2],
        lambda archive: b"this is no archive" * 100,
        lambda archive: b"",
    ],
    ids=["truncated", "not-a-tar", "empty"],
)
def test_broken_archives(engine: Engine, spoil: Any) -> None:
    before = engine.http.get("/images/json").json()
    answer = engine.load(spoil(docker_archive([base_tar(), small("x")], ["wt-broken:1"])))
    failed = answer.status >= 400 or b'"error"' in answer.body
    assert failed or b"Loaded" not in answer.body
    assert engine.http.get("/images/wt-broken:1/json").status == 404
    assert len(engine.http.get("/images/json").json()) == len(before)


def test_wrong_digest(engine: Engine) -> None:
    """The layer is not the one that the configuration names."""
    config = config_json([small("honest")])
    answer = engine.load(docker_archive([small("forged")], ["wt-forged:1"], config))
    assert answer.status >= 400 or b"error" in answer.body
    assert engine.http.get("/images/wt-forged:1/json").status == 404


def test_a_layer_count_that_is_wrong(engine: Engine) -> None:
    config = config_json([small("one"), small("two")])
    answer = engine.load(docker_archive([small("one")], ["wt-count:1"], config))
    assert answer.status >= 400 or b"error" in answer.body
    assert engine.http.get("/images/wt-count:1/json").status == 404


@pytest.mark.parametrize(
    "entries",
    [
        [Entry("../wt-escaped", b"x")],
        [symlink("out", "/tmp"), Entry("out/wt-escaped", b"x")],
        [symlink("out", "../../../../../../tmp"), Entry("out/wt-escaped", b"x")],
        [hard_link("inside", "../../../../../../etc/passwd")],
        [symlink("out", "/"), hard_link("inside", "out/etc/shadow")],
    ],
    ids=["dots", "absolute-parent", "relative-parent", "hard-link-out", "hard-link-through-symlink"],
)
def test_malicious_layers(engine: Engine, entries: list[Entry]) -> None:
    """No path leaves the layer: refused, or kept inside."""
    layer = tar([*base_entries(), *entries])
    answer = engine.load(docker_archive([layer], ["wt-evil:1"], Env=["PATH=/bin"], Cmd=["sh"]))
    if engine.http.get("/images/wt-evil:1/json").status == 200:
        assert answer.status == 200
        script = "cat /inside /etc/shadow 2>/dev/null; ls /tmp; true"
        out = engine.output(script, Image="wt-evil:1")
        assert "root:*:" not in out
        assert "root:!" not in out
    else:
        assert answer.status >= 400 or b"error" in answer.body
    with engine.folder() as (here, _):
        assert not (here.parent / "wt-escaped").exists()


def test_whiteouts(engine: Engine) -> None:
    first = tar(
        [
            folder("d"),
            Entry("d/gone", b""),
            Entry("d/kept", b""),
            folder("o"),
            Entry("o/hidden", b""),
            folder("r"),
            Entry("r/f", b""),
        ]
    )
    second = tar(
        [folder("d"), Entry("d/.wh.gone"), folder("o"), Entry("o/.wh..wh..opq"), Entry("o/new", b""), Entry(".wh.r")]
    )
    engine.load(docker_archive([base_tar(), first, second], ["wt-white:1"], Env=["PATH=/bin"], Cmd=["sh"]))
    assert engine.output("ls /d /o; test -e /r || echo no r", Image="wt-white:1") == "/d:\nkept\n\n/o:\nnew\nno r\n"


def test_what_a_layer_holds(engine: Engine) -> None:
    """Owners, modes, times, links and devices arrive as written."""
    layer = tar(
        [
            folder("k", 0o2750, 5, 6),
            Entry("k/suid", b"x", mode=0o4751, uid=1000, gid=77, mtime=1_234_567_890),
            Entry("k/hard", kind=tarfile.LNKTYPE, link="k/suid", mode=0o4751, uid=1000, gid=77, mtime=1_234_567_890),
            symlink("k/soft", "nowhere"),
            Entry("k/null", kind=tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
            Entry("k/fifo", kind=tarfile.FIFOTYPE, mode=0o600),
            Entry("k/" + "long" * 40, b"l"),
        ]
    )
    engine.load(docker_archive([base_tar(), layer], ["wt-kinds:1"], Env=["PATH=/bin"], Cmd=["sh"]))
    out = engine.output(
        "stat -c '%n %F %u:%g %a %h %Y' /k/suid /k/hard; stat -c '%n %F %u:%g %a' /k /k/fifo;"
        " stat -c '%n %F %t,%T' /k/null; readlink /k/soft; ls /k | wc -l; test /k/suid -ef /k/hard && echo same",
        Image="wt-kinds:1",
    )
    assert out.splitlines() == [
        "/k/suid regular file 1000:77 4751 2 1234567890",
        "/k/hard regular file 1000:77 4751 2 1234567890",
        "/k directory 5:6 2750",
        "/k/fifo fifo 0:0 600",
        "/k/null character special file 1,3",
        "nowhere",
        "6",
        "same",
    ]


def test_many_layers(engine: Engine) -> None:
    layers = [base_tar(), *(tar([folder("n"), Entry(f"n/{n}", b"%d" % n)]) for n in range(124))]
    answer = engine.load(docker_archive(layers, ["wt-many:1"], Env=["PATH=/bin"], Cmd=["sh"]))
    assert b"Loaded image: wt-many:1" in answer.body
    assert engine.output("cat /n/0 /n/123; ls /n | wc -l", Image="wt-many:1") == "0123124\n"


def saved(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {
            member.name: file.read() for member in archive if member.isfile() and (file := archive.extractfile(member))
        }


def test_save_round_trip(engine: Engine) -> None:
    config = config_json([base_tar(), small("saved")], Env=["PATH=/bin"], Cmd=["cat", "/d/saved"])
    engine.load(docker_archive([base_tar(), small("saved")], ["wt-save:1", "wt-save:2"], config))
    answer = engine.http.get("/images/get", names=["wt-save:1", "wt-save:2"])
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-tar"
    files = saved(answer.body)
    (manifest,) = json.loads(files["manifest.json"])
    assert sorted(manifest["RepoTags"]) == ["wt-save:1", "wt-save:2"]
    assert digest(files[manifest["Config"]]) == digest(config)
    assert [digest(files[layer]) for layer in manifest["Layers"]] == [digest(base_tar()), digest(small("saved"))]
    assert "index.json" in files
    for name in ("wt-save:1", "wt-save:2"):
        assert engine.http.delete(f"/images/{name}").status == 200
    assert engine.load(answer.body).status == 200
    assert inspect(engine, "wt-save:1")["Id"] == digest(config)
    assert engine.output(["cat", "/d/saved"], Image="wt-save:2") == "small\n"
    one = engine.http.get(f"/images/{digest(config)}/get")
    assert json.loads(saved(one.body)["manifest.json"])[0]["RepoTags"] is None


def test_save_of_nobody(engine: Engine) -> None:
    answer = engine.http.get("/images/get", names=["wt-nope:1"])
    assert answer.status == 404
    assert answer.message in ("reference does not exist", "No such image: wt-nope:1")


def test_import_with_changes(engine: Engine) -> None:
    identity = engine.import_image(
        base_tar(),
        "wt-import",
        "v1",
        "ENV PATH=/bin GREETING=hello",
        "LABEL a=b",
        "WORKDIR /www",
        "USER u",
        "EXPOSE 80/tcp",
        "VOLUME /data",
        'ENTRYPOINT ["sh", "-c"]',
        'CMD ["echo $GREETING; pwd; id -un"]',
    )
    image = inspect(engine, "wt-import:v1")
    assert image["Id"] == identity
    config = image["Config"]
    assert config["Env"] == ["PATH=/bin", "GREETING=hello"]
    assert config["Labels"] == {"a": "b"}
    assert (config["WorkingDir"], config["User"]) == ("/www", "u")
    assert config["ExposedPorts"] == {"80/tcp": {}}
    assert config["Volumes"] == {"/data": {}}
    code, out, _ = engine.result(None, Image="wt-import:v1")
    assert (code, out) == (0, b"hello\n/www\nu\n")
    assert image["RootFS"]["Layers"] == [digest(base_tar())]


@contextmanager
def web(archive: bytes) -> Iterator[str]:
    """A server that has one archive, and breaks off in the middle of another; its host and port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            whole = self.path == "/root.tar"
            if not whole and self.path != "/half.tar":
                return self.send_error(404, "Not Found", "the page")
            self.send_response(200)
            self.send_header("Content-Length", str(len(archive)))
            self.end_headers()
            self.wfile.write(archive if whole else archive[: len(archive) // 2])

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_import_from_a_url(engine: Engine) -> None:
    with web(base_tar()) as host:
        answer = engine.http.post("/images/create", fromSrc=f"{host}/root.tar", repo="wt-url", tag="v1")
        first, *importing, last = [json.loads(line) for line in answer.body.splitlines()]
        assert first == {"status": f"Downloading from http://{host}/root.tar"}
        assert importing[-1]["status"] == "Importing"
        assert importing[-1]["progressDetail"] == {"current": len(base_tar()), "total": len(base_tar())}
        assert importing[-1]["progress"].startswith("[==========")
        image = engine.http.get("/images/wt-url:v1/json").json()
        assert last == {"status": image["Id"]}
        assert image["Comment"] == f"Imported from {host}/root.tar"
        assert image["RootFS"]["Layers"] == [digest(base_tar())]

        answer = engine.http.post("/images/create", fromSrc=f"http://{host}/none", repo="wt-none")
        assert answer.status == 404
        assert f"failed to GET http://{host}/none with status 404 Not Found" in answer.json()["message"]
        answer = engine.http.post("/images/create", fromSrc=f"http://{host}/half.tar", repo="wt-none")
        assert answer.status >= 400 or b'"error"' in answer.body
        assert engine.http.get("/images/wt-none/json").status == 404
    answer = engine.http.post("/images/create", fromSrc="ftp://127.0.0.1/root.tar", repo="wt-none")
    words = 'Get "ftp://127.0.0.1/root.tar": unsupported protocol scheme "ftp"'
    assert (answer.status, answer.json()["message"]) == (500, words)
    answer = engine.http.post("/images/create", fromSrc=f"http://{host}/root.tar", repo="wt-none")
    assert answer.status == 500 and "connection refused" in answer.json()["message"]


def test_import_refused(engine: Engine) -> None:
    answer = engine.http.post("/images/create", body=base_tar(), fromSrc="-", repo="wt-bad", changes=["NONSENSE x"])
    assert answer.status == 400
    answer = engine.http.post("/images/create", body=base_tar(), fromSrc="-", repo="WT-BAD")
    assert answer.status == 400
    answer = engine.http.post("/images/create", body=b"no tar" * 1000, fromSrc="-", repo="wt-bad")
    assert answer.status >= 400 or b"error" in answer.body
    assert engine.http.get("/images/wt-bad/json").status == 404


def test_list(engine: Engine) -> None:
    engine.http.post("/images/wt-base/tag", repo="wt-listed", tag="1")
    engine.import_image(small("listed"), "wt-listed", "2", "LABEL wt-k=v")
    images = engine.http.get("/images/json").json()
    entry = next(i for i in images if "wt-listed:1" in (i["RepoTags"] or []))
    assert "wt-base:latest" in entry["RepoTags"]
    assert entry["Id"].startswith("sha256:")
    assert isinstance(entry["Created"], int)
    assert entry["Size"] > 1_000_000
    assert {"ParentId", "RepoDigests", "SharedSize", "Containers", "Labels"} <= entry.keys()

    def by(**filters: list[str]) -> list[str]:
        found = engine.http.get("/images/json", filters=filters).json()
        return sorted(tag for i in found for tag in i["RepoTags"] or [] if tag.startswith("wt-listed"))

    assert by(reference=["wt-listed"]) == ["wt-listed:1", "wt-listed:2"]
    assert by(reference=["wt-listed:2"]) == ["wt-listed:2"]
    assert by(reference=["wt-l*:1"]) == ["wt-listed:1"]
    assert by(label=["wt-k=v"]) == ["wt-listed:2"]
    assert by(dangling=["true"]) == by(dangling=["x", "1"]) == []
    for values in (["true", "false"], ["x", "y"]):
        answer = engine.http.get("/images/json", filters={"dangling": values})
        assert (answer.status, answer.message) == (400, f"invalid filter 'dangling=[{' '.join(values)}]'")
    answer = engine.http.get("/images/json", filters={"": ["x"]})
    assert (answer.status, answer.message) == (400, "invalid filter")
    assert "wt-listed:2" in by(since=["wt-base"])
    assert "wt-listed:1" not in by(since=["wt-base"])
    answer = engine.http.get("/images/json", filters={"nope": ["x"]})
    assert (answer.status, answer.message) == (400, "invalid filter 'nope'")


def test_tag(engine: Engine) -> None:
    image = inspect(engine, "wt-base")["Id"]
    for reference, repo, tag, name in (
        ("wt-base", "wt-tag", "", "wt-tag:latest"),
        ("wt-base:latest", "wt-tag", "1", "wt-tag:1"),
        (image, "wt-tag", "2", "wt-tag:2"),
        (image.removeprefix("sha256:")[:12], "localhost:5000/wt-tag", "3", "localhost:5000/wt-tag:3"),
    ):
        assert engine.http.post(f"/images/{reference}/tag", repo=repo, tag=tag).status == 201
        assert inspect(engine, name)["Id"] == image
    engine.http.delete("/images/localhost:5000/wt-tag:3")
    answer = engine.http.post("/images/wt-base/tag", repo="BAD")
    assert answer.status == 400
    assert "must be lowercase" in answer.message
    answer = engine.http.post("/images/wt-base/tag", repo="wt-tag", tag="!!")
    assert answer.status == 400


def test_inspect_by_prefix(engine: Engine) -> None:
    image = inspect(engine, "wt-base")["Id"]
    assert inspect(engine, image[:20])["Id"] == image
    assert inspect(engine, image.removeprefix("sha256:")[:10])["Id"] == image
    assert inspect(engine, image.removeprefix("sha256:"))["Id"] == image


def test_remove(engine: Engine) -> None:
    image = engine.import_image(small("removed"), "wt-rm", "1")
    engine.http.post("/images/wt-rm:1/tag", repo="wt-rm", tag="2")
    answer = engine.http.delete("/images/wt-rm:1")
    assert answer.json() == [{"Untagged": "wt-rm:1"}]
    answer = engine.http.delete("/images/wt-rm:2")
    assert answer.json()[0] == {"Untagged": "wt-rm:2"}
    assert answer.json()[1] == {"Deleted": image}
    assert {"Deleted": digest(small("removed"))} in answer.json()
    assert engine.http.get(f"/images/{image}/json").status == 404


def test_remove_by_id(engine: Engine) -> None:
    image = engine.import_image(small("by-id"), "wt-rm", "1")
    engine.http.post("/images/wt-rm:1/tag", repo="wt-rm2", tag="2")
    short = image.removeprefix("sha256:")[:12]
    answer = engine.http.delete(f"/images/{short}")
    assert (answer.status, answer.message) == (
        409,
        f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories",
    )
    answer = engine.http.delete(f"/images/{image}", force=1)
    assert sorted(entry["Untagged"] for entry in answer.json() if "Untagged" in entry) == ["wt-rm2:2", "wt-rm:1"]


def test_remove_while_used(engine: Engine) -> None:
    layers = [base_tar(), small("used")]
    engine.load(docker_archive(layers, ["wt-used:1"], Env=["PATH=/bin"], Cmd=["sh"]))
    image = inspect(engine, "wt-used:1")["Id"]
    short = image.removeprefix("sha256:")[:12]
    stopped = engine.create(["true"], Image="wt-used:1")
    answer = engine.http.delete("/images/wt-used:1")
    assert (answer.status, answer.message) == (
        409,
        f'conflict: unable to remove repository reference "wt-used:1" (must force) - container {stopped[:12]} '
        f"is using its referenced image {short}",
    )
    answer = engine.http.delete(f"/images/{short}")
    assert (answer.status, answer.message) == (
        409,
        f"conflict: unable to delete {short} (must be forced) - image is being used by stopped container "
        f"{stopped[:12]}",
    )
    running = engine.idle(Image="wt-used:1")
    engine.remove(stopped)
    answer = engine.http.delete(f"/images/{short}", force=1)
    assert (answer.status, answer.message) == (
        409,
        f"conflict: unable to delete {short} (cannot be forced) - image is being used by running container "
        f"{running[:12]}",
    )
    answer = engine.http.delete("/images/wt-used:1", force=1)
    assert answer.json() == [{"Untagged": "wt-used:1"}]
    assert engine.exec(running, ["cat", "/d/used"]) == (0, "small\n", "")
    engine.remove(running)
    assert engine.http.delete(f"/images/{image}").status == 200


def test_layers_are_shared_and_go_with_the_last_user(engine: Engine) -> None:
    for name in ("a", "b"):
        layers = [base_tar(), small("shared"), small(name)]
        engine.load(docker_archive(layers, [f"wt-shared:{name}"], Env=["PATH=/bin"], Cmd=["sh"]))
    deleted = [entry.get("Deleted") for entry in engine.http.delete("/images/wt-shared:a").json()]
    assert engine.output(["cat", "/d/shared", "/d/b"], Image="wt-shared:b") == "small\nsmall\n"
    engine.tidy()
    assert len(deleted) >= 2
    assert engine.http.delete("/images/wt-shared:b").status == 200


def test_history(engine: Engine) -> None:
    engine.load(docker_archive([base_tar(), small("h")], ["wt-hist:1"]))
    history = engine.http.get("/images/wt-hist:1/history").json()
    assert [entry["CreatedBy"] for entry in history] == ["layer 1", "layer 0"]
    assert history[0]["Tags"] == ["wt-hist:1"]
    assert history[0]["Size"] == len(b"small\n")
    assert history[1]["Id"] == "<missing>"
