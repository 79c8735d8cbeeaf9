"""What a technician does with a device of the running gateway: find it, try it, listen to what it really sends.

Strategy: trying a device goes the way that a till's request goes (the same handlers, the ledger, the facts): a test
page is a print job, a test opening is an opening with a reason. Only listening is new: `Driver.tap` hands over what
arrives, and what the device is used for goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from drivers.events import Scan
from drivers.printers.zpl_driver import ZplDriver
from drivers.recording import record
from drivers.scanners.magellan_driver import MagellanDriver
from edge.access.roles import Right
from edge.bus.messages.base import Id, Message
from edge.bus.messages.facts import first_error
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import OPERATIONS, Print
from edge.devices.attached import Attached
from edge.devices.registry import Registry
from edge.services.requests import Asked, Handler
from edge.services.technician import Service

RECORD_LIMIT_BYTES = 96 * 1024
"""More than this is not recorded: base64 and a reply must stay a message that the broker takes."""
BY_TECHNICIAN = {"operator_id": "technician", "reason": "tried by a technician"}


class OneDevice(Message):
    """Which device."""

    device: Id


class Record(OneDevice):
    """Listen to a device for `for_ms`, or until it has sent as many bytes as a reply can carry."""

    for_ms: int = Field(ge=1, le=110_000)


class Page(OneDevice):
    """A `document` as a till would print it."""

    document: list[dict[str, Any]] = Field(min_length=1, max_length=100)


class Attending:
    """Serves `device.identify`, `device.test`, `device.record` and `device.print` at the technician's desk.

    `handlers` are those of the lanes' operations, by name.
    """

    def __init__(self, registry: Registry, handlers: Mapping[str, Handler]) -> None:
        self._registry = registry
        self._handlers = handlers
        self._waiting: dict[str, asyncio.Future[Scan]] = {}
        registry.subscribe(Scan, self._scanned)

    def services(self) -> Mapping[str, Service]:
        """What the desk serves."""
        return {
            "device.identify": Service(OneDevice, self._identify),
            "device.test": Service(OneDevice, self._test),
            "device.record": Service(Record, self._record, Right.DEVICES, noted=lambda wish: wish.device),
            "device.print": Service(Page, self._print, Right.DEVICES, noted=lambda wish: wish.device),
        }

    def _device(self, name: str) -> Attached:
        device = next((one for one in self._registry.all() if one.id == name), None)
        if device is None:
            known = ", ".join(one.id for one in self._registry.all())
            raise ProblemError(Code.NOT_FOUND, f"there is no device {name!r}; there are {known or 'none'}")
        if device.fault:
            raise ProblemError(Code.FAULTED, f"{device.id} is stopped: {device.fault}")
        return device

    async def _as_lane(self, asked: Asked, device: Attached, operation: str, parameters: Any) -> dict[str, Any]:
        """Do what the device's home lane could ask for."""
        handler = self._handlers.get(operation)
        if handler is None:
            raise ProblemError(Code.NOT_FOUND, f"this gateway does not serve {operation}")
        if isinstance(parameters, dict):
            parameters = OPERATIONS[operation].parameters.model_validate(parameters)
        return await handler(Asked(device.home, asked.request_id, asked.deadline_s), parameters)

    # -- identify and test -----------------------------------------------------------------------------------------

    async def _identify(self, asked: Asked, parameters: OneDevice) -> dict[str, Any]:
        """Make the device show itself: ``{"showed": what to look for}``."""
        device = self._device(parameters.device)
        if device.category == "printer":
            await self._as_lane(asked, device, "print", slip(device, [f"I am {device.id}"]))
            return {"showed": "a slip with its name is printed"}
        if device.category == "display":
            await self._as_lane(asked, device, "display.show", {"device": device.id, "lines": ["I am", device.id]})
            return {"showed": "its name stands on it"}
        if isinstance(device.driver, MagellanDriver):
            if not device.is_open:
                raise ProblemError(Code.DEVICE_LOST, f"{device.id} is not connected; check its cable and power")
            device.driver.beep()
            return {"showed": "it beeps"}
        hints = {
            "scanner": "scan with it while `tillgate devices identify` without a name runs",
            "scale": "press on it while `tillgate devices identify` without a name runs",
            "drawer": "`tillgate devices test` opens it, and the opening is recorded",
        }
        raise ProblemError(Code.NOT_READY, f"a {device.category} cannot show itself; {hints[device.category]}")

    async def _test(self, asked: Asked, parameters: OneDevice) -> dict[str, Any]:
        """Try the device as a till would: ``{"tried": operation or "scan", ...its result}``."""
        device = self._device(parameters.device)
        match device.category:
            case "printer":
                page = slip(device, _TEST_LINES)
                return {"tried": "print", **await self._as_lane(asked, device, "print", page)}
            case "scale":
                return {
                    "tried": "scale.weigh",
                    **await self._as_lane(asked, device, "scale.weigh", {"device": device.id}),
                }
            case "drawer":
                opening = {"device": device.id, **BY_TECHNICIAN}
                return {"tried": "drawer.open", **await self._as_lane(asked, device, "drawer.open", opening)}
            case "display":
                show = {"device": device.id, "lines": ["0123456789ABCDEFGHIJ", "abcdefghij .,-+*/%&?"]}
                return {"tried": "display.show", **await self._as_lane(asked, device, "display.show", show)}
            case "scanner":
                return {"tried": "scan", **await self._next_scan(asked, device)}

    async def _print(self, asked: Asked, parameters: Page) -> dict[str, Any]:
        """Print a page on a receipt printer, as a job like any other; its result."""
        device = self._device(parameters.device)
        if device.category != "printer":
            raise ProblemError(Code.BAD_MESSAGE, f"{device.id} is a {device.category}; name a receipt printer")
        try:
            page = Print.model_validate({"device": device.id, "document": parameters.document})
        except ValidationError as error:
            raise ProblemError(Code.BAD_MESSAGE, first_error(error)) from None
        return await self._as_lane(asked, device, "print", page)

    async def _next_scan(self, asked: Asked, device: Attached) -> dict[str, Any]:
        future = self._waiting.setdefault(device.id, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout_at(asked.answer_by_s):
                scan = await asyncio.shield(future)
        except TimeoutError:
            raise ProblemError(Code.NOT_READY, f"{device.id} scanned nothing; is it on, and does it beep?") from None
        finally:
            if not future.done():
                self._waiting.pop(device.id, None)
        return {"text": scan.text, "aim": scan.aim, "raw": scan.raw.hex(), "device": device.id}

    def _scanned(self, device: Attached, scan: Scan) -> None:
        future = self._waiting.pop(device.id, None)
        if future is not None and not future.done():
            future.set_result(scan)

    # -- record ----------------------------------------------------------------------------------------------------

    async def _record(self, asked: Asked, parameters: Record) -> dict[str, Any]:
        """What the device sent, in the pieces that arrived: ``{"pieces": [base64, ...], "ended": "time" or "full"}``.

        Of a printer also what it was asked, of an HID device who it is: ``asked``, ``hid`` as a capture has them.
        """
        device = self._device(parameters.device)
        carrier = device.driver or (device.through.driver if device.through else None)
        if carrier is None:
            raise ProblemError(Code.NOT_FOUND, f"{device.id} sends nothing by itself")
        if carrier.tap is not None:
            raise ProblemError(Code.NOT_READY, f"{device.id} is being recorded already")
        until_s = asyncio.get_running_loop().time() + parameters.for_ms / 1000
        heard = await record(carrier, until_s, RECORD_LIMIT_BYTES)
        return {
            "pieces": [base64.b64encode(piece).decode("ascii") for piece in heard.pieces],
            "asked": heard.asked,
            "hid": heard.hid,
            "ended": heard.ended,
        }


_TEST_LINES = [
    "The quick brown fox jumps over the lazy dog",
    "ÄÖÜ äöü ß ÀÉÈÇÑ € £ 0123456789",
    "Русский Ελληνικά עברית العربية",
    "中文 日本語 한국어 ภาษาไทย",
]


def slip(device: Attached, lines: list[str]) -> Print:
    """A short page: the device's name, some lines, codes to scan, a cut; on a label printer, name and code.

    It fits the narrowest paper, whatever the name: the name is a QR code, the bar code four characters.
    """
    name = device.id
    if isinstance(device.driver, ZplDriver):
        label = f"^XA^FO40,40^A0N,40,40^FD{name}^FS^FO40,100^BCN,80,Y^FD{name}^FS^XZ"
        return Print(device=name, raw=base64.b64encode(label.encode("ascii")))
    document: list[dict[str, Any]] = [
        {"kind": "text", "text": name, "align": "center", "bold": True, "width": 2, "height": 2},
        {"kind": "rule"},
        *({"kind": "text", "text": line} for line in lines),
        {"kind": "barcode", "data": "TEST", "symbology": "CODE128"},
        {"kind": "qr", "data": name},
        {"kind": "feed", "lines": 2},
        {"kind": "cut"},
    ]
    return Print.model_validate({"device": name, "document": document})
