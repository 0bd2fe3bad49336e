"""What a person gets who types in a real shell and presses Tab."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from wherry.cli.commands import completion as scripts

TYPED = {
    "wherry volume pr": "wherry volume prune",
    "wherry --host unix:///none histo": "wherry --host unix:///none history",
    "wherry run --no-healthc": "wherry run --no-healthcheck",
    "wherry load -i some-fi": "wherry load -i some-file",
    "wherry rmi si": "wherry rmi site:1",
    "wherry rmi site:": "wherry rmi site:1",
    "wherry run --network=br": "wherry run --network=bridge",
}
"""Keys before Tab -> the line after it."""

PROGRAM = """#!/bin/sh
case "$*" in
    *" rmi si"*) printf 'site:1\\n' ;;
    *" --network=br") printf -- '--network=bridge\\tnetwork\\n' ;;
    *) exec PYTHON -m wherry.cli.main "$@" ;;
esac
"""
"""The program, but for names that only an engine knows."""


WRITE, ERASE = "\x14", "\x15"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "wherry"
    program.write_text(PROGRAM.replace("PYTHON", sys.executable))
    program.chmod(0o755)
    (tmp_path / "some-file").touch()
    for name, script in (("zsh", scripts.ZSH), ("fish", scripts.FISH), ("bash", scripts.BASH)):
        (tmp_path / name).write_text(script.replace("NAME", "wherry"))
    source = str(Path(scripts.__file__).parents[3])
    path = f"{program.parent}:{os.environ['PATH']}"
    return {"PATH": path, "PYTHONPATH": source, "HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "TERM": "dumb"}


def fish(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Fish tells without a terminal what Tab would offer: the last word, a tab and its description."""
    ask = "source fish; for typed in $argv; complete -C $typed; end"
    done = subprocess.run(
        ["fish", "--no-config", "-c", ask, *TYPED],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    offered = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    return {typed: f"{typed.rpartition(' ')[0]} {word}" for typed, word in zip(TYPED, offered, strict=True)}


def typing(shell: list[str], setup: str) -> Callable[[Path, dict[str, str]], dict[str, str]]:
    """For shells that complete at a terminal only: what is typed, Tab, and a key that writes the line into a pipe."""

    def completed(folder: Path, environment: dict[str, str]) -> dict[str, str]:
        ours, its = pty.openpty()
        told, line = os.pipe()
        (folder / ".zshrc").write_text(f"exec 9>&{line}\n{setup}")
        with (
            os.fdopen(told) as lines,
            subprocess.Popen(
                shell,
                cwd=folder,
                env=environment,
                stdin=its,
                stdout=its,
                stderr=its,
                start_new_session=True,
                pass_fds=[line],
            ) as process,
        ):
            os.close(its)
            os.close(line)
            reader = Thread(target=drained, args=(ours,))
            reader.start()
            found = {}
            for typed in TYPED:
                os.write(ours, f"{typed}\t{WRITE}".encode())
                found[typed] = lines.readline().strip()
                os.write(ours, ERASE.encode())
            process.kill()
        reader.join()
        os.close(ours)
        return found

    return completed


def drained(terminal: int) -> None:
    with suppress(OSError):  # the shell is gone
        while os.read(terminal, 4096):
            pass


zsh = typing(
    ["zsh", "-i"],
    "autoload -U compinit; compinit -u -D; source ./zsh\n"
    'written() { print -r -- "$BUFFER" >&9 }; zle -N written; bindkey "^T" written\n',
)
bash = typing(
    ["bash", "--rcfile", ".zshrc", "-i"],
    'source ./bash; written() { printf "%s\\n" "$READLINE_LINE" >&9; }; bind -x \'"\\C-t": written\'\n',
)


@pytest.mark.parametrize("shell", [bash, zsh, fish], ids=["bash", "zsh", "fish"])
def test_tab(
    shell: Callable[[Path, dict[str, str]], dict[str, str]], tmp_path: Path, environment: dict[str, str]
) -> None:
    assert shell(tmp_path, environment) == TYPED
