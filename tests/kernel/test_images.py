"""The images service on real layers: archives in and out, names, removal, and what a crash leaves."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.image_store import BASE, TOP, Store, packed, pieces
from tests.support.images import Entry, config_json, digest, docker_archive, folder, oci_archive, symlink, tar
from tests.support.trees import inventory
from wherry.engine.images.leases import Needed
from wherry.engine.images.removal import InUse, Removed
from wherry.errors import Conflict, InvalidParameter, NotFound, SystemFailure, WherryError
from wherry.model.filters import Filters
from wherry.model.image import chain_ids
from wherry.model.manifests import MEDIA_INDEX, MEDIA_MANIFEST
from wherry.model.reference import parse
from wherry.storage.image_records import KnownManifest


@pytest.mark.parametrize("how", ["", "gzip", "zstd"])
@pytest.mark.parametrize("kind", ["docker", "oci", "oci alone"])
async def test_load(store: Store, kind: str, how: str) -> None:
    layers = [BASE, TOP]
    settings = {"Env": ["A=b"], "Labels": {"x": "y"}}
    if kind == "docker":
        archive = docker_archive(layers, ["app:1"], **settings)
    else:
        archive = oci_archive(layers, "docker.io/library/app:1", **settings)
    if kind == "oci alone":
        archive = without(archive, "manifest.json")
    messages = await store.load(packed(archive, how))
    assert messages == [{"stream": "Loaded image: app:1\n"}]
    image = store.images.resolve("app:1")
    assert image.id == digest(config_json(layers, **settings))
    assert (image.diff_ids, image.repo_tags) == ([digest(BASE), digest(TOP)], ["app:1"])
    assert (image.config.env, image.size) == (["A=b"], 5 + 3 + 4)
    assert store.told() == [("load", image.id)]
    top, base = store.images.view_plan(image).lower
    assert set(inventory(Path(top))) == {".", "etc", "etc/top"}
    assert set(inventory(Path(base))) == {".", "etc", "etc/base", "link"}


def without(archive: bytes, name: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as old, tarfile.open(fileobj=stream, mode="w") as new:
        for member in old:
            if member.name != name:
                new.addfile(member, old.extractfile(member))
    return stream.getvalue()


async def test_progress_ends_with_the_whole(store: Store) -> None:
    *progress, last = await store.load(docker_archive([BASE], ["app:1"]), quiet=False)
    assert last == {"stream": "Loaded image: app:1\n"}
    assert progress[-1]["progressDetail"] == {"current": len(BASE), "total": len(BASE)}
    assert progress[-1]["progress"].startswith("[" + "=" * 50 + ">]")


async def test_links_in_old_archives(store: Store) -> None:
    config = config_json([BASE, BASE])
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["a/layer.tar", "b/layer.tar"]}]
    archive = tar(
        [
            Entry("a/layer.tar", BASE),
            symlink("b/layer.tar", "../a/layer.tar"),
            Entry("c.json", config),
            Entry("manifest.json", json.dumps(manifest).encode()),
        ]
    )
    assert await store.load(archive) == [{"stream": f"Loaded image ID: {digest(config)}\n"}]


async def test_a_round_trip_changes_nothing(store: Store, tmp_path: Path) -> None:
    await store.load(oci_archive([BASE, TOP], "docker.io/library/app:1"))
    await store.load(docker_archive([BASE], ["other:1", "other:2"], Cmd=["x"]))
    archive = await store.save("app:1", "other")
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        names = members.getnames()
        content = {name: file.read() for name in names if (file := members.extractfile(name)) is not None}
    for name, data in content.items():
        if name.startswith("blobs/"):
            assert name == "blobs/sha256/" + digest(data).removeprefix("sha256:")
    assert {BASE, TOP} <= set(content.values())
    tags = [item["RepoTags"] for item in json.loads(content["manifest.json"])]
    assert tags == [["app:1"], ["other:1", "other:2"]]
    other = Store(tmp_path / "other")
    for variant in (archive, without(archive, "manifest.json")):
        await other.load(variant)
        for name in ("app:1", "other:1", "other:2"):
            assert other.images.resolve(name).id == store.images.resolve(name).id
        assert await other.save("app:1", "other") == archive
    other.database.close()


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"junk", "unexpected EOF"),
        (b"", "not an image archive"),
        (tar([Entry("x", b"y")]), "not an image archive"),
        (tar([Entry("manifest.json", b"{}")]), "manifest.json"),
        (tar([Entry("manifest.json", b'[{"Config":"c","Layers":[]}]')]), "c is missing"),
        (docker_archive([BASE, TOP], ["app:1"])[:5000], "unexpected EOF"),
        (gzip.compress(docker_archive([BASE], ["app:1"]))[:-300], "truncated"),
        (docker_archive([BASE], ["app:1"], config=config_json([TOP])), "digest mismatch"),
        (docker_archive([BASE], ["app:1"], config=config_json([BASE, TOP])), "layers length mismatch"),
        (docker_archive([BASE], ["app:1"], config=b"[]"), "invalid image configuration"),
        (docker_archive([BASE], ["BAD:1"]), "must be lowercase"),
        (without(oci_archive([BASE], "docker.io/library/a:1", spoil=b"x"), "manifest.json"), "digest mismatch"),
        (docker_archive([tar([Entry("../x", b"y")])], ["app:1"]), "outside of the layer"),
    ],
)
async def test_bad_archives_change_nothing(store: Store, archive: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        await store.load(archive)
    assert store.images.all() == []
    await store.images.release()
    assert await store.left() == []


async def test_import(store: Store) -> None:
    for how in ("", "gzip", "zstd"):
        image = await store.images.import_(
            pieces(packed(BASE, how)), repository="app", changes=['CMD ["x"]'], message="hello", platform="linux/arm64"
        )
        assert (image.diff_ids, image.config.cmd, image.comment) == ([digest(BASE)], ["x"], "hello")
        assert (image.architecture, image.repo_tags) == ("arm64", ["app:latest"])
        assert store.told() == [("tag", "app:latest"), ("import", image.id)]
    assert len(store.images.select(Filters.decode('{"dangling":["true"]}'))) == 2
    with tarfile.open(fileobj=io.BytesIO(await store.save("app"))) as members:
        blob = members.extractfile("blobs/sha256/" + digest(BASE).removeprefix("sha256:"))
        assert blob is not None and blob.read() == BASE


@pytest.mark.parametrize(
    ("data", "options", "error"),
    [
        (b"junk", {}, SystemFailure),
        (BASE[:1400], {}, SystemFailure),
        (BASE, {"repository": "BAD"}, InvalidParameter),
        (BASE, {"changes": ["NONSENSE x"]}, InvalidParameter),
        (BASE, {"platform": "windows/amd64"}, InvalidParameter),
    ],
)
async def test_bad_imports_change_nothing(
    store: Store, data: bytes, options: dict[str, Any], error: type[WherryError]
) -> None:
    with pytest.raises(error):
        await store.images.import_(pieces(data), **options)
    await store.images.release()
    assert (store.images.all(), await store.left(), store.told()) == ([], [], [])


async def test_a_sender_that_goes_away(store: Store) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield BASE[:3000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.images.import_(broken())
    await store.images.release()
    assert await store.left() == []


async def test_names_and_ids(store: Store) -> None:
    await store.load(docker_archive([BASE], ["app:1"]))
    image = store.images.resolve("app:1")
    await store.images.tag("app:1", "other", "")
    await store.images.tag(image.id[7:15], "localhost:5000/a/b", "2")
    hexadecimal = image.id.removeprefix("sha256:")
    for ref in ("other", "docker.io/library/app:1", "localhost:5000/a/b:2", image.id, hexadecimal, hexadecimal[:4]):
        assert store.images.resolve(ref).id == image.id
    assert store.told()[1:] == [("tag", "other:latest"), ("tag", "localhost:5000/a/b:2")]
    await store.load(docker_archive([TOP], [f"{hexadecimal[:4]}:latest"]))
    assert store.images.resolve(hexadecimal[:4]).diff_ids == [digest(TOP)]  # a name wins over an ID
    with pytest.raises(NotFound, match=r"^No such image: none:latest$"):
        store.images.resolve("none")
    with pytest.raises(NotFound, match=f"^No such image: sha256:{'0' * 64}$"):
        store.images.resolve("0" * 64)


async def test_a_name_that_moves_leaves_the_old_image_dangling(store: Store) -> None:
    await store.load(docker_archive([BASE], ["app:1"]))
    old = store.images.resolve("app:1").id
    messages = await store.load(docker_archive([TOP], ["app:1"]))
    assert f"The image app:1 already exists, renaming the old one with ID {old} to empty string\n" in str(
        messages[0]["stream"]
    )
    assert [item.image.id for item in store.images.select(Filters.decode('{"dangling":["true"]}'))] == [old]
    pruned = await store.images.prune(Filters())
    assert pruned.removed == [Removed(deleted=old), Removed(deleted=digest(BASE))]
    assert pruned.reclaimed >= 8


async def test_removal(store: Store) -> None:
    await store.load(docker_archive([BASE, TOP], ["app:1"]))
    await store.load(docker_archive([BASE], ["base:1"]))
    app, base = store.images.resolve("app:1"), store.images.resolve("base:1")
    await store.images.tag("app:1", "app", "2")
    store.told()
    short = app.id[7:19]
    with pytest.raises(Conflict) as caught:
        await store.images.remove(app.id)
    assert str(caught.value) == (
        f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    )
    assert await store.images.remove("app:2") == [Removed(untagged="app:2")]
    assert await store.images.remove("app:1") == [
        Removed(untagged="app:1"),
        Removed(deleted=app.id),
        Removed(deleted=app.chain_id),
    ]
    assert store.told() == [("untag", app.id), ("untag", app.id), ("delete", app.id)]
    assert (await store.images.remove(base.id[7:12]))[-1] == Removed(deleted=digest(BASE))
    assert await store.left() == []


async def test_removal_of_what_containers_use(store: Store) -> None:
    await store.load(docker_archive([BASE], ["app:1"]))
    image = store.images.resolve("app:1")
    short = image.id[7:19]
    container = "c" * 64
    await asyncio.to_thread(store.snapshots.prepare, container, image.chain_id)
    store.users[image.id] = [InUse(container, "name", running=True)]
    for ref, force, message in (
        ("app:1", False, f'unable to remove repository reference "app:1" (must force) - container {"c" * 12} is using'
         f" its referenced image {short}"),
        (image.id, False, f"unable to delete {short} (cannot be forced) - image is being used by running container"
         f" {'c' * 12}"),
        (image.id, True, f"unable to delete {short} (cannot be forced) - image is being used by running container"
         f" {'c' * 12}"),
    ):  # fmt: skip
        with pytest.raises(Conflict) as caught:
            await store.images.remove(ref, force=force)
        assert str(caught.value) == f"conflict: {message}"
    assert await store.images.remove("app:1", force=True) == [Removed(untagged="app:1")]
    assert store.images.resolve(image.id).repo_tags == []
    store.users[image.id] = [InUse(container, "name", running=False)]
    with pytest.raises(Conflict, match=r"must be forced.*stopped container"):
        await store.images.remove(image.id)
    assert await store.images.remove(image.id, force=True) == [Removed(deleted=image.id)]
    assert await asyncio.to_thread(store.snapshots.chains) == {image.chain_id}  # the container still stands on it
    await store.load(docker_archive([BASE], ["app:1"]))  # comes back beside it
    assert store.images.resolve("app:1").id == image.id
    await store.images.remove("app:1", force=True)
    await asyncio.to_thread(store.snapshots.remove, container)
    await store.images.release()
    assert await store.left() == []


async def test_removal_while_files_are_made_that_nobody_can_name_waits_with_the_files(store: Store) -> None:
    await store.load(docker_archive([BASE], ["app:1"]))
    image = store.images.resolve("app:1")
    async with store.images.admission.holding():
        assert await store.images.remove("app:1") == [Removed(untagged="app:1"), Removed(deleted=image.id)]
        assert len(await asyncio.to_thread(store.snapshots.chains)) == 1
    assert await store.left() == []


async def test_two_loads_of_the_same_at_once(store: Store) -> None:
    archive = docker_archive([BASE, TOP], ["app:1"])
    await asyncio.gather(*(store.load(archive) for _ in range(4)))
    assert len(store.images.all()) == 1
    await store.images.remove("app:1")
    assert await store.left() == []


async def test_filters(store: Store) -> None:
    await store.load(docker_archive([BASE], ["app:1", "host.example/app:2"], Labels={"x": "y"}))
    await store.load(docker_archive([TOP], ["other:1"]))

    def tags(filters: str) -> list[list[str]]:
        return [item.repo_tags for item in store.images.select(Filters.decode(filters))]

    assert tags('{"label":["x=y"]}') == [["app:1", "host.example/app:2"]]
    assert tags('{"label":["x=z"]}') == []
    assert tags('{"reference":["app"]}') == [["app:1"]]
    assert tags('{"reference":["*/app:?"]}') == [["host.example/app:2"]]
    assert tags('{"reference":["o[a-z]her"]}') == [["other:1"]]
    assert tags('{"since":["app:1"]}') == []
    assert tags('{"until":["1h"]}') == [["app:1", "host.example/app:2"], ["other:1"]]
    for filters, kind, message in (
        ('{"nonsense":["1"]}', InvalidParameter, "invalid filter 'nonsense'"),
        ('{"reference":["["]}', SystemFailure, "syntax error in pattern"),
        ('{"before":["none"]}', NotFound, "No such image: none:latest"),
        ('{"until":["x"]}', SystemFailure, 'failed to parse value as time or duration: "x"'),
    ):
        with pytest.raises(kind) as caught:
            tags(filters)
        assert str(caught.value) == message


async def test_an_image_whose_files_are_gone_is_forgotten(store: Store) -> None:
    await store.load(docker_archive([BASE, TOP], ["app:1"]))
    await store.load(docker_archive([BASE], ["base:1"]))
    await asyncio.to_thread(store.snapshots.remove_chain, store.images.resolve("app:1").chain_id)
    await store.images.recover()
    assert [image.repo_tags for image in store.images.all()] == [["base:1"]]


@pytest.mark.parametrize("how", ["", "gzip", "zstd"])
async def test_a_layer_that_is_there_is_verified_again_before_it_is_kept(store: Store, how: str) -> None:
    admission = store.images.admission
    async with admission.holding():
        keep = partial(asyncio.to_thread, admission.keep_layer)
        there = await keep(io.BytesIO(BASE), "")
        with pytest.raises(InvalidParameter, match="digest mismatch"):
            await keep(io.BytesIO(packed(TOP, how)), "", there.diff_id)
        again = await keep(io.BytesIO(packed(BASE, how)), "", there.diff_id)
    assert (again.chain_id, again.blob.compression) == (there.chain_id, how)
    await store.images.recover()
    assert await store.left() == []


async def test_what_an_owner_needs_stays(store: Store) -> None:
    """Files of one that has records of its own outlive the image and the next start."""
    await store.load(docker_archive([BASE, TOP], ["app:1"]))
    image = store.images.resolve("app:1")
    needed = Needed(chains=frozenset((image.chain_id,)), diff_ids=frozenset((digest(TOP),)))
    store.images.keeper.owner(lambda: needed)
    await store.images.remove("app:1")
    await store.images.recover()
    layers = [f"snapshots/layers/{chain.removeprefix('sha256:')}" for chain in chain_ids(image.diff_ids)]
    assert sorted(await store.left()) == sorted([*layers, f"blobs/sha256/{digest(TOP).removeprefix('sha256:')}"])


async def test_admitted_in_one_transaction(store: Store) -> None:
    admission = store.images.admission
    document = config_json([BASE])
    async with admission.holding():
        layer = await asyncio.to_thread(admission.keep_layer, io.BytesIO(BASE), "")

        def fail(connection: object, image: object) -> None:
            raise Conflict("no")

        with pytest.raises(Conflict):
            await admission.admit(document, [layer], names=[parse("app:1")], also=fail)
        assert store.images.all() == []
        image = await admission.admit(document, [layer], names=[parse("app:1")], event="pull")
    assert store.images.resolve("app:1") is image
    assert store.told()[-2:] == [("tag", "app:1"), ("pull", image.id)]


async def test_a_layer_is_unpacked_before_the_archive_has_ended(store: Store) -> None:
    """The last piece comes only once the layer is on the disk."""
    layer = tar([Entry("early", b"x" * 100_000)])
    archive = docker_archive([layer], ["app:1"])
    staging = store.root / "snapshots" / "staging"

    def unpacked() -> bool:
        return any(path.stat().st_size == 100_000 for path in staging.glob("*/fs/early"))

    async def patient() -> AsyncIterator[bytes]:
        yield archive[:-512]
        while not await asyncio.to_thread(unpacked):
            pass
        yield archive[-512:]

    assert [message async for message in store.images.load(patient())] == [{"stream": "Loaded image: app:1\n"}]
    assert await asyncio.to_thread(lambda: list(staging.iterdir())) == []


async def test_members_that_only_look_like_layers(store: Store) -> None:
    """An archive may hold anything besides; what is no layer of an image leaves nothing."""
    stray = [Entry("stray.tar", TOP), Entry("broken.tar", TOP[:700]), Entry("other.gz", gzip.compress(b"x" * 5000))]
    await store.load(joined(tar(stray), docker_archive([BASE], ["app:1"])))
    image = store.images.resolve("app:1")
    assert sorted(name.rpartition("/")[2] for name in await store.left()) == sorted(
        digest.removeprefix("sha256:") for digest in (image.id, image.chain_id, *image.diff_ids)
    )


def joined(first: bytes, second: bytes) -> bytes:
    """Two archives as one."""
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        end = max(member.offset_data + -(-member.size // 512) * 512 for member in archive)
    return first[:end] + second


async def test_a_layer_twice_in_one_image(store: Store) -> None:
    await store.load(docker_archive([BASE, BASE], ["app:1"]))
    image = store.images.resolve("app:1")
    assert len(store.images.view_plan(image).lower) == 2
    assert await store.save("app:1")


async def test_a_sender_that_goes_away_while_a_layer_is_unpacked(store: Store) -> None:
    archive = docker_archive([tar([Entry("large", b"x" * 1_000_000)])], ["app:1"])

    async def leaving() -> AsyncIterator[bytes]:
        yield archive[:500_000]
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        async for _ in store.images.load(leaving()):
            pass
    assert await store.left() == []


def as_skopeo(layer: bytes, config: bytes) -> bytes:
    """What skopeo, Podman and Buildah write as docker-archive: links where Docker had the layers."""
    name = digest(layer).removeprefix("sha256:")
    document = digest(config).removeprefix("sha256:") + ".json"
    manifest = [
        {"Config": document, "RepoTags": ["docker.io/library/app:1", "localhost/b:2"], "Layers": [f"{name}.tar"]}
    ]
    return tar(
        [
            Entry(f"{name}.tar", layer),
            Entry(document, config),
            symlink("185d1bf161ef/layer.tar", f"../{name}.tar"),
            Entry("185d1bf161ef/VERSION", b"1.0"),
            Entry("185d1bf161ef/json", b"{}"),
            Entry("manifest.json", json.dumps(manifest).encode()),
            Entry("repositories", b"{}"),
        ]
    )


def as_kaniko(layer: bytes, config: bytes) -> bytes:
    """What Kaniko and crane write: the configuration under its digest, layers compressed, names in full."""
    blob = gzip.compress(layer, mtime=0)
    name = digest(blob).removeprefix("sha256:") + ".tar.gz"
    names = ["index.docker.io/library/app:1", "localhost/b:2"]
    manifest = [{"Config": digest(config), "RepoTags": names, "Layers": [name]}]
    return tar(
        [Entry(digest(config), config), Entry(name, blob), Entry("manifest.json", json.dumps(manifest).encode())]
    )


def as_old_docker(layer: bytes, config: bytes) -> bytes:
    """What Docker wrote before 25: a folder for each layer, members in Go's order, manifest.json at the end."""
    document = digest(config).removeprefix("sha256:") + ".json"
    manifest = [{"Config": document, "RepoTags": ["app:1", "localhost/b:2"], "Layers": ["4f2c/layer.tar"]}]
    return tar(
        [
            folder("4f2c"),
            Entry("4f2c/VERSION", b"1.0"),
            Entry("4f2c/json", b"{}"),
            Entry("4f2c/layer.tar", layer),
            Entry(document, config),
            Entry("manifest.json", json.dumps(manifest).encode()),
            Entry("repositories", b"{}"),
        ]
    )


@pytest.mark.parametrize("write", [as_skopeo, as_kaniko, as_old_docker])
async def test_archives_of_other_programs(store: Store, write: Callable[[bytes, bytes], bytes]) -> None:
    config = config_json([BASE], Env=["A=b"])
    await store.load(write(BASE, config))
    image = store.images.resolve("app:1")
    assert (image.id, image.repo_tags) == (digest(config), ["app:1", "localhost/b:2"])
    await store.load(await store.save("app:1", "localhost/b:2"))
    assert store.images.all() == [image]


@pytest.mark.parametrize(("name", "shown"), [("docker.io/library/app:1", "app:1"), ("localhost/b:2", "localhost/b:2")])
async def test_an_oci_layout_that_only_has_a_reference(store: Store, name: str, shown: str) -> None:
    """As skopeo, Podman and Buildah write it: the whole reference where the specification wants a tag."""
    layout = annotated(without(oci_archive([BASE], name), "manifest.json"), name)
    await store.load(layout)
    assert store.images.resolve(shown).repo_tags == [shown]


async def test_a_layout_without_a_name(store: Store) -> None:
    """As `buildah push IMAGE oci-archive:FILE` and skopeo write it where no name is given."""
    layout = annotated(without(oci_archive([BASE], "x"), "manifest.json"), "")
    assert await store.load(layout) == [{"stream": f"Loaded image ID: {digest(config_json([BASE]))}\n"}]


async def test_several_images_of_podman(store: Store) -> None:
    """As `podman save -m` writes them: a layer once for all, an image without a name among them."""
    name = digest(BASE).removeprefix("sha256:") + ".tar"
    configs = [config_json([BASE], Env=[f"N={number}"]) for number in range(2)]
    items = [
        {"Config": digest(config).removeprefix("sha256:") + ".json", "RepoTags": tags, "Layers": [name]}
        for config, tags in zip(configs, (["localhost/a:1"], None), strict=True)
    ]
    documents = [Entry(str(item["Config"]), config) for item, config in zip(items, configs, strict=True)]
    await store.load(tar([Entry(name, BASE), *documents, Entry("manifest.json", json.dumps(items).encode())]))
    assert {image.id: image.repo_tags for image in store.images.all()} == {
        digest(configs[0]): ["localhost/a:1"],
        digest(configs[1]): [],
    }


@pytest.mark.parametrize("version", [b"Directory Transport Version: 1.1\n", b""])
async def test_a_directory_of_skopeos(store: Store, version: bytes) -> None:
    """`dir:`: blobs under their bare digests beside one manifest."""
    config = config_json([BASE])
    manifest = json.dumps({"schemaVersion": 2, "config": {"digest": digest(config)}, "layers": []}).encode()
    blobs = [Entry("./" + digest(data).removeprefix("sha256:"), data) for data in (config, BASE)]
    members = [folder("."), *blobs, Entry("./manifest.json", manifest), Entry("./version", version)]
    with pytest.raises(InvalidParameter, match=r"transport dir: .* skopeo copy dir:FOLDER docker-archive:"):
        await store.load(tar(members if version else members[:-1]))
    assert await store.left() == []


def annotated(layout: bytes, reference: str) -> bytes:
    """The layout with no other annotation than this."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(layout)) as before, tarfile.open(fileobj=stream, mode="w") as after:
        for member in before:
            content = before.extractfile(member)
            data = content.read() if content is not None else b""
            if member.name == "index.json":
                index = json.loads(data)
                index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": reference}
                data = json.dumps(index).encode()
                member.size = len(data)
            after.addfile(member, io.BytesIO(data))
    return stream.getvalue()


async def test_an_image_by_its_platforms(store: Store) -> None:
    """What an index knows of other platforms is told, and that it is not here."""
    await store.load(docker_archive([BASE, TOP], ["app:1"]))
    image = store.images.resolve("app:1")
    store.users[image.id] = [InUse("c" * 64, "c", False)]
    stored = len(BASE) + len(TOP) + len(config_json([BASE, TOP]))
    (own,), containers = await asyncio.to_thread(store.images.variants, image)
    assert (own.descriptor.digest, own.available, own.content, own.unpacked) == (image.id, True, stored, 12)
    assert (str(own.platform), containers) == ("linux/amd64", ["c" * 64])

    here, there = digest(b"here"), digest(b"there")
    entries = [
        {"mediaType": MEDIA_MANIFEST, "digest": one, "size": 9, "platform": {"os": "linux", "architecture": name}}
        for one, name in ((here, "amd64"), (there, "arm64"))
    ]
    entries.append({**entries[0], "digest": digest(b"said"), "annotations": {"vnd.docker.reference.type": "x"}})
    index = json.dumps({"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": entries}).encode()
    indexes = (await asyncio.to_thread(store.blobs.put, index),)
    with store.images.records.transaction() as connection:
        known = KnownManifest(here, MEDIA_MANIFEST, 9, image.id, (digest(BASE), digest(TOP)), indexes)
        store.images.records.put_manifest(connection, known)
    found, _ = await asyncio.to_thread(store.images.variants, image)
    assert [(one.descriptor.digest, str(one.platform), one.available, one.content) for one in found] == [
        (here, "linux/amd64", True, stored + 9),
        (there, "linux/arm64", False, 0),
    ]


async def test_more_layers_than_wait_to_be_unpacked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What had to wait too long is unpacked from the archive's blob afterwards."""
    monkeypatch.setattr("wherry.engine.images.staging._PENDING_MAX", 1)
    layers = [tar([Entry(f"layer-{number}", b"x" * number)]) for number in range(30)]
    await store.load(docker_archive(layers, ["app:1"]))
    image = store.images.resolve("app:1")
    assert (len(image.layer_sizes), image.size) == (30, sum(range(30)))
