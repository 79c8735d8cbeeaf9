"""What holds of every scale protocol, whatever comes over the line: rubbish, and frames with something wrong."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.catalog import DEVICES
from drivers.events import Event, Noise, ScaleStatus, Weight
from drivers.scales.base import ScaleProtocol
from tests.fuzz.runner import kept_bytes
from tests.fuzz.targets import Setup, Target, targets

SCALES = [name for name, kind in DEVICES.items() if kind.category == "scale" and kind.build is not None]
KEPT_LIMIT_BYTES = 1024
kinds = pytest.mark.parametrize("kind", SCALES)

Change = tuple[str, int, int]
"""What is done to a frame, where, and with which byte."""
changes = st.tuples(st.sampled_from(["set", "insert", "drop", "cut"]), st.integers(0, 63), st.integers(0, 255))
frames = st.tuples(st.integers(0, 999), st.lists(changes, max_size=2))
inputs = st.lists(st.one_of(st.binary(max_size=40), frames), min_size=1, max_size=6)


def spoilt(frame: bytes, change: Change, step: int) -> bytes:
    what, at, byte = change
    at %= len(frame) or 1
    if what == "set" or step > 1:  # reports keep their length
        return frame[:at] + bytes((byte,)) + frame[at + 1 :]
    if what == "insert":
        return frame[:at] + bytes((byte,)) + frame[at:]
    return frame[:at] + (frame[at + 1 :] if what == "drop" else b"")


def line(target: Target, drawn: list[bytes | tuple[int, list[Change]]]) -> list[bytes]:
    """What was drawn, as it comes: frames of the captures with their changes, and rubbish in whole steps."""
    pieces = []
    for one in drawn:
        if isinstance(one, bytes):
            pieces.append(
                one * target.step_bytes if target.split == "anywhere" else (one + bytes(64))[: target.step_bytes]
            )
        else:
            frame = target.seeds[one[0] % len(target.seeds)]
            for change in one[1]:
                frame = spoilt(frame, change, target.step_bytes)
            pieces.append(frame)
    return pieces


def scale(target: Target, which: int) -> ScaleProtocol:
    setup: Setup = target.setups[which % len(target.setups)]
    protocol = target.parser(setup)
    assert isinstance(protocol, ScaleProtocol)
    return protocol


@kinds
@settings(max_examples=60, deadline=None)
@given(drawn=inputs, which=st.integers(0, 9), asked=st.booleans())
def test_nothing_makes_it_raise_and_nothing_comes_out_of_nothing(
    kind: str, drawn: list[bytes | tuple[int, list[Change]]], which: int, asked: bool
) -> None:
    target = targets()[kind]
    protocol = scale(target, which)
    if asked:
        protocol.weigh()
    pieces = line(target, drawn)
    events: list[Event] = [event for piece in pieces for event in protocol.receive(piece)]
    events += protocol.cut_off()
    assert not protocol.pending
    assert [*protocol.idle(), *protocol.cut_off(), *protocol.receive(b"")] == []
    for event in events:
        assert not isinstance(event, Noise) or event.reason
        if isinstance(event, Weight | ScaleStatus):
            assert event.raw in b"".join(pieces)
        if isinstance(event, Weight):
            assert Decimal(event.value).is_finite()
            assert event.value.isascii()


@pytest.mark.parametrize("kind", [kind for kind in SCALES if targets()[kind].split == "anywhere"])
@settings(max_examples=60, deadline=None)
@given(drawn=inputs, which=st.integers(0, 9), places=st.lists(st.integers(0, 999), max_size=8))
def test_however_it_is_split_it_means_the_same(
    kind: str, drawn: list[bytes | tuple[int, list[Change]]], which: int, places: list[int]
) -> None:
    target = targets()[kind]
    data = b"".join(line(target, drawn))
    whole = scale(target, which)
    expected = [*whole.receive(data), *whole.cut_off()]
    parts = scale(target, which)
    cuts = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    events = [event for start, end in pairwise(cuts) for event in parts.receive(data[start:end])]
    assert [*events, *parts.cut_off()] == expected


@kinds
@settings(max_examples=10, deadline=None)
@given(rubbish=st.binary(min_size=8, max_size=64), which=st.integers(0, 9))
def test_it_keeps_little_of_much(kind: str, rubbish: bytes, which: int) -> None:
    target = targets()[kind]
    protocol = scale(target, which)
    at_first = kept_bytes(protocol)
    pieces = [rubbish * 16] if target.split == "anywhere" else [(rubbish * 64)[: target.step_bytes]] * 16
    for _ in range(24):
        for piece in pieces:
            protocol.receive(piece)
        assert kept_bytes(protocol) - at_first <= KEPT_LIMIT_BYTES
