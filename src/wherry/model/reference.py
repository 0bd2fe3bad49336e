"""Image references: the grammar of the distribution project and Docker's short forms.

Grammar: distribution/reference, "Grammar" in its package documentation. `nginx` is short for
`docker.io/library/nginx:latest`; what a user sees is the short form again ("familiar").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from wherry.errors import InvalidParameter

DEFAULT_DOMAIN = "docker.io"
_OLD_DEFAULT_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_PATH_MAX = 255

_ALNUM = r"[a-z0-9]+"
_COMPONENT = rf"{_ALNUM}(?:(?:[._]|__|-+){_ALNUM})*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_TAG_ONLY = re.compile(_TAG)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


@dataclass(frozen=True)
class Reference:
    """A normalised reference. `tag` and `digest` ("sha256:...") are empty where not given."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The full repository name: docker.io/library/nginx."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as Docker shows it: nginx."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        short = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in short else short

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def canonical(self) -> str:
        """The full form, the key under which records keep it."""
        return self.name + self._suffix

    @property
    def familiar(self) -> str:
        """The form Docker shows and takes: nginx:1.25."""
        return self.familiar_name + self._suffix

    def with_default_tag(self) -> Reference:
        """`:latest` added where neither tag nor digest is given."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    def with_tag(self, tag: str) -> Reference:
        """This repository with that tag alone. Raises InvalidParameter."""
        if not _TAG_ONLY.fullmatch(tag):
            raise InvalidParameter("invalid tag format")
        return replace(self, tag=tag, digest="")

    def without_tag(self) -> Reference:
        """As the records key a digest reference: a digest names the content, so a tag beside it says nothing more."""
        return replace(self, tag="") if self.digest else self


def parse(text: str) -> Reference:
    """Parse and normalise, as a user may write it. Raises InvalidParameter in Docker's words."""
    if _IDENTIFIER.fullmatch(text):
        raise InvalidParameter(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    repository = remainder.split(":", 1)[0]
    if repository.lower() != repository:
        raise InvalidParameter(f"invalid reference format: repository name ({repository}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise InvalidParameter("invalid reference format")
    if len(match["path"].removeprefix(_OFFICIAL) if domain == DEFAULT_DOMAIN else match["path"]) > _PATH_MAX:
        raise InvalidParameter(f"repository name must not be more than {_PATH_MAX} characters")
    if match["digest"]:
        check_digest(match["digest"])
    return Reference(match["domain"], match["path"], match["tag"] or "", match["digest"] or "")


def parse_any(text: str) -> Reference | str:
    """A reference, or the digest that a full ID stands for ("sha256:..."). Raises InvalidParameter."""
    if _IDENTIFIER.fullmatch(text):
        return f"sha256:{text}"
    if is_digest(text):
        return text
    return parse(text)


def parse_target(repository: str, tag: str) -> Reference:
    """The name that the API's `repo` and `tag` give: `latest` implied, a digest refused. Raises InvalidParameter."""
    reference = parse(repository)
    if reference.digest:
        raise InvalidParameter("cannot import digest reference")
    return reference.with_tag(tag) if tag else reference.with_default_tag()


def is_digest(text: str) -> bool:
    """A complete digest of a known algorithm."""
    algorithm, _, value = text.partition(":")
    return len(value) == _DIGEST_LENGTHS.get(algorithm, -1) and re.fullmatch(r"[a-f0-9]+", value) is not None


def check_digest(text: str) -> None:
    """Raises InvalidParameter for a digest that is none, in the words of opencontainers/go-digest."""
    algorithm, colon, value = text.partition(":")
    if not colon or re.fullmatch(r"[A-Fa-f0-9]+", value) is None:
        raise InvalidParameter("invalid checksum digest format")
    if algorithm not in _DIGEST_LENGTHS:
        raise InvalidParameter("unsupported digest algorithm")
    if len(value) != _DIGEST_LENGTHS[algorithm]:
        raise InvalidParameter("invalid checksum digest length")
    if not is_digest(text):
        raise InvalidParameter("invalid checksum digest format")


def short_id(digest: str) -> str:
    """The twelve digits people see."""
    return digest.partition(":")[2][:12] or digest[:12]


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    is_host = bool(slash) and (any(c in first for c in ".:") or first == "localhost" or first.lower() != first)
    domain, remainder = (first, rest) if is_host else (DEFAULT_DOMAIN, text)
    if domain == _OLD_DEFAULT_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder
