"""What goes wrong with a template."""

from __future__ import annotations


class TemplateError(Exception):
    """`str()` is Go's whole message, "template: NAME:LINE: ..."."""
