"""`images --tree`: an image and below it its platforms."""

from __future__ import annotations

import os
import sys

from wherry.cli.errors import Failure
from wherry.cli.humanize import human_size, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Row = dict[str, Any]

_WARNING = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on."
_LEGEND = "Info ->  U In Use "
_HEADERS = ("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")
_WIDTHS = (0, 12, 10, 12, 5)  # of the columns; the first takes what is left
_GAP = 3
_NARROWEST = 20


def show(images: list[Row], all: bool) -> None:
    """Print the images, newest first; those without a tag only with `all`. Raises Failure."""
    if any("Manifests" not in image for image in images):
        raise Failure('"--tree" needs an engine that tells the manifests of its images (API version 1.47)')
    shown = [image for image in images if image.get("RepoTags") or all]
    shown.sort(key=lambda image: -image["Created"])
    width = _width()
    rest = sum(_WIDTHS) + _GAP * (len(_WIDTHS) - 1)
    names = [name for image in shown for name in image.get("RepoTags") or ["<untagged>"]]
    names += [f"   {_platform(one)}" for image in shown for one in image["Manifests"]]
    first = min(max([_NARROWEST, *(len(name) for name in names)]), max(_NARROWEST, width - rest))
    lines = [_WARNING, _LEGEND.rjust(first + rest), "", _line(first, *_HEADERS)]
    for image in shown:
        lines += ["", *_image(image, first)] if image is not shown[0] else _image(image, first)
    print("\n".join(line.rstrip() for line in lines))


def _image(image: Row, first: int) -> list[str]:
    manifests = [one for one in image["Manifests"] if one["Kind"] == "image"]
    total, content = (sum(one["Size"][what] for one in manifests) for what in ("Total", "Content"))
    used = any(one["ImageData"]["Containers"] for one in manifests)
    *others, name = sorted(image.get("RepoTags") or ["<untagged>"], reverse=True)
    lines = [_cut(other, first) for other in others]
    lines.append(_line(first, name, short_id(image["Id"]), _size(total), _size(content), _used(used)))
    for one in manifests:
        branch = "└─ " if one is manifests[-1] else "├─ "
        size = one["Size"]
        containers = bool(one["ImageData"]["Containers"])
        sizes = _size(size["Total"]), _size(size["Content"])
        lines.append(_line(first, branch + _platform(one), short_id(one["ID"]), *sizes, _used(containers)))
    return lines


def _platform(manifest: Row) -> str:
    found = (manifest.get("ImageData") or {}).get("Platform") or {}
    return "/".join(filter(None, (found.get("os"), found.get("architecture"), found.get("variant")))) or "unknown"


def _size(value: int) -> str:
    return human_size(value, 3)


def _used(used: bool) -> str:
    return "U" if used else ""


def _line(first: int, name: str, *columns: str) -> str:
    header = columns == _HEADERS[1:]
    cells = [_cut(name, first).ljust(first)]
    for position, (text, width) in enumerate(zip(columns, _WIDTHS[1:], strict=True)):
        left = header or position in (0, len(columns) - 1)
        cells.append(text.ljust(width) if left else text.rjust(width))
    return (" " * _GAP).join(cells)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
