"""Which engine a command is for: `-H`, `--context`, the environment, the context in use, or the usual socket.

In docker's order, and its words where the choice is impossible.
"""

from __future__ import annotations

import os

from wherry.cli import program
from wherry.cli.errors import Failure
from wherry.client.connection import AddressError, TlsFiles, parse_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.flags import Flags

DEFAULT_CONTEXT = "default"


class Endpoint:
    """An engine's address, and how TLS is spoken on tcp://; None: not at all."""

    def __init__(self, host: str, tls: TlsFiles | None = None) -> None:
        self.host = host
        self.tls = tls


def given_host(root: Flags) -> str:
    """By flag or environment; "" where neither says."""
    hosts = root.items("host")
    if len(hosts) > 1:
        raise Failure("Specify only one -H")
    return str(hosts[0]) if hosts else os.environ.get("WHERRY_HOST") or os.environ.get("DOCKER_HOST") or ""


def context_name(root: Flags) -> str:
    """The context that counts. Raises Failure."""
    if root.text("context"):
        if root.items("host"):
            raise Failure("conflicting options: cannot specify both --host and --context")
        return root.text("context")
    if given_host(root):
        return DEFAULT_CONTEXT
    return os.environ.get("DOCKER_CONTEXT") or chosen_context() or DEFAULT_CONTEXT


def chosen_context() -> str:
    """What `context use` chose, "" for the default. Costs next to nothing where nothing was chosen."""
    from wherry.cli.credentials import Store, folder

    try:
        with open(os.path.join(folder(), "config.json"), "rb") as file:
            if b'"currentContext"' not in file.read():
                return ""
    except OSError:
        return ""
    return Store().context


def resolve(root: Flags) -> Endpoint:
    """Raises Failure."""
    name = context_name(root)
    if name != DEFAULT_CONTEXT:
        from wherry.cli.contexts import load

        endpoint = load(name).endpoint()
    else:
        endpoint = Endpoint(given_host(root) or program.DEFAULT_HOST, _tls(root))
    try:
        parse_host(endpoint.host)
    except AddressError as error:
        raise Failure(f"Failed to initialize: unable to resolve {program.NAME} endpoint: {error}") from None
    return endpoint


def _tls(root: Flags) -> TlsFiles | None:
    """--tls*, DOCKER_TLS, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH."""
    verify = root.on("tlsverify", bool(os.environ.get("DOCKER_TLS_VERIFY")))
    if not (verify or root.changed("tlsverify") or root.on("tls", bool(os.environ.get("DOCKER_TLS")))):
        return None
    folder = os.environ.get("DOCKER_CERT_PATH")
    if not folder:
        from wherry.cli import credentials

        folder = credentials.folder()
    usual = {"tlscacert": "ca.pem", "tlscert": "cert.pem", "tlskey": "key.pem"}
    files = {flag: root.text(flag) or os.path.join(folder, name) for flag, name in usual.items()}
    for flag in ("tlscert", "tlskey"):
        if not root.changed(flag) and not os.path.exists(files[flag]):
            files[flag] = ""
    return TlsFiles(files["tlscacert"], files["tlscert"], files["tlskey"], verify=verify)
