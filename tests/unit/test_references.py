"""References: Docker's short forms and its words for what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter
from wherry.model.reference import Reference, is_digest, parse, parse_any, parse_target

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("written", "canonical", "familiar"),
    [
        ("nginx", "docker.io/library/nginx", "nginx"),
        ("nginx:1.25", "docker.io/library/nginx:1.25", "nginx:1.25"),
        ("library/nginx", "docker.io/library/nginx", "nginx"),
        ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
        ("index.docker.io/nginx:1", "docker.io/library/nginx:1", "nginx:1"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("host.example/a__b/c-d--e.f", "host.example/a__b/c-d--e.f", "host.example/a__b/c-d--e.f"),
        ("UPPER/app", "UPPER/app", "UPPER/app"),  # a capital makes it a host
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}", f"app@{DIGEST}"),
        (f"app:1@{DIGEST}", f"docker.io/library/app:1@{DIGEST}", f"app:1@{DIGEST}"),
    ],
)
def test_normal_forms(written: str, canonical: str, familiar: str) -> None:
    reference = parse(written)
    assert (reference.canonical, reference.familiar) == (canonical, familiar)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "invalid reference format"),
        ("BAD", "invalid reference format: repository name (library/BAD) must be lowercase"),
        ("a/BAD", "invalid reference format: repository name (a/BAD) must be lowercase"),
        ("a:b:c", "invalid reference format"),
        ("a:bad tag", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a@sha256:123", "invalid reference format"),
        ("a@sha256:" + "0" * 63, "invalid checksum digest length"),
        ("a@md9:" + "0" * 64, "unsupported digest algorithm"),
        ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("a" * 256, "repository name must not be more than 255 characters"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a\n", "invalid reference format"),
    ],
)
def test_refusals(written: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse(written)
    assert str(caught.value) == message


def test_any_reference_knows_whole_ids() -> None:
    assert parse_any(DIGEST) == DIGEST
    assert parse_any(DIGEST.removeprefix("sha256:")) == DIGEST
    assert parse_any("sha256:abcd") == Reference("docker.io", "library/sha256", "abcd")


def test_targets() -> None:
    assert parse_target("app", "").familiar == "app:latest"
    assert parse_target("app:1", "").familiar == "app:1"
    assert parse_target("app:1", "2").familiar == "app:2"
    with pytest.raises(InvalidParameter, match="cannot import digest reference"):
        parse_target(f"app@{DIGEST}", "")
    with pytest.raises(InvalidParameter, match="invalid tag format"):
        parse_target("app", "b d")


_word = st.text(alphabet="ab01", min_size=1, max_size=4)
_component = st.lists(_word, min_size=1, max_size=3).map("-".join) | st.tuples(_word, _word).map("__".join)
_tag = st.tuples(st.sampled_from("aZ0_"), st.text(alphabet="aZ0_.-", max_size=8)).map("".join)
_domain = st.sampled_from(["", "docker.io/", "localhost/", "localhost:5000/", "registry.example/", "r.example:443/"])


@given(_domain, st.lists(_component, min_size=1, max_size=4), st.one_of(st.just(""), _tag), st.booleans())
def test_both_forms_mean_the_same(domain: str, components: list[str], tag: str, digest: bool) -> None:
    written = domain + "/".join(components) + (f":{tag}" if tag else "") + (f"@{DIGEST}" if digest else "")
    try:
        reference = parse(written)
    except InvalidParameter as error:
        assert "64-byte hexadecimal" in str(error)
        return
    assert parse(reference.canonical) == reference
    assert parse(reference.familiar) == reference
    assert (reference.tag, bool(reference.digest)) == (tag, digest)


@given(st.text(max_size=80))
def test_anything_is_understood_or_refused(text: str) -> None:
    try:
        reference = parse_any(text)
    except InvalidParameter:
        return
    if isinstance(reference, str):
        assert is_digest(reference)
    else:
        assert parse(reference.canonical) == reference
