"""The daemon's surroundings: sockets, pidfile, logging, notification; the engine itself is tested elsewhere."""

import json
import logging
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry import daemon
from wherry.api import sockets
from wherry.engine.settings import Settings
from wherry.errors import InvalidParameter, SystemFailure

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(daemon.__file__).parents[1])}


def test_a_socket_is_the_groups_and_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "run" / "api.sock"
    with sockets.bind_unix(path, os.getgid()):
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o660


def test_a_dead_socket_is_replaced_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    sockets.bind_unix(path, None).close()
    with sockets.bind_unix(path, None), pytest.raises(SystemFailure, match="another process listens there"):
        sockets.bind_unix(path, None)


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.write_text("precious")
    with pytest.raises(SystemFailure, match="exists and is not a socket"):
        sockets.bind_unix(path, None)
    assert path.read_text() == "precious"


def test_groups() -> None:
    assert sockets.group_id("root") == 0
    assert sockets.group_id("4321") == 4321
    with pytest.raises(InvalidParameter, match="group no-such-group not found"):
        sockets.group_id("no-such-group")


def test_no_socket_was_passed() -> None:
    of_another = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}
    for environment in ({}, of_another):
        with pytest.raises(InvalidParameter, match="LISTEN_FDS"):
            sockets.inherited(environment)


def test_sockets_of_a_service_manager(tmp_path: Path) -> None:
    """In a process of its own, whose descriptors from 3 on are as a service manager leaves them."""
    script = (
        "import os; from wherry.api import sockets;"
        "env = {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '2', 'LISTEN_FDNAMES': 'one:two'};"
        "every = sockets.inherited(env); print([one.getsockname() for one in every]);"
        "[one.detach() for one in every];"
        "print([one.getsockname() for one in sockets.inherited(env, 'two')])"
    )
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for listening, name in ((first, "a"), (second, "b")):
            listening.bind(str(tmp_path / name))
            listening.listen()
        shell = f'exec 3<&{first.fileno()} 4<&{second.fileno()}; exec {sys.executable} -c "{script}"'
        done = subprocess.run(
            ["bash", "-c", shell],
            pass_fds=[first.fileno(), second.fileno()],
            capture_output=True,
            text=True,
            check=True,
            env=ENVIRONMENT,
        )
    assert done.stdout.strip() == f"['{tmp_path}/a', '{tmp_path}/b']\n['{tmp_path}/b']"


def test_pidfile(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("999999999\n")  # of a daemon that is gone
    with daemon._pidfile(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_notification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        daemon._notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_log_formats() -> None:
    record = logging.LogRecord("wherry.x", logging.WARNING, "", 0, "said %s", ("this",), None)
    assert daemon._Text().format(record).endswith("Z warn wherry.x: said this")
    entry = json.loads(daemon._Json().format(record))
    assert (entry["level"], entry["logger"], entry["msg"]) == ("warn", "wherry.x", "said this")


def test_the_file_of_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "daemon.json"
    for text, status, said in (
        ('{"log-level": "debug"}', 0, "configuration OK"),
        ('{"nonsense": 1}', 1, "nonsense"),
        ("{", 1, str(path)),
    ):
        path.write_text(text)
        assert daemon.main(["--validate", "--config-file", str(path)]) == status
        captured = capsys.readouterr()
        assert said in captured.out + captured.err
    assert daemon.main(["--validate", "--config-file", str(tmp_path / "none")]) == 1
    assert "no such file" in capsys.readouterr().err
    assert daemon.main(["--validate", "-H", "tcp://1.2.3.4:5", "--config-file", str(path)]) == 1


@pytest.fixture
def root_level() -> Iterator[None]:
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


def test_a_reload_takes_over_what_it_can(tmp_path: Path, root_level: None, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "daemon.json"
    path.write_text("{}")
    options = daemon._parser().parse_args(["--config-file", str(path), "--label", "a=1"])
    settings, told = Settings(), list[dict[str, str]]()
    config = daemon._configure(options)
    reloads = daemon.Reloads(options, config, settings, daemon.Certificates(config), told.append)
    path.write_text(
        json.dumps(
            {
                "debug": True,
                "data-root": "/elsewhere",
                "default-shm-size": "1m",
                "registry-mirrors": ["https://m/"],
                "max-concurrent-downloads": 7,
                "log-opts": {"max-size": "1m"},
                "runtimes": {"mine": {"path": "/usr/bin/mine"}},
                "default-runtime": "mine",
            }
        )
    )
    with caplog.at_level(logging.INFO):
        reloads.reload()
        assert logging.getLogger().level == logging.DEBUG
    assert (settings.debug, settings.labels, settings.defaults.shm_size) == (True, ("a=1",), 1 << 20)
    assert settings.registries.mirrors == ("https://m/",)
    assert settings.defaults.log_options == {"max-size": "1m"}
    assert (settings.runtimes, settings.default_runtime) == ({"mine": Path("/usr/bin/mine")}, "mine")
    assert (told[0]["runtimes"], told[0]["default-runtime"]) == ("mine:/usr/bin/mine", "mine")
    assert told[0]["max-concurrent-downloads"] == "7"
    assert told[0]["labels"] == '["a=1"]'
    assert "only a restart takes over: data-root" in caplog.text
    assert (
        "configuration reloaded: debug, default-runtime, runtimes, default-shm-size, log-opts, registry-mirrors,"
        in caplog.text
    )
    path.write_text("{")
    reloads.reload()
    assert "configuration not reloaded: " in caplog.text
    assert settings.debug
    for mistake in ('{"max-concurrent-downloads": 0}', '{"default-runtime": "nope"}', '{"default-runtime": "mine"}'):
        path.write_text(mistake)
        reloads.reload()
    assert settings.registries.max_concurrent_downloads == 7
    assert len(told) == 1
    path.write_text('{"data-root": "/elsewhere"}')
    caplog.clear()
    reloads.reload()
    assert "only a restart takes over: data-root" in caplog.text  # it still does
    assert not settings.debug


def test_help_and_version_need_no_engine() -> None:
    script = (
        "import sys, wherry.daemon\n"
        "try: wherry.daemon.main(['--version'])\n"
        "except SystemExit: pass\n"
        "assert 'aiohttp' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stdout == "Wherry version 0.1.0\n"
