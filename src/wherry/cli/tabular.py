"""Columns of text, aligned as Go's text/tabwriter does it with the settings Docker uses.

A cell is text that ends in a tab; a column is a run of neighbouring lines that have a cell at the same place; its width
is its widest cell plus the padding, at least the minimum. What follows the last tab of a line is not aligned.
"""

from __future__ import annotations

from wherry.model.visible import visible


def align(text: str, minimum: int = 10, padding: int = 3) -> str:
    """`text` with its tabs turned into aligned columns."""
    lines = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[] for _ in lines]
    _measure(lines, widths, 0, len(lines), 0, minimum, padding)
    out = []
    for cells, sizes in zip(lines, widths, strict=True):
        out.append("".join([cell.ljust(size) for cell, size in zip(cells, sizes, strict=False)]) + cells[-1])
    return "\n".join(out)


def _measure(
    lines: list[list[str]], widths: list[list[int]], first: int, end: int, column: int, minimum: int, padding: int
) -> None:
    line = first
    while line < end:
        if column >= len(lines[line]) - 1:
            line += 1
            continue
        start, width = line, minimum
        while line < end and column < len(lines[line]) - 1:
            cell = lines[line][column]
            width = max(width, len(cell) + padding)
            line += 1
        for row in range(start, line):
            widths[row].append(width)
        _measure(lines, widths, start, line, column + 1, minimum, padding)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table with its header; every row has as many cells as the header."""
    lines = [header, *([visible(cell) for cell in row] for row in rows)]
    columns = range(len(header) - 1)
    widths = [max(10, max([len(line[column]) for line in lines]) + 3) for column in columns]
    return "".join(
        ["".join([line[c].ljust(widths[c]) for c in columns]) + line[-1] + "\n" for line in lines],
    )
