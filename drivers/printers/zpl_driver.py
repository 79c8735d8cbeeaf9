"""A label printer: ready-made ZPL in, and "sent" when the printer says that it has nothing more to print.

Never "printed": ZPL has no proof (see `zpl_status`). Before a job the printer is asked how it is, as any printer; after
it, until no format and no label is left. A printer that stops answering with its paper out leaves the job unknown.
"""

from __future__ import annotations

import asyncio

from drivers.drawers.pulse import PrinterDrawer
from drivers.driver import OnEvent, OnOpen
from drivers.errors import NotReady
from drivers.printers.printer_driver import LOOK_EVERY_S, PrinterDriver
from drivers.printers.profiles import PrinterProfile
from drivers.printers.zpl_status import ZplStatus
from drivers.transports.base import Transport

PROFILE = PrinterProfile(
    "zpl", "", 0, 0, language="zpl", native_qr=False, cutter=False, automatic_status=False, proves_printing=False
)


class ZplDriver(PrinterDriver):
    """One label printer. It has neither a drawer nor a display behind it."""

    protocol: ZplStatus

    def __init__(
        self, transport: Transport, protocol: ZplStatus, on_event: OnEvent, on_open: OnOpen | None = None
    ) -> None:
        super().__init__(transport, protocol, on_event, on_open, profile=PROFILE)

    async def kick(self, drawer: PrinterDrawer, timeout_s: float = 5.0) -> None:
        """Raise NotReady("unsupported"): nothing hangs on a label printer."""
        raise NotReady("unsupported", f"{self.transport.name}: no drawer hangs on a label printer")

    async def pass_through(self, data: bytes, timeout_s: float = 5.0) -> None:
        """Raise NotReady("unsupported"): nothing hangs behind a label printer."""
        raise NotReady("unsupported", f"{self.transport.name}: no display hangs on a label printer")

    def _framed(self, job: bytes, token: bytes | None) -> bytes:
        return job

    def _opened(self) -> None:
        self._ended = asyncio.get_running_loop().create_future()
        self._question()

    async def _taken(self, reports: asyncio.Queue[None], limit_s: float) -> None:
        """Return when nothing is left to print; TimeoutError when for `limit_s` nothing comes of it."""
        loop = asyncio.get_running_loop()
        before, since = None, loop.time()
        while True:
            await super()._taken(reports, limit_s)
            left = self.protocol.left
            if left == 0:
                return
            if left != before:
                before, since = left, loop.time()
            elif loop.time() - since > limit_s:
                raise TimeoutError
            await asyncio.sleep(LOOK_EVERY_S)
