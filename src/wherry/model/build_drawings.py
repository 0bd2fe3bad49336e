"""A build's graph as a drawing: a flowchart in Mermaid's notation, which forges and editors show as a picture."""

from __future__ import annotations

from wherry.model.build_graph import Scratch, Vertex, kind, ordered, uses

_SHAPES = {"image": ('(["', '"])'), "local": ('[("', '")]'), "http": ('[("', '")]'), "git": ('[("', '")]')}
_BOX = ('["', '"]')
_NAME_MAX = 60


def mermaid(target: Vertex) -> str:
    """One box a vertex. A thick arrow leads to what goes on from a tree, a thin one to what takes files from it."""
    lines = ["flowchart TD"]
    numbers: dict[Vertex, int] = {}
    for vertex in ordered(target):
        numbers[vertex] = len(numbers) + 1
        if isinstance(vertex.operation, Scratch):
            continue
        opening, closing = _SHAPES.get(kind(vertex.operation), _BOX)
        lines.append(f"    v{numbers[vertex]}{opening}{_escaped(vertex.name or kind(vertex.operation))}{closing}")
        used = uses(vertex.operation)
        for index, other in enumerate(vertex.inputs):
            if isinstance(other.operation, Scratch) or (used and index not in used):
                continue
            arrow = "==>" if index == 0 else "-->"
            lines.append(f"    v{numbers[other]} {arrow} v{numbers[vertex]}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    line = text.split("\n")[0]
    short = line if len(line) <= _NAME_MAX else line[: _NAME_MAX - 1] + "…"
    return short.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
