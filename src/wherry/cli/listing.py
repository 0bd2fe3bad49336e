"""Lists of objects, in a table, by a template, as JSON or as IDs: what ps, images, volume ls and network ls share.

A kind of list is a mapping from field names to headers, and from field names to functions of one item. The default
table needs no template engine, and so does not import it.
"""

from __future__ import annotations

import sys

from wherry.cli import tabular
from wherry.cli.errors import Failure
from wherry.model.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Field = Callable[..., Any]


class Listing:
    """One kind of list. `fields` are the values a template may name, `headers` their column titles, `type_name` what
    errors call an item, `methods` the fields that take arguments."""

    def __init__(
        self,
        type_name: str,
        headers: dict[str, str],
        fields: dict[str, Field],
        methods: dict[str, Field] | None = None,
    ) -> None:
        self.type_name = type_name
        self.headers = headers
        self.fields = fields
        self.methods = methods or {}

    def show(self, items: list[Any], columns: list[str], form: str = "", *, quiet: str = "") -> None:
        """Print `items` by the --format `form`; `columns` make the default table, `quiet` is the field of -q."""
        if quiet and form in ("", "table"):
            sys.stdout.write("".join([f"{self.fields[quiet](item)}\n" for item in items]))
        else:
            sys.stdout.write(self.text(items, columns, form))

    def text(self, items: list[Any], columns: list[str], form: str = "") -> str:
        """What `show` prints, without -q."""
        if form not in ("", "table"):
            text = self.formatted(items, form)
            return visible(text) if sys.stdout.isatty() else text
        rows = [[str(self.fields[name](item)) for name in columns] for item in items]
        return tabular.table([self.headers[name] for name in columns], rows)

    def probe(self, form: str) -> set[str]:
        """The fields that a --format names, found by running it on an empty entry. Raises Failure for a bad one."""
        if form in ("", "table", "json"):
            return set()
        from wherry.cli.item import Probe

        probe = Probe(self)
        self._render([probe], form, with_header=False)
        return probe.used

    def formatted(self, items: list[Any], form: str) -> str:
        """The text of `items` by a template, with or without the word "table" before it, or as JSON lines."""
        from wherry.cli.item import Item

        if form == "json":
            form = "{{json .}}"
        with_header = form.startswith("table")
        form = form[len("table") :].strip() if with_header else form
        lines = self._render([Item(self, item) for item in items], form, with_header=with_header)
        text = "".join([line + "\n" for line in lines])
        return tabular.align(text) if with_header else text

    def _render(self, items: list[Any], form: str, *, with_header: bool) -> list[str]:
        """A line an item, the header before them if asked for. Raises Failure."""
        from wherry.model.template import TemplateError, parse

        form = form.replace("\\t", "\t").replace("\\n", "\n")
        try:
            template = parse(form)
        except TemplateError as error:
            raise Failure(f"failed to parse template: {error}") from None
        try:
            rows = [template.render(item) for item in items]
            return [self._header(form), *rows] if with_header else rows
        except TemplateError as error:
            raise Failure(f"failed to execute template: {error}") from None

    def _header(self, form: str) -> str:
        from wherry.cli.item import Header
        from wherry.model.template import HEADER_FUNCTIONS, parse

        return parse(form, HEADER_FUNCTIONS).render(Header(self))


def filters(given: dict[str, list[str]]) -> dict[str, dict[str, bool]] | None:
    """--filter in the API's form, None where there are none."""
    return {name: dict.fromkeys(values, True) for name, values in sorted(given.items())} or None
