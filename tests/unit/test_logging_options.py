import pytest

from wherry.errors import InvalidParameter, WherryError
from wherry.model.config import LogConfig
from wherry.model.logging_options import LogLimits, limits, validate


@pytest.mark.parametrize(
    ("driver", "options", "expected"),
    [
        ("json-file", {}, LogLimits()),
        ("", {"max-size": "10m", "max-file": "3"}, LogLimits(max_size=10_000_000, max_files=3)),
        ("json-file", {"max-size": "1.5k"}, LogLimits(max_size=1500)),
        ("json-file", {"max-size": "4096", "mode": "blocking", "compress": "false"}, LogLimits(max_size=4096)),
        ("local", {}, LogLimits(max_size=20_000_000, max_files=5)),
        ("json-file", {"compress": "true", "max-size": "1k", "max-file": "2"}, LogLimits(max_size=1000, max_files=2)),
        ("json-file", {"mode": "non-blocking", "max-buffer-size": "4m", "tag": "x", "labels": "a"}, LogLimits()),
        ("none", {}, LogLimits(kept=False)),
    ],
)
def test_limits(driver: str, options: dict[str, str], expected: LogLimits) -> None:
    log = LogConfig(driver, options)
    validate(log)
    assert limits(log) == expected


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"nonsense": "1"}, InvalidParameter, "unknown log opt 'nonsense' for json-file log driver"),
        ({"max-size": "x"}, InvalidParameter, "invalid size: 'x'"),
        ({"max-size": "-1"}, InvalidParameter, "invalid size: '-1'"),
        ({"max-file": "0"}, InvalidParameter, "max-file cannot be less than 1"),
        ({"max-file": "x"}, InvalidParameter, 'strconv.Atoi: parsing "x": invalid syntax'),
        ({"mode": "x"}, InvalidParameter, "logger: logging mode not supported: x"),
        ({"compress": "maybe"}, InvalidParameter, 'strconv.ParseBool: parsing "maybe": invalid syntax'),
        (
            {"compress": "true", "max-size": "1k"},
            InvalidParameter,
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        (
            {"mode": "non-blocking", "max-buffer-size": "4x"},
            InvalidParameter,
            "error parsing option max-buffer-size: invalid size: '4x'",
        ),
        (
            {"max-buffer-size": "4m"},
            InvalidParameter,
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
    ],
)
def test_refused(options: dict[str, str], kind: type[WherryError], message: str) -> None:
    with pytest.raises(kind) as caught:
        validate(LogConfig("json-file", options))
        limits(LogConfig("json-file", options))
    assert str(caught.value) == message
