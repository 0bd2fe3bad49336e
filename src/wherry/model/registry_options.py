"""What an administrator says about registries: mirrors, registries without TLS, how much at once. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

from wherry.errors import InvalidParameter

LOOPBACK = "127.0.0.0/8"  # never needs TLS


@dataclass(frozen=True)
class RegistryOptions:
    """Defaults are Docker's."""

    mirrors: tuple[str, ...] = ()  # of docker.io: URLs that end in a slash, tried in this order
    insecure: tuple[str, ...] = ()  # `host[:port]`, or networks as `10.0.0.0/8`, besides LOOPBACK
    max_concurrent_downloads: int = 3  # layers at once, of all pulls together
    max_concurrent_uploads: int = 5  # layers at once, of all pushes together
    max_download_attempts: int = 5  # for each layer
    nondistributable: tuple[str, ...] = ()  # as `insecure`: who is sent layers whose distribution is restricted


ReadOptions = Callable[[], RegistryOptions]
"""The options of this moment: a reload changes them, so they are asked for each time."""


def mirror(written: str) -> str:
    """A mirror's URL with the slash at its end. Raises InvalidParameter."""
    url = urlsplit(written)
    if url.scheme not in ("http", "https"):
        raise InvalidParameter(f'invalid mirror: unsupported scheme "{url.scheme}" in "{written}": use http or https')
    if not url.netloc or url.query or url.fragment:
        raise InvalidParameter(f'invalid mirror: query or fragment at end of the URI "{written}"')
    if url.username or url.password:
        raise InvalidParameter(f'invalid mirror: username/password not allowed in URI "{url.scheme}://{url.hostname}"')
    return written.rstrip("/") + "/"


def insecure_registry(written: str) -> str:
    """`host[:port]` or a network in CIDR form. Raises InvalidParameter."""
    return _registry("insecure", written)


def nondistributable_registry(written: str) -> str:
    """The same, for who may have layers that are not to be distributed."""
    return _registry("allow-nondistributable-artifacts", written)


def _registry(kind: str, written: str) -> str:
    rest = written.removeprefix("http://").removeprefix("https://")
    if "://" in rest:
        raise InvalidParameter(f"{kind} registry {written} should not contain '://'")
    if network(rest) is not None:
        return str(network(rest))
    host, colon, port = rest.rpartition(":")
    if not rest or rest.startswith("-") or "/" in rest or (colon and (not host or not _is_port(port))):
        raise InvalidParameter(
            f"{kind} registry {written} is not valid: use HOST, HOST:PORT or a network as 10.0.0.0/8"
        )
    return rest


def network(written: str) -> IPv4Network | IPv6Network | None:
    """The network of an entry in CIDR form; None for the name of a host."""
    if "/" not in written:
        return None
    try:
        return ip_network(written, strict=False)
    except ValueError:
        return None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536
