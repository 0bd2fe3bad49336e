"""Base images out of directories of the client's with an OCI layout."""

from __future__ import annotations

import asyncio
from typing import Any

from wherry.engine.builds.bases import Puller
from wherry.engine.builds.imports import Shelf, small_blob
from wherry.engine.builds.progress import Progress
from wherry.engine.images.admission import Admission
from wherry.errors import InvalidParameter
from wherry.model.image import Image, parse_image
from wherry.model.manifests import CONFIG_MAX, NESTING_MAX, Index, Manifest, choose, parse
from wherry.model.platforms import Platform


async def take(
    shelf: Shelf, ref: str, platform: Platform, puller: Puller, admission: Admission, progress: Progress
) -> Image:
    """The image for a platform, recorded without a name; verified as a pull verifies.

    The caller holds what no record names yet. Raises NotFound, InvalidParameter.
    """

    def tell(message: dict[str, Any]) -> None:
        activity.transfer(message)

    with progress.activity(f"OCI load from client {ref}".rstrip()) as activity:
        manifest = await _manifest(shelf, ref, platform)
        document = await small_blob(shelf, manifest.config, CONFIG_MAX)
        image = await asyncio.to_thread(parse_image, document)
        if len(image.diff_ids) != len(manifest.layers):
            raise InvalidParameter("layers from manifest don't match image configuration")
        blobs = dict(zip(image.diff_ids, manifest.layers, strict=True))
        layers = await puller.layers(shelf, image.diff_ids, blobs, tell)
        return await admission.admit(document, layers)


async def _manifest(shelf: Shelf, ref: str, platform: Platform) -> Manifest:
    document = await shelf.manifest(ref)
    for _ in range(NESTING_MAX + 1):
        parsed = parse(document.media_type, document.data)
        if not isinstance(parsed, Index):
            return parsed
        document = await shelf.manifest(choose(parsed, platform).digest)
    raise InvalidParameter(f"invalid manifest: indexes nested more than {NESTING_MAX} deep")
