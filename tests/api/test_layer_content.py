"""What an engine makes of a layer: for any content, what GNU tar makes of the same archive."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.engine import Engine
from tests.support.images import Entry, base_tar, docker_archive, folder
from tests.support.layer_strategy import entries, packed
from tests.support.trees import inventory

_CAPABILITY = "security.capability"


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries(), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_as_gnu_tar_unpacks_it(engine: Engine, members: list[Entry], form: int) -> None:
    """Times to the second, since Docker's export tells no more; none before 1970, which are 1970 there."""
    layer = packed([folder("k"), *map(_apart, members)], form)
    assert b"Loaded" in engine.load(docker_archive([base_tar(), layer], ["wt-any:1"], Cmd=["true"])).body
    container = engine.create(Image="wt-any:1")
    exported = engine.http.get(f"/containers/{container}/export").body
    engine.tidy()
    assert engine.http.delete("/images/wt-any:1").status == 200
    with tempfile.TemporaryDirectory() as place:
        command = ["tar", "-x", "-p", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner"]
        command += ["--delay-directory-restore", "-C", place]
        subprocess.run(command, input=layer, check=True, capture_output=True)
        expected = {name: _kept(one) for name, one in inventory(Path(place)).items() if name != "."}
        subprocess.run(["find", place, "-type", "d", "-exec", "chmod", "u+rwx", "{}", "+"], check=True)
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
            names = {member.name.rstrip("/") for member in archive}
        subprocess.run([*command[:-1], place], input=exported, check=True, capture_output=True)
        found = {name: _kept(one) for name, one in inventory(Path(place)).items() if name in expected}
    assert expected.keys() <= names
    assert found == expected


def _apart(member: Entry) -> Entry:
    """In a folder of its own, away from the base image."""
    link = f"k/{member.link}" if member.kind == tarfile.LNKTYPE else member.link
    return replace(member, name=f"k/{member.name}", link=link, mtime=max(0, member.mtime))


def _kept(one: dict[str, Any]) -> dict[str, Any]:
    """What is exported of a file."""
    xattrs = {name: value for name, value in one["xattrs"].items() if name == _CAPABILITY}
    return {**one, "mtime": one["mtime"] // 1_000_000_000, "xattrs": xattrs, "same as": bool(one.get("same as"))}
