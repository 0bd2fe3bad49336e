"""`--mount type=image`: an image's files, read-only. Newer than the API version that both engines speak."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from tests.support.engine import BASE, IDLE, Engine


@pytest.fixture
def ours(engine: Engine) -> Engine:
    if engine.name == "docker":
        answer = engine.try_create(["true"], host=mounting())
        assert (answer.status, answer.message) == (400, 'invalid mount config for type "image": mount type unknown')
        pytest.xfail("Docker Engine 26.1 has no image mounts")
    return engine


def mounting(source: str = BASE, **options: Any) -> dict[str, Any]:
    return {"Mounts": [{"Type": "image", "Source": source, "Target": "/img", **options}]}


def test_the_whole_image(ours: Engine) -> None:
    out = ours.output("cat /img/etc/passwd | head -1; touch /img/x 2>&1 || true; ls -A /img/etc", host=mounting())
    lines = out.splitlines()
    assert lines[0].startswith("root:x:0:0")
    assert lines[1].endswith("Read-only file system")
    assert "resolv.conf" not in lines[2:]


def test_a_part(ours: Engine) -> None:
    host = mounting(ImageOptions={"Subpath": "etc"})
    assert ours.output("head -1 /img/passwd", host=host).startswith("root:")
    host = mounting(ImageOptions={"Subpath": "etc/passwd"})
    assert ours.output("head -1 /img; echo x > /img || echo no", host=host).splitlines()[-1] == "no"


def test_inspect(ours: Engine) -> None:
    container = ours.create(IDLE, host=mounting(ImageOptions={"Subpath": "etc"}))
    found = ours.inspect(container)
    mount = found["Mounts"][0]
    assert (mount["Type"], mount["Source"], mount["Destination"], mount["RW"]) == ("image", BASE, "/img", False)
    assert found["HostConfig"]["Mounts"][0]["ImageOptions"] == {"Subpath": "etc"}


def test_copying_from_it(ours: Engine) -> None:
    container = ours.idle(host=mounting())
    answer = ours.http.get(f"/containers/{container}/archive", path="/img/etc/passwd")
    assert answer.status == 200
    assert b"root:x:0:0" in answer.body


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (mounting("wt-nobody"), 'invalid mount config for type "image": No such image: wt-nobody:latest'),
        (mounting(""), 'invalid mount config for type "image": field Source must not be empty'),
        (
            mounting(ImageOptions={"Subpath": "../x"}),
            'invalid mount config for type "image": subpath must be a relative path within the image',
        ),
        (mounting(BindOptions={}), 'BindOptions must not be specified on mount type "image"'),
    ],
)
def test_refused(ours: Engine, host: dict[str, Any], message: str) -> None:
    answer = ours.try_create(["true"], host=host)
    assert (answer.status, answer.message) == (400, message)


def test_a_part_that_is_not_there(ours: Engine) -> None:
    answer = ours.failed_start(["true"], host=mounting(ImageOptions={"Subpath": "wt-no"}))
    assert answer.status == 404
    assert "wt-no: no such file or directory" in answer.message


def test_the_image_stays_as_long_as_it_is_mounted(ours: Engine) -> None:
    ours.import_image(_tar(), "wt-mounted")
    container = ours.create("cat /img/hello".split(), host=mounting("wt-mounted"))
    image = ours.http.get("/images/wt-mounted/json").json()["Id"]
    refused = ours.http.delete(f"/images/{image}")
    assert refused.status == 409
    assert ours.http.delete("/images/wt-mounted", force=1).status == 200
    ours.start(container)
    assert ours.wait(container) == 0
    assert ours.logs(container)[0] == b"hello\n"


def _tar() -> bytes:

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo("hello")
        member.size = 6
        tar.addfile(member, io.BytesIO(b"hello\n"))
    return stream.getvalue()
