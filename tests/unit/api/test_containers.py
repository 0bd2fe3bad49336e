"""The container routes over a fake service and a real socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession, UnixConnector

from tests.unit.api.test_encode import container
from wherry.api import containers, execs, system, unsupported
from wherry.api.app import App
from wherry.api.server import Listener
from wherry.api.sockets import bind_unix
from wherry.engine.containers.live import WaitResult
from wherry.engine.facts import Facts, Program
from wherry.engine.settings import Settings
from wherry.errors import Conflict, NotFound, NotModified, StartFailed
from wherry.model.config import EndpointConfig
from wherry.model.container import Container
from wherry.model.host import Binaries, CgroupLayout, Host, Roots
from wherry.model.logs import LogEntry, LogOptions

HOST = Host(
    roots=Roots(Path("/d"), Path("/r")),
    binaries=Binaries(Path("/conmon"), Path("/crun"), None, None),
    cgroups=CgroupLayout.V2,
    controllers=frozenset({"cpu", "cpuset", "memory", "pids"}),
    kernel=(6, 1),
    boot_id="b",
    cpus=2,
    memory=1 << 30,
    nftables=True,
    ipv6=True,
    apparmor=False,
    selinux=False,
    seccomp=True,
)


@dataclass(frozen=True)
class Created:
    id: str
    warnings: list[str]


@dataclass
class Fake:
    """Both services: what was asked of them is in `calls`, what goes wrong in `failures`."""

    records: dict[str, Container] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)
    waiting: list[asyncio.Future[WaitResult]] = field(default_factory=list)
    told: asyncio.Queue[LogEntry] = field(default_factory=asyncio.Queue)
    logs_closed: asyncio.Event = field(default_factory=asyncio.Event)

    def get(self, ref: str) -> Container:
        try:
            return self.records[ref]
        except KeyError:
            raise NotFound(f"No such container: {ref}") from None

    def all(self) -> list[Container]:
        return list(self.records.values())

    def of_container(self, container_id: str) -> list[str]:
        return []

    async def create(self, *arguments: Any) -> Created:
        self.calls.append(("create", *arguments))
        return Created("new", [])

    async def size(self, ref: str) -> tuple[int, int]:
        return 5, 1000

    def wait(self, ref: str, condition: str) -> asyncio.Future[WaitResult]:
        self.get(ref)
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    async def logs(self, ref: str, options: LogOptions) -> AsyncIterator[list[LogEntry]]:
        self.calls.append(("logs", options))
        try:
            while True:
                yield [await self.told.get()]
        finally:
            self.logs_closed.set()

    def links_of(self, record: Container) -> list[str]:
        return []

    def names_of_links(self) -> dict[str, list[str]]:
        return {}

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> None:
            self.calls.append((name, *arguments))
            if name in self.failures:
                raise self.failures[name]

        return call


class Images:
    def id_of(self, ref: str) -> str | None:
        return "sha256:" + "b" * 64 if ref == "busybox" else None

    def descendants(self, ref: str) -> list[str]:
        return []


FACTS = Facts(
    host=HOST,
    id="uuid",
    operating_system="Debian",
    os_version="12",
    backing_filesystem="ext4",
    default_runtime=lambda: "crun",
    runtimes=lambda: {"crun": Path("/crun")},
    features=lambda path: "",
    programs=[Program("crun", "1.8.1")],
    runtime_commit="",
    settings=Settings(),
    containers=lambda: [container()],
    image_count=lambda: 3,
    listeners=lambda: 0,
    tasks=lambda: 1,
    warnings=lambda: ["watch out"],
)


@asynccontextmanager
async def serving(tmp_path: Path, fake: Fake) -> AsyncIterator[ClientSession]:
    service = cast(Any, fake)
    routes = [
        *system.routes(FACTS),
        *containers.routes(service, service, Images(), HOST),
        *execs.routes(service),
        *unsupported.routes(fake.get),
    ]
    path = tmp_path / "api.sock"
    async with (
        asyncio.timeout(10),
        Listener(App(routes), [bind_unix(path, None)], grace=0.1),
        ClientSession("http://d", connector=UnixConnector(str(path))) as client,
    ):
        yield client


async def status_of(client: ClientSession, method: str, path: str) -> int:
    async with client.request(method, path) as answer:
        await answer.read()
        return answer.status


def fake_with(record: Container) -> Fake:
    return Fake({record.name: record, record.id: record})


async def test_create(tmp_path: Path) -> None:
    fake = Fake()
    async with serving(tmp_path, fake) as client:
        answer = await client.post("/v1.45/containers/create?name=a&platform=linux", json={"image": "x", "Cmd": "ls"})
        assert (answer.status, await answer.json()) == (201, {"Id": "new", "Warnings": []})
        (_, name, config, _, _, platform) = fake.calls[0]
        assert (name, config.image, config.cmd, platform) == ("a", "x", ["ls"], "linux")
        answer = await client.post("/containers/create", json={})
        assert answer.status == 400
        assert (await answer.json())["message"] == "config cannot be empty in order to create a container"


async def test_the_default_network_has_a_name(tmp_path: Path) -> None:
    fake = Fake()
    asked = {
        "Image": "x",
        "HostConfig": {"NetworkMode": "default"},
        "NetworkingConfig": {"EndpointsConfig": {"default": {"MacAddress": "m"}}},
    }
    async with serving(tmp_path, fake) as client, client.post("/containers/create", json=asked):
        (_, _, _, host, networking, _) = fake.calls[0]
        assert host.network_mode == "bridge"
        assert networking.endpoints_config == {"bridge": EndpointConfig(mac_address="m")}


async def test_older_clients_mean_something_else_by_silence(tmp_path: Path) -> None:
    fake = Fake()
    async with serving(tmp_path, fake) as client:
        asked = {"Image": "x", "HostConfig": {"ConsoleSize": [1, 2]}}
        async with client.post("/v1.30/containers/create", json=asked) as answer:
            assert answer.status == 201
        host = fake.calls[0][3]
        assert (host.ipc_mode, host.cgroupns_mode, host.console_size) == ("shareable", "", (0, 0))


async def test_verbs_and_their_parameters(tmp_path: Path) -> None:
    fake = Fake()
    async with serving(tmp_path, fake) as client:
        for method, path, status in (
            ("POST", "x/start", 204),
            ("POST", "x/stop?t=5&signal=INT", 204),
            ("POST", "x/restart", 204),
            ("POST", "x/kill?signal=HUP", 204),
            ("POST", "x/pause", 204),
            ("POST", "x/unpause", 204),
            ("POST", "x/rename?name=y", 204),
            ("POST", "x/resize?h=3&w=4", 200),
            ("DELETE", "x?force=1&v=true", 204),
        ):
            assert await status_of(client, method, f"/containers/{path}") == status
        assert fake.calls == [
            ("start", "x"),
            ("stop", "x", 5, "INT"),
            ("restart", "x", None, None),
            ("kill", "x", "HUP"),
            ("pause", "x"),
            ("unpause", "x"),
            ("rename", "x", "y"),
            ("resize", "x", 3, 4),
            ("remove", "x", True, True, False),
        ]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotModified("is running"), 304),
        (Conflict("busy"), 409),
        (NotFound("No such container: x"), 404),
        (StartFailed("not found", 127), 400),
        (StartFailed("broken", 128), 500),
    ],
)
async def test_errors_become_statuses(tmp_path: Path, error: Exception, status: int) -> None:
    fake = Fake(failures={"start": error})
    async with serving(tmp_path, fake) as client:
        answer = await client.post("/containers/x/start")
        assert answer.status == status
        if status != 304:
            assert await answer.json() == {"message": str(error)}


async def test_a_defect_is_answered_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake(failures={"start": ZeroDivisionError("oops")})
    async with serving(tmp_path, fake) as client:
        answer = await client.post("/containers/x/start")
        assert answer.status == 500
        assert "ZeroDivisionError: oops" in (await answer.json())["message"]
    assert "Traceback" in caplog.text


async def test_start_takes_no_body(tmp_path: Path) -> None:
    async with serving(tmp_path, Fake()) as client:
        assert await status_of(client, "POST", "/containers/x/start") == 204
        async with client.post("/containers/x/start", data=b"{}") as answer:
            assert answer.status == 204
        answer = await client.post("/containers/x/start", json={"Binds": []})
        assert answer.status == 400
        assert "non-empty request body was deprecated" in (await answer.json())["message"]


async def test_wait_sends_its_headers_at_once(tmp_path: Path) -> None:
    fake = fake_with(container())
    async with serving(tmp_path, fake) as client:
        async with client.post("/containers/web/wait?condition=next-exit") as answer:
            assert answer.status == 200
            fake.waiting[0].set_result(WaitResult(7))
            assert await answer.json() == {"StatusCode": 7}
        answer = await client.post("/containers/web/wait?condition=later")
        assert (answer.status, await answer.json()) == (400, {"message": 'invalid condition: "later"'})
        assert await status_of(client, "POST", "/containers/ghost/wait") == 404


async def test_nobody_waits_for_a_client_that_left(tmp_path: Path) -> None:
    fake = fake_with(container())
    async with serving(tmp_path, fake) as client:
        async with client.post("/containers/web/wait") as answer:
            answer.close()
        with pytest.raises(asyncio.CancelledError):
            await fake.waiting[0]


async def test_logs(tmp_path: Path) -> None:
    fake = fake_with(container())
    fake.told.put_nowait(LogEntry(2, 1_500_000_000, b"line\n"))
    async with serving(tmp_path, fake) as client:
        url = "/containers/web/logs?stderr=1&follow=1&timestamps=1&tail=3&since=1.5&until=0"
        async with client.get(url) as answer:
            assert answer.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
            expected = b"1970-01-01T00:00:01.500000000Z line\n"
            assert await answer.content.readexactly(8) == b"\x02\0\0\0\0\0\0" + bytes([len(expected)])
            assert await answer.content.readexactly(len(expected)) == expected
        await fake.logs_closed.wait()
        assert fake.calls == [
            ("logs", LogOptions(stdout=False, stderr=True, follow=True, tail=3, since_ns=1_500_000_000, until_ns=None))
        ]
        for query, status in (("", 400), ("?stdout=1&since=x", 500)):
            assert await status_of(client, "GET", f"/containers/web/logs{query}") == status


async def test_list_and_inspect(tmp_path: Path) -> None:
    fake = Fake({"web": container()})
    async with serving(tmp_path, fake) as client:
        (entry,) = await (await client.get("/containers/json")).json()
        assert (entry["Names"], entry["Image"], "SizeRw" in entry) == (["/web"], "busybox", False)
        (entry,) = await (await client.get("/containers/json?size=1&all=1")).json()
        assert (entry["SizeRw"], entry["SizeRootFs"]) == (5, 1000)
        assert await (await client.get('/containers/json?filters={"status":["exited"]}')).json() == []
        value = await (await client.get("/containers/web/json?size=1")).json()
        assert (value["Name"], value["SizeRw"]) == ("/web", 5)
        assert await status_of(client, "GET", "/containers/json?limit=x") == 500


async def test_what_is_not_done_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, fake_with(container())) as client:
        answer = await client.get("/containers/web/checkpoints")
        assert answer.status == 501
        assert "checkpoints is not supported" in (await answer.json())["message"]
        assert await status_of(client, "GET", "/containers/ghost/checkpoints") == 404
        assert await status_of(client, "GET", "/swarm") == 503
        assert await (await client.get("/plugins")).json() == []


async def test_system(tmp_path: Path) -> None:
    async with serving(tmp_path, Fake()) as client:
        for method in ("GET", "HEAD"):
            answer = await client.request(method, "/_ping")
            await answer.read()
            assert answer.status == 200
            assert answer.headers["Api-Version"] == "1.45"
            assert answer.headers["Ostype"] == "linux"
            assert answer.headers["Server"] == "Wherry/0.1.0 (linux)"
        version = await (await client.get("/version")).json()
        assert (version["ApiVersion"], version["MinAPIVersion"]) == ("1.45", "1.24")
        info = await (await client.get("/info")).json()
        assert (info["ContainersRunning"], info["Images"], info["CgroupVersion"]) == (1, 3, "2")
        assert info["Warnings"] == ["watch out"]


async def test_stopping_ends_what_follows(tmp_path: Path) -> None:
    fake = fake_with(container())
    async with serving(tmp_path, fake) as client:
        following = await client.get("/containers/web/logs?stdout=1&follow=1")
    following.close()
    await fake.logs_closed.wait()
