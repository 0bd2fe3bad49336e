"""What no tracked file may hold."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FORBIDDEN = {
    "an address in a lock file": (re.compile(r"://|--(extra-)?index-url|--find-links"), r"requirements/.*"),
    "a package index's host": (re.compile(r"\b(pypi\.org|pythonhosted\.org|deb\.debian\.org|npmjs\.org)\b"), r".*"),
    "a stub": (re.compile(r"\b(TODO|FIXME|XXX)\b"), r"(src|tools|bench)/.*"),
    "a merge conflict": (re.compile(r"^(<{7}|>{7}) ", re.MULTILINE), r".*"),
}
"""What it is -> (pattern, files in which it is looked for). This file is exempt."""


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_holds(what: str) -> None:
    pattern, where = FORBIDDEN[what]
    found = []
    for path in tracked():
        name = str(path.relative_to(ROOT))
        if path == Path(__file__) or not re.fullmatch(where, name):
            continue
        text = path.read_text(errors="replace")
        found += [f"{name}:{text.count(chr(10), 0, m.start()) + 1}: {m.group()!r}" for m in pattern.finditer(text)]
    assert not found, "\n".join(found)


def test_no_tracked_file_names_the_checkout() -> None:
    here = str(ROOT)
    if here.count("/") < 2:  # "/wherry" is also a good name for other things
        here = f"{here}/src"
    assert not [path for path in tracked() if here in path.read_text(errors="replace")]


def test_a_lock_file_has_a_hash_for_every_requirement() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text().replace("\\\n", " ")
        assert all("--hash=sha256:" in line for line in text.splitlines() if line), path.name
