"""aiodocker (PyPI), used as its users use it."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiodocker
import aiohttp
import pytest
import pytest_asyncio

from tests.support.engine import BASE, IDLE, Engine


@pytest_asyncio.fixture
async def client(engine: Engine) -> AsyncIterator[aiodocker.Docker]:
    async with asyncio.timeout(60), aiodocker.Docker(url=f"unix://{engine.http.path}") as client:
        yield client


def config(*cmd: str, host: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"Image": BASE, "Cmd": list(cmd), "HostConfig": host or {}, **more}


async def output(stream: Any) -> tuple[bytes, bytes]:
    parts: dict[int, bytes] = {1: b"", 2: b""}
    while (message := await stream.read_out()) is not None:
        parts[message.stream] += message.data
    return parts[1], parts[2]


async def shown_as(ask: Callable[[], Awaitable[Any]], expected: Callable[[Any], bool]) -> Any:
    """Ask until the answer is as expected."""
    while True:
        shown = await ask()
        if expected(shown):
            return shown
        await asyncio.sleep(0.02)


async def idle(client: aiodocker.Docker) -> Any:
    container = await client.containers.run(config(*IDLE))
    async for line in container.log(stdout=True, follow=True):
        assert line == "up\n"
        return container


async def test_engine(client: aiodocker.Docker) -> None:
    assert (await client.version())["ApiVersion"]
    assert (await client.system.info())["ID"]


async def test_run_and_logs(client: aiodocker.Docker) -> None:
    container = await client.containers.run(config("sh", "-c", "echo one; sleep 0.2; echo two; echo err >&2; exit 3"))
    lines = [line async for line in container.log(stdout=True, follow=True)]
    assert lines == ["one\n", "two\n"]
    assert (await container.wait())["StatusCode"] == 3
    assert await container.log(stderr=True) == ["err\n"]
    assert (await container.show())["State"]["ExitCode"] == 3
    await container.delete()
    with pytest.raises(aiodocker.DockerError) as failed:
        await container.show()
    assert failed.value.status == 404


async def test_life(client: aiodocker.Docker) -> None:
    container = await idle(client)
    assert container.id in [found.id for found in await client.containers.list()]
    await container.pause()
    assert (await container.show())["State"]["Paused"]
    await container.unpause()
    await container.rename("wt-aio")
    assert (await client.containers.get("wt-aio")).id == container.id
    await container.stop(timeout=10)
    assert (await container.wait())["StatusCode"] == 0
    await container.start()
    await container.kill(signal="KILL")
    assert (await container.wait())["StatusCode"] == 137
    stats = await container.stats(stream=False)
    assert stats[0]["id"] == container.id
    await container.delete(force=True)


async def test_attach(client: aiodocker.Docker) -> None:
    container = await client.containers.create(
        config("sh", "-c", "read line; echo got $line; echo err >&2", OpenStdin=True, StdinOnce=True, AttachStdin=True)
    )
    async with container.attach(stdin=True, stdout=True, stderr=True) as stream:
        await container.start()
        await stream.write_in(b"hello\n")
        assert await output(stream) == (b"got hello\n", b"err\n")
    assert (await container.wait())["StatusCode"] == 0


async def test_attach_to_a_terminal(client: aiodocker.Docker) -> None:
    container = await client.containers.create(config("sh", Tty=True, OpenStdin=True))
    async with container.attach(stdin=True, stdout=True, stderr=True) as stream:
        await container.start()
        await container.resize(h=40, w=120)
        await stream.write_in(b"stty size; exit 5\n")
        assert b"40 120\r\n" in (await output(stream))[0]
    assert (await container.wait())["StatusCode"] == 5


async def test_attach_over_a_websocket(client: aiodocker.Docker) -> None:
    command = "read line; echo got $line; echo err >&2"
    container = await client.containers.create(config("sh", "-c", command, OpenStdin=True, StdinOnce=True))
    socket = await container.websocket(stream=True, stdin=True, stdout=True, stderr=True)
    await container.start()
    await socket.send_str("hello\n")
    told = b""
    async for message in socket:
        told += message.data if isinstance(message.data, bytes) else message.data.encode()
    assert sorted(told.splitlines()) == [b"err", b"got hello"]
    assert socket.close_code == 1000
    assert (await container.wait())["StatusCode"] == 0

    logged = await container.websocket(logs=True, stdout=True)
    assert (await logged.receive()).data == b"got hello\n"
    await logged.close()
    await container.delete()
    with pytest.raises(aiohttp.WSServerHandshakeError) as failed:
        await container.websocket()
    assert failed.value.status == 404


async def test_waiting_for_an_exit(client: aiodocker.Docker) -> None:
    container = await client.containers.create(config("sh", "-c", "exit 6"))
    waiting = asyncio.create_task(container.wait(condition="next-exit"))
    while not waiting.done():  # the wait begins some time; until then each run is just another one
        await container.start()
        await asyncio.wait({waiting}, timeout=0.1)
    assert waiting.result()["StatusCode"] == 6


async def test_archives_in_and_out(client: aiodocker.Docker) -> None:
    container = await client.containers.create(config("true"))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("folder/file")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"kept"))
    await container.put_archive("/tmp", packed.getvalue())
    with await container.get_archive("/tmp/folder") as tar:
        assert tar.getnames() == ["folder", "folder/file"]
        file = tar.extractfile("folder/file")
        assert file is not None
        assert file.read() == b"kept"
    with pytest.raises(aiodocker.DockerError) as failed:
        await container.get_archive("/nope")
    assert failed.value.status == 404


async def test_stats(client: aiodocker.Docker) -> None:
    container = await idle(client)
    (once,) = await container.stats(stream=False)
    assert once["pids_stats"]["current"] >= 1
    seen: list[dict[str, Any]] = []
    async for reading in container.stats(stream=True):
        seen.append(reading)
        if len(seen) == 2:
            break
    first, second = seen
    assert second["precpu_stats"]["cpu_usage"] == first["cpu_stats"]["cpu_usage"]
    assert second["memory_stats"]["usage"] > 0


async def test_exec(client: aiodocker.Docker) -> None:
    container = await idle(client)
    made = await container.exec(["sh", "-c", "echo out; echo err >&2; exit 7"])
    async with made.start() as stream:
        assert await output(stream) == (b"out\n", b"err\n")
    shown = await shown_as(made.inspect, lambda shown: not shown["Running"])
    assert shown["ExitCode"] == 7

    made = await container.exec(["head", "-n", "1"], stdin=True)
    async with made.start() as stream:
        await stream.write_in(b"line\n")
        assert await output(stream) == (b"line\n", b"")

    made = await container.exec(["sh"], stdin=True, tty=True)
    async with made.start() as stream:
        await stream.write_in(b"tty; exit\n")
        assert b"/dev/" in (await output(stream))[0]

    made = await container.exec(["touch", "/done"])
    await made.start(detach=True)
    await shown_as(made.inspect, lambda shown: shown["ExitCode"] == 0)


async def test_twenty_execs_at_once(client: aiodocker.Docker) -> None:
    container = await idle(client)

    async def one(number: int) -> tuple[bytes, bytes]:
        made = await container.exec(["echo", str(number)])
        async with made.start() as stream:
            return await output(stream)

    assert await asyncio.gather(*map(one, range(20))) == [(f"{number}\n".encode(), b"") for number in range(20)]


async def test_events(client: aiodocker.Docker) -> None:
    subscriber = client.events.subscribe()
    container = await client.containers.run(config("true"))
    actions = []
    while "die" not in actions:
        event = await subscriber.get()
        if event["Actor"]["ID"] == container.id:
            actions.append(event["Action"])
    assert actions[-2:] == ["start", "die"]  # the subscription may begin after the first


async def test_volumes(client: aiodocker.Docker) -> None:
    volume = await client.volumes.create({"Name": "wt-aio"})
    container = await client.containers.run(config("sh", "-c", "echo kept >/v/f", host={"Binds": ["wt-aio:/v"]}))
    await container.wait()
    reader = await client.containers.run(config("cat", "/w/f", host={"Binds": ["wt-aio:/w:ro"]}))
    await reader.wait()
    assert await reader.log(stdout=True) == ["kept\n"]
    await container.delete()
    await reader.delete()
    assert (await volume.show())["Name"] == "wt-aio"
    await volume.delete()


async def test_images(client: aiodocker.Docker) -> None:
    await client.images.tag(BASE, "wt-aio", tag="v1")
    async with client.images.export_image("wt-aio:v1") as archive:
        data = await archive.read()
    await client.images.delete("wt-aio:v1")
    async for told in client.images.import_image(io.BytesIO(data), stream=True):
        assert "error" not in told
    assert "wt-aio:v1" in (await client.images.inspect("wt-aio:v1"))["RepoTags"]
    assert await client.images.history("wt-aio:v1")
    await client.images.delete("wt-aio:v1")


async def test_networks_and_ports(client: aiodocker.Docker) -> None:
    assert {"bridge", "host", "none"} <= {network["Name"] for network in await client.networks.list()}
    container = await client.containers.run(
        config(
            "sleep",
            "60",
            ExposedPorts={"80/tcp": {}},
            host={"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}},
        )
    )
    assert int((await container.port(80))[0]["HostPort"]) > 0


async def test_restart_policy(client: aiodocker.Docker) -> None:
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    container = await client.containers.run(config("false", host=policy))
    shown = await shown_as(
        container.show, lambda shown: shown["RestartCount"] == 2 and shown["State"]["Status"] == "exited"
    )
    assert shown["State"]["ExitCode"] == 1
