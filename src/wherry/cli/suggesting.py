"""What somebody may have meant by a word that is not known."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], mark: str = "") -> str:
    """Lines to add to an error, naming the likeliest words, each after `mark`; "" where nothing is near."""
    allowed = max(1, min(2, len(word) // 3))
    distances = sorted((distance(word, other), other) for other in set(known) if other != word)
    near = [other for far, other in distances if far <= allowed and far == distances[0][0]]
    if not near:
        return ""
    return "\n\nDid you mean " + " or ".join(f"{mark}{other}" for other in near[:3]) + "?"


def distance(first: str, second: str) -> int:
    """How many letters to change, add, drop or swap with their neighbour (optimal string alignment)."""
    rows = [list(range(len(second) + 1))]
    for i, a in enumerate(first, 1):
        row = [i]
        for j, b in enumerate(second, 1):
            best = min(rows[-1][j] + 1, row[j - 1] + 1, rows[-1][j - 1] + (a != b))
            if i > 1 and j > 1 and a == second[j - 2] and first[i - 2] == b:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
