"""Options of the daemon, seen in the containers of a daemon that has them."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.daemon import DaemonFailed, Wherryd, temporary_folder
from tests.support.engine import Engine, eventually


@pytest.fixture
def daemon() -> Iterator[Wherryd]:
    daemon = Wherryd(temporary_folder())
    try:
        yield daemon
        if daemon.process is not None and daemon.process.poll() is None:
            engine = Engine("wherry", daemon.socket)
            engine.tidy()
            engine.tidy_images()
    finally:
        daemon.dispose()


def _serving(daemon: Wherryd, *arguments: str) -> Engine:
    daemon.start(*arguments)
    engine = Engine("wherry", daemon.socket, daemon.pid)
    engine.prepare()
    return engine


def test_what_containers_get(daemon: Wherryd) -> None:
    engine = _serving(
        daemon,
        *("--default-ulimit", "nofile=64:128", "--default-ulimit", "core=0"),
        *("--default-shm-size", "3m"),
        *("--log-driver", "local", "--log-opt", "max-size=1m", "--log-opt", "max-file=2"),
        *("--label", "rack=7", "--live-restore"),
    )
    info = engine.http.get("/info").json()
    assert (info["LoggingDriver"], info["Labels"], info["LiveRestoreEnabled"]) == ("local", ["rack=7"], True)
    limits = "ulimit -Sn; ulimit -Hn; ulimit -c; df -k /dev/shm | tail -1"
    container = engine.run(["sh", "-c", f"{limits}; sleep 60"])
    host = engine.inspect(container)["HostConfig"]
    assert host["Ulimits"] is None
    assert host["ShmSize"] == 3 << 20
    assert host["LogConfig"] == {"Type": "local", "Config": {"max-file": "2", "max-size": "1m"}}
    told = eventually(lambda: engine.logs(container)[0].decode().splitlines()[3:] and engine.logs(container)[0])
    assert told.split()[:3] == [b"64", b"128", b"0"]
    assert b" 3072 " in told
    assert engine.exec(container, "ulimit -n") == (0, "64\n", "")
    own = engine.create(
        ["true"],
        host={
            "ShmSize": 1 << 20,
            "Ulimits": [{"Name": "nofile", "Soft": 70, "Hard": 70}],
            "LogConfig": {"Type": "json-file", "Config": {}},
        },
    )
    host = engine.inspect(own)["HostConfig"]
    assert host["ShmSize"] == 1 << 20
    assert host["LogConfig"] == {"Type": "json-file", "Config": {}}
    assert engine.output("ulimit -n", host={"Ulimits": [{"Name": "nofile", "Soft": 70, "Hard": 70}]}) == "70\n"


def test_a_reload_is_told_and_counts_at_once(daemon: Wherryd) -> None:
    file = daemon.folder / "daemon.json"
    file.write_text("{}")
    engine = _serving(daemon, "--config-file", str(file))
    file.write_text(json.dumps({"labels": ["a=b"], "debug": True, "default-shm-size": "2m", "group": "nobody"}))
    daemon.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
    eventually(lambda: engine.http.get("/info").json()["Labels"] == ["a=b"])
    assert engine.http.get("/info").json()["Debug"] is True
    assert engine.inspect(engine.create(["true"]))["HostConfig"]["ShmSize"] == 2 << 20
    filters = json.dumps({"type": ["daemon"]})
    (event,) = engine.http.get("/events", since=1, until=f"{time.time():.9f}", filters=filters).json_lines()[-1:]
    assert (event["Action"], event["Actor"]["ID"]) == ("reload", engine.http.get("/info").json()["ID"])
    assert event["Actor"]["Attributes"]["labels"] == '["a=b"]'
    assert "only a restart takes over: group" in daemon.tail()


def test_a_runtime_comes_and_goes(daemon: Wherryd) -> None:
    """One that is configured no longer, or under no daemon since, serves the containers that were started with it."""
    file = daemon.folder / "daemon.json"
    file.write_text("{}")
    engine = _serving(daemon, "--config-file", str(file))

    def reload(**keys: object) -> None:
        file.write_text(json.dumps(keys))
        daemon.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
        expected = keys.get("default-runtime", "crun")
        eventually(lambda: engine.http.get("/info").json()["DefaultRuntime"] == expected)

    unknown = "unknown or invalid runtime name: mine"
    answer = engine.try_create(["true"], host={"Runtime": "mine"})
    assert (answer.status, answer.message) == (400, unknown)
    runc = {"mine": {"path": shutil.which("runc")}}
    reload(runtimes=runc, **{"default-runtime": "mine"})
    assert engine.http.get("/info").json()["Runtimes"]["mine"]["path"] == shutil.which("runc")
    running, other = engine.idle(), engine.create(["true"])
    assert engine.inspect(running)["HostConfig"]["Runtime"] == "mine"
    assert engine.exec(running, ["true"])[0] == 0
    reload()
    assert engine.exec(running, ["true"])[0] == 0
    answer = engine.http.post(f"/containers/{other}/start")
    assert (answer.status, answer.message) == (400, unknown)
    daemon.stop()
    daemon.start("--config-file", str(file))
    assert engine.exec(running, ["true"])[0] == 0
    assert engine.http.post(f"/containers/{running}/pause").status == 204
    assert engine.http.post(f"/containers/{running}/unpause").status == 204
    engine.remove(running)
    engine.remove(other)
    eventually(lambda: not list((daemon.folder / "run" / "runtime").iterdir()))


def _certificate(context: ssl.SSLContext, port: int) -> bytes | None:
    """What the daemon shows."""
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1") as connected:
        return connected.getpeercert(binary_form=True)


def test_tcp_serves_who_has_a_certificate(daemon: Wherryd, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue("server", "IP:127.0.0.1"), authority.issue("client")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    with pytest.raises(DaemonFailed, match="use --tlsverify"):
        daemon.start("-H", address)
    files = ("--tlscacert", str(authority.cert), "--tlscert", str(server.cert), "--tlskey", str(server.key))
    with pytest.raises(DaemonFailed, match="could not load X509 key pair"):
        daemon.start("-H", address, "--tlsverify", *files[:4], "--tlskey", str(client.key))
    daemon.start("-H", address, "--tlsverify", *files)
    context = ssl.create_default_context(cafile=str(authority.cert))
    context.load_cert_chain(client.cert, client.key)
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1") as connected:
        connected.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert connected.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    renewed = authority.issue("renewed", "IP:127.0.0.1")
    server.cert.write_bytes(renewed.cert.read_bytes())
    daemon.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
    eventually(lambda: "configuration not reloaded: could not load X509 key pair" in daemon.tail())
    assert _certificate(context, port) != ssl.PEM_cert_to_DER_cert(renewed.cert.read_text())
    server.key.write_bytes(renewed.key.read_bytes())
    daemon.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
    eventually(lambda: _certificate(context, port) == ssl.PEM_cert_to_DER_cert(renewed.cert.read_text()))
    daemon.stop()
    daemon.start("-H", address, "--unsafe-tcp")
    warning = f"API is accessible on http://127.0.0.1:{port} without encryption."
    engine = Engine("wherry", daemon.socket)
    assert any(entry.startswith(warning) for entry in engine.http.get("/info").json()["Warnings"])
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert plain.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
