"""The attributes that `logs --details` shows."""

from __future__ import annotations

import pytest

from wherry.errors import InvalidParameter, NotSupported
from wherry.model.config import Config, HostConfig, LogConfig
from wherry.model.container import Container, Sandbox
from wherry.model.log_attributes import attributes, encoded, validate


def container(**options: str) -> Container:
    return Container(
        id="1234567890abcdef" * 4,
        name="web",
        created_at=0,
        image="sha256:" + "e" * 64,
        image_ref="site:1",
        chain_id="",
        path="echo",
        args=["a", "b"],
        config=Config(labels={"a": "1", "ab": "2", "c/d": "e f&,="}, env=["X=1", "XY=ü", "E=", "BARE"]),
        host=HostConfig(log_config=LogConfig("json-file", {key.replace("_", "-"): v for key, v in options.items()})),
        sandbox=Sandbox(id="", mode="none"),
    )


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, ""),
        ({"labels": "c/d,a,nope"}, "a=1,c%2Fd=e+f%26%2C%3D"),
        ({"env": "XY,E,BARE"}, "E=,XY=%C3%BC"),
        ({"labels_regex": "^a", "env_regex": "Y$"}, "XY=%C3%BC,a=1,ab=2"),
        ({"labels": "a", "labels_regex": ".", "env": "", "env_regex": ""}, "a=1,ab=2,c%2Fd=e+f%26%2C%3D"),
        ({"tag": ""}, ""),
        ({"tag": "x"}, "tag=x"),
        ({"tag": "{{.Name}}/{{ .ID }}"}, "tag=web%2F1234567890ab"),
        ({"tag": "{{.ImageName}} {{.ImageID}} {{.Command}}"}, "tag=site%3A1+sha256%3Aeeeee+echo+a+b"),
    ],
)
def test_shown(options: dict[str, str], shown: str) -> None:
    made = container(**options)
    validate(made.host.log_config)
    assert encoded(attributes(made)) == shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels_regex": "("}, "error parsing regexp: "),
        ({"env_regex": "["}, "error parsing regexp: "),
        ({"tag": "{{.Name"}, "template: log-tag:1: unclosed action"),
        ({"tag": "x {{.No}}"}, "can't evaluate field No in type *logger.Info"),
    ],
)
def test_refused_at_the_start(options: dict[str, str], message: str) -> None:
    made = container(**options)
    validate(made.host.log_config)
    with pytest.raises(InvalidParameter) as refused:
        attributes(made)
    assert message in str(refused.value)


def test_other_templates_are_refused_at_once() -> None:
    with pytest.raises(NotSupported, match="only fields"):
        validate(container(tag='{{join .Args ","}}').host.log_config)
