"""What was built, on its way to registries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from wherry.engine.builds.progress import Progress
from wherry.engine.transfers.needs import Destination
from wherry.model.credentials import Credentials
from wherry.model.manifests import Descriptor
from wherry.model.reference import Reference


class Pusher(Protocol):
    def push(
        self, reference: Reference, *, credentials: Credentials | None = None, by_digest: bool = False
    ) -> AsyncGenerator[dict[str, Any], None]: ...
    async def layers(
        self,
        destination: Destination,
        place: str,
        diff_ids: Sequence[str],
        tell: Callable[[dict[str, Any]], None],
        /,
        *,
        compression: str,
        docker: bool,
    ) -> list[Descriptor]: ...


async def publish(
    pusher: Pusher, name: Reference, credentials: Credentials | None, progress: Progress, *, by_digest: bool
) -> str:
    """Push an image by its name; the digest of its manifest there. Raises WherryError; the image stays then."""
    digest = ""
    with progress.activity(f"pushing {name.familiar}") as activity:
        async with aclosing(pusher.push(name, credentials=credentials, by_digest=by_digest)) as messages:
            async for message in messages:
                activity.transfer(message)
                digest = message.get("aux", {}).get("Digest", digest)
    return digest
