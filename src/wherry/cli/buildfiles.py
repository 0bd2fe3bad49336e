"""What `build` is given: the Dockerfile, the context, and the options of the command line as those of a plan."""

from __future__ import annotations

import os
import sys

from msgspec import Struct

from wherry.cli.errors import Failure
from wherry.model import platforms
from wherry.model.build_graph import Ulimit
from wherry.model.dockerfile.ignore import ignore_file_names, read_patterns
from wherry.model.dockerfile.options import MAIN_CONTEXT, ImageContext, LocalContext, PlanOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.flags import Flags
    from wherry.model.dockerfile.options import Context

_IMAGE = "docker-image://"
_REMOTE = ("http://", "https://", "git://", "ssh://", "git@", "github.com/")
EPOCH = "SOURCE_DATE_EPOCH"


class Given(Struct, frozen=True):
    """`name` is what messages call the Dockerfile; `context` a directory, or "" if there is none."""

    dockerfile: bytes
    name: str
    context: str
    patterns: tuple[str, ...] = ()


def is_remote(context: str) -> bool:
    """A URL or a Git repository, which the engine fetches."""
    return context.startswith(_REMOTE)


def read_given(flags: Flags, context: str) -> Given:
    """The Dockerfile and what stays out of the context. `-` as context or file is standard input. Raises Failure."""
    file = flags.text("file")
    if is_remote(context):
        raise Failure(f"{context} is not at hand: give a directory, or the Dockerfile on standard input")
    if context == "-" or file == "-":
        if context == file:
            raise Failure("invalid argument: can't use stdin for both build context and dockerfile")
        patterns = () if context == "-" else _patterns(context, "")
        return Given(sys.stdin.buffer.read(), "Dockerfile", "" if context == "-" else context, patterns)
    if not os.path.isdir(context):
        raise Failure(f'ERROR: unable to prepare context: path "{context}" not found')
    path = file or os.path.join(context, "Dockerfile")
    try:
        with open(path, "rb") as opened:
            dockerfile = opened.read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Failure(f"ERROR: failed to read dockerfile: open {path}: {reason}") from None
    return Given(dockerfile, os.path.basename(path), context, _patterns(context, path))


def _patterns(context: str, dockerfile: str) -> tuple[str, ...]:
    """Of the ignore file beside the Dockerfile, else of the one in the context."""
    beside, own = ignore_file_names(dockerfile)
    for path in (beside if dockerfile else "", os.path.join(context, own)):
        if path and os.path.isfile(path):
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                return tuple(read_patterns(file.read()))
    return ()


def plan_options(flags: Flags, given: Given, host: platforms.Platform) -> PlanOptions:
    """Raises Failure for contexts that are not at hand, InvalidParameter for what cannot be."""
    build_args = _named(flags.items("build-arg"))
    if EPOCH not in build_args and os.environ.get(EPOCH):
        build_args[EPOCH] = os.environ[EPOCH]
    platform = flags.text("platform")
    no_cache_stages = frozenset(flags.items("no-cache-filter")) or None
    return PlanOptions(
        host,
        target=flags.text("target"),
        platform=platforms.parse(platform, host) if platform else None,
        build_args=build_args,
        labels=_labels(flags.items("label")),
        no_cache_stages=frozenset() if flags.on("no-cache") else no_cache_stages,
        pull=flags.on("pull"),
        network="" if flags.text("network") == "default" else flags.text("network"),
        extra_hosts=tuple(flags.items("add-host")),
        shm_size=flags.number("shm-size"),
        ulimits=tuple(Ulimit(limit["Name"], limit["Soft"], limit["Hard"]) for limit in flags.pairs("ulimit").values()),
        main=LocalContext(MAIN_CONTEXT, given.patterns),
        contexts=dict(_context(text) for text in flags.items("build-context")),
        epoch=_epoch(build_args.get(EPOCH, "")),
        allow=frozenset(flags.items("allow")),
    )


def _epoch(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit()):
        raise Failure(f"invalid {EPOCH}: {text}: it is a number of seconds")
    return int(text) if text else None


def _named(texts: list[str]) -> dict[str, str]:
    """NAME=VALUE, or NAME for the value that this process has; a NAME that has none is passed over."""
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals:
            values[name] = value
        elif name in os.environ:
            values[name] = os.environ[name]
    return values


def _labels(texts: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _context(text: str) -> tuple[str, Context]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise Failure(f"invalid context value: {text}, expected key=value")
    if value.startswith(_IMAGE):
        return name.lower(), ImageContext(value.removeprefix(_IMAGE))
    if is_remote(value) or "://" in value:
        raise Failure(f"{value} is not at hand: a named context is a directory or {_IMAGE}NAME")
    if not os.path.isdir(value):
        raise Failure(f'ERROR: failed to get build context {name}: path "{value}" not found')
    return name.lower(), LocalContext(name.lower(), _patterns(value, ""))
