"""Pulling from a registry and pushing to it: what is fetched, shared, kept, believed and said."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.support.fake_registry import FakeRegistry
from tests.support.image_store import BASE, TOP, Store
from tests.support.images import Entry, config_json, digest, docker_archive, tar
from tests.support.transfers import BIG, packed, told, until
from wherry.engine.transfers.imports import Imports
from wherry.errors import InvalidParameter, NotFound, SystemFailure, WherryError
from wherry.model.credentials import Credentials
from wherry.model.filters import Filters
from wherry.model.manifests import MEDIA_DOCKER_LAYER, MEDIA_LAYER
from wherry.model.reference import parse
from wherry.model.registry_options import RegistryOptions

REPOSITORY = "reg.test/team/app"
OTHER = "reg.test/other/app"


def short(data: bytes) -> str:
    return digest(data)[7:19]


async def test_an_image_comes_in_and_is_there_the_second_time(registry: FakeRegistry, store: Store) -> None:
    document = registry.put_image("team/app", "1", [BASE, TOP])
    pulls, _ = store.transfers(registry)
    first = await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    assert first[0] == "1 Pulling from team/app"
    assert first[-2:] == [f"Digest: {document.digest}", f"Status: Downloaded newer image for {REPOSITORY}:1"]
    for layer in (packed(BASE), packed(TOP)):
        steps = [line.partition(" ")[2] for line in first if line.startswith(short(layer))]
        assert [step for step in steps if step != "Waiting"] == [
            "Pulling fs layer",
            "Verifying Checksum",
            "Download complete",
            "Pull complete",
        ]
    image = store.images.resolve(f"{REPOSITORY}:1")
    assert image.diff_ids == [digest(BASE), digest(TOP)]
    assert image.repo_digests == [f"{REPOSITORY}@{document.digest}"]
    assert store.told() == [("pull", REPOSITORY)]

    registry.asked.clear()
    assert await told(pulls.pull(parse(f"{REPOSITORY}:1"))) == [
        "1 Pulling from team/app",
        f"Digest: {document.digest}",
        f"Status: Image is up to date for {REPOSITORY}:1",
    ]
    assert dict(registry.asked) == {"head 1": 1}


async def test_an_image_is_known_by_each_of_its_digests(registry: FakeRegistry, store: Store) -> None:
    manifest = registry.put_image("team/app", "", [BASE])
    index = registry.put_index("team/app", "1", {"linux/amd64": manifest})
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    image = store.images.resolve(f"{REPOSITORY}:1")
    for found in (index.digest, manifest.digest, image.id):
        assert store.images.resolve(found).id == image.id
    for found in (index.digest, manifest.digest):
        assert store.images.resolve(f"{REPOSITORY}@{found}").id == image.id
        with pytest.raises(NotFound):
            store.images.resolve(f"{OTHER}@{found}")
    for found in (index.digest[7:19], manifest.digest[:19], image.id[7:20]):
        assert store.images.resolve(found).id == image.id
    removed = await store.images.remove(f"{REPOSITORY}@{manifest.digest}")
    assert [item.untagged for item in removed] == [f"{REPOSITORY}@{index.digest}"]
    assert store.images.resolve(f"{REPOSITORY}:1").id == image.id
    removed = await store.images.remove(manifest.digest[7:19])
    assert [item.untagged for item in removed if item.untagged] == [f"{REPOSITORY}:1"]
    assert await store.left() == []


async def test_the_platform_asked_for_is_pulled(registry: FakeRegistry, store: Store) -> None:
    amd64 = registry.put_image("team/app", "", [BASE])
    arm_config = config_json([TOP]).replace(b'"amd64"', b'"arm64"')
    arm64 = registry.put_image("team/app", "", [TOP], config=arm_config)
    attestation = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(b"x"), "size": 1}
    attestation |= {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    registry.put_index("team/app", "1", {"linux/arm64/v8": arm64, "linux/amd64": amd64}, attestation)
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1"), platform="linux/arm64"))
    assert store.images.resolve(f"{REPOSITORY}:1").architecture == "arm64"
    await told(pulls.pull(parse(f"{REPOSITORY}:1"), platform="linux/amd64"))
    assert store.images.resolve(f"{REPOSITORY}:1").architecture == "amd64"
    registry.asked.clear()
    lines = await told(pulls.pull(parse(f"{REPOSITORY}:1"), platform="linux/arm64"))
    assert lines[-1].startswith("Status: Downloaded newer image"), "the name means another image now"
    assert dict(registry.asked) == {"head 1": 1}
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
        await told(pulls.pull(parse(f"{REPOSITORY}:1"), platform="linux/s390x"))
    with pytest.raises(InvalidParameter, match="cannot parse platform specifier"):
        await told(pulls.pull(parse(f"{REPOSITORY}:1"), platform="a/b/c/d"))


async def test_one_manifest_of_another_platform_is_pulled_and_said_to_be_so(
    registry: FakeRegistry, store: Store
) -> None:
    registry.put_image("team/app", "1", [BASE])
    pulls, _ = store.transfers(registry)
    with pytest.raises(NotFound, match="wanted linux/arm64, actual: linux/amd64"):
        await told(pulls.pull(parse(f"{REPOSITORY}:1"), platform="linux/arm64"))
    assert store.images.resolve(f"{REPOSITORY}:1").architecture == "amd64"


@pytest.mark.parametrize(
    ("compress", "kind"),
    [
        (packed, MEDIA_DOCKER_LAYER),
        (zstandard.compress, f"{MEDIA_LAYER}+zstd"),
        (bytes, MEDIA_LAYER),
        (packed, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
    ],
)
async def test_each_kind_of_layer_goes_elsewhere_as_it_came(
    registry: FakeRegistry, store: Store, compress: Any, kind: str
) -> None:
    document = registry.put_image("team/app", "1", [BASE, TOP], compress=compress, layer_type=kind)
    pulls, _ = store.transfers(registry)
    elsewhere = FakeRegistry()
    _, pushes = store.transfers(elsewhere)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    await store.images.tag(f"{REPOSITORY}:1", OTHER, "2")
    lines = await told(pushes.push(parse(f"{OTHER}:2")))
    assert lines[0] == f"The push refers to repository [{OTHER}]"
    assert lines[-1] == f"2: digest: {document.digest} size: {len(document.data)}"
    assert elsewhere.manifests["other/app"]["2"] == document
    assert f"{OTHER}@{document.digest}" in store.images.resolve(f"{OTHER}:2").repo_digests


async def test_the_same_image_by_another_manifest_goes_elsewhere_as_it_came(
    registry: FakeRegistry, store: Store
) -> None:
    documents = {
        "1": registry.put_image("team/app", "1", [BASE, TOP]),
        "2": registry.put_image("team/app", "2", [BASE, TOP], compress=zstandard.compress),
    }
    pulls, _ = store.transfers(registry)
    elsewhere = FakeRegistry()
    _, pushes = store.transfers(elsewhere)
    for tag in documents:
        await told(pulls.pull(parse(f"{REPOSITORY}:{tag}")))
    for tag, document in documents.items():
        assert store.images.resolve(document.digest).id == digest(config_json([BASE, TOP]))
        lines = await told(pushes.push(parse(f"{REPOSITORY}:{tag}")))
        assert lines[-1] == f"{tag}: digest: {document.digest} size: {len(document.data)}"
        assert elsewhere.manifests["team/app"][tag] == document
    await store.images.remove(digest(config_json([BASE, TOP])), force=True)
    assert await store.left() == []


async def test_an_index_of_what_is_here_already_is_kept(registry: FakeRegistry, store: Store) -> None:
    manifest = registry.put_image("team/app", "1", [BASE])
    index = registry.put_index("team/app", "2", {"linux/amd64": manifest})
    pulls, _ = store.transfers(registry)
    for tag in ("1", "2"):
        await told(pulls.pull(parse(f"{REPOSITORY}:{tag}")))
    registry.asked.clear()
    await told(pulls.pull(parse(f"{REPOSITORY}:2")))
    assert dict(registry.asked) == {"head 2": 1}
    again = Store(store.root)
    await again.images.recover()
    assert again.images.resolve(index.digest).id == digest(config_json([BASE]))
    elsewhere = FakeRegistry()
    _, pushes = again.transfers(elsewhere)
    await told(pushes.push(parse(f"{REPOSITORY}:2")))
    assert elsewhere.manifests["team/app"]["2"] == index
    again.database.close()


async def test_a_pruned_image_is_named_once(registry: FakeRegistry, store: Store) -> None:
    document = registry.put_image("team/app", "1", [BASE])
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    pruned = await store.images.prune(Filters.decode('{"dangling": ["false"]}'))
    image_id = digest(config_json([BASE]))
    assert [item.untagged or item.deleted for item in pruned.removed] == [
        f"{REPOSITORY}:1",
        f"{REPOSITORY}@{document.digest}",
        image_id,
        digest(BASE),
    ]
    assert [kind for kind, _ in store.told()].count("delete") == 1


async def test_layers_that_are_there_are_not_fetched(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BASE])
    registry.put_image("team/app", "2", [BASE, TOP])
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    lines = await told(pulls.pull(parse(f"{REPOSITORY}:2")))
    assert f"{short(packed(BASE))} Already exists" in lines
    assert registry.asked[f"blob {digest(packed(BASE))}"] == 1


async def test_a_blob_that_is_there_is_put_on_another_layer_without_being_fetched(
    registry: FakeRegistry, store: Store
) -> None:
    registry.put_image("team/app", "1", [BASE, TOP])
    registry.put_image("team/app", "2", [BIG, TOP])
    pulls, _ = store.transfers(registry)
    for tag in ("1", "2"):
        await told(pulls.pull(parse(f"{REPOSITORY}:{tag}")))
    assert registry.asked[f"blob {digest(packed(TOP))}"] == 1
    assert store.images.resolve(f"{REPOSITORY}:2").diff_ids == [digest(BIG), digest(TOP)]


async def test_all_tags_of_a_repository(registry: FakeRegistry, store: Store) -> None:
    for tag, layers in (("a", [BASE]), ("b", [BASE, TOP]), ("c", [BASE])):
        registry.put_image("team/app", tag, layers)
    pulls, pushes = store.transfers(registry)
    lines = await told(pulls.pull(parse(REPOSITORY)))
    assert [line for line in lines if "Pulling from" in line] == [f"{tag} Pulling from team/app" for tag in "abc"]
    assert lines[-1] == f"Status: Downloaded newer image for {REPOSITORY}"
    before = dict(registry.manifests["team/app"])
    registry.manifests.clear()
    lines = await told(pushes.push(parse(REPOSITORY)))
    assert [line.partition(":")[0] for line in lines if "digest: " in line] == ["a", "b", "c"]
    assert registry.manifests["team/app"] == before


async def test_by_digest(registry: FakeRegistry, store: Store) -> None:
    document = registry.put_image("team/app", "1", [BASE])
    pulls, _ = store.transfers(registry)
    lines = await told(pulls.pull(parse(f"{REPOSITORY}@{document.digest}")))
    assert lines[0] == f"{REPOSITORY}@{document.digest} Pulling from team/app"
    image = store.images.resolve(f"{REPOSITORY}@{document.digest}")
    assert (image.repo_tags, image.repo_digests) == ([], [f"{REPOSITORY}@{document.digest}"])


async def test_no_more_at_once_than_allowed(registry: FakeRegistry, store: Store) -> None:
    layers = [tar([Entry(f"f{number}", bytes(10) * 2000)]) for number in range(8)]
    registry.put_image("team/app", "1", layers, compress=bytes, layer_type=MEDIA_LAYER)
    pulls, _ = store.transfers(registry, RegistryOptions(max_concurrent_downloads=2))
    gate = asyncio.Event()
    registry.gates |= {digest(layers[0]): gate, digest(layers[1]): gate}
    async with aclosing(pulls.pull(parse(f"{REPOSITORY}:1"))) as messages:
        async for message in messages:
            if message["status"] == "Waiting":
                gate.set()
    assert gate.is_set()
    assert registry.most_at_once == 2


async def test_two_pulls_share_one_download(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BIG])
    registry.put_image("team/app", "2", [BIG, TOP])
    gate = registry.gates[digest(packed(BIG))] = asyncio.Event()
    pulls, _ = store.transfers(registry)
    both = [asyncio.create_task(told(pulls.pull(parse(f"{REPOSITORY}:{tag}")))) for tag in ("1", "2")]
    await until(lambda: registry.sent[digest(packed(BIG))] > 0 and registry.asked["manifest 2"] > 0)
    gate.set()
    await asyncio.gather(*both)
    assert registry.asked[f"blob {digest(packed(BIG))}"] == 1
    assert store.images.resolve(f"{REPOSITORY}:2").diff_ids == [digest(BIG), digest(TOP)]


async def test_who_goes_away_takes_nothing_from_who_stays(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BIG])
    gate = registry.gates[digest(packed(BIG))] = asyncio.Event()
    pulls, _ = store.transfers(registry)
    leaving, staying = (asyncio.create_task(told(pulls.pull(parse(f"{REPOSITORY}:1")))) for _ in range(2))
    await until(lambda: registry.asked["manifest 1"] == 2 and registry.sent[digest(packed(BIG))] > 0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.set()
    await staying
    assert registry.asked[f"blob {digest(packed(BIG))}"] == 1


async def test_what_nobody_waits_for_is_given_up_and_gone_on_with_later(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BIG])
    blob = digest(packed(BIG))
    gate = registry.gates[blob] = asyncio.Event()
    pulls, _ = store.transfers(registry)
    leaving = asyncio.create_task(told(pulls.pull(parse(f"{REPOSITORY}:1"))))
    await until(lambda: registry.sent[blob] > 100_000)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert registry.at_once == 0, "the request is over"
    gate.set()
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    assert registry.sent[blob] == len(packed(BIG)), "nothing was fetched twice"
    assert (await asyncio.to_thread(lambda: list((store.root / "blobs" / "partial").iterdir()))) == []


async def test_after_a_failure_only_the_rest_is_fetched(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BASE, BIG])
    blob = digest(packed(BIG))
    registry.cut[blob] = 150_000
    pulls, _ = store.transfers(registry)
    with pytest.raises(SystemFailure, match="the connection broke"):
        await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    with pytest.raises(NotFound):
        store.images.resolve(f"{REPOSITORY}:1")
    registry.cut.clear()
    await store.images.recover()
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    assert registry.sent[blob] == len(packed(BIG))
    assert registry.sent[digest(packed(BASE))] == len(packed(BASE)), "what had come whole was kept"
    await store.images.remove(f"{REPOSITORY}:1")
    assert await store.left() == []


async def test_a_prune_gives_back_what_broken_pulls_have_left(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BASE, BIG])
    registry.cut[digest(packed(BIG))] = 150_000
    pulls, _ = store.transfers(registry)
    with pytest.raises(SystemFailure):
        await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    await store.images.prune(Filters.decode('{"label": ["none"]}'))
    assert await store.left() != []
    pruned = await store.images.prune(Filters.decode('{"dangling": ["true"]}'))
    assert pruned.reclaimed >= 150_000
    assert await store.left() == []
    assert await asyncio.to_thread(lambda: list((store.root / "blobs" / "partial").iterdir())) == []


@pytest.mark.parametrize("what", ["other bytes", "too long", "too short", "not the layer", "config"])
async def test_a_registry_that_lies_is_not_believed(registry: FakeRegistry, store: Store, what: str) -> None:
    blob = packed(BASE)
    if what == "not the layer":
        registry.put_image("team/app", "1", [TOP], config=config_json([BASE]))
    else:
        registry.put_image("team/app", "1", [BASE])
    if what == "config":
        registry.lies[digest(config_json([BASE]))] = config_json([BASE]).replace(b"amd64", b"arm64")
    elif what != "not the layer":
        registry.lies[digest(blob)] = {
            "other bytes": packed(BASE.replace(b"base\n", b"evil\n")),
            "too long": blob + b"x",
            "too short": blob[:-1],
        }[what]
    pulls, _ = store.transfers(registry)
    with pytest.raises(InvalidParameter, match=r"verification failed|longer than|ended after|digest mismatch"):
        await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    assert store.images.all() == []
    assert await asyncio.to_thread(store.snapshots.chains) == set()
    registry.lies.clear()
    if what != "not the layer":
        await told(pulls.pull(parse(f"{REPOSITORY}:1")))
        assert store.images.resolve(f"{REPOSITORY}:1").diff_ids == [digest(BASE)]


async def test_what_a_lie_has_left_is_not_gone_on_with(registry: FakeRegistry, store: Store) -> None:
    """The layer is found to be no tar while the rest of its blob is still on the way."""
    layer = tar([Entry("big", random.Random(7).randbytes(4_000_000))])
    registry.put_image("team/app", "1", [layer])
    blob = packed(layer)
    registry.lies[digest(blob)] = packed(random.Random(8).randbytes(3_900_000)).ljust(len(blob), b"\0")
    gate = registry.gates[digest(blob)] = asyncio.Event()
    pulls, _ = store.transfers(registry)
    pulling = asyncio.create_task(told(pulls.pull(parse(f"{REPOSITORY}:1"))))
    await asyncio.wait((pulling,), timeout=0.5)
    gate.set()
    with pytest.raises(InvalidParameter, match="verification failed"):
        await pulling
    registry.lies.clear()
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    assert store.images.resolve(f"{REPOSITORY}:1").diff_ids == [digest(layer)]


async def test_what_an_earlier_pull_has_left_of_a_lie_costs_no_pull(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BIG])
    blob = digest(packed(BIG))
    registry.lies[blob] = bytes(len(packed(BIG)))
    registry.cut[blob] = 150_000
    pulls, _ = store.transfers(registry)
    with pytest.raises(WherryError):
        await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    registry.lies.clear()
    registry.cut.clear()
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    assert store.images.resolve(f"{REPOSITORY}:1").diff_ids == [digest(BIG)]


@pytest.mark.parametrize("lie", [BIG.replace(b"big", b"bad"), bytes(len(BIG)), b"no tar" * 50_000])
async def test_a_mirrors_lie_is_made_good_by_the_next_host(registry: FakeRegistry, store: Store, lie: bytes) -> None:
    """Whether it unpacks, and to what, or does not: what was made of it is gone."""
    registry.put_image("team/app", "1", [BASE, BIG])
    blob = packed(BIG)
    registry.lies[digest(blob)] = packed(lie)[: len(blob)].ljust(len(blob), b"\0")
    registry.lies[digest(config_json([BASE, BIG]))] = config_json([BASE, BIG]).replace(b"amd64", b"arm64")
    registry.lying_mirror = True
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    image = store.images.resolve(f"{REPOSITORY}:1")
    assert (image.architecture, image.diff_ids) == ("amd64", [digest(BASE), digest(BIG)])
    assert registry.sent[digest(blob)] == 2 * len(blob)
    assert await asyncio.to_thread(lambda: list((store.root / "snapshots" / "staging").iterdir())) == []


async def test_who_shares_a_download_does_not_share_its_failure(registry: FakeRegistry, store: Store) -> None:
    """The first pull's credentials end in the middle; the second, which waits for the same blob, has its own."""
    registry.put_image("team/app", "1", [BASE, BIG])
    blob = packed(BIG)
    gate = registry.gates[digest(blob)] = asyncio.Event()
    pulls, _ = store.transfers(registry)
    users = [Credentials(username=name, password="x") for name in ("expiring", "lasting")]
    first = asyncio.create_task(told(pulls.pull(parse(f"{REPOSITORY}:1"), credentials=users[0])))
    await until(lambda: registry.sent[digest(blob)] > len(blob) // 2)
    second = asyncio.create_task(told(pulls.pull(parse(f"{REPOSITORY}:1"), credentials=users[1])))
    joined = pulls._downloads._shared._running[digest(blob)]
    await until(lambda: joined.waiting == 2)
    registry.refused.add("expiring")
    gate.set()
    await second
    await first
    assert store.images.resolve(f"{REPOSITORY}:1").diff_ids == [digest(BASE), digest(BIG)]
    assert registry.sent[digest(blob)] == len(blob), "what had come was gone on with"


async def test_who_believes_another_size_does_not_share_a_download(registry: FakeRegistry, store: Store) -> None:
    """A manifest that lies about a blob's size fails alone, not all who pull that blob meanwhile."""
    blob = packed(BIG)
    lie = [{"mediaType": f"{MEDIA_LAYER}+gzip", "digest": digest(blob), "size": len(blob) + 1}]
    registry.put_image("other/app", "1", [BIG], descriptors=lie)
    registry.put_image("team/app", "1", [BIG])
    gate = registry.gates[digest(blob)] = asyncio.Event()
    pulls, _ = store.transfers(registry)
    lying = asyncio.create_task(told(pulls.pull(parse(f"{OTHER}:1"))))
    await until(lambda: registry.sent[digest(blob)] > 0)
    seen: list[str] = []

    async def pull() -> None:
        async with aclosing(pulls.pull(parse(f"{REPOSITORY}:1"))) as messages:
            async for message in messages:
                seen.append(message["status"])  # noqa: PERF401 (others look at it meanwhile)

    honest = asyncio.create_task(pull())
    await until(lambda: "Pulling fs layer" in seen)
    gate.set()
    with pytest.raises(WherryError):
        await lying
    await honest
    assert store.images.resolve(f"{REPOSITORY}:1").diff_ids == [digest(BIG)]


@pytest.mark.parametrize("scheme", ["", "http://"])
async def test_a_password_in_an_address_is_not_kept_in_the_image(store: Store, scheme: str) -> None:
    asked: list[str] = []

    class File:
        length = len(BASE)

        async def pieces(self) -> AsyncGenerator[bytes, None]:
            yield BASE

    @asynccontextmanager
    async def fetch(url: str) -> AsyncIterator[File]:
        asked.append(url)
        yield File()

    messages = Imports(store.images, fetch).import_(
        f"{scheme}user:secret@host.test/a@b", repository="app", tag="", changes=(), message="", platform=""
    )
    assert "Downloading from http://host.test/a@b" in await told(messages)
    assert asked == ["http://user:secret@host.test/a@b"]
    assert store.images.resolve("app").comment == f"Imported from {scheme}host.test/a@b"


NESTED = b'{"a":' * 10_000 + b"1" + b"}" * 10_000


@pytest.mark.parametrize(
    ("layers", "config", "words"),
    [
        ([tar([Entry("../evil", b"x")])], None, r"\.\./evil"),
        ([BASE[:700]], None, "ends|truncated|unexpected|EOF"),
        ([b"no tar at all" * 100], None, "tar|header|archive"),
        ([BASE], NESTED, "invalid image configuration"),
        ([BASE], b"[]", "invalid image configuration"),
        ([BASE], config_json([BASE, TOP]), "layers from manifest don't match image configuration"),
        ([BASE], config_json([BASE]).replace(b'"linux"', b'"windows"'), "cannot be used on this platform"),
        ([BASE, TOP], config_json([TOP, BASE]), "layer digest mismatch"),
    ],
)
async def test_hostile_content_leaves_nothing(
    registry: FakeRegistry, store: Store, layers: list[bytes], config: bytes | None, words: str
) -> None:
    registry.put_image("team/app", "1", layers, config=config)
    pulls, _ = store.transfers(registry)
    with pytest.raises(WherryError, match=words):
        await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    await store.images.prune(Filters.decode('{"dangling": ["true"]}'))
    assert store.images.all() == []
    assert await store.left() == []
    assert await asyncio.to_thread(lambda: list((store.root / "snapshots" / "staging").iterdir())) == []


async def test_a_layer_whose_size_is_not_the_manifests_is_refused(registry: FakeRegistry, store: Store) -> None:
    blob = packed(BASE)
    registry.put_image("team/app", "1", [BASE])
    wrong = [{"mediaType": f"{MEDIA_LAYER}+gzip", "digest": digest(blob), "size": len(blob) + 1}]
    registry.put_image("team/app", "2", [BASE], config=config_json([BASE], Env=["A=b"]), descriptors=wrong)
    pulls, _ = store.transfers(registry)
    with pytest.raises(InvalidParameter, match="ended after"):
        await told(pulls.pull(parse(f"{REPOSITORY}:2")))
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    with pytest.raises(InvalidParameter, match="is said to have"):
        await told(pulls.pull(parse(f"{REPOSITORY}:2")))


@pytest.mark.parametrize("what", ["name", "layer", "config", "index"])
async def test_another_kind_of_digest_is_refused_by_its_name(registry: FakeRegistry, store: Store, what: str) -> None:
    blob, config = packed(BASE), config_json([BASE])
    long = {data: f"sha512:{hashlib.sha512(data).hexdigest()}" for data in (blob, config)}
    document = registry.put_image("team/app", "1", [BASE])
    name = f"{REPOSITORY}:1"
    manifest = document.data.decode()
    if what == "name":
        name = f"{REPOSITORY}@{long[blob]}"
    elif what == "index":
        registry.put_index("team/app", "1", {"linux/amd64": replace(document, digest=long[blob])})
    else:
        data = config if what == "config" else blob
        registry.put_document("team/app", document.media_type, manifest.replace(digest(data), long[data]).encode(), "1")
    pulls, _ = store.transfers(registry)
    with pytest.raises(InvalidParameter, match=r"unsupported digest algorithm sha512: .* sha256 alone"):
        await told(pulls.pull(parse(name)))
    assert store.images.all() == []
    assert await store.left() == []


async def test_a_layer_that_may_not_be_pushed_is_not(registry: FakeRegistry, store: Store) -> None:
    blob = packed(BASE)
    kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    described = [{"mediaType": kind, "digest": digest(blob), "size": len(blob), "urls": ["https://a.test/base"]}]
    document = registry.put_image("team/app", "1", [BASE], descriptors=described)
    pulls, pushes = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    await store.images.tag(f"{REPOSITORY}:1", "reg.test/other/app", "1")
    config = json.loads(document.data)["config"]["digest"]
    registry.blobs["other/app"] = {config: b""}
    said = await told(pushes.push(parse(f"{OTHER}:1")))
    assert f"{short(BASE)} Skipped foreign layer" in said
    assert not registry.asked[f"upload {digest(blob)}"] and not registry.asked[f"has {digest(blob)}"]
    assert registry.manifests["other/app"]["1"].data == document.data


async def test_a_layer_that_may_not_be_pushed_is_where_the_administrator_lets_it(
    registry: FakeRegistry, store: Store
) -> None:
    blob = packed(BASE)
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    described = [{"mediaType": kind, "digest": digest(blob), "size": len(blob), "urls": ["https://a.test/base"]}]
    document = registry.put_image("team/app", "1", [BASE], descriptors=described)
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    elsewhere = FakeRegistry(takes_restricted=True)
    said = await told(store.transfers(elsewhere)[1].push(parse(f"{REPOSITORY}:1")))
    assert f"{short(BASE)} Pushed" in said
    assert elsewhere.blobs["team/app"][digest(blob)] == blob
    assert elsewhere.manifests["team/app"]["1"] == document


async def test_indexes_in_indexes_end(registry: FakeRegistry, store: Store) -> None:
    document = registry.put_image("team/app", "", [BASE])
    for depth in range(6):
        document = registry.put_index("team/app", f"deep{depth}", {"linux/amd64": document})
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:deep3")))
    with pytest.raises(InvalidParameter, match="indexes nested more than 4 deep"):
        await told(pulls.pull(parse(f"{REPOSITORY}:deep5")))


async def test_a_failing_layer_ends_the_pull_at_once(registry: FakeRegistry, store: Store) -> None:
    """The first layer never comes; that another is wrong is told without waiting for it."""
    registry.put_image("team/app", "1", [BIG, TOP])
    registry.gates[digest(packed(BIG))] = asyncio.Event()
    registry.lies[digest(packed(TOP))] = b"x" * len(packed(TOP))
    pulls, _ = store.transfers(registry)
    with pytest.raises(InvalidParameter, match="verification failed"):
        await told(pulls.pull(parse(f"{REPOSITORY}:1")))


async def test_removal_of_all_else_does_not_touch_a_pull_under_way(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BASE])
    registry.put_image("team/app", "2", [BASE, BIG])
    gate = registry.gates[digest(packed(BIG))] = asyncio.Event()
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    pulling = asyncio.create_task(told(pulls.pull(parse(f"{REPOSITORY}:2"))))
    await until(lambda: registry.sent[digest(packed(BIG))] > 0)
    await store.images.remove(f"{REPOSITORY}:1")
    await store.images.prune(Filters.decode('{"dangling": ["false"]}'))
    gate.set()
    await pulling
    assert store.images.resolve(f"{REPOSITORY}:2").diff_ids == [digest(BASE), digest(BIG)]
    assert store.images.size(store.images.resolve(f"{REPOSITORY}:2").id) == 300_000 + len(b"base\n" + b"etc")


async def test_what_is_removed_while_a_pull_says_its_first_words_comes_again(
    registry: FakeRegistry, store: Store
) -> None:
    registry.put_image("team/app", "1", [BASE])
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    async with aclosing(pulls.pull(parse(f"{REPOSITORY}:1"))) as messages:
        await anext(messages)
        await store.images.remove(f"{REPOSITORY}:1")
        async for _ in messages:
            pass
    assert store.images.resolve(f"{REPOSITORY}:1").diff_ids == [digest(BASE)]


async def test_a_tag_that_moved(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BASE])
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    old = store.images.resolve(f"{REPOSITORY}:1").id
    registry.put_image("team/app", "1", [BASE, TOP])
    lines = await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    assert lines[-1].startswith("Status: Downloaded newer image")
    assert store.images.resolve(f"{REPOSITORY}:1").id != old
    assert store.images.resolve(old).repo_tags == []


async def test_records_outlive_the_process(registry: FakeRegistry, store: Store, tmp_path: Path) -> None:
    document = registry.put_image("team/app", "1", [BASE])
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    store.database.close()
    again = Store(store.root)
    await again.images.recover()
    pulls, pushes = again.transfers(registry)
    registry.asked.clear()
    assert (await told(pulls.pull(parse(f"{REPOSITORY}:1"))))[-1].startswith("Status: Image is up to date")
    registry.manifests.clear()
    await told(pushes.push(parse(f"{REPOSITORY}:1")))
    assert registry.manifests["team/app"]["1"] == document
    again.database.close()


async def test_a_manifest_whose_blobs_are_lost_is_forgotten(registry: FakeRegistry, store: Store) -> None:
    document = registry.put_image("team/app", "1", [BASE, TOP])
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    await asyncio.to_thread(store.blobs.remove, digest(packed(TOP)))
    await store.images.recover()
    assert store.images.resolve(f"{REPOSITORY}:1").diff_ids == [digest(BASE), digest(TOP)], "it still runs"
    with pytest.raises(NotFound):
        store.images.resolve(document.digest)


# --- pushing


async def test_what_is_made_here_is_compressed_once_and_found_there_again(registry: FakeRegistry, store: Store) -> None:
    await store.load(docker_archive([BASE, TOP], [f"{REPOSITORY}:1"]))
    _, pushes = store.transfers(registry)
    first = await told(pushes.push(parse(f"{REPOSITORY}:1")))
    ids = [digest(layer)[7:19] for layer in (TOP, BASE)]
    assert [line for line in first if "Preparing" in line] == [f"{id} Preparing" for id in ids]
    assert sorted(line for line in first if line.endswith(" Pushed")) == sorted(f"{id} Pushed" for id in ids)
    assert store.told()[-1] == ("push", REPOSITORY)
    manifest = registry.manifests["team/app"]["1"]
    assert manifest.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    image = store.images.resolve(f"{REPOSITORY}:1")
    assert image.repo_digests == [f"{REPOSITORY}@{manifest.digest}"]
    registry.asked.clear()
    second = await told(pushes.push(parse(f"{REPOSITORY}:1")))
    assert second[-1] == first[-1]
    assert not any(request.startswith("upload") for request in registry.asked)
    assert sorted(line for line in second if "already" in line) == sorted(f"{id} Layer already exists" for id in ids)

    fresh = Store(store.root.parent / "fresh")
    pulls, _ = fresh.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    assert fresh.images.resolve(f"{REPOSITORY}:1").id == image.id
    fresh.database.close()


async def test_the_same_content_made_elsewhere_compresses_to_the_same(
    registry: FakeRegistry, store: Store, tmp_path: Path
) -> None:
    digests = []
    for place in (store, Store(tmp_path / "elsewhere")):
        await place.load(docker_archive([BASE, TOP], [f"{REPOSITORY}:1"]))
        _, pushes = place.transfers(registry)
        digests.append((await told(pushes.push(parse(f"{REPOSITORY}:1"))))[-1])
        place.database.close()
    assert digests[0] == digests[1]


async def test_what_is_pushed_can_still_be_saved(registry: FakeRegistry, store: Store) -> None:
    await store.load(docker_archive([BASE, TOP], [f"{REPOSITORY}:1"]))
    before = hashlib.sha256(await store.save(f"{REPOSITORY}:1")).hexdigest()
    _, pushes = store.transfers(registry)
    await told(pushes.push(parse(f"{REPOSITORY}:1")))
    await store.images.release()
    assert hashlib.sha256(await store.save(f"{REPOSITORY}:1")).hexdigest() == before


async def test_a_blob_is_mounted_from_where_it_is_known_to_be(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BASE])
    pulls, pushes = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1")))
    await store.images.tag(f"{REPOSITORY}:1", OTHER, "1")
    lines = await told(pushes.push(parse(f"{OTHER}:1")))
    assert f"{digest(BASE)[7:19]} Mounted from team/app" in lines
    await store.images.tag(f"{REPOSITORY}:1", "another.test/app", "1")
    registry.asked.clear()
    await told(pushes.push(parse("another.test/app:1")))
    assert not any("from team/app" in request for request in registry.asked), "another registry has other blobs"


async def test_an_index_goes_out_whole_where_all_of_it_is_here(registry: FakeRegistry, store: Store) -> None:
    amd64 = registry.put_image("team/app", "", [BASE])
    arm64 = registry.put_image("team/app", "", [TOP], config=config_json([TOP]).replace(b'"amd64"', b'"arm64"'))
    index = registry.put_index("team/app", "1", {"linux/arm64": arm64, "linux/amd64": amd64})
    pulls, pushes = store.transfers(registry)
    await told(pulls.pull(parse(f"{REPOSITORY}:1"), platform="linux/arm64"))
    await store.images.tag(f"{REPOSITORY}:1", OTHER, "1")
    lines = await told(pushes.push(parse(f"{OTHER}:1")))
    assert any("only its image for linux/arm64 is pushed" in line for line in lines)
    assert registry.manifests["other/app"]["1"] == arm64

    await told(pulls.pull(parse(f"{REPOSITORY}:1"), platform="linux/amd64"))
    await store.images.tag(f"{REPOSITORY}:1", OTHER, "2")
    lines = await told(pushes.push(parse(f"{OTHER}:2")))
    assert lines[-1].startswith(f"2: digest: {index.digest}")
    assert registry.manifests["other/app"]["2"] == index
    assert {amd64.digest, arm64.digest} < set(registry.manifests["other/app"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reg.test/none:1", "An image does not exist locally with the tag: reg.test/none"),
        (f"{REPOSITORY}:2", f"tag does not exist: {REPOSITORY}:2"),
        (f"{REPOSITORY}@{digest(b'')}", "cannot push a digest reference"),
    ],
)
async def test_what_cannot_be_pushed(registry: FakeRegistry, store: Store, name: str, words: str) -> None:
    await store.load(docker_archive([BASE], [f"{REPOSITORY}:1"]))
    _, pushes = store.transfers(registry)
    messages = pushes.push(parse(name))
    async with aclosing(messages):
        assert "refers to repository" in (await anext(messages))["status"]
        with pytest.raises((NotFound, InvalidParameter), match=words):
            await anext(messages)
    assert registry.blobs == {}
