"""Query parameters, read as Docker's daemon reads them."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from wherry.api.jsontext import readable
from wherry.errors import InvalidParameter, SystemFailure

_FALSE = frozenset({"", "0", "no", "false", "none"})
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})[^&=]{0,2}")
_INT64 = range(-(2**63), 2**63)


class Query:
    """The parameters of one request. The first of repeated ones counts, but for `all`.

    Bytes that are not UTF-8 are U+FFFD, as Go's encoding/json tells them, but in the names of files.
    Raises InvalidParameter, in the words of Go's net/url, for one that is malformed.
    """

    __slots__ = ("_values",)

    def __init__(self, raw: str) -> None:
        if ";" in raw:
            raise InvalidParameter("invalid semicolon separator in query")
        if "%" in raw and (broken := _BROKEN_ESCAPE.search(raw)):
            raise InvalidParameter(f'invalid URL escape "{readable(broken[0])}"')
        self._values: dict[str, list[str]] = (
            parse_qs(raw, keep_blank_values=True, encoding="utf-8", errors="surrogateescape") if raw else {}
        )

    def __bool__(self) -> bool:
        return bool(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str = "") -> str:
        values = self._values.get(name)
        return readable(values[0]) if values else default

    def all(self, name: str) -> list[str]:
        return list(map(readable, self._values.get(name, ())))

    def file(self, name: str) -> str:
        """The name of a file, "" when absent; bytes that are not UTF-8 are kept as surrogates (os.fsdecode)."""
        return self._values.get(name, [""])[0]

    def boolean(self, name: str, default: bool = False) -> bool:
        """Anything is true but the empty text, 0, no, false and none; `default` counts where it is not given."""
        if name not in self._values:
            return default
        return self.text(name).strip().lower() not in _FALSE

    def integer(self, name: str, default: int | None = None, *, failure: bool = False) -> int | None:
        """A decimal number; `default` when absent or empty.

        Raises InvalidParameter in the words of Go's strconv.Atoi; SystemFailure with `failure`, for the places
        where the real engine answers 500.
        """
        written = self.text(name)
        if not written:
            return default
        return self._atoi(written, failure)

    def required_integer(self, name: str) -> int:
        """A decimal number that must be there; raises InvalidParameter in the words of Go's strconv.Atoi."""
        return self._atoi(self.text(name), failure=False)

    @staticmethod
    def _atoi(written: str, failure: bool) -> int:
        digits = written[1:] if written[:1] in ("+", "-") else written
        if not (digits.isascii() and digits.isdigit()):
            problem = "invalid syntax"
        elif int(written) not in _INT64:
            problem = "value out of range"
        else:
            return int(written)
        kind = SystemFailure if failure else InvalidParameter
        raise kind(f'strconv.Atoi: parsing "{written}": {problem}')
