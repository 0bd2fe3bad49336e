"""docker-py (PyPI `docker`), used as its users use it."""

from __future__ import annotations

import io
import json
import socket
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import docker
import pytest
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound

from tests.support.engine import BASE, Engine, eventually, split_frames
from tests.support.http import join_frames
from tests.support.registries import PASSWORD, USER, debian_registry

# under Python 3.13 docker-py's answers complain, when collected, of the sockets it took from them
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=f"unix://{engine.http.path}", version="auto", timeout=30)
    yield client
    client.close()


@pytest.fixture
def idle(engine: Engine, client: docker.DockerClient) -> Any:
    return client.containers.get(engine.idle())


def raw(taken_over: Any) -> socket.socket:
    """The socket inside of what docker-py returns with socket=True."""
    return taken_over._sock


def received(taken_over: Any) -> bytes:
    return b"".join(iter(lambda: raw(taken_over).recv(65536), b""))


def demultiplexed(data: bytes) -> tuple[bytes, bytes]:
    return join_frames(split_frames([data]))


def test_engine(client: docker.DockerClient) -> None:
    assert client.ping()
    assert client.version()["ApiVersion"] == client.api.api_version
    assert client.info()["ID"]
    assert client.df()["Images"]


def test_run_to_the_end(client: docker.DockerClient) -> None:
    assert client.containers.run(BASE, ["echo", "hello"], remove=True) == b"hello\n"
    command = ["sh", "-c", "echo out; echo err >&2"]
    assert client.containers.run(BASE, command, remove=True, stdout=False, stderr=True) == b"err\n"
    with pytest.raises(ContainerError) as failed:
        client.containers.run(BASE, ["sh", "-c", "echo why >&2; exit 3"], remove=True)
    assert (failed.value.exit_status, failed.value.stderr) == (3, b"why\n")
    assert b"".join(client.containers.run(BASE, "seq 3", remove=True, stream=True)) == b"1\n2\n3\n"


def test_errors_have_their_kinds(client: docker.DockerClient) -> None:
    with pytest.raises(NotFound, match="No such container: wt-nope"):
        client.containers.get("wt-nope")
    with pytest.raises(ImageNotFound):
        client.images.get("wt-nope")
    with pytest.raises(APIError, match="executable file not found") as failed:
        client.containers.run(BASE, ["nope"])
    assert failed.value.status_code == 400
    client.containers.create(BASE, name="wt-twice")
    with pytest.raises(APIError, match="already in use") as failed:
        client.containers.create(BASE, name="wt-twice")
    assert failed.value.status_code == 409


def test_life(client: docker.DockerClient) -> None:
    command = ["sh", "-c", "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done"]
    container = client.containers.run(
        BASE, command, name="wt-life", detach=True, labels={"wt": "life"}, environment=["A=b"], hostname="boat"
    )
    assert [found.id for found in client.containers.list(filters={"label": "wt=life"})] == [container.id]
    assert BASE in container.image.tags
    eventually(container.logs)
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.rename("wt-renamed")
    assert client.containers.get("wt-renamed").id == container.id
    assert "sleep" in str(container.top()["Processes"]) or "sh" in str(container.top()["Processes"])
    assert container.stats(stream=False)["memory_stats"]["usage"] > 0
    container.stop(timeout=10)
    assert container.wait()["StatusCode"] == 4
    container.restart()
    container.kill("KILL")
    assert container.wait()["StatusCode"] == 137
    container.remove(v=True)
    with pytest.raises(NotFound):
        container.reload()


def test_wait_for_removal_and_its_timeout(client: docker.DockerClient) -> None:
    container = client.containers.run(BASE, ["sleep", "0.3"], detach=True, auto_remove=True)
    assert container.wait(condition="removed")["StatusCode"] == 0
    slow = client.containers.run(BASE, ["sleep", "60"], detach=True)
    with pytest.raises(Exception, match="timed out"):
        slow.wait(timeout=0.2)


def test_wait_for_the_next_exit(client: docker.DockerClient) -> None:
    """Of one that has ended already: what counts is the end of its next run."""
    container = client.containers.run(BASE, ["sh", "-c", "test -e /again && exit 6; touch /again"], detach=True)
    assert container.wait()["StatusCode"] == 0
    waited: list[dict[str, Any]] = []
    waiting = Thread(target=lambda: waited.append(container.wait(condition="next-exit")))
    waiting.start()
    while waiting.is_alive():  # the wait begins some time; until then each run is just another one
        container.start()
        waiting.join(0.1)
    assert [answer["StatusCode"] for answer in waited] == [6]


def packed(**files: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid = len(content), 0o640, 1000
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def test_archives_in_and_out(client: docker.DockerClient, idle: Any) -> None:
    assert idle.put_archive("/tmp", packed(a=b"one", b=b"two" * 500_000))
    assert idle.exec_run(["stat", "-c", "%a %u %s", "/tmp/a"]) == (0, b"640 1000 3\n")
    pieces, stat = idle.get_archive("/tmp/b", chunk_size=4096)
    assert (stat["name"], stat["size"], stat["linkTarget"]) == ("b", 1_500_000, "")
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        file = tar.extractfile("b")
        assert file is not None
        assert file.read() == b"two" * 500_000
    stopped = client.containers.create(BASE, "true")
    assert stopped.put_archive("/", packed(kept=b"before the start"))
    pieces, stat = stopped.get_archive("/kept", encode_stream=True)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        assert tar.getnames() == ["kept"]
    with pytest.raises(NotFound, match="Could not find the file /nope"):
        stopped.get_archive("/nope")
    with pytest.raises(NotFound, match="Could not find the file /nope"):
        stopped.put_archive("/nope", packed(a=b""))
    with pytest.raises(APIError, match="extraction point is not a directory"):
        stopped.put_archive("/kept", packed(a=b""))


def test_changes_commit_export(client: docker.DockerClient) -> None:
    container = client.containers.run(BASE, ["sh", "-c", "echo new >/new"], detach=True)
    container.wait()
    assert {"Path": "/new", "Kind": 1} in container.diff()
    with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as tar:
        assert "new" in tar.getnames()
    image = container.commit("wt-committed", "1", message="told", changes='CMD ["cat", "/new"]')
    try:
        assert image.history()[0]["Comment"] == "told"
        assert client.containers.run(image, remove=True) == b"new\n"
    finally:
        client.images.remove(image.id)


def test_stats_as_a_stream(idle: Any) -> None:
    readings = idle.stats(decode=True, stream=True)
    first, second = next(readings), next(readings)
    assert first["id"] == second["id"] == idle.id
    assert second["precpu_stats"]["cpu_usage"] == first["cpu_stats"]["cpu_usage"]
    assert second["cpu_stats"]["system_cpu_usage"] > first["cpu_stats"]["system_cpu_usage"]
    assert second["networks"]["eth0"]["rx_bytes"] >= 0
    one = json.loads(next(idle.stats(stream=True)))
    assert one["pids_stats"]["current"] >= 1
    once = idle.client.api.stats(idle.id, stream=False, one_shot=True)
    assert once["memory_stats"]["usage"] > 0
    assert once["precpu_stats"]["cpu_usage"]["total_usage"] == 0


def test_logs(client: docker.DockerClient) -> None:
    container = client.containers.run(
        BASE, ["sh", "-c", "echo a; sleep 0.3; echo b >&2; sleep 0.3; echo c"], detach=True
    )
    assert list(container.logs(stream=True, follow=True)) == [b"a\n", b"b\n", b"c\n"]
    assert container.logs(stdout=False) == b"b\n"
    assert container.logs(tail=1) == b"c\n"
    assert container.logs(timestamps=True, tail=1)[:4].isdigit()
    assert container.logs(since=int(time.time()) + 100) == b""
    container.wait()


def test_attach_as_a_stream(client: docker.DockerClient) -> None:
    container = client.containers.create(BASE, ["sh", "-c", "sleep 0.1; echo out; echo err >&2"])
    output = container.attach(stream=True, stdout=True, stderr=True, demux=True)
    container.start()
    pieces = list(output)
    assert b"".join(out or b"" for out, _ in pieces) == b"out\n"
    assert b"".join(err or b"" for _, err in pieces) == b"err\n"


def test_attach_socket(client: docker.DockerClient) -> None:
    container = client.api.create_container(BASE, ["wc", "-c"], stdin_open=True)
    wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
    with closing(client.api.attach_socket(container, params=wanted)) as taken:
        client.api.start(container)
        raw(taken).sendall(b"x" * 1000)
        raw(taken).sendall(b"y" * 234)
        raw(taken).shutdown(socket.SHUT_WR)
        assert demultiplexed(received(taken)) == (b"1234\n", b"")  # docker-py asks for StdinOnce by itself


def test_attach_socket_to_a_terminal(client: docker.DockerClient) -> None:
    container = client.containers.create(BASE, ["sh"], tty=True, stdin_open=True)
    with closing(container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})) as taken:
        container.start()
        container.resize(height=40, width=120)
        raw(taken).sendall(b"stty size; exit 5\n")
        assert b"40 120\r\n" in received(taken)
    assert container.wait()["StatusCode"] == 5


def test_exec(idle: Any) -> None:
    command = ["sh", "-c", "echo out; echo err >&2; exit 7"]
    assert idle.exec_run(command, demux=True) == (7, (b"out\n", b"err\n"))
    code, output = idle.exec_run(command)
    assert (code, sorted(output.split())) == (7, [b"err", b"out"])
    assert idle.exec_run(["sh", "-c", "echo $A; pwd; id -u"], environment={"A": "b"}, workdir="/tmp", user="u") == (
        0,
        b"b\n/tmp\n1000\n",
    )
    assert idle.exec_run("tty", tty=True)[1].startswith(b"/dev/")
    assert b"".join(idle.exec_run("seq 3", stream=True).output) == b"1\n2\n3\n"
    assert idle.exec_run("true", detach=True).output in (b"", "")


def test_exec_output_is_whole_each_time(idle: Any) -> None:
    """Also of commands that are quick: docker-py loses what comes in one piece with the headers."""
    for _ in range(20):
        assert idle.exec_run(["echo", "whole"]) == (0, b"whole\n")


def test_exec_refused(idle: Any) -> None:
    code, output = idle.exec_run(["nope"])
    assert code in (126, 127)
    assert b"executable file not found" in output


def test_exec_socket_with_stdin(client: docker.DockerClient, idle: Any) -> None:
    made = client.api.exec_create(idle.id, ["wc", "-c"], stdin=True)
    with closing(client.api.exec_start(made, socket=True)) as taken:
        data = b"z" * 500_000
        raw(taken).sendall(data)
        raw(taken).shutdown(socket.SHUT_WR)
        assert demultiplexed(received(taken)) == (b"500000\n", b"")
    ended = eventually(lambda: (shown := client.api.exec_inspect(made))["Running"] is False and shown)
    assert ended["ExitCode"] == 0


def test_exec_socket_of_a_terminal(client: docker.DockerClient, idle: Any) -> None:
    made = client.api.exec_create(idle.id, ["sh"], stdin=True, tty=True)
    with closing(client.api.exec_start(made, socket=True, tty=True)) as taken:
        eventually(lambda: client.api.exec_inspect(made)["Running"])
        client.api.exec_resize(made, height=33, width=77)
        raw(taken).sendall(b"stty size; exit\n")
        assert b"33 77\r\n" in received(taken)


def test_events(client: docker.DockerClient) -> None:
    since = int(time.time())
    seen: list[str] = []
    events = client.events(decode=True, filters={"container": "wt-told", "type": "container"}, since=since)

    def listen() -> None:
        for event in events:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                return

    listener = Thread(target=listen)
    listener.start()
    client.containers.run(BASE, "true", name="wt-told", remove=True)
    listener.join(20)
    events.close()
    assert [action for action in seen if action != "attach"] == ["create", "start", "die", "destroy"]


def test_volumes(client: docker.DockerClient) -> None:
    volume = client.volumes.create("wt-kept", labels={"wt": "1"})
    client.containers.run(BASE, ["sh", "-c", "echo kept >/v/f"], volumes={"wt-kept": {"bind": "/v", "mode": "rw"}})
    mount = docker.types.Mount("/w", "wt-kept", read_only=True)
    assert client.containers.run(BASE, ["cat", "/w/f"], mounts=[mount]) == b"kept\n"
    with pytest.raises(ContainerError):
        client.containers.run(BASE, ["touch", "/w/g"], mounts=[mount])
    assert [found.name for found in client.volumes.list(filters={"label": "wt=1"})] == ["wt-kept"]
    with pytest.raises(APIError, match="volume is in use") as failed:
        volume.remove()
    assert failed.value.status_code == 409
    client.containers.prune(filters={"label": "wt-none"})
    for container in client.containers.list(all=True, filters={"volume": "wt-kept"}):
        container.remove()
    volume.remove()
    with pytest.raises(NotFound):
        client.volumes.get("wt-kept")


def test_networks(client: docker.DockerClient) -> None:
    assert {"bridge", "host", "none"} <= {network.name for network in client.networks.list()}
    container = client.containers.run(BASE, ["sleep", "60"], detach=True)
    container.reload()
    address = container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    members = client.networks.get("bridge").attrs["Containers"]
    assert members[container.id]["IPv4Address"].startswith(f"{address}/")
    alone = client.containers.run(BASE, ["ls", "/sys/class/net"], network_mode="none")
    assert b"eth0" not in alone
    shared = client.containers.run(BASE, ["ip", "addr"], network_mode=f"container:{container.id}")
    assert address.encode() in shared


def test_ports(client: docker.DockerClient) -> None:
    container = client.containers.run(
        BASE, ["sleep", "60"], ports={"80/tcp": ("127.0.0.1", None), "53/udp": None}, detach=True
    )
    container.reload()
    published = container.ports["80/tcp"]
    assert [binding["HostIp"] for binding in published] == ["127.0.0.1"]
    assert int(published[0]["HostPort"]) > 0
    assert container.ports["53/udp"]
    with pytest.raises(APIError, match="port is already allocated"):
        client.containers.run(BASE, "true", ports={"80/tcp": ("127.0.0.1", int(published[0]["HostPort"]))})


def test_images(client: docker.DockerClient) -> None:
    image = client.images.get(BASE)
    assert image.tag("wt-other", "v1")
    archive = b"".join(client.images.get("wt-other:v1").save(named="wt-other:v1"))
    client.images.remove("wt-other:v1")
    with pytest.raises(ImageNotFound):
        client.images.get("wt-other:v1")
    assert [loaded.id for loaded in client.images.load(io.BytesIO(archive))] == [image.id]
    assert "wt-other:v1" in client.images.get("wt-other:v1").tags
    assert image.id in [found.id for found in client.images.list(name="wt-other")]
    client.images.remove("wt-other:v1")
    assert image.history()


def test_restart_policy(client: docker.DockerClient) -> None:
    policy = {"Name": "on-failure", "MaximumRetryCount": 2}
    container = client.containers.run(BASE, ["false"], restart_policy=policy, detach=True)

    def given_up() -> bool:
        container.reload()
        return container.attrs["RestartCount"] == 2 and container.status == "exited"

    eventually(given_up)
    assert container.attrs["State"]["ExitCode"] == 1


def test_limits_and_update(client: docker.DockerClient) -> None:
    container = client.containers.run(
        BASE, ["sleep", "60"], detach=True, mem_limit="64m", pids_limit=50, tmpfs={"/t": "size=1m"}, read_only=True
    )
    container.update(mem_limit="128m", memswap_limit="256m")
    container.reload()
    assert container.attrs["HostConfig"]["Memory"] == 128 << 20
    assert container.exec_run(["sh", "-c", "touch /t/x && ! touch /x"])[0] == 0


def test_registries(client: docker.DockerClient, tmp_path: Path) -> None:
    with debian_registry(tmp_path, password=True) as registry:
        answer = client.login(USER, PASSWORD, registry=registry.host, dockercfg_path=str(tmp_path / "none"))
        assert answer["Status"] == "Login Succeeded"
        with pytest.raises(APIError, match="401 Unauthorized"):
            client.login(USER, "wrong", registry=registry.host, dockercfg_path=str(tmp_path / "none"), reauth=True)
        image = client.images.get(BASE)
        name = f"{registry.host}/wt/py"
        image.tag(name, "1")
        try:
            pushed = list(client.images.push(name, "1", stream=True, decode=True))
            digest = next(line["aux"]["Digest"] for line in pushed if "aux" in line)
            assert client.images.get_registry_data(f"{name}:1").id == digest
            assert client.images.pull(name, "1").id == image.id
        finally:
            client.images.remove(f"{name}:1")
