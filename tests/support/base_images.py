"""Base images for the tests of planning."""

from __future__ import annotations

from typing import Any

from wherry.errors import NotFound
from wherry.model.dockerfile.options import BaseImage
from wherry.model.platforms import Platform

HOST = Platform("linux", "amd64")
BASE: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["PATH=/bin", "BASE=1"], "Cmd": ["sh"], "WorkingDir": "/start", "User": "7"},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
    "history": [{"created_by": "base"}],
}
FOREIGN = {**BASE, "architecture": "s390x"}


class Images:
    """By the canonical reference, `base` and `foreign` if none are given; what was asked for is kept."""

    def __init__(self, **documents: dict[str, Any]) -> None:
        self.asked: list[tuple[str, Platform]] = []
        held = documents or {"base": BASE, "foreign": FOREIGN}
        self._documents = {f"docker.io/library/{name}:latest": document for name, document in held.items()}

    async def base_image(self, reference: str, platform: Platform) -> BaseImage:
        self.asked.append((reference, platform))
        if reference not in self._documents:
            raise NotFound(f"No such image: {reference}")
        return BaseImage(reference, self._documents[reference])
