"""`build --check` and `build --plan`: what is printed, exit codes, and base images that nobody knows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from wherry.cli import buildplans
from wherry.cli.errors import Failure
from wherry.client.engine import EngineError
from wherry.model.dockerfile.options import PlanOptions

IMAGE = {
    "Architecture": "amd64",
    "Os": "linux",
    "Config": {"Env": ["PATH=/bin", "X=from-base"], "OnBuild": ["RUN trigger"]},
    "RootFS": {"Layers": ["sha256:1"]},
}


class Engine:
    def get(self, path: str) -> Any:
        if path == "/images/docker.io/library/base:latest/json":
            return IMAGE
        raise EngineError(404, f"No such image: {path}")


class Starter:
    """Has the image that the documentation's example begins with."""

    def get(self, path: str) -> Any:
        assert path == "/images/docker.io/library/starter:latest/json"
        return {**IMAGE, "Config": {"Env": ["PATH=/usr/bin:/bin"]}}


DOCS = Path(__file__).parents[3] / "docs"
OPTIONS = PlanOptions(buildplans.platforms.Platform("linux", "amd64"))


def test_findings_are_shown_as_buildx_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    data = b"FROM base as Big\nRUN x\n"
    assert buildplans.check(Engine(), data, "Dockerfile", OPTIONS) == 1  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert out.replace("     \n", "     {end}\n") == (
        """\
Check complete, 2 warnings have been found!

WARNING: FromAsCasing - https://docs.docker.com/go/dockerfile/rule/from-as-casing/
'as' and 'FROM' keywords' casing do not match
Dockerfile:1
--------------------
   1 | >>> FROM base as Big
   2 |     RUN x
   3 |     {end}
--------------------

WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'Big' should be lowercase
Dockerfile:1
--------------------
   1 | >>> FROM base as Big
   2 |     RUN x
   3 |     {end}
--------------------
"""
    )
    assert err == ""


def test_nothing_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert buildplans.check(Engine(), b"FROM base\n", "Dockerfile", OPTIONS) == 0  # type: ignore[arg-type]
    assert capsys.readouterr().out == "Check complete, no warnings found.\n"


def test_a_file_that_cannot_be_built() -> None:
    with pytest.raises(Failure) as caught:
        buildplans.check(Engine(), b"FROM base\nRUNN x", "Dockerfile", OPTIONS)  # type: ignore[arg-type]
    assert caught.value.code == 1
    assert caught.value.text.endswith(
        "ERROR: failed to build: failed to solve: "
        "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)"
    )
    assert "   2 | >>> RUNN x" in caught.value.text


def test_the_plan_knows_the_base_images_triggers(capsys: pytest.CaptureFixture[str]) -> None:
    data = b"FROM base\nCOPY a $X\n"
    assert buildplans.show(Engine(), data, "Dockerfile", OPTIONS) == 0  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" " * 7)] == [
        "  1  image  [1/3] FROM docker.io/library/base:latest",
        "  2  exec <- 1  [2/3] ONBUILD RUN trigger",
        "  3  local  [internal] load build context",
        "  4  file <- 2, 3  [3/3] COPY a from-base",
    ]


def test_an_unknown_base_image_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    data = b"FROM unknown:1\nRUN x\n"
    assert buildplans.show(Engine(), data, "Dockerfile", OPTIONS) == 0  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert "exec <- 1  [2/2] RUN x" in out
    assert err == "The engine does not know unknown:1: its environment and triggers are not in this.\n"


def test_a_drawing(capsys: pytest.CaptureFixture[str]) -> None:
    data = b'FROM base AS b\nRUN "x" <y\nFROM scratch\nCOPY --from=b /o /\n'
    buildplans.show(Engine(), data, "Dockerfile", OPTIONS, "mermaid")  # type: ignore[arg-type]
    assert (
        capsys.readouterr().out
        == """\
flowchart TD
    v2(["[b 1/3] FROM docker.io/library/base:latest"])
    v3["[b 2/3] ONBUILD RUN trigger"]
    v2 ==> v3
    v4["[b 3/3] RUN #quot;x#quot; #lt;y"]
    v3 ==> v4
    v5["[stage-1 1/1] COPY --from=b /o /"]
    v4 --> v5
"""
    )


@pytest.mark.parametrize(("form", "fence"), [("mermaid", "mermaid"), ("text", "")])
def test_the_example_that_is_drawn_in_the_documentation(
    form: str, fence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    section = (DOCS / "build.md").read_text().partition("## An example\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    shown = dict(blocks)
    data = shown["dockerfile"].encode()
    assert buildplans.show(Starter(), data, "Dockerfile", OPTIONS, form) == 0  # type: ignore[arg-type]
    assert capsys.readouterr().out == shown[fence]
