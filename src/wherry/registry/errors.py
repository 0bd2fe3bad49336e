"""What goes wrong with a registry: structured where it happens, in Docker's words for whoever reads it."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

from wherry.errors import NotFound, SystemFailure, WherryError
from wherry.model.reference import Reference
from wherry.model.registry_errors import (
    DENIED,
    MANIFEST_UNKNOWN,
    NAME_UNKNOWN,
    Problem,
    words,
)

SHOWN_QUERY = (
    "ns",
    "n",
    "last",
    "q",
    "page",
    "service",
    "scope",
    "account",
    "client_id",
    "offline_token",
    "digest",
    "mount",
    "from",
)
RETRYABLE_STATUSES = frozenset((408, 429, 500, 502, 503, 504))


class RegistryError(SystemFailure):
    """A request to a registry failed. `str()` is the message in Docker's words.

    `code` is the registry's ("MANIFEST_UNKNOWN"; "" where no answer came or it had none), `status` the HTTP status (0
    without an answer), `request` the method and the address without secrets, `retry_after` seconds that the registry
    asks to wait, `detail` the first of its errors, or the reason without the request. `retryable`: the same request may
    succeed later.
    """

    def __init__(
        self,
        message: str,
        *,
        request: str = "",
        status: int = 0,
        code: str = "",
        detail: str = "",
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.request = request
        self.status = status
        self.code = code
        self.detail = detail or message
        self.retryable = retryable
        self.retry_after = retry_after


class Untrusted(RegistryError):
    """The other side is not what it has to be: a certificate, a digest, a length. Never retried there."""


def network_error(method: str, url: str, reason: str, *, retryable: bool = True) -> RegistryError:
    """No answer, or it broke off."""
    shown = redacted(url)
    return RegistryError(
        f'{method.capitalize()} "{shown}": {reason}', request=f"{method} {shown}", detail=reason, retryable=retryable
    )


def untrusted(method: str, url: str, reason: str) -> Untrusted:
    """What came is not what it has to be."""
    shown = redacted(url)
    return Untrusted(f'{method.capitalize()} "{shown}": {reason}', request=f"{method} {shown}", detail=reason)


def answer_error(
    method: str, url: str, status: int, told: Sequence[Problem], retry_after: float | None = None
) -> RegistryError:
    """An answer with an error status."""
    message = words(told)
    if status == 429:
        message += remedy(retry_after)
    return RegistryError(
        message,
        request=f"{method} {redacted(url)}",
        status=status,
        code=told[0].code,
        detail=str(told[0]),
        retryable=status in RETRYABLE_STATUSES,
        retry_after=retry_after,
    )


def remedy(retry_after: float | None) -> str:
    """What to do about too many requests."""
    wait = f"wait {retry_after:.0f} seconds" if retry_after else "wait"
    return f" ({wait}, log in to the registry for a higher limit, or pull through a mirror)"


def redacted(url: str) -> str:
    """The address without user, password and the values in its query, which sign requests for blob stores."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    names = "&".join(
        part if part.partition("=")[0] in SHOWN_QUERY else f"{part.partition('=')[0]}=REDACTED"
        for part in parts.query.split("&")
        if part
    )
    return urlunsplit((parts.scheme, host, parts.path, names, ""))


def pull_failure(error: RegistryError, reference: Reference) -> WherryError:
    """In the words in which Docker tells that a pull failed."""
    if error.code == DENIED:
        return NotFound(
            f"pull access denied for {reference.familiar_name}, repository does not exist or may require"
            f" 'docker login': {error.detail}"
        )
    if error.code == MANIFEST_UNKNOWN:
        return NotFound(f"manifest for {reference.familiar} not found: {error.detail}")
    if error.code == NAME_UNKNOWN:
        return NotFound(f"repository {reference.familiar_name} not found: {error.detail}")
    return error
