"""Reading what the kernel tells of the host."""

from dataclasses import replace
from pathlib import Path

import pytest

from wherry.linux import host as probing
from wherry.linux.host import CgroupMounts
from wherry.model.host import Binaries, CgroupLayout, Host, Roots

HYBRID = """\
25 24 0:22 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
29 25 0:26 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
UNIFIED = "25 24 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

HOST = Host(
    roots=Roots(Path("/d"), Path("/r")),
    binaries=Binaries(Path("/conmon"), Path("/crun"), Path("/runc"), Path("/tini")),
    cgroups=CgroupLayout.HYBRID,
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
NOTHING = replace(
    HOST,
    binaries=Binaries(None, None, None, None),
    controllers=frozenset(),
    nftables=False,
    ipv6=False,
    seccomp=False,
)


def test_cgroup_layouts() -> None:
    hybrid = probing.cgroup_mounts(HYBRID)
    cpu = "/sys/fs/cgroup/cpu,cpuacct"
    assert hybrid == CgroupMounts(
        {"cpu": cpu, "cpuacct": cpu, "memory": "/sys/fs/cgroup/memory"}, "/sys/fs/cgroup/unified"
    )
    assert probing.cgroup_layout(hybrid) is CgroupLayout.HYBRID
    assert probing.cgroup_layout(probing.cgroup_mounts(UNIFIED)) is CgroupLayout.V2
    assert probing.cgroup_layout(CgroupMounts({"cpu": cpu}, None)) is CgroupLayout.V1


def test_a_controller_left_in_the_unified_hierarchy() -> None:
    assert probing.left_in_unified(CgroupLayout.HYBRID, ["hugetlb"]) == ["hugetlb"]
    assert probing.left_in_unified(CgroupLayout.V2, ["cpu", "memory"]) == []
    (complaint,) = probing.complaints(HOST, ["hugetlb"], rcu_normal=False)
    assert "hugetlb" in complaint
    assert "runc is used" in complaint
    assert probing.default_runtime(replace(HOST, warnings=(complaint,))) == "runc"
    assert probing.default_runtime(HOST) == "crun"


@pytest.mark.parametrize(
    "word", ["conmon", "crun", "init", "nftables", "IPv6", "seccomp", "cpu", "memory", "pids", "rcu_normal"]
)
def test_whatever_is_missing_is_said_in_one_sentence(word: str) -> None:
    said = list(probing.complaints(NOTHING, [], rcu_normal=True))
    assert any(word in sentence for sentence in said)
    assert list(probing.complaints(HOST, [], rcu_normal=False)) == []


def test_small_readings() -> None:
    assert probing.kernel_version("6.18.44-fc-v669") == (6, 18)
    assert probing.memory_total("MemTotal:       24684084 kB\nMemFree: 1 kB\n") == 24684084 * 1024
    assert probing.capability_names("CapBnd:\t0000000000000401\n") == {"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}
    assert probing.program_version(Path("/nonexistent")) == ((), "")
    assert probing.find("sh") is not None
