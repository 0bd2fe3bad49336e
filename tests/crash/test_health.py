"""Health checks go on under the next daemon, and a probe of the former one does not stay."""

from __future__ import annotations

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
