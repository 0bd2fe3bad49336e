"""Health checks go on under the next daemon, and a probe of the former one does not stay."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.crash.conftest import Box
from tests.support import inventory
from tests.support.engine import IDLE, eventually

MS = 10**6


def test_results_are_kept_and_probing_goes_on(box: Box) -> None:
    check = {"Test": ["CMD-SHELL", "true"], "Interval": 100 * MS}
    container = box.engine.run(IDLE, Healthcheck=check)
    eventually(lambda: box.engine.state(container)["Health"]["Status"] == "healthy")
    box.daemon.kill()
    box.daemon.start()
    after = box.engine.state(container)["Health"]
    assert after["Status"] == "healthy"
    assert after["Log"]
    newest = after["Log"][-1]["Start"]
    eventually(lambda: box.engine.state(container)["Health"]["Log"][-1]["Start"] > newest)


def test_a_hanging_probe_is_ended_by_the_next_daemon(box: Box) -> None:
    check = {"Test": ["CMD-SHELL", "sleep 4321"], "Interval": 100 * MS}
    container = box.engine.run(IDLE, Healthcheck=check)
    eventually(lambda: box.engine.inspect(container)["ExecIDs"])

    def probes() -> set[str]:
        return {entry for entry in inventory.take(box.daemon).processes if "4321" in entry}

    before = eventually(probes)
    box.daemon.kill()
    box.daemon.start()
    eventually(lambda: not before & probes(), what="the end of the old probe")


def held(pid: int) -> list[str]:
    """What the daemon holds of containers and probes: pidfds, FIFOs, sockets, and the children it has."""
    kept = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            kept.append(os.readlink(link).split("[", maxsplit=1)[0].split(":")[0])
    children = (Path(f"/proc/{pid}/task") / str(pid) / "children").read_text().split()
    return sorted([name for name in kept if name in ("pipe", "socket", "anon_inode")] + ["child"] * len(children))


def running(box: Box) -> int:
    """The daemon's asyncio tasks, which it tells where Docker tells goroutines."""
    return int(box.engine.http.get("/info").json()["NGoroutines"])


def test_fifty_of_them_leave_nothing(box: Box) -> None:
    """Containers with checks that are seen healthy, go on under the next daemon, and are removed while being probed."""
    box.crash()
    before, tasks = held(box.daemon.pid), running(box)
    check = {"Test": ["CMD-SHELL", "sleep 0.05"], "Interval": 200 * MS}

    def healthy() -> bool:
        listed = box.engine.http.get("/containers/json", filters={"health": ["healthy"]}).json()
        return len(listed) == 50

    with ThreadPoolExecutor(4) as threads:
        containers = list(threads.map(lambda _: box.engine.run(IDLE, Healthcheck=check), range(50)))
        eventually(healthy, seconds=60.0, what="health of all")
        box.crash()
        newest = {container: box.engine.state(container)["Health"]["Log"][-1]["Start"] for container in containers}
        for container, start in newest.items():
            eventually(
                lambda container=container, start=start: (
                    box.engine.state(container)["Health"]["Log"][-1]["Start"] > start
                ),
                seconds=60.0,
                what="another probe",
            )
        list(threads.map(box.engine.remove, containers))
    box.assert_nothing_left()
    eventually(lambda: len(held(box.daemon.pid)) <= len(before), what="the end of what the daemon holds")
    eventually(lambda: running(box) <= tasks, what="the end of the daemon's tasks")
