"""WebSocket frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model import websockets
from wherry.model.websockets import Broken, Decoder


def masked(opcode: int, data: bytes, *, final: bool = True, mask: bytes = b"abcd") -> bytes:
    """A frame as a client sends it, written from the RFC's diagram."""
    size = len(data)
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = b"\xfe" + size.to_bytes(2, "big") if size < 1 << 16 else b"\xff" + size.to_bytes(8, "big")
    body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    return bytes([(0x80 if final else 0) | opcode]) + length + mask + body


def test_the_example_of_the_rfc() -> None:
    assert websockets.accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert Decoder().feed(bytes.fromhex("818537fa213d7f9f4d5158")) == [(websockets.BINARY, b"Hello")]
    assert websockets.frame(websockets.TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 70000])
def test_sizes(size: int) -> None:
    data = b"x" * size
    assert Decoder().feed(masked(2, data)) == [(websockets.BINARY, data)]
    sent = websockets.frame(2, data)
    assert sent.endswith(data)
    assert len(sent) - size == (2 if size < 126 else 4 if size < 65536 else 10)


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 8, 9, 10]), st.binary(max_size=125)), max_size=5),
    st.binary(min_size=4, max_size=4),
    st.integers(1, 50),
)
def test_frames_are_the_same_however_they_come(frames: list[tuple[int, bytes]], mask: bytes, step: int) -> None:
    wire = b"".join(masked(opcode, data, mask=mask) for opcode, data in frames)
    decoder = Decoder()
    found = [one for start in range(0, len(wire), step) for one in decoder.feed(wire[start : start + step])]
    assert found == [(opcode if opcode >= 8 else websockets.BINARY, data) for opcode, data in frames]


def test_pieces_of_a_message_and_a_ping_between_them() -> None:
    wire = masked(1, b"hel", final=False) + masked(9, b"p") + masked(0, b"lo", final=False) + masked(0, b"!")
    assert [data for opcode, data in Decoder().feed(wire) if opcode == websockets.BINARY] == [b"hel", b"lo", b"!"]


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (websockets.frame(1, b"unmasked"), 1002),
        (masked(3, b""), 1002),
        (masked(11, b""), 1002),
        (b"\xc1\x80abcd", 1002),
        (masked(9, b"", final=False), 1002),
        (masked(9, b"x" * 126), 1002),
        (masked(0, b"nothing to continue"), 1002),
        (masked(1, b"a", final=False) + masked(1, b"b"), 1002),
        (b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"abcd", 1009),
    ],
    ids=range(9),
)
def test_what_breaks_the_protocol(wire: bytes, code: int) -> None:
    with pytest.raises(Broken) as caught:
        Decoder().feed(wire)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("key", "good"), [("dGhlIHNhbXBsZSBub25jZQ==", True), ("", False), ("x", False), ("dGhl", False), ("é" * 8, False)]
)
def test_keys(key: str, good: bool) -> None:
    assert websockets.is_key(key) is good
