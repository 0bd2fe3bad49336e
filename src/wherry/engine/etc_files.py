"""The files of /etc that the engine makes for a container, anew at each start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from wherry.model import etc_files
from wherry.model.config import HostConfig
from wherry.model.links import with_line
from wherry.runtime.spec import EtcFiles

RESOLV_CONF = Path("/etc/resolv.conf")
RESOLVED_CONF = Path("/run/systemd/resolve/resolv.conf")  # systemd-resolved(8): the servers behind its stub
HOSTS = Path("/etc/hosts")


def below(directory: Path) -> EtcFiles:
    """Where the files of the container that owns `directory` are."""
    return EtcFiles(*(str(directory / name) for name in ("hosts", "hostname", "resolv.conf")))


def write(
    directory: Path,
    settings: HostConfig,
    *,
    hostname: str,
    domainname: str,
    links: Sequence[str],
    addresses: Sequence[str],
    gateway: str,
    ipv6: bool,
) -> EtcFiles:
    """Make the three files. Blocking. `addresses` are the container's, `gateway` what host-gateway stands for.

    `links` are whole lines of the hosts file.

    Raises SystemFailure for a nameserver that is no address and for a host-gateway that is not known.
    """
    files = below(directory)
    _write(files.hostname, f"{hostname}\n")
    _write(files.hosts, _hosts(settings, hostname, domainname, links, addresses, gateway))
    _write(files.resolv_conf, _resolver(settings, ipv6=ipv6))
    return files


def refresh_hosts(path: str, *, hostname: str, domainname: str, addresses: Sequence[str]) -> None:
    """Have a running container's hosts file name these addresses of its own and no others. Blocking.

    Other lines stay as they are: the container may have written them.
    """
    text = _read(Path(path))
    if text:
        names = etc_files.own_names(hostname, domainname)
        _write(path, etc_files.with_own_addresses(text, names, addresses))


def rename_links(path: str, lines: Sequence[str]) -> None:
    """Have a running container's hosts file name others by these addresses: `lines` are those of links. Blocking."""
    text = _read(Path(path))
    changed = text
    for line in lines:
        changed = with_line(changed, line)
    if changed != text:
        _write(path, changed)


def _hosts(
    settings: HostConfig,
    hostname: str,
    domainname: str,
    links: Sequence[str],
    addresses: Sequence[str],
    gateway: str,
) -> str:
    extra = settings.extra_hosts or ()
    if settings.network_mode == "host":
        if not extra:
            return _read(HOSTS)
        addresses = ()
    return etc_files.hosts(
        extra, hostname=hostname, domainname=domainname, links=links, addresses=addresses, gateway=gateway
    )


def _resolver(settings: HostConfig, *, ipv6: bool) -> str:
    dns, search, options = settings.dns or (), settings.dns_search or (), settings.dns_options or ()
    asked = bool(dns or search or options)
    hosts_network = settings.network_mode == "host"
    source = RESOLV_CONF
    resolver = etc_files.parse_resolver(_read(source))
    if etc_files.only_stub(resolver) and (asked or not hosts_network):
        source = RESOLVED_CONF
        resolver = etc_files.parse_resolver(_read(source))
    resolver = etc_files.override(resolver, dns=dns, search=search, options=options)
    if not hosts_network:
        resolver = etc_files.for_own_network(resolver, overridden=bool(dns), ipv6=ipv6)
    return etc_files.render_resolver(resolver, str(source))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    """In place, as a file that is bind-mounted somewhere must stay the same; not at all where it says so already."""
    data = text.encode(errors="surrogateescape")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        if os.pread(descriptor, len(data) + 1, 0) == data:
            return
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)
