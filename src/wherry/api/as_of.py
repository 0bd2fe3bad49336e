"""What older clients mean and expect: requests and answers as earlier versions of the API had them.

Source of the rules: the API's version history, and the real engine's answers (tests/api/test_versions.py). Rules of one
line, such as a field more or less, are where that answer is made.
"""

from __future__ import annotations

from typing import Any

from wherry.errors import InvalidParameter
from wherry.model.config import Config, HostConfig, Mount, NetworkingConfig

Version = tuple[int, ...]

CONTAINER_WIDE_MAC = (
    "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
)


def create(version: Version, config: Config, host: HostConfig, networking: NetworkingConfig) -> list[str]:
    """What a client of `version` asks for, in place, without what it could not know; warnings of what is outdated.

    Raises InvalidParameter for what it could only mean in earnest.
    """
    if version < (1, 25):
        host.auto_remove = False  # removing was the client's business
    if version < (1, 40):
        host.ipc_mode = host.ipc_mode or "shareable"
        host.kernel_memory_tcp = 0
    if version < (1, 42):
        host.console_size = (0, 0)
    else:
        host.kernel_memory = 0  # gone from the API since
    if version < (1, 43):
        host.annotations = None
    if version < (1, 44):
        if config.healthcheck is not None:
            config.healthcheck.start_interval = 0
        _one_network(networking)
    for mount in host.mounts or ():
        _mount(version, mount)
    return _mac_address(version, config, networking)


def _mount(version: Version, mount: Mount) -> None:
    bind = mount.bind_options
    if bind is not None:
        if version < (1, 40):
            bind.non_recursive = False
        if version < (1, 42):
            bind.create_mountpoint = False
        if version < (1, 44) and mount.type == "bind" and bind.read_only_force_recursive:
            raise InvalidParameter("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
    if version < (1, 42):  # were not looked at on mounts of another type
        if mount.type != "volume":
            mount.volume_options = None
        if mount.type != "tmpfs":
            mount.tmpfs_options = None
    if version < (1, 45) and mount.volume_options is not None and mount.volume_options.subpath:
        raise InvalidParameter("VolumeOptions.Subpath needs API v1.45 or newer")


def _one_network(networking: NetworkingConfig) -> None:
    names = sorted(networking.endpoints_config or {})
    if len(names) > 1:
        raise InvalidParameter(f"Container cannot be created with multiple network endpoints: {', '.join(names)}")


def _mac_address(version: Version, config: Config, networking: NetworkingConfig) -> list[str]:
    """The container's own address counted alone before each network had one."""
    if version >= (1, 44):
        return [CONTAINER_WIDE_MAC] if config.mac_address else []
    for endpoint in (networking.endpoints_config or {}).values():
        if endpoint is not None:
            endpoint.mac_address = ""
    return []


def inspected(version: Version, shown: dict[str, Any]) -> dict[str, Any]:
    """GET /containers/{id}/json: the short ID was told among the aliases before there were DNSNames."""
    if version < (1, 45):
        short = shown["Id"][:12]
        for name, endpoint in shown["NetworkSettings"]["Networks"].items():
            aliases = endpoint["Aliases"] or []
            if name not in ("bridge", "host", "none", "default") and short not in aliases:
                endpoint["Aliases"] = [*aliases, short]
    return shown


def info(version: Version, shown: dict[str, Any]) -> dict[str, Any]:
    """GET /info."""
    if version < (1, 25):
        shown["ExecutionDriver"] = "<not supported>"
        names = (entry.partition(",")[0] for entry in shown["SecurityOptions"])
        shown["SecurityOptions"] = [name.removeprefix("name=") for name in names]
    if version < (1, 42):
        shown["KernelMemory"] = False  # no limit of it is kept here
    if version < (1, 44):
        for runtime in shown["Runtimes"].values():
            runtime.pop("status", None)
    return shown
