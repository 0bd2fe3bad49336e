"""Which packages a root filesystem has, as the databases of package managers tell; and the list of them in SPDX.

Sources: deb-control(5) for dpkg's status; Alpine's apk-package(5) for apk's installed; the core metadata of Python
packages (PEP 566); SPDX 2.3 in JSON; package-url for the types deb, apk and pypi.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from msgspec import Struct

Json = dict[str, Any]

_NO_LICENSE = "NOASSERTION"


class Package(Struct, frozen=True, order=True):
    """`kind` is the package URL's type, `namespace` a distribution's name; `found_in` the database's path."""

    kind: str
    name: str
    version: str
    namespace: str = ""
    architecture: str = ""
    license: str = ""
    found_in: str = ""

    @property
    def url(self) -> str:
        namespace = f"/{quote(self.namespace)}" if self.namespace else ""
        architecture = f"?arch={quote(self.architecture)}" if self.architecture else ""
        return f"pkg:{self.kind}{namespace}/{quote(self.name)}@{quote(self.version)}{architecture}"


def distribution(os_release: str) -> str:
    """The ID that os-release(5) gives, "linux" where it gives none."""
    for line in os_release.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "ID":
            return value.strip().strip("\"'").lower() or "linux"
    return "linux"


def debian(status: str, namespace: str, found_in: str) -> list[Package]:
    """Those that are installed, of a dpkg status file or one of its parts, which has no Status."""
    found = []
    for fields in _paragraphs(status):
        state = fields.get("status", "install ok installed").split()
        if state[-1] == "installed" and fields.get("package") and fields.get("version"):
            name, version, architecture = fields["package"], fields["version"], fields.get("architecture", "")
            found.append(Package("deb", name, version, namespace, architecture, "", found_in))
    return found


def alpine(installed: str, namespace: str, found_in: str) -> list[Package]:
    """Those of apk's database: a letter and a colon before each value."""
    found = []
    for block in installed.split("\n\n"):
        fields = {line[0]: line[2:] for line in block.splitlines() if line[1:2] == ":" and line[0] in "PVAL"}
        if "P" in fields and "V" in fields:
            architecture, license = fields.get("A", ""), fields.get("L", "")
            found.append(Package("apk", fields["P"], fields["V"], namespace, architecture, license, found_in))
    return found


def python(metadata: str, found_in: str) -> list[Package]:
    """The package of a METADATA file: its headers end at the first empty line."""
    fields = next(_paragraphs(metadata), {})
    if not fields.get("name") or not fields.get("version"):
        return []
    name = fields["name"].lower().replace("_", "-").replace(".", "-")
    license = fields.get("license-expression", "")
    return [Package("pypi", name, fields["version"], license=license, found_in=found_in)]


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Fields in lower case; lines that go on with a space are left out."""
    fields: dict[str, str] = {}
    for line in (*text.splitlines(), ""):
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif not line[0].isspace():
            key, separator, value = line.partition(":")
            if separator:
                fields.setdefault(key.lower(), value.strip())


def spdx(packages: Iterable[Package], name: str, created: str, creator: str) -> Json:
    """An SPDX document; `name` is what is described, `created` RFC 3339. The same input, the same document."""
    found = sorted(set(packages))
    described = [_described(package) for package in found]
    content = "\n".join([name, *(f"{package.url} {package.found_in}" for package in found)])
    root: Json = {
        "SPDXID": "SPDXRef-DocumentRoot",
        "name": name,
        "downloadLocation": _NO_LICENSE,
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
    }
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"urn:wherry:sbom:{hashlib.sha256(content.encode()).hexdigest()}",
        "creationInfo": {"creators": [f"Tool: {creator}"], "created": created},
        "packages": [root, *described],
        "relationships": [
            _related("SPDXRef-DOCUMENT", "DESCRIBES", root["SPDXID"]),
            *(_related(root["SPDXID"], "CONTAINS", each["SPDXID"]) for each in described),
        ],
    }


def _described(package: Package) -> Json:
    key = hashlib.sha256(f"{package.url} {package.found_in}".encode()).hexdigest()[:16]
    safe = "".join(char if char.isascii() and char.isalnum() else "-" for char in package.name)
    reference = {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": package.url,
    }
    found: Json = {
        "SPDXID": f"SPDXRef-Package-{package.kind}-{safe}-{key}",
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": _NO_LICENSE,
        "filesAnalyzed": False,
        "licenseConcluded": _NO_LICENSE,
        "licenseDeclared": _NO_LICENSE,
        "sourceInfo": f"found in {package.found_in}",
        "externalRefs": [reference],
    }
    return found | ({"licenseComments": package.license} if package.license else {})


def _related(one: str, how: str, other: str) -> Json:
    return {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}
