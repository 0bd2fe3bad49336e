"""SBOMs by an image that makes them: a process that sees what was built and writes what it found.

Source: BuildKit's documentation, "SBOM Scanning Protocol" and "SBOMs". The process finds the file tree of the result
below /run/src/core, those of other stages below /run/src/extras, and writes in-toto statements to /run/out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from wherry.errors import InvalidParameter
from wherry.model.attestations import PREDICATE_SBOM
from wherry.model.build_graph import Bind, Exec, File, ImageSource, MakeDir, Vertex
from wherry.model.dockerfile.options import BaseImage
from wherry.model.platforms import Platform

OUT = "run/out"
_CORE, _EXTRAS = "/run/src/core/sbom", "/run/src/extras"


def scan(generator: BaseImage, host: Platform, result: Vertex, extras: Mapping[str, Vertex]) -> Vertex:
    """The generator's process, with what it scans as its inputs. Raises InvalidParameter: it has none."""
    config: Mapping[str, Any] = generator.document.get("config") or {}
    args = (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ()))
    if not args:
        raise InvalidParameter(f"scanner {generator.reference} does not have cmd")
    image = Vertex(ImageSource(generator.reference, host), name=f"[sbom] FROM {generator.reference}")
    base = Vertex(File((MakeDir(f"/{OUT}", parents=True),)), (image,), name="[sbom] a place for what it finds")
    targets = [(_CORE, result), *((f"{_EXTRAS}/sbom-{name}", vertex) for name, vertex in extras.items())]
    env = [*(config.get("Env") or ()), f"BUILDKIT_SCAN_DESTINATION=/{OUT}/", f"BUILDKIT_SCAN_SOURCE={_CORE}"]
    if extras:
        env.append(f"BUILDKIT_SCAN_SOURCE_EXTRAS={_EXTRAS}/")
    process = Exec(
        args,
        env=tuple(env),
        cwd=config.get("WorkingDir") or "/",
        mounts=tuple(Bind(target, number) for number, (target, _) in enumerate(targets, start=1)),
    )
    return Vertex(
        process, (base, *(vertex for _, vertex in targets)), name=f"generating sbom using {generator.reference}"
    )


def read_statement(name: str, data: bytes) -> tuple[Any, list[dict[str, Any]]]:
    """The predicate of a statement that the generator wrote, and its subjects if it names any.

    Raises InvalidParameter.
    """
    try:
        statement = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"cannot decode in-toto statement {name} of the sbom generator: {error}") from None
    kind = statement.get("predicateType", "") if isinstance(statement, dict) else ""
    if kind != PREDICATE_SBOM:
        raise InvalidParameter(f"bundle entry {kind} does not match required predicate type {PREDICATE_SBOM} ({name})")
    subjects = statement.get("subject") or []
    if not isinstance(subjects, list):
        raise InvalidParameter(f"cannot decode in-toto statement {name} of the sbom generator: its subject is no list")
    return statement.get("predicate"), subjects
