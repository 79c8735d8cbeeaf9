"""Captures in the field: `tillgate devices record` makes one, `replay` plays one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from drivers import catalog
from drivers.capture import BadCapture, Capture, load, save
from drivers.errors import DriverError
from drivers.recording import Recording
from drivers.recording import record as listen
from drivers.virtual.report_wire import ReportWire
from edge.card_numbers import in_json, in_payload
from edge.commands.desk import NoGateway, ask
from edge.commands.simulating import CannotBeThere, twin_of
from edge.config import Device, StoreConfig
from edge.devices import typed_cards
from edge.startup import complain

CONNECTED_AFTER_S = 2.0
"""A gateway that looks for the device finds it within this time."""

LIMIT_BYTES = 1024 * 1024
"""What is kept of a device that is listened to without a gateway."""

_NOTES = """{protocol}, recorded on {date} at store {store} from {device} ({where}) with `tillgate devices record`.
Please add: maker, model, firmware, and what was done to the device meanwhile.
"""


async def record(
    config: StoreConfig, device: Device, folder: Path, seconds: float, *, without_log_in: bool = False
) -> int:
    """Listen to `device` for `seconds` and save a capture; returns the exit status."""
    if catalog.DEVICES[device.protocol].build is None:
        return complain(f"{device.id} has no link of its own; record the device that it hangs on")
    try:
        wish = {"device": device.id, "for_ms": int(seconds * 1000)}
        result = await ask(config, "device.record", wish, seconds + 5, without_log_in=without_log_in)
        asked = [(at, tuple(numbers)) for at, numbers in result["asked"]]
        heard = Recording([base64.b64decode(piece) for piece in result["pieces"]], asked, result["hid"])
    except NoGateway:
        print("no gateway is running: listening to the device itself", flush=True)
        try:
            heard = await _listen(device, seconds)
        except DriverError as error:
            return complain(f"{device.id}: {error}")
    if not heard.pieces:
        return complain(f"{device.id} sent nothing; use it while this listens (--seconds)")
    capture = _capture(config, device, heard)
    if _holds_card(capture):
        return complain("the recording holds a payment card's data and is not saved; record again without cards")
    try:
        save(capture, folder)
    except BadCapture as error:
        return complain(str(error))
    print(f"{folder}: {len(capture.sent)} bytes, {len(capture.expected)} events")
    for event in capture.expected:
        print(f"  {json.dumps(event, ensure_ascii=False)}")
    print(f"Complete {folder / 'README'}, look whether the events are what really happened, and send the folder to us.")
    return 0


async def _listen(device: Device, seconds: float) -> Recording:
    """Open the device for ourselves alone and keep what it sends; raises DriverError when it cannot be opened."""
    link = dict(device.transport or {})
    transport = catalog.build_transport(catalog.read_transport(device.protocol, link.pop("kind"), link))
    options = catalog.read_device(device.protocol, device.options)
    driver = catalog.build_driver(device.protocol, options, transport, lambda _: None)
    until_s = asyncio.get_running_loop().time() + seconds
    listening = asyncio.ensure_future(listen(driver, until_s, LIMIT_BYTES))
    running = asyncio.ensure_future(driver.run())
    try:
        await asyncio.wait((running, listening), return_when=asyncio.FIRST_COMPLETED)
        if running.done() and not listening.done():
            running.result()
        return await listening
    finally:
        for task in (running, listening):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, DriverError):
                await task


def _capture(config: StoreConfig, device: Device, heard: Recording) -> Capture:
    kind = (device.transport or {}).get("kind")
    notes = _NOTES.format(
        protocol=device.protocol,
        date=datetime.now(UTC).date().isoformat(),
        store=config.store.id,
        device=device.id,
        where=json.dumps(device.transport),
    )
    capture = Capture(
        device.protocol,
        device.options,
        b"".join(heard.pieces),
        notes=notes,
        asked=tuple(heard.asked),
        records=kind in ("evdev", "event-socket"),
        reports=tuple(map(len, heard.pieces)) if kind in ("hidraw", "report-socket") else (),
        hid=heard.hid,
    )
    return replace(capture, expected=tuple(capture.meaning()))


def _holds_card(capture: Capture) -> bool:
    """Whether a card number is in what was sent, or in what it means."""
    if capture.records and typed_cards.in_records(capture.sent):
        return True
    return in_payload(capture.sent) is not None or in_json(list(capture.expected)) is not None


def replay(folder: Path) -> int:
    """Print what our parser makes of a capture; 1 when it is not what the capture expects."""
    try:
        capture = load(folder)
        events = capture.meaning()
    except (BadCapture, DriverError) as error:
        return complain(str(error))
    for event in events:
        print(json.dumps(event, ensure_ascii=False))
    expected = list(capture.expected)
    if events == expected:
        return 0
    missing = [event for event in expected if event not in events]
    for event in missing:
        complain(f"expected and not there: {json.dumps(event, ensure_ascii=False)}")
    for event in events:
        if event not in expected:
            complain(f"not expected: {json.dumps(event, ensure_ascii=False)}")
    if not missing and sorted(map(str, events)) == sorted(map(str, expected)):
        complain("the events are those that were expected, in another order")
    return 1


async def play(config: StoreConfig, device: Device, folder: Path, gap_s: float) -> int:
    """Send a capture's bytes where the gateway looks for `device`."""
    try:
        capture = load(folder)
        wire = twin_of(config, device).wire  # the twin itself would speak, too
        if isinstance(wire, ReportWire) and capture.hid:
            vendor, product = (int(capture.hid[key], 16) for key in ("vendor", "product"))
            wire.introduce(vendor, product, bytes.fromhex(capture.hid["descriptor"]))
        await wire.open(lambda _: None)
        try:
            print(f"{device.id} is at {wire.address}; waiting for the gateway to open it", flush=True)
            await asyncio.sleep(CONNECTED_AFTER_S)
            for piece in capture.pieces():
                wire.send(piece)
                await asyncio.sleep(gap_s)
        finally:
            await wire.close()
    except (BadCapture, CannotBeThere) as error:
        return complain(str(error))
    print(f"{len(capture.sent)} bytes played as {device.id}")
    return 0
