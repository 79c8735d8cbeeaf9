"""A virtual USB bus: printers whose descriptors and transfers are USB's, and whose bytes a twin takes and gives.

It stands where libusb stands: a backend of pyusb (`usb.backend.IBackend`), handed to the transport. Written from the
USB 2.0 specification, chapter 9 (descriptors, string requests) and the Device Class Definition for Printing Devices
1.1 (5.1-5.4 descriptors, 4.2 requests). The twin is at the far end of a unix socket (`UnixWire`): no listener there is
a printer that is off, which has left the bus. Errors carry the numbers that libusb's do on Linux.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import usb.backend
from usb.core import USBError, USBTimeoutError

from drivers.transports.usb_identity import UsbDevice, UsbPresent

_OUT, _IN = 0x01, 0x82
_STRINGS = ("", "Tillgate", "Virtual receipt printer")
_BENIGN = 0x18


@dataclass(frozen=True, slots=True)
class VirtualUsbPrinter:
    """How a printer shows itself on the bus; `socket` is where its twin listens.

    `vendor_class`: its interface says 255, as the first USB interfaces of Epson's did. `alternates`: setting 0 is one
    way (protocol 1), setting 1 both ways (protocol 2). `kernel_driver`: usblp has taken it. `port_status` answers
    GET_PORT_STATUS (printing class, 4.2.2); one that cannot tell says 0x18.
    """

    socket: Path
    vendor: int = 0x04B8
    product: int = 0x0E15
    serial: str | None = "J4XF012345"
    ports: tuple[int, ...] = (1, 2)
    vendor_class: bool = False
    alternates: bool = False
    kernel_driver: bool = True
    port_status: Callable[[], int] = lambda: _BENIGN


class _Handle:
    """One opening of a device; the bytes flow once its interface is claimed."""

    def __init__(self, printer: VirtualUsbPrinter) -> None:
        self.printer = printer
        self.setting = 0
        self.link: socket.socket | None = None


class VirtualUsbBus(usb.backend.IBackend):  # type: ignore[misc]  # pyusb brings no types
    """The bus. `plugged` may be changed at any time; `calls` counts what the host did, by name."""

    def __init__(self, *printers: VirtualUsbPrinter) -> None:
        super().__init__()
        self.plugged = list(printers)
        self.calls: dict[str, int] = {}
        self._detached: set[Path] = set()
        self._claimed: dict[Path, _Handle] = {}

    def present(self, wish: UsbDevice, subsystem: str) -> list[UsbPresent]:
        """What the kernel's sysfs says of the bus (`Place.read`): names, ids, serial numbers and nodes."""
        return [
            UsbPresent.described(
                f"1-{'.'.join(str(port) for port in one.ports)}",
                {
                    "idVendor": f"{one.vendor:04x}",
                    "idProduct": f"{one.product:04x}",
                    **({"serial": one.serial} if one.serial is not None else {}),
                },
                {},
                [(f"/dev/bus/usb/001/{self._address(one):03}", {}, {})],
            )
            for one in self.enumerate_devices()
        ]

    # -- descriptors -----------------------------------------------------------------------------------------------

    def enumerate_devices(self) -> Iterator[VirtualUsbPrinter]:
        """Yield every printer that is plugged in."""
        yield from [one for one in self.plugged if one.socket.exists()]

    def get_parent(self, dev: VirtualUsbPrinter) -> None:
        """Every printer hangs on a root hub that is not shown."""

    def get_device_descriptor(self, dev: VirtualUsbPrinter) -> SimpleNamespace:
        """USB 2.0, table 9-8."""
        return SimpleNamespace(
            bLength=18,
            bDescriptorType=1,
            bcdUSB=0x0200,
            bDeviceClass=0,
            bDeviceSubClass=0,
            bDeviceProtocol=0,
            bMaxPacketSize0=64,
            idVendor=dev.vendor,
            idProduct=dev.product,
            bcdDevice=0x0100,
            iManufacturer=1,
            iProduct=2,
            iSerialNumber=3 if dev.serial is not None else 0,
            bNumConfigurations=1,
            bus=1,
            address=self._address(dev),
            port_number=dev.ports[-1],
            port_numbers=dev.ports,
            speed=2,
        )

    def _address(self, printer: VirtualUsbPrinter) -> int:
        return 10 + self.plugged.index(printer) if printer in self.plugged else 127

    def get_configuration_descriptor(self, dev: VirtualUsbPrinter, config: int) -> SimpleNamespace:
        """USB 2.0, table 9-10: one configuration."""
        if config:
            raise IndexError(config)
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=2,
            wTotalLength=9 + 9 + 14,
            bNumInterfaces=1,
            bConfigurationValue=1,
            iConfiguration=0,
            bmAttributes=0xC0,
            bMaxPower=1,
            extra_descriptors=[],
        )

    def get_interface_descriptor(self, dev: VirtualUsbPrinter, intf: int, alt: int, config: int) -> SimpleNamespace:
        """Printing class 5.3: class 7, subclass 1, protocol 1 (one way) or 2 (both ways)."""
        if intf or alt > int(dev.alternates):
            raise IndexError(alt)
        one_way = dev.alternates and alt == 0
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=4,
            bInterfaceNumber=0,
            bAlternateSetting=alt,
            bNumEndpoints=1 if one_way else 2,
            bInterfaceClass=255 if dev.vendor_class else 7,
            bInterfaceSubClass=255 if dev.vendor_class else 1,
            bInterfaceProtocol=255 if dev.vendor_class else 1 if one_way else 2,
            iInterface=0,
            extra_descriptors=[],
        )

    def get_endpoint_descriptor(
        self, dev: VirtualUsbPrinter, ep: int, intf: int, alt: int, config: int
    ) -> SimpleNamespace:
        """Printing class 5.4: bulk OUT, then bulk IN."""
        return SimpleNamespace(
            bLength=7,
            bDescriptorType=5,
            bEndpointAddress=(_OUT, _IN)[ep],
            bmAttributes=2,
            wMaxPacketSize=64,
            bInterval=0,
            bRefresh=0,
            bSynchAddress=0,
            extra_descriptors=[],
        )

    # -- opening ---------------------------------------------------------------------------------------------------

    def open_device(self, dev: VirtualUsbPrinter) -> _Handle:
        """Open; many may, one may claim."""
        if dev not in self.plugged or not dev.socket.exists():
            raise _error(errno.ENODEV)
        return _Handle(dev)

    def close_device(self, dev_handle: _Handle) -> None:
        """Close, and let go of the interface."""
        self._let_go(dev_handle)

    def get_configuration(self, dev_handle: _Handle) -> int:
        """Tell the configuration that the kernel has chosen."""
        return 1

    def set_configuration(self, dev_handle: _Handle, config_value: int) -> None:
        """Configure again, which makes a printer forget what it holds."""
        self._count("set_configuration")

    def reset_device(self, dev_handle: _Handle) -> None:
        """Reset the port."""
        self._count("reset_device")

    def is_kernel_driver_active(self, dev_handle: _Handle, intf: int) -> bool:
        """Tell whether usblp has it."""
        printer = dev_handle.printer
        return printer.kernel_driver and printer.socket not in self._detached

    def detach_kernel_driver(self, dev_handle: _Handle, intf: int) -> None:
        """Take it from usblp."""
        self._detached.add(dev_handle.printer.socket)

    def claim_interface(self, dev_handle: _Handle, intf: int) -> None:
        """Claim: refused while another handle or the kernel's driver has it."""
        printer = dev_handle.printer
        if printer.socket in self._claimed or self.is_kernel_driver_active(dev_handle, intf):
            raise _error(errno.EBUSY)
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # as little as the kernel allows: a bus holds nothing
        try:
            link.connect(str(printer.socket))
        except OSError as error:
            link.close()
            raise _error(errno.ENODEV) from error
        link.setblocking(False)
        dev_handle.link = link
        self._claimed[printer.socket] = dev_handle

    def release_interface(self, dev_handle: _Handle, intf: int) -> None:
        """Release."""
        self._let_go(dev_handle)

    def set_interface_altsetting(self, dev_handle: _Handle, intf: int, altsetting: int) -> None:
        """Choose the setting, and with it the endpoints."""
        dev_handle.setting = altsetting

    def _let_go(self, handle: _Handle) -> None:
        if handle.link is not None:
            handle.link.close()
            handle.link = None
            self._claimed.pop(handle.printer.socket, None)

    # -- transfers -------------------------------------------------------------------------------------------------

    def bulk_write(self, dev_handle: _Handle, ep: int, intf: int, data: array[int], timeout: int) -> int:
        """Take what the printer has room for; a time-out tells how much that was."""
        link, data_bytes, sent = self._link(dev_handle, ep), data.tobytes(), 0
        until = time.monotonic() + timeout / 1000 if timeout else None
        while sent < len(data_bytes):
            if not _wait(link, until, write=True):
                break
            try:
                sent += link.send(data_bytes[sent:])
            except BlockingIOError:
                continue
            except OSError as error:
                raise _error(errno.ENODEV) from error
        if sent == 0:
            raise _timed_out()
        return sent

    def bulk_read(self, dev_handle: _Handle, ep: int, intf: int, buff: array[int], timeout: int) -> int:
        """Give what the printer says."""
        link = self._link(dev_handle, ep)
        if not _wait(link, time.monotonic() + timeout / 1000 if timeout else None, write=False):
            raise _timed_out()
        try:
            data = link.recv(len(buff) * buff.itemsize)
        except OSError as error:
            raise _error(errno.ENODEV) from error
        if not data:
            raise _error(errno.ENODEV)
        buff[: len(data)] = array(buff.typecode, data)
        return len(data)

    def ctrl_transfer(
        self,
        dev_handle: _Handle,
        bmRequestType: int,  # the backend's own names
        bRequest: int,
        wValue: int,
        wIndex: int,
        data: array[int],
        timeout: int,
    ) -> int:
        """GET_DESCRIPTOR (strings) and the three requests of the printing class."""
        printer = dev_handle.printer
        if (bmRequestType, bRequest, wValue >> 8) == (0x80, 6, 3):
            answer = self._string(printer, wValue & 0xFF)
        elif (bmRequestType, bRequest) == (0xA1, 0):
            text = f"MFG:EPSON;CMD:ESC/POS;MDL:virtual;CLS:PRINTER;SN:{printer.serial or ''};".encode()
            answer = (len(text) + 2).to_bytes(2, "big") + text
        elif (bmRequestType, bRequest) == (0xA1, 1):
            answer = bytes((printer.port_status(),))
        elif (bmRequestType, bRequest) == (0x21, 2):
            self._count("soft_reset")
            answer = b""
        else:
            raise _error(errno.EPIPE)
        answer = answer[: len(data)]
        data[: len(answer)] = array(data.typecode, answer)
        return len(answer)

    def _string(self, printer: VirtualUsbPrinter, index: int) -> bytes:
        """USB 2.0, 9.6.7: index 0 is the list of languages, the others are UTF-16."""
        body = b"\x09\x04" if index == 0 else (*_STRINGS, printer.serial or "")[index].encode("utf-16-le")
        return bytes((2 + len(body), 3)) + body

    def _link(self, handle: _Handle, endpoint: int) -> socket.socket:
        one_way = handle.printer.alternates and handle.setting == 0
        if handle.link is None or (one_way and endpoint == _IN):
            raise _error(errno.ENOENT)
        if handle.printer not in self.plugged:
            raise _error(errno.ENODEV)
        return handle.link

    def _count(self, call: str) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1


def _wait(link: socket.socket, until: float | None, *, write: bool) -> bool:
    """Wait until `link` can be used; False when `until` has passed."""
    left = None if until is None else max(0.0, until - time.monotonic())
    try:
        readable, writable, _ = select.select([] if write else [link], [link] if write else [], [], left)
    except (OSError, ValueError) as error:  # closed by the other thread
        raise _error(errno.ENODEV) from error
    return bool(readable or writable)


def _error(number: int) -> USBError:
    return USBError(os.strerror(number), None, number)


def _timed_out() -> USBTimeoutError:
    return USBTimeoutError(os.strerror(errno.ETIMEDOUT), None, errno.ETIMEDOUT)
