"""What `logs --details` shows before each line: the log options labels, labels-regex, env, env-regex and tag.

Labels and environment of a container never change, so this is worked out when a log is read and not kept in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote_plus

from wherry.errors import InvalidParameter, NotSupported
from wherry.model.config import LogConfig
from wherry.model.container import Container

OPTIONS = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_FIELD = re.compile(r"\.(\w+)\Z", re.ASCII)
_SHORT = 12  # characters of an ID


def validate(log: LogConfig) -> None:
    """Raises NotSupported for a tag that needs more of Go's templates than fields."""
    for action in _ACTION.findall((log.config or {}).get("tag", "")):
        if not _FIELD.match(action):
            raise NotSupported(f"log option tag: {{{{{action}}}}}: only fields such as {{{{.Name}}}} are supported")


def attributes(container: Container) -> dict[str, str]:
    """The attributes of every line, by name in order. Raises InvalidParameter for a malformed expression or tag."""
    options = container.host.log_config.config or {}
    environment = dict(entry.split("=", 1) for entry in container.config.env or () if "=" in entry)
    found: dict[str, str] = {}
    found |= _named(container.config.labels or {}, options.get("labels", ""))
    found |= _matching(container.config.labels or {}, options.get("labels-regex", ""))
    found |= _named(environment, options.get("env", ""))
    found |= _matching(environment, options.get("env-regex", ""))
    if tag := _tag(options.get("tag", ""), container):
        found["tag"] = tag
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


def _tag(template: str, container: Container) -> str:
    if "{{" in _ACTION.sub("", template):
        raise InvalidParameter("template: log-tag:1: unclosed action")
    fields = dict(_fields(container))

    def value(action: re.Match[str]) -> str:
        name = action[1].removeprefix(".")
        if name not in fields:
            raise InvalidParameter(
                f'template: log-tag:1:{action.start() + 2}: executing "log-tag" at <.{name}>: '
                f"can't evaluate field {name} in type *logger.Info"
            )
        return fields[name]

    return _ACTION.sub(value, template)


def _fields(container: Container) -> Iterator[tuple[str, str]]:
    """What a tag can name, as in Docker."""
    yield "ID", container.id[:_SHORT]
    yield from dict.fromkeys(("FullID", "ContainerID"), container.id).items()
    yield "Name", container.name
    yield "ContainerName", f"/{container.name}"
    yield "ImageID", container.image[:_SHORT]
    yield from dict.fromkeys(("ImageFullID", "ContainerImageID"), container.image).items()
    yield from dict.fromkeys(("ImageName", "ContainerImageName"), container.image_ref).items()
    yield "Command", " ".join([container.path, *container.args])
    yield "DaemonName", "docker"
