import pytest

from wherry.errors import InvalidParameter, NotSupported, WherryError
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
        ({"tag": "x"}, NotSupported, "log option tag is not supported by this engine yet"),
    ],
)
def test_refused(options: dict[str, str], kind: type[WherryError], message: str) -> None:
    with pytest.raises(kind) as caught:
        validate(LogConfig("json-file", options))
        limits(LogConfig("json-file", options))
    assert str(caught.value) == message
