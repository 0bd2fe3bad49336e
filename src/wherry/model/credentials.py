"""What a client proves itself with to a registry, and how it travels in the API. Pure.

Source: Docker Engine API, "Authentication": X-Registry-Auth and X-Registry-Config are base64url of JSON.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import msgspec
from msgspec import Struct, field

from wherry.errors import InvalidParameter

HUB_SERVER = "https://index.docker.io/v1/"
"""The key under which clients keep what they log in to Docker Hub with."""


class Credentials(Struct, frozen=True, rename="lower"):
    """One of: user and password, an identity token (OAuth2 refresh token), or a ready bearer token.

    Never shown: `repr` tells the user's name at most.
    """

    username: str = ""
    password: str = ""
    identity_token: str = field(default="", name="identitytoken")
    registry_token: str = field(default="", name="registrytoken")
    server_address: str = field(default="", name="serveraddress")
    auth: str = ""  # base64 of "user:password", where the two are not given apart

    def __repr__(self) -> str:
        return f"Credentials({self.username!r} at {self.server_address!r})"

    @property
    def given(self) -> bool:
        return bool(self.username or self.password or self.identity_token or self.registry_token)


def decode(header: str) -> Credentials:
    """X-Registry-Auth. Empty credentials where it is absent or empty. Raises InvalidParameter in Docker's words."""
    if not header:
        return Credentials()
    data = _decode_base64(header)
    if not data.strip():
        return Credentials()
    try:
        return _complete(_convert(msgspec.json.decode(data)))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"invalid X-Registry-Auth header: {error}") from None


def decode_many(header: str) -> dict[str, Credentials]:
    """X-Registry-Config: server address -> credentials. Raises InvalidParameter."""
    if not header:
        return {}
    try:
        value = msgspec.json.decode(_decode_base64(header))
        if not isinstance(value, Mapping):
            raise msgspec.ValidationError("an object is expected")
        return {str(server): _complete(_convert(given)) for server, given in value.items()}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"invalid X-Registry-Config header: {error}") from None


def from_json(body: bytes) -> Credentials:
    """The body of POST /auth. Raises msgspec.DecodeError."""
    return _complete(_convert(msgspec.json.decode(body)))


def encode(credentials: Credentials) -> str:
    """As X-Registry-Auth."""
    return base64.urlsafe_b64encode(msgspec.json.encode(_shown(credentials))).decode()


def encode_many(credentials: Mapping[str, Credentials]) -> str:
    """As X-Registry-Config."""
    return base64.urlsafe_b64encode(
        msgspec.json.encode({server: _shown(given) for server, given in credentials.items()})
    ).decode()


def split_auth(auth: str) -> tuple[str, str]:
    """User and password from base64 of "user:password", as Docker's config.json has it. Raises InvalidParameter."""
    try:
        text = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidParameter("invalid auth configuration: it is not base64 of user:password") from None
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise InvalidParameter("invalid auth configuration: it is not base64 of user:password")
    return user, password.strip("\0")


def join_auth(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def _shown(credentials: Credentials) -> dict[str, str]:
    return {name: value for name, value in msgspec.to_builtins(credentials).items() if value}


def _decode_base64(header: str) -> bytes:
    text = header.strip()
    try:  # both alphabets, padded or not, as clients send it
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidParameter("invalid X-Registry-Auth header: illegal base64 data") from None


def _convert(value: object) -> Credentials:
    """As Go reads it: the case of keys does not matter, null is empty."""
    if value is None:
        return Credentials()
    if not isinstance(value, Mapping):
        raise msgspec.ValidationError("an object is expected")
    known = {f.encode_name for f in msgspec.structs.fields(Credentials)}
    fields = {str(key).lower(): entry for key, entry in value.items() if entry is not None}
    return msgspec.convert({key: entry for key, entry in fields.items() if key in known}, Credentials)


def _complete(credentials: Credentials) -> Credentials:
    if not credentials.auth or credentials.username:
        return credentials
    try:
        user, password = split_auth(credentials.auth)
    except InvalidParameter:
        return credentials
    return msgspec.structs.replace(credentials, username=user, password=password)
