"""Reading manifests and indexes: strict where a lie could mislead."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter, NotFound, WherryError
from wherry.model import manifests
from wherry.model.manifests import (
    MEDIA_CONFIG,
    MEDIA_DOCKER_INDEX,
    MEDIA_DOCKER_MANIFEST,
    MEDIA_INDEX,
    MEDIA_MANIFEST,
    DescribedPlatform,
    Descriptor,
    Index,
    Manifest,
    choose,
    parse,
)
from wherry.model.platforms import Platform

HOST = Platform("linux", "amd64")
DIGEST = "sha256:" + "a" * 64


def layer(**changes: Any) -> dict[str, Any]:
    return {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 5} | changes


def manifest(**changes: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": MEDIA_MANIFEST,
        "config": {"mediaType": MEDIA_CONFIG, "digest": DIGEST, "size": 7},
        "layers": [layer()],
    }
    return json.dumps({key: value for key, value in (document | changes).items() if value is not None}).encode()


def index(*descriptors: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": descriptors} | changes).encode()


def described(platform: str, **changes: Any) -> Descriptor:
    os, architecture, *variant = platform.split("/")
    return Descriptor(
        MEDIA_MANIFEST, DIGEST, 5, platform=DescribedPlatform(architecture, os, "", "".join(variant)), **changes
    )


@pytest.mark.parametrize("media_type", [MEDIA_MANIFEST, "", "application/json", f"{MEDIA_MANIFEST}; charset=utf-8"])
@pytest.mark.parametrize("own", [MEDIA_MANIFEST, None])
def test_a_manifest_is_known_by_its_type_or_by_what_is_in_it(media_type: str, own: str | None) -> None:
    found = parse(media_type, manifest(mediaType=own))
    assert isinstance(found, Manifest)
    assert found.layers == [Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", DIGEST, 5)]


@pytest.mark.parametrize("media_type", [MEDIA_INDEX, MEDIA_DOCKER_INDEX])
def test_an_index_is_known_by_its_type(media_type: str) -> None:
    data = index({"mediaType": MEDIA_MANIFEST, "digest": DIGEST, "size": 3}, mediaType=media_type)
    assert isinstance(parse(media_type, data), Index)
    assert isinstance(parse("", data), Index)


@pytest.mark.parametrize(
    ("media_type", "data", "words"),
    [
        (MEDIA_MANIFEST, b"", "invalid manifest"),
        (MEDIA_MANIFEST, b"[]", "invalid manifest"),
        (MEDIA_MANIFEST, b"\xff", "invalid manifest"),
        (MEDIA_MANIFEST, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "invalid manifest"),
        (MEDIA_INDEX, manifest(), "calls itself"),
        (MEDIA_DOCKER_MANIFEST, manifest(), "calls itself"),
        (MEDIA_INDEX, manifest(mediaType=None), "an index and a manifest at once|an index without manifests"),
        (MEDIA_MANIFEST, manifest(manifests=[]), "an index and a manifest at once"),
        (MEDIA_MANIFEST, manifest(schemaVersion=3), "unsupported schema version 3"),
        (MEDIA_MANIFEST, manifest(layers=None), "no layers"),
        (MEDIA_MANIFEST, manifest(layers=[layer(digest="sha256:abc")]), "invalid checksum digest length"),
        (MEDIA_MANIFEST, manifest(layers=[layer(digest="md5:" + "a" * 32)]), "unsupported digest algorithm"),
        (MEDIA_MANIFEST, manifest(layers=[layer(digest="../../etc/passwd")]), "invalid checksum digest format"),
        (MEDIA_MANIFEST, manifest(layers=[layer(size=-1)]), "size of -1"),
        (MEDIA_MANIFEST, manifest(layers=[layer(size=1 << 63)]), "invalid manifest|size of"),
        (MEDIA_MANIFEST, manifest(layers=[layer()] * 181), "max depth exceeded"),
        (MEDIA_MANIFEST, manifest(config={"mediaType": MEDIA_CONFIG, "digest": DIGEST, "size": 1 << 30}), "at most"),
        (MEDIA_INDEX, index(*[layer()] * 1001), "at most"),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", b'{"schemaVersion": 1}', "schema 1"),
        ("", b'{"schemaVersion": 1, "fsLayers": [{"blobSum": "x"}]}', "schema 1"),
        ("", b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.artifact.manifest.v1+json"}', "not an image"),
    ],
)
def test_what_is_no_manifest_is_refused(media_type: str, data: bytes, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        parse(media_type, data)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": DIGEST, "size": 2}}, "helm"),
        ({"config": {"mediaType": "application/vnd.docker.plugin.v1+json", "digest": DIGEST, "size": 2}}, "plugin"),
        (
            {
                "artifactType": "application/spdx+json",
                "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": DIGEST, "size": 2},
            },
            "application/spdx",
        ),
        ({"artifactType": "application/spdx+json"}, "application/spdx"),
    ],
)
def test_an_artifact_is_refused_and_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter, match=rf"Encountered remote .*{words}.* when fetching"):
        parse(MEDIA_MANIFEST, manifest(**changes))


def test_the_best_platform_is_chosen() -> None:
    amd64, i386, v3, arm = (described(p) for p in ("linux/amd64", "linux/386", "linux/amd64/v3", "linux/arm64/v8"))
    unsaid = Descriptor(MEDIA_MANIFEST, DIGEST, 9)
    everything = Index(manifests=[unsaid, arm, v3, i386, amd64])
    assert choose(everything, HOST) is amd64
    assert choose(everything, Platform("linux", "amd64", "v4")) is v3
    assert choose(everything, Platform("linux", "arm64")) is arm
    assert choose(everything, Platform("linux", "s390x")) is unsaid
    assert choose(Index(manifests=[i386]), HOST) is i386


def test_no_platform_and_no_attestation_is_chosen_in_their_place() -> None:
    attestation = Descriptor(MEDIA_MANIFEST, DIGEST, 5, annotations={"vnd.docker.reference.type": "attestation"})
    with pytest.raises(NotFound, match="no matching manifest for linux/amd64 in the manifest list entries"):
        choose(Index(manifests=[attestation, described("linux/arm64"), described("unknown/unknown")]), HOST)


PLATFORMS = st.sampled_from(
    ["linux/amd64", "linux/386", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/amd64/v2", "windows/amd64"]
)


@given(st.lists(PLATFORMS, max_size=6), PLATFORMS)
def test_what_is_chosen_runs_there_and_nothing_better_is_left(names: list[str], wanted: str) -> None:
    target = Platform(*wanted.split("/"))
    offered = Index(manifests=[described(name) for name in names])
    order = [str(platform) for platform in target.runs()]
    try:
        chosen = choose(offered, target)
    except NotFound:
        assert not set(names) & set(order)
    else:
        found = manifests.platform_of(chosen)
        assert all(order.index(str(found)) <= order.index(name) for name in names if name in order)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(
    st.sampled_from([MEDIA_MANIFEST, MEDIA_INDEX, ""]),
    st.dictionaries(
        st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "artifactType", "fsLayers"]),
        JSON,
    ),
)
def test_whatever_comes_is_read_or_refused(media_type: str, changes: dict[str, Any]) -> None:
    document = json.loads(manifest()) | changes
    try:
        parse(media_type, json.dumps(document).encode())
    except WherryError:
        pass
