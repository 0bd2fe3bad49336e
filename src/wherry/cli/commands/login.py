"""`login` and `logout`."""

from __future__ import annotations

import os
import sys

from wherry.cli import program
from wherry.cli.credentials import HUB_KEY, HelperFailed, Store, key_of
from wherry.cli.errors import Failure
from wherry.client.engine import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.context import Context

_NO_TERMINAL = "Error: Cannot perform an interactive login from a non TTY device"


def run(context: Context) -> int:
    flags = context.flags
    username, password = flags.text("username"), flags.text("password")
    if flags.changed("username") and not username:
        raise Failure("username is empty")
    if flags.changed("password"):
        if flags.on("password-stdin"):
            raise Failure("conflicting options: cannot specify both --password and --password-stdin")
        print("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", file=sys.stderr)
    if flags.on("password-stdin"):
        if not username:
            raise Failure("the --password-stdin option requires --username to be set")
        password = sys.stdin.read().rstrip("\r\n")
    store = Store()
    key = key_of(context.arguments[0] if context.arguments else "")
    if username or password or not _log_in_as_known(context, store, key):
        username, password = _prompted(key, username, password)
        token = _log_in(context, key, {"username": username, "password": password})
        _keep(store, key, username, password, token)
    print("Login Succeeded")
    return 0


def logout(context: Context) -> int:
    key = key_of(context.arguments[0] if context.arguments else "")
    print(f"Removing login credentials for {key}")
    sys.stdout.flush()
    try:
        Store().erase(key)
    except HelperFailed as error:
        print(f"WARNING: could not erase credentials:\n{key}: {error}", file=sys.stderr)
    return 0


def _known(store: Store, key: str) -> dict[str, str]:
    try:
        return store.get(key)
    except HelperFailed as error:
        print(f"WARNING: {error}", file=sys.stderr)
        return {}


def _log_in_as_known(context: Context, store: Store, key: str) -> bool:
    """With what is kept already, if anything is and the registry takes it."""
    known = _known(store, key)
    if not known:
        return False
    _tell_known(known)
    try:
        token = _log_in(context, key, known)
    except EngineError as error:
        print(f"Login did not succeed, error: Error response from daemon: {error.message}", file=sys.stderr)
        return False
    if token and token != known.get("identitytoken"):
        _keep(store, key, known.get("username", ""), known.get("password", ""), token)
    return True


def _tell_known(known: dict[str, str]) -> None:
    user = f" [Username: {known['username']}]" if known.get("username") else ""
    print(f"Authenticating with existing credentials...{user}")
    _inform([f"To login with a different account, run '{program.NAME} logout' followed by '{program.NAME} login'"])
    print()


def _log_in(context: Context, key: str, fields: dict[str, str]) -> str:
    """The identity token that the registry gives, if any. Raises EngineError."""
    answer = context.engine.post("/auth", json={**fields, "serveraddress": key}) or {}
    return str(answer.get("IdentityToken") or "")


def _keep(store: Store, key: str, username: str, password: str, token: str) -> None:
    try:
        in_helper = store.put(key, username, password, token)
    except HelperFailed as error:
        raise Failure(f"Error saving credentials: {error}") from None
    if not in_helper:
        print(
            f"\nWARNING! Your credentials are stored unencrypted in '{store.path}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n",
            file=sys.stderr,
        )


def _prompted(key: str, username: str, password: str) -> tuple[str, str]:
    """Ask for what is missing. Raises Failure."""
    if username and password:
        return username, password
    if not os.isatty(0):
        raise Failure(_NO_TERMINAL)
    if not username:
        username = _ask("Username: ").strip()
        if not username:
            raise Failure("Error: Non-null Username Required")
    if not password:
        if key == HUB_KEY:
            _inform(
                [
                    "A Personal Access Token (PAT) can be used instead.",
                    "To create a PAT, visit https://app.docker.com/settings",
                ]
            )
        password = _ask("Password: ", hidden=True)
        if not password:
            raise Failure("Error: Password Required")
    return username, password


def _ask(prompt: str, *, hidden: bool = False) -> str:
    """A line from the terminal; what is `hidden` is not echoed, from before the prompt on."""
    if not hidden:
        return _line(prompt)
    import termios

    before = termios.tcgetattr(0)
    silent = termios.tcgetattr(0)
    silent[3] &= ~termios.ECHO
    try:
        termios.tcsetattr(0, termios.TCSADRAIN, silent)
        return _line(prompt)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        print()


def _line(prompt: str) -> str:
    sys.stdout.write(prompt)
    sys.stdout.flush()
    return sys.stdin.readline().rstrip("\r\n")


def _inform(lines: list[str]) -> None:
    """A remark set apart from the rest, in colour on a terminal."""
    first, *others = lines
    if os.isatty(1):
        head, tail = "\033[1m\033[106m\033[30mi\033[0m\033[0m \033[96mInfo → \033[0m\033[0m\033[3m", "\033[0m"
    else:
        head, tail = " Info -> ", ""
    sys.stdout.write(f"\n{head}{first}{tail}\n")
    sys.stdout.write("".join([f"         {line}\n" for line in others]) + "\n")
    sys.stdout.flush()
