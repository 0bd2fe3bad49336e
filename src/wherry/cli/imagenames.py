"""Names of images as people write them."""

from __future__ import annotations


def familiar(image: str) -> str:
    """With the tag that is meant where there is none, without the default registry."""
    if "@" in image:
        return image
    name = image
    for prefix in ("docker.io/library/", "index.docker.io/library/", "docker.io/"):
        if name.startswith(prefix):
            name = name[len(prefix) :]
            break
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def split(image: str) -> tuple[str, str]:
    """(name, tag or digest) for POST /images/create, the name with its registry."""
    name, at, digest = image.partition("@")
    last = name.rpartition("/")[2]
    tag = last.partition(":")[2]
    if tag:
        name = name[: -len(tag) - 1]
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}"
    return name, digest if at else tag or "latest"
