"""An authority and certificates of its own for a test, made with openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    cert: Path
    key: Path


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.cert, self._key = directory / f"{name}.pem", directory / f"{name}-key.pem"
        self._openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.cert, "-days", "2", "-subj", f"/CN={name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def issue(self, name: str, *names: str) -> Pair:
        """A certificate for a server of these names (`DNS:…`, `IP:…`), or for a client where there is none."""
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}-key.pem")
        request, extensions = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        extensions.write_text(
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
            f"extendedKeyUsage={'serverAuth' if names else 'clientAuth'}\n"
            + (f"subjectAltName={','.join(names)}\n" if names else "")
        )
        self._openssl("req", *_NEW_KEY, "-keyout", pair.key, "-out", request, "-subj", f"/CN={name}")
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self._key, "-CAcreateserial",
            "-days", "2", "-extfile", extensions, "-out", pair.cert,
        )  # fmt: skip
        return pair

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, cwd=self._directory)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
