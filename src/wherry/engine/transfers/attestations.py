"""What is attested about an image that is pulled: kept with it, so that its index goes elsewhere as it came.

Source: BuildKit, "Image attestation storage": manifests in the same index that name the image's in an annotation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from wherry.engine.images.leases import Lease
from wherry.engine.transfers.downloads import Downloads
from wherry.engine.transfers.needs import Repository
from wherry.errors import InvalidParameter, WherryError
from wherry.model.manifests import Descriptor, parse_attestation

log = logging.getLogger(__name__)
ATTESTED_MAX = 128 << 20  # bytes of what one manifest attests


class Attestations:
    """Brings them. What cannot be had is passed over with a line in the log: the image is whole without it."""

    def __init__(self, downloads: Downloads) -> None:
        self._downloads = downloads

    async def bring(
        self, repository: Repository, wanted: Mapping[str, Sequence[Descriptor]], lease: Lease
    ) -> dict[str, tuple[str, ...]]:
        """By index, the blobs of what is attested there: each manifest, and then its own. The lease shields them."""
        found: dict[str, tuple[str, ...]] = {}
        for index, descriptors in wanted.items():
            parts: list[str] = []
            for descriptor in descriptors:
                try:
                    parts += await self._bring(repository, descriptor, lease)
                except WherryError as error:
                    log.warning("attestation %s of %s is left out: %s", descriptor.digest, index, error)
            if parts:
                found[index] = tuple(parts)
        return found

    async def _bring(self, repository: Repository, descriptor: Descriptor, lease: Lease) -> list[str]:
        document = await repository.manifest(descriptor.digest)
        if len(document.data) != descriptor.size:
            raise InvalidParameter(f"it has {len(document.data)} bytes and is said to have {descriptor.size}")
        manifest = await asyncio.to_thread(parse_attestation, document.data)
        blobs = [manifest.config, *manifest.layers]
        if (size := sum(blob.size for blob in blobs)) > ATTESTED_MAX:
            raise InvalidParameter(f"it has {size} bytes, at most {ATTESTED_MAX} are kept")
        parts = [descriptor.digest, *(blob.digest for blob in blobs)]
        if not all(part.startswith("sha256:") for part in parts):
            raise InvalidParameter("its parts are named by another digest than sha256")
        await lease.shield(blobs=parts)
        for blob in blobs:
            async with self._downloads.want(blob, repository) as running:
                await running.done()
        await asyncio.to_thread(self._downloads.blobs.put, document.data)
        return parts
