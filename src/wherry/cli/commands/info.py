"""`info`: the engine and its host."""

from __future__ import annotations

import sys

from wherry.cli import program
from wherry.cli.context import describe
from wherry.cli.errors import Failure
from wherry.cli.humanize import bytes_size
from wherry.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context

    Info = dict[str, Any]


def run(context: Context) -> int:
    form = context.flags.text("format")
    template = _template(form) if form else None
    info: Info = {}
    raw = b""
    problem = None
    try:
        raw = context.engine.finish(context.engine.open("GET", "/info"))
        info = jsontext.loads(raw)
    except Exception as error:
        problem = describe(error, context.host)
        if problem is None:
            raise
    if template is not None:
        _formatted(template, info, problem, context)
        return 0
    lines = ["Client:", f" Version:    {program.VERSION}", f" Context:    {context.name}"]
    lines += [f" Debug Mode: {_word(context.debug)}", "", "Server:"]
    if problem:
        print("\n".join(lines), flush=True)
        raise Failure(problem)
    print("\n".join(lines + server(info) + [""]))
    sys.stdout.flush()
    for warning in info.get("Warnings") or ():
        print(warning, file=sys.stderr)
    return 0


def _template(form: str) -> Any:
    from wherry.model.template import TemplateError, parse

    try:
        return parse("{{json .}}" if form == "json" else form)
    except TemplateError as error:
        raise Failure(f"template parsing error: {error}", 64) from None


def _formatted(template: Any, info: Info, problem: str | None, context: Context) -> None:
    from wherry.cli.structs import server_info
    from wherry.model.template import TemplateError

    client = {"Debug": context.debug, "Version": program.VERSION, "Context": context.name, "Plugins": []}
    try:
        print(template.render(server_info({**info, "ClientInfo": client})))
    except TemplateError as error:
        print()
        raise Failure(str(error)) from None
    if problem:
        raise Failure(problem)


def _word(value: Any) -> str:
    return "true" if value else "false"


def server(info: Info) -> list[str]:
    """The lines about the engine."""
    lines = [f" Containers: {info['Containers']}"]
    lines += [f"  {name}: {info['Containers' + name]}" for name in ("Running", "Paused", "Stopped")]
    lines += [f" Images: {info['Images']}", *_given(info, "ServerVersion", "Server Version")]
    lines += [f" Storage Driver: {info['Driver']}"]
    lines += [f"  {name}: {value}" for name, value in info.get("DriverStatus") or ()]
    lines += _given(info, "LoggingDriver", "Logging Driver")
    lines += _given(info, "CgroupDriver", "Cgroup Driver")
    lines += _given(info, "CgroupVersion", "Cgroup Version")
    lines += _plugins(info.get("Plugins") or {})
    if info.get("CDISpecDirs"):
        lines += [" CDI spec directories:", *[f"  {path}" for path in info["CDISpecDirs"]]]
    lines.append(f" Swarm: {(info.get('Swarm') or {}).get('LocalNodeState', 'inactive')}")
    if info.get("Runtimes"):
        lines.append(f" Runtimes: {' '.join(sorted(info['Runtimes']))}")
        lines.append(f" Default Runtime: {info.get('DefaultRuntime', '')}")
    lines += _components(info)
    lines += _security(info.get("SecurityOptions") or [])
    lines += _given(info, "KernelVersion", "Kernel Version")
    lines += _given(info, "OperatingSystem", "Operating System")
    lines += _given(info, "OSType", "OSType")
    lines += _given(info, "Architecture", "Architecture")
    lines += [f" CPUs: {info['NCPU']}", f" Total Memory: {bytes_size(info['MemTotal'])}"]
    lines += _given(info, "Name", "Name") + _given(info, "ID", "ID")
    lines += [f" {program.TITLE} Root Dir: {info['DockerRootDir']}", f" Debug Mode: {_word(info.get('Debug'))}"]
    if info.get("Debug"):
        lines += [f"  File Descriptors: {info['NFd']}", f"  Goroutines: {info['NGoroutines']}"]
        lines += [f"  System Time: {info['SystemTime']}", f"  EventsListeners: {info['NEventsListener']}"]
    for key, title in (("HttpProxy", "HTTP Proxy"), ("HttpsProxy", "HTTPS Proxy"), ("NoProxy", "No Proxy")):
        lines += _given(info, key, title)
    if info.get("Labels"):
        lines += [" Labels:", *[f"  {label}" for label in info["Labels"]]]
    lines.append(f" Experimental: {_word(info.get('ExperimentalBuild'))}")
    lines += _registries(info.get("RegistryConfig") or {})
    lines.append(f" Live Restore Enabled: {_word(info.get('LiveRestoreEnabled'))}")
    lines += _given(info, "ProductLicense", "Product License")
    return lines


def _given(info: Info, key: str, title: str) -> list[str]:
    return [f" {title}: {info[key]}"] if info.get(key) else []


def _plugins(plugins: Info) -> list[str]:
    lines = [" Plugins:", f"  Volume: {' '.join(plugins.get('Volume') or ())}"]
    lines.append(f"  Network: {' '.join(plugins.get('Network') or ())}")
    if plugins.get("Authorization"):
        lines.append(f"  Authorization: {' '.join(plugins['Authorization'])}")
    lines.append(f"  Log: {' '.join(plugins.get('Log') or ())}")
    return lines


def _components(info: Info) -> list[str]:
    if info.get("OSType") != "linux":
        return []
    lines = [f" Init Binary: {info.get('InitBinary', '')}"]
    for key, title in (("ContainerdCommit", "containerd"), ("RuncCommit", "runc"), ("InitCommit", "init")):
        lines.append(f" {title} version: {(info.get(key) or {}).get('ID', '')}")
    return lines


def _security(options: list[str]) -> list[str]:
    if not options:
        return []
    lines = [" Security Options:"]
    for option in options:
        pairs = [pair.partition("=") for pair in option.split(",")]
        name = next((value for key, _, value in pairs if key == "name"), option)
        lines.append(f"  {name}")
        lines += [f"   {key[:1].upper()}{key[1:]}: {value}" for key, _, value in pairs if key != "name" and value]
    return lines


def _registries(config: Info) -> list[str]:
    insecure = [name for name, index in (config.get("IndexConfigs") or {}).items() if not index.get("Secure")]
    networks = config.get("InsecureRegistryCIDRs") or []
    lines = []
    if insecure or networks:
        lines += [" Insecure Registries:", *[f"  {name}" for name in insecure + networks]]
    if config.get("Mirrors"):
        lines += [" Registry Mirrors:", *[f"  {mirror}" for mirror in config["Mirrors"]]]
    return lines
