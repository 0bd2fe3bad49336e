"""Credentials of registries, where Docker's clients keep them: `config.json` and helper programs.

Source: docker-cli's documentation of `docker login` ("Credential stores", "Credential helper protocol"). The file is
shared with other clients: what this one does not know in it stays, to the digit.
"""

from __future__ import annotations

import base64
import os

from wherry.cli.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Document = dict[str, Any]

HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = ("", "docker.io", "index.docker.io", "registry-1.docker.io")
_FIELDS = ("username", "password", "identitytoken", "registrytoken")
_TOKEN_USER = "<token>"  # what helpers keep an identity token under
_ABSENT = ("credentials not found in native keychain", "no credentials server URL")


class HelperFailed(Exception):
    """A helper program did not do its part; the message is for the user."""


def folder() -> str:
    return os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")


def key_of(server: str) -> str:
    """The key that a registry's credentials are under: its host, and for Docker Hub an address of old."""
    host = hostname(server)
    return HUB_KEY if host in _HUB_HOSTS else host


def hostname(server: str) -> str:
    """`https://host:5000/v1/` is `host:5000`."""
    return server.partition("://")[2].partition("/")[0] if "://" in server else server.partition("/")[0]


class Store:
    """The file, as it is now. `path` is what messages name."""

    def __init__(self) -> None:
        self.path = os.path.join(folder(), "config.json")
        self._warned = False

    def get(self, key: str) -> dict[str, str]:
        """What is known of a registry, in the API's fields; empty where nothing is. Raises HelperFailed."""
        document = self._read()
        helper = _helper(document, key)
        if helper:
            return _ask(helper, key)
        entries = document.get("auths") or {}
        names = [key, *(name for name in entries if hostname(name) == key)]
        return next((_fields(entries[name]) for name in names if name in entries), {})

    def all(self) -> dict[str, dict[str, str]]:
        """All registries with what is known of them, by key; what a helper refuses to tell is left out."""
        document = self._read()
        keys = [*(document.get("auths") or {}), *(document.get("credHelpers") or {})]
        if store := document.get("credsStore"):
            try:
                keys += _call(store, "list", "")
            except HelperFailed:
                pass
        found = {}
        for key in dict.fromkeys(keys):
            try:
                given = self.get(key)
            except HelperFailed:
                continue
            if given:
                found[key] = {**given, "serveraddress": key}
        return found

    def put(self, key: str, username: str, password: str, identity_token: str) -> bool:
        """Keep them; False where they are in the file as they are. Raises HelperFailed, Failure."""
        helper = _helper(self._read(strict=True), key)
        if helper:
            secret = {"ServerURL": key, "Username": username, "Secret": password}
            if identity_token:
                secret |= {"Username": _TOKEN_USER, "Secret": identity_token}
            _call(helper, "store", _json(secret))
            entry: Document = {}
        else:
            secret_text = "" if identity_token else password
            entry = {"auth": base64.b64encode(f"{username}:{secret_text}".encode()).decode()}
            if identity_token:
                entry["identitytoken"] = identity_token

        def change(document: Document) -> None:
            document["auths"] = {**(document.get("auths") or {}), key: entry}

        self._change(change)
        return bool(helper)

    def erase(self, key: str) -> None:
        """Forget them, under their old names too. Raises HelperFailed, Failure."""
        names = [key, hostname(key), f"http://{hostname(key)}", f"https://{hostname(key)}"]
        document = self._read(strict=True)
        if helper := _helper(document, key):
            for name in dict.fromkeys(names):
                _call(helper, "erase", name)
        if any(name in (document.get("auths") or {}) for name in names):

            def change(document: Document) -> None:
                kept = document.get("auths") or {}
                document["auths"] = {name: entry for name, entry in kept.items() if name not in names}

            self._change(change)

    def _read(self, *, strict: bool = False) -> Document:
        """The document. One that is not JSON is as empty for reading, with a warning; `strict` raises Failure."""
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return {}
        except OSError as error:
            return self._unreadable(os.strerror(error.errno or 0).lower(), strict)
        from wherry.model.jsontext import loads_exact

        try:
            document = loads_exact(data) if data.strip() else {}
            if not isinstance(document, dict):
                raise ValueError("it is not an object")
        except ValueError as error:
            return self._unreadable(str(error), strict)
        return document

    @property
    def context(self) -> str:
        """The context in use, "" for the default."""
        return str(self._read().get("currentContext") or "")

    def choose_context(self, name: str) -> None:
        """Use a context from now on, "" for the default. Raises Failure."""

        def change(document: Document) -> None:
            document.pop("currentContext", None)
            if name:
                document["currentContext"] = name

        self._change(change)

    def _unreadable(self, reason: str, strict: bool) -> Document:
        if strict:
            raise Failure(f"Error loading config file: {self.path}: {reason}")
        if not self._warned:
            import sys

            self._warned = True
            print(f"WARNING: Error loading config file: {self.path}: {reason}", file=sys.stderr)
        return {}

    def _change(self, change: Callable[[Document], None]) -> None:
        """Read, change and replace the file in one step that no other of our processes can come between."""
        import fcntl

        path = os.path.realpath(self.path)  # a link to it stays a link
        parent = os.path.dirname(path)
        try:
            os.makedirs(parent, mode=0o700, exist_ok=True)
            lock = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise Failure(f"Error saving credentials: {parent}: {os.strerror(error.errno or 0).lower()}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            document = self._read(strict=True)
            change(document)
            _replace(path, document, lock)
        except OSError as error:
            raise Failure(f"Error saving credentials: {path}: {os.strerror(error.errno or 0).lower()}") from None
        finally:
            os.close(lock)


def header(image: str) -> dict[str, str]:
    """X-Registry-Auth for a request about an image: what is kept for its registry. Raises nothing; warns."""
    from wherry.errors import WherryError
    from wherry.model.reference import parse

    try:
        domain = parse(image).domain
    except WherryError:
        return {}
    return header_for(key_of(domain))


def header_for(key: str) -> dict[str, str]:
    """The same for a registry's key."""
    try:
        given = Store().get(key)
    except HelperFailed as error:
        import sys

        print(f"WARNING: {error}", file=sys.stderr)
        given = {}
    return {"X-Registry-Auth": encode({**given, "serveraddress": key})} if given else {}


def header_for_all() -> dict[str, str]:
    """X-Registry-Config for a build: everything that is kept."""
    return {"X-Registry-Config": encode(Store().all())}


def encode(value: Document) -> str:
    return base64.urlsafe_b64encode(_json(value).encode()).decode()


def _json(value: Document) -> str:
    from wherry.model.jsontext import dumps

    return dumps(value, sort=False)


def _replace(path: str, document: Document, directory: int) -> None:
    import tempfile

    from wherry.model.jsontext import indent

    handle, temporary = tempfile.mkstemp(prefix="config.json", dir=os.path.dirname(path))  # 0600
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(indent(_json(document), "\t"))
            file.flush()
            os.fsync(file.fileno())
        for owner in _owners(path):
            os.chown(temporary, *owner)
        os.replace(temporary, path)
        os.fsync(directory)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _owners(path: str) -> Iterator[tuple[int, int]]:
    """Whose the file is, where that is somebody else: root logs in for a user with `sudo -E`."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return
    if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
        yield found.st_uid, found.st_gid


def _fields(entry: Any) -> dict[str, str]:
    """An entry of `auths` in the API's fields."""
    if not isinstance(entry, dict):
        return {}
    found = {
        name: str(entry[name]) for name in ("username", "password", "identitytoken", "registrytoken") if entry.get(name)
    }
    if entry.get("auth"):
        try:
            user, colon, password = base64.b64decode(str(entry["auth"])).decode().partition(":")
        except ValueError:
            return found
        if colon and user:
            found["username"] = user
            if password := password.strip("\0"):
                found["password"] = password
    return found


def _helper(document: Document, key: str) -> str:
    """The name of the helper that a registry's credentials are with, "" for the file itself."""
    helpers = document.get("credHelpers")
    name = helpers.get(key) if isinstance(helpers, dict) else None
    name = document.get("credsStore") if name is None else name
    return name if isinstance(name, str) else ""


def _ask(helper: str, key: str) -> dict[str, str]:
    answer = _call(helper, "get", key)
    username, secret = str(answer.get("Username") or ""), str(answer.get("Secret") or "")
    if not secret:
        return {}
    if username == _TOKEN_USER:
        return {"identitytoken": secret}
    return {"username": username, "password": secret}


def _call(helper: str, verb: str, text: str) -> Document:
    """Run docker-credential-HELPER; its answer, empty where it has none. Raises HelperFailed."""
    import subprocess

    from wherry.model.jsontext import loads

    program = f"docker-credential-{helper}"
    what = {"get": "getting", "store": "storing", "erase": "erasing", "list": "listing"}[verb]
    if "/" in helper:
        raise HelperFailed(f"error {what} credentials - err: {program} is not the name of a program")
    try:
        done = subprocess.run([program, verb], input=text.encode(), stdout=subprocess.PIPE, check=False)
    except FileNotFoundError:
        reason = f'exec: "{program}": executable file not found in $PATH'
        raise HelperFailed(f"error {what} credentials - err: {reason}, out: ``") from None
    except OSError as error:
        raise HelperFailed(f"error {what} credentials - err: {program}: {error.strerror}, out: ``") from None
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        if verb in ("get", "erase") and any(words in said for words in _ABSENT):
            return {}
        raise HelperFailed(f"error {what} credentials - err: exit status {done.returncode}, out: `{said}`")
    if verb in ("store", "erase") or not said:
        return {}
    try:
        answer = loads(said)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise HelperFailed(f"error {what} credentials - err: {program} answers with something else than JSON")
    return answer
