"""Which proxy a request goes through. Pure.

Source: the environment variables of Go's x/net/http/httpproxy, which Docker follows: HTTP_PROXY, HTTPS_PROXY, NO_PROXY
and their lower-case forms. NO_PROXY: host names with their subdomains, `.subdomains`, addresses, CIDR, `:port`, `*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from wherry.errors import InvalidParameter


@dataclass(frozen=True)
class Proxies:
    """Addresses of proxies ("" for none)."""

    http: str = ""
    https: str = ""
    no_proxy: str = ""


def from_environment(environment: Mapping[str, str]) -> Proxies:
    def value(name: str) -> str:
        return environment.get(name) or environment.get(name.lower()) or ""

    http = "" if environment.get("REQUEST_METHOD") else value("HTTP_PROXY")  # a CGI program's header, not a setting
    return Proxies(http, value("HTTPS_PROXY"), value("NO_PROXY"))


def proxy_for(proxies: Proxies, scheme: str, host: str, port: int) -> str:
    """The proxy's URL for a request, "" to go directly. Raises InvalidParameter for a kind that is not done."""
    proxy = proxies.https if scheme == "https" else proxies.http
    if not proxy or not _goes_through(proxies.no_proxy, host.rstrip(".").lower(), port):
        return ""
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    kind = proxy.partition("://")[0].lower()
    if kind not in ("http", "https"):
        raise InvalidParameter(f"proxies of kind {kind} are not supported: name one with http:// or https://")
    return proxy


def _goes_through(no_proxy: str, host: str, port: int) -> bool:
    if host == "localhost":
        return False
    try:
        address = ip_address(host)
        if address.is_loopback:
            return False
    except ValueError:
        address = None
    for rule in (part.strip().lower() for part in no_proxy.split(",")):
        if rule == "*":
            return False
        if not rule:
            continue
        if "/" in rule:
            try:
                if address is not None and address in ip_network(rule, strict=False):
                    return False
            except ValueError:
                pass
            continue
        name, wanted_port = _split_port(rule)
        if wanted_port is not None and wanted_port != port:
            continue
        name = name.removeprefix("*")
        if name.startswith("."):
            if host.endswith(name):
                return False
        elif host == name or (address is None and host.endswith(f".{name}")):
            return False
    return True


def _split_port(rule: str) -> tuple[str, int | None]:
    if rule.startswith("["):
        name, _, rest = rule[1:].partition("]")
        return name, int(rest[1:]) if rest[1:].isdigit() else None
    name, colon, port = rule.rpartition(":")
    if colon and port.isdigit() and ":" not in name:
        return name, int(port)
    return rule, None
