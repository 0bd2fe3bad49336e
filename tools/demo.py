"""What `./up` shows: the starter image loaded, a web service built and running, its page fetched."""

from __future__ import annotations

import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from tools import starter
from tools.engine import wherry
from tools.progress import Failure, say
from tools.settings import ROOT, Settings

CONTAINER = "wherry-hello"
IMAGE = "wherry/hello:latest"
SITE = ROOT / "tools" / "site"
_FAVOURITE_PORT = 8080
_PATIENCE = 10.0


def load_starter(settings: Settings) -> None:
    if wherry(settings, "images", "--quiet", starter.NAME).strip():
        say(f"The starter image is there: {starter.NAME}")
        return
    with tempfile.NamedTemporaryFile(prefix="wherry-starter-", suffix=".tar") as file:
        file.write(starter.archive(starter.busybox()))
        file.flush()
        wherry(settings, "load", "--quiet", "--input", file.name)
    say(f"Loaded the starter image: {starter.NAME}")


def build_web_service(settings: Settings) -> None:
    """Build its image from a Dockerfile of two stages; again, everything comes from the cache."""
    wherry(settings, "build", "--quiet", "--tag", IMAGE, str(SITE))
    say(f"Built the image of a web service from {SITE.relative_to(ROOT)}/Dockerfile: {IMAGE}")


def run_web_service(settings: Settings) -> str:
    """Have the container running and its page answering; returns "host:port". Raises Failure if it does not come."""
    state = wherry(settings, "ps", "--all", "--filter", f"name=^/?{CONTAINER}$", "--format", "{{.State}}").strip()
    if not state:
        port = f"127.0.0.1:{free_port()}:80"
        wherry(settings, "run", "--detach", "--name", CONTAINER, "--publish", port, IMAGE)
    elif state != "running":
        wherry(settings, "start", CONTAINER)
    address = wherry(settings, "port", CONTAINER, "80/tcp").split()[0]
    page = fetch(f"http://{address}/")
    if starter.PAGE_SAYS not in page:
        raise Failure(f"http://{address}/ answers something else than our page:\n{page}")
    say(f"A container serves a page at http://{address}/ and it answers: “{starter.PAGE_SAYS}”")
    return address


def fetch(url: str) -> str:
    """The page's text, asked for until it comes, since a server takes a moment to listen."""
    deadline = time.monotonic() + _PATIENCE
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with direct.open(url, timeout=_PATIENCE) as answer:
                text: str = answer.read().decode()
                return text
        except (urllib.error.URLError, ConnectionError) as error:
            if time.monotonic() > deadline:
                raise Failure(f"{url} does not answer: {error}") from None
            time.sleep(0.05)


def free_port() -> int:
    """The favourite port of the loopback address, or any free one."""
    for port in (_FAVOURITE_PORT, 0):
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            number: int = attempt.getsockname()[1]
            return number
    raise Failure("no port of 127.0.0.1 is free")


def epilogue(settings: Settings, address: str) -> Iterator[str]:
    host = "" if settings.socket == Settings.from_environment({}).socket else f" -H unix://{settings.socket}"
    hints = {
        f"wherry{host} ps": "what runs",
        f"wherry{host} run -it --rm {starter.NAME} sh": "a shell in a container of its own",
        f"wherry{host} logs {CONTAINER}": "what a container said",
        f"wherry{host} build -t mine {SITE.relative_to(ROOT)}": "an image of your own: change its pages first",
        f"docker -H unix://{settings.socket} ps": "the stock client on the same engine",
        f"curl http://{address}/": "the page",
        "./down": "undo all this (--data: images and containers too)",
    }
    width = max(map(len, hints))
    yield "\nTry next:"
    yield from (f"  {command:{width}}   {what}" for command, what in hints.items())
