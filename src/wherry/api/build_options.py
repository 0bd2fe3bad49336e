"""What POST /build is asked for, read from its query as the real engine reads it; refusals in its words.

What the classic builder had and this one does not is refused here, what changes no result is told of in the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from wherry.api import gojson
from wherry.api.query import Query
from wherry.errors import InvalidParameter, NotSupported, SystemFailure
from wherry.model import platforms
from wherry.model.build_graph import Ulimit
from wherry.model.config import HostConfig
from wherry.model.platforms import Platform
from wherry.model.reference import Reference, parse

_NETWORKS = {"": "", "default": "", "bridge": "", "none": "none", "host": "host"}
_BUILDKIT = (
    "BuildKit's API is not supported by this version of Wherry: set DOCKER_BUILDKIT=0, or use `wherry build`, which "
    "has what BuildKit's Dockerfiles need"
)


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """`network` is one of the graph's words, `named_network` a network of the engine's that the default stands for."""

    dockerfile: str = "Dockerfile"
    remote: str = ""
    names: tuple[Reference, ...] = ()
    quiet: bool = False
    no_cache: bool = False
    pull: bool = False
    remove: bool = True
    force_remove: bool = False
    target: str = ""
    platform: Platform | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    unset_args: tuple[str, ...] = ()  # named without a value
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str = ""
    named_network: str = ""
    extra_hosts: tuple[str, ...] = ()
    shm_size: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    limits: HostConfig = field(default_factory=HostConfig)
    build_id: str = ""
    cache_from: tuple[Reference, ...] = ()


def read(query: Query, host: Platform) -> BuildOptions:
    """Raises InvalidParameter, NotSupported, SystemFailure."""
    _check_version(query.text("version"))
    if query.boolean("squash"):
        raise InvalidParameter("squash is only supported with experimental mode")
    if (isolation := query.text("isolation")) not in ("", "default"):
        raise InvalidParameter(f'unsupported isolation: "{isolation}"')
    if query.text("securityopt") not in ("", "[]", "null"):
        raise InvalidParameter("security options are not supported on linux")
    if _outputs(query.text("outputs")):
        raise NotSupported("outputs of a build travel in the extension of the API: use `wherry build --output`")
    network = query.text("networkmode")
    if network.startswith("container:"):
        raise NotSupported("a container's network for a build is not supported by this version of Wherry")
    cache_from = _json(query, "cachefrom", list[str], "error reading cache-from")
    args = _json(query, "buildargs", dict[str, str | None], "error reading build args")
    return BuildOptions(
        dockerfile=query.text("dockerfile") or "Dockerfile",
        remote=query.text("remote"),
        names=names_of(query.all("t")),
        quiet=query.boolean("q"),
        no_cache=query.boolean("nocache"),
        pull=query.boolean("pull"),
        remove=query.boolean("rm", True) or query.boolean("forcerm"),
        force_remove=query.boolean("forcerm"),
        target=query.text("target"),
        platform=platforms.parse(query.text("platform"), host) if query.text("platform") else None,
        build_args={name: value for name, value in (args or {}).items() if value is not None},
        unset_args=tuple(name for name, value in (args or {}).items() if value is None),
        labels=_json(query, "labels", dict[str, str], "error reading labels") or {},
        network=_NETWORKS.get(network, ""),
        named_network="" if network in _NETWORKS else network,
        extra_hosts=_extra_hosts(query.all("extrahosts")),
        shm_size=_number(query, "shmsize"),
        ulimits=_ulimits(query),
        limits=_limits(query),
        build_id=query.text("buildid"),
        cache_from=names_of(cache_from or []),
    )


def names_of(tags: list[str]) -> tuple[Reference, ...]:
    """Raises SystemFailure in the real engine's words, which answers 500 to a bad name."""
    found: dict[Reference, None] = {}
    for tag in tags:
        if not tag:
            continue
        try:
            reference = parse(tag)
        except InvalidParameter as error:
            raise SystemFailure(str(error)) from None
        if reference.digest:
            raise SystemFailure("build tag cannot contain a digest")
        found[reference.with_default_tag()] = None
    return tuple(found)


def _check_version(version: str) -> None:
    if version == "2":
        raise NotSupported(_BUILDKIT)
    if version not in ("", "1"):
        raise InvalidParameter(f'invalid version "{version}"')


def _json(query: Query, name: str, kind: Any, words: str) -> Any:
    """A parameter that is JSON; None where it is absent or null."""
    text = query.text(name)
    if not text:
        return None
    try:
        value = gojson.loads(text.encode(errors="surrogateescape"))
        return None if value is None else msgspec.convert(value, kind)
    except (ValueError, InvalidParameter) as error:
        raise InvalidParameter(f"{words}: {error}") from None


def _outputs(text: str) -> bool:
    return text not in ("", "[]", "null")


def _extra_hosts(given: list[str]) -> tuple[str, ...]:
    """One a parameter, or several with commas between."""
    found = [host for text in given for host in text.split(",") if host]
    for host in found:
        if ":" not in host.replace("=", ":", 1):
            raise InvalidParameter(f'bad format for add-host: "{host}"')
    return tuple(host.replace("=", ":", 1) if ":" not in host.partition("=")[0] else host for host in found)


def _number(query: Query, name: str) -> int:
    """As Docker reads numbers here: what is none counts as 0."""
    try:
        return query.integer(name, 0) or 0
    except InvalidParameter:
        return 0


def _ulimits(query: Query) -> tuple[Ulimit, ...]:
    given = _json(query, "ulimits", list[dict[str, Any]], "error reading ulimit settings") or []
    found = []
    for limit in given:
        folded = {key.lower(): value for key, value in limit.items()}
        found.append(Ulimit(str(folded.get("name", "")), int(folded.get("soft") or 0), int(folded.get("hard") or 0)))
    return tuple(found)


def _limits(query: Query) -> HostConfig:
    return HostConfig(
        memory=_number(query, "memory"),
        memory_swap=_number(query, "memswap"),
        cpu_shares=_number(query, "cpushares"),
        cpu_period=_number(query, "cpuperiod"),
        cpu_quota=_number(query, "cpuquota"),
        cpuset_cpus=query.text("cpusetcpus"),
        cpuset_mems=query.text("cpusetmems"),
        cgroup_parent=query.text("cgroupparent"),
    )
