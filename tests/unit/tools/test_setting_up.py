"""Packages, launchers and links."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import environment
from tools.packages import installed_packages
from tools.progress import Failure
from tools.settings import Settings

STATUS = """\
Package: crun
Status: install ok installed
Description: lightweight OCI runtime
 Status: not a field

Package: conmon
Status: deinstall ok config-files

Package: tini
Status: hold ok installed
"""


def test_only_fully_installed_packages_count() -> None:
    assert installed_packages(STATUS) == {"crun", "tini"}


def test_settings_by_environment_or_default() -> None:
    given = Settings.from_environment({"WHERRY_EXEC_ROOT": "/tmp/x", "WHERRY_LOG": ""})
    assert str(given.socket) == "/tmp/x/wherry.sock"
    assert str(given.log) == "/var/log/wherryd.log"


def test_a_launcher_ignores_the_callers_python(tmp_path: Path) -> None:
    (tmp_path / "sys.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "wherry").mkdir()
    command = tmp_path / "command"
    command.write_text(environment.launcher("wherry.errors").replace("import main", "import WherryError as main"))
    command.chmod(0o755)
    environ = {"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": "/nonexistent", "PATH": "/nonexistent"}
    result = subprocess.run([command], env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr == "\n"  # sys.exit of the class's instance prints it
    assert command.read_text().startswith(f"#!{Path(sys.executable).resolve()} -IS\n")


def test_links_come_and_go(tmp_path: Path) -> None:
    for _ in range(2):
        environment.link_commands(tmp_path)
    assert (tmp_path / "wherry").readlink() == environment.VENV / "bin" / "wherry"
    environment.unlink_commands(tmp_path)
    assert not list(tmp_path.iterdir())


def test_somebody_elses_file_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "wherry").write_text("mine")
    with pytest.raises(Failure, match="is in the way"):
        environment.link_commands(tmp_path)
    environment.unlink_commands(tmp_path)
    assert (tmp_path / "wherry").read_text() == "mine"
