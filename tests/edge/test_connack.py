"""A broker may name any largest packet; the library takes not every one."""

from __future__ import annotations

import pytest

from edge.bus.connack import LIBRARY_BEARS_BYTES, bounded

RECEIVE_MAXIMUM = bytes([0x21, 0, 10])
REASON = bytes([0x1F, 0, 3]) + b"'()"  # holds what looks like the property's number
USER = bytes([0x26, 0, 1]) + b"a" + bytes([0, 2]) + b"bc"


def connack(*properties: bytes) -> bytes:
    packed = b"".join(properties)
    return bytes([0, 0, len(packed)]) + packed


@pytest.mark.parametrize("said", [LIBRARY_BEARS_BYTES + 1, 268_435_460, 2**32 - 1])
@pytest.mark.parametrize("before", [(), (RECEIVE_MAXIMUM,), (REASON, USER, RECEIVE_MAXIMUM)])
def test_a_larger_packet_than_the_library_bears_is_made_smaller(before: tuple[bytes, ...], said: int) -> None:
    def with_size(size: int) -> bytes:
        return connack(*before, bytes([0x27]) + size.to_bytes(4, "big"), RECEIVE_MAXIMUM)

    assert bounded(with_size(said)) == with_size(LIBRARY_BEARS_BYTES)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\0\0\0",
        connack(RECEIVE_MAXIMUM, bytes([0x27, 0, 1, 0, 0])),
        connack(bytes([0x27, 255])),
        connack(bytes([0x99, 0x27, 255, 255, 255, 255])),
        connack(REASON),
    ],
)
def test_everything_else_is_left_as_it_came(body: bytes) -> None:
    assert bounded(body) == body
