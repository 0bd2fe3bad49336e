"""Where a registry is asked: its endpoints, from Docker's rules and from `hosts.toml`. Pure.

Sources: Docker's registry endpoints (Docker Hub's mirrors, insecure registries try HTTPS and then HTTP);
containerd's docs/hosts.md for `hosts.toml` and the names of its directories.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from wherry.errors import InvalidParameter
from wherry.model.reference import DEFAULT_DOMAIN
from wherry.model.registry_options import LOOPBACK, network
from wherry.model.timestamps import SECOND, duration_ns

HUB_REGISTRY = "registry-1.docker.io"
CAPABILITIES = frozenset(("pull", "resolve", "push"))
READING = frozenset(("pull", "resolve"))
DEFAULT_DIRECTORY = "_default"
_ALWAYS_INSECURE = (LOOPBACK, "::1/128")
_SERVER_KEYS = {"capabilities", "ca", "client", "skip_verify", "override_path", "header", "dial_timeout"}


@dataclass(frozen=True)
class TlsFiles:
    """How to speak TLS with a host. `authorities` and `clients` (certificate, key) add to what the system trusts."""

    authorities: tuple[Path, ...] = ()
    clients: tuple[tuple[Path, Path], ...] = ()
    verify: bool = True


@dataclass(frozen=True)
class Endpoint:
    """One place where a repository can be asked for."""

    base: str  # up to and with /v2, without a slash at the end
    capabilities: frozenset[str] = CAPABILITIES
    tls: TlsFiles = TlsFiles()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    origin: bool = True  # the registry itself, which alone is shown the user's credentials
    namespace: str = ""  # the registry that a mirror is asked to stand for (`?ns=`)
    connect_seconds: float = 0.0  # 0 is the default
    plain_base: str = ""  # the same without TLS, for a registry that may be spoken to so, where HTTPS fails

    @property
    def host(self) -> str:
        return urlsplit(self.base).netloc


def default_host(domain: str) -> str:
    """The host that serves a domain's registry: Docker Hub has another name there."""
    return HUB_REGISTRY if domain == DEFAULT_DOMAIN else domain


def default_endpoints(
    domain: str,
    *,
    mirrors: Mapping[str, bool] | None = None,
    insecure: bool = False,
    tls: TlsFiles | None = None,
) -> list[Endpoint]:
    """Without `hosts.toml`: Docker Hub's mirrors before Docker Hub, the registry itself for all others.

    `mirrors` tells for each whether it may have a certificate of anybody's.
    """
    host = default_host(domain)
    files = tls or TlsFiles()
    own = Endpoint(f"https://{host}/v2", tls=files)
    if insecure:
        own = replace(own, tls=replace(files, verify=False), plain_base=f"http://{host}/v2")
    found = []
    if domain == DEFAULT_DOMAIN:
        found = [
            Endpoint(f"{mirror.rstrip('/')}/v2", READING, TlsFiles(verify=not lenient), origin=False)
            for mirror, lenient in (mirrors or {}).items()
        ]
    return [*found, own]


def is_insecure(host: str, addresses: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a host (with its port, if any) may be spoken to without trust.

    `addresses` are what the host resolves to, `names` hosts and networks that the administrator has declared insecure;
    a name is in them only with all its addresses, any of which may be spoken to. Loopback always is, written as an
    address or as `localhost`: a name that leads there now may lead elsewhere the next moment.
    """
    name = split_port(host)[0]
    if host in names or name in names or name == "localhost":
        return True
    always = [ip_network(each) for each in _ALWAYS_INSECURE]
    if (written := _address(name)) is not None and any(written in within for within in always):
        return True
    networks = [found for each in names if (found := network(each)) is not None]
    found_at = [ip_address(address.partition("%")[0]) for address in addresses]
    return bool(found_at) and all(any(each in within for within in networks) for each in found_at)


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def split_port(host: str) -> tuple[str, str]:
    """`host:port`, `[::1]:port` or without port: name without brackets, port or ""."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, rest[1:]
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and ":" not in name else (host, "")


def directory_names(domain: str) -> tuple[str, ...]:
    """Names of a registry's directory in `certs.d`, the first that exists counts."""
    name, port = split_port(domain)
    names = [domain]
    if port:
        bracketed = f"[{name}]" if ":" in name else name
        names.append(f"{bracketed}_{port}_")
    return tuple(names)


def certificates(directory: Path, names: Sequence[str]) -> TlsFiles:
    """Docker's layout: every *.crt is an authority; every *.cert has its *.key. Raises InvalidParameter."""
    authorities = tuple(directory / name for name in sorted(names) if name.endswith(".crt"))
    clients = []
    for name in sorted(names):
        path = directory / name
        if name.endswith(".cert"):
            key = f"{name.removesuffix('.cert')}.key"
            if key not in names:
                raise InvalidParameter(
                    f"missing key {key} for client certificate {name}. CA certificates must use the extension .crt"
                )
            clients.append((path, directory / key))
        elif name.endswith(".key") and f"{name.removesuffix('.key')}.cert" not in names:
            raise InvalidParameter(f"missing client certificate {name.removesuffix('.key')}.cert for key {name}")
    return TlsFiles(authorities, tuple(clients))


def parse_hosts(document: Mapping[str, Any], directory: Path, domain: str, *, insecure: bool = False) -> list[Endpoint]:
    """The endpoints of a decoded `hosts.toml`: its hosts in their order, then the server.

    Paths are relative to `directory`. Raises InvalidParameter naming the key and what is wrong with it.
    """
    where = str(directory / "hosts.toml")
    known = {"server", "host"} | _SERVER_KEYS
    if unknown := sorted(set(document) - known):
        raise InvalidParameter(f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    hosts = document.get("host", {})
    if not isinstance(hosts, dict):
        raise InvalidParameter(f"{where}: host must be a table of tables")
    found = []
    for name, table in hosts.items():
        if not isinstance(table, dict):
            raise InvalidParameter(f'{where}: host."{name}" must be a table')
        if unknown := sorted(set(table) - _SERVER_KEYS):
            raise InvalidParameter(f'{where}: host."{name}": unknown key {", ".join(unknown)}')
        found.append(_endpoint(name, table, directory, f'{where}: host."{name}"', domain, origin=False))
    server = document.get("server", f"https://{default_host(domain)}")
    if not isinstance(server, str):
        raise InvalidParameter(f"{where}: server must be a string")
    own = _endpoint(
        server, {key: document[key] for key in _SERVER_KEYS & set(document)}, directory, where, domain, origin=True
    )
    if insecure and "server" not in document:
        own = replace(own, tls=replace(own.tls, verify=False), plain_base=own.base.replace("https://", "http://", 1))
    found = [replace(host, origin=True, namespace="") if host.host == own.host else host for host in found]
    return [*found, own]


def _endpoint(
    address: str, table: Mapping[str, Any], directory: Path, where: str, domain: str, *, origin: bool
) -> Endpoint:
    url = urlsplit(address if "://" in address else f"https://{address}")
    if url.scheme not in ("http", "https") or not url.netloc or url.query or url.fragment or "@" in url.netloc:
        raise InvalidParameter(f"{where}: {address!r} must be http[s]://host[:port][/path]")
    path = url.path.rstrip("/")
    if not _flag(table, "override_path", where) and PurePosixPath(path).name != "v2":
        path += "/v2"
    return Endpoint(
        base=f"{url.scheme}://{url.netloc}{path}",
        capabilities=_capabilities(table, where),
        tls=TlsFiles(
            _paths(table.get("ca"), directory, f"{where}: ca"),
            _clients(table.get("client"), directory, f"{where}: client"),
            not _flag(table, "skip_verify", where),
        ),
        headers=_headers(table.get("header"), where),
        origin=origin,
        namespace="" if origin else domain,
        connect_seconds=_seconds(table.get("dial_timeout"), where),
    )


def _flag(table: Mapping[str, Any], key: str, where: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise InvalidParameter(f"{where}: {key} must be true or false")
    return value


def _capabilities(table: Mapping[str, Any], where: str) -> frozenset[str]:
    given = table.get("capabilities")
    if given is None:
        return CAPABILITIES
    if not isinstance(given, list) or not set(map(str, given)) <= CAPABILITIES:
        raise InvalidParameter(f"{where}: capabilities must be a list of {', '.join(sorted(CAPABILITIES))}")
    return frozenset(given)


def _paths(value: Any, directory: Path, where: str) -> tuple[Path, ...]:
    if value is None:
        return ()
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(entry, str) for entry in given):
        raise InvalidParameter(f"{where} must be a path or a list of paths")
    return tuple(directory / entry for entry in given)


def _clients(value: Any, directory: Path, where: str) -> tuple[tuple[Path, Path], ...]:
    """A path of both, a list of such paths, or a list of pairs [certificate, key]."""
    if value is None:
        return ()
    given = [value] if isinstance(value, str) else value
    found = []
    for entry in given if isinstance(given, list) else [None]:
        pair = [entry, entry] if isinstance(entry, str) else entry
        if isinstance(pair, list) and len(pair) == 2 and not pair[1]:
            pair = [pair[0], pair[0]]
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            raise InvalidParameter(
                f"{where} must be a path, a list of paths, or a list of pairs of certificate and key"
            )
        found.append((directory / pair[0], directory / pair[1]))
    return tuple(found)


def _headers(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise InvalidParameter(f"{where}: header must be a table")
    found = []
    for name, given in value.items():
        for entry in [given] if isinstance(given, str) else given if isinstance(given, list) else [None]:
            if not isinstance(entry, str) or re.search(r"[\r\n\0]", entry + name) or not re.fullmatch(r"[!-~]+", name):
                raise InvalidParameter(f"{where}: header {name} must be a string or a list of strings")
            found.append((name, entry))
    return tuple(found)


def _seconds(value: Any, where: str) -> float:
    if value is None:
        return 0.0
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    if isinstance(value, str) and (nanoseconds := duration_ns(value)) is not None and nanoseconds > 0:
        return nanoseconds / SECOND
    raise InvalidParameter(f"{where}: dial_timeout must be a duration, such as 3s")
