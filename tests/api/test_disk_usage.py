"""GET /system/df: what images, containers and volumes take of the disk."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine import BASE, Engine

MEGABYTE = 1 << 20


def df(engine: Engine, **query: Any) -> dict[str, Any]:
    answer = engine.http.get("/system/df", **query)
    assert answer.status == 200, answer.body
    found = answer.json()
    assert isinstance(found, dict)
    return found


def test_everything(engine: Engine) -> None:
    script = (
        "dd if=/dev/zero of=/f bs=65536 count=16 2>/dev/null; dd if=/dev/zero of=/v/f bs=65536 count=32 2>/dev/null"
    )
    container = engine.run(["sh", "-c", script], name="wt-df", host={"Binds": ["wt-dfv:/v"]})
    assert engine.wait(container) == 0
    usage = df(engine)
    assert sorted(usage) == ["BuildCache", "Containers", "Images", "LayersSize", "Volumes"]
    (image,) = [item for item in usage["Images"] if BASE in (item["RepoTags"] or [])]
    assert image["Containers"] == 1
    assert image["RepoDigests"] is None  # where the list of images has []
    assert 0 <= image["SharedSize"] <= image["Size"] <= usage["LayersSize"]
    (shown,) = [item for item in usage["Containers"] if item["Id"] == container]
    assert (shown["SizeRw"], shown["Image"]) == (MEGABYTE, BASE)
    assert shown["SizeRootFs"] > MEGABYTE
    (volume,) = [item for item in usage["Volumes"] if item["Name"] == "wt-dfv"]
    assert volume["UsageData"]["RefCount"] == 1
    assert 2 * MEGABYTE <= volume["UsageData"]["Size"] <= 2 * MEGABYTE + 4096


def test_nothing_written(engine: Engine) -> None:
    container = engine.run(["true"])
    engine.wait(container)
    assert engine.http.post("/volumes/create", {"Name": "wt-dfe"}).status == 201
    usage = df(engine)
    (shown,) = [item for item in usage["Containers"] if item["Id"] == container]
    assert "SizeRw" not in shown
    (volume,) = [item for item in usage["Volumes"] if item["Name"] == "wt-dfe"]
    assert volume["UsageData"] == {"RefCount": 0, "Size": 0}


@pytest.mark.parametrize(
    ("kinds", "filled"),
    [
        (["container"], {"Containers"}),
        (["image"], {"Images"}),
        (["volume"], {"Volumes"}),
        (["build-cache"], {"BuildCache"}),
        (["volume", "container"], {"Volumes", "Containers"}),
    ],
)
def test_kinds(engine: Engine, kinds: list[str], filled: set[str]) -> None:
    usage = df(engine, type=kinds)
    assert {key for key, value in usage.items() if key != "LayersSize" and value is not None} == filled
    assert (usage["LayersSize"] > 0) == ("image" in kinds)


def test_unknown_kind(engine: Engine) -> None:
    answer = engine.http.get("/system/df", type="nonsense")
    assert (answer.status, answer.message) == (400, "unknown object type: nonsense")


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ('{"nonsense":["1"]}', "failed to prune build cache: invalid filter 'nonsense'"),
        (
            '{"until":["x"]}',
            "failed to prune build cache: \"until\" filter expects a duration (e.g., '24h') or a timestamp: "
            'failed to parse value as time or duration: "x"',
        ),
    ],
)
def test_prune_of_the_build_cache_refused(engine: Engine, filters: str, message: str) -> None:
    answer = engine.http.post("/build/prune", filters=filters)
    assert answer.message == message
    assert answer.status >= 400


def test_prune_of_the_build_cache(engine: Engine) -> None:
    answer = engine.http.post("/build/prune", filters='{"id":["nonesuch"],"until":["1h"]}')
    assert (answer.status, answer.json()) == (200, {"CachesDeleted": None, "SpaceReclaimed": 0})
    answer = engine.http.post("/build/prune", **{"keep-storage": "x"})
    assert (answer.status, answer.message) == (
        400,
        'keep-storage is in bytes and expects an integer, got x: strconv.Atoi: parsing "x": invalid syntax',
    )


def test_reclaimed_space_is_true(engine: Engine) -> None:
    script = "dd if=/dev/zero of=/f bs=65536 count=16 2>/dev/null"
    container = engine.run(["sh", "-c", script], Labels={"wt-df-prune": "1"})
    engine.wait(container)
    answer = engine.http.post("/containers/prune", filters='{"label":["wt-df-prune"]}')
    assert answer.json() == {"ContainersDeleted": [container], "SpaceReclaimed": MEGABYTE}
    engine.http.post("/volumes/create", {"Name": "wt-dfp", "Labels": {"wt-df-prune": "1"}})
    script = "dd if=/dev/zero of=/v/f bs=65536 count=16 2>/dev/null"
    assert engine.result(script, host={"Binds": ["wt-dfp:/v"], "AutoRemove": False})[0] == 0
    engine.tidy_containers()
    answer = engine.http.post("/volumes/prune", filters='{"label":["wt-df-prune"],"all":["1"]}')
    assert answer.json()["VolumesDeleted"] == ["wt-dfp"]
    assert MEGABYTE <= answer.json()["SpaceReclaimed"] <= MEGABYTE + 4096
