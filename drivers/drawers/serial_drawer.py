r"""Cash drawers on a serial port of their own, or behind a trigger box on one (USB boxes are serial ports too).

    open        the bytes that the box is set to, 07 (BEL) as delivered      APG 484A SerialPRO II User's Guide, II.A
    status      00 again and again while the drawer is open, nothing         ACODE AT10U3 PLUS product page (USB
                while it is closed                                           non-dedicated serial version)

Boxes without a status of this kind leave the drawer's state unknown; so does silence before the drawer was ever seen
open: it may be closed, or have no sensor. Boxes that tell on a modem line (APG: CTS or RI) are not read. A box that
lives on the port's own power needs some seconds after the port was opened before the first opening (APG: 12 s).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.drawers.pulse import Level
from drivers.driver import Driver, OnEvent, OnOpen
from drivers.errors import DeviceLost, NotReady
from drivers.events import DrawerStatus, Event, Noise
from drivers.transports.base import Transport

KICK_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class SerialDrawerOptions:
    """`opens` are the bytes that open it, in hexadecimal digits. `status` is how the box tells that it is open.

    `quiet_ms` without a status byte mean closed. A drawer that stands open for `left_open_s` seconds is told of (0:
    never).
    """

    opens: str = "07"
    status: Literal["none", "nul-while-open"] = "none"
    quiet_ms: int = 1000
    left_open_s: int = 120

    def __post_init__(self) -> None:
        """Refuse what cannot be sent or measured."""
        try:
            whole = bool(bytes.fromhex(self.opens))
        except ValueError:
            whole = False
        if not whole:
            raise ValueError(f"opens: is {self.opens!r}; expected one byte or more in hexadecimal digits")
        if not 100 <= self.quiet_ms <= 10_000:
            raise ValueError(f"quiet_ms: is {self.quiet_ms}; expected 100 to 10000")
        if self.left_open_s < 0:
            raise ValueError(f"left_open_s: is {self.left_open_s}; expected seconds, or 0 for never")

    @property
    def open_when(self) -> Level | None:
        """The protocol itself says what is open: nothing is left to calibrate."""
        return "high" if self.status == "nul-while-open" else None


class SerialDrawer:
    """One drawer: the bytes that open it, and what its status means."""

    def __init__(self, options: SerialDrawerOptions) -> None:
        self.options = options
        self.open_when: Level | None = options.open_when
        self.opens = bytes.fromhex(options.opens)

    def is_open(self, status: DrawerStatus) -> bool | None:
        """Whether the drawer is open, or None when nothing tells."""
        return status.pin3_high if self.open_when is not None else None


class SerialDrawerStatus:
    """NULs in, `DrawerStatus` out: high while they come, low after `quiet_ms` without; anything else is noise."""

    def __init__(self, options: SerialDrawerOptions) -> None:
        self.idle_ms: int | None = options.quiet_ms
        self.pending = False
        self._tells = options.status == "nul-while-open"

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk; the first NUL after silence says that the drawer is open."""
        events: list[Event] = []
        noise = data.replace(b"\x00", b"") if self._tells else data
        if len(noise) < len(data) and not self.pending:
            self.pending = True
            events.append(DrawerStatus(True))
        if noise:
            events.append(Noise(noise, "no status of this drawer"))
        return events

    def idle(self) -> Sequence[Event]:
        """No status byte for a while: closed."""
        self.pending = False
        return [DrawerStatus(False)]

    def cut_off(self) -> Sequence[Event]:
        """The link ended: nothing is known, and nothing was begun."""
        self.pending = False
        return []


class SerialDrawerDriver(Driver):
    """One drawer on a line of its own."""

    def __init__(
        self,
        transport: Transport,
        options: SerialDrawerOptions,
        on_event: OnEvent,
        on_open: OnOpen | None = None,
    ) -> None:
        super().__init__(transport, SerialDrawerStatus(options), on_event, on_open)

    async def kick(self, drawer: SerialDrawer) -> None:
        """Send what opens it; returns when it has left. Raises NotReady("not_drained") or DeviceLost."""
        if not self.is_open:
            raise DeviceLost(f"{self.transport.name} is not connected; open the drawer with its key")
        self.transport.write(drawer.opens)
        try:
            async with asyncio.timeout(KICK_WITHIN_S):
                await self.transport.drain()
        except TimeoutError:
            await self.transport.close()  # what has not left must not open it later
            self._lost(DeviceLost(f"{self.transport.name} stopped taking bytes; the link is opened anew"))
            message = f"{self.transport.name} takes no bytes; open the drawer with its key"
            raise NotReady("not_drained", message) from None
