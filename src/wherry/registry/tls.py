"""TLS contexts by the files they are made of, made anew when a file changes."""

from __future__ import annotations

import ssl
from pathlib import Path

from wherry.errors import InvalidParameter
from wherry.model.registry_hosts import TlsFiles
from wherry.registry.threads import Threads

_Key = tuple[TlsFiles, tuple[tuple[int, int], ...]]
_KEPT = 64


class TlsContexts:
    """A cache: loading what the system trusts takes some 10 ms, and connections are pooled by their context."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._contexts: dict[_Key, ssl.SSLContext] = {}

    async def get(self, files: TlsFiles) -> ssl.SSLContext:
        """Raises InvalidParameter naming the file that is missing or is no certificate."""
        key = await self._threads.run(_stamped, files) if files.authorities or files.clients else (files, ())
        context = self._contexts.get(key)
        if context is None:
            context = await self._threads.run(make_context, files)
            while len(self._contexts) >= _KEPT:
                self._contexts.pop(next(iter(self._contexts)))
            context = self._contexts.setdefault(key, context)
        return context


def make_context(files: TlsFiles) -> ssl.SSLContext:
    """The system's authorities and the given ones; TLS 1.2 at least. Blocking. Raises InvalidParameter."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # 3.13 refuses private CAs without key usage
    for path in files.authorities:
        try:
            context.load_verify_locations(cafile=str(path))
        except (OSError, ValueError) as error:
            raise InvalidParameter(f"authority {path} cannot be read: {_reason(error)}") from None
    for certificate, key in files.clients:
        try:
            context.load_cert_chain(str(certificate), str(key), password=_no_password)
        except (OSError, ValueError) as error:
            raise InvalidParameter(f"client certificate {certificate} cannot be read: {_reason(error)}") from None
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_password() -> str:
    raise ValueError("its key has a password")  # or OpenSSL would ask the terminal


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "it is not a certificate in PEM, or the key is another's"
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def _stamped(files: TlsFiles) -> _Key:
    paths = [*files.authorities, *(path for pair in files.clients for path in pair)]
    return files, tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino
