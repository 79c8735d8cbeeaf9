"""What a printer's protocol offers its driver beyond bytes and events: questions, and what is known so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from drivers.events import Event, PrinterStatus
from drivers.protocol import DeviceProtocol


class PrinterProtocol(DeviceProtocol, Protocol):
    """The parser of what one printer says of itself."""

    @property
    def status(self) -> PrinterStatus:
        """All that is known now; unknown after every opening."""

    @property
    def expecting(self) -> bool:
        """True while replies that were asked for have not come."""

    def asking(self) -> bytes:
        """The question how the printer is; its reply is expected from now on."""

    def stop_expecting(self) -> None:
        """The replies asked for did not come."""

    def port(self, status: int) -> Sequence[Event]:
        """Take the status byte of a USB port (printing class 1.1, 4.2.2) of a printer that says nothing else."""
