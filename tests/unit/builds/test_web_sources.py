"""What is sent along when a build fetches a URL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from wherry.engine.builds.progress import Progress
from wherry.engine.builds.sources import BuildSources
from wherry.engine.builds.trees import Client, Files
from wherry.errors import WherryError
from wherry.model.build_graph import HttpSource, Vertex
from wherry.storage.content import Contents


class _Nobody:
    def tell(self, message: object, /) -> None: ...

    async def room(self) -> None: ...


@pytest.fixture
def asked() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server's address, and the path and authorization of each request. `/again` redirects to itself."""
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            moved = {"/moved": "/file", "/again": "/again"}.get(self.path)
            self.send_response(302 if moved else 200)
            if moved:
                self.send_header("Location", moved)
            self.send_header("Content-Length", "0" if moved else "2")
            self.end_headers()
            if not moved:
                self.wfile.write(b"hi")

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def fetch(url: str, folder: Path) -> Files:
    sources = BuildSources(cast("object", None), Contents(folder / "contents"), folder)  # type: ignore[arg-type]
    result = asyncio.run(sources.tree(Vertex(HttpSource(url)), cast(Client, None), Progress(_Nobody())))
    assert isinstance(result, Files)
    return result


def test_no_password_of_this_host_goes_out(
    asked: tuple[str, list[tuple[str, str | None]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = asked
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    (entry,) = fetch(f"{url}/moved", tmp_path).files
    assert entry.size == 2
    assert seen == [("/moved", None), ("/file", None)]


def test_redirections_end(asked: tuple[str, list[tuple[str, str | None]]], tmp_path: Path) -> None:
    url, _ = asked
    with pytest.raises(WherryError, match="more than 10 redirections"):
        fetch(f"{url}/again", tmp_path)


def test_proxies_come_from_the_environment(
    asked: tuple[str, list[tuple[str, str | None]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = asked
    monkeypatch.setenv("HTTP_PROXY", url)
    (entry,) = fetch("http://nowhere.invalid/file", tmp_path).files
    assert entry.path == b"file"
    assert seen == [("http://nowhere.invalid/file", None)]
