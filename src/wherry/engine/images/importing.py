"""`import`: an image of one layer from a root file system's tar."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Iterable
from typing import Any

import msgspec

from wherry.engine.images.admission import Admission
from wherry.errors import InvalidParameter, SystemFailure
from wherry.model import platforms
from wherry.model.changes import apply_changes
from wherry.model.config import Config
from wherry.model.failpoints import failpoint
from wherry.model.image import Image, config_json
from wherry.model.reference import parse_target
from wherry.model.timestamps import rfc3339_nano
from wherry.storage.streams import consume
from wherry.storage.tar import BadArchive


class Importing:
    def __init__(self, admission: Admission, host: platforms.Platform) -> None:
        self._admission = admission
        self._host = host

    async def import_(
        self,
        stream: AsyncIterable[bytes],
        *,
        repository: str,
        tag: str,
        changes: Iterable[str],
        message: str,
        platform: str,
    ) -> Image:
        """See Images.import_."""
        target = parse_target(repository, tag) if repository else None
        wanted = platforms.parse(platform, self._host) if platform else self._host
        if wanted.os != "linux":
            raise InvalidParameter("operating system is not supported")
        config = apply_changes(Config(), changes)
        async with self._admission.holding():
            try:
                layer = await consume(stream, lambda source: self._admission.keep_layer(source, ""))
            except BadArchive as error:
                raise SystemFailure(str(error)) from error  # as the real engine, which answers 500 to a broken tar
            failpoint("images.import.unpacked")
            document = _document(config, wanted, layer.diff_id, message)
            names = [target] if target is not None else []
            return await self._admission.admit(document, [layer], names=names, event="import")


def _document(config: Config, platform: platforms.Platform, diff_id: str, message: str) -> bytes:
    created = rfc3339_nano(time.time_ns())
    step = {"created": created, "comment": message}
    document: dict[str, Any] = {"architecture": platform.architecture}
    if message:
        document["comment"] = message
    document |= {
        "config": config_json(config),
        "created": created,
        "history": [step if message else {"created": created}],
        "os": platform.os,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    if platform.variant:
        document["variant"] = platform.variant
    return msgspec.json.encode(document)
