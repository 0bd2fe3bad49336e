"""Answers whose texts are not all text."""

import json

import msgspec
import pytest

from wherry.api.errors import body_of
from wherry.api.jsontext import encode, readable


class Named(msgspec.Struct, rename={"name": "Name"}):
    name: str
    size: int = 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ""),
        ("plain", "plain"),
        ("中😀", "中😀"),
        ("a\udcffb", "a\ufffdb"),
        ("\udce4\udcb8", "\ufffd\ufffd"),  # a character's beginning: Go replaces each byte
        ("中\udc80", "中\ufffd"),
        ("\ud83d", "\ufffd"),
    ],
)
def test_what_is_no_text_is_replaced(text: str, told: str) -> None:
    assert readable(text) == told
    assert json.loads(encode({"a": [text]})) == {"a": [told]}
    assert json.loads(encode([Named(text)])) == [{"Name": told, "size": 3}]
    assert json.loads(body_of(text)) == {"message": told}
