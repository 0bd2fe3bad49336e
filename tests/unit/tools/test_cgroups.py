"""Which cgroup mounts are made on which machine."""

from tools.cgroups import Facts, Mount, parse_hierarchies, parse_mounts, plan

HYBRID = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:27 / /sys rw,relatime - sysfs sysfs rw
31 30 0:28 / /sys/fs/cgroup rw,relatime shared:5 - tmpfs tmpfs rw,mode=755
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""

CGROUPS = """\
#subsys_name\thierarchy\tnum_cgroups\tenabled
cpu\t1\t1\t1
memory\t4\t18\t1
hugetlb\t0\t1\t1
debug\t0\t1\t0
"""


def facts(mounts: dict[str, str], hierarchies: dict[str, int], unified: set[str] = frozenset()) -> Facts:  # type: ignore
    return Facts({point: (type, frozenset()) for point, type in mounts.items()}, hierarchies, frozenset(unified))


def test_parsing_what_the_kernel_says() -> None:
    assert parse_mounts(HYBRID) == {
        "/sys/fs/cgroup": ("tmpfs", frozenset({"rw", "mode=755"})),
        "/sys/fs/cgroup/cpu,cpuacct": ("cgroup", frozenset({"rw", "cpu", "cpuacct"})),
        "/sys/fs/cgroup/unified": ("cgroup2", frozenset({"rw"})),
    }
    assert parse_hierarchies(CGROUPS) == {"cpu": 1, "memory": 4, "hugetlb": 0}


def test_a_unified_machine_is_left_alone() -> None:
    assert plan(facts({"/sys/fs/cgroup": "cgroup2"}, {"cpu": 0, "memory": 0}, {"cpu", "memory"})) == []


def test_a_settled_hybrid_machine_is_left_alone() -> None:
    mounts = {"/sys/fs/cgroup": "tmpfs", "/sys/fs/cgroup/cpu": "cgroup", "/sys/fs/cgroup/unified": "cgroup2"}
    assert plan(facts(mounts, {"cpu": 1})) == []


def test_a_controller_left_in_the_unified_hierarchy_gets_its_own() -> None:
    mounts = {"/sys/fs/cgroup": "tmpfs", "/sys/fs/cgroup/cpu": "cgroup", "/sys/fs/cgroup/unified": "cgroup2"}
    left = facts(mounts, {"cpu": 1, "hugetlb": 0}, {"hugetlb", "misc"})  # misc exists in v2 alone
    assert plan(left) == [Mount("cgroup", "/sys/fs/cgroup/hugetlb", "hugetlb")]


def test_a_machine_without_any_mount_becomes_unified() -> None:
    assert plan(facts({}, {"cpu": 0, "memory": 0})) == [Mount("cgroup2", "/sys/fs/cgroup")]


def test_where_controllers_are_bound_already_the_same_ones_are_mounted() -> None:
    assert plan(facts({}, {"cpu": 3, "memory": 4})) == [
        Mount("tmpfs", "/sys/fs/cgroup", "mode=755"),
        Mount("cgroup", "/sys/fs/cgroup/cpu", "cpu"),
        Mount("cgroup", "/sys/fs/cgroup/memory", "memory"),
    ]
