"""Profiles resolved and compiled by the machine's libseccomp, and what the kernel makes of them."""

import base64
import json
import struct
from typing import Any

import pytest

from wherry.errors import SystemFailure
from wherry.linux.seccomp import GATED, Profile, Profiles, as_spec, compile_bpf, parse, resolve
from wherry.model import capabilities

KERNEL = (6, 1)
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ERRNO = 0x00050000
AUDIT_ARCH_X86_64 = 0xC000003E


def evaluate(program: bytes, number: int, *arguments: int) -> int:
    """Run a classic BPF program over a struct seccomp_data as the kernel does (bpf(4), seccomp(2)). x86_64 numbers."""
    data = struct.pack("<IIQ6Q", number, AUDIT_ARCH_X86_64, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        operation, true, false, value = code[at]
        at += 1
        match operation:
            case 0x20:  # ld [value]
                accumulator = struct.unpack_from("<I", data, value)[0]
            case 0x54:  # and value
                accumulator &= value
            case 0x05:  # ja
                at += value
            case 0x15:  # jeq
                at += true if accumulator == value else false
            case 0x25:  # jgt
                at += true if accumulator > value else false
            case 0x35:  # jge
                at += true if accumulator >= value else false
            case 0x06:  # ret
                return value
            case _:
                raise AssertionError(f"operation {operation:#x}")


NUMBERS = {"read": 0, "socket": 41, "clone": 56, "mount": 165, "unshare": 272, "clone3": 435, "keyctl": 250, "bpf": 321}
CLONE_NEWUSER, SIGCHLD, AF_INET, AF_VSOCK = 0x10000000, 17, 2, 40


@pytest.fixture(scope="module")
def profiles() -> Profiles:
    return Profiles(KERNEL)


def verdict(profiles: Profiles, held: tuple[str, ...], name: str, *arguments: int) -> int:

    found = profiles.filter("builtin", held)
    assert found is not None
    return evaluate(base64.b64decode(found.bpf), NUMBERS[name], *arguments)


DENIED = SECCOMP_RET_ERRNO | 1
NO_SUCH_CALL = SECCOMP_RET_ERRNO | 38


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("read", (), SECCOMP_RET_ALLOW),
        ("mount", (), DENIED),
        ("unshare", (CLONE_NEWUSER,), DENIED),
        ("keyctl", (), DENIED),
        ("bpf", (), DENIED),
        ("clone", (SIGCHLD,), SECCOMP_RET_ALLOW),
        ("clone", (SIGCHLD | CLONE_NEWUSER,), DENIED),
        ("clone3", (), NO_SUCH_CALL),
        ("socket", (AF_INET,), SECCOMP_RET_ALLOW),
        ("socket", (AF_VSOCK,), DENIED),
    ],
)
def test_the_builtin_profile_of_a_plain_container(
    profiles: Profiles, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    assert verdict(profiles, capabilities.DEFAULT, name, *arguments) == expected


@pytest.mark.parametrize(
    ("capability", "name"),
    [("CAP_SYS_ADMIN", "mount"), ("CAP_SYS_ADMIN", "unshare"), ("CAP_SYS_ADMIN", "clone3"), ("CAP_BPF", "bpf")],
)
def test_a_capability_opens_its_calls(profiles: Profiles, capability: str, name: str) -> None:
    assert verdict(profiles, (*capabilities.DEFAULT, capability), name) == SECCOMP_RET_ALLOW


def test_no_capability_opens_the_keyring(profiles: Profiles) -> None:
    assert verdict(profiles, capabilities.ALL, "keyctl") == DENIED


def test_a_gate_is_a_capability_that_exists() -> None:
    assert {key for keys in GATED.values() for key in keys} <= set(capabilities.ALL)


def test_filters_are_remembered_by_capabilities(profiles: Profiles) -> None:
    one = profiles.filter("builtin", ["CAP_CHOWN", "CAP_KILL"])
    assert profiles.filter("builtin", ("CAP_KILL", "CAP_CHOWN")) is one
    assert profiles.filter("builtin", ()) is not one
    assert profiles.filter("unconfined", ()) is None
    assert profiles.filter("{}", ()) is None, "a profile that says nothing, as in Docker"


def test_what_a_runtime_is_given(profiles: Profiles) -> None:
    found = profiles.filter("builtin", capabilities.DEFAULT)
    assert found is not None
    assert as_spec(found, compiled=True) == (None, {"run.oci.seccomp_bpf_data": found.bpf})
    assert as_spec(found, compiled=False) == (found.oci, {})
    assert as_spec(None, compiled=True) == (None, {})


def a_profile(*rules: dict[str, Any]) -> Profile:
    return parse(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))


def a_rule(**more: Any) -> dict[str, Any]:
    return {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", **more}


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        ({}, True),
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_BPF"]}}, False),
        ({"excludes": {"caps": ["CAP_CHOWN"]}}, False),
        ({"excludes": {"caps": ["CAP_BPF"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"includes": {"arches": ["amd64"]}}, True),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.10"}}, False),
        ({"excludes": {"minKernel": "4.8"}}, False),
    ],
)
def test_conditions(condition: dict[str, Any], applies: bool) -> None:
    oci = resolve(a_profile(a_rule(**condition)), ["CAP_CHOWN"], kernel=KERNEL, machine="x86_64")
    assert oci["syscalls"] == ([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}] if applies else [])


def test_several_comparisons_of_one_argument_are_alternatives() -> None:
    arguments = [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"} for value in (3, 5)]
    profile = a_profile(a_rule(names=["read"], errnoRet=9, args=arguments))
    program = compile_bpf(resolve(profile, (), kernel=KERNEL))
    assert [evaluate(program, 0, fd) for fd in (3, 4, 5)] == [
        SECCOMP_RET_ERRNO | 9,
        SECCOMP_RET_ALLOW,
        SECCOMP_RET_ERRNO | 9,
    ]


def test_comparisons_of_two_arguments_belong_together() -> None:
    arguments = [{"index": index, "value": 3, "op": "SCMP_CMP_EQ"} for index in (0, 1)]
    profile = a_profile(a_rule(names=["read"], args=arguments))
    program = compile_bpf(resolve(profile, (), kernel=KERNEL))
    assert [evaluate(program, 0, 3, n) for n in (3, 4)] == [SECCOMP_RET_ERRNO | 1, SECCOMP_RET_ALLOW]


def test_calls_that_are_not_known_are_passed_over() -> None:
    profile = a_profile(a_rule(names=["no_such_call"]))
    assert evaluate(compile_bpf(resolve(profile, (), kernel=KERNEL)), 0) == SECCOMP_RET_ALLOW


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "^Decoding seccomp profile failed: "),
        ("[]", "^Decoding seccomp profile failed: "),
        ('{"syscalls":[{"name":"a","names":["b"]}]}', "^both 'name' and 'names' are specified in the seccomp profile"),
        ('{"architectures":["a"],"archMap":[{}]}', "^both 'architectures' and 'archMap' are specified"),
        ('{"defaultAction":"SCMP_ACT_X"}', "^string SCMP_ACT_X is not a valid action for seccomp$"),
        ('{"syscalls":[{"names":["read"]}]}', "^string  is not a valid action"),
        (
            '{"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0}]}]}',
            "^string  is not a valid operator",
        ),
        ('{"syscalls":5}', "^Decoding seccomp profile failed: "),
        (
            '{"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"op":"X"}]}]}',
            "^string X is not a valid operator for seccomp$",
        ),
        ('{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_NO"]}', "SCMP_ARCH_NO is not a valid arch"),
    ],
)
def test_profiles_that_cannot_be(profiles: Profiles, text: str, message: str) -> None:
    with pytest.raises(SystemFailure, match=message):
        profiles.filter(text, ())


def test_the_older_grammar_names_one_call_a_rule() -> None:
    profile = a_profile({"name": "read", "action": "SCMP_ACT_ERRNO"})
    assert resolve(profile, (), kernel=KERNEL)["syscalls"][0]["names"] == ["read"]
