"""`update`: limits and restart policy of containers, changed in place."""

from __future__ import annotations

from wherry.cli.batch import each
from wherry.cli.creation import BadOption, restart_policy
from wherry.cli.errors import Failure
from wherry.cli.paths import container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context

KEYS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "pids-limit": "PidsLimit",
}


def run(context: Context) -> int:
    given = context.flags.given()
    if not given:
        raise Failure("you must provide one or more flags when using this command")
    body: dict[str, Any] = {KEYS[name]: value for name, value in given.items() if name in KEYS}
    if given.get("restart"):
        try:
            body["RestartPolicy"] = restart_policy(given["restart"])
        except BadOption as error:
            raise Failure(str(error)) from None
    warnings: list[str] = []

    def one(name: str) -> None:
        answer = context.engine.post(container(name, "update"), json=body)
        warnings.extend(answer.get("Warnings") or ())

    try:
        return each(context, one)
    finally:
        if warnings:
            print("\n".join(warnings))
