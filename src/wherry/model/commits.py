"""An image made of a container: its configuration document (OCI image-spec config.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from wherry.model.changes import apply_changes
from wherry.model.config import Config
from wherry.model.image import History, Image, config_json
from wherry.model.merge import merge


@dataclass(frozen=True)
class Commit:
    """What is said of the new image. `created` is RFC 3339; `container_config` is what the container ran with."""

    container_id: str
    container_config: Config
    config: Config
    author: str
    comment: str
    created: str


def committed_config(asked: Config | None, own: Config, changes: Iterable[str]) -> Config:
    """The new image's configuration: what was asked, changed, completed by the container's own.

    Raises InvalidParameter.
    """
    changed = apply_changes(asked if asked is not None else own, changes)
    return replace(merge(changed, own), on_build=changed.on_build)


def commit_document(base: Image, step: Commit, diff_id: str) -> bytes:
    """The document; `diff_id` is of the new layer, "" where nothing was written."""
    history = History(
        created=step.created,
        author=step.author,
        created_by=" ".join(step.container_config.cmd or ()),
        comment=step.comment,
        empty_layer=not diff_id,
    )
    document: dict[str, Any] = {"architecture": base.architecture}
    document |= {key: value for key, value in (("author", step.author), ("comment", step.comment)) if value}
    document |= {
        "config": config_json(step.config),
        "container": step.container_id,
        "container_config": config_json(step.container_config),
        "created": step.created,
        "history": [*base.history, history],
        "os": base.os,
        "rootfs": {"type": "layers", "diff_ids": [*base.diff_ids, *([diff_id] if diff_id else [])]},
    }
    document |= {key: value for key, value in (("os.version", base.os_version), ("variant", base.variant)) if value}
    return msgspec.json.encode(document)
