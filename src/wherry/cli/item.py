"""One entry of a list as a template sees it."""

from __future__ import annotations

from wherry.model.jsontext import dumps
from wherry.model.template.values import MISSING, Typed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.listing import Listing


class Item(Typed):
    """Fields by name, computed when asked."""

    def __init__(self, listing: Listing, item: Any) -> None:
        self._listing = listing
        self._item = item
        self.type_name = listing.type_name

    def has_field(self, name: str) -> bool:
        return name in self._listing.fields or name in self._listing.methods

    def is_method(self, name: str) -> bool:
        return name in self._listing.methods

    def field(self, name: str, arguments: list[Any]) -> Any:
        if name in self._listing.methods:
            return self._listing.methods[name](self._item, *arguments)
        return self._listing.fields[name](self._item)

    def text(self) -> str:
        return self.to_json()

    def to_json(self) -> str:
        """All fields, in Go's JSON with HTML's characters escaped."""
        text = dumps({name: field(self._item) for name, field in self._listing.fields.items()})
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


class Probe(Typed):
    """An entry without values that notes which fields are asked for."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self.type_name = listing.type_name
        self.used: set[str] = set()

    def has_field(self, name: str) -> bool:
        return name in self._listing.fields or name in self._listing.methods

    def is_method(self, name: str) -> bool:
        return name in self._listing.methods

    def field(self, name: str, arguments: list[Any]) -> Any:
        if name in self._listing.methods and len(arguments) != 1:
            raise TypeError(name)
        self.used.add(name)
        return ""

    def to_json(self) -> str:
        self.used.update(self._listing.fields)
        return "{}"


class Header(Typed):
    """The titles of a list's columns, under the names of its fields; a label's title is the last part of its name."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self.type_name = "formatter.SubHeaderContext"

    def has_field(self, name: str) -> bool:
        return True

    def is_method(self, name: str) -> bool:
        return name in self._listing.methods

    def field(self, name: str, arguments: list[Any]) -> Any:
        if name in self._listing.methods:
            return str(arguments[0]).rpartition(".")[2].replace("-", " ").replace("_", " ")
        return self._listing.headers.get(name, MISSING)

    def to_json(self) -> str:
        return dumps(self._listing.headers)
