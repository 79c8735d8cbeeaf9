"""A configured USB device is found again wherever it is plugged in, and never mistaken for another.

What is plugged in is written as `udevadm info --attribute-walk` and `--query=property` show it: a walk begins at the
node and goes up; the first usb_interface and usb_device on the way are its own. Shapes and values are those of real
devices: an FT232R pair (0403:6001), a CP2108 with four lines on one number, a TM-T88IV (04b8:0202, J4LG008211), a
Honeywell scanner whose HID interfaces share one id (0c2e:0b61), PL2305 printer cables without a number (067b:2305),
and devices that all call themselves "0x0001".
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from drivers.errors import BadOption, DeviceLost, WrongDevice
from drivers.options import read_options
from drivers.transports.usb_identity import UsbDevice, UsbPresent, find

CONTROLLER = "/devices/pci0000:00/0000:00:14.0/usb1"


def walk(port: str, node: str, attributes: str, interface: int = 0) -> str:
    """The lines of an attribute walk that matter, from the node up to the USB device."""
    return f"""
  looking at device '{CONTROLLER}/1-1/{port}/{port}:1.{interface}/{node}':
    KERNEL=="{node}"

  looking at parent device '{CONTROLLER}/1-1/{port}/{port}:1.{interface}':
    KERNELS=="{port}:1.{interface}"
    SUBSYSTEMS=="usb"
    ATTRS{{bInterfaceNumber}}=="{interface:02x}"
    ATTRS{{supports_autosuspend}}=="1"

  looking at parent device '{CONTROLLER}/1-1/{port}':
    KERNELS=="{port}"
    SUBSYSTEMS=="usb"
    DRIVERS=="usb"
{attributes}

  looking at parent device '{CONTROLLER}':
    KERNELS=="usb1"
    SUBSYSTEMS=="usb"
    ATTRS{{idProduct}}=="0002"
    ATTRS{{idVendor}}=="1d6b"
    ATTRS{{serial}}=="0000:00:14.0"
"""


def plugged(*walks: str, keyboards: tuple[str, ...] = ()) -> list[UsbPresent]:
    """Read walks the way a person does: the nearest USB device is the one; nodes of one port belong together."""
    devices: dict[str, tuple[dict[str, str], dict[str, str], list[tuple[str, dict[str, str], dict[str, str]]]]] = {}
    for text in walks:
        levels = text.split("  looking at ")[1:]
        node, interface, device = levels[0], levels[1], levels[2]
        name = re.findall(r'KERNELS=="(.*)"', device)[0]
        attributes = dict(re.findall(r'ATTRS\{(\w+)\}=="(.*)"', device))
        properties = {"ID_PATH": f"pci-0000:00:14.0-usb-0:{name.partition('-')[2]}", "DEVTYPE": "usb_device"}
        path = "/dev/" + re.findall(r'KERNEL=="(.*)"', node)[0]
        told = {"DEVNAME": path} | ({"ID_INPUT_KEYBOARD": "1"} if path in keyboards else {})
        _, _, nodes = devices.setdefault(name, (attributes, properties, []))
        nodes.append((path, told, dict(re.findall(r'ATTRS\{(\w+)\}=="(.*)"', interface))))
    return [UsbPresent.described(name, *device) for name, device in devices.items()]


def ids(vendor: str, product: str, serial: str | None = None) -> str:
    lines = [f'    ATTRS{{idVendor}}=="{vendor}"', f'    ATTRS{{idProduct}}=="{product}"']
    return "\n".join(lines + ([f'    ATTRS{{serial}}=="{serial}"'] if serial else []))


def ftdi(port: str, node: str, serial: str | None) -> str:
    return walk(port, node, ids("0403", "6001", serial))


FTDI = UsbDevice("0403", "6001", serial="AL00ITFV")
UNNUMBERED = UsbDevice("067b", "2305")


def test_a_serial_number_is_found_in_whatever_port_and_under_whatever_name() -> None:
    before = plugged(ftdi("1-1.2", "ttyUSB0", "AL00ITFV"), ftdi("1-1.3", "ttyUSB1", "AH02LWD6"))
    after = plugged(ftdi("1-1.4", "ttyUSB1", "AL00ITFV"), ftdi("1-1.3", "ttyUSB0", "AH02LWD6"))
    assert find(FTDI, before).path == "/dev/ttyUSB0"
    found = find(FTDI, after, last_port="1-1.2")
    assert (found.path, found.port, found.serial, found.in_place_of) == ("/dev/ttyUSB1", "1-1.4", "AL00ITFV", None)
    assert find(replace(FTDI, port="1-1.3"), after).path == "/dev/ttyUSB1", "its number goes before its port"


def test_a_broken_device_is_replaced_by_one_of_its_kind_in_the_same_port() -> None:
    present = plugged(ftdi("1-1.2", "ttyUSB0", "FTNEW111"), ftdi("1-1.3", "ttyUSB1", "AH02LWD6"))
    for wish, last_port in ((replace(FTDI, port="1-1.2"), None), (FTDI, "1-1.2")):
        found = find(wish, present, last_port=last_port, others=["AH02LWD6"])
        assert (found.path, found.serial, found.in_place_of) == ("/dev/ttyUSB0", "FTNEW111", "AL00ITFV")
    unnumbered = plugged(ftdi("1-1.2", "ttyUSB0", None))
    assert find(FTDI, unnumbered, last_port="1-1.2").in_place_of == "AL00ITFV"


@pytest.mark.parametrize(
    ("present", "last_port"),
    [
        ([ftdi("1-1.3", "ttyUSB0", "FTNEW111")], "1-1.2"),  # another port
        ([ftdi("1-1.3", "ttyUSB0", "FTNEW111")], None),  # nobody knows where it was
        ([ftdi("1-1.2", "ttyUSB0", "AH02LWD6")], "1-1.2"),  # that one is another device of the configuration
        ([walk("1-1.2", "ttyUSB0", ids("10c4", "ea60", "0001"))], "1-1.2"),  # another kind of device
        ([], "1-1.2"),
    ],
)
def test_nothing_else_takes_the_place_of_a_device(present: list[str], last_port: str | None) -> None:
    with pytest.raises(DeviceLost, match="AL00ITFV is not there"):
        find(FTDI, plugged(*present), last_port=last_port, others=["AH02LWD6"])


def test_two_broken_devices_are_replaced_each_in_its_own_port() -> None:
    other = replace(FTDI, serial="AH02LWD6")
    present = plugged(ftdi("1-1.2", "ttyUSB0", "FTNEW111"), ftdi("1-1.3", "ttyUSB1", "FTNEW222"))
    assert find(FTDI, present, last_port="1-1.2", others=["AH02LWD6"]).path == "/dev/ttyUSB0"
    assert find(other, present, last_port="1-1.3", others=["AL00ITFV"]).path == "/dev/ttyUSB1"


def test_two_without_a_number_stay_two_by_their_ports() -> None:
    present = plugged(*(walk(f"1-1.{n}", f"lp{n}", ids("067b", "2305")) for n in (1, 3)))
    assert find(replace(UNNUMBERED, port="1-1.1"), present).path == "/dev/lp1"
    assert find(replace(UNNUMBERED, port="1-1.3"), present).path == "/dev/lp3"
    assert find(replace(UNNUMBERED, port="pci-0000:00:14.0-usb-0:1.3"), present).path == "/dev/lp3"
    with pytest.raises(WrongDevice, match=r"there are several .* write which: serial or port"):
        find(UNNUMBERED, present)
    with pytest.raises(WrongDevice):
        find(UNNUMBERED, present, last_port="1-1.1")  # where it was is no proof while two are there
    assert find(UNNUMBERED, present[:1]).path == "/dev/lp1"
    with pytest.raises(DeviceLost, match=r"in port 1-1\.3; plug it into its port"):
        find(replace(UNNUMBERED, port="1-1.1"), present[1:])


def test_a_number_that_several_have_needs_the_port_beside_it() -> None:
    present = plugged(*(walk(f"1-1.{n}", f"ttyUSB{n}", ids("10c4", "ea60", "0x0001")) for n in (1, 2)))
    wish = UsbDevice("10c4", "ea60", serial="0x0001")
    with pytest.raises(WrongDevice, match="several have this number"):
        find(wish, present, last_port="1-1.1")
    assert find(replace(wish, port="1-1.2"), present).path == "/dev/ttyUSB2"


def test_of_several_lines_on_one_device_the_interface_chooses() -> None:
    cp2108 = ids("10c4", "ea71", "7c49d5b1c3b8e911")
    present = plugged(*(walk("1-1.1", f"ttyUSB{n}", cp2108, interface=n) for n in range(4)))
    wish = UsbDevice("10c4", "ea71", serial="7c49d5b1c3b8e911")
    with pytest.raises(WrongDevice, match="ttyUSB2 is interface 2"):
        find(wish, present)
    assert find(replace(wish, interface=2), present).path == "/dev/ttyUSB2"
    with pytest.raises(DeviceLost, match="with interface 7"):
        find(replace(wish, interface=7), present)


def test_of_a_scanner_s_input_nodes_the_keyboard_is_meant() -> None:
    honeywell = ids("0c2e", "0b61", "18103B0AD5")
    nodes = [walk("1-1.2", f"input/event{3 + n}", honeywell, interface=n) for n in (0, 1)]
    assert find(UsbDevice("0c2e", "0b61"), plugged(*nodes, keyboards=("/dev/input/event4",))).path.endswith("event4")
    with pytest.raises(WrongDevice, match="write interface = N"):
        find(UsbDevice("0c2e", "0b61"), plugged(*nodes))


def test_a_device_without_such_a_node_is_in_the_wrong_mode() -> None:
    printer = UsbPresent.described("1-1.4", {"idVendor": "04B8", "idProduct": "0202", "serial": "J4LG008211"}, {}, [])
    with pytest.raises(DeviceLost, match="set it to the right mode"):
        find(UsbDevice("04b8", "0202", serial="J4LG008211"), [printer])


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"vendor": "0C2E", "product": "0b61"}, "vendor"),
        ({"vendor": "0c2e", "product": "b61"}, "product"),
        ({"vendor": "0c2e"}, "product"),
        ({"vendor": "0c2e", "product": "0b61", "sn": "1"}, "sn"),
    ],
)
def test_ids_are_written_as_lsusb_prints_them(table: dict[str, str], key: str) -> None:
    with pytest.raises(BadOption) as caught:
        read_options(UsbDevice, table)
    assert caught.value.key == key


def test_wishes_that_one_device_could_meet_are_known_beforehand() -> None:
    named, placed, bare = FTDI, UsbDevice("0403", "6001", port="1-1.2"), UsbDevice("0403", "6001")
    alike = [(bare, named), (bare, placed), (bare, bare), (named, named), (placed, placed)]
    apart = [
        (named, placed),
        (named, replace(named, serial="AH02LWD6")),
        (placed, replace(placed, port="1-1.3")),
        (replace(bare, interface=0), replace(bare, interface=1)),
        (replace(named, port="1-1.1"), replace(named, port="1-1.2")),
    ]
    assert [one.is_like(other) and other.is_like(one) for one, other in alike] == [True] * len(alike)
    assert [one.is_like(other) or other.is_like(one) for one, other in apart] == [False] * len(apart)
