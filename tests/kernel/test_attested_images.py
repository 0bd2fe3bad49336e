"""What is attested about an image stays with it: pulled, pushed, saved, loaded and removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_registry import Document, FakeRegistry
from tests.support.image_store import BASE, TOP, Store
from tests.support.images import config_json, digest, docker_archive, oci_archive
from tests.support.transfers import BIG, packed, told
from wherry.errors import InvalidParameter
from wherry.model.filters import Filters
from wherry.model.manifests import MEDIA_MANIFEST
from wherry.model.reference import parse

NAME = "reg.test/team/app:1"
FILTERS = Filters.decode("{}")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "other")
    yield store
    store.database.close()


def attested(registry: FakeRegistry) -> Document:
    image = registry.put_image("team/app", "", [BASE, TOP])
    return registry.put_index("team/app", "1", {"linux/amd64": image}, registry.attest("team/app", image))


async def pull(store: Store, registry: FakeRegistry, name: str = NAME, platform: str = "") -> list[str]:
    return await told(store.transfers(registry)[0].pull(parse(name), platform=platform))


async def push(store: Store, registry: FakeRegistry, name: str = NAME) -> list[str]:
    return await told(store.transfers(registry)[1].push(parse(name)))


async def test_pulled_and_pushed_it_is_the_same(registry: FakeRegistry, store: Store) -> None:
    index = attested(registry)
    await pull(store, registry)
    image = store.images.resolve(NAME)
    assert image.repo_digests == [f"reg.test/team/app@{index.digest}"]
    assert [variant.descriptor.digest for variant in store.images.variants(image)[0]] == [
        store.images.records.manifests_of(image.id)[0].digest
    ], "only images are shown"
    await push(store, elsewhere := FakeRegistry())
    assert elsewhere.manifests == registry.manifests
    assert elsewhere.blobs == registry.blobs
    await store.images.recover()
    await push(store, again := FakeRegistry())
    assert again.manifests == registry.manifests
    await store.images.remove(NAME)
    assert await store.left() == []


async def test_saved_and_loaded_it_is_the_same(registry: FakeRegistry, store: Store, other: Store) -> None:
    attested(registry)
    await pull(store, registry)
    saved = await store.save(NAME)
    await other.load(saved)
    assert await other.save(NAME) == saved
    await push(other, elsewhere := FakeRegistry())
    assert elsewhere.manifests == registry.manifests
    await other.images.remove(NAME)
    assert await other.left() == []


async def test_an_index_of_two_platforms_is_whole_once_both_are_here(registry: FakeRegistry, store: Store) -> None:
    images = {"linux/amd64": registry.put_image("team/app", "", [BASE])}
    arm = config_json([TOP]).replace(b'"amd64"', b'"arm64"')
    images["linux/arm64"] = registry.put_image("team/app", "", [TOP], config=arm)
    registry.put_index("team/app", "1", images, *(registry.attest("team/app", image) for image in images.values()))
    await pull(store, registry, platform="linux/arm64")
    await pull(store, registry, platform="linux/amd64")
    await push(store, elsewhere := FakeRegistry())
    assert elsewhere.manifests == registry.manifests


async def test_of_an_index_that_is_not_whole_the_image_is_pushed(registry: FakeRegistry, store: Store) -> None:
    images = {platform: registry.put_image("team/app", "", [BASE]) for platform in ("linux/amd64", "linux/386")}
    images["linux/arm64"] = registry.put_image("team/app", "", [TOP])
    index = registry.put_index(
        "team/app", "1", images, *(registry.attest("team/app", image) for image in images.values())
    )
    await pull(store, registry, platform="linux/amd64")
    lines = await push(store, elsewhere := FakeRegistry())
    assert f"Not all of the index {index.digest} is here: only its image for linux/amd64 is pushed" in lines
    assert elsewhere.manifests["team/app"]["1"] == images["linux/amd64"]


async def test_indexes_in_an_index_go_along(registry: FakeRegistry, store: Store) -> None:
    inner = attested(registry)
    outer = {"linux/amd64": inner}
    registry.put_index("team/app", "1", outer)
    await pull(store, registry)
    await push(store, elsewhere := FakeRegistry())
    assert elsewhere.manifests == registry.manifests


async def test_what_is_attested_later_comes_with_the_next_pull(registry: FakeRegistry, store: Store) -> None:
    image = registry.put_image("team/app", "1", [BASE])
    await pull(store, registry)
    registry.put_index("team/app", "1", {"linux/amd64": image}, registry.attest("team/app", image))
    await pull(store, registry)
    await push(store, elsewhere := FakeRegistry())
    assert elsewhere.manifests["team/app"]["1"] == registry.manifests["team/app"]["1"]
    assert registry.asked[f"blob {digest(packed(BASE))}"] == 1
    await store.images.remove(NAME)
    assert await store.left() == []


def absent(registry: FakeRegistry, described: dict[str, Any]) -> None:
    del registry.manifests["team/app"][described["digest"]]


def without_blob(registry: FakeRegistry, described: dict[str, Any]) -> None:
    manifest = json.loads(registry.manifests["team/app"][described["digest"]].data)
    del registry.blobs["team/app"][manifest["layers"][0]["digest"]]


def of_another_size(registry: FakeRegistry, described: dict[str, Any]) -> None:
    described["size"] += 1


def lying(registry: FakeRegistry, described: dict[str, Any]) -> None:
    manifest = json.loads(registry.manifests["team/app"][described["digest"]].data)
    statement = manifest["layers"][0]["digest"]
    registry.lies[statement] = b"x" * len(registry.blobs["team/app"][statement])


def changed(registry: FakeRegistry, described: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads(registry.manifests["team/app"][described["digest"]].data)
    change(manifest)
    document = registry.put_document("team/app", MEDIA_MANIFEST, json.dumps(manifest).encode())
    described |= {"digest": document.digest, "size": len(document.data)}


def huge(registry: FakeRegistry, described: dict[str, Any]) -> None:
    changed(registry, described, lambda manifest: manifest["layers"][0].update(size=200 << 20))


def by_another_digest(registry: FakeRegistry, described: dict[str, Any]) -> None:
    changed(registry, described, lambda manifest: manifest["layers"][0].update(digest=f"sha512:{'a' * 128}"))


def no_manifest(registry: FakeRegistry, described: dict[str, Any]) -> None:
    changed(registry, described, lambda manifest: manifest.pop("config"))


@pytest.mark.parametrize("spoil", [absent, without_blob, of_another_size, lying, huge, by_another_digest, no_manifest])
async def test_an_image_is_whole_without_what_cannot_be_had(
    registry: FakeRegistry, store: Store, spoil: Callable[[FakeRegistry, dict[str, Any]], None]
) -> None:
    image = registry.put_image("team/app", "", [BASE])
    described = registry.attest("team/app", image)
    spoil(registry, described)
    registry.put_index("team/app", "1", {"linux/amd64": image}, described)
    await pull(store, registry)
    lines = await push(store, elsewhere := FakeRegistry())
    assert any(line.startswith("Not all of the index") for line in lines)
    assert elsewhere.manifests["team/app"]["1"] == image
    await store.images.remove(NAME)
    await store.images.prune(FILTERS)
    assert await store.left() == []


async def test_a_layout_keeps_its_manifest(registry: FakeRegistry, store: Store) -> None:
    await store.load(docker_archive([BASE, TOP], ["app:1"]))  # the same image otherwise
    await store.load(oci_archive([BASE, TOP], NAME))
    known = store.images.records.targets[NAME]
    await push(store, registry)
    assert registry.manifests["team/app"]["1"].digest == known
    assert set(registry.blobs["team/app"]) >= {digest(packed(BASE)), digest(packed(TOP))}
    await store.images.remove(NAME)
    await store.images.remove("app:1")
    assert await store.left() == []


async def test_a_layout_whose_blob_is_not_the_layer_is_refused(store: Store) -> None:
    await store.load(docker_archive([BASE, TOP], ["app:1"]))
    with pytest.raises(InvalidParameter, match="layer digest mismatch"):
        await store.load(oci_archive([BASE, BIG], NAME, config=config_json([BASE, TOP])))
    assert len(store.images.all()) == 1
