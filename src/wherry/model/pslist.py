"""What ps(1) prints, and the part of it that is a container's (ContainerTop of API 1.45)."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from wherry.errors import SystemFailure

DEFAULT = "-ef"
_RENAMED = re.compile(r"\s+(\S*)=\s*(PID\S*)")  # a column's title in -o, `comm=PID`


@dataclass(frozen=True)
class ProcessList:
    """A table: its titles, and as many texts a row."""

    titles: list[str]
    processes: list[list[str]] | None


def check_arguments(written: str) -> None:
    """Raises SystemFailure where another column would be taken for the PIDs."""
    for column, title in _RENAMED.findall(written):
        if column != "pid":
            raise SystemFailure(f'specifying "{column}={title}" is not allowed')


def select(output: str, pids: Collection[int]) -> ProcessList:
    """The rows of these PIDs. Rows with `-` for a PID are threads of the process above them.

    Raises SystemFailure without a column PID, or where it has other things than numbers.
    """
    first, *rest = output.split("\n")
    titles = first.split()
    if "PID" not in titles:
        raise SystemFailure("Couldn't find PID field in ps output")
    column, last = titles.index("PID"), len(titles) - 1
    chosen: list[list[str]] = []
    inside = False
    for line in rest:
        words = line.split()
        if len(words) <= column:
            continue
        if words[column] != "-":
            if not words[column].isdigit():
                raise SystemFailure(f"Unexpected pid '{words[column]}': it is no number")
            inside = int(words[column]) in pids
        if inside:
            chosen.append([*words[:last], " ".join(words[last:])])
    return ProcessList(titles, chosen or None)
