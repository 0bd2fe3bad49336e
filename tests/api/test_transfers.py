"""Pulling from a real registry and pushing to it, as the real engine does."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.http import Response
from tests.support.images import Entry, base_tar, config_json, digest, docker_archive, tar
from tests.support.registries import PASSWORD, USER, Registry, debian_registry, put_blob, put_manifest

TOP = tar([Entry("top", b"top\n")])
NOBODY = base64.urlsafe_b64encode(b"{}").decode()
INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with debian_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with debian_registry(tmp_path_factory.mktemp("locked"), password=True) as registry:
        yield registry


@pytest.fixture(autouse=True)
def tidy_images(engine: Engine, registry: Registry, locked: Registry) -> Any:
    yield
    engine.tidy()
    for image in engine.http.get("/images/json").json():
        names = [*(image["RepoTags"] or []), *(image["RepoDigests"] or [])]
        for name in names:
            if name.startswith((registry.host, locked.host, "wt-app")):
                engine.http.delete(f"/images/{name}", force=1)


def pull(engine: Engine, name: str, tag: str = "", **query: Any) -> Response:
    return engine.http.post("/images/create", fromImage=name, **({"tag": tag} if tag else {}), **query)


def push(engine: Engine, name: str, tag: str = "", auth: str = NOBODY) -> Response:
    headers = {"X-Registry-Auth": auth}
    query = {"tag": tag} if tag else {}
    return engine.http.request("POST", f"/images/{name}/push", headers=headers, **query)


def words(answer: Response) -> list[str]:
    """What is said, without bars."""
    assert answer.status == 200, answer.body
    lines = answer.json_lines()
    return [
        f"{line.get('id', '')} {line['status']}".strip()
        for line in lines
        if "status" in line and "progress" not in line
    ]


def error(answer: Response) -> str:
    """The error at the end of a stream that began well."""
    assert answer.status == 200, answer.body
    last = answer.json_lines()[-1]
    assert last["errorDetail"]["message"] == last["error"]
    return str(last["error"])


def have(engine: Engine, name: str, *extra: bytes) -> str:
    """Load the base image and more layers under a name; its ID."""
    layers = [base_tar(), *extra]
    assert engine.load(docker_archive(layers, [name], Cmd=["cat", "/top"])).status == 200
    return str(engine.http.get(f"/images/{name}/json").json()["Id"])


def served(registry: Registry, path: str, accept: str) -> tuple[str, bytes]:
    """The digest that a registry tells, and what it serves."""
    request = urllib.request.Request(f"http://{registry.host}/v2/{path}", headers={"Accept": accept})
    with urllib.request.urlopen(request) as answer:
        return answer.headers["Docker-Content-Digest"], answer.read()


SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"


def test_push_remove_pull_run(engine: Engine, registry: Registry) -> None:
    name = f"{registry.host}/{engine.name}/round"
    identity = have(engine, f"{name}:1", TOP)
    pushed = push(engine, name, "1")
    lines = words(pushed)
    assert lines[0] == f"The push refers to repository [{name}]"
    for layer in (TOP, base_tar()):
        assert f"{digest(layer)[7:19]} Preparing" in lines
        assert any(line.startswith(f"{digest(layer)[7:19]} ") and line.endswith("Pushed") for line in lines)
    manifest, data = served(registry, f"{engine.name}/round/manifests/1", SCHEMA2)
    assert lines[-1] == f"1: digest: {manifest} size: {len(data)}"
    assert pushed.json_lines()[-1]["aux"] == {"Tag": "1", "Digest": manifest, "Size": len(data)}
    assert engine.http.get(f"/images/{name}:1/json").json()["RepoDigests"] == [f"{name}@{manifest}"]

    again = words(push(engine, name, "1"))
    assert sum(line.endswith("Layer already exists") for line in again) == 2
    assert again[-1] == lines[-1]

    assert engine.http.delete(f"/images/{name}:1", force=1).status == 200
    assert engine.http.get(f"/images/{name}:1/json").status == 404
    pulled = words(pull(engine, name, "1"))
    assert pulled[0] == f"1 Pulling from {engine.name}/round"
    assert sum(line.endswith(("Pull complete", "Already exists")) for line in pulled) == 2
    assert pulled[-2:] == [f"Digest: {manifest}", f"Status: Downloaded newer image for {name}:1"]
    assert engine.http.get(f"/images/{name}:1/json").json()["Id"] == identity
    assert engine.output(["cat", "/top"], name="wt-pulled", Image=f"{name}:1") == "top\n"
    assert words(pull(engine, name, "1")) == [
        f"1 Pulling from {engine.name}/round",
        f"Digest: {manifest}",
        f"Status: Image is up to date for {name}:1",
    ]


def test_by_digest(engine: Engine, registry: Registry) -> None:
    name = f"{registry.host}/{engine.name}/digest"
    identity = have(engine, f"{name}:1")
    push(engine, name, "1")
    manifest, _ = served(registry, f"{engine.name}/digest/manifests/1", SCHEMA2)
    engine.http.delete(f"/images/{name}:1", force=1)
    lines = words(pull(engine, name, manifest))
    assert lines[0] == f"{name}@{manifest} Pulling from {engine.name}/digest"
    assert lines[-1] == f"Status: Downloaded newer image for {name}@{manifest}"
    found = engine.http.get(f"/images/{name}@{manifest}/json").json()
    assert (found["Id"], found["RepoTags"], found["RepoDigests"]) == (identity, [], [f"{name}@{manifest}"])


def test_all_tags(engine: Engine, registry: Registry) -> None:
    name = f"{registry.host}/{engine.name}/tags"
    have(engine, f"{name}:a")
    have(engine, f"{name}:b", TOP)
    lines = words(push(engine, name))
    assert sorted(line.partition(":")[0] for line in lines if "digest: sha256" in line) == ["a", "b"]
    for tag in "ab":
        engine.http.delete(f"/images/{name}:{tag}", force=1)
    lines = words(pull(engine, name))
    assert sorted(line for line in lines if "Pulling from" in line) == [
        f"{tag} Pulling from {engine.name}/tags" for tag in "ab"
    ]
    assert lines[-1] == f"Status: Downloaded newer image for {name}"
    assert {tag for image in engine.http.get("/images/json").json() for tag in image["RepoTags"] or []} >= {
        f"{name}:a",
        f"{name}:b",
    }


def test_a_layer_is_mounted_from_another_repository(engine: Engine, registry: Registry) -> None:
    name, other = (f"{registry.host}/{engine.name}/{path}" for path in ("source", "target"))
    have(engine, f"{name}:1", tar([Entry("own", engine.name.encode())]))
    push(engine, name, "1")
    assert engine.http.post(f"/images/{name}:1/tag", repo=other, tag="1").status == 201
    lines = words(push(engine, other, "1"))
    assert f"{digest(base_tar())[7:19]} Mounted from {engine.name}/source" in lines
    first, _ = served(registry, f"{engine.name}/source/manifests/1", SCHEMA2)
    second, _ = served(registry, f"{engine.name}/target/manifests/1", SCHEMA2)
    assert first == second


def test_the_platform_is_chosen_from_an_index(engine: Engine, registry: Registry) -> None:
    repository = f"{engine.name}/platforms"
    manifests = []
    for architecture, variant in (("arm64", "v8"), ("amd64", "")):
        layer = tar([Entry("arch", architecture.encode())])
        config = config_json([layer]).replace(b'"amd64"', f'"{architecture}"'.encode())
        for blob in (layer, config):
            put_blob(registry.host, repository, blob, digest(blob))
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": digest(config),
                    "size": len(config),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.oci.image.layer.v1.tar",
                        "digest": digest(layer),
                        "size": len(layer),
                    }
                ],
            }
        ).encode()
        kind = "application/vnd.oci.image.manifest.v1+json"
        put_manifest(registry.host, repository, digest(manifest), kind, manifest)
        platform = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
        manifests.append({"mediaType": kind, "digest": digest(manifest), "size": len(manifest), "platform": platform})
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()
    put_manifest(registry.host, repository, "1", INDEX, index)
    name = f"{registry.host}/{repository}"

    lines = words(pull(engine, name, "1", platform="linux/arm64"))
    assert lines[-2] == f"Digest: {digest(index)}"
    found = engine.http.get(f"/images/{name}:1/json").json()
    assert (found["Architecture"], found["RepoDigests"]) == ("arm64", [f"{name}@{digest(index)}"])
    assert words(pull(engine, name, "1"))[-1] == f"Status: Downloaded newer image for {name}:1"
    assert engine.http.delete(f"/images/{found['Id']}").status == 200, "nothing is called so any more"
    assert engine.http.get(f"/images/{name}:1/json").json()["Architecture"] == "amd64"
    missing = error(pull(engine, name, "1", platform="linux/s390x"))
    assert missing.startswith("no matching manifest for linux/s390x in the manifest list entries")
    answer = pull(engine, name, "1", platform="a/b/c/d")
    assert (answer.status, answer.message) == (
        400,
        '"a/b/c/d": cannot parse platform specifier: invalid argument',
    )


def test_one_manifest_for_another_platform(engine: Engine, registry: Registry) -> None:
    name = f"{registry.host}/{engine.name}/single"
    have(engine, f"{name}:1")
    push(engine, name, "1")
    assert error(pull(engine, name, "1", platform="linux/arm64")) == (
        f"image with reference {name}:1 was found but does not match the specified platform: wanted linux/arm64,"
        " actual: linux/amd64"
    )


def test_what_cannot_be_pulled(engine: Engine, registry: Registry) -> None:
    name = f"{registry.host}/{engine.name}/refused"
    have(engine, f"{name}:1")
    push(engine, name, "1")
    nothing = "sha256:" + "0" * 64
    for tag, status, message in (
        ("2", 404, f"manifest for {name}:2 not found: manifest unknown: manifest unknown"),
        (nothing, 404, f"manifest for {name}@{nothing} not found: manifest unknown: manifest unknown"),
        ("a b", 400, "invalid tag format"),
        ("sha256:abc", 400, "invalid tag format"),
    ):
        answer = pull(engine, name, tag)
        assert (answer.status, answer.message) == (status, message)
    answer = pull(engine, f"{registry.host}/{engine.name}/nothing")
    assert (answer.status, answer.message) == (
        404,
        f"repository {registry.host}/{engine.name}/nothing not found: name unknown: repository name not known to"
        " registry",
    )
    answer = pull(engine, f"{registry.host}/UPPER", "1")
    assert answer.status == 400
    assert "must be lowercase" in answer.message


def test_what_cannot_be_pushed(engine: Engine, registry: Registry) -> None:
    name = f"{registry.host}/{engine.name}/unpushed"
    assert error(push(engine, name, "1")) == f"An image does not exist locally with the tag: {name}"
    have(engine, f"{name}:1")
    assert error(push(engine, name, "2")) == f"tag does not exist: {name}:2"
    assert error(push(engine, f"{name}@sha256:{'0' * 64}")) == "cannot push a digest reference"
    answer = engine.http.post(f"/images/{name}/push", tag="1")
    assert (answer.status, answer.message) == (
        400,
        "bad parameters and missing X-Registry-Auth: invalid X-Registry-Auth header: EOF",
    )


def test_a_registry_with_a_password(engine: Engine, locked: Registry) -> None:
    name = f"{locked.host}/{engine.name}/locked"
    have(engine, f"{name}:1")
    assert "no basic auth credentials" in error(push(engine, name, "1"))
    auth = base64.urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode()).decode()
    assert "digest: sha256" in words(push(engine, name, "1", auth))[-1]
    engine.http.delete(f"/images/{name}:1", force=1)
    answer = pull(engine, name, "1")
    assert answer.status == 500
    assert "no basic auth credentials" in answer.message
    answer = engine.http.request("POST", "/images/create", headers={"X-Registry-Auth": auth}, fromImage=name, tag="1")
    assert words(answer)[-1] == f"Status: Downloaded newer image for {name}:1"


def test_credentials_that_cannot_be_read_are_none(engine: Engine, registry: Registry) -> None:
    name = f"{registry.host}/{engine.name}/unread"
    have(engine, f"{name}:1")
    assert "digest: sha256" in words(push(engine, name, "1", auth="%%%"))[-1]
    answer = engine.http.request("POST", "/images/create", headers={"X-Registry-Auth": "%%%"}, fromImage=name, tag="1")
    assert words(answer)[-1] == f"Status: Image is up to date for {name}:1"


class _Slow(http.server.BaseHTTPRequestHandler):
    """One image whose layer comes a byte at a time; `left` is set when the one who asked for it has gone."""

    protocol_version = "HTTP/1.1"
    timeout = 1.0  # for one who speaks TLS, and sends no line
    asked = threading.Event()
    left = threading.Event()
    layer = bytes(1 << 20)
    config = config_json([layer])
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": SCHEMA2,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": digest(config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "digest": digest(layer),
                    "size": len(layer),
                }
            ],
        }
    ).encode()

    def log_message(self, *_: Any) -> None:
        """Nothing to the tests' output."""

    def do_GET(self) -> None:
        whole = {
            "/v2/": b"{}",
            "/v2/slow/manifests/1": self.manifest,
            f"/v2/slow/manifests/{digest(self.manifest)}": self.manifest,
            f"/v2/slow/blobs/{digest(self.config)}": self.config,
        }
        body = whole.get(self.path, self.layer)
        self.send_response(200)
        self.send_header("Content-Type", SCHEMA2)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", digest(body))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.path in whole:
            self.wfile.write(body)
            return
        self.asked.set()
        try:
            for byte in range(len(body)):
                self.wfile.write(body[byte : byte + 1])
                time.sleep(0.02)
        except OSError:
            self.left.set()

    do_HEAD = do_GET


def test_a_client_that_goes_away_ends_the_pull(engine: Engine) -> None:
    class Handler(_Slow):
        asked = threading.Event()
        left = threading.Event()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        name = f"127.0.0.1:{server.server_address[1]}/slow"
        with engine.http.stream("POST", "/images/create", fromImage=name, tag="1") as stream:
            assert "Pulling from slow" in json.loads(stream.next_line())["status"]
            assert Handler.asked.wait(20)
        assert Handler.left.wait(20), "the registry still sends"
        server.shutdown()
    assert engine.http.get(f"/images/{name}:1/json").status == 404
    if engine.name == "wherry":  # what had come is kept for the next attempt, until this
        engine.http.post("/images/prune", filters=json.dumps({"dangling": ["true"]}))


def test_events(engine: Engine, registry: Registry) -> None:
    name = f"{registry.host}/{engine.name}/events"
    have(engine, f"{name}:1")
    since = f"{time.time():.9f}"
    push(engine, name, "1")
    pull(engine, name, "1")
    until = f"{time.time():.9f}"
    seen = engine.http.get(
        "/events", since=since, until=until, filters=json.dumps({"type": ["image"], "event": ["push", "pull"]})
    ).json_lines()
    mine = [event for event in seen if event["Actor"]["ID"] == f"{name}:1"]
    assert [event["Action"] for event in mine] == ["push", "pull"]
    assert all(event["Actor"]["Attributes"]["name"] == name for event in mine)


def test_several_pulls_at_once(engine: Engine, registry: Registry) -> None:
    name = f"{registry.host}/{engine.name}/several"
    identity = have(engine, f"{name}:1", TOP)
    push(engine, name, "1")
    engine.http.delete(f"/images/{name}:1", force=1)

    def once(_: int) -> str:
        client = type(engine)(engine.name, engine.http.path)
        return words(pull(client, name, "1"))[-1]

    with ThreadPoolExecutor(4) as pool:
        assert all(line.startswith("Status: ") for line in pool.map(once, range(4)))
    assert engine.http.get(f"/images/{name}:1/json").json()["Id"] == identity
