"""What is attested about an image that was built, and the documents that carry it.

In-toto statements (in-toto attestation framework, v0.1) are the layers of an attestation manifest, which stands beside
the image's in an index and names it in its annotations (BuildKit, "Image attestation storage").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from wherry.errors import InvalidParameter, NotSupported
from wherry.model.image import digest_of
from wherry.model.manifests import MEDIA_CONFIG, DescribedPlatform, Descriptor, Manifest
from wherry.model.platforms import Platform
from wherry.model.reference import Reference, parse

PROVENANCE, SBOM = "provenance", "sbom"
PREDICATES_PROVENANCE = {"v0.2": "https://slsa.dev/provenance/v0.2", "v1": "https://slsa.dev/provenance/v1"}
"""By the option `version`."""
PREDICATE_SBOM = "https://spdx.dev/Document"
MEDIA_STATEMENT = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v0.1"
_PREDICATE_KEY = "in-toto.io/predicate-type"
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_FILES = {PROVENANCE: "provenance.json", SBOM: "sbom.spdx.json"}
_KNOWN = {
    PROVENANCE: ("mode", "version", "builder-id", "reproducible", "inline-only"),
    SBOM: ("generator", "inline-only"),
}


class Attested(Struct, frozen=True):
    """Something to say of an image: a predicate of a type. `file` is its name where it lies beside files.

    What is `inline` is said of images only. `subjects`, if there are any, is what it is said of instead.
    """

    kind: str
    type: str
    predicate: Any
    file: str
    inline: bool
    subjects: list[dict[str, Any]] = []


def attested(
    kind: str, predicate: Any, options: Mapping[str, str], file: str = "", subjects: Iterable[dict[str, Any]] = ()
) -> Attested:
    """`options` are those of the attestation, checked."""
    version = options.get("version", "v0.2")
    predicate_type = PREDICATES_PROVENANCE[version] if kind == PROVENANCE else PREDICATE_SBOM
    inline = bool(truth(options.get("inline-only", "false")))
    return Attested(kind, predicate_type, predicate, file or _FILES[kind], inline, list(subjects))


def truth(text: str) -> bool | None:
    """As Go reads it (strconv.ParseBool); None if it is neither."""
    return True if text in _TRUE else False if text in _FALSE else None


def check_options(attestations: Mapping[str, Mapping[str, str]]) -> None:
    """Options by type of attestation. Raises InvalidParameter, NotSupported."""
    for kind, options in attestations.items():
        if kind not in _KNOWN:
            raise InvalidParameter(f'unknown attestation type "{kind}"')
        unknown = set(options).difference(_KNOWN[kind])
        if unknown:
            raise NotSupported(f"attestation {kind}: the option {min(unknown)} is not supported by this version")
        for name in ("reproducible", "inline-only"):
            if truth(options.get(name, "false")) is None:
                raise InvalidParameter(f'attestation {kind}: invalid {name} "{options[name]}": true or false')
        if options.get("mode", "min") not in ("min", "max"):
            raise InvalidParameter(f'invalid mode "{options["mode"]}"')
        if options.get("version", "v0.2") not in PREDICATES_PROVENANCE:
            raise InvalidParameter(f"invalid provenance version {options['version']}: v0.2 or v1")
        if generator := options.get("generator"):
            parse(generator)


def purl(name: Reference, platform: Platform) -> str:
    """A package URL of an image (package-url, type docker)."""
    version = f"@{name.tag}" if name.tag else ""
    qualifiers = [f"digest={name.digest}"] if name.digest else []
    qualifiers.append("platform=" + quote(str(platform), safe=""))
    return f"pkg:docker/{name.familiar_name}{version}?{'&'.join(qualifiers)}"


def subjects(names: Iterable[Reference], platform: Platform, digest: str) -> list[dict[str, Any]]:
    """The image with this manifest, under each of its names; without any it is called "_", as by BuildKit."""
    algorithm, _, value = digest.partition(":")
    found = [purl(name, platform) for name in names] or ["_"]
    return [{"name": name, "digest": {algorithm: value}} for name in found]


def statement(attested: Attested, subjects: list[dict[str, Any]]) -> dict[str, Any]:
    """That the predicate is true of the subjects."""
    return {
        "_type": _STATEMENT,
        "predicateType": attested.type,
        "subject": attested.subjects or subjects,
        "predicate": attested.predicate,
    }


def attestation_config(statements: Iterable[bytes]) -> bytes:
    """The configuration of an attestation manifest."""
    rootfs = {"type": "layers", "diff_ids": [digest_of(data) for data in statements]}
    return msgspec.json.encode({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs})


def attestation_manifest(statements: Iterable[tuple[str, bytes]], config: bytes) -> Manifest:
    """Of statements, each with its type of predicate."""
    return Manifest(
        config=Descriptor(MEDIA_CONFIG, digest_of(config), len(config)),
        layers=[
            Descriptor(MEDIA_STATEMENT, digest_of(data), len(data), {_PREDICATE_KEY: kind}) for kind, data in statements
        ],
    )


def attestation_descriptor(document: bytes, media_type: str, subject: str) -> Descriptor:
    """How an index names an attestation manifest; `subject` is the digest of the image's manifest."""
    annotations = {"vnd.docker.reference.digest": subject, "vnd.docker.reference.type": "attestation-manifest"}
    nowhere = DescribedPlatform(architecture="unknown", os="unknown")
    return Descriptor(media_type, digest_of(document), len(document), annotations, nowhere)
