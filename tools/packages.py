"""Debian packages: what is needed, and how the missing ones come."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tools.progress import Failure, run, say

ENGINE = {
    "busybox-static": "the starter image",
    "ca-certificates": "trusting registries",
    "conmon": "the monitor of each container",
    "crun": "the runtime",
    "golang-github-containers-common": "the default seccomp profile",
    "libnftables1": "the firewall",
    "libseccomp2": "compiling the seccomp profile",
    "mount": "settling cgroups",
    "nftables": "looking at the firewall",
    "procps": "listing a container's processes (top)",
    "python3-venv": "an environment of our own",
    "runc": "the runtime where crun cannot run",
    "tini": "run --init (it brings a static one)",
}
"""Package -> what it is for."""

TESTS = {
    "apache2-utils": "passwords of a test registry",
    "docker-registry": "the test registry",
    "e2fsprogs": "the virtual machine's disk",
    "fish": "completing in a real shell",
    "git": "listing the tracked files",
    "iproute2": "looking at links from outside",
    "kmod": "the virtual machine's modules",
    "mmdebstrap": "a Debian to build upon",
    "openssl": "certificates of the tests' own",
    "iptables": "living beside other firewalls",
    "qemu-system-x86": "the virtual machine",
    "zsh": "completing in a real shell",
}
"""What the tests need besides."""

_LISTS_ARE_FRESH_FOR = 24 * 3600
_PATIENT = ["-o=DPkg::Lock::Timeout=300"]
"""Wait for another apt rather than fail."""
_STATUS = Path("/var/lib/dpkg/status")


def missing(wanted: Sequence[str]) -> list[str]:
    """Those of the packages that are not installed. Reads dpkg's own record: no process, no list of versions."""
    installed = installed_packages(_STATUS.read_text(errors="replace") if _STATUS.exists() else "")
    return [name for name in wanted if name not in installed]


def installed_packages(status: str) -> set[str]:
    """The names of fully installed packages in a dpkg status file (deb-control paragraphs)."""
    names = set()
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" ok installed"):
            names.add(fields["Package"])
    return names


def install(wanted: Sequence[str]) -> None:
    """Install what is missing, asking nothing. Raises Failure if that cannot be done here."""
    lacking = missing(wanted)
    if not lacking:
        return
    if os.geteuid() != 0:
        raise Failure(f"only root can install packages: apt-get install {' '.join(lacking)}")
    if not shutil.which("apt-get"):
        raise Failure(f"this is not Debian: install what these packages of Debian bring: {' '.join(lacking)}")
    say(f"Installing from Debian: {' '.join(lacking)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    quiet_install = ["apt-get", "install", "--yes", "--quiet=2", "--no-install-recommends", "-o=Dpkg::Use-Pty=0"]
    if _lists_are_old():
        refresh_lists()
    try:
        run([*quiet_install, *_PATIENT, *lacking], env=environment)
    except Failure:  # the lists may name files that a mirror has replaced since
        refresh_lists()
        run([*quiet_install, *_PATIENT, *lacking], env=environment)


def refresh_lists() -> None:
    """`apt-get update`. Raises Failure."""
    run(["apt-get", "update", "--quiet=2", *_PATIENT])


def _lists_are_old() -> bool:
    lists = list(Path("/var/lib/apt/lists").glob("*Packages*"))
    return not lists or time.time() - max(path.stat().st_mtime for path in lists) > _LISTS_ARE_FRESH_FOR
