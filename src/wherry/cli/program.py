"""What this program calls itself, in help and in errors."""

from __future__ import annotations

NAME = "wherry"
TITLE = "Wherry"
VERSION = "0.1.0"
DEFAULT_HOST = "unix:///run/wherry/wherry.sock"
