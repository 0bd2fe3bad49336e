"""What BuildKit made of the cases, written down, for where there is no BuildKit: `python -m tests.build.recorded`
asks it again (PEER_DOCKER_HOST, PEER_BUILDX)."""

from __future__ import annotations

import fcntl
import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.build.buildkit import BASE_CONFIG, BuildKit
from tests.build.cases import BASE, FILES, FILESYSTEM, LANGUAGE, STAGES
from tests.build.results import Built, Tree, read_archive
from tests.build.wider import ARCHIVES, WIDER_FILES, WIDER_LANGUAGE, WIDER_STAGES
from tests.support.images import base_tar, docker_archive

RECORD = Path(__file__).with_name("recorded.json")
CASES = (*LANGUAGE, *STAGES, *FILESYSTEM, *WIDER_LANGUAGE, *WIDER_STAGES, *WIDER_FILES)


def base_tree() -> Tree:
    return read_archive(docker_archive([base_tar()], [BASE], **BASE_CONFIG)).tree


def document(built: Built) -> dict[str, Any]:
    """What the image says, as BuildKit's history tells it."""
    return {"config": built.config, "top": built.top, "history": built.history}


def changes(built: Built, base: Tree) -> list[dict[str, str]]:
    """Each layer's changes but the base's own, an entry as one line. What each host makes in its own way is told by
    name: busybox, and what a compressor wrote."""
    names = {base["bin/busybox"]["content"]: "busybox"}
    for name, made in (("archive.tgz", FILES["archive.tgz"]), ("only.gz", ARCHIVES["only.gz"])):
        names[len(made.data), hashlib.sha256(made.data).hexdigest()[:16]] = name
    layers = built.changes
    if layers and layers[0] == base:
        layers = layers[1:]
    return [{path: _line(entry, names) for path, entry in sorted(layer.items())} for layer in layers]


def _line(entry: dict[str, Any], names: Mapping[object, str]) -> str:
    told = {**entry, "content": names.get(entry["content"], entry["content"])} if "content" in entry else entry
    return " ".join([entry["kind"], *(f"{value}" for key, value in sorted(told.items()) if key != "kind")])


def main() -> None:
    base, peer = base_tree(), BuildKit()
    lines = []
    with Path("/tmp/wt-peer.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        peer.prepare()
        for case in CASES:
            with tempfile.TemporaryDirectory() as folder:
                built = peer.build(case, Path(folder))
            told = {**document(built), "changes": changes(built, base)}
            lines.append(f"{json.dumps(case.name)}: {json.dumps(told, sort_keys=True)}")
        peer.tidy()
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
