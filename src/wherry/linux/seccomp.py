"""Which system calls a container may make: a profile, resolved for its capabilities and compiled to BPF.

A profile is the JSON that Docker and Podman share: OCI's `linux.seccomp` with `archMap` and with conditions
(`includes`, `excludes`) on each rule. Resolving leaves plain OCI, which any runtime understands. Compiling, by
libseccomp, gives what crun takes as it is (crun(1), `run.oci.seccomp_bpf_data`): it would otherwise compile the same
profile at each start.

The built-in profile is the distribution's /usr/share/containers/seccomp.json, kept by those who track system calls.
It is Podman's and lets a container make user namespaces and mount inside them; Docker's does not, and `GATED` takes
that back.
"""

from __future__ import annotations

import base64
import ctypes
import functools
import os
import platform
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from wherry.errors import SystemFailure, Unavailable

PROFILE_PATHS = (Path("/etc/containers/seccomp.json"), Path("/usr/share/containers/seccomp.json"))

EPERM, ENOSYS = 1, 38
AF_VSOCK = 40

Rule = dict[str, Any]  # of OCI's `linux.seccomp.syscalls`

# The kernel's machine name (uname(2)) to Go's name, which profiles use in conditions, and libseccomp's.
_MACHINES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i686": ("386", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}

# seccomp.h of libseccomp.
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_TAKES_ERRNO = frozenset({"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"})
_OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_ATTRIBUTE_NO_NEW_PRIVILEGES = 3
_ATTRIBUTE_OPTIMIZE = 8
_BINARY_TREE = 2
_UNKNOWN_SYSCALL = -1

# clone(2)'s flags that make a namespace, mount to network; CLONE_NEWTIME is clone3's alone.
_NAMESPACE_FLAGS = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)

# System calls of the built-in profile that a container may make only with one of these capabilities; () is never.
GATED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree", "quotactl_fd"),
        ("CAP_SYS_ADMIN",),
    ),
    **dict.fromkeys(("setns", "umount", "umount2", "unshare"), ("CAP_SYS_ADMIN",)),
    **dict.fromkeys(("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"), ("CAP_SYS_NICE",)),
    **dict.fromkeys(("add_key", "keyctl", "request_key", "pivot_root"), ()),
    "bpf": ("CAP_SYS_ADMIN", "CAP_BPF"),
    "perf_event_open": ("CAP_SYS_ADMIN", "CAP_PERFMON"),
    "pidfd_getfd": ("CAP_SYS_PTRACE",),
    "reboot": ("CAP_SYS_BOOT",),
    "syslog": ("CAP_SYS_ADMIN", "CAP_SYSLOG"),
}


@dataclass(frozen=True)
class Filter:
    """A profile for one container: as OCI's `linux.seccomp`, and compiled, base64 of an array of sock_filter."""

    oci: dict[str, Any]
    bpf: str


class Argument(Struct, rename="camel"):
    """A comparison of one argument of a call."""

    index: int
    op: str = ""
    value: int = 0
    value_two: int | None = None


class Condition(Struct, rename="camel"):
    """When a rule counts (`includes`) or does not (`excludes`)."""

    arches: list[str] | None = None
    caps: list[str] | None = None
    min_kernel: str | None = None


class ProfileRule(Struct, rename="camel", kw_only=True):
    """What happens to some calls. `name` is the older grammar's single one."""

    names: list[str] | None = None
    name: str = ""
    action: str = ""
    errno_ret: int | None = None
    args: list[Argument] | None = None
    includes: Condition | None = None
    excludes: Condition | None = None


class Architecture(Struct, rename="camel"):
    """A machine and those whose calls it also runs."""

    architecture: str = ""
    sub_architectures: list[str] | None = None


class Profile(Struct, rename="camel"):
    """A profile as it is written."""

    default_action: str = ""
    default_errno_ret: int | None = None
    architectures: list[str] | None = None
    arch_map: list[Architecture] | None = None
    flags: list[str] | None = None
    syscalls: list[ProfileRule] | None = None


_decode = msgspec.json.Decoder(Profile).decode


def parse(text: str) -> Profile:
    """A profile from JSON. Raises SystemFailure in Docker's words."""
    try:
        profile = _decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise SystemFailure(f"Decoding seccomp profile failed: {error}") from None
    if profile.architectures and profile.arch_map:
        raise SystemFailure("both 'architectures' and 'archMap' are specified in the seccomp profile, use either")
    for rule in profile.syscalls or ():
        if rule.name and rule.names:
            raise SystemFailure(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
            )
    return profile


def _applies(rule: ProfileRule, capabilities: Collection[str], arch: str, kernel: tuple[int, int]) -> bool:
    includes, excludes = rule.includes or Condition(), rule.excludes or Condition()
    if includes.arches and arch not in includes.arches:
        return False
    if arch in (excludes.arches or ()):
        return False
    if not all(capability in capabilities for capability in includes.caps or ()):
        return False
    if any(capability in capabilities for capability in excludes.caps or ()):
        return False
    if includes.min_kernel and kernel < _version(includes.min_kernel):
        return False
    return not excludes.min_kernel or kernel < _version(excludes.min_kernel)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    try:
        return int(major), int(minor or 0)
    except ValueError:
        raise SystemFailure(f"invalid kernel version in the seccomp profile: {text}") from None


def _plain(rule: ProfileRule) -> Rule:
    plain: Rule = {"names": rule.names or [rule.name], "action": rule.action}
    if rule.errno_ret is not None:
        plain["errnoRet"] = rule.errno_ret
    if rule.args:
        plain["args"] = [_plain_argument(argument) for argument in rule.args]
    return plain


def _plain_argument(argument: Argument) -> Rule:
    if argument.op not in _OPERATORS:
        raise SystemFailure(f"string {argument.op} is not a valid operator for seccomp")
    plain: Rule = {"index": argument.index, "value": argument.value, "op": argument.op}
    return plain if argument.value_two is None else {**plain, "valueTwo": argument.value_two}


def _harden(rules: list[Rule], capabilities: Collection[str]) -> list[Rule]:
    """The built-in profile's rules as Docker would have them: a denial beats a permission, and `GATED` holds."""
    denied = {
        name for rule in rules if rule["action"] == "SCMP_ACT_ERRNO" and not rule.get("args") for name in rule["names"]
    }
    gated = {name for name, keys in GATED.items() if not any(key in capabilities for key in keys)}
    opened = {name for name, keys in GATED.items() if any(key in capabilities for key in keys)}
    taken_back = (denied - opened) | gated | {"socket"}
    makes_namespaces = "CAP_SYS_ADMIN" in capabilities
    if not makes_namespaces:
        taken_back |= {"clone", "clone3"}

    kept = []
    for rule in rules:
        allows = rule["action"] == "SCMP_ACT_ALLOW"
        drop = taken_back if allows else opened | {"socket"}
        if names := [name for name in rule["names"] if name not in drop]:
            kept.append({**rule, "names": names})
    if gated:
        kept.append({"names": sorted(gated - denied), "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM})
    if opened:
        kept.append({"names": sorted(opened), "action": "SCMP_ACT_ALLOW"})
    kept.append({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [_first("NE", AF_VSOCK)]})
    kept.append({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM, "args": [_first("EQ", AF_VSOCK)]})
    if not makes_namespaces:
        no_namespace = _first("MASKED_EQ", sum(_NAMESPACE_FLAGS), 0)
        kept.append({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [no_namespace]})
        for flag in _NAMESPACE_FLAGS:
            argument = _first("MASKED_EQ", flag, flag)
            kept.append({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM, "args": [argument]})
        # clone3's flags lie in memory, where no filter can read them: libc falls back to clone.
        kept.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    return kept


def _first(operator: str, value: int, second: int | None = None) -> Rule:
    """A comparison of a call's first argument."""
    argument: Rule = {"index": 0, "value": value, "op": f"SCMP_CMP_{operator}"}
    return argument if second is None else {**argument, "valueTwo": second}


def resolve(
    profile: Profile,
    capabilities: Collection[str],
    *,
    kernel: tuple[int, int],
    machine: str = platform.machine(),
    harden: bool = False,
) -> dict[str, Any]:
    """OCI's `linux.seccomp` of a profile, for a container with these capabilities on this machine.

    Raises SystemFailure for an action or a condition that is not known.
    """
    arch, native = _MACHINES.get(machine, (machine, ""))
    rules = [_plain(rule) for rule in profile.syscalls or () if _applies(rule, capabilities, arch, kernel)]
    if harden:
        rules = _harden(rules, capabilities)
    oci: dict[str, Any] = {"defaultAction": profile.default_action}
    if profile.default_errno_ret is not None:
        oci["defaultErrnoRet"] = profile.default_errno_ret
    if profile.flags:
        oci["flags"] = profile.flags
    if architectures := _architectures(profile, native):
        oci["architectures"] = architectures
    oci["syscalls"] = rules
    for action in (profile.default_action, *(rule["action"] for rule in rules)):
        if action not in _ACTIONS:
            raise SystemFailure(f"string {action} is not a valid action for seccomp")
    return oci


def _architectures(profile: Profile, native: str) -> list[str]:
    for entry in profile.arch_map or ():
        if entry.architecture == native:
            return [native, *(entry.sub_architectures or ())]
    return profile.architectures or []


class _ArgumentComparison(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=False)
    except OSError as error:
        raise Unavailable(f"libseccomp is missing, so no seccomp profile can be compiled: {error}") from None
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_release.restype = None
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_arch_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_ArgumentComparison),
    )
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    return library


def available() -> bool:
    """Whether libseccomp is there to compile with."""
    try:
        _library()
    except Unavailable:
        return False
    return True


def _action(name: str, errno: int | None) -> int:
    return _ACTIONS[name] | ((EPERM if errno is None else errno) & 0xFFFF if name in _TAKES_ERRNO else 0)


def _checked(result: int, what: str) -> None:
    if result < 0:
        raise SystemFailure(f"seccomp: {what}: {os.strerror(-result)}")


def _alternatives(arguments: list[Rule]) -> Iterable[list[Rule]]:
    """Comparisons of one rule are joined by "and", but several of one argument by "or", as runc reads them."""
    indices = [argument["index"] for argument in arguments]
    return [[argument] for argument in arguments] if len(set(indices)) < len(indices) else [arguments]


def _add_rule(library: ctypes.CDLL, context: int, action: int, rule: Rule) -> None:
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN_SYSCALL:
            continue  # newer than the library: the default action holds
        for arguments in _alternatives(rule.get("args") or []):
            comparisons = (_ArgumentComparison * max(1, len(arguments)))(
                *(
                    _ArgumentComparison(
                        argument["index"], _OPERATORS[argument["op"]], argument["value"], argument.get("valueTwo") or 0
                    )
                    for argument in arguments
                )
            )
            result = library.seccomp_rule_add_array(context, action, number, len(arguments), comparisons)
            _checked(result, f"rule for {name}")


def compile_bpf(oci: dict[str, Any]) -> bytes:
    """The filter program of `linux.seccomp`: an array of struct sock_filter (seccomp(2)). Blocks for some milliseconds.

    Raises SystemFailure where libseccomp refuses a rule, Unavailable without the library.
    """
    library = _library()
    default = _action(oci["defaultAction"], oci.get("defaultErrnoRet"))
    context = library.seccomp_init(default)
    if not context:
        raise SystemFailure("seccomp: no filter can be made")
    try:
        library.seccomp_attr_set(context, _ATTRIBUTE_NO_NEW_PRIVILEGES, 0)
        library.seccomp_attr_set(context, _ATTRIBUTE_OPTIMIZE, _BINARY_TREE)
        for architecture in oci.get("architectures") or ():
            token = library.seccomp_arch_resolve_name(architecture.removeprefix("SCMP_ARCH_").lower().encode())
            if token == 0:
                raise SystemFailure(f"string {architecture} is not a valid arch for seccomp")
            result = library.seccomp_arch_add(context, token)
            if result != -17:  # EEXIST: the native one is there from the start
                _checked(result, f"architecture {architecture}")
        for rule in oci["syscalls"]:
            action = _action(rule["action"], rule.get("errnoRet"))
            if action != default:
                _add_rule(library, context, action, rule)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def _export(library: ctypes.CDLL, context: int) -> bytes:
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _checked(library.seccomp_export_bpf(context, descriptor), "export")
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)


class Profiles:
    """Compiled filters, remembered by profile and capabilities: few sets of capabilities are in use on one host.

    Thread-safe; `filter` blocks for some milliseconds the first time and then takes microseconds.
    """

    def __init__(self, kernel: tuple[int, int], builtin: Path | None = None) -> None:
        self._kernel = kernel
        self._builtin_path = builtin
        self._filters: dict[tuple[str, frozenset[str]], Filter | None] = {}
        self._lock = threading.Lock()

    @functools.cached_property
    def _builtin(self) -> str:
        candidates = (self._builtin_path,) if self._builtin_path else PROFILE_PATHS
        for path in candidates:
            try:
                return path.read_text()
            except FileNotFoundError:
                continue
        raise Unavailable(
            "no default seccomp profile: install golang-github-containers-common (containers-common), "
            "or use --security-opt seccomp=unconfined"
        )

    def filter(self, profile: str, capabilities: Collection[str]) -> Filter | None:
        """The filter of "builtin" or of a profile's JSON text; None for "unconfined" and for an empty profile.

        Raises SystemFailure for a profile that cannot be, Unavailable where the host lacks the library or the default.
        """
        if profile == "unconfined":
            return None
        key = profile, frozenset(capabilities)
        with self._lock:
            if key not in self._filters:
                self._filters[key] = self._compile(profile, key[1])
            return self._filters[key]

    def _compile(self, profile: str, capabilities: frozenset[str]) -> Filter | None:
        builtin = profile == "builtin"
        parsed = parse(self._builtin if builtin else profile)
        if not parsed.default_action and not parsed.syscalls:
            return None
        oci = resolve(parsed, capabilities, kernel=self._kernel, harden=builtin)
        return Filter(oci, base64.b64encode(compile_bpf(oci)).decode())


def as_spec(filter: Filter | None, *, compiled: bool) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """`linux.seccomp` and the annotations that give a runtime this filter. `compiled`: it is crun, which takes BPF."""
    if filter is None:
        return None, {}
    if compiled and "flags" not in filter.oci:  # crun takes flags from the profile alone
        return None, {"run.oci.seccomp_bpf_data": filter.bpf}
    return filter.oci, {}
