"""What is made ready at creation is used by the start, or undone: in time, at removal, by the next daemon."""

from __future__ import annotations

from tests.crash.conftest import Box
from tests.support import inventory
from tests.support.engine import IDLE, eventually


def waiting(box: Box, container: str) -> list[str]:
    """Processes that wait for the container's start."""
    return [line for line in inventory.take(box.daemon).processes if container in line]


def test_a_container_that_is_not_started_in_time_starts_later(box: Box) -> None:
    container = box.engine.create(IDLE)
    assert eventually(lambda: waiting(box, container))
    eventually(lambda: not waiting(box, container))
    box.engine.start(container)
    assert box.engine.state(container)["Running"]


def test_a_removed_one_leaves_nothing_that_waits(box: Box) -> None:
    container = box.engine.create(IDLE)
    assert box.engine.http.delete(f"/containers/{container}").status == 204
    box.assert_nothing_left()


def test_what_was_made_ready_for_another_configuration_is_not_used(box: Box) -> None:
    container = box.engine.create(IDLE)
    limit = 64 << 20
    assert box.engine.http.post(f"/containers/{container}/update", {"Memory": limit, "MemorySwap": limit}).status == 200
    box.engine.start(container)
    _, shown, _ = box.engine.exec(container, "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes")
    assert str(limit) in shown


def test_killed_while_it_waits(box: Box) -> None:
    container = box.engine.create(IDLE)
    assert eventually(lambda: waiting(box, container))
    box.crash()
    assert waiting(box, container) == []
    box.engine.start(container)
    assert box.engine.state(container)["Running"]


def test_a_daemon_that_leaves_takes_it_along(box: Box) -> None:
    container = box.engine.create(IDLE)
    assert eventually(lambda: waiting(box, container))
    box.daemon.stop()
    assert waiting(box, container) == []
