"""The image configuration while a stage is planned: what BuildKit keeps of a base image's, and in which form.

Source: OCI image-spec config.md, and the fields that Docker added (Healthcheck, OnBuild, Shell, ArgsEscaped).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from wherry.model.platforms import Platform

_CONFIG_FIELDS = (
    "User ExposedPorts Env Entrypoint Cmd Volumes WorkingDir Labels StopSignal Healthcheck ArgsEscaped OnBuild Shell"
).split()
_TOP_FIELDS = ("author", "architecture", "variant", "os", "os.version", "os.features")


def empty(platform: Platform) -> dict[str, Any]:
    """Of an image that begins with nothing."""
    return {**_platform_fields(platform), "config": {"WorkingDir": "/"}}


def inherited(document: Mapping[str, Any]) -> dict[str, Any]:
    """What an image made from this one begins with; history and layers are told elsewhere."""
    config = document.get("config") or {}
    kept = {name: deepcopy(document[name]) for name in _TOP_FIELDS if document.get(name)}
    kept["config"] = {name: deepcopy(config[name]) for name in _CONFIG_FIELDS if config.get(name)}
    return kept


def copied(document: Mapping[str, Any]) -> dict[str, Any]:
    """For a stage that goes on from another."""
    return deepcopy(dict(document))


def with_platform(document: dict[str, Any], platform: Platform) -> dict[str, Any]:
    """The platform that was asked for, in place of what the base image said."""
    same = (document.get("os"), document.get("architecture")) == (platform.os, platform.architecture)
    result = {**document, "os": platform.os, "architecture": platform.architecture}
    if platform.variant or not same:
        result["variant"] = platform.variant
    return {name: value for name, value in result.items() if value not in ("", None)}


def finished(document: Mapping[str, Any]) -> dict[str, Any]:
    """Without the fields that hold nothing."""
    result = dict(document)
    result["config"] = {name: value for name, value in document["config"].items() if value}
    return result


def _platform_fields(platform: Platform) -> dict[str, Any]:
    fields = {"architecture": platform.architecture, "os": platform.os}
    return fields | ({"variant": platform.variant} if platform.variant else {})
