"""The values of flags that are more than text: sizes, durations, maps, mounts, networks, limits, devices.

`accept` is called for every kind that flags.py does not know itself. Each parser takes the text of one value and raises
ValueError with docker's words. Kept apart, and imported only when such a flag is given.
"""

from __future__ import annotations

from wherry.cli.flags import parse_bool, parse_int
from wherry.model.sizes import ram_in_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def accept(kind: str, shown: str, values: dict[str, Any], name: str, text: str) -> None:
    """Put the value `text` of a flag of `kind` into `values` under `name`. Raises ValueError."""
    parser = PARSERS.get(kind)
    if parser is None:
        raise KeyError(kind)
    if kind == "filter":
        if text:
            key, value = parser(text)
            kept = values.setdefault(name, {}).setdefault(key, [])
            if value not in kept:
                kept.append(value)
    elif kind == "strings":
        values.setdefault(name, []).extend(parser(text))
    elif shown == "map":
        key, value = parser(text)
        values.setdefault(name, {})[key] = value
    elif shown in ("list", "mount", "network", "gpu-request"):
        values.setdefault(name, []).append(parser(text))
    elif kind == "stringToString":
        values.setdefault(name, {}).update(parser(text))
    elif kind == "ulimit":
        limit = parser(text)
        values.setdefault(name, {})[limit["Name"]] = limit
    else:
        values[name] = parser(text)


def _unsigned16(text: str) -> int:
    return parse_int(text, 16, signed=False)


def _swap(text: str) -> int:
    return -1 if text == "-1" else ram_in_bytes(text)


def nano_cpus(text: str) -> int:
    """A rational number of CPUs in billionths."""
    from fractions import Fraction

    try:
        value = Fraction(text) * 10**9
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if value.denominator != 1:
        raise ValueError("value is too precise")
    return int(value)


def _duration(text: str) -> int:
    from wherry.model.gotime import parse_duration

    return parse_duration(text)


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


_SYSCTLS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


def _sysctl(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not (key in _SYSCTLS or key.startswith(("net.", "fs.mqueue."))):
        raise ValueError(f"sysctl '{text}' is not allowed")
    return key, value


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    return key.strip().lower(), value.strip()


def _stream(text: str) -> str:
    if text.lower() not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def _environment(text: str) -> str:
    """NAME=value, or NAME to take it from the client's environment (kept as NAME alone where it is not set)."""
    import os

    name, equals, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text}")
    if not equals and name in os.environ:
        return f"{name}={os.environ[name]}"
    return text


def _label(text: str) -> str:
    key = text.partition("=")[0].lstrip(" \t")
    if not key:
        raise ValueError(f"invalid label '{text}': empty name")
    if " " in key or "\t" in key:
        raise ValueError(f"label '{key}' contains whitespaces")
    return text


def ip_address(text: str) -> str:
    """An address in its normal form, "" if it is none."""
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            return _socket.inet_ntop(family, _socket.inet_pton(family, text))
        except OSError:
            continue
    return ""


def _ip(text: str) -> str:
    address = ip_address(text.strip())
    if not address:
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return address


def _domain(text: str) -> str:
    text = text.strip(" ")
    if text == ".":
        return text
    name = text.rstrip().removesuffix(".")
    parts = name.split(".")
    fine = all(p and p.isascii() and p.replace("-", "").isalnum() and p[0] != "-" and p[-1] != "-" for p in parts)
    if not fine or not any(char.isalpha() for char in name) or len(name) >= 255:
        raise ValueError(f"{text} is not a valid domain")
    return name


def _extra_host(text: str) -> str:
    name, separator, address = text.partition("=") if "=" in text else text.partition(":")
    if not separator or not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    if len(address) > 2 and address[0] == "[" and address[-1] == "]":
        address = address[1:-1]
    if address != "host-gateway" and not ip_address(address):
        raise ValueError(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"


def _link(text: str) -> str:
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return text


def _split_device(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def _weight_device(text: str) -> dict[str, Any]:
    path, value = _split_device(text)
    if not value.isdecimal() or (int(value) > 0 and not 10 <= int(value) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(value)}


def _rate_device(text: str) -> dict[str, Any]:
    path, value = _split_device(text)
    try:
        rate = ram_in_bytes(value)
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. "
            "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ) from None
    return {"Path": path, "Rate": rate}


def _iops_device(text: str) -> dict[str, Any]:
    path, value = _split_device(text)
    if not value.isdecimal():
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. "
            "Number must be a positive integer"
        )
    return {"Path": path, "Rate": int(value)}


def _device_rule(text: str) -> str:
    words = text.split(" ")
    numbers = words[1].split(":") if len(words) == 3 else []
    if (
        len(words) != 3
        or words[0] not in ("a", "b", "c")
        or len(numbers) != 2
        or not all(number == "*" or number.isdecimal() for number in numbers)
        or not 1 <= len(words[2]) <= 3
        or not set(words[2]) <= set("rwm")
    ):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def _ulimit(text: str) -> dict[str, Any]:
    from wherry.model.ulimits import parse

    name, soft, hard = parse(text)
    return {"Name": name, "Hard": hard, "Soft": soft}


def _string_to_string(text: str) -> dict[str, str]:
    pairs = [field.partition("=") for field in csv_fields(text)]
    if any(not equals for _, equals, _ in pairs):
        raise ValueError(f"{next(key for key, equals, _ in pairs if not equals)} must be formatted as key=value")
    return {key: value for key, _, value in pairs}


def csv_fields(text: str) -> list[str]:
    """One record of comma-separated fields, some of them quoted."""
    if '"' not in text:
        return text.split(",")
    import csv

    return next(csv.reader([text], strict=True))


def _bool_field(key: str, text: str) -> bool:
    try:
        return parse_bool(text)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {text}") from None


_RECURSION: dict[str, dict[str, bool]] = {
    "enabled": {},
    "disabled": {"NonRecursive": True},
    "writable": {"ReadOnlyNonRecursive": True},
    "readonly": {"ReadOnlyForceRecursive": True},
}


def mount(text: str) -> dict[str, Any]:
    """One --mount in the API's form."""
    made: dict[str, Any] = {"Type": "volume", "Source": "", "Target": ""}
    options: dict[str, dict[str, Any]] = {}
    if not text:
        raise ValueError("value is empty")
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals:
            if key not in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive"):
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        _mount_field(made, options, key, value, field)
    if not made["Type"]:
        raise ValueError("type is required")
    if not made["Target"] and made["Type"] != "cluster":
        raise ValueError("target is required")
    for name in ("volume", "bind", "tmpfs", "image"):
        if name in options and made["Type"] != name:
            raise ValueError(f"cannot mix '{name}-*' options with mount type '{made['Type']}'")
    bind = options.get("bind", {})
    if bind.get("ReadOnlyNonRecursive") and not made.get("ReadOnly"):
        raise ValueError("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive"):
        if not made.get("ReadOnly"):
            raise ValueError("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
        if bind.get("Propagation") != "rprivate":
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
            )
    for name, found in options.items():
        made[f"{name.title()}Options"] = found
    return {key: value for key, value in made.items() if value != ""}


def _mount_field(made: dict[str, Any], options: dict[str, dict[str, Any]], key: str, value: str, field: str) -> None:
    def of(kind: str) -> dict[str, Any]:
        fresh: dict[str, Any] = {"DriverConfig": {}} if kind == "volume" else {}
        return options.setdefault(kind, fresh)

    if key == "type":
        made["Type"] = value.lower()
    elif key in ("source", "src"):
        made["Source"] = absolute(value) if value == "." or value.startswith("./") else value
    elif key in ("target", "dst", "destination"):
        made["Target"] = value
    elif key in ("readonly", "ro"):
        if _bool_field(key, value):
            made["ReadOnly"] = True
        else:
            made.pop("ReadOnly", None)
    elif key == "consistency":
        made["Consistency"] = value.lower()
    elif key == "bind-propagation":
        of("bind")["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        if _bool_field(key, value):
            of("bind")["NonRecursive"] = True
    elif key == "bind-recursive":
        if value not in _RECURSION:
            choices = '"enabled", "disabled", "writable", or "readonly"'
            raise ValueError(f"invalid value for {key}: {value} (must be {choices})")
        of("bind").update(_RECURSION[value])
    elif key == "volume-subpath":
        of("volume")["Subpath"] = value
    elif key == "volume-nocopy":
        if _bool_field(key, value):
            of("volume")["NoCopy"] = True
    elif key == "volume-label":
        name, _, text = value.partition("=")
        if name:
            of("volume").setdefault("Labels", {})[name] = text
    elif key == "volume-driver":
        of("volume")["DriverConfig"]["Name"] = value
    elif key == "volume-opt":
        name, _, text = value.partition("=")
        found = of("volume")["DriverConfig"].setdefault("Options", {})
        if name:
            found[name] = text
    elif key == "image-subpath":
        of("image")["Subpath"] = value
    elif key == "tmpfs-size":
        try:
            of("tmpfs")["SizeBytes"] = ram_in_bytes(value)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None
    elif key == "tmpfs-mode":
        if not value or not set(value) <= set("01234567"):
            raise ValueError(f"invalid value for {key}: {value}")
        of("tmpfs")["Mode"] = int(value, 8)
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def absolute(path: str) -> str:
    import os

    return os.path.abspath(path)


def network(text: str) -> dict[str, Any]:
    """One --network: a name, or name=...,alias=...,ip=... in its parts."""
    found: dict[str, Any] = {"Target": text, "Aliases": [], "LinkLocalIPs": [], "DriverOpts": {}}
    name, equals, _ = text.partition("=")
    if not equals and "," not in text and name != "":
        return found
    found["Target"] = ""
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        key, value = key.strip().lower(), value.strip()
        if not equals:
            raise ValueError(f"invalid field {field}")
        if key == "name":
            found["Target"] = value
        elif key == "alias":
            found["Aliases"].append(value)
        elif key in ("ip", "ip6", "mac-address"):
            found[{"ip": "IPv4", "ip6": "IPv6", "mac-address": "MacAddress"}[key]] = value
        elif key == "link-local-ip":
            found["LinkLocalIPs"].append(value)
        elif key == "driver-opt":
            option, separator, chosen = value.partition("=")
            if not separator:
                raise ValueError("invalid key value pair format in driver options")
            found["DriverOpts"][option.strip().lower()] = chosen.strip()
        elif key == "gw-priority":
            from wherry.model.ulimits import decimal

            found["GwPriority"] = decimal(value)
        else:
            raise ValueError(f"invalid field key {key}")
    if not found["Target"]:
        raise ValueError("network name/id is not specified")
    return found


def _gpu_count(text: str) -> int:
    if text == "all":
        return -1
    from wherry.model.ulimits import decimal

    try:
        return decimal(text)
    except ValueError:
        raise ValueError(f'invalid count ({text}): value must be either "all" or an integer: invalid syntax') from None


def gpus(text: str) -> dict[str, Any]:
    """One --gpus as a device request."""
    made: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": None, "Options": {}}
    seen: set[str] = set()
    capabilities: list[str] = []
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        if not equals:
            key, value = "count", field
        if key in seen:
            raise ValueError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        if key == "driver":
            made["Driver"] = value
        elif key == "count":
            made["Count"] = _gpu_count(value)
        elif key == "device":
            made["DeviceIDs"] = value.split(",")
        elif key == "capabilities":
            capabilities = value.split(",")
        elif key == "options":
            made["Options"] = dict(_pair(option) for option in csv_fields(value))
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    if "gpu" not in capabilities:
        capabilities.append("gpu")
    made["Capabilities"] = [capabilities]
    if "count" not in seen and made["DeviceIDs"] is None:
        made["Count"] = 1
    return made


PARSERS: dict[str, Callable[[str], Any]] = {
    "bytes": ram_in_bytes,
    "bytes/swap": _swap,
    "decimal": nano_cpus,
    "duration": _duration,
    "filter": _filter,
    "gpu-request": gpus,
    "list/device-rule": _device_rule,
    "list/domain": _domain,
    "list/env": _environment,
    "list/host": _extra_host,
    "list/iops": _iops_device,
    "list/ip": _ip,
    "list/label": _label,
    "list/link": _link,
    "list/rate": _rate_device,
    "list/stream": _stream,
    "list/weight-device": _weight_device,
    "map": _pair,
    "map/sysctl": _sysctl,
    "mount": mount,
    "network": network,
    "string/optional": str,
    "strings": csv_fields,
    "uint16": _unsigned16,
    "stringToString": _string_to_string,
    "ulimit": _ulimit,
}
