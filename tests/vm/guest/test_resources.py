"""stats and update with cgroup v2."""

from tests.support.engine import IDLE, Engine
from tests.vm.guest.test_containers import MEBIBYTE, cgroup


def test_stats_have_the_keys_of_v2(engine: Engine) -> None:
    container = engine.run(IDLE, host={"Memory": 64 * MEBIBYTE, "PidsLimit": 20, "NanoCpus": 500_000_000})
    read = engine.http.get(f"/containers/{container}/stats", stream=0).json()
    assert read["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert "percpu_usage" not in read["cpu_stats"]["cpu_usage"]
    assert read["cpu_stats"]["system_cpu_usage"] > read["precpu_stats"]["system_cpu_usage"]
    assert read["cpu_stats"]["throttling_data"]["periods"] > 0
    assert read["memory_stats"]["limit"] == 64 * MEBIBYTE
    assert 0 < read["memory_stats"]["usage"] < 64 * MEBIBYTE
    assert read["memory_stats"]["stats"]["anon"] > 0
    assert "max_usage" not in read["memory_stats"]
    assert read["pids_stats"]["limit"] == 20
    assert read["blkio_stats"]["io_serviced_recursive"] is None
    assert sorted(read["networks"]) == ["eth0"]


def test_without_limits_the_machine_is_the_limit(engine: Engine) -> None:
    container = engine.run(IDLE)
    read = engine.http.get(f"/containers/{container}/stats", **{"stream": 0, "one-shot": 1}).json()
    assert read["memory_stats"]["limit"] == engine.http.get("/info").json()["MemTotal"]
    assert read["pids_stats"]["limit"] == 2**64 - 1


def test_limits_change_live(engine: Engine) -> None:
    container = engine.run(IDLE, host={"Memory": 64 * MEBIBYTE})
    given = {
        "Memory": 96 * MEBIBYTE,
        "MemorySwap": 128 * MEBIBYTE,
        "MemoryReservation": 16 * MEBIBYTE,
        "NanoCpus": 250_000_000,
        "CpuShares": 512,
        "PidsLimit": 12,
    }
    answer = engine.http.post(f"/containers/{container}/update", given)
    assert (answer.status, answer.json()) == (200, {"Warnings": None})
    folder = cgroup(engine, container)
    names = ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "pids.max")
    assert {name: (folder / name).read_text().strip() for name in names} == {
        "memory.max": str(96 * MEBIBYTE),
        "memory.swap.max": str(32 * MEBIBYTE),
        "memory.low": str(16 * MEBIBYTE),
        "cpu.max": "25000 100000",
        "cpu.weight": "20",
        "pids.max": "12",
    }
    refused = engine.http.post(f"/containers/{container}/update", {"PidsLimit": 5, "CpuShares": 1})
    assert refused.status == 500
    assert (folder / "pids.max").read_text() == "12\n"
