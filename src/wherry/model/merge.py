"""What a container inherits from its image (Docker's documentation, "Overriding image defaults")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from wherry.errors import InvalidParameter
from wherry.model.config import Config, Healthcheck

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def merge(own: Config, image: Config) -> Config:
    """The container's configuration completed by its image's. Raises InvalidParameter if there is nothing to run."""
    entrypoint, cmd = own.entrypoint, own.cmd
    if not entrypoint and not cmd:
        cmd = image.cmd
    if entrypoint is None and image.entrypoint:
        entrypoint = image.entrypoint
    if entrypoint == [""]:  # asked for none, whatever the image says
        entrypoint = None
    if not entrypoint and not cmd:
        raise InvalidParameter("no command specified")
    return replace(
        own,
        user=own.user or image.user,
        exposed_ports=_union(own.exposed_ports, image.exposed_ports),
        env=merge_env(image.env or (), own.env or ()) or None,
        entrypoint=entrypoint,
        cmd=cmd,
        healthcheck=_healthcheck(own.healthcheck, image.healthcheck),
        volumes=_union(own.volumes, image.volumes) or None,
        working_dir=own.working_dir or image.working_dir,
        labels={**(image.labels or {}), **(own.labels or {})},
        stop_signal=own.stop_signal or image.stop_signal,
        stop_timeout=own.stop_timeout if own.stop_timeout is not None else image.stop_timeout,
        shell=own.shell or image.shell,
    )


def merge_env(base: Iterable[str], own: Iterable[str]) -> list[str]:
    """`own` first, then what of `base` it does not set; a bare name in `own` unsets nothing, as in Docker."""
    kept = list(own)
    names = {entry.partition("=")[0] for entry in kept}
    return kept + [entry for entry in base if entry.partition("=")[0] not in names]


def command(config: Config) -> list[str]:
    """The whole argument vector."""
    return [*(config.entrypoint or ()), *(config.cmd or ())]


Keyed = dict[str, dict[str, Any]]


def _union(first: Keyed | None, second: Keyed | None) -> Keyed | None:
    return {**second, **(first or {})} if second else first


def _healthcheck(own: Healthcheck | None, image: Healthcheck | None) -> Healthcheck | None:
    if own is None:
        return image
    image = image or Healthcheck()
    return Healthcheck(
        test=own.test or image.test,
        interval=own.interval or image.interval,
        timeout=own.timeout or image.timeout,
        start_period=own.start_period or image.start_period,
        start_interval=own.start_interval or image.start_interval,
        retries=own.retries or image.retries,
    )
