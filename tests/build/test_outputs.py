"""What `--output` makes: layers in each compression, the same bytes from two engines, and options that are refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.build.client import Client, dockerfile, engine_with_base
from tests.build.test_dressing import Layout
from tests.support.daemon import Wherryd
from tests.support.images import base_tar, docker_archive

LAYER = "application/vnd.oci.image.layer.v1.tar"
STEPS = "FROM wt-base\nRUN seq 9999 > /numbers\nCOPY f /f\n"
EPOCH = {"SOURCE_DATE_EPOCH": "1000000000"}


@pytest.fixture(scope="module")
def another() -> Iterator[Wherryd]:
    with engine_with_base() as daemon:
        yield daemon


@pytest.fixture
def folder(folder: Path) -> Path:
    (folder / "f").write_text("x" * 5000)
    dockerfile(folder, STEPS)
    return folder


def manifest_of(archive: Path) -> tuple[Layout, dict[str, Any]]:
    layout = Layout(archive.read_bytes())
    return layout, layout.document(layout.index["manifests"][0])


def plain(data: bytes, kind: str) -> bytes:
    if kind == "gzip":
        return gzip.decompress(data)
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read() if kind == "zstd" else data


@pytest.mark.parametrize(
    "options", ["gzip", "zstd", "uncompressed", "gzip,compression-level=9", "zstd,compression-level=1"]
)
def test_layers_as_they_are_asked_for(client: Client, folder: Path, tmp_path: Path, options: str) -> None:
    """Layers of the base stay as they are, until all are forced; what is in them is what the configuration says."""
    kind = options.partition(",")[0].replace("uncompressed", "")
    for forced in ("false", "true"):
        archive = tmp_path / f"{forced}.tar"
        client.build(folder, f"--output=type=oci,dest={archive},compression={options},force-compression={forced}")
        layout, manifest = manifest_of(archive)
        diff_ids = layout.document(manifest["config"])["rootfs"]["diff_ids"]
        wanted = f"{LAYER}+{kind}" if kind else LAYER
        made = manifest["layers"] if forced == "true" else manifest["layers"][-2:]
        assert [layer["mediaType"] for layer in made] == [wanted] * len(made)
        for layer, diff_id in zip(manifest["layers"], diff_ids, strict=True):
            stored = layout.members["blobs/" + layer["digest"].replace(":", "/")]
            found = plain(stored, layer["mediaType"].removeprefix(LAYER).removeprefix("+"))
            assert f"sha256:{hashlib.sha256(found).hexdigest()}" == diff_id


@pytest.mark.parametrize(
    "output",
    [
        "type=oci",
        "type=docker",
        "type=tar",
        "type=oci,compression=gzip",
        "type=oci,compression=gzip,compression-level=9",
        "type=oci,compression=zstd,rewrite-timestamp=true",
        "type=docker,compression=uncompressed,oci-mediatypes=false",
    ],
)
def test_two_engines_make_the_same(client: Client, another: Wherryd, folder: Path, tmp_path: Path, output: str) -> None:
    """Also when one of them has packed the image for something else before."""
    other = Client(another, tmp_path / "home-2")
    found = []
    for each in (client, other):
        assert each.engine.load(docker_archive([base_tar()], ["wt-same:1"], Env=["PATH=/bin"])).status == 200
    dockerfile(folder, STEPS.replace("wt-base", "wt-same:1"))
    client.build(folder, "-t", "wt-packed:1", "--annotation=a=b", **EPOCH)
    for number, each in enumerate((client, other)):
        archive = tmp_path / str(number)
        each.build(folder, "--output", f"{output},dest={archive}", **EPOCH)
        found.append(archive.read_bytes())
    assert found[0] == found[1]


def test_an_oci_layout_as_a_directory(client: Client, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "layout"
    client.build(folder, f"--output=type=oci,dest={place},tar=false", "-t", "wt-layout:1")
    (top,) = json.loads((place / "index.json").read_text())["manifests"]
    assert (place / "blobs" / top["digest"].replace(":", "/")).is_file()
    assert "is there already" in client.build(folder, f"--output=type=oci,dest={place},tar=false", code=1).stderr


def test_docker_media_types(client: Client, folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "out.tar"
    client.build(folder, f"--output=type=docker,dest={archive},oci-mediatypes=false")
    _, manifest = manifest_of(archive)
    kinds = {
        manifest["mediaType"],
        manifest["config"]["mediaType"],
        *(each["mediaType"] for each in manifest["layers"]),
    }
    assert all(kind.startswith("application/vnd.docker.") for kind in kinds)
    client("load", "-i", str(archive))


def test_what_is_attested_lies_beside_files(client: Client, folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "out.tar"
    client.build(folder, "--provenance=version=v1", "--sbom=true", f"--output=type=tar,dest={archive}")
    with tarfile.open(archive) as members:
        reader = members.extractfile("provenance.json")
        assert reader is not None
        statement = json.load(reader)
        names = set(members.getnames())
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1" and "sbom.spdx.json" in names
    subject = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    assert subject["f"] == hashlib.sha256((folder / "f").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "output, message",
    [
        ("type=image,compression=estargz", "compression=estargz is not supported"),
        ("type=image,compression=lzma", "unsupported layer compression type lzma"),
        ("type=image,compression-level=10", "gzip has levels 0 to 9"),
        ("type=image,compression=uncompressed,compression-level=1", "needs compression=gzip or zstd"),
        ("type=image,compression-level=x", "is no number"),
        ("type=image,store=false", "store is not supported: an image is always kept"),
        ("type=image,unpack=false", "unpack is not supported"),
        ("type=image,registry.insecure=true", "insecure-registries"),
        ("type=image,dangling-name-prefix=x", "give the image a name"),
        ("type=image,name-canonical=true", "name-canonical is not supported"),
        ("type=image,dest=x", "is no file"),
        ("type=image,what=x", "what is not supported"),
        ("type=image,push-by-digest=true", "push=true"),
        ("type=image,rewrite-timestamp=true", "rewrite-timestamp needs the time"),
        ("type=image,platform-split=true", "of the outputs local and tar"),
        ("type=image,oci-mediatypes=false,annotation.a=b", "oci-mediatypes=false"),
        ("type=oci,dest=x,oci-mediatypes=false", "oci-mediatypes=false"),
        ("type=tar,dest=x,compression=zstd", "are of images"),
        ("type=tar,dest=x,tar=false", "tar=false is of oci and docker"),
        ("type=docker,tar=false", "tar=false needs dest"),
        ("type=local", "dest is required"),
        ("type=nothing", "unknown type nothing"),
    ],
)
def test_what_is_refused(client: Client, folder: Path, output: str, message: str) -> None:
    assert message in client.build(folder, "--output", output, code=1).stderr


def test_a_layout_as_a_base_and_to_copy_from(client: Client, folder: Path, tmp_path: Path) -> None:
    """Where it has two platforms, each build takes its own; nothing of it stays in the store."""
    place = tmp_path / "layout"
    dockerfile(folder, "FROM scratch\nARG TARGETARCH\nENV OF=$TARGETARCH\nCOPY f /f\n")
    both = "--platform=linux/amd64,linux/s390x"
    client.build(folder, both, f"--output=type=oci,dest={place},tar=false", "-t", "wt-base-of:two")
    digest = json.loads((place / "index.json").read_text())["manifests"][0]["digest"]
    before = client("images", "-aq").stdout
    dockerfile(folder, "FROM inner\nCOPY --from=other /f /g\n")
    for ref in ("", ":two", f"@{digest}"):
        contexts = [f"--build-context={name}=oci-layout://{place}{ref}" for name in ("inner", "other")]
        archive = tmp_path / "out.tar"
        client.build(folder, both, *contexts, f"--output=type=oci,dest={archive}")
        layout = Layout(archive.read_bytes())
        for described in layout.document(layout.index["manifests"][0])["manifests"]:
            config = layout.document(layout.document(described)["config"])
            assert f"OF={config['architecture']}" in config["config"]["Env"] and len(config["rootfs"]["diff_ids"]) == 2
    assert client("images", "-aq").stdout == before
    client.build(folder, *contexts, "-t", "wt-kept:1")
    dockerfile(folder, "FROM inner\nCOPY f /g\n")
    said = client.build(folder, f"--build-context=inner=oci-layout://{place}:none", code=1).stderr
    assert "the directory has nothing with the tag none" in said
    said = client.build(folder, f"--build-context=inner=oci-layout://{tmp_path}/none", code=1).stderr
    assert "no OCI layout is there" in said
    (place / "blobs" / digest.replace(":", "/")).write_text("{}")
    said = client.build(folder, f"--build-context=inner=oci-layout://{place}", code=1).stderr
    assert "manifest verification failed" in said
