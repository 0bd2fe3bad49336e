"""`--security-opt`, taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wherry.errors import SystemFailure

DEFAULT_PROFILE = "builtin"
UNCONFINED = "unconfined"

_BOOLEANS = {"1": True, "t": True, "T": True, "TRUE": True, "true": True, "True": True}
_BOOLEANS |= {"0": False, "f": False, "F": False, "FALSE": False, "false": False, "False": False}


@dataclass(frozen=True)
class SecurityOptions:
    """`seccomp` is "builtin", "unconfined" or the JSON text of a profile; `apparmor` "" where nothing was asked."""

    no_new_privileges: bool = False
    seccomp: str = DEFAULT_PROFILE
    apparmor: str = ""
    labels: tuple[str, ...] = ()


def parse(options: Sequence[str] | None) -> SecurityOptions:
    """Docker's grammar, "key=value" or the older "key:value". Raises SystemFailure (its 500) for an unknown one."""
    no_new_privileges, seccomp, apparmor, labels = False, DEFAULT_PROFILE, "", []
    for option in options or ():
        if option == "no-new-privileges":
            no_new_privileges = True
            continue
        if option == "disable":
            labels.append("disable")
            continue
        separator = "=" if "=" in option else ":"
        key, found, value = option.partition(separator)
        if not found:
            raise SystemFailure(f'invalid --security-opt 1: "{option}"')
        if key == "label":
            labels.append(value)
        elif key == "apparmor":
            apparmor = value
        elif key == "seccomp":
            seccomp = value or DEFAULT_PROFILE
        elif key == "no-new-privileges" and value in _BOOLEANS:
            no_new_privileges = _BOOLEANS[value]
        else:
            raise SystemFailure(f'invalid --security-opt 2: "{option}"')
    return SecurityOptions(no_new_privileges, seccomp, apparmor, tuple(labels))
