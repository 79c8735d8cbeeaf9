"""A unix socket that carries HID reports as hidraw does: for boxes without HID (containers, laptops).

SOCK_SEQPACKET keeps packets whole. The first byte of each says what it is:

    D   who the device is: vendor, product (two bytes each, little endian), report descriptor. The first packet
    I   an input report, from the device         O   an output report, to the device
                                                 F   a feature report, to the device
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass

from drivers.errors import DeviceLost, WrongDevice
from drivers.hid import BadDescriptor, HidDevice, parse
from drivers.transports.base import Lost, Receive
from drivers.transports.place import Place
from drivers.transports.reports import ReportTransport

PACKET_LIMIT_BYTES = 8192
_INTRODUCED_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class ReportSocketOptions:
    """`path` is a unix SOCK_SEQPACKET socket that somebody else listens on."""

    path: str


class ReportSocketTransport(ReportTransport):
    """One connection to a source of HID reports."""

    def __init__(self, options: ReportSocketOptions) -> None:
        super().__init__(options.path)
        self.place = Place(options.path)
        self.options = options

    async def open(self, receive: Receive, lost: Lost) -> None:
        """Connect and hear who it is; raises DeviceLost (nobody answers) or WrongDevice (no HID device)."""
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.setblocking(False)
        try:
            async with asyncio.timeout(_INTRODUCED_WITHIN_S):
                loop = asyncio.get_running_loop()
                await loop.sock_connect(link, self.options.path)
                device = self._introduced(await loop.sock_recv(link, PACKET_LIMIT_BYTES))
        except OSError as error:  # TimeoutError is one
            link.close()
            reason = error.strerror or "it does not say who it is"
            raise DeviceLost(f"{self.name} cannot be reached ({reason}); start what stands for the device") from error
        except BaseException:
            link.close()
            raise
        self._begin(link.detach(), device, lambda packet: _report(packet, receive), lost)

    def _introduced(self, packet: bytes) -> HidDevice:
        if packet[:1] != b"D" or len(packet) < 5:
            raise DeviceLost(f"{self.name} does not say who it is; start what stands for the device again")
        try:
            reports = parse(packet[5:])
        except BadDescriptor as error:
            raise WrongDevice(f"{self.name} has a report descriptor that makes no sense: {error}") from error
        return HidDevice(int.from_bytes(packet[1:3], "little"), int.from_bytes(packet[3:5], "little"), reports)

    def _send_output(self, fd: int, report: bytes) -> None:
        os.write(fd, b"O" + report)

    def _send_feature(self, fd: int, report: bytes) -> None:
        os.write(fd, b"F" + report)


def _report(packet: bytes, receive: Receive) -> None:
    if packet[:1] == b"I":
        receive(packet[1:])
