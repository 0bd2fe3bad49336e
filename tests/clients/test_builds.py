"""Builds by the libraries that people use, on both engines."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import aiodocker
import docker
import pytest
from docker.errors import APIError, BuildError, ImageNotFound

from tests.support.engine import BASE, Engine

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NAME = "wherry-test-library:built"
STAGES = f"""\
FROM {BASE} AS first
ARG WHO=nobody
RUN echo $WHO >/who
FROM first
COPY file /file
RUN cat /who /file; grep -c 1.2.3.4 /etc/hosts; df -m /dev/shm | tail -1 | awk '{{print $2}}'
"""


@pytest.fixture
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=f"unix://{engine.http.path}", version="auto", timeout=60)
    yield client
    try:
        client.images.remove(NAME, force=True)
    except ImageNotFound:
        pass
    client.close()


def context(folder: Path, dockerfile: str = STAGES) -> Path:
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "file").write_text("content\n")
    (folder / "left-out").write_text("x")
    (folder / ".dockerignore").write_text("left-out\n")
    return folder


def packed(dockerfile: str) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, text in (("Dockerfile", dockerfile), ("file", "content\n")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    stream.seek(0)
    return stream


def test_a_directory_with_every_option(client: docker.DockerClient, tmp_path: Path) -> None:
    image, log = client.images.build(
        path=str(context(tmp_path)), tag=NAME, buildargs={"WHO": "me"}, labels={"a": "b"}, nocache=True, rm=True,
        forcerm=True, pull=False, extra_hosts={"one": "1.2.3.4"}, shmsize=32 << 20, cache_from=[BASE],
        platform="linux/amd64", network_mode="none", container_limits={"memory": 64 << 20, "cpushares": 512},
    )  # fmt: skip
    said = "".join(entry.get("stream", "") for entry in log)
    assert "me\ncontent\n1\n32\n" in said
    assert image.tags == [NAME] and image.labels["a"] == "b"


def test_a_target(client: docker.DockerClient, tmp_path: Path) -> None:
    image, _ = client.images.build(path=str(context(tmp_path)), tag=NAME, target="first", rm=True)
    assert [entry["CreatedBy"] for entry in image.history() if "COPY" in entry["CreatedBy"]] == []
    assert client.containers.run(NAME, ["cat", "/who"], remove=True) == b"nobody\n"


def test_a_dockerfile_outside_of_the_context(client: docker.DockerClient, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    context(tmp_path / "context", "FROM nothing-of-this\n")
    other = tmp_path / "Other"
    other.write_text(f"FROM {BASE}\nCOPY . /all\n")
    client.images.build(path=str(tmp_path / "context"), dockerfile=str(other), tag=NAME, rm=True)
    assert client.containers.run(NAME, ["ls", "/all"], remove=True).split()[-1] == b"file"


def test_a_dockerfile_alone(client: docker.DockerClient) -> None:
    image, _ = client.images.build(fileobj=io.BytesIO(f"FROM {BASE}\nENV A=b\n".encode()), tag=NAME, rm=True)
    assert "A=b" in image.attrs["Config"]["Env"]


def test_a_context_of_ones_own(client: docker.DockerClient) -> None:
    client.images.build(fileobj=packed(STAGES), custom_context=True, tag=NAME, rm=True, extra_hosts={"x": "1.2.3.4"})
    assert client.containers.run(NAME, ["cat", "/file"], remove=True) == b"content\n"


def test_a_step_that_fails(client: docker.DockerClient) -> None:
    with pytest.raises(BuildError, match="returned a non-zero code: 7") as failed:
        client.images.build(fileobj=io.BytesIO(f"FROM {BASE}\nRUN echo before; exit 7\n".encode()), rm=True)
    assert "before\n" in "".join(entry.get("stream", "") for entry in failed.value.build_log)


def test_what_cannot_be_read_is_refused_before_the_log(client: docker.DockerClient) -> None:
    with pytest.raises(APIError, match="unknown instruction: RUNN") as refused:
        client.images.build(fileobj=io.BytesIO(f"FROM {BASE}\nRUNN x\n".encode()), rm=True)
    assert refused.value.status_code == 400


async def test_aiodocker(engine: Engine) -> None:
    async with aiodocker.Docker(url=f"unix://{engine.http.path}") as client:
        log = await client.images.build(
            fileobj=packed(f"FROM {BASE}\nARG A\nRUN echo got $A\nCOPY file /\n"),
            encoding="identity",
            tag=NAME,
            buildargs={"A": "this"},
            nocache=True,
        )
        assert "got this\n" in [entry.get("stream") for entry in log]
        await client.images.delete(NAME, force=True)
