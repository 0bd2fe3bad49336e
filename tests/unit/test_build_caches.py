"""Documents of build caches: what is written is read again, and what is hostile is refused or passed over."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter
from wherry.model import build_caches
from wherry.model.build_caches import Offer, Result
from wherry.model.image import digest_of
from wherry.model.manifests import Descriptor

DIGESTS = st.integers(0, 5).map(lambda number: digest_of(bytes([number])))
KEYS = st.integers(0, 50).map(lambda number: digest_of(f"key {number}".encode()).removeprefix("sha256:"))
CHAINS = st.lists(DIGESTS, min_size=1, max_size=5).map(tuple)
RESULTS = st.dictionaries(KEYS, st.builds(Result, CHAINS, st.integers(0, 2**62)), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["layers", "records", "digest",
        "parent", "blob", "layer", "manifests", "config", "mediaType", "annotations", "size"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def blobs(results: dict[str, Result]) -> dict[str, Descriptor]:
    diff_ids = {diff_id for result in results.values() for diff_id in result.diff_ids}
    return {diff_id: Descriptor("layer", digest_of(diff_id.encode()), 7) for diff_id in sorted(diff_ids)}


@given(RESULTS, st.booleans(), st.booleans())
def test_what_is_written_is_read_again(results: dict[str, Result], image: bool, oci: bool) -> None:
    document = build_caches.configuration(results, blobs(results))
    config = build_caches.described(document)
    _, manifest = build_caches.manifest(config, blobs(results), image=image, oci=oci)
    found = build_caches.parts_of(manifest)
    assert found is not None and found[0] == config
    offer = build_caches.read(document, found[1])
    assert offer.results == results
    assert {name: blob.digest for name, blob in offer.blobs.items()} == {
        name: blob.digest for name, blob in blobs(results).items()
    }


@given(RESULTS, CHAINS)
def test_an_image_holds_what_it_is_made_of(results: dict[str, Result], diff_ids: tuple[str, ...]) -> None:
    text = build_caches.inline(results, diff_ids)
    own = {key: result for key, result in results.items() if result.diff_ids == diff_ids[: len(result.diff_ids)]}
    assert (build_caches.read_inline(text, diff_ids, ()).results if text else {}) == own


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_anything_at_all(document: bytes) -> None:
    for read in (
        build_caches.parts_of,
        lambda data: build_caches.read(data, [Descriptor("", digest_of(b"x"), 1)]),
        lambda data: build_caches.read_inline(base64.b64encode(data).decode(), (digest_of(b"x"),), ()),
    ):
        try:
            read(document)
        except InvalidParameter as error:
            assert "invalid cache" in str(error)


A, B = digest_of(b"a"), digest_of(b"b")
LAYER = Descriptor("", A, 1, {"containerd.io/uncompressed": B})


def read(layers: list[dict[str, Any]], *, place: int = 0, key: str = A) -> Offer:
    document = {"layers": layers, "records": [{"digest": key, "layers": [{"layer": place}], "inputs": [[{"link": 7}]]}]}
    return build_caches.read(json.dumps(document).encode(), [LAYER])


def test_one_layer() -> None:
    assert read([{"blob": A, "parent": -1}]).results == {A.removeprefix("sha256:"): Result((B,))}


@pytest.mark.parametrize(
    "layers",
    [
        [{"blob": A, "parent": 0}],  # its own parent
        [{"blob": A, "parent": 1}, {"blob": A, "parent": 0}],
        [{"blob": A, "parent": 9}],
        [{"blob": A, "parent": -2}],
        [{"blob": B, "parent": -1}],  # that no manifest describes
        [],
    ],
)
def test_chains_that_cannot_be_are_passed_over(layers: list[dict[str, Any]]) -> None:
    assert read(layers).results == {}


@pytest.mark.parametrize("place", [-1, 1, -(2**40)])
def test_layers_that_are_not_there_are_passed_over(place: int) -> None:
    assert read([{"blob": A, "parent": -1}], place=place).results == {}


def test_what_is_too_much_is_refused() -> None:
    records = [{"digest": A}] * (build_caches.RECORDS_MAX + 1)
    with pytest.raises(InvalidParameter, match="at most 100000"):
        build_caches.read(json.dumps({"records": records}).encode(), [])
    many = [{"digest": A, "layers": [{"layer": 0}] * build_caches.RECORDS_MAX}]
    with pytest.raises(InvalidParameter, match="at most 100000"):
        build_caches.read(json.dumps({"records": many}).encode(), [])
    with pytest.raises(InvalidParameter, match="at most 100000"):
        build_caches.read_inline(base64.b64encode(json.dumps(many).encode()).decode(), (A,), ())
    config = {"mediaType": build_caches.MEDIA_CACHE, "digest": A, "size": build_caches.CONFIG_MAX + 1}
    with pytest.raises(InvalidParameter, match="at most 16777216"):
        build_caches.parts_of(json.dumps({"config": config}).encode())
    with pytest.raises(InvalidParameter, match="base64"):
        build_caches.read_inline("!", (), ())
    with pytest.raises(InvalidParameter, match="no text"):
        build_caches.read_inline(7, (), ())


def test_a_layer_without_a_usable_digest_is_none() -> None:
    odd = [Descriptor("", "sha512:" + "0" * 128, 1, {"containerd.io/uncompressed": B}), Descriptor("", A, 1)]
    odd.append(Descriptor("", A, -1, {"containerd.io/uncompressed": B}))
    assert build_caches.read(b"{}", odd) == Offer()


def test_an_image_is_no_cache() -> None:
    assert build_caches.parts_of(b'{"config": {"mediaType": "x"}, "layers": []}') is None
    assert build_caches.parts_of(b'{"manifests": []}') is None


def test_records_as_buildkit_writes_them() -> None:
    """With inputs and selectors, and a record that only others stand on."""
    inputs = [[{"selector": A, "link": 1}]]
    made = {"layers": [{"layer": 1, "createdAt": "2026-11-24T17:42:40.470800788Z"}], "digest": A, "inputs": inputs}
    text = base64.b64encode(json.dumps([made, {"digest": B}]).encode()).decode()
    assert build_caches.read_inline(text, (B, A), ()).results == {
        A.removeprefix("sha256:"): Result((B, A), 1_795_542_160_470_800_788)
    }
