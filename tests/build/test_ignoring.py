"""Which files of a context stay out: our rules against what BuildKit copies."""
# ruff: noqa: E501

from __future__ import annotations

from pathlib import Path

import pytest

from tests.build.buildkit import BuildKit
from tests.build.cases import Case, Made
from wherry.model.dockerfile.ignore import IgnoreRules, read_patterns

PATHS = (
    "a a.txt b.md .hidden dir/a dir/a.txt dir/sub/a.txt dir/sub/b.md dir/sub/deep/c.txt other/dir/a.txt other/x[1] "
    "other/[ab] node_modules/m/index.js src/node_modules/m/x src/keep/x src/main.c abc/d axc/d foo/bar/foo foofoo/x "
    "dira/a dirb/b x/y/z/w é/ü xfoo y.foo back\\slash sp/a#b"
).split()

PATTERNS = (
    "a", "/a", "a/", "./a", "dir", "dir/", "/dir/", "dir/*", "dir/**", "dir/*/a.txt", "*.txt", "**/*.txt", "**/a.txt",
    "**/dir", "**/dir/**", "dir/**/*.txt", "**", "*", "*/*", "*/*/*", "**/*/*", "?", "a?c", "a?c/d", "[ab]", "[a-b]*", "[^a]*",
    "dir[ab]", "dir[^a]", "other/x\\[1\\]", "other/\\[ab\\]", "other/[[]ab]", "**/node_modules", "node_modules",
    "src/*/m", "**/m/*", "foo**", "**foo", "f**/foo", "x/**/w", "x/**/z/**", "**/**/w", "x**w", "x/y/../y/z", "..", ".",
    "//dir//sub", "dir/./sub", ".*", ".hidden", "é", "é/?", "**/ü", "back\\\\slash", "sp/a#b", "#a", " a ", "*\\\\slash",
    "*\n!a", "*\n!dir", "*\n!dir/sub/a.txt", "*\n!**/a.txt", "dir\n!dir/a", "dir\n!dir/sub", "**\n!**/*.txt", "**/*.txt\n!dir/**",
    "dir/sub\n!dir/sub/deep/c.txt\n", "*\n!dir\ndir/sub", "dir\n!dir\ndir/a", "!a", "*\n!*/\n", "*.txt\n!/a.txt", "dir/*\n!dir/sub/",
    "**/sub\n!**/deep", "*\n!src/main.c\n!src/keep", "* \n! dir", "*\n!d*/s*/d*", "**/.hidden\n**/[b-c]*",
)  # fmt: skip


def ours(patterns: str) -> set[str]:
    """The files that our rules leave, by a walk as the client does it."""
    rules = IgnoreRules(read_patterns(patterns))
    left = set()
    for path in PATHS:
        matched = rules.root
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            here = "/".join(parts[:depth])
            matched = rules.enter(here, matched)
            if matched.ignored and depth < len(parts) and not rules.may_hold_exceptions(here):
                break
        if not matched.ignored:
            left.add(path)
        assert matched.ignored == rules.ignores(path), path
    return left


def test_what_is_left_is_what_buildkit_copies(buildkit: BuildKit, tmp_path: Path) -> None:
    """All patterns in one build: each has a context of its own with its ignore file, and a folder in the image."""
    files = {path: Made(b"x") for path in PATHS}
    contexts = {f"c{number}": {**files, ".dockerignore": Made(text.encode())} for number, text in enumerate(PATTERNS)}
    lines = ["FROM scratch", *(f"COPY --from={name} . /{name}/" for name in contexts)]
    built = buildkit.build(Case("ignoring", "\n".join(lines) + "\n", contexts=contexts), tmp_path)
    found: dict[str, set[str]] = {name: set() for name in contexts}
    for path, entry in built.tree.items():
        name, _, rest = path.partition("/")
        if entry["kind"] == "file" and not rest.endswith(".dockerignore"):
            found[name].add(rest)
    wrong = {
        text: (sorted(ours(text) - theirs), sorted(theirs - ours(text)))
        for text, theirs in zip(PATTERNS, found.values(), strict=True)
        if ours(text) != theirs
    }
    assert wrong == {}
    assert len({frozenset(theirs) for theirs in found.values()}) > len(PATTERNS) / 2


@pytest.mark.parametrize("pattern", ["[", "a[", "[]", "[a-]", "[-a]", "a\\", "!", "[b-a", "[^]"])
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(Exception, match=r"illegal exclusion pattern|error parsing pattern"):
        IgnoreRules(read_patterns(pattern))
