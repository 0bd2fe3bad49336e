"""`name=soft[:hard]`: resource limits of processes (setrlimit(2)) as Docker writes them."""

from __future__ import annotations

NAMES = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
)


def parse(text: str) -> tuple[str, int, int]:
    """Name, soft limit, hard limit; -1 is "unlimited". Raises ValueError in Docker's words."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in NAMES:
        raise ValueError(f"invalid ulimit type: {name}")
    parts = value.split(":")
    if len(parts) > 2:
        raise ValueError(f"too many limit value arguments - {value}, can only have up to two, `soft[:hard]`")
    soft = decimal(parts[0])
    hard = decimal(parts[1]) if len(parts) > 1 else soft
    check(soft, hard)
    return name, soft, hard


def check(soft: int, hard: int) -> None:
    """Raises ValueError where the soft limit is above the hard one."""
    if hard != -1 and soft == -1:
        raise ValueError(
            f"ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
        )
    if hard != -1 and soft > hard:
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")


def decimal(text: str) -> int:
    """A number with its sign. Raises ValueError in the words of Go's strconv."""
    try:
        return int(text) if text.isascii() and text == text.strip() and "_" not in text else int("")
    except ValueError:
        from wherry.model.gotext import quote

        raise ValueError(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax") from None
