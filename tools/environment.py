"""The Python environment in the checkout's `.venv`, and the commands that start from it.

pip's own launchers import half of pip's neighbours before the first line of ours runs. Those written here name the
interpreter and the two folders that matter, and skip `site`: `wherry --version` takes about as long as an empty Python.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from tools.packages import install
from tools.progress import Failure, run, say
from tools.settings import ROOT

VENV = ROOT / ".venv"
COMMANDS = {"wherry": "wherry.cli.main", "wherryd": "wherry.daemon"}


def make_environment(lock: str) -> Path:
    """Bring `.venv` to what `requirements/LOCK.txt` says, in pip's hash-checking mode; returns its interpreter.

    A stamp of the lock and the interpreter makes the second time free. The environment of "dev" serves "run" too.
    """
    python = VENV / "bin" / "python3"
    stamps = {name: _stamp(ROOT / "requirements" / f"{name}.txt") for name in ("run", "dev")}
    interpreter, _, done = _read(VENV / "stamp").partition("\n")
    if python.exists() and interpreter == _interpreter() and done in {stamps[lock], stamps["dev"]}:
        return python
    if VENV.exists() and interpreter != _interpreter():
        shutil.rmtree(VENV)
    if not python.exists():
        say(f"Making a Python environment in {VENV}")
        _require_ensurepip()
        run([sys.executable, "-m", "venv", VENV])
    (VENV / "stamp").unlink(missing_ok=True)
    say(f"Installing the locked Python packages ({lock})")
    requirements = ROOT / "requirements" / f"{lock}.txt"
    run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", requirements], cwd="/")
    write_launchers()
    (VENV / "stamp").write_text(f"{_interpreter()}\n{stamps[lock]}")
    return python


def write_launchers() -> None:
    for name, module in COMMANDS.items():
        path = VENV / "bin" / name
        path.write_text(launcher(module))
        path.chmod(0o755)


def launcher(module: str) -> str:
    """The text of a command that calls `module.main()`.

    -I: the caller's PYTHON* variables and folder do not matter; -S: no `site`, which would read every .pth file.
    """
    packages = VENV / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    return (
        f"#!{_base_interpreter()} -IS\n"
        "import sys\n\n"
        f"sys.path += [{str(ROOT / 'src')!r}, {str(packages)!r}]\n\n"
        f"from {module} import main\n\n"
        "sys.exit(main())\n"
    )


def _base_interpreter() -> Path:
    """The interpreter that the environment was made from: with -S the environment's own would do the same, later."""
    return Path(os.path.realpath(sys.executable))


def _require_ensurepip() -> None:
    try:
        import ensurepip  # noqa: F401  (Debian keeps it in python3-venv)
    except ImportError:
        install(["python3-venv"])


def _interpreter() -> str:
    return f"{_base_interpreter()} {sys.version.split()[0]} {sysconfig.get_platform()}"


def _stamp(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def link_commands(folder: Path) -> None:
    """Make `wherry` and `wherryd` found on PATH. Raises Failure if somebody else's file is in the way."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COMMANDS:
        link, target = folder / name, VENV / "bin" / name
        if link.is_symlink() and not _is_ours(link):
            raise Failure(f"{link} leads to {os.readlink(link)}: remove it, or set WHERRY_BIN to another folder")
        if link.exists() and not link.is_symlink():
            raise Failure(f"{link} is in the way: remove it, or set WHERRY_BIN to another folder")
        if not link.is_symlink() or Path(os.readlink(link)) != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def unlink_commands(folder: Path) -> None:
    for name in COMMANDS:
        if (folder / name).is_symlink() and Path(os.readlink(folder / name)) == VENV / "bin" / name:
            (folder / name).unlink()


def _is_ours(link: Path) -> bool:
    return Path(os.readlink(link)).parts[-3:] == (".venv", "bin", link.name)
