"""What came out, as a table, as JSON and as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bench.arithmetic import Item, Results, markdown, ratio, rows, summarize

_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd")


def tables(items: Sequence[Item], results: Results, engines: Sequence[str], base: str) -> str:
    """All tables, in Markdown."""
    compared = [item for item in items if not item.columns]
    parts = [markdown(rows(compared, results, engines, base))] if compared else []
    alone = [item for item in items if item.columns and item.key in results]
    parts += [markdown(rows([item], results, item.columns, item.columns[0])) for item in alone]
    return "\n\n".join(parts)


def as_json(
    items: Sequence[Item], results: Results, engines: Sequence[str], base: str, machine: Mapping[str, Any], command: str
) -> dict[str, Any]:
    """Every sample, with its median, quartiles and ratio."""
    work = []
    for item in items:
        entry: dict[str, Any] = {"key": item.key, "title": item.title, "unit": item.unit}
        entry |= {"at_most": item.at_most, "reach": item.reach, "engines": {}}
        first = item.columns[0] if item.columns else base
        for name, samples in results.get(item.key, {}).items():
            summary = summarize(samples)
            measured: dict[str, Any] = {"median": summary.median, "quartiles": [summary.low, summary.high]}
            if first in results[item.key]:
                measured["ratio"] = ratio(item, summary.median, summarize(results[item.key][first]).median)
            entry["engines"][name] = measured | {"samples": list(samples)}
        work.append(entry)
    return {"command": command, "base": base, "machine": dict(machine), "work": work}


def svg(items: Sequence[Item], results: Results, engines: Sequence[str], base: str) -> str:
    """Ratios to the base engine as bars: 1 is the base, shorter is better; a mark shows what is asked for."""
    others = [engine for engine in engines if engine != base]
    shown = [item for item in items if base in results.get(item.key, {}) and not item.columns]
    left, width, step = 380, 480, 18
    row = step * max(1, len(others)) + 8
    height = 60 + row * len(shown)
    top = max([1.0, *(value for item in shown for _, value in _ratios(item, results, others, base))])
    scale = width / (top * 1.05)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 80}" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="8" y="20">cost as a ratio to {escape(base)}</text>',
    ]
    for index, engine in enumerate(others):
        out.append(f'<text x="{left + 120 * index}" y="20" fill="{_COLOURS[index % 4]}">■ {escape(engine)}</text>')
    one = left + scale
    out.append(f'<line x1="{one:.1f}" x2="{one:.1f}" y1="30" y2="{height - 10}" stroke="#888" stroke-dasharray="3"/>')
    for at, item in enumerate(shown):
        y = 36 + at * row
        out.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(item.title)}</text>')
        for index, (engine, value) in enumerate(_ratios(item, results, others, base)):
            colour = _COLOURS[others.index(engine) % 4]
            bar = y + index * step
            out.append(f'<rect x="{left}" y="{bar}" width="{value * scale:.1f}" height="{step - 4}" fill="{colour}"/>')
            out.append(f'<text x="{left + value * scale + 4:.1f}" y="{bar + 12}">{value:.2f}</text>')
        if item.at_most is not None:
            x = left + item.at_most * scale
            out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 2}" y2="{y + row - 8}" stroke="#d62728"/>')
    return "\n".join([*out, "</svg>", ""])


def _ratios(item: Item, results: Results, engines: Sequence[str], base: str) -> list[tuple[str, float]]:
    samples = results[item.key]
    other = summarize(samples[base]).median
    return [(engine, ratio(item, summarize(samples[engine]).median, other)) for engine in engines if engine in samples]
