"""The key sequence that leaves a container running: ctrl-p,ctrl-q unless the user says otherwise."""

from __future__ import annotations

DEFAULT = b"\x10\x11"


def parse(text: str) -> bytes:
    """The bytes of "ctrl-p,ctrl-q" or "a,ctrl-@"; the default for "". Raises ValueError."""
    if not text:
        return DEFAULT
    keys = bytearray()
    for key in text.split(","):
        if len(key) == 1 and key.isascii():
            keys.append(ord(key))
        elif key.startswith("ctrl-") and len(key) == 6 and (code := ord(key[5])) < 128:
            if "a" <= key[5] <= "z":
                keys.append(code - 96)
            elif key[5] in "@[\\]^_":
                keys.append(code - 64)
            else:
                raise ValueError(f"invalid detach keys ({text}): Unknown character: '{key}'")
        else:
            raise ValueError(f"invalid detach keys ({text}): Unknown character: '{key}'")
    return bytes(keys)


class Watcher:
    """Finds the sequence in what is typed. What could be its beginning is held back until the next key decides.

    The key that breaks a sequence off begins none, as in Docker.
    """

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self._seen = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what is to be passed on, whether the sequence is complete)."""
        out = bytearray()
        for byte in data:
            if byte == self.keys[self._seen]:
                self._seen += 1
                if self._seen == len(self.keys):
                    self._seen = 0
                    return bytes(out), True
                continue
            out += self.keys[: self._seen]
            out.append(byte)
            self._seen = 0
        return bytes(out), False
