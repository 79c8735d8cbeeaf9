"""Samsung ECR, ICL, CAS and Dibal: their refusals, and checksums against single wrong bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.catalog import read_device
from drivers.errors import BadOption, NotReady
from drivers.events import Handshake, Noise, ScaleStatus, Weight
from drivers.scales.base import ScaleProtocol
from drivers.scales.dibal import Dibal
from drivers.scales.icl import Icl
from drivers.scales.samsung_ecr import SamsungEcr
from tests.drivers.rig import PATIENCE_S, scale_on_a_pty, until

ACK, NAK, CAN, NUL = b"\x06", b"\x15", b"\x18", b"\x00"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ttyscale-1"


@pytest.mark.parametrize("kind", ["samsung-ecr", "icl"])
async def test_a_scale_that_is_not_ready_is_asked_again(kind: str, path: Path) -> None:
    async with scale_on_a_pty(kind, path) as (scale, twin, heard):
        twin.load("0.482")
        await twin.do("busy", {"on": True})
        with pytest.raises(NotReady, match="busy") as caught:
            await scale.weigh(0.4)
        assert caught.value.reason == "busy"
        assert len(heard.now(ScaleStatus)) > 1
        await twin.do("busy", {"on": False})
        assert (await scale.weigh(PATIENCE_S)).value == "0.482"


@pytest.mark.parametrize("confirm", ["ack", "cr"])
async def test_icl_a_weight_counts_once_the_scale_has_confirmed_it(confirm: str, path: Path) -> None:
    async with scale_on_a_pty("icl", path, twin={"confirm": confirm}) as (scale, twin, heard):
        twin.load("0.482")
        await twin.do("mishear", {"on": True})
        weighing = asyncio.create_task(scale.weigh(PATIENCE_S), name="a weighing")
        assert "not what the scale sent" in (await heard.of(Noise))[0].reason
        assert not heard.now(Weight)
        await twin.do("mishear", {"on": False})
        assert (await weighing).value == "0.482"
        await until(lambda: twin.finished == (1 if confirm == "ack" else 0))


def test_icl_a_weight_that_is_not_confirmed_is_noise() -> None:
    block = b"\x02\x6900482\x57\x03"
    for end in (Icl.idle, Icl.cut_off):
        protocol = Icl()
        protocol.weigh()
        assert protocol.receive(ACK) == [Handshake(b"\x11")]
        assert protocol.receive(block) == [Handshake(block)]
        assert protocol.pending
        (noise,) = end(protocol)
        assert isinstance(noise, Noise)
        assert noise.raw == block
        assert not protocol.pending


def test_icl_no_data_is_a_reason_when_asked_and_noise_when_not() -> None:
    protocol = Icl()
    assert [type(event) for event in protocol.receive(NUL)] == [Noise]
    protocol.weigh()
    assert protocol.receive(NUL) == [ScaleStatus(NUL, fault="no_weight")]
    assert [type(event) for event in protocol.receive(NUL)] == [Noise]
    protocol.weigh()
    assert protocol.receive(CAN) == [ScaleStatus(CAN, motion=True)]


async def test_cas_a_weight_on_hold_is_not_sold_by(path: Path) -> None:
    async with scale_on_a_pty("cas-22", path) as (scale, twin, heard):
        twin.load("0.482")
        await twin.do("hold", {"on": True})
        await heard.of(Weight)
        with pytest.raises(NotReady):
            await scale.weigh(0.4)
        await twin.do("hold", {"on": False})
        assert (await scale.weigh(PATIENCE_S)).value == "0.482"


def test_cas_10_must_be_told_its_unit() -> None:
    with pytest.raises(BadOption, match="unit"):
        read_device("cas-10", {})
    with pytest.raises(BadOption, match="from 2 to 100"):
        read_device("cas-10", {"unit": "kg", "same": 1})


async def test_dibal_the_frames_in_print(path: Path) -> None:
    assert Dibal().weigh() == b"98000001\r\n"
    async with scale_on_a_pty("dibal", path) as (scale, twin, _):
        twin.load("0.316")
        weight = await scale.weigh(PATIENCE_S)
        assert (weight.value, weight.unit, weight.raw) == ("0.316", "kg", b"9900031600000004\r\n")


async def test_dibal_with_a_price(path: Path) -> None:
    async with scale_on_a_pty("dibal", path, {"unit_price": "00199"}) as (scale, twin, heard):
        twin.load("1.250")
        assert (await scale.weigh(PATIENCE_S)).value == "1.250"
        assert not heard.now(Noise)
    with pytest.raises(BadOption, match="five digits"):
        read_device("dibal", {"unit_price": "199"})


# -- one wrong byte in a frame with a checksum: nothing, or what the frame said ----------------------------------------


def xor(data: bytes) -> bytes:
    check = 0
    for byte in data:
        check ^= byte
    return bytes((check,))


def samsung(grams: int) -> bytes:
    data = f"S {grams / 1000:06.3f}kg".encode("ascii")
    return b"\x01\x02" + data + xor(data) + b"\x03\x04"


def icl(grams: int) -> bytes:
    data = b"\x69" + f"{grams:05d}".encode("ascii")
    return b"\x02" + data + xor(data) + b"\x03" + ACK  # confirmed, whatever copy it got


def dibal(grams: int) -> bytes:
    data = f"990{grams:05d}0000000".encode("ascii")
    return data + xor(data) + b"\r\n"


@pytest.mark.parametrize(("parser", "frame"), [(SamsungEcr, samsung), (Icl, icl), (Dibal, dibal)])
@example(grams=482, at=4, byte=0x39)
@settings(deadline=None)
@given(grams=st.integers(0, 15000), at=st.integers(0, 20), byte=st.integers(0, 255))
def test_one_wrong_byte_is_never_another_weight(
    parser: Callable[[], ScaleProtocol], frame: Callable[[int], bytes], grams: int, at: int, byte: int
) -> None:
    sent = bytearray(frame(grams))
    said = f"{grams // 1000}.{grams % 1000:03d}"
    assert [event.value for event in parser().receive(bytes(sent)) if isinstance(event, Weight)] == [said]
    sent[at % len(sent)] = byte
    protocol = parser()
    events = [*protocol.receive(bytes(sent)), *protocol.cut_off()]
    assert [event.value for event in events if isinstance(event, Weight)] in ([], [said])
