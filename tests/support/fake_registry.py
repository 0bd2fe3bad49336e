"""A registry in memory, behind what transfers need of a registry client; it counts, waits and breaks as told."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.images import config_json, digest
from wherry.errors import NotFound, SystemFailure, Unauthorized
from wherry.model.credentials import Credentials
from wherry.model.manifests import MEDIA_CONFIG, MEDIA_INDEX, MEDIA_LAYER, MEDIA_MANIFEST, Descriptor
from wherry.model.reference import Reference

PIECE = 1000  # bytes that a blob comes in


@dataclass(frozen=True)
class Document:
    media_type: str
    digest: str
    data: bytes


@dataclass
class FakeRegistry:
    """Everything of one host. `asked` counts requests, `sent` the bytes of each blob that went out."""

    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict)  # repository -> digest -> bytes
    manifests: dict[str, dict[str, Document]] = field(default_factory=dict)  # repository -> tag or digest
    asked: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)  # a blob waits in its middle, an upload first
    cut: dict[str, int] = field(default_factory=dict)  # a blob breaks off after so many bytes
    lies: dict[str, bytes] = field(default_factory=dict)  # a blob is served as this
    lying_mirror: bool = False  # ... by a mirror, and whoever does not believe it asks the registry itself
    refused: set[str] = field(default_factory=set)  # whose blobs break off in the middle
    takes_restricted: bool = False
    kill_after: int = -1  # so many bytes of blobs, and this process is killed
    at_once: int = 0
    most_at_once: int = 0

    def repository(self, reference: Reference, credentials: Credentials | None = None) -> FakeRepository:
        return FakeRepository(self, reference.path, credentials.username if credentials else "")

    def put_blob(self, repository: str, data: bytes) -> str:
        self.blobs.setdefault(repository, {})[digest(data)] = data
        return digest(data)

    def put_document(self, repository: str, media_type: str, data: bytes, tag: str = "") -> Document:
        document = Document(media_type, digest(data), data)
        for ref in (document.digest, *([tag] if tag else [])):
            self.manifests.setdefault(repository, {})[ref] = document
        return document

    def put_image(
        self,
        repository: str,
        tag: str,
        layers: list[bytes],
        *,
        compress: Callable[[bytes], bytes] = lambda data: gzip.compress(data, 1, mtime=0),
        layer_type: str = f"{MEDIA_LAYER}+gzip",
        config: bytes | None = None,
        descriptors: list[dict[str, Any]] | None = None,
    ) -> Document:
        """An image of these plain layers; `descriptors` are what its manifest says of them."""
        config = config or config_json(layers)
        blobs = [compress(layer) for layer in layers]
        for blob in (config, *blobs):
            self.put_blob(repository, blob)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MEDIA_MANIFEST,
            "config": {"mediaType": MEDIA_CONFIG, "digest": digest(config), "size": len(config)},
            "layers": descriptors
            or [{"mediaType": layer_type, "digest": digest(blob), "size": len(blob)} for blob in blobs],
        }
        return self.put_document(repository, MEDIA_MANIFEST, json.dumps(manifest).encode(), tag)

    def put_index(self, repository: str, tag: str, images: dict[str, Document], *extra: dict[str, Any]) -> Document:
        """An index of manifests by platform."""
        manifests = []
        for platform, document in images.items():
            os, architecture, *variant = platform.split("/")
            described = {"os": os, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
            manifests.append(
                {
                    "mediaType": document.media_type,
                    "digest": document.digest,
                    "size": len(document.data),
                    "platform": described,
                }
            )
        index = {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": [*manifests, *extra]}
        return self.put_document(repository, MEDIA_INDEX, json.dumps(index).encode(), tag)

    def attest(self, repository: str, image: Document, statement: bytes = b'{"_type": "statement"}') -> dict[str, Any]:
        """Put what is attested about an image; how an index names it."""
        config = json.dumps({"os": "unknown", "architecture": "unknown", "about": image.digest}).encode()
        for blob in (config, statement):
            self.put_blob(repository, blob)
        kind = "application/vnd.in-toto+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": MEDIA_MANIFEST,
            "config": {"mediaType": MEDIA_CONFIG, "digest": digest(config), "size": len(config)},
            "layers": [{"mediaType": kind, "digest": digest(statement), "size": len(statement)}],
        }
        document = self.put_document(repository, MEDIA_MANIFEST, json.dumps(manifest).encode())
        return {
            "mediaType": MEDIA_MANIFEST,
            "digest": document.digest,
            "size": len(document.data),
            "annotations": {
                "vnd.docker.reference.digest": image.digest,
                "vnd.docker.reference.type": "attestation-manifest",
            },
            "platform": {"os": "unknown", "architecture": "unknown"},
        }


class FakeRepository:
    def __init__(self, registry: FakeRegistry, path: str, user: str) -> None:
        self._registry = registry
        self._path = path
        self._user = user
        self._distrusted: set[str] = set()

    async def manifest(self, ref: str) -> Document:
        self._registry.asked[f"manifest {ref}"] += 1
        found = self._registry.manifests.get(self._path, {}).get(ref)
        if found is None:
            raise NotFound(f"manifest for {self._path}:{ref} not found: manifest unknown: manifest unknown")
        return found

    async def head(self, ref: str) -> Descriptor | None:
        self._registry.asked[f"head {ref}"] += 1
        found = self._registry.manifests.get(self._path, {}).get(ref)
        return Descriptor(found.media_type, found.digest, len(found.data)) if found else None

    async def tags(self) -> list[str]:
        return sorted(ref for ref in self._registry.manifests.get(self._path, {}) if ":" not in ref)

    async def blob(self, descriptor: Descriptor, offset: int = 0) -> AsyncGenerator[bytes, None]:
        registry = self._registry
        registry.asked[f"blob {descriptor.digest}"] += 1
        data = registry.blobs[self._path].get(descriptor.digest)
        if descriptor.digest not in self._distrusted:
            data = registry.lies.get(descriptor.digest, data)
        if data is None:
            raise NotFound(f"blob {descriptor.digest} unknown")
        registry.at_once += 1
        registry.most_at_once = max(registry.at_once, registry.most_at_once)
        try:
            for start in range(offset, len(data), PIECE):
                if descriptor.digest in registry.gates and start + PIECE >= len(data):
                    await registry.gates[descriptor.digest].wait()
                if descriptor.digest in registry.cut and start >= registry.cut[descriptor.digest]:
                    raise SystemFailure("the connection broke")
                if self._user in registry.refused and start:
                    raise Unauthorized("unauthorized: authentication required")
                await asyncio.sleep(0)
                piece = data[start : start + PIECE]
                registry.sent[descriptor.digest] += len(piece)
                if 0 <= registry.kill_after <= registry.sent.total():
                    os.kill(os.getpid(), signal.SIGKILL)
                yield piece
        finally:
            registry.at_once -= 1

    def distrust(self, digest: str) -> bool:
        if not self._registry.lying_mirror or digest in self._distrusted:
            return False
        self._distrusted.add(digest)
        return True

    async def has_blob(self, digest: str) -> bool:
        self._registry.asked[f"has {digest}"] += 1
        return digest in self._registry.blobs.get(self._path, {})

    async def mount(self, digest: str, source_repository: str) -> bool:
        self._registry.asked[f"mount {digest} from {source_repository}"] += 1
        data = self._registry.blobs.get(source_repository, {}).get(digest)
        if data is None:
            return False
        self._registry.put_blob(self._path, data)
        return True

    async def upload(
        self, descriptor: Descriptor, read: Callable[[int], AsyncIterator[bytes]], progress: Callable[[int], None]
    ) -> None:
        self._registry.asked[f"upload {descriptor.digest}"] += 1
        data = b""
        async for piece in read(0):
            if descriptor.digest in self._registry.gates:
                await self._registry.gates[descriptor.digest].wait()
            data += piece
            progress(len(data))
            if 0 <= self._registry.kill_after <= len(data):
                os.kill(os.getpid(), signal.SIGKILL)
        assert (digest(data), len(data)) == (descriptor.digest, descriptor.size)
        self._registry.put_blob(self._path, data)

    async def takes_restricted(self) -> bool:
        return self._registry.takes_restricted

    async def put_manifest(self, ref: str, media_type: str, data: bytes) -> str:
        document = json.loads(data)
        blobs, manifests = self._registry.blobs.get(self._path, {}), self._registry.manifests.get(self._path, {})
        needed = [document["config"], *document["layers"]] if "config" in document else []
        assert all(each["digest"] in blobs or "urls" in each for each in needed), "a manifest before its blobs"
        assert all(each["digest"] in manifests for each in document.get("manifests", ())), "an index before its parts"
        return self._registry.put_document(self._path, media_type, data, "" if ":" in ref else ref).digest
