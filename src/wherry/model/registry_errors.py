"""What a registry's error answer says, in Docker's words. Pure.

Source: OCI distribution-spec 1.1, "Error Codes"; RFC 6750 section 3.1 for errors in challenges.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from wherry.model.challenges import Challenge

UNAUTHORIZED = "UNAUTHORIZED"
DENIED = "DENIED"
MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
NAME_UNKNOWN = "NAME_UNKNOWN"
TOO_MANY_REQUESTS = "TOOMANYREQUESTS"

USUAL_MESSAGES = {
    UNAUTHORIZED: "authentication required",
    DENIED: "requested access to the resource is denied",
    MANIFEST_UNKNOWN: "manifest unknown",
    NAME_UNKNOWN: "repository name not known to registry",
    TOO_MANY_REQUESTS: "too many requests",
    "UNSUPPORTED": "The operation is unsupported.",
    "UNAVAILABLE": "service unavailable",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UPLOAD_UNKNOWN": "blob upload unknown to registry",
    "BLOB_UPLOAD_INVALID": "blob upload invalid",
    "DIGEST_INVALID": "provided digest did not match uploaded content",
    "SIZE_INVALID": "provided length did not match content length",
    "NAME_INVALID": "invalid repository name",
    "TAG_INVALID": "manifest tag did not match URI",
    "MANIFEST_INVALID": "manifest invalid",
    "MANIFEST_UNVERIFIED": "manifest failed signature verification",
    "MANIFEST_BLOB_UNKNOWN": "blob unknown to registry",
}
_CODES = {401: UNAUTHORIZED, 403: DENIED, 429: TOO_MANY_REQUESTS}  # of answers that name none
_SHOWN = 500  # characters of a body that is no JSON


@dataclass(frozen=True)
class Problem:
    """One error of an answer. `code` is "" where the answer is not in the registry's form."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code.lower().replace('_', ' ')}: {self.message}" if self.code else self.message


def problems(status: int, challenges: Sequence[Challenge], body: bytes) -> list[Problem]:
    """What an answer with status 400 or above says; at least one."""
    if status >= 500 or status < 400:
        return [Problem("", f"received unexpected HTTP status: {status} {phrase(status)}")]
    told = _from_body(status, body)
    for challenge in challenges:
        code = {"invalid_token": UNAUTHORIZED, "insufficient_scope": DENIED}.get(challenge["error"])
        if challenge.scheme == "bearer" and code is not None:
            first = Problem(code, challenge["error_description"] or USUAL_MESSAGES[code])
            return [first, *(problem for problem in told if problem != first)]
    return told


def words(told: Sequence[Problem]) -> str:
    """All of them as one message."""
    if len(told) == 1:
        return str(told[0])
    return "errors:\n" + "".join(f"{problem}\n" for problem in told)


def _from_body(status: int, body: bytes) -> list[Problem]:
    text = body.decode(errors="replace")
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return [_of_status(status, text.strip()[:_SHOWN])]
    if not isinstance(value, dict):
        return [Problem("", f"error parsing HTTP {status} response body: unexpected JSON: {json.dumps(text[:_SHOWN])}")]
    details = value.get("details")
    if isinstance(details, str) and details and status in _CODES:  # Docker Hub's own form
        return [Problem(_CODES[status], details[:_SHOWN])]
    entries = value.get("errors")
    found = [_problem(entry) for entry in entries if isinstance(entry, dict)][:10] if isinstance(entries, list) else []
    if not found:
        shown = json.dumps(text[:_SHOWN])
        return [
            Problem(
                "", f"error parsing HTTP {status} response body: no error details found in HTTP response body: {shown}"
            )
        ]
    return found


def _problem(entry: dict[str, Any]) -> Problem:
    code = str(entry.get("code") or "UNKNOWN").upper()[:64]
    message = entry.get("message")
    shown = message if isinstance(message, str) and message else USUAL_MESSAGES.get(code, "unknown error")
    return Problem(code, shown[: _SHOWN * 4])


def _of_status(status: int, text: str) -> Problem:
    """An answer in plain words, or in none."""
    code = _CODES.get(status, "UNKNOWN")
    usual = USUAL_MESSAGES.get(code, f"{status} {phrase(status)}")
    return Problem(code, usual if not text or code == UNAUTHORIZED else text)


def phrase(status: int) -> str:
    """What a status is called; "" for one that nobody has named."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
