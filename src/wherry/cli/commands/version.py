"""`version`: this client and the engine."""

from __future__ import annotations

import os
import sys

from wherry.cli import program
from wherry.cli.context import describe
from wherry.cli.errors import Failure
from wherry.client.engine import NEWEST_API

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context


def machine() -> str:
    """The architecture in Go's names."""
    name = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}.get(name, name)


def run(context: Context) -> int:
    newest = "{}.{}".format(*NEWEST_API)
    server: dict[str, Any] | None = None
    problem = None
    try:
        server = context.engine.get("/version")
    except Exception as error:
        problem = describe(error, context.host)
        if problem is None:
            raise
    if server is not None:
        _local_times(server)
    spoken = context.engine.version or newest
    client = {
        "Platform": {"Name": ""},
        "Version": program.VERSION,
        "ApiVersion": spoken,
        "DefaultAPIVersion": newest,
        "GitCommit": "",
        "PythonVersion": sys.version.split()[0],
        "Os": "linux",
        "Arch": machine(),
        "BuildTime": "",
        "Context": context.name,
    }
    form = context.flags.text("format")
    if form:
        _formatted(form, {"Client": client, "Server": server}, problem)
    else:
        _plain(client, server)
    if problem:
        raise Failure(problem)
    return 0


def _formatted(form: str, versions: dict[str, Any], problem: str | None) -> None:
    from wherry.cli.structs import Struct
    from wherry.model.template import TemplateError, parse

    try:
        template = parse("{{json .}}" if form == "json" else form, name="version")
    except TemplateError as error:
        raise Failure(f"template parsing error: {error}", 64) from None
    try:
        print(template.render(Struct("system.versionInfo", versions)))
    except TemplateError as error:
        if problem:
            return  # which is then what there is to say
        print()
        raise Failure(str(error)) from None


def _plain(client: dict[str, Any], server: dict[str, Any] | None) -> None:
    spoken, newest = client["ApiVersion"], client["DefaultAPIVersion"]
    note = f" (downgraded from {newest})" if spoken != newest else ""
    lines = ["Client:"]
    lines += _fields(
        1,
        {
            "Version": client["Version"],
            "API version": spoken + note,
            "Python version": client["PythonVersion"],
            "OS/Arch": f"{client['Os']}/{client['Arch']}",
            "Context": client["Context"],
        },
    )
    if server is not None:
        platform = (server.get("Platform") or {}).get("Name", "")
        lines += ["", f"Server: {platform}".rstrip()]
        for component in server.get("Components") or ():
            details = dict(component.get("Details") or {})
            lines.append(f" {component['Name']}:")
            lines += _fields(2, _component(component["Name"], component["Version"], details))
    print("\n".join(lines))


def _component(name: str, version: str, details: dict[str, str]) -> dict[str, str]:
    if "ApiVersion" not in details:
        return {"Version": version, **dict(sorted(details.items()))}
    shown = {
        "Version": version,
        "API version": f"{details['ApiVersion']} (minimum version {details.get('MinAPIVersion', '')})",
        "Go version": details.get("GoVersion", ""),
        "Python version": details.get("PythonVersion", ""),
        "Git commit": details.get("GitCommit", ""),
        "Built": details.get("BuildTime", ""),
        "OS/Arch": f"{details.get('Os', '')}/{details.get('Arch', '')}",
        "Experimental": details.get("Experimental", ""),
    }
    return {key: value for key, value in shown.items() if value}


def _local_times(server: dict[str, Any]) -> None:
    """Put the times of building in the form in which they are shown."""
    for place in (server, *(component.get("Details") or {} for component in server.get("Components") or ())):
        if place.get("BuildTime"):
            place["BuildTime"] = _built(place["BuildTime"])


def _built(text: str) -> str:
    import time

    from wherry.model.gotime import parse_rfc3339

    try:
        return time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(parse_rfc3339(text)[0]))
    except ValueError:
        return text


def _fields(indent: int, fields: dict[str, str]) -> list[str]:
    return [f"{' ' * indent}{name + ':':<{19 - indent}} {value}" for name, value in fields.items()]
