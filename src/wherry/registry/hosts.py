"""Reading `certs.d`: what the administrator says about a registry becomes endpoints. Read anew for each use."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from wherry.errors import InvalidParameter
from wherry.model.reference import DEFAULT_DOMAIN
from wherry.model.registry_hosts import (
    DEFAULT_DIRECTORY,
    Endpoint,
    TlsFiles,
    certificates,
    default_endpoints,
    default_host,
    directory_names,
    is_insecure,
    parse_hosts,
    split_port,
)
from wherry.model.registry_options import network
from wherry.registry.threads import Threads

CERTIFICATE_FOLDERS = (Path("/etc/wherry/certs.d"), Path("/etc/docker/certs.d"))
LOOKUP_SECONDS = 5.0
HOSTS_BYTES = 1 << 20


async def find_endpoints(
    domain: str, folders: Sequence[Path], mirrors: Sequence[str], insecure: Sequence[str], threads: Threads
) -> list[Endpoint]:
    """Where to ask for a registry's repositories, in order. Raises InvalidParameter naming the file that is wrong."""
    trusting = await _may_be_insecure(domain, insecure, threads)
    lenient = {}
    if domain == DEFAULT_DOMAIN:
        lenient = {url: await _may_be_insecure(urlsplit(url).netloc, insecure, threads) for url in mirrors}
    return await threads.run(read_endpoints, domain, folders, lenient, trusting)


def read_endpoints(domain: str, folders: Sequence[Path], mirrors: Mapping[str, bool], insecure: bool) -> list[Endpoint]:
    """The same once it is known which of the registry and its mirrors may be spoken to without trust. Blocking."""
    for folder in folders:
        for name in (*directory_names(domain), DEFAULT_DIRECTORY):
            endpoints = _from_hosts_file(folder / name, domain, insecure)
            if endpoints is not None:
                return endpoints
    tls = _certificates(folders, directory_names(domain))
    endpoints = default_endpoints(domain, mirrors=mirrors, insecure=insecure, tls=tls)
    return [_with_certificates(endpoint, folders) for endpoint in endpoints]


def _from_hosts_file(directory: Path, domain: str, insecure: bool) -> list[Endpoint] | None:
    path = directory / "hosts.toml"
    try:
        with path.open("rb") as file:
            data = file.read(HOSTS_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidParameter(f"{path}: {(error.strerror or str(error)).lower()}") from None
    try:
        document = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"{path}: {error}") from None
    return parse_hosts(document, directory, domain, insecure=insecure)


def _with_certificates(endpoint: Endpoint, folders: Sequence[Path]) -> Endpoint:
    """Certificates may be filed under the name of the host itself (registry-1.docker.io, a mirror)."""
    if endpoint.tls.authorities or endpoint.tls.clients:
        return endpoint
    found = _certificates(folders, directory_names(endpoint.host))
    tls = TlsFiles(found.authorities, found.clients, endpoint.tls.verify)
    return replace(endpoint, tls=tls)


def _certificates(folders: Sequence[Path], names: Sequence[str]) -> TlsFiles:
    for folder in folders:
        for name in names:
            directory = folder / name
            try:
                found = [entry.name for entry in directory.iterdir()]
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise InvalidParameter(f"{directory}: {(error.strerror or str(error)).lower()}") from None
            return certificates(directory, found)
    return TlsFiles()


async def _may_be_insecure(domain: str, insecure: Sequence[str], threads: Threads) -> bool:
    """By name, or by the addresses that the name has; one that cannot be looked up is to be trusted like any other."""
    host = default_host(domain)
    if domain == DEFAULT_DOMAIN:
        return is_insecure(host, (), insecure) or domain in insecure
    if is_insecure(domain, (), insecure):
        return True
    if not any(network(entry) for entry in insecure):
        return False
    return is_insecure(domain, await _addresses(host, threads), insecure)


async def is_named(domain: str, entries: Sequence[str], threads: Threads) -> bool:
    """Whether a registry is in a list of hosts and networks: by its name, or by any address of it, as in Docker."""
    networks = [found for entry in entries if (found := network(entry)) is not None]
    if domain in entries or not networks:
        return domain in entries
    found_at = [ip_address(address.partition("%")[0]) for address in await _addresses(default_host(domain), threads)]
    return any(address in within for address in found_at for within in networks)


async def _addresses(host: str, threads: Threads) -> list[str]:
    """None for a name that cannot be looked up."""
    name, _ = split_port(host)
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            return await threads.addresses(name)
    except (OSError, UnicodeError, TimeoutError):
        return []
