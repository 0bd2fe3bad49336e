import os
import subprocess
import sys
from pathlib import Path

import pytest

from wherry.errors import SystemFailure
from wherry.storage.dataroot import LAYOUT, open_data_root, open_exec_root


def test_a_new_root_is_private_and_says_its_layout(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    os.close(open_data_root(root))
    assert root.stat().st_mode & 0o777 == 0o700
    assert (root / "version").read_text() == f"{LAYOUT}\n"


def test_it_opens_again_once_closed(tmp_path: Path) -> None:
    os.close(open_data_root(tmp_path))
    os.close(open_data_root(tmp_path))


def test_a_second_daemon_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    descriptor = open_data_root(tmp_path)
    try:
        with pytest.raises(SystemFailure, match=rf"in use by another daemon \(PID {os.getpid()}\)"):
            open_data_root(tmp_path)
    finally:
        os.close(descriptor)


def test_a_child_does_not_keep_the_root_of_a_dead_daemon(tmp_path: Path) -> None:
    descriptor = open_data_root(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", "print('here', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == b"here\n"
        os.close(descriptor)
        os.close(open_data_root(tmp_path))
    finally:
        child.communicate(b"\n")


def test_a_newer_layout_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("99\n")
    with pytest.raises(SystemFailure, match=f"has layout version 99, this Wherry knows {LAYOUT}: upgrade"):
        open_data_root(tmp_path)
    assert (tmp_path / "version").read_text() == "99\n"


def test_somebody_elses_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(SystemFailure, match=r"not a Wherry data root and not empty \(it holds photos\)"):
        open_data_root(tmp_path)
    assert not (tmp_path / "version").exists()


def test_a_first_start_that_was_killed_half_way_is_no_stranger(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / ".version.new").write_text("")
    os.close(open_data_root(tmp_path))
    assert (tmp_path / "version").read_text() == f"{LAYOUT}\n"


def test_a_file_in_the_way_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "root").touch()
    with pytest.raises(SystemFailure, match=r"data root .*/root: File exists"):
        open_data_root(tmp_path / "root")


def test_an_exec_root_is_one_daemons_too(tmp_path: Path) -> None:
    """The second would sweep what the first one runs."""
    descriptor = open_exec_root(tmp_path / "run")
    with pytest.raises(SystemFailure, match=r"exec root .* in use by another daemon .* another --exec-root"):
        open_exec_root(tmp_path / "run")
    os.close(descriptor)
    os.close(open_exec_root(tmp_path / "run"))
