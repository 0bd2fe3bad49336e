"""What BuildKit made of the cases, written down, for where there is no BuildKit: `python -m tests.build.recorded`
asks it again (PEER_DOCKER_HOST, PEER_BUILDX)."""

from __future__ import annotations

import fcntl
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.build.buildkit import BASE_CONFIG, BuildKit
from tests.build.cases import BASE, FILESYSTEM, LANGUAGE, STAGES
from tests.build.results import Built, Tree, read_archive
from tests.build.wider import WIDER_FILES, WIDER_LANGUAGE, WIDER_STAGES
from tests.support.images import base_tar, docker_archive

RECORD = Path(__file__).with_name("recorded.json")
CASES = (*LANGUAGE, *STAGES, *FILESYSTEM, *WIDER_LANGUAGE, *WIDER_STAGES, *WIDER_FILES)


def base_tree() -> Tree:
    return read_archive(docker_archive([base_tar()], [BASE], **BASE_CONFIG)).tree


def document(built: Built) -> dict[str, Any]:
    """What the image says, as BuildKit's history tells it."""
    return {"config": built.config, "top": built.top, "history": built.history}


def changes(built: Built, base: Tree) -> list[dict[str, str]]:
    """Each layer's changes but the base's own, an entry as one line; busybox is the host's and told by its name."""
    busybox = base["bin/busybox"]["content"]
    layers = built.changes
    if layers and layers[0] == base:
        layers = layers[1:]
    return [{path: _line(entry, busybox) for path, entry in sorted(layer.items())} for layer in layers]


def _line(entry: dict[str, Any], busybox: object) -> str:
    told = {**entry, "content": "busybox"} if entry.get("content") == busybox else entry
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
