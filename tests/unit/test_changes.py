"""`--change`: what each instruction does to a configuration, and the words of each refusal, as the real engine's."""

from typing import Any

import pytest

from wherry.errors import InvalidParameter
from wherry.model.changes import apply_changes
from wherry.model.config import Config
from wherry.model.image import config_json


def changed(*changes: str) -> dict[str, Any]:
    shown = config_json(apply_changes(Config(), changes))
    return {name: value for name, value in shown.items() if value}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["a", "b c"]', {"Cmd": ["a", "b c"]}),
        ("cmd echo $HOME", {"Cmd": ["/bin/sh", "-c", "echo $HOME"]}),
        ('CMD ["a"', {"Cmd": ["/bin/sh", "-c", '["a"']}),
        ("CMD", {"Cmd": ["/bin/sh", "-c"]}),
        ("ENTRYPOINT []", {}),
        ("ENTRYPOINT echo x", {"Entrypoint": ["/bin/sh", "-c", "echo x"]}),
        ("ENV a b c", {"Env": ["a=b c"]}),
        ("ENV A=1 B=${A:-x}", {"Env": ["A=1", "B=x"]}),
        ("ENV A='x y' B=a\\ b C=\"d e\"", {"Env": ["A=x y", "B=a b", "C=d e"]}),
        ("ENV A=$A", {"Env": ["A="]}),
        ("EXPOSE 80-82/udp", {"ExposedPorts": {"80/udp": {}, "81/udp": {}, "82/udp": {}}}),
        ('LABEL a=b c="d e"', {"Labels": {"a": "b", "c": "d e"}}),
        ("LABEL a b", {"Labels": {"a": "b"}}),
        ("USER a b", {"User": "a b"}),
        ("WORKDIR rel", {"WorkingDir": "/rel"}),
        ("WORKDIR /a/../b/", {"WorkingDir": "/b"}),
        ("VOLUME a b", {"Volumes": {"a": {}, "b": {}}}),
        ('VOLUME ["/a", "/b c"]', {"Volumes": {"/a": {}, "/b c": {}}}),
        ("STOPSIGNAL 9", {"StopSignal": "9"}),
        ("ONBUILD RUN x", {"OnBuild": ["RUN x"]}),
    ],
)
def test_instructions(change: str, expected: dict[str, Any]) -> None:
    assert changed(change) == expected


def test_healthchecks() -> None:
    check = apply_changes(Config(), ['HEALTHCHECK --interval=5s --retries=3 CMD ["x"]']).healthcheck
    assert check is not None
    assert (check.test, check.interval, check.retries) == (["CMD", "x"], 5_000_000_000, 3)
    none = apply_changes(Config(), ["HEALTHCHECK NONE"]).healthcheck
    assert none is not None and none.test == ["NONE"]


def test_later_changes_build_on_earlier_ones() -> None:
    assert changed("ENV A=1 B=2", "ENV A=3", "WORKDIR /a", "WORKDIR b") == {"Env": ["A=3", "B=2"], "WorkingDir": "/a/b"}
    assert changed("ENV A=1", "LABEL x=$A-${A}y") == {"Env": ["A=1"], "Labels": {"x": "1-1y"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("NONSENSE x", "NONSENSE is not a valid change command"),
        ("RUN x", "RUN is not a valid change command"),
        ("", "file with no instructions"),
        ("# only a comment", "file with no instructions"),
        ("EXPOSE x", "Invalid containerPort: x"),
        ("EXPOSE 80/foo", "Invalid proto: foo"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV", "ENV requires at least one argument"),
        ('ENV A=b "C=d e"', 'failed to process "\\"C": unexpected end of statement while looking for matching'
         " double-quote"),
        ("USER", "USER requires exactly one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("STOPSIGNAL FOO", "invalid signal: FOO"),
        ("HEALTHCHECK foo", 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK --interval=5 CMD x", 'time: missing unit in duration "5"'),
        ("HEALTHCHECK --interval=1us CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
    ],
)  # fmt: skip
def test_refusals(change: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        changed(change)
    assert str(caught.value) == message
