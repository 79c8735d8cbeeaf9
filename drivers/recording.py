"""Listens to a running driver for a while: what its device sends, and what it is asked meanwhile, for a capture."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal

from drivers.driver import Driver
from drivers.printers.escpos_status import EscposStatus
from drivers.transports.reports import ReportTransport


@dataclass(slots=True)
class Recording:
    """What was heard, as it arrived; `asked` and `hid` as in `drivers.capture.Capture`."""

    pieces: list[bytes] = field(default_factory=list)
    asked: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    hid: dict[str, str] | None = None
    ended: Literal["time", "full"] = "time"


async def record(driver: Driver, until_s: float, limit_bytes: int) -> Recording:
    """Listen until the event loop's time `until_s`, or until `limit_bytes` have come. The driver goes on working."""
    recording = Recording(hid=_hid(driver))
    full = asyncio.Event()
    size = 0

    def heard(data: bytes) -> None:
        nonlocal size
        if size + len(data) > limit_bytes:
            full.set()
        if not full.is_set():
            size += len(data)
            recording.pieces.append(data)

    def asked(numbers: tuple[int, ...]) -> None:
        if not full.is_set():
            recording.asked.append((size, numbers))

    printer: Any = driver.protocol if isinstance(driver.protocol, EscposStatus) else None
    driver.tap = heard
    if printer is not None:
        recording.asked += [(0, numbers) for numbers in printer.expected]
        printer.on_asked = asked
    try:
        async with asyncio.timeout_at(until_s):
            await full.wait()
        recording.ended = "full"
    except TimeoutError:
        recording.ended = "time"
    finally:
        driver.tap = None
        if printer is not None:
            printer.on_asked = None
    recording.hid = recording.hid or _hid(driver)
    return recording


def _hid(driver: Driver) -> dict[str, str] | None:
    if not isinstance(driver.transport, ReportTransport) or driver.transport.device is None:
        return None
    device = driver.transport.device
    return {
        "vendor": f"{device.vendor:04x}",
        "product": f"{device.product:04x}",
        "descriptor": device.reports.raw.hex(),
    }
