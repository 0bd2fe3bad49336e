"""The image routes: decode, one call of the service, encode in Docker's shapes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from wherry.api.app import Call, Route
from wherry.api.errors import message_of
from wherry.api.jsontext import encode
from wherry.api.rawstream import ClientGone
from wherry.api.server import Answer
from wherry.engine.images.removal import Removed
from wherry.engine.images.service import Images
from wherry.engine.transfers.imports import Imports
from wherry.engine.transfers.pulls import Pulls
from wherry.engine.transfers.pushes import Pushes
from wherry.errors import InvalidParameter, SystemFailure
from wherry.model.config import Config
from wherry.model.credentials import Credentials
from wherry.model.credentials import decode as decode_credentials
from wherry.model.filters import Filters
from wherry.model.image import Image, config_json
from wherry.model.image_filters import Listed
from wherry.model.reference import Reference, is_digest, parse, parse_target
from wherry.model.timestamps import SECOND, ZERO, rfc3339_nano

NOT_COUNTED = -1


def routes(images: Images, pulls: Pulls, pushes: Pushes, imports: Imports) -> list[Route]:
    """The routes of this file."""

    async def list_images(call: Call) -> Answer:
        filters = Filters.decode(call.query.text("filters"))
        if legacy := call.query.text("filter"):  # before API 1.28
            if call.version < (1, 41):
                filters = Filters({**filters.fields, "reference": (*filters.get("reference"), legacy)})
        listed = images.select(filters, all=call.query.boolean("all"))
        shared = call.version >= (1, 42) and call.query.boolean("shared-size")
        shown = [
            summary(item, call.version, shared_size=images.shared_size(item.image) if shared else NOT_COUNTED)
            for item in listed
        ]
        if call.query.boolean("manifests"):
            for entry, item in zip(shown, listed, strict=True):
                entry["Manifests"] = await asyncio.to_thread(_manifests, images, item.image)
        return call.json(shown)

    async def inspect(call: Call) -> Answer:
        return call.json(_inspection(images.resolve(call.path["name"]), images, call.version))

    async def history(call: Call) -> Answer:
        return call.json(
            [
                {
                    "Comment": entry.comment,
                    "Created": entry.created,
                    "CreatedBy": entry.created_by,
                    "Id": entry.id,
                    "Size": entry.size,
                    "Tags": entry.tags,
                }
                for entry in images.history(call.path["name"])
            ]
        )

    async def tag(call: Call) -> Answer:
        repository = call.query.text("repo")
        if not repository:
            return call.empty(200)
        await images.tag(call.path["name"], repository, call.query.text("tag"))
        return call.empty(201)

    async def remove(call: Call) -> Answer:
        name = call.path["name"]
        if not name.strip():
            raise InvalidParameter("image name cannot be blank")
        removed = await images.remove(name, force=call.query.boolean("force"), prune=not call.query.boolean("noprune"))
        return call.json([_removed(item) for item in removed])

    async def prune(call: Call) -> Answer:
        pruned = await images.prune(Filters.decode(call.query.text("filters")))
        return call.json(
            {
                "ImagesDeleted": [_removed(item) for item in pruned.removed] or None,
                "SpaceReclaimed": pruned.reclaimed,
            }
        )

    async def load(call: Call) -> Answer:
        quiet = call.query.boolean("quiet", default=True)
        return await _progress(call, images.load(call.content, quiet=quiet))

    async def save_several(call: Call) -> Answer:
        return await _save(call, call.query.all("names"))

    async def save_one(call: Call) -> Answer:
        return await _save(call, [call.path["name"]])

    async def _save(call: Call, names: list[str]) -> Answer:
        try:
            archive = await images.save(names)
        except InvalidParameter as error:
            raise SystemFailure(str(error)) from None  # the real engine answers 500 here
        response = await call.stream("application/x-tar")
        async for piece in archive:
            await response.write(piece)
        await response.write_eof()
        return response

    async def pull(call: Call) -> Answer:
        query = call.query
        reference = _pulled(query.text("fromImage"), query.text("tag"))
        credentials = _credentials(call.headers.get("X-Registry-Auth", ""))
        messages = pulls.pull(reference, platform=query.text("platform"), credentials=credentials)
        return await _transfer(call, messages)

    async def push(call: Call) -> Answer:
        header = call.headers.get("X-Registry-Auth", "")
        if not header:
            raise InvalidParameter("bad parameters and missing X-Registry-Auth: invalid X-Registry-Auth header: EOF")
        reference = parse(call.path["name"])
        if tag := call.query.text("tag"):
            reference = reference.with_tag(tag)
        messages = pushes.push(reference, credentials=_credentials(header))
        return await call.while_connected(_transfer(call, messages))

    async def fetched(call: Call, url: str) -> Answer:
        query = call.query
        messages = imports.import_(
            url,
            repository=query.text("repo"),
            tag=query.text("tag"),
            changes=query.all("changes"),
            message=query.text("message"),
            platform=query.text("platform"),
        )
        return await _transfer(call, messages)

    async def create(call: Call) -> Answer:
        query = call.query
        if query.text("fromImage"):
            return await call.while_connected(pull(call))
        source = query.text("fromSrc")
        if source != "-":
            return await call.while_connected(fetched(call, source))
        if repository := query.text("repo"):
            parse_target(repository, query.text("tag"))
        image = await images.import_(
            call.content,
            repository=repository,
            tag=query.text("tag"),
            changes=query.all("changes"),
            message=query.text("message") or f"Imported from {source}",
            platform=query.text("platform"),
        )
        return call.json({"status": image.id})

    return [
        Route("GET", "/images/json", list_images),
        Route("GET", "/images/get", save_several),
        Route("POST", "/images/create", create),
        Route("POST", "/images/load", load),
        Route("POST", "/images/prune", prune),
        Route("GET", "/images/{name:.*}/json", inspect),
        Route("GET", "/images/{name:.*}/history", history),
        Route("GET", "/images/{name:.*}/get", save_one),
        Route("POST", "/images/{name:.*}/push", push),
        Route("POST", "/images/{name:.*}/tag", tag),
        Route("DELETE", "/images/{name:.*}", remove),
    ]


def _pulled(name: str, tag: str) -> Reference:
    """What `fromImage` and `tag`, which may be a digest, name together. Raises InvalidParameter in Docker's words."""
    reference = parse(name)
    if not tag:
        return reference
    return replace(reference, tag="", digest=tag) if is_digest(tag) else reference.with_tag(tag)


def _credentials(header: str) -> Credentials:
    """What a client proves itself with; what cannot be read is nothing, as in the real engine."""
    try:
        return decode_credentials(header)
    except InvalidParameter:
        return Credentials()


async def _transfer(call: Call, messages: AsyncGenerator[dict[str, Any], None]) -> Answer:
    """As `_progress`, but what fails before the first message is a refusal with a status."""
    async with aclosing(messages):
        first = await anext(messages)

        async def all_of_them() -> AsyncIterator[dict[str, Any]]:
            yield first
            async for message in messages:
                yield message

        return await _progress(call, all_of_them())


async def _progress(call: Call, messages: AsyncIterator[dict[str, Any]]) -> Answer:
    """JSON lines as they come. An error is one more line: the status has been sent, as the real engine does it."""
    response = await call.stream("application/json")
    try:
        async for message in messages:
            await response.write(encode(message) + b"\r\n")
    except ClientGone:
        raise
    except Exception as error:
        text = message_of(error)
        await response.write(encode({"errorDetail": {"message": text}, "error": text}) + b"\r\n")
    await response.write_eof()
    return response


def _removed(item: Removed) -> dict[str, str]:
    return {"Untagged": item.untagged} if item.untagged else {"Deleted": item.deleted}


def summary(
    item: Listed,
    version: tuple[int, ...],
    *,
    containers: int = NOT_COUNTED,
    shared_size: int = NOT_COUNTED,
    size: int | None = None,
) -> dict[str, Any]:
    """ImageSummary. `size` is what it takes where that is not the size of its files."""
    image = item.image
    taken = image.size if size is None else size
    shown = {
        "Containers": containers,
        "Created": image.created_ns // SECOND,
        "Id": image.id,
        "Labels": image.config.labels,
        "ParentId": image.parent,
        "RepoDigests": item.repo_digests,
        "RepoTags": item.repo_tags,
        "SharedSize": shared_size,
        "Size": taken,
    }
    if version < (1, 43) and not item.repo_tags and not item.repo_digests:
        shown |= {"RepoDigests": ["<none>@<none>"], "RepoTags": ["<none>:<none>"]}
    elif version < (1, 43):
        shown |= {"RepoDigests": item.repo_digests or None, "RepoTags": item.repo_tags or None}
    if version < (1, 44):
        shown["VirtualSize"] = taken
    return shown


def _manifests(images: Images, image: Image) -> list[dict[str, Any]]:
    """ImageManifestSummary of each (API 1.47). Blocking."""
    found, containers = images.variants(image)
    return [
        {
            "ID": variant.descriptor.digest,
            "Descriptor": {
                "mediaType": variant.descriptor.media_type,
                "digest": variant.descriptor.digest,
                "size": variant.descriptor.size,
            },
            "Available": variant.available,
            "Kind": "image",
            "Size": {"Content": variant.content, "Total": variant.content + variant.unpacked},
            "ImageData": {
                "Platform": {
                    "architecture": variant.platform.architecture,
                    "os": variant.platform.os,
                    **({"variant": variant.platform.variant} if variant.platform.variant else {}),
                },
                "Containers": containers if variant.available else [],
                "Size": {"Unpacked": variant.unpacked},
            },
        }
        for variant in found
    ]


def _inspection(image: Image, images: Images, version: tuple[int, ...]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": image.repo_tags,
        "RepoDigests": image.repo_digests,
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": image.created or ZERO,
        **({"ContainerConfig": _container_config(image, images)} if version < (1, 45) else {}),
        "DockerVersion": image.docker_version,
        "Author": image.author,
        "Config": config_json(image.config),
        "Architecture": image.architecture,
    }
    if image.variant:
        shown["Variant"] = image.variant
    shown["Os"] = image.os
    if image.os_version:
        shown["OsVersion"] = image.os_version
    shown["Size"] = image.size
    if version < (1, 44):
        shown["VirtualSize"] = image.size
    return shown | {
        "GraphDriver": {"Data": _driver_data(image, images), "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": image.diff_ids} if image.diff_ids else {"Type": "layers"},
        "Metadata": {"LastTagTime": rfc3339_nano(image.last_tag_ns)},
    }


def _container_config(image: Image, images: Images) -> Any:
    """What the container ran with that the image was made of, where the image tells (`commit` does)."""
    told = images.document(image).get("container_config")
    return told if isinstance(told, dict) else config_json(Config())


def _driver_data(image: Image, images: Images) -> dict[str, str]:
    """The keys that Docker's overlay2 has; a container's own layer is what it would be mounted as."""
    top, *below = images.view_plan(image).lower
    folder = top.rpartition("/")[0]
    data = {"LowerDir": ":".join(below)} if below else {}
    return data | {"MergedDir": f"{folder}/merged", "UpperDir": top, "WorkDir": f"{folder}/work"}
