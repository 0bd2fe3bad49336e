"""The client of build sessions: what the engine says while it sends an output."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from wherry.client.build_session import BuildFailed, Session
from wherry.model.build_session import BuildOrder, frame


class _Engine:
    """Its end of the connection is at hand; there is no HTTP before the first frame."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, self.theirs = socket.socketpair()
        answer = SimpleNamespace(status=101, detach=lambda: (ours, b""))
        connection = SimpleNamespace(send=lambda *_: None, receive=lambda _: answer)
        monkeypatch.setattr("wherry.client.build_session.Connection", lambda _: connection)
        self.host = None

    def negotiate(self) -> str:
        return "1.45"

    def says(self, message: dict[str, Any]) -> None:
        self.theirs.sendall(frame(0, msgspec.json.encode(message)))


def test_an_error_in_the_middle_of_an_output_is_the_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, taken = _Engine(monkeypatch), []
    engine.says({"output": {"number": 0, "stream": 2}})
    engine.theirs.sendall(frame(2, b"half"))
    engine.says({"error": {"message": "layer is gone"}})
    engine.theirs.shutdown(socket.SHUT_WR)
    session = Session(
        engine,  # type: ignore[arg-type]
        directories={},
        secrets={},
        agents={},
        archive=(),
        outputs={0: taken.extend},
        caches=(),
        tell=lambda _: None,
    )
    with pytest.raises(BuildFailed, match="layer is gone"):
        session.run(BuildOrder())
    session.close()
    engine.theirs.close()
    assert taken == [b"half"]
