"""Removal and prune, with their volumes."""

from __future__ import annotations

from tests.support.engine import Engine, eventually
from tests.support.immutable import immutable, written


def volume_of(engine: Engine, container: str, destination: str) -> str:
    name = next(m["Name"] for m in engine.inspect(container)["Mounts"] if m["Destination"] == destination)
    assert isinstance(name, str)
    return name


def test_refused_while_running(engine: Engine) -> None:
    container = engine.idle(name="wt-r")
    answer = engine.http.delete(f"/containers/{container}")
    assert (answer.status, answer.message) == (
        409,
        'cannot remove container "/wt-r": container is running: stop the container before removing or force remove',
    )
    engine.http.post(f"/containers/{container}/pause")
    answer = engine.http.delete("/containers/wt-r")
    assert (answer.status, answer.message) == (
        409,
        'cannot remove container "/wt-r": container is paused and must be unpaused first',
    )
    assert engine.http.delete(f"/containers/{container}", force=1).status == 204


def test_volumes(engine: Engine) -> None:
    for with_volumes in (False, True):
        container = engine.create(["true"], Volumes={"/anonymous": {}}, host={"Binds": ["wt-named:/named"]})
        anonymous = volume_of(engine, container, "/anonymous")
        assert engine.http.delete(f"/containers/{container}", v=with_volumes).status == 204
        assert engine.http.get(f"/volumes/{anonymous}").status == (404 if with_volumes else 200)
        assert engine.http.get("/volumes/wt-named").status == 200
        engine.http.delete(f"/volumes/{anonymous}")


def test_a_shared_anonymous_volume_stays_while_used(engine: Engine) -> None:
    first = engine.create(["true"], Volumes={"/data": {}})
    volume = volume_of(engine, first, "/data")
    second = engine.create(["true"], host={"VolumesFrom": [first]})
    assert volume_of(engine, second, "/data") == volume
    assert engine.http.delete(f"/containers/{first}", v=1).status == 204
    assert engine.http.get(f"/volumes/{volume}").status == 200
    engine.http.delete(f"/containers/{second}", v=1)
    engine.http.delete(f"/volumes/{volume}")


def test_twice(engine: Engine) -> None:
    container = engine.create(["true"])
    assert engine.http.delete(f"/containers/{container}").status == 204
    answer = engine.http.delete(f"/containers/{container}", force=1)
    assert (answer.status, answer.message) == (404, f"No such container: {container}")


def test_at_once(engine: Engine) -> None:
    from concurrent.futures import ThreadPoolExecutor

    container = engine.idle()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: engine.http.delete(f"/containers/{container}", force=1).status, range(4)))
    assert 204 in answers
    assert set(answers) <= {204, 404, 409}
    eventually(lambda: engine.http.get(f"/containers/{container}/json").status == 404)


def test_prune(engine: Engine) -> None:
    label = {"wt-prune": "yes"}
    running = engine.idle(Labels=label)
    created = engine.create(["true"], Labels=label)
    exited = engine.run(["sh", "-c", "head -c 100000 /dev/zero >/filled"], Labels=label)
    other = engine.create(["true"], Labels={"wt-prune": "no"})
    engine.wait(exited)
    eventually(lambda: engine.state(exited)["Status"] == "exited")
    answer = engine.http.post("/containers/prune", filters={"label": ["wt-prune=yes"]})
    assert answer.status == 200
    pruned = answer.json()
    assert set(pruned["ContainersDeleted"]) == {created, exited}
    assert pruned["SpaceReclaimed"] >= 100_000
    assert engine.state(running)["Running"]
    assert engine.inspect(other)
    answer = engine.http.post("/containers/prune", filters={"label": ["wt-prune=yes"]})
    assert (answer.json()["ContainersDeleted"], answer.json()["SpaceReclaimed"]) == (None, 0)
    assert (
        engine.http.post(
            "/containers/prune", filters={"until": ["2000-01-01T00:00:00"], "label": ["wt-prune=no"]}
        ).json()["ContainersDeleted"]
        is None
    )
    assert engine.inspect(other)


def test_prune_refused(engine: Engine) -> None:
    answer = engine.http.post("/containers/prune", filters={"nope": ["x"]})
    assert (answer.status, answer.message) == (400, "invalid filter 'nope'")


def test_volume_in_use(engine: Engine) -> None:
    container = engine.create(["true"], host={"Binds": ["wt-used:/v"]})
    for force in (0, 1):
        answer = engine.http.delete("/volumes/wt-used", force=force)
        assert (answer.status, answer.message) == (409, f"remove wt-used: volume is in use - [{container}]")
    engine.remove(container)
    assert engine.http.delete("/volumes/wt-used").status == 204


def test_volume_prune(engine: Engine) -> None:
    engine.http.post("/volumes/create", {"Name": "wt-pr1", "Labels": {"wt-prune": "1"}})
    engine.http.post("/volumes/create", {"Name": "wt-pr2", "Labels": {"wt-prune": "1"}})
    container = engine.create(["true"], host={"Binds": ["wt-pr1:/v"]})
    answer = engine.http.post("/volumes/prune", filters={"label": ["wt-prune"], "all": ["true"]})
    assert answer.json()["VolumesDeleted"] == ["wt-pr2"]
    assert engine.http.get("/volumes/wt-pr1").status == 200
    assert container


def names_of_dead(engine: Engine) -> list[str]:
    """By inspecting each: Docker's list does not tell at once."""
    listed = engine.http.get("/containers/json", all=1).json()
    found = [engine.http.get(f"/containers/{one['Id']}/json") for one in listed]
    return [one.json()["Name"][1:] for one in found if one.status == 200 and one.json()["State"]["Dead"]]


def test_what_cannot_be_deleted_is_dead_until_it_can(engine: Engine) -> None:
    container = engine.idle(name="wt-dead")
    engine.exec(container, ["touch", "/f"])
    file = written(engine, container, "f")
    assert engine.http.post(f"/containers/{container}/kill").status == 204
    engine.wait(container)
    with immutable(file):
        first = engine.http.delete("/containers/wt-dead")
        assert first.status == (204 if engine.name == "wherry" else 500)  # ours has answered before it finds out
        eventually(lambda: "wt-dead" in names_of_dead(engine))
        again = engine.http.delete("/containers/wt-dead", force=1)
        assert again.status == 500
        what = f'container {container}: driver "overlay2" failed to remove root filesystem: unlinkat '
        assert again.message.startswith(what)
        assert again.message.endswith("/f: operation not permitted")
        state = engine.state(container)
        assert (state["Dead"], state["Running"], state["Error"]) == (True, False, again.message)
        started = engine.http.post("/containers/wt-dead/start")
        assert (started.status, started.message) == (409, "container is marked for removal and cannot be started")
        taken = engine.try_create(["true"], name="wt-dead")
        assert taken.status == 409
    assert engine.http.delete("/containers/wt-dead").status == 204
    assert engine.http.get(f"/containers/{container}/json").status == 404
