"""The kinds of error. Services raise these; one place in the API maps each kind to a status.

The message is interface: clients match on it, so it is in Docker's words where Docker has words.
"""


class WherryError(Exception):
    """Base of all errors that are answers rather than defects. `str(error)` is the whole message for the user.

    `place` is the first and last line of what was asked, where that is a text and the error is about a part of it.
    """

    place: tuple[int, int] | None = None


class InvalidParameter(WherryError):
    """What was asked is malformed or impossible (400)."""


class Unauthorized(WherryError):
    """The registry or the engine wants other credentials (401)."""


class Forbidden(WherryError):
    """Understood and refused, whoever asks (403)."""


class NotFound(WherryError):
    """No such container, image, network, volume or exec (404)."""


class NotModified(WherryError):
    """The object already is as asked; not an error for the user (304)."""


class Conflict(WherryError):
    """The object's state, or another object, is in the way (409)."""


class TooManyRequests(WherryError):
    """A registry wants to be asked less often (429)."""


class NotSupported(WherryError):
    """Known, but not done by this engine (501)."""


class Unavailable(WherryError):
    """The engine cannot do it now: host lacks something, shutting down (503)."""


class SystemFailure(WherryError):
    """The host or the runtime failed at it (500)."""


class StartFailed(WherryError):
    """A container's process could not be started (400 or 500 by `exit_code`, as Docker).

    `exit_code` is what `State.ExitCode` becomes: 127 not found, 126 not executable, 128 anything else.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
