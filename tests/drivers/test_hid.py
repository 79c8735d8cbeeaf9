"""Report descriptors as devices publish them, read by hand; and hidraw as far as a machine without HID goes (with it:
test_hidraw.py).

Vectors: a Pitney Bowes postal scale, as its owners published it; the layout of Hand Held Products' HID POS report.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from drivers.errors import DeviceLost, WrongDevice
from drivers.hid import BadDescriptor, HidDevice, parse
from drivers.transports import hidraw
from drivers.transports.hidraw import HidrawOptions, HidrawTransport

PITNEY_BOWES = bytes.fromhex(
    "058d0920a101 0930a102 8501 7508 9501 1501 0927a102 250a 1921 292a b100c0 0950a102 250c 1951 295c b100c0 c0"
    "0931a102 8502 7501 9502 1500 2501 0981 0980 9102 7506 9501 9103 c0"
    "0932a102 8503 7508 1501 0970a102 2508 1971 2978 8100c0 0950a102 250c 1951 295c 8100c0"
    "1581 257f 0941 8102 7510 1500 27ffff0000 0940 8102 c0"
    "0934a102 8505 7508 9501 0950a102 1501 250c 1951 295c b100c0 1581 257f 0941 b102 7510 1500 27ffff0000 0940 b103 c0"
    "0935a102 8506 7510 9502 1500 27ffff0000 0960 0961 b103 c0"
    "0930a102 8507 7508 950f 1500 257f 0940 b102 c0 c0"
)
BARE_SCANNER = bytes.fromhex(
    "058c0902a101 0912a102 150026ff007508 9501 0501093b 8102 9503 058c 09fb09fc09fd 8102 9538 09fe 820201"
    "7501 9501 2501 09ff 8102 7507 8103 c0c0"
)
KEYBOARD = bytes.fromhex(
    "05010906a101 050719e029e7 1500250175019508 8102 95017508 8103 95067508 15002565 05071900 2965 8100 c0"
)


def test_a_scale_is_read_field_by_field() -> None:
    scale = parse(PITNEY_BOWES)
    assert scale.applications == (0x8D0020,)
    assert scale.numbered
    assert scale.sizes["input", 3] == 6
    assert scale.sizes["output", 2] == 2
    assert scale.sizes["feature", 7] == 16
    report = bytes.fromhex("03 04 0b ff 34 19")
    status, unit = scale.find("input", 0x8D0074), scale.find("input", 0x8D0053)
    scaling, weight = scale.find("input", 0x8D0041), scale.find("input", 0x8D0040)
    assert status is not None
    assert unit is not None
    assert scaling is not None
    assert weight is not None
    assert status.usage(report) == 0x8D0074
    assert unit.usage(report) == 0x8D005B
    assert (scaling.number(report), weight.number(report)) == (-1, 6452)
    assert weight.number(report[:-1]) is None
    assert unit.usage(bytes.fromhex("03 04 0d ff 34 19")) is None
    assert unit.usage(bytes.fromhex("03 04 00 ff 34 19")) is None


def test_an_output_report_has_one_bit_where_the_descriptor_puts_it() -> None:
    scale = parse(PITNEY_BOWES)
    zero, enforced = scale.find("output", 0x8D0080), scale.find("output", 0x8D0081)
    assert zero is not None
    assert enforced is not None
    assert scale.written(zero, 1) == b"\x02\x02"
    assert scale.written(enforced, 1) == b"\x02\x01"


def test_reports_without_numbers_begin_with_their_data() -> None:
    scanner = parse(BARE_SCANNER)
    assert not scanner.numbered
    assert scanner.sizes == {("input", 0): 61}
    data, second, more = (scanner.find("input", usage) for usage in (0x8C00FE, 0x8C00FC, 0x8C00FF))
    assert data is not None
    assert second is not None
    assert more is not None
    report = b"\x03]E0" + b"abc".ljust(56, b"\0") + b"\x01"
    assert data.data(report)[:3] == b"abc"
    assert len(data.data(report)) == 56
    assert second.number(report) == ord("E")
    assert more.number(report) == 1


def test_a_keyboard_is_called_one() -> None:
    keyboard = parse(KEYBOARD)
    assert keyboard.applications == (0x010006,)
    assert str(HidDevice(0x0C2E, 0x0B61, keyboard)) == "a keyboard (0c2e:0b61)"
    assert str(HidDevice(1, 2, parse(b""))) == "nothing that it names (0001:0002)"


def test_push_and_pop_long_items_and_whole_usages() -> None:
    descriptor = bytes.fromhex("058d a4 058c b4 fe03aa010203 0bfe008c00 75089504 8102")
    (field,) = parse(descriptor).fields
    assert (field.usages, field.count, field.size_bits, field.first_bit) == ((0x8C00FE,), 4, 8, 0)


@pytest.mark.parametrize(
    ("descriptor", "what"),
    [
        ("c0", "not begun"),
        ("058da101", "not ended"),
        ("27ffff00", "cut off"),
        ("8500", "report id 0"),
        ("b4", "pop"),
        ("2a00", "cut off"),
        ("19052901", "below its minimum"),
        ("7740420f00 970000ffff 0901 8102", "longer than"),
        ("a101" * 65, "within each other"),
        ("00" * 4097, "longer than 4096"),
        ("1900290f" * 65 + "8102", "ranges"),
        ("75019640 1f 0902" + "1a00002affff" + "8102", "more than 4096 fields"),
    ],
)
def test_what_is_no_descriptor_says_where(descriptor: str, what: str) -> None:
    with pytest.raises(BadDescriptor, match=what):
        parse(bytes.fromhex(descriptor))


def test_disturbed_descriptors_are_read_or_refused_and_nothing_else() -> None:
    random = Random(20_261_124)
    for _ in range(3000):
        descriptor = bytearray(random.choice((PITNEY_BOWES, BARE_SCANNER, KEYBOARD)))
        for _ in range(random.randint(1, 4)):
            descriptor[random.randrange(len(descriptor))] = random.randrange(256)
        del descriptor[random.randrange(len(descriptor)) : random.choice((0, len(descriptor)))]
        with suppress(BadDescriptor):
            found = parse(bytes(descriptor))
            assert all(
                one.first_bit + one.count * one.size_bits <= 8 * found.sizes[one.kind, one.report_id]
                for one in found.fields
            )


def test_the_requests_are_those_of_the_kernel() -> None:
    # linux/hidraw.h on ARM, x86 and RISC-V, as a C compiler works them out
    assert hidraw.HIDIOCGRDESCSIZE == 0x80044801
    assert hidraw.HIDIOCGRDESC == 0x90044802
    assert hidraw.HIDIOCGRAWINFO == 0x80084803
    assert hidraw.set_feature_request(2) == 0xC0024806


async def opened(path: Path | str) -> None:
    transport = HidrawTransport(HidrawOptions(str(path)))
    try:
        await transport.open(lambda _: None, lambda _: None)
    finally:
        await transport.close()


async def test_hidraw_says_what_is_wrong_with_a_path(tmp_path: Path) -> None:
    with pytest.raises(DeviceLost, match="is not there; plug the device in"):
        await opened(tmp_path / "hidraw0")
    (tmp_path / "file").write_text("no device")
    with pytest.raises(WrongDevice, match="is no hidraw device"):
        await opened(tmp_path / "file")
    with pytest.raises(WrongDevice, match="is no hidraw device"):
        await opened("/dev/null")
