"""`--log-driver` and `--log-opt`: which are honoured, and what they come to.

Docker's json-file and local both mean this engine's own log file; they differ in how much of it is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.errors import InvalidParameter
from wherry.model.config import LogConfig

OURS = frozenset({"", "json-file", "local"})

_KNOWN = {
    "json-file": frozenset({"max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"}),
    "local": frozenset({"max-file", "max-size", "compress"}),
}
_COMMON = frozenset({"mode", "max-buffer-size"})

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_SIZE = re.compile(r"(\d+)(?:\.(\d+))? ?([kmgtp]?)(?:i?b)?\Z", re.IGNORECASE | re.ASCII)
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


@dataclass(frozen=True)
class LogLimits:
    """How much of a container's output is kept. `max_size` is bytes a file, 0 for no limit; `max_files` counts all."""

    kept: bool = True  # False for the driver "none": `logs` has nothing to show
    max_size: int = 0
    max_files: int = 1


_DEFAULTS = {"json-file": LogLimits(), "local": LogLimits(max_size=20_000_000, max_files=5)}


def parse_size(text: str) -> int:
    """Bytes of "10m", "1.5g", "512": powers of 1000. Raises InvalidParameter, "invalid size: 'x'"."""
    matched = _SIZE.match(text)
    if not matched:
        raise InvalidParameter(f"invalid size: '{text}'")
    whole, fraction, unit = matched.groups()
    return int(float(f"{whole}.{fraction or 0}") * 1000 ** _UNITS[unit.lower()])


def validate(log: LogConfig) -> None:
    """Raises InvalidParameter in Docker's words for an unknown driver or option.

    `mode=non-blocking` is what this engine always does, without losing anything: the monitor writes to a file, and no
    reader holds it up; so the size of a buffer changes nothing. `compress` bounds the same: see `wherry.storage.logs`.

    What the values come to is found out at start, as in Docker: see `limits`.
    """
    if log.type == "none":
        return
    if log.type not in OURS:
        raise InvalidParameter(f'error looking up logging plugin {log.type}: plugin "{log.type}" not found')
    driver = log.type or "json-file"
    options = log.config or {}
    for name in sorted(options):
        if name not in _KNOWN[driver] | _COMMON:
            what = "log driver local" if driver == "local" else "json-file log driver"
            raise InvalidParameter(f"unknown log opt '{name}' for {what}")
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options and mode != "non-blocking":
        raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    try:
        parse_size(options.get("max-buffer-size", "0"))
    except InvalidParameter as error:
        raise InvalidParameter(f"error parsing option max-buffer-size: {error}") from None


def limits(log: LogConfig) -> LogLimits:
    """What a validated configuration comes to. Raises InvalidParameter for a malformed number."""
    if log.type == "none":
        return LogLimits(kept=False)
    options = log.config or {}
    default = _DEFAULTS[log.type or "json-file"]
    size = parse_size(options["max-size"]) if "max-size" in options else default.max_size
    if "max-size" in options and size <= 0:
        raise InvalidParameter("max-size must be a positive number")
    files = default.max_files
    if (written := options.get("max-file")) is not None:
        if not re.fullmatch(r"[+-]?\d{1,9}", written, re.ASCII):
            raise InvalidParameter(f'strconv.Atoi: parsing "{written}": invalid syntax')
        files = int(written)
        if files < 1:
            raise InvalidParameter("max-file cannot be less than 1")
    compress = options.get("compress", "true" if log.type == "local" else "false")
    if compress not in _TRUE | _FALSE:
        raise InvalidParameter(f'strconv.ParseBool: parsing "{compress}": invalid syntax')
    if compress in _TRUE and log.type == "local" and files == 1:
        raise InvalidParameter("compression cannot be enabled when max file count is 1")
    if compress in _TRUE and log.type != "local" and (files < 2 or not size):
        raise InvalidParameter("compress cannot be true when max-file is less than 2 or max-size is not set")
    return LogLimits(True, size, files)
