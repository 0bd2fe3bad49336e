"""What a container made from our spec sees, run by crun on a busybox root: the spec meets the kernel."""

import contextlib
import os
import shutil
import stat
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wherry.engine.bundles import Bundles
from wherry.engine.containers.layout import Layout
from wherry.errors import InvalidParameter, NotFound, SystemFailure
from wherry.linux.host import probe
from wherry.linux.seccomp import Profiles
from wherry.model import mounts
from wherry.model.capabilities import NUMBERS
from wherry.model.config import (
    Config,
    DeviceMapping,
    HostConfig,
    Mount,
    NetworkingConfig,
    TmpfsOptions,
    Ulimit,
)
from wherry.model.container import Container, Sandbox
from wherry.model.host import CgroupLayout, Host, Roots
from wherry.model.merge import command
from wherry.model.validate import adapt, validate

PASSWD = "root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n"
GROUP = "root:x:0:\nu:x:1000:\nextra:x:2000:u\nnogroup:x:65534:\n"


class Engine:
    """Just enough of one to run a container to its end; everything it makes is below one directory, or crun's."""

    def __init__(self, directory: Path) -> None:
        self.host: Host = probe(Roots(directory / "data", directory / "run"))
        self.profiles = Profiles(self.host.kernel)
        self.compiled = True

    def container(self, script: str, config: dict[str, Any], settings: dict[str, Any]) -> Container:
        given = Config(cmd=["/bin/sh", "-c", script], **config)
        host = HostConfig(**settings)
        validate(given, host, NetworkingConfig(), self.host, exists=os.path.exists, runtimes={"crun"})
        adapt(host, self.host, "crun")
        container_id = uuid.uuid4().hex * 2
        given.hostname = given.hostname or container_id[:12]
        words = command(given)
        return Container(
            id=container_id,
            name="n",
            created_at=0,
            image="",
            image_ref="",
            chain_id="",
            path=words[0],
            args=words[1:],
            config=given,
            host=host,
            sandbox=Sandbox(id=container_id, mode=host.network_mode),
            mounts=mounts.resolve((), host, data_root=str(self.host.roots.data)),
        )

    def bundles(self) -> Bundles:
        def find(name: str) -> Container:
            raise NotFound(f"No such container: {name}")

        return Bundles(
            self.host,
            self.profiles,
            find,
            host_gateway=lambda: "172.17.0.1",
            takes_bpf=lambda container: self.compiled,
            ulimits=lambda container: container.host.ulimits or [],
        )

    def run(
        self, script: str, *, netns: str | None = None, config: dict[str, Any] | None = None, **settings: Any
    ) -> str:
        """The output, both streams, of `sh -c script` in a container of these settings."""
        container = self.container(script, config or {}, settings)
        layout = Layout(self.host.roots, container.id)
        layout.durable.mkdir(parents=True)
        make_root(layout.rootfs)
        self.bundles().write(container, layout, netns)
        crun = [str(self.host.binaries.crun), "--root", str(self.host.roots.runtime_state), "run"]
        finished = subprocess.run(
            [*crun, "--bundle", str(layout.bundle), container.id],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return finished.stdout


def make_root(root: Path) -> None:
    for name in ("bin", "etc", "proc", "dev", "sys", "tmp", "home/u"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox, "the tests need busybox-static"
    shutil.copy(busybox, root / "bin/busybox")
    for name in "sh cat grep id ls touch mount unshare stat hostname ps test env wc chroot pwd awk mkdir".split():
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path)
    yield made
    remove_cgroups(made.host)


def remove_cgroups(host: Host) -> None:
    parent = host.roots.cgroup_parent.lstrip("/")
    top = Path("/sys/fs/cgroup")
    trees = [top] if host.cgroups is CgroupLayout.V2 else [tree for tree in top.iterdir() if tree.is_dir()]
    for tree in trees:
        with contextlib.suppress(FileNotFoundError):
            (tree / parent).rmdir()


@pytest.fixture
def netns() -> Iterator[str]:
    """A network namespace of its own, kept by a sleeping process."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo ready; exec sleep 60"], stdout=subprocess.PIPE
    ) as keeper:
        assert keeper.stdout is not None
        keeper.stdout.readline()
        yield f"/proc/{keeper.pid}/ns/net"
        keeper.kill()


def mask(*names: str) -> str:
    return f"{sum(1 << NUMBERS[name] for name in names):016x}"


def test_mounts_are_the_real_engines(engine: Engine) -> None:
    seen = dict(line.split(" ", 1) for line in engine.run("awk '{print $5, $6}' /proc/self/mountinfo").splitlines())
    assert seen["/proc"] == "rw,nosuid,nodev,noexec,relatime"
    assert seen["/dev"] == "rw,nosuid"
    assert seen["/dev/pts"] == "rw,nosuid,noexec,relatime"
    assert seen["/sys"] == "ro,nosuid,nodev,noexec,relatime"
    assert seen["/dev/mqueue"] == seen["/dev/shm"] == "rw,nosuid,nodev,noexec,relatime"
    assert {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} <= seen.keys()
    for place in ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"):
        assert seen[place].startswith("ro,")
    assert engine.run("cat /proc/keys | wc -c; ls /sys/firmware") == "0\n"


def test_the_process(engine: Engine) -> None:
    status = engine.run(
        "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; cat /proc/self/oom_score_adj", oom_score_adj=100
    )
    assert status.split() == [
        *("CapInh:", "0" * 16, "CapPrm:", "00000000a80425fb", "CapEff:", "00000000a80425fb"),
        *("CapBnd:", "00000000a80425fb", "CapAmb:", "0" * 16, "NoNewPrivs:", "0", "Seccomp:", "2"),
        "100",
    ]


def test_another_user_has_the_bounding_set_alone(engine: Engine) -> None:
    config = {"user": "u"}
    out = engine.run("id; echo $HOME; grep -E 'Cap[EB]' /proc/self/status", config=config, group_add=["nogroup", "77"])
    identity, home, *sets = out.splitlines()
    assert identity == "uid=1000(u) gid=1000(u) groups=77,1000(u),2000(extra),65534(nogroup)"
    assert home == "/home/u"
    assert [line.split()[1] for line in sets] == ["0" * 16, "00000000a80425fb"]


def test_dropping_all_but_some(engine: Engine) -> None:
    out = engine.run("grep CapEff /proc/self/status", cap_drop=["ALL"], cap_add=["chown", "CAP_NET_BIND_SERVICE"])
    assert out.split()[1] == mask("CAP_CHOWN", "CAP_NET_BIND_SERVICE")


def test_privileged(engine: Engine) -> None:
    out = engine.run(
        "grep -E 'CapEff|Seccomp:' /proc/self/status; test -w /proc/sys/kernel/core_pattern && echo writable; ls /dev",
        privileged=True,
    )
    assert out.splitlines()[:3] == [f"CapEff:\t{mask(*engine.host.capabilities)}", "Seccomp:\t0", "writable"]
    assert "kmsg" in out.splitlines()


FORBIDDEN = {
    "unshare -m true": "unshare",
    "unshare -U true": "unshare",
    "unshare -n true": "unshare",
    "mount -t tmpfs x /tmp": "permission denied",
}


@pytest.mark.parametrize("compiled", [True, False])
def test_the_default_profile_forbids_namespaces_and_mounts(engine: Engine, compiled: bool) -> None:
    engine.compiled = compiled
    for script, words in FORBIDDEN.items():
        out = engine.run(f"{script} 2>&1 && echo allowed")
        assert words in out and "allowed" not in out, script
    assert engine.run("chroot / /bin/sh -c 'echo allowed'") == "allowed\n"


def test_the_capability_opens_the_profile(engine: Engine) -> None:
    script = "unshare -U true && echo one; mount -t tmpfs x /tmp && echo two"
    assert engine.run(script, cap_add=["SYS_ADMIN"]) == "one\ntwo\n"


def test_the_users_own_profile_and_none(engine: Engine) -> None:
    profile = (
        '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}'
    )
    assert "Permission denied" in engine.run("mkdir /q", security_opt=[f"seccomp={profile}"])
    assert engine.run("grep Seccomp: /proc/self/status", security_opt=["seccomp=unconfined"]) == "Seccomp:\t0\n"


def test_no_new_privileges(engine: Engine) -> None:
    assert engine.run("grep NoNew /proc/self/status", security_opt=["no-new-privileges"]) == "NoNewPrivs:\t1\n"


def test_read_only_root(engine: Engine) -> None:
    out = engine.run("touch /x /etc/hosts /proc/x; touch /dev/shm/y && echo shm", readonly_rootfs=True)
    assert out.count("Read-only file system") == 2 and out.endswith("shm\n")


def test_tmpfs(engine: Engine) -> None:
    out = engine.run(
        "grep -E ' /[tm] ' /proc/mounts; stat -c %a /t /m; touch /m/x",
        tmpfs={"/t": "size=1m,mode=1770,exec"},
        mounts=[Mount("tmpfs", target="/m", read_only=True, tmpfs_options=TmpfsOptions(1 << 20, 0o700))],
    )
    assert "tmpfs /t tmpfs rw,nosuid,nodev,relatime,size=1024k,mode=1770" in out
    assert "tmpfs /m tmpfs ro,nosuid,nodev,noexec,relatime,size=1024k,mode=700" in out
    assert "1770\n700\n" in out and "Read-only" in out


def test_binds_of_folders_and_files(engine: Engine, tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("mine\n")
    out = engine.run(
        "touch /w/made /r/no; cat /etc/hosts; touch /etc/hosts",
        binds=[f"{folder}:/w", f"{folder}:/r:ro", f"{file}:/etc/hosts:ro"],
    )
    assert (folder / "made").exists() and "mine" in out and out.count("Read-only") == 2


def test_a_missing_source_is_made_for_v_and_refused_for_mount(engine: Engine, tmp_path: Path) -> None:
    engine.run("true", binds=[f"{tmp_path}/made/deep:/m"])
    assert (tmp_path / "made/deep").is_dir()
    with pytest.raises(InvalidParameter, match="bind source path does not exist: /nowhere/at-all"):
        engine.run("true", mounts=[Mount("bind", "/nowhere/at-all", "/m")])


def test_mounts_below_a_read_only_bind_are_read_only_too(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "outer/inner").mkdir(parents=True)
    inner = tmp_path / "outer/inner"
    subprocess.run(["mount", "-t", "tmpfs", "wherry-test", inner], check=True)
    try:
        assert "Read-only" in engine.run("touch /m/inner/x", binds=[f"{tmp_path}/outer:/m:ro"])
    finally:
        subprocess.run(["umount", inner], check=True)


def test_the_working_directory_is_made_inside(engine: Engine) -> None:
    out = engine.run("pwd; stat -c %u:%g:%a /new/deep", config={"working_dir": "/new/deep"})
    assert out == "/new/deep\n0:0:755\n"
    assert engine.run("pwd", config={"working_dir": "/new/../up/"}) == "/up\n"
    with pytest.raises(SystemFailure, match="Cannot mkdir: /etc/passwd is not a directory"):
        engine.run("true", config={"working_dir": "/etc/passwd"})


def test_devices(engine: Engine, tmp_path: Path) -> None:
    """No driver has the number: ENXIO shows that the cgroup let the open through, EPERM that it did not."""
    node = tmp_path / "node"
    os.mknod(node, stat.S_IFCHR | 0o644, os.makedev(240, 77))
    mapping = DeviceMapping(str(node), "/dev/fool", "r")
    out = engine.run("ls -l /dev/fool; cat /dev/fool; echo x >/dev/fool", devices=[mapping])
    assert out.startswith("crw-r--r--") and "240,  77" in out
    assert "No such device or address" in out and "Operation not permitted" in out
    allowed = engine.run("echo x >/dev/fool", devices=[mapping], device_cgroup_rules=["c 240:* w"])
    assert "No such device or address" in allowed
    for path, words in (("/dev/nope", "no such file or directory"), ("/etc", "not a device node")):
        with pytest.raises(SystemFailure, match=f'while adding custom device "{path}": {words}'):
            engine.run("true", devices=[DeviceMapping(path, "/dev/x", "rwm")])


def test_namespaces(engine: Engine, netns: str) -> None:
    script = "for n in net pid ipc uts cgroup; do stat -L -c %i /proc/self/ns/$n; done"
    host = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    own = engine.run(script, netns=netns, cgroupns_mode="private").split()
    assert not set(host) & set(own)
    joined = engine.run(
        script, network_mode="host", pid_mode="host", ipc_mode="host", uts_mode="host", cgroupns_mode="host"
    )
    assert joined.split() == host


def test_settings_of_the_kernel(engine: Engine, netns: str) -> None:
    files = "net/ipv4/ip_unprivileged_port_start kernel/domainname kernel/shmmax net/ipv4/ip_default_ttl"
    out = engine.run(
        f"cd /proc/sys; cat {files}; hostname",
        netns=netns,
        config={"hostname": "box", "domainname": "ex.org"},
        sysctls={"kernel.shmmax": "100", "net.ipv4.ip_default_ttl": "33"},
    )
    assert out.splitlines() == ["0", "ex.org", "100", "33", "box"]


def test_ulimits(engine: Engine) -> None:
    out = engine.run("ulimit -n; ulimit -Hn; ulimit -c", ulimits=[Ulimit("nofile", 200, 100), Ulimit("core", 0, 0)])
    assert out.splitlines() == ["100", "200", "0"]


LIMITS_V1 = {
    "memory/memory.limit_in_bytes": "67108864",
    "memory/memory.soft_limit_in_bytes": "33554432",
    "cpu/cpu.cfs_quota_us": "50000",
    "cpu/cpu.shares": "512",
    "cpuset/cpuset.cpus": "0",
    "pids/pids.max": "50",
}
LIMITS_V2 = {
    "memory.max": "67108864",
    "memory.low": "33554432",
    "cpu.max": "50000 100000",
    "cpuset.cpus": "0",
    "pids.max": "50",
}


def test_limits(engine: Engine) -> None:
    expected = LIMITS_V2 if engine.host.cgroups is CgroupLayout.V2 else LIMITS_V1
    out = engine.run(
        f"cd /sys/fs/cgroup; cat {' '.join(expected)}",
        memory=64 << 20,
        memory_reservation=32 << 20,
        nano_cpus=5 * 10**8,
        cpu_shares=512,
        cpuset_cpus="0",
        pids_limit=50,
    )
    assert out.splitlines() == list(expected.values())


def test_an_init_reaps(engine: Engine) -> None:
    first = engine.run("cat /proc/1/cmdline", init=True)
    assert first.startswith("/sbin/docker-init\0")


def test_the_files_of_etc(engine: Engine) -> None:
    out = engine.run(
        "cat /etc/hostname /etc/hosts /etc/resolv.conf",
        config={"hostname": "box"},
        extra_hosts=["db:10.1.2.3", "gw:host-gateway"],
        dns=["192.0.2.53"],
    )
    assert out.startswith("box\n127.0.0.1\tlocalhost\n")
    assert "10.1.2.3\tdb\n172.17.0.1\tgw\n" in out and "\nnameserver 192.0.2.53\n" in out


Trap = Callable[[Path], None]


def _outside_link(etc: Path) -> None:
    outside = etc.parents[1] / "outside"
    outside.write_text("daemon:x:1:1::/:\n")
    (etc / "passwd").symlink_to(outside)


def _endless(etc: Path) -> None:
    os.mkfifo(etc / "passwd")


@pytest.mark.parametrize(
    ("trap", "message"),
    [
        (_outside_link, "unable to find user daemon: no matching entries"),
        (_endless, "cannot read /etc/passwd of the image: not a regular file"),
    ],
)
def test_an_images_passwd_is_not_trusted(engine: Engine, tmp_path: Path, trap: Trap, message: str) -> None:
    container = engine.container("true", {"user": "daemon"}, {})
    layout = Layout(engine.host.roots, container.id)
    layout.durable.mkdir(parents=True)
    (layout.rootfs / "etc").mkdir(parents=True)
    trap(layout.rootfs / "etc")
    with pytest.raises(SystemFailure, match=message):
        engine.bundles().write(container, layout, None)
