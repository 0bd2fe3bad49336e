"""What `logs --details` shows before each line: the log options labels, labels-regex, env, env-regex and tag.

Labels and environment of a container never change, so this is worked out when a log is read and not kept in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

from wherry.errors import InvalidParameter
from wherry.model.container import Container
from wherry.model.gotime import format_time
from wherry.model.jsontext import dumps
from wherry.model.template import TemplateError, parse
from wherry.model.template.values import Typed, text
from wherry.model.timestamps import rfc3339_nano

OPTIONS = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})

_SHORT = 12  # characters of an ID


def attributes(container: Container, *, log_path: str, hostname: str) -> dict[str, str]:
    """The attributes of every line, by name in order. Raises InvalidParameter for a malformed expression or tag.

    `log_path` and `hostname` (the host's) are what a tag may name besides the record.
    """
    options = container.host.log_config.config or {}
    environment = dict(entry.split("=", 1) for entry in container.config.env or () if "=" in entry)
    found: dict[str, str] = {}
    found |= _named(container.config.labels or {}, options.get("labels", ""))
    found |= _matching(container.config.labels or {}, options.get("labels-regex", ""))
    found |= _named(environment, options.get("env", ""))
    found |= _matching(environment, options.get("env-regex", ""))
    if template := options.get("tag", ""):
        found["tag"] = _tag(template, Info(container, found, log_path, hostname))
    return dict(sorted(found.items()))


def encoded(found: Mapping[str, str]) -> str:
    """As it stands in a log line: `a=b,c=d`, names and values quoted as in a URL's query."""
    return ",".join(f"{_quoted(name)}={_quoted(value)}" for name, value in found.items())


def _quoted(text: str) -> str:
    return quote_plus(text, safe="~")


def _named(values: Mapping[str, str], names: str) -> dict[str, str]:
    return {name: values[name] for name in names.split(",") if name in values}


def _matching(values: Mapping[str, str], expression: str) -> dict[str, str]:
    if not expression:
        return {}
    try:
        wanted = re.compile(expression)
    except re.error as error:
        raise InvalidParameter(f"error parsing regexp: {error}: `{expression}`") from None
    return {name: value for name, value in values.items() if wanted.search(name)}


def _tag(template: str, info: Info) -> str:
    try:
        return parse(template, name="log-tag").render(info)
    except TemplateError as error:
        raise InvalidParameter(str(error)) from None


class Info(Typed):
    """What a tag's template sees: the fields and methods of Docker's logger.Info."""

    type_name = "*logger.Info"

    def __init__(self, container: Container, extra: Mapping[str, str], log_path: str, hostname: str) -> None:
        self._container = container
        self._methods = {"Command": " ".join([container.path, *container.args]), "Hostname": hostname}
        self._methods |= {"ID": container.id[:_SHORT], "FullID": container.id, "Name": container.name}
        self._methods |= {"ImageID": container.image[:_SHORT], "ImageFullID": container.image}
        self._methods |= {"ImageName": container.image_ref}
        self._extra = dict(extra)
        self._fields: dict[str, Any] = {
            "Config": container.host.log_config.config or {},
            "ContainerID": container.id,
            "ContainerName": f"/{container.name}",
            "ContainerEntrypoint": container.path,
            "ContainerArgs": list(container.args),
            "ContainerImageID": container.image,
            "ContainerImageName": container.image_ref,
            "ContainerCreated": _Moment(container.created_at),
            "ContainerEnv": container.config.env or [],
            "ContainerLabels": container.config.labels or {},
            "LogPath": log_path,
            "DaemonName": "docker",
        }

    def has_field(self, name: str) -> bool:
        return name in self._fields or name in self._methods or name == "ExtraAttributes"

    def field(self, name: str, arguments: list[Any]) -> Any:
        if name == "ExtraAttributes":
            return self._extra
        return self._fields[name] if name in self._fields else self._methods[name]

    def is_method(self, name: str) -> bool:
        return name == "ExtraAttributes"

    def to_json(self) -> str:
        return dumps(self._fields)

    def text(self) -> str:
        return "{" + " ".join(text(value) for value in self._fields.values()) + "}"


class _Moment(Typed):
    """Go's time.Time, as far as a tag has a use for it."""

    type_name = "time.Time"

    def __init__(self, nanoseconds: int) -> None:
        self._nanoseconds = nanoseconds

    def has_field(self, name: str) -> bool:
        return name in ("Unix", "UnixNano")

    def field(self, name: str, arguments: list[Any]) -> Any:
        return self._nanoseconds if name == "UnixNano" else self._nanoseconds // 10**9

    def to_json(self) -> str:
        return dumps(rfc3339_nano(self._nanoseconds))

    def text(self) -> str:
        return format_time(rfc3339_nano(self._nanoseconds))
