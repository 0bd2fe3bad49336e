"""SBOMs of more than the result, and by an image that is run to make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.build.client import Client, dockerfile
from tests.build.test_dressing import Layout

STAGES = """ARG BUILDKIT_SBOM_SCAN_STAGE=listed
FROM wt-base AS listed
COPY one /lib/apk/db/installed
FROM wt-base AS own
ARG BUILDKIT_SBOM_SCAN_STAGE=true
RUN echo own > /mark
FROM wt-base AS unasked
ARG BUILDKIT_SBOM_SCAN_STAGE=false
RUN echo unasked > /mark
FROM wt-base
ARG BUILDKIT_SBOM_SCAN_CONTEXT=true
COPY --from=listed /lib/apk/db/installed /a
COPY --from=own /mark /b
COPY --from=unasked /mark /c
"""
GENERATOR = r"""FROM wt-base
ENV KIND=https://spdx.dev/Document
WORKDIR /work
COPY <<'END' /scan
cd $BUILDKIT_SCAN_DESTINATION && test "$PWD" = /run/out || exit 3
for tree in $BUILDKIT_SCAN_SOURCE ${BUILDKIT_SCAN_SOURCE_EXTRAS:+$BUILDKIT_SCAN_SOURCE_EXTRAS*}; do
  touch $tree/x 2>/dev/null && exit 4
  seen=$(cd $tree && ls -d b c mark one 2>/dev/null | tr '\n' ' ')
  echo '{"predicateType": "'$KIND'", "subject": [], "predicate": {"of": "'"$seen"'"}}' > ${tree##*/}.spdx.json
done
END
ENTRYPOINT ["/bin/sh"]
CMD ["/scan"]
"""
SPDX = "https://spdx.dev/Document"


@pytest.fixture
def folder(folder: Path) -> Path:
    (folder / "one").write_text("P:musl\nV:1\nA:x86_64\n\n")
    return folder


@pytest.fixture
def generator(client: Client, tmp_path: Path) -> str:
    place = tmp_path / "generator"
    place.mkdir()
    dockerfile(place, GENERATOR)
    client.build(place, "-t", "wt-generator")
    return "wt-generator"


def predicates(archive: Path) -> list[dict[str, Any]]:
    layout = Layout(archive.read_bytes())
    index = layout.document(layout.index["manifests"][0])
    found = [layout.document(layer) for layer in layout.document(index["manifests"][1])["layers"]]
    image = index["manifests"][0]["digest"].removeprefix("sha256:")
    for each in found:
        assert each["predicateType"] == SPDX and each["subject"][0]["digest"] == {"sha256": image}
    return [each["predicate"] for each in found]


def test_stages_and_the_context(client: Client, folder: Path, tmp_path: Path) -> None:
    """Only those that ask for it and that are built; by the engine itself."""
    dockerfile(folder, STAGES)
    client.build(folder, "--sbom=true", "-t", "wt-scanned:1", "-o", f"type=oci,dest={tmp_path}/out.tar")
    found = predicates(tmp_path / "out.tar")
    assert [each["name"] for each in found] == ["wt-scanned:1", "listed", "own", "context"]
    listed = next(each for each in found if each["name"] == "listed")
    assert "musl" in {each["name"] for each in listed["packages"]}
    argument = ("--build-arg", "BUILDKIT_SBOM_SCAN_STAGE=false")  # the same for all that declare it
    client.build(folder, "--sbom=true", *argument, "-t", "wt-scanned:1", "-o", f"type=oci,dest={tmp_path}/out.tar")
    assert [each["name"] for each in predicates(tmp_path / "out.tar")] == ["wt-scanned:1", "context"]


def test_a_generator(client: Client, folder: Path, tmp_path: Path, generator: str) -> None:
    dockerfile(folder, STAGES)
    sbom = ("--sbom", f"generator={generator}")
    said = client.build(folder, *sbom, "-t", "wt-scanned:1", "-o", f"type=oci,dest={tmp_path}/out.tar").stderr
    assert "generating sbom using docker.io/library/wt-generator:latest" in said
    found = {each["of"] for each in predicates(tmp_path / "out.tar")}
    assert found == {"b c ", "", "mark ", "one "}  # result, `listed`, `own`, the context
    dockerfile(folder, STAGES.replace("FROM wt-base", "FROM --platform=$BUILDPLATFORM wt-base"))
    client.build(folder, *sbom, "--platform=linux/amd64,linux/s390x", "-o", f"type=local,dest={tmp_path}/out")
    names = ["sbom-context", "sbom-listed", "sbom-own", "sbom"]
    assert sorted(path.name for path in (tmp_path / "out/linux_s390x").glob("sbom*")) == sorted(
        f"{name}.spdx.json" for name in names
    )


def test_nothing_is_there_to_be_scanned(client: Client, folder: Path, tmp_path: Path, generator: str) -> None:
    dockerfile(folder, "FROM scratch\nLABEL a=b\n")
    client.build(folder, f"--sbom=generator={generator}", "-o", f"type=oci,dest={tmp_path}/out.tar")
    assert predicates(tmp_path / "out.tar") == [{"of": ""}]


@pytest.mark.parametrize(
    "command, message",
    [
        ('CMD ["/bin/true"]', "the sbom generator wt-bad wrote nothing to /run/out"),
        ('CMD echo "{}" > /run/out/x.json', f"does not match required predicate type {SPDX} (x.json)"),
        ('CMD echo "{" > /run/out/x.json', "cannot decode in-toto statement x.json"),
        ("CMD exit 7", "did not complete successfully: exit code: 7"),
        ("CMD []\nENTRYPOINT []", "does not have cmd"),
    ],
)
def test_generators_that_fail(client: Client, folder: Path, command: str, message: str) -> None:
    dockerfile(folder, f"FROM wt-base\n{command}\n")
    client.build(folder, "-t", "wt-bad")
    dockerfile(folder, "FROM wt-base\nCOPY one /\n")
    assert message in client.build(folder, "--sbom=generator=wt-bad", "-t", "wt-none:1", code=1).stderr
    assert "wt-none" not in json.dumps(client.engine.http.get("/images/json").json())
