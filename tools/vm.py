"""A virtual machine with cgroup v2 alone, for what a v1 or hybrid host cannot show.

qemu, by software emulation so that it runs anywhere, boots Debian's cloud kernel, which is fetched and unpacked and
never installed. Its disk is made of this host's own files: the interpreter, the environment, the runtimes and the
libraries that they name. NVMe and ext4 are built into that kernel: no initramfs. The sources come on a second
disk, a plain tar, so that a changed test needs no new image. It is of another kind, whose driver is a module: newer
kernels look for NVMe's namespaces all at once and number them as they come, and the root must be found by its name.
The guest's only talk is its serial console.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools import packages, starter
from tools.progress import Failure, run, say
from tools.settings import ROOT

CACHE = Path("/var/cache/wherry-vm")
KERNEL_PACKAGE = "linux-image-cloud-amd64"
HOME = "/wherry"
"""Where the checkout is in the guest."""

PROGRAMS = ("crun", "runc", "conmon", "tini-static", "env", "ip", "nft", "modprobe")
LIBRARIES = ("libnftables.so.1", "libseccomp.so.2", "libgcc_s.so.1")
"""Those that are loaded by name at run time; the others are found by following them and the programs."""
MODULES = (
    *("net", "lib", "crypto", "arch/x86/crypto", "fs/overlayfs", "drivers/net/veth.ko", "drivers/block/loop.ko"),
    *("drivers/virtio/virtio", "drivers/block/virtio_blk.ko"),
)
"""Parts of the kernel's module tree; a trailing file also matches its compressed form."""
NOT_IN_STDLIB = {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "site-packages"}
NOT_IN_SITE = re.compile(r"(pip|setuptools|mypy|mypyc|ruff|ast_serialize|librt)([-_.].*)?")

INIT = f"""\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin HOME=/root PYTHONDONTWRITEBYTECODE=1 WHERRY_IN_VM=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
hostname wherry-vm
modprobe -a virtio_pci virtio_blk
tar -xf /dev/vda -C {HOME}
cd {HOME}
.venv/bin/python3 -m pytest -p no:cacheprovider --color=no $(cat arguments)
code=$?
tail -n 60 /tmp/*/wherryd.log
echo "WHERRY-VM-EXIT: $code"
sync
poweroff -f
"""


@dataclass(frozen=True)
class Image:
    kernel: Path
    disk: Path


@dataclass(frozen=True)
class Outcome:
    """How a boot ended: pytest's exit code in the guest, None if it never came to that, and all that the guest said."""

    code: int | None
    console: str


def prepare() -> Image:
    """The kernel and the disk, from the cache or made now. Raises Failure."""
    folder = CACHE / _key()
    image = Image(folder / "vmlinuz", folder / "disk.ext4")
    if folder.is_dir():
        return image
    shutil.rmtree(CACHE, ignore_errors=True)
    CACHE.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        work = Path(made)
        (work / "image").mkdir()
        kernel = _fetch_kernel(work)
        shutil.copy(next((kernel / "boot").glob("vmlinuz-*")), work / "image" / "vmlinuz")
        tree = work / "tree"
        _fill(tree, kernel)
        _make_disk(tree, work / "image" / "disk.ext4")
        (work / "image").rename(folder)
    return image


def boot(image: Image, arguments: Iterable[str], seconds: float) -> Outcome:
    """Boot once, run pytest with these arguments on the checkout's sources, power off. The disk stays as it was."""
    with tempfile.NamedTemporaryFile(prefix="wherry-vm-", suffix=".tar") as sources:
        _write_sources(sources.name, " ".join(arguments))
        command: list[str] = [
            *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi"),
            *("-cpu", "max", "-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-no-reboot", "-serial", "stdio", "-kernel", str(image.kernel)),
            *("-append", "console=ttyS0 quiet root=/dev/nvme0n1 rw rootwait init=/init panic=-1 mitigations=off"),
            *("-drive", f"file={image.disk},if=none,id=root,format=raw,snapshot=on"),
            *("-drive", f"file={sources.name},if=none,id=sources,format=raw,readonly=on"),
            *("-device", "nvme,drive=root,serial=wherry", "-device", "virtio-blk-pci,drive=sources"),
        ]
        try:
            result = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds
            )
            console = result.stdout.decode(errors="replace")
        except subprocess.TimeoutExpired as expired:
            console = (expired.stdout or b"").decode(errors="replace") + f"\n[ended after {seconds:.0f} s]"
    said = re.search(r"^WHERRY-VM-EXIT: (\d+)", console, re.MULTILINE)
    return Outcome(int(said[1]) if said else None, console.replace("\r\n", "\n"))


def _key() -> str:
    """Everything that the disk is made of, but for the kernel: that of the day it is made will do."""
    status = Path("/var/lib/dpkg/status").read_bytes()
    parts = [
        Path(__file__).read_bytes(),
        (ROOT / "requirements" / "dev.txt").read_bytes(),
        sys.version.encode(),
        status,
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _fetch_kernel(work: Path) -> Path:
    """Debian's cloud kernel, unpacked; returns the folder."""
    say("Fetching the virtual machine's kernel")
    names = _kernel_packages()
    if not names:
        packages.refresh_lists()
        names = _kernel_packages()
    if not names:
        raise Failure(f"apt knows no {KERNEL_PACKAGE}: the virtual machine needs Debian's cloud kernel")
    (work / "deb").mkdir()
    run(["apt-get", "download", "--quiet=2", "-o=APT::Sandbox::User=root", names[0]], cwd=work / "deb")
    run(["dpkg-deb", "--extract", next((work / "deb").glob("*.deb")), work / "kernel"])
    return work / "kernel"


def _kernel_packages() -> list[str]:
    try:
        known = run(["apt-cache", "depends", KERNEL_PACKAGE])
    except Failure:
        return []
    return re.findall(r"Depends: (linux-image-[\w.+-]+)", known)


def _fill(tree: Path, kernel: Path) -> None:
    """Lay out the guest's root: same paths as here, so that nothing needs to be told where things are."""
    say("Making the virtual machine's disk")
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "etc", "var/lib", "var/log", "usr/share", HOME[1:]):
        (tree / name).mkdir(parents=True)
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (tree / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    _add_busybox(tree)
    programs = [Path(found) for name in PROGRAMS if (found := shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin"))]
    interpreter = Path(os.path.realpath(sys.executable))
    libraries = [path for name in LIBRARIES if (path := _find_library(name))]
    for path in [*programs, interpreter, *libraries]:
        _copy(path, tree)
    python = [*_copy_python(tree, interpreter)]
    for path in _needed([*programs, interpreter, *libraries, *python]):
        _copy(path, tree)
    _copy_modules(tree, kernel)
    for profile in Path("/usr/share/containers").glob("seccomp.json"):
        _copy(profile, tree)
    for profile in Path("/etc/containers").glob("seccomp.json"):
        _copy(profile, tree)


def _add_busybox(tree: Path) -> None:
    program = starter.busybox()
    shutil.copy(program, tree / "usr/bin/busybox")
    for applet in run([program, "--list"]).split():
        if applet not in ("busybox", "modprobe", "depmod", "insmod"):
            (tree / "usr/bin" / applet).symlink_to("busybox")


def _copy(path: Path, tree: Path) -> None:
    """Copy a file, whatever links lead to it, to the same path in the tree."""
    target = tree / path.relative_to("/")
    if target.is_symlink():
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(os.path.realpath(path), target)


def _copy_python(tree: Path, interpreter: Path) -> Iterable[Path]:
    """The standard library, and the environment under the guest's HOME; yields the extension modules."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    packages = Path(sysconfig.get_path("purelib"))
    config = re.compile(r"config-3\..*")
    shutil.copytree(
        stdlib,
        tree / stdlib.relative_to("/"),
        ignore=lambda _, names: [name for name in names if name in NOT_IN_STDLIB or config.fullmatch(name)],
        symlinks=False,
        ignore_dangling_symlinks=True,
        dirs_exist_ok=True,
    )
    environment = tree / HOME[1:] / ".venv"
    shutil.copytree(
        packages,
        environment / "lib" / stdlib.name / "site-packages",
        ignore=lambda _, names: [name for name in names if NOT_IN_SITE.fullmatch(name)],
    )
    (environment / "bin").mkdir()
    (environment / "bin/python3").symlink_to(interpreter)
    (environment / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\ninclude-system-site-packages = false\n")
    yield from (stdlib / "lib-dynload").glob("*.so")
    yield from (environment / "lib").rglob("*.so")


def _find_library(name: str) -> Path | None:
    cache = run(["/sbin/ldconfig", "-p"])
    found = re.search(rf"^\s*{re.escape(name)} .*x86-64.*=> (\S+)", cache, re.MULTILINE)
    return Path(found[1]) if found else None


def _needed(files: Iterable[Path]) -> set[Path]:
    """Every library that these need, as ldd(1) finds them."""
    result = subprocess.run(["ldd", *files], capture_output=True, text=True)  # it complains of static programs
    return {Path(name) for name in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", result.stdout, re.MULTILINE)}


def _copy_modules(tree: Path, kernel: Path) -> None:
    (source,) = (path for path in kernel.glob("**/lib/modules/*") if (path / "kernel").is_dir())
    target = tree / "usr/lib/modules" / source.name
    for part in MODULES:
        for path in (source / "kernel").glob(f"{part}*"):
            goal = target / "kernel" / path.relative_to(source / "kernel")
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(path, goal) if path.is_dir() else shutil.copy(path, goal)
    for name in ("modules.builtin", "modules.order", "modules.builtin.modinfo"):
        shutil.copy(source / name, target / name)
    run(["depmod", "--basedir", tree, source.name], env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})


def _make_disk(tree: Path, disk: Path) -> None:
    """An ext4 file system with the tree and 512 MB of room."""
    used = sum(path.lstat().st_size + 4096 for path in tree.rglob("*"))
    blocks = (int(used * 1.1) + (512 << 20)) // 4096
    options = "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"
    run(["/sbin/mke2fs", "-q", "-t", "ext4", "-b", "4096", "-E", options, "-d", tree, disk, str(blocks)])


def _write_sources(path: str, arguments: str) -> None:
    """The checkout's sources and tests, with compiled modules beside them, as a tar padded to whole sectors."""
    with tarfile.open(path, "w") as tar:
        for name in ("src", "tests", "tools", "pyproject.toml"):
            tar.add(ROOT / name, name, filter=_with_bytecode)
        member = tarfile.TarInfo("arguments")
        member.size = len(arguments)
        tar.addfile(member, io.BytesIO(arguments.encode()))


def _with_bytecode(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Bytecode of this interpreter goes along, that of others stays."""
    if member.name.endswith(".pyc") and f".{sys.implementation.cache_tag}." not in member.name:
        return None
    member.uid = member.gid = 0
    return member
