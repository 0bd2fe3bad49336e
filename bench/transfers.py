"""Pull and push against the same registry on loopback: Debian's docker-registry, filled once, kept beside the images.

What leaves files behind is settled before the next measurement: images are removed, the engine has deleted their files,
the disk has written what it was given.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.arithmetic import Item
from bench.engine import Engine, milliseconds
from bench.images import LARGE, MANY_LAYERS, cache, large_archive, many_layers_archive
from bench.settling import Keep, forget, peak_memory, reset_peak, settle

_IMAGES: tuple[tuple[str, str, Callable[[], Path]], ...] = (
    ("large", LARGE, large_archive),
    ("layers", MANY_LAYERS, many_layers_archive),
)
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
_TITLES = {"large": "1.1 GB in 57,000 files", "layers": "40 small layers"}


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """docker-registry on a free port of 127.0.0.1, with its files in `folder`; yields host:port."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": {"addr": address},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        file.write(json.dumps(config))  # JSON is YAML
        file.flush()
        process = subprocess.Popen(
            ["docker-registry", "serve", file.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while not _answers(address):
                if process.poll() is not None:
                    raise RuntimeError("docker-registry ended (package docker-registry)")
                time.sleep(0.05)
            yield address
        finally:
            process.kill()
            process.wait()


def _answers(address: str) -> bool:
    try:
        connection = http.client.HTTPConnection(address, timeout=5)
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 200
    except OSError:
        return False


def measure(engines: list[Engine], rounds: int, keep: Keep) -> None:
    """Everything of this module; the first round is not kept where there are several."""
    filled = cache() / "registry-1"
    with registry(filled) as address:
        for kind, name, archive in _IMAGES:
            if not (filled / "docker/registry/v2/repositories" / kind / "_manifests/tags").exists():
                _fill(engines[0], address, kind, name, archive())
        for kind, _, _ in _IMAGES:
            _pulls(engines, rounds, keep, address, kind)
        for engine in engines:
            forget(engine, *(f"{address}/{kind}:1" for kind, _, _ in _IMAGES))


def _fill(engine: Engine, address: str, kind: str, name: str, archive: Path) -> None:
    engine.client("load", "-qi", str(archive))
    engine.client("tag", name, f"{address}/{kind}:1")
    engine.client("push", "-q", f"{address}/{kind}:1")
    forget(engine, name, f"{address}/{kind}:1")


def _pulls(engines: list[Engine], rounds: int, keep: Keep, address: str, kind: str) -> None:
    what, image = _TITLES[kind], f"{address}/{kind}:1"
    cold = Item(f"pull-{kind}", f"pull, cold, {what}", "ms", 0.6)
    again = Item(f"pull-{kind}-again", f"pull of what is there, {what}: engine alone", "ms", 1.0)
    peak = Item(f"pull-{kind}-peak", f"peak memory of the daemon while pulling {what} (goal 250)", "MB")
    push = Item(f"push-{kind}", f"push to an empty registry, {what}", "ms", 0.8)
    identity = _identity(address, kind)
    for _ in range(rounds):
        for engine in engines:
            forget(engine, identity)  # whatever it is called: layers that are there are not fetched
            reset_peak(engine)
            began = time.perf_counter()
            engine.client("pull", "-q", image)
            keep(cold, engine.name, milliseconds(began))
            keep(peak, engine.name, peak_memory(engine))
            for _ in range(3):
                began = time.perf_counter()
                engine.api.call("POST", f"/images/create?fromImage={address}/{kind}&tag=1")
                keep(again, engine.name, milliseconds(began))
            keep(push, engine.name, _push(engine, image, kind))


def _identity(address: str, kind: str) -> str:
    """The image's ID: the digest of its configuration."""
    connection = http.client.HTTPConnection(address, timeout=5)
    connection.request("GET", f"/v2/{kind}/manifests/1", headers={"Accept": ", ".join(MANIFESTS)})
    identity: str = json.load(connection.getresponse())["config"]["digest"]
    return identity


def _push(engine: Engine, image: str, kind: str) -> float:
    with tempfile.TemporaryDirectory(dir=cache()) as folder, registry(Path(folder)) as empty:
        target = f"{empty}/{kind}:1"
        engine.client("tag", image, target)
        settle(engine)
        began = time.perf_counter()
        engine.client("push", "-q", target)
        taken = milliseconds(began)
        engine.client("rmi", target)
    return taken


def pushes_of_loaded(engines: list[Engine], rounds: int, keep: Keep) -> None:
    """Push of an image that came as plain tars: everything has to be compressed first."""
    item = Item("push-loaded", f"push to an empty registry after load, {_TITLES['large']}", "ms", 0.8)
    for _ in range(rounds):
        for engine in engines:
            forget(engine, LARGE)
            engine.client("load", "-qi", str(large_archive()))
            keep(item, engine.name, _push(engine, LARGE, "large"))
            forget(engine, LARGE)


def available() -> bool:
    return shutil.which("docker-registry") is not None
