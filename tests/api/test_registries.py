"""Logging in, searching and asking registries over the API: statuses, words and shapes of both engines."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.engine import Engine
from tests.support.http import Response
from tests.support.registries import PASSWORD, USER, Registry, debian_registry, put_blob, put_manifest

CONFIG = b'{"architecture":"arm64","variant":"v8","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": DOCKER_CONFIG, "digest": digest(CONFIG), "size": len(CONFIG)},
        "layers": [],
    }
).encode()
DESCRIPTOR = {"mediaType": DOCKER_MANIFEST, "digest": digest(MANIFEST), "size": len(MANIFEST)}
LIST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": DOCKER_LIST,
        "manifests": [
            {**DESCRIPTOR, "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}},
            {**DESCRIPTOR, "platform": {"architecture": "amd64", "os": "linux"}},
        ],
    }
).encode()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with debian_registry(tmp_path_factory.mktemp("open")) as registry:
        put_blob(registry.host, "wt/x", CONFIG, digest(CONFIG))
        put_manifest(registry.host, "wt/x", "1", DOCKER_MANIFEST, MANIFEST)
        put_manifest(registry.host, "wt/x", "list", DOCKER_LIST, LIST)
        yield registry


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with debian_registry(tmp_path_factory.mktemp("password"), password=True) as registry:
        yield registry


class Hub(http.server.BaseHTTPRequestHandler):
    """Docker Hub's search."""

    FOUND = (
        {"name": "mysql", "description": "A\ndatabase", "star_count": 15000, "is_official": True, "is_automated": True},
        {"name": "bitnami/mysql", "description": "B", "star_count": 99, "is_official": False, "is_automated": False},
        {"name": "x/mysql", "description": "", "star_count": 1, "is_official": False, "is_automated": False},
    )

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        status, body = 404, b"no"
        if url.path == "/v1/_ping":
            status, body = 200, b"true"
        elif query.get("q") == ["ill"]:
            status = 500
        elif url.path == "/v1/search":
            found = self.FOUND[: int(query["n"][0])]
            status, body = 200, json.dumps({"num_results": len(found), "results": found}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def header(user: str, password: str) -> dict[str, str]:
    text = json.dumps({"username": user, "password": password})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(text.encode()).decode()}


def log_in(engine: Engine, server: str, user: str = USER, password: str = PASSWORD) -> Response:
    return engine.http.post("/auth", {"username": user, "password": password, "serveraddress": server})


def inspect(engine: Engine, name: str, headers: dict[str, str] | None = None) -> Response:
    return engine.http.request("GET", f"/distribution/{name}/json", headers=headers)


# --- POST /auth


def test_login(engine: Engine, registry: Registry, protected: Registry) -> None:
    for server in (protected.host, f"http://{protected.host}/v1/", registry.host):
        answer = log_in(engine, server)
        assert (answer.status, answer.json()) == (200, {"IdentityToken": "", "Status": "Login Succeeded"})


def test_login_refused(engine: Engine, protected: Registry) -> None:
    url = f"http://{protected.host}/v2/"
    answer = log_in(engine, protected.host, password="wrong")
    assert (answer.status, answer.message) == (500, f"login attempt to {url} failed with status: 401 Unauthorized")
    for user, password in (("", ""), (USER, "")):
        answer = log_in(engine, protected.host, user, password)
        assert (answer.status, answer.message) == (500, f'Get "{url}": no basic auth credentials')


def test_login_where_nobody_is(engine: Engine) -> None:
    answer = log_in(engine, "127.0.0.1:1")
    words = 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    assert (answer.status, answer.message) == (500, words)
    answer = log_in(engine, "nohost.invalid")
    assert answer.status == 500 and answer.message.startswith(
        'Get "https://nohost.invalid/v2/": dial tcp: lookup nohost'
    )


@pytest.mark.parametrize(("body", "words"), [("", "EOF"), ("{", "unexpected EOF")])
def test_login_with_a_body_that_is_none(engine: Engine, body: str, words: str) -> None:
    answer = engine.http.request("POST", "/auth", body=body.encode(), headers={"Content-Type": "application/json"})
    assert (answer.status, answer.message) == (500, words)


# --- GET /distribution


def test_distribution(engine: Engine, registry: Registry) -> None:
    for name in (f"{registry.host}/wt/x:1", f"{registry.host}/wt/x@{digest(MANIFEST)}"):
        answer = inspect(engine, name)
        platforms = [{"architecture": "arm64", "os": "linux", "variant": "v8"}]
        assert answer.status == 200
        assert answer.json()["Descriptor"] == DESCRIPTOR
        # The real engine forgets the variant here, and has it in a list.
        assert [{**found, "variant": "v8"} for found in answer.json()["Platforms"]] == platforms


def test_distribution_of_a_list(engine: Engine, registry: Registry) -> None:
    answer = inspect(engine, f"{registry.host}/wt/x:list")
    assert answer.json() == {
        "Descriptor": {"mediaType": DOCKER_LIST, "digest": digest(LIST), "size": len(LIST)},
        "Platforms": [
            {"architecture": "arm64", "os": "linux", "variant": "v8"},
            {"architecture": "amd64", "os": "linux"},
        ],
    }


def test_distribution_of_an_artifact(engine: Engine, registry: Registry) -> None:
    """It has no platform, and is told all the same."""
    kind = "application/vnd.oci.image.manifest.v1+json"
    put_blob(registry.host, "wt/chart", b"{}", digest(b"{}"))
    config = {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": digest(b"{}"), "size": 2}
    chart = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}).encode()
    put_manifest(registry.host, "wt/chart", "1", kind, chart)
    answer = inspect(engine, f"{registry.host}/wt/chart:1")
    assert answer.json() == {
        "Descriptor": {"mediaType": kind, "digest": digest(chart), "size": len(chart)},
        "Platforms": None,
    }


def test_distribution_of_what_is_not_there(engine: Engine, registry: Registry) -> None:
    for name in ("wt/x:2", "wt/none", f"wt/x@sha256:{'0' * 64}"):
        answer = inspect(engine, f"{registry.host}/{name}")
        assert (answer.status, answer.message) == (404, "manifest unknown: manifest unknown")


def test_distribution_with_credentials(engine: Engine, protected: Registry) -> None:
    name = f"{protected.host}/wt/x:1"
    answer = inspect(engine, name)
    words = f'Head "http://{protected.host}/v2/wt/x/manifests/1": no basic auth credentials'
    assert (answer.status, answer.message) == (500, words)
    assert inspect(engine, name, {"X-Registry-Auth": "!!"}).message == words
    answer = inspect(engine, name, header(USER, "wrong"))
    assert (answer.status, answer.message) == (401, "unauthorized: authentication required")
    answer = inspect(engine, name, header(USER, PASSWORD))
    assert (answer.status, answer.message) == (404, "manifest unknown: manifest unknown")


def test_distribution_of_names_that_are_none(engine: Engine) -> None:
    answer = inspect(engine, "BAD")
    words = "invalid reference format: repository name (library/BAD) must be lowercase"
    assert (answer.status, answer.message) == (400, words)
    for name in ("0" * 64, f"sha256:{'0' * 64}"):
        answer = inspect(engine, name)
        assert (answer.status, answer.message) == (500, "no manifest found for full image ID")


# --- GET /images/search


def search(engine: Engine, term: str, **query: Any) -> Response:
    return engine.http.get("/images/search", term=term, **query)


def test_search(engine: Engine, hub: str) -> None:
    found = search(engine, f"{hub}/mysql")
    assert found.status == 200
    assert found.json() == [{**each, "is_automated": False} for each in Hub.FOUND]
    assert len(search(engine, f"{hub}/mysql", limit=2).json()) == 2


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"is-official": ["true"]}, ["mysql"]),
        ({"is-official": ["0"]}, ["bitnami/mysql", "x/mysql"]),
        ({"stars": ["50"]}, ["mysql", "bitnami/mysql"]),
        ({"stars": ["5", "500"]}, ["mysql"]),
        ({"is-automated": ["true"]}, []),
        ({"is-official": {"true": True}, "stars": {"3": True}}, ["mysql"]),
    ],
)
def test_search_filters(engine: Engine, hub: str, filters: dict[str, Any], names: list[str]) -> None:
    assert [found["name"] for found in search(engine, f"{hub}/mysql", filters=json.dumps(filters)).json()] == names


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"filters": '{"is-official":["x"]}'}, "invalid filter 'is-official=[x]'"),
        ({"filters": '{"stars":["x"]}'}, "invalid filter 'stars=x': strconv.Atoi: parsing \"x\": invalid syntax"),
        ({"filters": '{"nope":["x"]}'}, "invalid filter 'nope'"),
        ({"filters": "{"}, "invalid filter"),
        ({"limit": "101"}, "limit 101 is outside the range of [1, 100]"),
        ({"limit": "x"}, 'invalid limit specified: strconv.Atoi: parsing "x": invalid syntax'),
    ],
)
def test_search_refused(engine: Engine, hub: str, query: dict[str, str], words: str) -> None:
    answer = search(engine, f"{hub}/mysql", **query)
    assert (answer.status, answer.message) == (400, words)


def test_search_where_it_fails(engine: Engine, hub: str) -> None:
    answer = search(engine, f"{hub}/ill")
    assert (answer.status, answer.message) == (500, "Unexpected status code 500")
    answer = search(engine, f"http://{hub}/x")
    words = f"invalid repository name: repository name (http://{hub}/x) should not have a scheme"
    assert (answer.status, answer.message) == (400, words)
    answer = search(engine, "127.0.0.1:1/x")
    assert answer.status == 400
    refused = "dial tcp 127.0.0.1:1: connect: connection refused"
    assert answer.message == (
        'invalid registry endpoint "http://127.0.0.1:1/v1/".'
        f' HTTPS attempt: Get "https://127.0.0.1:1/v1/_ping": {refused}.'
        f' HTTP attempt: Get "http://127.0.0.1:1/v1/_ping": {refused}'
    )


def test_a_plain_registry_is_searched_by_its_catalogue(engine: Engine, registry: Registry) -> None:
    answer = search(engine, f"{registry.host}/X")
    if engine.name == "docker":
        assert (answer.status, answer.message) == (500, "Unexpected status code 404")
    else:
        found = {"name": "wt/x", "description": "", "star_count": 0, "is_official": False, "is_automated": False}
        assert answer.json() == [found]
        assert search(engine, f"{registry.host}/none").json() == []
