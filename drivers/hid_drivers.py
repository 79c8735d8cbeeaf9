"""Drivers of HID devices: they look at what the device says it is before they believe what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from drivers.driver import Driver
from drivers.errors import WrongDevice
from drivers.hid import HidDevice
from drivers.scales.scale_driver import ScaleDriver
from drivers.transports.reports import ReportTransport


class HidProtocol(Protocol):
    """What a protocol over HID reports has besides."""

    def describe(self, device: HidDevice) -> Sequence[bytes]:
        """Learn where things stand in the reports of `device`; return the feature reports that it must be sent.

        Raises WrongDevice, whose text follows the name of the device ("is a keyboard; ...").
        """


class _Described:
    """Shows the protocol what the device is, each time the link is up."""

    transport: Any
    protocol: Any

    async def _prepare(self) -> None:
        transport: ReportTransport = self.transport
        protocol: HidProtocol = self.protocol
        if transport.device is None:
            return  # it went again at once, and `lost` has told
        try:
            features = protocol.describe(transport.device)
        except WrongDevice as error:
            raise WrongDevice(f"{transport.name} {error}") from error
        for feature in features:
            await transport.set_feature(feature)


class HidScannerDriver(_Described, Driver):
    """A scanner that sends HID reports."""


class HidScaleDriver(_Described, ScaleDriver):
    """A scale that sends HID reports."""
