"""Samples to medians, ratios and verdicts. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One kind of work. `at_most` and `reach` are ratios to the base engine; None where none is asked for.

    What is not compared between engines has `columns`: the names of its samples, the first being the base.
    """

    key: str
    title: str
    unit: str  # ms, MB or 1/s
    at_most: float | None = None
    reach: float | None = None
    columns: tuple[str, ...] = ()

    @property
    def more_is_better(self) -> bool:
        return self.unit == "1/s"


@dataclass(frozen=True)
class Summary:
    median: float
    low: float  # first quartile
    high: float  # third quartile
    count: int


def summarize(samples: Sequence[float]) -> Summary:
    """Raises ValueError without samples."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    if len(ordered) == 1:
        return Summary(ordered[0], ordered[0], ordered[0], 1)
    low, median, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return Summary(median, low, high, len(ordered))


def ratio(item: Item, engine: float, base: float) -> float:
    """How much of the base engine's cost this one has: below 1 is better, also where more of the unit is better."""
    mine, other = (base, engine) if item.more_is_better else (engine, base)
    return mine / other if other else float("inf")


def verdict(item: Item, value: float) -> str:
    if item.reach is not None and value <= item.reach:
        return "reached"
    if item.at_most is None:
        return ""
    return "ok" if value <= item.at_most else "MISSED"


def turns(engines: Sequence[str], rounds: int) -> list[tuple[int, str]]:
    """Who is measured when: A B A B, with round 0 to warm up."""
    return [(number, engine) for number in range(rounds + 1) for engine in engines]


Results = Mapping[str, Mapping[str, Sequence[float]]]  # samples by item key and engine


def rows(items: Sequence[Item], results: Results, engines: Sequence[str], base: str) -> list[list[str]]:
    """The table, header first."""
    others = [engine for engine in engines if engine != base]
    header = ["work", "unit", *engines]
    for engine in others:
        header += [f"{engine}/{base}" if len(others) > 1 else "ratio"]
    header += ["at most", "reach", ""] if others else []
    table = [header]
    for item in items:
        medians = {engine: summarize(samples).median for engine, samples in results.get(item.key, {}).items()}
        if not medians:
            continue
        row = [item.title, item.unit, *(_number(medians.get(engine)) for engine in engines)]
        verdicts = []
        for engine in others:
            if engine in medians and base in medians:
                value = ratio(item, medians[engine], medians[base])
                row.append(f"{value:.3f}")
                verdicts.append(verdict(item, value))
            else:
                row.append("")
        if others:
            row += [_goal(item.at_most), _goal(item.reach), " ".join(verdicts)]
        table.append(row)
    return table


def markdown(table: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _goal(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
