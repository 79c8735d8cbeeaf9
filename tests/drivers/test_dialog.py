"""Checkout Dialog 02 and 06, what is special to them: the price, one weight for one load, the challenge."""

from __future__ import annotations

import asyncio
import binascii
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.catalog import read_device, read_transport
from drivers.errors import BadOption, NotReady
from drivers.events import Handshake, Noise, ScaleStatus, Weight
from drivers.scales.dialog_02 import Dialog02
from drivers.scales.dialog_06 import Dialog06, Dialog06Options, remainder, rotated_left
from drivers.scales.scale_driver import ScaleDriver
from tests.drivers.rig import PATIENCE_S, scale_on_a_pty

ACK, NAK = b"\x06", b"\x15"
CRC16 = 0x11021
"""A polynomial that everybody knows; makers keep theirs to themselves."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ttyscale-1"


async def no_question_is_left(scale: ScaleDriver) -> None:
    """Wait until the scale has answered all that it was asked: it would give a new weight to an old question."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await scale.read(PATIENCE_S)
            except NotReady:
                continue
            return


async def test_a_weight_is_given_once_until_something_is_lifted(path: Path) -> None:
    async with scale_on_a_pty("dialog-02", path) as (scale, twin, _):
        twin.load("0.482")
        assert (await scale.weigh(PATIENCE_S)).value == "0.482"
        with pytest.raises(NotReady, match="lift the goods") as caught:
            await scale.weigh(2)
        assert caught.value.reason == "not_moved"
        await no_question_is_left(scale)
        await twin.do("unload", {})
        twin.load("0.482")
        assert (await scale.weigh(PATIENCE_S)).value == "0.482"
        assert twin.weighings == 2


async def test_the_configured_price_is_sent(path: Path) -> None:
    async with scale_on_a_pty("dialog-04", path, {"unit_price": "001999"}) as (scale, twin, heard):
        twin.load("1.250")
        assert (await scale.weigh(PATIENCE_S)).raw == b"\x0202\x1b3\x1b01250\x1b001999\x1b002499\x03"
        assert twin.price == 1999
        assert not heard.now(Noise)


@pytest.mark.parametrize("options", [{"unit_price": "12"}, {"unit_price": "12345a"}, {"unit_price": "1234567"}])
def test_a_price_that_does_not_fit_is_refused(options: dict[str, Any]) -> None:
    for kind in ("dialog-02", "dialog-04", "dialog-06"):
        with pytest.raises(BadOption, match="six digits"):
            read_device(kind, options)


def test_the_lines_are_those_of_the_documents() -> None:
    lines = [read_transport(f"dialog-{number}", "serial", {"path": "/dev/ttyS9"}) for number in ("02", "04", "06")]
    assert [(line.baud, line.data_bits, line.parity) for line in lines] == [
        (2400, 7, "odd"),
        (4800, 7, "odd"),
        (9600, 7, "odd"),
    ]


def test_a_scale_that_never_comes_to_an_end_is_left() -> None:
    protocol = Dialog02()
    for _ in range(3):  # each weighing has its own patience
        protocol.weigh()
        events = [event for _ in range(100) for event in protocol.receive(ACK)]
        assert len([event for event in events if isinstance(event, Handshake)]) < 10
        assert isinstance(events[-1], Noise)


def test_a_reason_is_asked_for_once() -> None:
    protocol = Dialog02()
    protocol.weigh()
    assert protocol.receive(NAK) == [Handshake(b"\x04\x0208\x03")]
    assert [type(event) for event in protocol.receive(NAK)] == [ScaleStatus, Handshake]
    assert protocol.receive(NAK) == [Handshake(b"\x04\x0208\x03")]


async def test_a_challenged_scale_weighs_for_who_knows_its_polynomial(path: Path) -> None:
    twin_options = {"polynomial": CRC16, "repeats": True}
    async with scale_on_a_pty("dialog-06", path, {"polynomial": CRC16}, twin_options) as (scale, twin, heard):
        twin.load("0.482")
        for _ in range(52):
            assert (await scale.weigh(PATIENCE_S)).value == "0.482"
        assert twin.checks == 2  # after power on and after 50 weighings
        assert not heard.now(Noise)
        assert not heard.now(ScaleStatus)


@pytest.mark.parametrize("options", [{}, {"polynomial": 0x18005}], ids=["none", "wrong"])
async def test_without_the_right_polynomial_it_says_what_to_configure(options: dict[str, Any], path: Path) -> None:
    async with scale_on_a_pty("dialog-06", path, options, {"polynomial": CRC16}) as (scale, twin, heard):
        twin.load("0.482")
        with pytest.raises(NotReady, match="option polynomial") as caught:
            await scale.weigh(0.5)
        assert caught.value.reason == "needs_checksum"
        assert twin.weighings == 0
        assert not heard.now(Weight)


@settings(deadline=None)
@given(random=st.integers(0, 255), checksum=st.integers(0, 0xFFFF))
def test_checksums_are_coded_with_the_random_number(random: int, checksum: int) -> None:
    protocol = Dialog06(Dialog06Options(polynomial=CRC16, software_checksum=checksum))
    (handshake,) = protocol.receive(f"\x0211\x1b2{random:02X}\x03".encode("ascii"))
    assert isinstance(handshake, Handshake)
    assert (handshake.data[:5], handshake.data[-1:]) == (b"\x04\x0210\x1b", b"\x03")
    sent, rest = handshake.data[5:9].decode("ascii"), handshake.data[9:13].decode("ascii")
    left, right = random >> 4, random & 0x0F
    assert f"{int(sent, 16):016b}" == f"{checksum:016b}"[left:] + f"{checksum:016b}"[:left]
    crc = f"{binascii.crc_hqx(checksum.to_bytes(2, 'big'), 0):016b}"
    assert f"{int(rest, 16):016b}" == crc[16 - right :] + crc[: 16 - right]


@settings(deadline=None)
@given(checksum=st.integers(0, 0xFFFF), other=st.integers(0, 0xFFFF), polynomial=st.integers(0x10000, 0x1FFFF))
def test_the_rest_of_a_division(checksum: int, other: int, polynomial: int) -> None:
    assert remainder(checksum, CRC16) == binascii.crc_hqx(checksum.to_bytes(2, "big"), 0)
    # What every division by a polynomial does: the rest of a sum is the sum of the rests, and of the divisor nothing.
    assert remainder(checksum ^ other, polynomial) == remainder(checksum, polynomial) ^ remainder(other, polynomial)
    assert remainder(1, polynomial) == polynomial & 0xFFFF


@settings(deadline=None)
@given(st.integers(0, 0xFFFF), st.integers(0, 16))
def test_a_rotation_can_be_taken_back(value: int, bits: int) -> None:
    assert rotated_left(rotated_left(value, bits), 16 - bits) == value


@pytest.mark.parametrize("options", [{"polynomial": 1}, {"polynomial": 1 << 32}, {"software_checksum": 65536}])
def test_constants_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match=next(iter(options))):
        read_device("dialog-06", options)
