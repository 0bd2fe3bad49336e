"""Progress as Docker's clients show it: a bar, sizes in decimal units. Arithmetic only."""

from __future__ import annotations


def progress_bar(current: int, total: int) -> str:
    """Docker's bar: fifty places and the sizes."""
    done = min(current * 50 // total, 50)
    bar = "=" * done + ">" + " " * (50 - done)
    return f"[{bar[:51]}] {human_size(current):>8}/{human_size(total)}"


def human_size(size: float) -> str:
    """Four significant digits, decimal units (go-units HumanSize)."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            return f"{size:.4g}{unit}"
        size /= 1000
    return f"{size:.4g}EB"
