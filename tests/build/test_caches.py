"""Caches between engines: what one build exports serves builds on another data root, and no step runs there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.client import Client, dockerfile
from tests.support.daemon import Wherryd, temporary_folder
from tests.support.images import Entry, base_tar, config_json, docker_archive, tar
from tests.support.registries import Registry

STAGES = """FROM wt-shared:1 AS one
COPY f /f
RUN cat /f > /once && date +%s%N > /when
FROM wt-shared:1 AS other
RUN date +%s%N > /elsewhen
FROM wt-shared:1
COPY --from=one /once /once
COPY --link --from=other /elsewhen /elsewhen
RUN echo last > /last
"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Wherryd]:
    daemon = Wherryd(temporary_folder())
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.dispose()


@pytest.fixture
def other(elsewhere: Wherryd, client: Client, tmp_path: Path) -> Iterator[Client]:
    """Another engine, with the same base image, and nothing of any build."""
    other = Client(elsewhere, tmp_path / "home-2")
    archive = docker_archive([base_tar()], ["wt-shared:1"], config_json([base_tar()], Env=["PATH=/bin"]))
    for each in (client, other):
        assert each.engine.load(archive).status == 200
    yield other
    for each in (client, other):
        each.engine.http.post("/build/prune", all=1)
        for image in each.engine.http.get("/images/json").json():
            if "wt-base:latest" not in (image["RepoTags"] or []):
                each.engine.http.delete(f"/images/{image['Id']}", force=1)


def cached(said: str) -> int:
    return sum(line.endswith(" CACHED") for line in said.splitlines())


def test_a_directory(client: Client, other: Client, folder: Path, tmp_path: Path) -> None:
    dockerfile(folder, STAGES)
    (folder / "f").write_text("f\n")
    cache = tmp_path / "cache"
    image = folder / "id"
    client.build(folder, f"--iidfile={image}", "--cache-to", f"type=local,dest={cache},mode=max")
    assert json.loads((cache / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    first = image.read_text()
    said = other.build(folder, f"--iidfile={image}", "--cache-from", f"type=local,src={cache}").stderr
    assert " DONE" not in said.partition("RUN echo last")[2].partition("\n\n")[0]
    assert image.read_text() == first, "the same image, since its steps are the same ones"
    assert cached(said) >= 1
    # a change in the last stage: what the others came to is there too
    dockerfile(folder, STAGES.replace("/once /once", "/once /when /"))
    said = other.build(folder, "--cache-from", f"type=local,src={cache}", "-t", "wt-later").stderr
    assert cached(said) == 2  # the last step of the two stages
    client.build(folder, "-t", "wt-later")
    when = client.run("wt-later", "cat", "/when", "/elsewhen")
    assert other.run("wt-later", "cat", "/when", "/elsewhen") == when, "no step ran a second time"
    assert not list(cache.rglob("*.part"))


@pytest.mark.parametrize(
    "options",
    ["", ",compression=zstd", ",image-manifest=false", ",oci-mediatypes=false", ",mode=max"],
)
def test_a_registry(client: Client, other: Client, folder: Path, registry: Registry, options: str) -> None:
    client.log_in(registry)
    other.log_in(registry)
    dockerfile(folder, f"FROM wt-shared:1\nRUN date +%s%N > /when-{len(options)}\nRUN echo 2 > /n\n")
    ref = f"{registry.host}/wt/cache:{len(options)}"
    image = folder / "id"
    client.build(folder, f"--iidfile={image}", "--cache-to", f"type=registry,ref={ref}{options}")
    first = image.read_text()
    said = other.build(folder, f"--iidfile={image}", "--cache-from", f"type=registry,ref={ref}").stderr
    assert f"importing cache manifest from {ref}" in said
    assert image.read_text() == first, said
    again = other.build(folder, f"--iidfile={image}").stderr
    assert image.read_text() == first and cached(again)


@pytest.mark.parametrize("words", [("--cache-to", "type=inline"), ("--build-arg", "BUILDKIT_INLINE_CACHE=1")])
def test_in_the_image(client: Client, other: Client, folder: Path, registry: Registry, words: tuple[str, ...]) -> None:
    client.log_in(registry)
    other.log_in(registry)
    dockerfile(folder, f"FROM wt-shared:1\nRUN date +%s%N > /when\nLABEL words='{words[0]}'\nRUN echo 2 > /n\n")
    name = f"{registry.host}/wt/inline:1"
    image = folder / "id"
    client.build(folder, "--push", "-t", name, f"--iidfile={image}", *words)
    first = client.engine.http.get(f"/images/{image.read_text()}/json").json()["RootFS"]
    other.build(folder, "-t", "wt-from-inline", "--cache-from", name)
    assert other.engine.http.get("/images/wt-from-inline/json").json()["RootFS"] == first


def test_a_local_image_through_the_classic_endpoint(client: Client, other: Client, folder: Path) -> None:
    """`cachefrom`: an image that was loaded, of whose steps this engine knows nothing else."""
    context = tar([Entry("Dockerfile", b"FROM wt-shared:1\nRUN date +%s%N > /when\nRUN echo 2 > /n\n")])
    query = {"cachefrom": json.dumps(["wt-with-cache", "wt-none"]), "t": "wt-classic"}
    arguments = json.dumps({"BUILDKIT_INLINE_CACHE": "1"})
    client.engine.http.post("/build", body=context, t="wt-with-cache", buildargs=arguments)
    archive = client.engine.http.get("/images/wt-with-cache/get").body
    assert other.engine.load(archive).status == 200
    said = other.engine.http.post("/build", body=context, **query).body.decode()
    assert said.count("Using cache") == 2 and "[Warning] the cache wt-none:latest is not used" in said
    when = other.run("wt-with-cache", "cat", "/when")
    assert other.run("wt-classic", "cat", "/when") == when


def test_what_is_not_there_is_no_failure(client: Client, folder: Path, registry: Registry) -> None:
    client.log_in(registry)
    dockerfile(folder, "FROM wt-base\nRUN echo without > /f\n")
    ref = f"{registry.host}/wt/no-such-cache:1"
    said = client.build(folder, "--cache-from", ref, "--cache-from", f"type=local,src={folder}/none").stderr
    assert said.count("is not used") == 2


def test_an_export_that_fails(client: Client, folder: Path, registry: Registry) -> None:
    """Without credentials; the image is kept either way."""
    dockerfile(folder, "FROM wt-base\nRUN echo unexported > /f\n")
    to = f"type=registry,ref={registry.host}/wt/forbidden:1"
    assert "no basic auth" in client.build(folder, "-t", "wt-kept", "--cache-to", to, code=1).stderr
    assert client.run("wt-kept", "cat", "/f") == "unexported\n"
    assert "was not exported" in client.build(folder, "--cache-to", f"{to},ignore-error=true").stderr


def test_a_layer_that_is_not_what_it_says_is_not_used(
    client: Client, other: Client, folder: Path, tmp_path: Path
) -> None:
    dockerfile(folder, "FROM wt-shared:1\nRUN echo genuine > /f\n")
    cache = tmp_path / "cache"
    client.build(folder, "--cache-to", f"type=local,dest={cache}")
    for blob in (cache / "blobs" / "sha256").iterdir():
        if blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.write_bytes(b"\0" + blob.read_bytes()[1:])
    said = other.build(folder, "-t", "wt-checked", "--cache-from", f"type=local,src={cache}").stderr
    assert "is not used for a step" in said
    assert other.run("wt-checked", "cat", "/f") == "genuine\n"
    shutil.rmtree(cache)


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--cache-to", "type=inline,mode=max", "mode=max needs another type"),
        ("--cache-to", "type=registry", "needs ref"),
        ("--cache-to", "type=local", "dest is required"),
        ("--cache-to", "type=registry,ref=x,compression=estargz", "it is gzip or zstd"),
        ("--cache-to", "type=registry,ref=x,force-compression=true", "force-compression is not supported"),
        ("--cache-to", "type=registry,ref=x,oci-mediatypes=false,image-manifest=true", "needs image-manifest=false"),
        ("--cache-from", "type=inline", "only written"),
    ],
)
def test_what_cannot_be_is_refused(client: Client, folder: Path, flag: str, value: str, words: str) -> None:
    dockerfile(folder, "FROM wt-base\n")
    assert words in client.build(folder, flag, value, code=1).stderr
