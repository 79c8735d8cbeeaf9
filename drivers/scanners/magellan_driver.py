"""A scanner and the scale in it on one line: a scan never waits for a weighing, and neither disturbs the other."""

from __future__ import annotations

from drivers.driver import Driver, OnEvent, OnOpen
from drivers.events import Event
from drivers.scales.scale_driver import Scale
from drivers.scanners.magellan import Magellan
from drivers.transports.base import Transport


class MagellanDriver(Driver):
    """The scanner; `scale` is asked for weights as any other scale is."""

    protocol: Magellan

    def __init__(
        self, transport: Transport, protocol: Magellan, on_event: OnEvent, on_open: OnOpen | None = None
    ) -> None:
        super().__init__(transport, protocol, on_event, on_open)
        self.scale = Scale(transport, protocol)

    def beep(self) -> None:
        """Have it beep once, as after a good scan."""
        self.transport.write(self.protocol.beep())

    def _heard(self, event: Event) -> None:
        if self.protocol.owns(event):
            self.scale.heard(event)

    def _opened(self) -> None:
        self.scale.opened()

    def _closed(self) -> None:
        self.scale.closed()
