"""The attributes that `logs --details` shows."""

from __future__ import annotations

import pytest

from wherry.errors import InvalidParameter
from wherry.model.config import Config, HostConfig, LogConfig
from wherry.model.container import Container, Sandbox
from wherry.model.log_attributes import attributes, encoded


def container(**options: str) -> Container:
    return Container(
        id="1234567890abcdef" * 4,
        name="web",
        created_at=10**9,
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
        ({"tag": "{{upper .Name}} {{len .ContainerEnv}} {{.ContainerLabels.a}}"}, "tag=WEB+4+1"),
        ({"tag": "{{range .ContainerArgs}}[{{.}}]{{end}}"}, "tag=%5Ba%5D%5Bb%5D"),
        ({"tag": "{{.ExtraAttributes nil}}", "labels": "a"}, "a=1,tag=map%5Ba%3A1%5D"),
        ({"tag": "{{.ContainerCreated}} {{.ContainerCreated.Unix}}"}, "tag=1970-01-01+00%3A00%3A01+%2B0000+UTC+1"),
        ({"tag": "{{.Hostname}} {{.LogPath}} {{.DaemonName}}"}, "tag=box+%2Flog+docker"),
        ({"tag": "{{.ImageName}} {{.ImageID}} {{.Command}}"}, "tag=site%3A1+sha256%3Aeeeee+echo+a+b"),
    ],
)
def test_shown(options: dict[str, str], shown: str) -> None:
    made = container(**options)
    assert encoded(attributes(made, log_path="/log", hostname="box")) == shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels_regex": "("}, "error parsing regexp: "),
        ({"env_regex": "["}, "error parsing regexp: "),
        ({"tag": "{{.Name"}, "template: log-tag:1: unclosed action"),
        ({"tag": "{{nope}}"}, 'template: log-tag:1: function "nope" not defined'),
        ({"tag": "x {{.No}}"}, "can't evaluate field No in type *logger.Info"),
    ],
)
def test_refused_at_the_start(options: dict[str, str], message: str) -> None:
    made = container(**options)
    with pytest.raises(InvalidParameter) as refused:
        attributes(made, log_path="/log", hostname="box")
    assert message in str(refused.value)
