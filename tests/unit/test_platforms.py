"""What runs on what, as containerd's `Only` orders it."""

import pytest

from wherry.model.platforms import Platform, parse

AMD64 = Platform("linux", "amd64")


@pytest.mark.parametrize(
    ("platform", "runs"),
    [
        ("linux/amd64", ["linux/amd64", "linux/386"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("linux/arm64", ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/v6", ["linux/arm/v6", "linux/arm/v5"]),
        ("linux/s390x", ["linux/s390x"]),
        ("windows/amd64", ["windows/amd64", "windows/386"]),
    ],
)
def test_what_a_platform_runs_best_first(platform: str, runs: list[str]) -> None:
    assert [str(found) for found in parse(platform, AMD64).runs()] == runs


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        (Platform("linux", "aarch64"), "linux/arm64"),
        (Platform("linux", "arm64", "v8"), "linux/arm64"),
        (Platform("linux", "x86_64", "v1"), "linux/amd64"),
        (Platform("macos", "arm64"), "darwin/arm64"),
    ],
)
def test_names_are_normalised(given: Platform, normal: str) -> None:
    assert str(given.normal()) == normal
