"""Annotations and attestations: what `wherry build` makes of them, what a registry and an archive have then."""

from __future__ import annotations

import io
import json
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.build.client import Client, dockerfile
from tests.support.registries import debian_registry
from wherry.model.image import digest_of

Json = dict[str, Any]
INDEX = "application/vnd.oci.image.index.v1+json"
STATUS = "Package: hello\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.10-3\n\nPackage: gone\n"
STATUS += "Status: deinstall ok config-files\nVersion: 1\n"


@pytest.fixture
def folder(folder: Path) -> Path:
    (folder / "var/lib/dpkg").mkdir(parents=True)
    (folder / "var/lib/dpkg/status").write_text(STATUS)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: Some_Thing\nVersion: 3\n\nText: no\n")
    (folder / "os-release").write_text('NAME="x"\nID=debian\n')
    dockerfile(
        folder,
        "FROM scratch\nCOPY var /var\nCOPY os-release /usr/lib/os-release\n"
        "COPY METADATA /usr/lib/python3/dist-packages/Some_Thing-3.dist-info/METADATA\n",
    )
    return folder


class Layout:
    """An archive that is an OCI layout; every blob is what its name says."""

    def __init__(self, data: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            self.members = {each.name: archive.extractfile(each).read() for each in archive if each.isfile()}  # type: ignore[union-attr]
        for name, held in self.members.items():
            if name.startswith("blobs/"):
                assert digest_of(held) == name.removeprefix("blobs/").replace("/", ":")
        self.index: Json = json.loads(self.members["index.json"])

    def document(self, descriptor: Json) -> Json:
        held = self.members["blobs/" + descriptor["digest"].replace(":", "/")]
        assert len(held) == descriptor["size"]
        found: Json = json.loads(held)
        return found


def statements(layout: Layout, index: Json) -> dict[str, Json]:
    manifest = layout.document(index["manifests"][1])
    return {layer["annotations"]["in-toto.io/predicate-type"]: layout.document(layer) for layer in manifest["layers"]}


def test_an_image_with_all_of_it(client: Client, folder: Path, tmp_path: Path) -> None:
    archive, metadata, iidfile = tmp_path / "out.tar", tmp_path / "metadata", tmp_path / "iid"
    client.build(
        folder,
        *("--provenance=mode=max", "--sbom=true", "-t", "dressed:1", "--build-arg", "SOURCE_DATE_EPOCH=1000000000"),
        *(
            "--annotation",
            "one=1",
            "--annotation",
            "index,manifest:two=2",
            "--annotation",
            "manifest-descriptor:four=4",
        ),
        *("--annotation", "index-descriptor:five=5", "--metadata-file", str(metadata), "--iidfile", str(iidfile)),
        *("--output", f"type=oci,dest={archive},annotation.Six=6,annotation-index.seven=7"),
    )
    layout = Layout(archive.read_bytes())
    (top,) = layout.index["manifests"]
    assert top["mediaType"] == INDEX and top["annotations"]["five"] == "5"
    assert top["annotations"]["io.containerd.image.name"] == "docker.io/library/dressed:1"
    index = layout.document(top)
    assert index["annotations"] == {"two": "2", "seven": "7"}
    image, attested = index["manifests"]
    assert image["annotations"] == {"four": "4"} and image["platform"]["os"] == "linux"
    assert attested["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert attested["annotations"] == {
        "vnd.docker.reference.digest": image["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    manifest = layout.document(image)
    assert manifest["annotations"] == {"one": "1", "two": "2", "Six": "6"}
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    found = statements(layout, index)
    subject = {"sha256": image["digest"].removeprefix("sha256:")}
    for kind, statement in found.items():
        assert statement["predicateType"] == kind
        assert [each["digest"] for each in statement["subject"]] == [subject]
        assert statement["subject"][0]["name"].startswith("pkg:docker/dressed@1?platform=linux%2F")
    listed = found["https://spdx.dev/Document"]["predicate"]
    assert {(each["name"], each.get("versionInfo")) for each in listed["packages"]} == {
        ("dressed:1", None),
        ("hello", "2.10-3"),
        ("some-thing", "3"),
    }
    assert listed["creationInfo"]["created"] == "2001-09-09T01:46:40Z"
    provenance = found["https://slsa.dev/provenance/v0.2"]["predicate"]
    assert provenance["invocation"]["parameters"]["args"] == {"build-arg:SOURCE_DATE_EPOCH": "1000000000"}
    told = json.loads(metadata.read_bytes())
    assert told["containerimage.digest"] == top["digest"] == iidfile.read_text()
    assert told["containerimage.descriptor"]["annotations"] == {"five": "5"}
    assert "containerimage.config.digest" not in told
    assert told["buildx.build.provenance"] == provenance
    assert "dressed" not in client("images").stdout


def test_it_is_pushed_and_saved_as_it_is(client: Client, folder: Path, tmp_path: Path) -> None:
    metadata = tmp_path / "metadata"
    with debian_registry(tmp_path / "registry") as registry:
        name = f"{registry.host}/dressed:1"
        client.build(folder, "-t", "first:1", "--sbom=1", "--provenance=1", "--metadata-file", str(metadata))
        digest = json.loads(metadata.read_bytes())["containerimage.digest"]
        client("tag", "first:1", name)
        assert digest in client("push", name).stdout
        request = urllib.request.Request(f"http://{registry.host}/v2/dressed/manifests/1", headers={"Accept": INDEX})
        with urllib.request.urlopen(request) as answer:
            sent = answer.read()
        assert digest_of(sent) == digest
        for each in json.loads(sent)["manifests"]:
            with urllib.request.urlopen(
                urllib.request.Request(
                    f"http://{registry.host}/v2/dressed/manifests/{each['digest']}",
                    headers={"Accept": each["mediaType"]},
                )
            ) as answer:
                for layer in json.loads(answer.read())["layers"]:
                    url = f"http://{registry.host}/v2/dressed/blobs/{layer['digest']}"
                    with urllib.request.urlopen(url) as blob:
                        assert digest_of(blob.read()) == layer["digest"]
        archive = tmp_path / "saved.tar"
        client("save", "-o", str(archive), "first:1")
        layout = Layout(archive.read_bytes())
        assert layout.index["manifests"][0]["digest"] == digest
        assert len(statements(layout, layout.document(layout.index["manifests"][0]))) == 2
        client("rmi", "first:1", name)
        client("pull", name)
        client("rmi", name)
        assert client("load", "-i", str(archive)).stdout == "Loaded image: first:1\n"


def test_the_same_digests_with_an_epoch(client: Client, folder: Path, tmp_path: Path) -> None:
    found = []
    for number in range(2):
        iidfile = tmp_path / str(number)
        client.build(folder, "--no-cache", "--sbom=1", "--iidfile", str(iidfile), SOURCE_DATE_EPOCH="1000000000")
        found.append(iidfile.read_text())
    assert found[0] == found[1] != ""


def test_annotations_alone_need_no_index(client: Client, folder: Path, tmp_path: Path) -> None:
    metadata, iidfile = tmp_path / "metadata", tmp_path / "iid"
    written = ("--metadata-file", str(metadata), "--iidfile", str(iidfile))
    client.build(folder, "-t", "noted:1", "--annotation", "a=b", *written)
    told = json.loads(metadata.read_bytes())
    assert told["containerimage.descriptor"]["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert told["containerimage.config.digest"] == iidfile.read_text() != told["containerimage.digest"]
    assert told["image.name"] == "docker.io/library/noted:1"


def test_what_is_attested_before_goes_with_the_next_build(client: Client, folder: Path) -> None:
    """Provenance has times, so each build has an index of its own; only the one that the name means is kept."""
    blobs = client.daemon.data / "blobs"

    def held() -> int:
        client.build(folder, "-t", "other:1", "--label=x=y")
        client("rmi", "other:1")  # what nobody needs goes when an image does
        return sum(path.is_file() for path in blobs.rglob("*"))

    client.build(folder, "-t", "again:1", "--provenance=1")
    first = held()
    client.build(folder, "-t", "again:1", "--provenance=1")
    client.build(folder, "-t", "again:1", "--provenance=1")
    assert held() == first


@pytest.mark.parametrize(
    "words, message",
    [
        (["--annotation", "a"], 'invalid annotation "a", expected key=value'),
        (["--annotation", "bad:a=b"], 'unknown annotation type "bad"'),
        (["--annotation", "index:a=b"], "without attestations has none"),
        (["--annotation", "manifest[linux/s390x]:a=b"], "linux/s390x, which is not built"),
        (["--annotation", "a=b", "--output=type=tar,dest=x"], "annotations are of images"),
        (["--provenance=mode=foo"], 'invalid mode "foo"'),
        (["--provenance=version=v2"], "invalid provenance version v2: v0.2 or v1"),
        (["--sbom=generator=a/B"], "invalid reference format"),
        (["--attest=type=foo"], 'unknown attestation type "foo"'),
        (["--attest=type=sbom", "--sbom=true"], "duplicate attestation field sbom"),
    ],
)
def test_what_is_refused(client: Client, folder: Path, words: list[str], message: str) -> None:
    assert message in client.build(folder, *words, code=1).stderr
