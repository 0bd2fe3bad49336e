"""Builds for several platforms: one graph for each, an index over what comes out, outputs of each kind."""

from __future__ import annotations

import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.build.client import Client, dockerfile
from tests.build.test_dressing import INDEX, Layout
from tests.support.images import Entry, config_json, docker_archive, tar
from tests.support.images import folder as directory
from tests.support.registries import debian_registry

BOTH = ("--platform", "linux/amd64,linux/s390x")
CROSS = """FROM --platform=$BUILDPLATFORM wt-base AS build
RUN echo for all > /shared
ARG TARGETPLATFORM
RUN echo "$TARGETPLATFORM" > /own
FROM scratch
COPY --from=build /shared /own /
"""
PLATFORMS = ["linux/amd64", "linux/s390x"]


def foreign_program() -> bytes:
    """A program of s390x (elf(5)), as far as a kernel looks at one."""
    identity = b"\x7fELF\2\2\1".ljust(16, b"\0")
    header = identity + struct.pack(">HHIQQQIHHHHHH", 2, 22, 1, 0x1000078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack(">IIQQQQQQ", 1, 5, 0, 0x1000000, 0x1000000, 128, 128, 4096)
    return (header + segment).ljust(128, b"\0")


def digests(layout: Layout, index: dict[str, Any]) -> dict[str, str]:
    """The files of each platform's last layer but one, by platform: what `own` says."""
    found = {}
    for described in index["manifests"]:
        platform = "/".join(described["platform"][key] for key in ("os", "architecture"))
        config = layout.document(layout.document(described)["config"])
        assert f"{config['os']}/{config['architecture']}" == platform
        found[platform] = described["digest"]
    return found


def test_an_index_of_them(client: Client, folder: Path, tmp_path: Path) -> None:
    dockerfile(folder, CROSS)
    archive, metadata, iidfile = tmp_path / "out.tar", tmp_path / "metadata", tmp_path / "iid"
    said = client.build(
        folder,
        *BOTH,
        *("--output", f"type=oci,dest={archive},annotation-index.a=b,annotation[linux/s390x].c=d"),
        *("--metadata-file", str(metadata), "--iidfile", str(iidfile), "-t", "wt-several:1"),
    ).stderr
    assert said.count("RUN echo for all") >= 1
    assert "[linux/amd64->s390x build 3/3] RUN echo " in said and "[linux/amd64 build 3/3] RUN echo " in said
    numbers = {line.split()[0] for line in said.splitlines() if "RUN echo for all" in line}
    assert len(numbers) == 1  # it is the same for both, and runs once
    layout = Layout(archive.read_bytes())
    (top,) = layout.index["manifests"]
    index = layout.document(top)
    assert top["mediaType"] == index["mediaType"] == INDEX and index["annotations"] == {"a": "b"}
    assert list(digests(layout, index)) == PLATFORMS
    noted = [layout.document(each).get("annotations") for each in index["manifests"]]
    assert noted == [None, {"c": "d"}]
    told = json.loads(metadata.read_bytes())
    assert told["containerimage.digest"] == top["digest"] == iidfile.read_text()
    assert "containerimage.config.digest" not in told


def test_what_the_store_holds_is_pushed_whole_and_goes_whole(client: Client, folder: Path, tmp_path: Path) -> None:
    dockerfile(folder, CROSS)
    with debian_registry(tmp_path / "registry") as registry:
        name = f"{registry.host}/several:1"
        client.build(folder, *BOTH, "-t", name, "--provenance=mode=max,version=v1")
        assert client.engine.http.get(f"/images/{name}/json").json()["Architecture"] == "amd64"
        listed = client("images", "-q", "--filter", "dangling=true").stdout
        assert listed == "" and "Total reclaimed space: 0B" in client("image", "prune", "-f").stdout
        tree = client("images", "--tree", name).stdout
        assert all(platform in tree for platform in PLATFORMS) and "0B" not in tree  # all of it is here
        every = client("images", "-aq").stdout.split()
        assert "digest: sha256:" in client("push", name).stdout
        assert client("rmi", name).stdout.count("Deleted: sha256:") >= 2
        assert len(client("images", "-aq").stdout.split()) == len(every) - 2
        for platform in PLATFORMS:
            client("pull", "--platform", platform, name)
            architecture = client.engine.http.get(f"/images/{name}/json").json()["Architecture"]
            assert platform == f"linux/{architecture}"


def test_pushed_by_digest_alone(client: Client, folder: Path, tmp_path: Path) -> None:
    dockerfile(folder, CROSS)
    with debian_registry(tmp_path / "registry") as registry:
        name = f"{registry.host}/unnamed"
        metadata = tmp_path / "metadata"
        client.build(
            folder,
            *BOTH,
            f"--output=type=image,name={name},push=true,push-by-digest=true",
            f"--metadata-file={metadata}",
        )
        digest = json.loads(metadata.read_bytes())["containerimage.digest"]
        client("rmi", name)
        assert "not found" in client("pull", name, code=1).stderr
        client("pull", f"{name}@{digest}")


def test_files_have_a_folder_each(client: Client, folder: Path, tmp_path: Path) -> None:
    dockerfile(folder, CROSS)
    client.build(folder, *BOTH, "-o", str(tmp_path / "out"), "--provenance=true", "--sbom=inline-only=true")
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    names = ("own", "provenance.json", "shared")
    assert found == {f"linux_{label}/{name}" for label in ("amd64", "s390x") for name in names}
    assert (tmp_path / "out/linux_s390x/own").read_text() == "linux/s390x\n"
    statement = json.loads((tmp_path / "out/linux_s390x/provenance.json").read_bytes())
    assert {subject["name"] for subject in statement["subject"]} == {"own", "shared"}
    archive = tmp_path / "out.tar"
    client.build(folder, *BOTH, f"--output=type=tar,dest={archive}")
    with tarfile.open(archive) as members:
        assert {each.name for each in members if each.isfile()} == {
            f"linux_{label}/{name}" for label in ("amd64", "s390x") for name in ("own", "shared")
        }
    said = client.build(folder, *BOTH, f"--output=type=local,dest={tmp_path}/one,platform-split=false", code=1).stderr
    assert "cannot overwrite own from linux/amd64 with linux/s390x when split option is disabled" in said


def test_one_platform_may_have_a_folder_too(client: Client, folder: Path, tmp_path: Path) -> None:
    dockerfile(folder, "FROM scratch\nCOPY Dockerfile /f\n")
    output = f"type=local,dest={tmp_path}/out,platform-split=true,attestation-prefix=x-"
    client.build(folder, "--platform=linux/arm/v7", "--output", output, "--sbom=true")
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"linux_arm_v7/f", "linux_arm_v7/x-sbom.spdx.json"}


def test_base_images_of_each_platform(client: Client, folder: Path, tmp_path: Path) -> None:
    """Both come from one index; afterwards the name means what runs here."""
    with debian_registry(tmp_path / "registry") as registry:
        name = f"{registry.host}/base:1"
        dockerfile(folder, "FROM scratch\nARG TARGETARCH\nENV OF=$TARGETARCH\nCOPY Dockerfile /f\n")
        client.build(folder, *BOTH, "-t", name, "--push")
        client("rmi", name)
        dockerfile(folder, f"FROM {name}\nCOPY Dockerfile /g\n")
        for _ in range(2):
            archive = tmp_path / "out.tar"
            client.build(folder, *BOTH, f"--output=type=oci,dest={archive}")
            layout = Layout(archive.read_bytes())
            index = layout.document(layout.index["manifests"][0])
            configs = [layout.document(layout.document(each)["config"]) for each in index["manifests"]]
            assert [config["architecture"] for config in configs] == ["amd64", "s390x"]
            assert [f"OF={config['architecture']}" in config["config"]["Env"] for config in configs] == [True, True]
        client("rmi", "-f", *client("images", "-aq", registry.host + "/base").stdout.split())
        client("image", "prune", "-f")
        client("pull", name)
        before = client.engine.http.get(f"/images/{name}/json").json()
        assert before["Architecture"] == "amd64" and before["RepoDigests"]
        client.build(folder, "--platform=linux/s390x", f"--output=type=oci,dest={archive}")
        assert client.engine.http.get(f"/images/{name}/json").json() == before


def test_programs_of_another_platform_need_an_emulator(client: Client, folder: Path) -> None:
    layer = tar([directory("bin"), Entry("bin/sh", foreign_program(), mode=0o755)])
    config = json.loads(config_json([layer])) | {"architecture": "s390x"}
    client.engine.load(docker_archive([layer], ["wt-foreign:1"], json.dumps(config).encode()))
    dockerfile(folder, "FROM wt-foreign:1\nRUN true\n")
    said = client.build(folder, "--platform=linux/s390x", code=1).stderr
    assert "exec format error" in said and "qemu-user-static" in said and "--platform=$BUILDPLATFORM" in said


def test_one_cache_of_all(client: Client, folder: Path, tmp_path: Path) -> None:
    dockerfile(folder, CROSS)
    cache = tmp_path / "cache"
    client.build(folder, *BOTH, "--cache-to", f"type=local,dest={cache},mode=max", "-t", "wt-first:1")
    client("rmi", "wt-first:1")
    client("builder", "prune", "-af")
    said = client.build(folder, *BOTH, "--cache-from", f"type=local,src={cache}", "-o", str(tmp_path / "out")).stderr
    assert sum(line.endswith(" CACHED") for line in said.splitlines()) == 2  # the last step of each
    assert (tmp_path / "out/linux_s390x/own").read_text() == "linux/s390x\n"


@pytest.mark.parametrize(
    "words, message",
    [
        (["--output=type=docker,dest=x"], "docker exporter does not currently support exporting manifest lists"),
        (["--platform=linux/nonsense/x/y"], "cannot parse platform specifier"),
        (["--plan"], "one platform at a time"),
        (["--annotation=manifest[linux/arm64]:a=b"], "linux/arm64, which is not built"),
    ],
)
def test_what_is_refused(client: Client, folder: Path, words: list[str], message: str) -> None:
    dockerfile(folder, CROSS)
    assert message in client.build(folder, *BOTH, *words, code=1).stderr
