"""Docker Hub on a machine of its own: a network and a mount namespace in which Hub's names are a stand-in's.

    with hub_daemon(folder) as (daemon, requests):
        ...                                   # the daemon's API is on its socket, as everywhere

Nothing of it leaves the namespaces: names come from an /etc/hosts of their own, and there is no way out but loopback.

As a program (`python -m tests.support.hub FOLDER COMMAND...`, inside the namespaces) it serves the stand-in from a
child that dies with its parent, and becomes the command.
"""

from __future__ import annotations

import base64
import ctypes
import http.server
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.certificates import Authority
from tests.support.daemon import Wherryd, temporary_folder
from tests.support.registries import PASSWORD, USER

Fields = dict[str, list[str]]
Reply = tuple[int, dict[str, str], bytes]  # status, headers, body
NAMES = ("registry-1.docker.io", "index.docker.io", "auth.docker.io", "hub.docker.com")
ADDRESS = "192.0.2.10"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "manifests": []}).encode()
FOUND = [
    {"name": "mysql", "description": "A database", "star_count": 15000, "is_official": True, "is_automated": False},
    {"name": "bitnami/mysql", "description": "B", "star_count": 99, "is_official": False, "is_automated": False},
]
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class HubDaemon(Wherryd):
    """Our daemon on that machine."""

    def command(self, *arguments: str) -> list[str]:
        return [
            "unshare",
            "--net",
            "--mount",
            sys.executable,
            "-m",
            "tests.support.hub",
            str(self.folder),
            *super().command(*arguments),
        ]


@contextmanager
def hub_daemon() -> Iterator[tuple[HubDaemon, Callable[[], list[dict[str, Any]]]]]:
    """A daemon that knows Docker Hub, and what Docker Hub has been asked so far."""
    daemon = HubDaemon(temporary_folder())
    authority = Authority(daemon.folder / "ca")
    authority.issue("hub", *(f"DNS:{name}" for name in NAMES))
    log = daemon.folder / "requests"
    log.touch()
    root = str(Path(__file__).parents[2])
    try:
        daemon.start(SSL_CERT_FILE=str(authority.cert), PYTHONPATH=f"{root}/src:{root}")
        yield daemon, lambda: [json.loads(line) for line in log.read_text().splitlines()]
    finally:
        daemon.dispose()


class StandIn(http.server.BaseHTTPRequestHandler):
    """What Docker Hub answers, by the name it is asked as."""

    protocol_version = "HTTP/1.1"
    log: Path

    def do_GET(self) -> None:
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes) -> None:
        host = self.headers["Host"]
        seen = {
            "method": self.command,
            "url": f"https://{host}{self.path}",
            "authorization": self.headers.get("Authorization", ""),
            "body": body.decode(),
        }
        with self.log.open("a") as file:
            file.write(json.dumps(seen) + "\n")
        url = urlsplit(self.path)
        answers = {"registry-1.docker.io": self._registry, "auth.docker.io": self._auth, "index.docker.io": self._index}
        status, headers, data = answers[host](url.path, parse_qs(url.query), parse_qs(body.decode()))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _registry(self, path: str, query: Fields, form: Fields) -> Reply:
        given = self.headers.get("Authorization", "")
        if not given.startswith("Bearer token "):
            challenge = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"'
            errors = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
            return 401, {"WWW-Authenticate": challenge}, json.dumps(errors).encode()
        if path == "/v2/":
            return 200, {}, b"{}"
        repository = path.removeprefix("/v2/").partition("/manifests/")[0]
        if f"repository:{repository}:pull" not in given:
            errors = {"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}
            return 403, {}, json.dumps(errors).encode()
        return 200, {"Content-Type": MANIFEST_TYPE}, MANIFEST

    def _auth(self, path: str, query: Fields, form: Fields) -> Reply:
        given = self.headers.get("Authorization", "")
        known = given in ("", BASIC) if self.command == "GET" else form.get("refresh_token") == ["identity"]
        if not known:
            return 401, {}, json.dumps({"details": "incorrect username or password"}).encode()
        scopes = query.get("scope", []) + " ".join(form.get("scope", [])).split()
        answer = {"token": f"token {' '.join(scopes)}"}
        if query.get("offline_token") == ["true"]:
            answer["refresh_token"] = "identity"
        return 200, {}, json.dumps(answer).encode()

    def _index(self, path: str, query: Fields, form: Fields) -> Reply:
        if path != "/v1/search":
            return 404, {}, b"no"
        found = FOUND[: int(query["n"][0])]
        return 200, {}, json.dumps({"num_results": len(found), "query": query["q"][0], "results": found}).encode()

    def log_message(self, *arguments: Any) -> None:
        pass


def main(folder: Path, command: list[str]) -> None:
    from wherry.linux import netlink

    with netlink.Socket() as route:
        index = netlink.LOOPBACK_INDEX
        route.run(netlink.link_up(index), netlink.add_address(index, IPv4Interface(f"{ADDRESS}/32")))
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{ADDRESS} {name}\n" for name in NAMES))
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    StandIn.log = folder / "requests"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca" / "hub.pem", folder / "ca" / "hub-key.pem")
    server = http.server.ThreadingHTTPServer((ADDRESS, 443), StandIn)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        server.serve_forever()
    server.socket.close()
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
