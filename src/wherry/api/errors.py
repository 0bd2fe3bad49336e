"""Kinds of error to HTTP statuses, in one place, and the JSON body that carries the message."""

from __future__ import annotations

import errno
import logging
import os

from wherry import errors
from wherry.api.jsontext import encode

log = logging.getLogger(__name__)

STATUSES: dict[type[errors.WherryError], int] = {
    errors.InvalidParameter: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.NotModified: 304,
    errors.Conflict: 409,
    errors.TooManyRequests: 429,
    errors.NotSupported: 501,
    errors.Unavailable: 503,
    errors.SystemFailure: 500,
}


HOST_TROUBLES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of system calls that are nobody's defect: the host has run out of something (errno(3))."""


def status_of(error: BaseException) -> int:
    """The HTTP status of an error: by its kind; 500 for whatever is not an answer but a defect.

    A process that could not be started is the request's fault (400) where the program is missing or not
    executable, and the engine's (500) otherwise, as in Docker.
    """
    if isinstance(error, errors.StartFailed):
        return 400 if error.exit_code in (126, 127) else 500
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return 500


def message_of(error: BaseException) -> str:
    """What the user reads. A defect is logged with its traceback and named in short."""
    if isinstance(error, errors.WherryError):
        return str(error)
    if isinstance(error, OSError) and error.errno in HOST_TROUBLES:
        log.error("%s", error)
        return f"{error.filename or 'the host'}: {os.strerror(error.errno).lower()}"
    log.error("unexpected failure", exc_info=error)
    return f"internal error: {type(error).__name__}: {error}"


def body_of(message: str) -> bytes:
    return encode({"message": message}) + b"\n"
