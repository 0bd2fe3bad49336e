"""From the flags of `run` and `create` to the body of POST /containers/create, checked as docker's client checks."""

from __future__ import annotations

import os

from wherry.cli import portspecs
from wherry.cli.values import absolute, ip_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.flags import Flags


class BadOption(Exception):
    """The flags contradict each other or one is malformed. `str()` is the reason."""


def body(flags: Flags, image: str, command: list[str]) -> dict[str, Any]:
    """The whole body: Config with HostConfig and NetworkingConfig inside. Raises BadOption."""
    address = flags.text("mac-address")
    if address and not _mac_address(address):
        raise BadOption(f"{address} is not a valid mac address")
    swappiness = flags.number("memory-swappiness", -1)
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise BadOption(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    try:
        exposed, bindings = portspecs.parse(flags.items("publish"), flags.items("expose"))
    except ValueError as error:
        raise BadOption(str(error)) from None
    binds, volumes = _volumes(flags.items("volume"))
    config = _config(flags, image, command)
    if exposed:
        config["ExposedPorts"] = {port: {} for port in exposed}
    config["Volumes"] = {target: {} for target in volumes}
    host = _host(flags)
    host["Binds"] = binds or None
    host["PortBindings"] = bindings
    host["Mounts"] = flags.items("mount") or None
    host["NetworkMode"], endpoints = _networks(flags)
    if host["Mounts"] is None:
        del host["Mounts"]
    return {**config, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints}}


def _mac_address(text: str) -> bool:
    for separator, digits in ((":", 2), ("-", 2), (".", 4)):
        parts = text.strip().split(separator)
        if len(parts) * digits in (12, 16, 40) and all(
            len(part) == digits and all(char in "0123456789abcdefABCDEF" for char in part) for part in parts
        ):
            return True
    return False


def _config(flags: Flags, image: str, command: list[str]) -> dict[str, Any]:
    attach = flags.items("attach")
    interactive = flags.on("interactive")
    stdin = "stdin" in attach or interactive
    config: dict[str, Any] = {
        "Hostname": flags.text("hostname"),
        "Domainname": flags.text("domainname"),
        "User": flags.text("user"),
        "AttachStdin": stdin,
        "AttachStdout": not attach or "stdout" in attach,
        "AttachStderr": not attach or "stderr" in attach,
        "Tty": flags.on("tty"),
        "OpenStdin": interactive,
        "StdinOnce": interactive and stdin,
        "Env": environment(flags.items("env-file"), flags.items("env")) or None,
        "Cmd": command or None,
        "Image": image,
        "WorkingDir": flags.text("workdir"),
        "Entrypoint": [flags.text("entrypoint")] if flags.changed("entrypoint") else None,
        "OnBuild": None,
        "Labels": _pairs(_lines(flags.items("label-file"), label=True) + flags.items("label")),
    }
    health = _health(flags)
    if health is not None:
        config["Healthcheck"] = health
    if flags.changed("stop-signal"):
        config["StopSignal"] = flags.text("stop-signal")
    if flags.changed("stop-timeout"):
        config["StopTimeout"] = flags.number("stop-timeout")
    return config


def _pairs(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        key, _, value = line.partition("=")
        found[key] = value
    return found


def environment(files: list[str], given: list[str]) -> list[str]:
    """The variables of the files, then those of the command line. Raises BadOption."""
    return _lines(files, label=False) + given


def _lines(files: list[str], *, label: bool) -> list[str]:
    """The entries of files with one NAME=value a line; # comments. A bare NAME takes the client's own variable and is
    left out where that is not set; a bare label is left out. Raises BadOption."""
    kind = "label" if label else "env"
    found = []
    for path in files:
        try:
            with open(path, "rb") as file:
                lines = file.read().removeprefix(b"\xef\xbb\xbf").splitlines()
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise BadOption(f"open {path}: {reason}") from None
        for count, data in enumerate(lines, 1):
            try:
                line = data.decode().lstrip(" \t")
            except UnicodeDecodeError:
                raise BadOption(f"invalid {kind} file ({path}): invalid utf8 bytes at line {count}: {data!r}") from None
            if not line or line.startswith("#"):
                continue
            name, equals, value = line.partition("=")
            if not name:
                raise BadOption(f"invalid {kind} file ({path}): no variable name on line '{line}'")
            if " " in name or "\t" in name:
                raise BadOption(f"invalid {kind} file ({path}): variable '{name}' contains whitespaces")
            if equals:
                found.append(f"{name}={value}")
            elif not label and name in os.environ:
                found.append(f"{name}={os.environ[name]}")
    return found


def _health(flags: Flags) -> dict[str, Any] | None:
    """Docker's Healthcheck of the --health flags, None where there are none."""
    periods = {
        "Interval": "health-interval",
        "Timeout": "health-timeout",
        "StartPeriod": "health-start-period",
        "StartInterval": "health-start-interval",
        "Retries": "health-retries",
    }
    command = flags.text("health-cmd")
    given = {key: flags.number(name) for key, name in periods.items() if flags.number(name)}
    if flags.on("no-healthcheck"):
        if command or given:
            raise BadOption("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not command and not given:
        return None
    for key in ("Interval", "Timeout", "Retries", "StartPeriod", "StartInterval"):
        if given.get(key, 0) < 0:
            raise BadOption(f"--{periods[key]} cannot be negative")
    return {"Test": ["CMD-SHELL", command], **given} if command else given


def _is_drive(text: str) -> bool:
    return len(text) == 1 and text.isalpha()


def _sections(spec: str) -> list[str]:
    """The parts of a --volume between its colons; a letter and a colon is a drive and not a part. Raises ValueError."""
    if not spec:
        raise BadOption("invalid empty volume spec")
    if len(spec) <= 2:
        return [spec]
    current = ""
    parts: list[str] = []
    for char in spec + "\0":
        if char == ":" and _is_drive(current):
            current += char
        elif char in ":\0":
            if not current:
                raise BadOption(f"invalid spec: {spec}: empty section between colons")
            if len(parts) == 2 and char == ":":
                raise BadOption(f"invalid spec: {spec}: too many colons")
            parts.append(current)
            current = ""
        else:
            current += char
    return parts


def _volumes(specs: list[str]) -> tuple[list[str], list[str]]:
    """--volume as (binds, targets of anonymous volumes)."""
    binds: list[str] = []
    anonymous: list[str] = []
    for spec in dict.fromkeys(specs):
        parts = _sections(spec)
        if len(parts) == 1:
            anonymous.append(spec)
            continue
        source, _, rest = spec.partition(":")
        if parts[0].startswith("."):
            spec = f"{absolute(source)}:{rest}"
        binds.append(spec)
    return binds, anonymous


def _mode(flag: str, text: str, word: str, *allowed: str) -> str:
    if text and text not in allowed:
        prefix, colon, rest = text.partition(":")
        if not ("container:" in allowed and prefix == "container" and colon and rest):
            raise BadOption(f"--{flag}: invalid {word} mode")
    return text


def _host(flags: Flags) -> dict[str, Any]:
    security, masked, readonly = _security(flags.items("security-opt"))
    devices, requests = _devices(flags.items("device"))
    restart = restart_policy(flags.text("restart", "no"))
    if flags.on("rm") and restart["Name"] not in ("", "no"):
        raise BadOption("conflicting options: cannot specify both --restart and --rm")
    driver, options = flags.text("log-driver"), _pairs(flags.items("log-opt"))
    if driver == "none" and options:
        raise BadOption(f"invalid logging opts for driver {driver}")
    host: dict[str, Any] = {
        "Binds": None,
        "ContainerIDFile": flags.text("cidfile"),
        "LogConfig": {"Type": driver, "Config": options},
        "NetworkMode": "",
        "PortBindings": {},
        "RestartPolicy": restart,
        "AutoRemove": flags.on("rm"),
        "VolumeDriver": flags.text("volume-driver"),
        "VolumesFrom": flags.items("volumes-from") or None,
        "ConsoleSize": [0, 0],
        "CapAdd": _capabilities(flags.items("cap-add")) or None,
        "CapDrop": _capabilities(flags.items("cap-drop")) or None,
        "CgroupnsMode": _mode("cgroupns", flags.text("cgroupns"), "CGROUP", "host", "private"),
        "Dns": flags.items("dns"),
        "DnsOptions": flags.items("dns-option"),
        "DnsSearch": flags.items("dns-search"),
        "ExtraHosts": flags.items("add-host") or None,
        "GroupAdd": flags.items("group-add") or None,
        "IpcMode": flags.text("ipc"),
        "Cgroup": "",
        "Links": flags.items("link") or None,
        "OomScoreAdj": flags.number("oom-score-adj"),
        "PidMode": _mode("pid", flags.text("pid"), "PID", "host", "container:"),
        "Privileged": flags.on("privileged"),
        "PublishAllPorts": flags.on("publish-all"),
        "ReadonlyRootfs": flags.on("read-only"),
        "SecurityOpt": security or None,
        "UTSMode": _mode("uts", flags.text("uts"), "UTS", "host"),
        "UsernsMode": _mode("userns", flags.text("userns"), "USER", "host"),
        "ShmSize": flags.number("shm-size"),
        "Isolation": flags.text("isolation"),
        **_resources(flags),
        "Devices": devices,
        "DeviceRequests": (flags.items("gpus") + requests) or None,
        "MaskedPaths": masked,
        "ReadonlyPaths": readonly,
    }
    optional = {
        "Annotations": flags.pairs("annotation"),
        "StorageOpt": _storage(flags.items("storage-opt")),
        "Tmpfs": {path: options for path, _, options in (text.partition(":") for text in flags.items("tmpfs"))},
        "Sysctls": flags.pairs("sysctl"),
        "Runtime": flags.text("runtime"),
        "KernelMemory": flags.number("kernel-memory"),
    }
    host.update({key: value for key, value in optional.items() if value})
    if flags.changed("init"):
        host["Init"] = flags.on("init")
    return host


def _capabilities(given: list[str]) -> list[str]:
    """In upper case and with their prefix, each once, in order."""
    names = {name.strip().upper() for name in given}
    return sorted({name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in names})


def _resources(flags: Flags) -> dict[str, Any]:
    return {
        "CpuShares": flags.number("cpu-shares"),
        "Memory": flags.number("memory"),
        "NanoCpus": flags.number("cpus"),
        "CgroupParent": flags.text("cgroup-parent"),
        "BlkioWeight": flags.number("blkio-weight"),
        "BlkioWeightDevice": flags.items("blkio-weight-device"),
        "BlkioDeviceReadBps": flags.items("device-read-bps"),
        "BlkioDeviceWriteBps": flags.items("device-write-bps"),
        "BlkioDeviceReadIOps": flags.items("device-read-iops"),
        "BlkioDeviceWriteIOps": flags.items("device-write-iops"),
        "CpuPeriod": flags.number("cpu-period"),
        "CpuQuota": flags.number("cpu-quota"),
        "CpuRealtimePeriod": flags.number("cpu-rt-period"),
        "CpuRealtimeRuntime": flags.number("cpu-rt-runtime"),
        "CpusetCpus": flags.text("cpuset-cpus"),
        "CpusetMems": flags.text("cpuset-mems"),
        "DeviceCgroupRules": flags.items("device-cgroup-rule") or None,
        "MemoryReservation": flags.number("memory-reservation"),
        "MemorySwap": flags.number("memory-swap"),
        "MemorySwappiness": flags.number("memory-swappiness", -1),
        "OomKillDisable": flags.on("oom-kill-disable"),
        "PidsLimit": flags.number("pids-limit"),
        "Ulimits": [limit for _, limit in sorted(flags.pairs("ulimit").items())],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }


def restart_policy(text: str) -> dict[str, Any]:
    if not text:
        return {"Name": "", "MaximumRetryCount": 0}
    name, colon, count = text.partition(":")
    if colon and not name:
        raise BadOption("invalid restart policy format: no policy provided before colon")
    if count:
        try:
            return {"Name": name, "MaximumRetryCount": int(count)}
        except ValueError:
            raise BadOption("invalid restart policy format: maximum retry count must be an integer") from None
    return {"Name": name, "MaximumRetryCount": 0}


def _security(given: list[str]) -> tuple[list[str], list[str] | None, list[str] | None]:
    """(security options, masked paths, read-only paths): a seccomp profile is
    read here, and systempaths becomes paths."""
    options: list[str] = []
    masked: list[str] | None = None
    readonly: list[str] | None = None
    for text in given:
        key, separator, value = text.partition("=")
        if not separator and key != "no-new-privileges":
            key, separator, value = text.partition(":")
            if not separator:
                from wherry.model.gotext import quote

                raise BadOption(f"Invalid --security-opt: {quote(text)}")
        if key == "seccomp" and value not in ("unconfined", "builtin"):
            text = f"seccomp={_profile(value)}"
        if text == "systempaths=unconfined":
            masked, readonly = [], []
        else:
            options.append(text)
    return options, masked, readonly


def _profile(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise BadOption(f"opening seccomp profile ({path}) failed: open {path}: {reason}") from None
    import json

    try:
        return json.dumps(json.loads(data), separators=(",", ":"), ensure_ascii=False)
    except ValueError as error:
        raise BadOption(f"compacting json for seccomp profile ({path}) failed: {error}") from None


def _storage(given: list[str]) -> dict[str, str]:
    if any("=" not in text for text in given):
        raise BadOption("invalid storage option")
    return _pairs(given)


def _is_cdi(text: str) -> bool:
    """vendor.example/class=name, by the Container Device Interface's grammar."""
    kind, equals, name = text.partition("=")
    vendor, slash, device_class = kind.partition("/")
    if not (equals and slash and vendor and device_class and name) or text.startswith("/"):
        return False

    def fine(word: str, extra: str) -> bool:
        return all(char.isascii() and (char.isalnum() or char in extra) for char in word) and word[-1].isalnum()

    return fine(vendor, "_-.") and fine(device_class, "_-") and fine(name, "_-.:") and vendor[0].isalpha()


def _devices(given: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """--device as (device mappings, requests for CDI devices)."""
    mappings = [_device(text) for text in given if not _is_cdi(text)]
    cdi = [text for text in given if _is_cdi(text)]
    requests = [{"Driver": "cdi", "Count": 0, "DeviceIDs": cdi, "Capabilities": None, "Options": None}] if cdi else []
    return mappings, requests


def _device(text: str) -> dict[str, Any]:
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise BadOption(f"bad format for path: {text}")
    source, target, mode = parts[0], parts[0], "rwm"

    def is_mode(word: str) -> bool:
        return len(word) <= 3 and set(word) <= set("rwm") and len(set(word)) == len(word)

    if len(parts) == 2:
        if is_mode(parts[1]):
            mode = parts[1]
        else:
            target = parts[1]
    elif len(parts) == 3:
        target, mode = parts[1], parts[2]
        if not is_mode(mode):
            raise BadOption(f"bad mode specified: {mode}")
    if not target.startswith("/"):
        raise BadOption(f"{target} is not an absolute path")
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": mode}


_PLAIN_NETWORKS = ("default", "bridge", "host", "none", "nat")


def _user_defined(name: str) -> bool:
    return name not in _PLAIN_NETWORKS and not name.startswith("container:")


# An option that belongs to the first network, by the flag, the key in the attachment and the words of a conflict.
_FIRST_NETWORK = (
    ("network-alias", "Aliases", "--network-alias and per-network alias"),
    ("link", "Links", "--link and per-network links"),
    ("ip", "IPv4", "--ip and per-network IPv4 address"),
    ("ip6", "IPv6", "--ip6 and per-network IPv6 address"),
    ("mac-address", "MacAddress", "--mac-address and per-network MAC address"),
    ("link-local-ip", "LinkLocalIPs", "--link-local-ip and per-network link-local IP addresses"),
)


def _networks(flags: Flags) -> tuple[str, dict[str, Any]]:
    """(network mode, endpoints): --network with the older flags that speak of the first network."""
    given: list[dict[str, Any]] = flags.items("network")
    attachments = given or [{"Target": "default", "Aliases": [], "LinkLocalIPs": [], "DriverOpts": {}}]
    user = [_user_defined(item["Target"]) for item in attachments]
    endpoints: dict[str, Any] = {}
    for index, attachment in enumerate(attachments):
        item = {**attachment, **(_first_network(flags, attachment, user[0]) if index == 0 else {})}
        endpoint, plain = _endpoint(item)
        if item["Target"] in endpoints:
            from wherry.model.gotext import quote

            raise BadOption(f"network {quote(item['Target'])} is specified multiple times")
        if len(given) == 1 and plain:
            continue
        endpoints[item["Target"]] = endpoint
    if any(user) and not all(user):
        raise BadOption("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    return attachments[0]["Target"], endpoints


def _first_network(flags: Flags, attachment: dict[str, Any], user_defined: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for flag, key, words in _FIRST_NETWORK:
        value: Any = flags.given().get(flag)
        if not value:
            continue
        if attachment.get(key):
            raise BadOption(f"conflicting options: cannot specify both {words}")
        if key == "Links" and not user_defined:
            continue
        found[key] = value
    return found


def _endpoint(item: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """(EndpointSettings, whether it says nothing beyond the network)."""
    target = item["Target"]
    if not target.strip():
        raise BadOption("no name set for network")
    if not _user_defined(target) and item["Aliases"]:
        raise BadOption("network-scoped aliases are only supported for user-defined networks")
    ipam: dict[str, Any] = {}
    if item.get("IPv4"):
        ipam["IPv4Address"] = item["IPv4"]
    if item.get("IPv6"):
        ipam["IPv6Address"] = item["IPv6"]
    if item["LinkLocalIPs"]:
        ipam["LinkLocalIPs"] = item["LinkLocalIPs"]
    for key in ("IPv4Address", "IPv6Address"):
        if key in ipam and not ip_address(ipam[key]):
            ipam.pop(key)
    mac = item.get("MacAddress", "")
    if mac and not _mac_address(mac):
        raise BadOption(f"{mac} is not a valid mac address")
    endpoint = {
        "IPAMConfig": ipam or None,
        "Links": item.get("Links") or None,
        "Aliases": item["Aliases"] or None,
        "MacAddress": mac,
        "DriverOpts": item["DriverOpts"] or None,
        "GwPriority": item.get("GwPriority", 0),
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }
    return endpoint, not any(value for value in endpoint.values())
