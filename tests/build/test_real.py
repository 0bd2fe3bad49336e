"""A Debian made by mmdebstrap, with packages of Debian's and PyPI's that RUN installs over the bridge.

How the host reaches its packages is handed in: apt's sources and options and pip's as secrets, proxies as arguments.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.cases import Case
from tests.build.wherry import Command
from tests.support.daemon import Wherryd, temporary_folder

NAME = "wherry-test-debian:latest"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
KEPT = Path(__file__).parents[2] / ".cache" / "debian"
"""Removed by `./check --undo`."""
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")

DOCKERFILE = f"""\
FROM {NAME}
RUN --mount=type=secret,id=sources,target=/etc/apt/sources.list.d/debian.sources,mode=0444 \\
    --mount=type=secret,id=apt,target=/etc/apt/apt.conf.d/99given,mode=0444 \\
    --mount=type=cache,target=/var/cache/apt,sharing=locked <<EOF
set -e
rm -f /etc/apt/sources.list
apt-get update -qq
apt-get install -qq --no-install-recommends -y hello
rm -rf /var/lib/apt/lists
EOF
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=bind,from=pip,target=/pip/pip \\
    --mount=type=secret,id=certificates,target=/certificates \\
    PYTHONPATH=/pip PIP_CERT=/certificates python3 -m pip install --root-user-action=ignore --no-compile \\
    --no-cache-dir --target /packages iniconfig
RUN hello >/said && PYTHONPATH=/packages python3 -c 'import iniconfig; print(iniconfig.__name__)' >>/said
RUN find / -xdev -size +0 \\( -name 99given -o -name certificates -o -path /etc/pip.conf \\) >/kept
FROM scratch
COPY --from=0 /said /kept /
"""


def apt_options() -> bytes:
    """Proxies and what apt believes of dates and signatures, as the host has it."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check", "Acquire::Languages", "Acquire::Retries")
    lines = [line for line in dump.splitlines() if line.startswith(wanted) and not line.endswith('"";')]
    return "\n".join([*lines, 'Acquire::Languages "none";', ""]).encode()


def pip_options() -> bytes:
    """Of pip's options those that name no file of the host."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    options = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in PIP_OPTIONS and "file:" not in value:
            options[key] = value.strip("'\"")
    return "\n".join(["[global]", *(f"{key} = {value}" for key, value in options.items()), ""]).encode()


@pytest.fixture(scope="module")
def command() -> Iterator[Command]:
    if not shutil.which("mmdebstrap") or not SOURCES.exists():
        pytest.skip("probe debian: no mmdebstrap, or no debian.sources on this host")
    daemon = Wherryd(temporary_folder())
    daemon.start()
    try:
        found = Command(daemon)
        answer = found.http.post(
            "/images/create", body=debian(), fromSrc="-", repo=NAME.partition(":")[0], tag="latest"
        )
        assert answer.status == 200 and b'"error"' not in answer.body, answer.body
        yield found
    finally:
        daemon.dispose()


def debian() -> bytes:
    """A Debian of what the sources' first suite is, with Python.

    It takes most of the time here and changes little, so that it is kept between runs, under what it is made of.
    """
    suite = next(line.split()[1] for line in SOURCES.read_text().splitlines() if line.startswith("Suites:"))
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=python3", '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "doc", "locale")),
        suite, "-", str(SOURCES)]  # fmt: skip
    made_of = hashlib.sha256(repr(command).encode() + SOURCES.read_bytes()).hexdigest()
    archive = KEPT / f"{made_of[:16]}.tar"
    if not archive.exists():
        shutil.rmtree(KEPT, ignore_errors=True)
        KEPT.mkdir(parents=True)
        made = subprocess.run(command, capture_output=True, check=False)
        assert made.returncode == 0, made.stderr.decode("utf-8", "replace")
        partial = archive.with_suffix(".partial")
        partial.write_bytes(made.stdout)
        partial.rename(archive)
    return archive.read_bytes()


def test_packages_of_debian_and_of_pypi(command: Command, tmp_path: Path) -> None:
    secrets = {
        "sources": SOURCES.read_bytes(),
        "apt": apt_options(),
        "pip": pip_options(),
        "certificates": CERTIFICATES.read_bytes(),
    }
    proxies = [f"{name}={os.environ[name]}" for name in PROXIES if os.environ.get(name)]
    spec = importlib.util.find_spec("pip")
    assert spec is not None and spec.origin is not None, "the environment of the tests has no pip"
    pip = Path(spec.origin).parent
    arguments = [word for proxy in proxies for word in ("--build-arg", proxy)]
    output = ("--build-context", f"pip={pip}", "--output", f"type=local,dest={tmp_path / 'out'}")
    command.run(Case("real", DOCKERFILE, arguments=(*arguments, *output), secrets=secrets), tmp_path)

    assert (tmp_path / "out/said").read_text().split("\n")[:2] == ["Hello, world!", "iniconfig"]
    assert (tmp_path / "out/kept").read_text() == ""
