"""`wherry build` and registries: real ones, open and with a password."""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path

import pytest

from tests.build.client import Client, dockerfile
from tests.support.registries import PASSWORD, USER, Registry


def served(registry: Registry, name: str, tag: str) -> str:
    """The digest that the registry has under a name."""
    request = urllib.request.Request(f"http://{registry.host}/v2/{name}/manifests/{tag}", method="HEAD")
    request.add_header("Authorization", "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
    request.add_header("Accept", "application/vnd.docker.distribution.manifest.v2+json")
    with urllib.request.urlopen(request) as answer:
        digest: str = answer.headers["Docker-Content-Digest"]
        return digest


@pytest.mark.parametrize("words", [("--push",), ("-o", "type=image,push=true"), ("-o", "type=registry")])
def test_pushed_with_the_clients_credentials(
    client: Client, folder: Path, registry: Registry, words: tuple[str, ...]
) -> None:
    client.log_in(registry)
    dockerfile(folder, f"FROM wt-base\nRUN echo '{words}' > /f\n")
    name = f"{registry.host}/wt/pushed:1"
    said = client.build(folder, *words, "-t", name, f"--metadata-file={folder}/metadata").stderr
    digest = json.loads((folder / "metadata").read_text())["containerimage.digest"]
    assert served(registry, "wt/pushed", "1") == digest
    assert f"pushing {name}" in said and digest in said


def test_a_push_that_fails_fails_the_build_and_the_image_stays(
    client: Client, folder: Path, registry: Registry
) -> None:
    dockerfile(folder, "FROM wt-base\nRUN echo unpushed > /f\n")
    name = f"{registry.host}/wt/unpushed:1"
    said = client.build(folder, "--push", "-t", name, code=1).stderr
    assert "no basic auth credentials" in said
    assert client.run(name, "cat", "/f") == "unpushed\n"


def test_what_has_no_name_cannot_be_pushed(client: Client, folder: Path) -> None:
    dockerfile(folder, "FROM wt-base\n")
    assert "tag is needed when pushing to registry" in client.build(folder, "--push", code=1).stderr
    assert "only type=image can be pushed" in client.build(folder, "-o", "type=oci,push=true", code=1).stderr
