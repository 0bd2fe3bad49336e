"""How the progress of a build is shown: in plain lines and, on a terminal, drawn over itself."""

from __future__ import annotations

import pytest

from wherry.cli.build_display import Display, Plain, Terminal

MESSAGES = [
    {"type": "planned", "vertex": "v", "name": "[1/1] RUN make"},
    {"type": "warned", "text": "StageNameCasing: Stage name 'X' should be lowercase (line 1)"},
    {"type": "warned", "text": "the cache c is not used: gone"},
    {"type": "started", "vertex": "v", "time": 1_000_000_000},
    {"type": "written", "vertex": "v", "stream": 1, "data": "bWFkZQo="},
    {"type": "ended", "vertex": "v", "time": 2_000_000_000},
]


def shown(display: Display, messages: list[dict[str, object]], capsys: pytest.CaptureFixture[str]) -> str:
    for message in messages:
        display.tell(message)
    display.close()
    display.close()  # as after a failure
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_warnings_come_last(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(Plain(), MESSAGES, capsys)
    assert text.endswith(
        "#1 DONE 1.0s\n\n 2 warnings found:\n"
        " - StageNameCasing: Stage name 'X' should be lowercase (line 1)\n - the cache c is not used: gone\n"
    )


def test_one_warning(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(Terminal(), MESSAGES[:2] + MESSAGES[3:], capsys)
    assert text.count("FINISHED") == 1
    assert text.endswith("\n 1 warning found:\n - StageNameCasing: Stage name 'X' should be lowercase (line 1)\n")


def test_without_warnings_nothing_is_said_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert "warning" not in shown(Plain(), [MESSAGES[0], *MESSAGES[3:]], capsys)
    assert shown(Display(), MESSAGES, capsys) == ""
