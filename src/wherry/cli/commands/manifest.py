"""`manifest inspect`: what a registry has under a name, as the engine fetches it."""

from __future__ import annotations

import base64

from wherry.cli import program
from wherry.cli.credentials import header
from wherry.cli.errors import Failure
from wherry.client.engine import EngineError
from wherry.model.gotext import escape
from wherry.model.jsontext import dumps, indent, loads, loads_exact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

    from wherry.cli.context import Context

_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


def inspect(context: Context) -> int:
    from wherry.errors import WherryError
    from wherry.model.reference import parse

    image = context.arguments[-1]
    try:
        reference = parse(image).with_default_tag()
    except WherryError as error:
        raise Failure(str(error)) from None
    if len(context.arguments) > 1:  # of a list that is being put together on this machine, which is not done here
        raise Failure(f"No such manifest: {reference.canonical}")
    query = {"manifests": True, "insecure": context.flags.on("insecure") or None}
    try:
        response = context.engine.open(
            "GET", f"/distribution/{escape(reference.familiar, '/:@')}/json", query, headers=header(image)
        )
    except EngineError as error:
        if error.status == 404:
            raise Failure(f"no such manifest: {reference.familiar}") from None
        raise Failure(error.message) from None
    found = loads(context.engine.finish(response))
    if "Manifest" not in found:
        raise Failure(f"this engine does not tell manifests: 'manifest inspect' needs one of {program.TITLE}")
    print(_verbose(reference.familiar, found) if context.flags.on("verbose") else _plain(found))
    return 0


def _plain(found: Object) -> str:
    raw = base64.b64decode(found["Manifest"])
    if found.get("Manifests") is None:
        return indent(raw.decode("utf-8", "replace").strip(), "\t")
    document = loads_exact(raw)
    document["manifests"] = [_ordered(entry) for entry in document.get("manifests") or []]
    return indent(dumps(document, sort=False), "   ")


def _verbose(name: str, found: Object) -> str:
    if found.get("Manifests") is None:
        platform = (found.get("Platforms") or [None])[0]
        entry = _entry(name, found["Descriptor"], platform, found["Manifest"])
        return _escaped(indent(dumps(entry, sort=False), "\t"))
    entries = [
        _entry(f"{name}@{each['Descriptor']['digest']}", each["Descriptor"], None, each["Manifest"])
        for each in found["Manifests"]
    ]
    return _escaped(indent(dumps(entries, sort=False), "\t"))


def _entry(name: str, descriptor: Object, platform: Object | None, raw: str) -> Object:
    document = loads_exact(base64.b64decode(raw))
    shown = {**descriptor, **({"platform": platform} if platform else {})}
    kind = "SchemaV2Manifest" if descriptor.get("mediaType") == _DOCKER else "OCIManifest"
    return {"Ref": name, "Descriptor": shown, "Raw": raw, kind: document}


def _ordered(entry: Object) -> Object:
    """In the order in which docker shows a descriptor, with nothing lost."""
    first: Object = {name: entry[name] for name in ("mediaType", "size", "digest") if name in entry}
    last = {name: entry[name] for name in ("platform",) if name in entry}
    return {**first, **{name: value for name, value in entry.items() if name != "platform"}, **last}


def _escaped(text: str) -> str:
    """As Go writes JSON: what means something in HTML is told by its number."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
