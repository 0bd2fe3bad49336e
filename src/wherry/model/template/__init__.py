"""Go's text/template, as far as --format needs it: everything but definitions of further templates.

    parse("{{range .Mounts}}{{.Source}} {{end}}").render(container)

Values are what JSON gives (None, bool, int, float, str, list, dict) and `Typed` ones, which have a Go type's fields.
The texts of errors are Go's, since people and scripts read them.
"""

from __future__ import annotations

from wherry.model.template.errors import TemplateError
from wherry.model.template.functions import FUNCTIONS, HEADER_FUNCTIONS
from wherry.model.template.nodes import parse_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.model.template.functions import Function
    from wherry.model.template.nodes import ListNode

__all__ = ["HEADER_FUNCTIONS", "Template", "TemplateError", "parse"]


class Template:
    """A parsed template. `strict` makes a missing map key an error instead of "<no value>"."""

    def __init__(self, tree: ListNode, text: str, name: str, functions: dict[str, Function]) -> None:
        self._tree = tree
        self._text = text
        self._name = name
        self._functions = functions

    def render(self, value: Any, *, strict: bool = False) -> str:
        """The text for `value`. Raises TemplateError."""
        from wherry.model.template.evaluate import Evaluation

        return Evaluation(self._text, self._name, self._functions, strict=strict).render(self._tree, value)


def parse(text: str, functions: dict[str, Function] | None = None, name: str = "") -> Template:
    """Parse `text`; `functions` replace or add to the usual ones. Raises TemplateError."""
    known = {**FUNCTIONS, **(functions or {})}
    return Template(parse_tree(text, known, name), text, name, known)
